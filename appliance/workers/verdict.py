"""What a child that looks at a model or optimises it tells the gateway as JSON. Imported by both: no numpy."""

import msgspec

from appliance.catalogue.inspection import Inspection


class Verdict(msgspec.Struct):
    """A step that begins, or the outcome: an inspection, or why the model is refused."""

    inspection: Inspection | None = None
    refusal: str = ""
    step: str = ""


class GraphVerdict(msgspec.Struct):
    """What became of an optimisation: why its graph is of no use, or the seconds of processor time that a load and
    first run took of the model and of its graph."""

    refused: str = ""
    original_s: float = 0.0
    cached_s: float = 0.0
