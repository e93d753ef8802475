"""Where a call must run, as its caller asked: one check for every front. Pure; runs in the gateway per call."""

import re

from appliance.core.errors import BadInputError, NotFoundError
from appliance.gateway.patterns import WORD

_PIN = re.compile(f"local|(node|tag):({WORD})")


def check_pin(pin: str, node_name: str) -> None:
    """Raises NotFoundError where the call is pinned to another node than this, BadInputError where that is no pin."""
    if pin in ("local", f"node:{node_name}"):
        return
    match = _PIN.fullmatch(pin)
    if match is None:
        raise BadInputError(f"the pin is '{pin[:80]}': expected local, node:NAME or tag:WORD")
    what = "is called" if match[1] == "node" else "carries the tag"
    raise NotFoundError(f"no node known here {what} '{match[2]}': this node is '{node_name}', and it is alone")
