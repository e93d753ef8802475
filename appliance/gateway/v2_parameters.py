"""The parameters of a V2 inference request, alike for REST and gRPC. Pure; runs in the gateway per call.

Sources: Triton's schedule policy extension (`priority`, `timeout`).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from appliance.core.errors import BadInputError

MAX_PRIORITY = 2**31 - 1
_LONGEST_TIMEOUT_US = 10**15  # thirty years: beyond it, arithmetic on clocks stops making sense


class CallParameters(NamedTuple):
    """What of a request's parameters is about the call as a whole. `deadline_s` counts from now; 0: none was asked.

    `priority` 1 is the highest; 0 stands for the model's own default.
    """

    deadline_s: float = 0.0
    priority: int = 0


NONE = CallParameters()


def read_parameters(parameters: Mapping[str, Any]) -> CallParameters:
    """The parameters that are known; others are passed over, as the protocol asks. Raises BadInputError."""
    return CallParameters(
        _whole(parameters, "timeout", "microseconds, a whole number of 0 or more", _LONGEST_TIMEOUT_US) / 1e6,
        _whole(parameters, "priority", f"a whole number from 1 (the highest) to {MAX_PRIORITY}, or 0", MAX_PRIORITY),
    )


def _whole(parameters: Mapping[str, Any], name: str, expected: str, most: int) -> int:
    value = parameters.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise BadInputError(f"the parameter {name} is {value!r:.60}: expected {expected}")
    return value
