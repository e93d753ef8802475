"""Where a call must run, as its caller asked: one form for every front. Pure; runs in the gateway per call."""

import re

from appliance.core.errors import BadInputError
from appliance.gateway.patterns import WORD

_PIN = re.compile(f"local|(node|tag):({WORD})")


def read_pin(pin: str) -> str:
    """The pin as it is. Raises BadInputError where it is none."""
    if not _PIN.fullmatch(pin):
        raise BadInputError(f"the pin is '{pin[:80]}': expected local, node:NAME or tag:WORD")
    return pin
