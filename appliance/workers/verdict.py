"""What a child that looks at a model tells the gateway, as JSON lines. Imported by both, so without numpy."""

import msgspec

from appliance.catalogue.inspection import Inspection


class Verdict(msgspec.Struct):
    """A step that begins, or the outcome: an inspection, or why the model is refused."""

    inspection: Inspection | None = None
    refusal: str = ""
    step: str = ""
