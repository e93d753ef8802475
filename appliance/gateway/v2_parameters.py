"""The parameters of a V2 inference request, alike for REST and gRPC. Pure; runs in the gateway per call.

Sources: Triton's extensions for schedule policy (`priority`, `timeout`) and sequences (`sequence_id` and its marks).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from appliance.core.errors import BadInputError
from appliance.core.requests import SequenceStep

MAX_PRIORITY = 2**31 - 1
_LARGEST_ID = 2**64 - 1
_LONGEST_ID = 256
_LONGEST_TIMEOUT_US = 10**15  # thirty years: beyond it, arithmetic on clocks stops making sense


class CallParameters(NamedTuple):
    """What of a request's parameters is about the call as a whole. `deadline_s` counts from now; 0: none was asked.

    `priority` 1 is the highest; 0 stands for the model's own default.
    """

    deadline_s: float = 0.0
    priority: int = 0
    sequence: SequenceStep | None = None


NONE = CallParameters()


def read_parameters(parameters: Mapping[str, Any]) -> CallParameters:
    """The parameters that are known; others are passed over, as the protocol asks. Raises BadInputError."""
    return CallParameters(
        _whole(parameters, "timeout", "microseconds, a whole number of 0 or more", _LONGEST_TIMEOUT_US) / 1e6,
        _whole(parameters, "priority", f"a whole number from 1 (the highest) to {MAX_PRIORITY}, or 0", MAX_PRIORITY),
        _sequence(parameters),
    )


def _sequence(parameters: Mapping[str, Any]) -> SequenceStep | None:
    """None where there is no id, or it is 0 or empty, which stands for none."""
    given = parameters.get("sequence_id", 0)
    if not isinstance(given, int | str) or isinstance(given, bool) or not _fits(given):
        raise BadInputError(
            f"the parameter sequence_id is {given!r:.60}: expected a whole number from 1 to {_LARGEST_ID}, or a text "
            f"of 1 to {_LONGEST_ID} characters"
        )
    if not given:
        return None
    marks = []
    for name in ("sequence_start", "sequence_end"):
        mark = parameters.get(name, False)
        if not isinstance(mark, bool):
            raise BadInputError(f"the parameter {name} is {mark!r:.60}: expected true or false")
        marks.append(mark)
    return SequenceStep(given, *marks)


def _fits(given: int | str) -> bool:
    return len(given) <= _LONGEST_ID if isinstance(given, str) else 0 <= given <= _LARGEST_ID


def _whole(parameters: Mapping[str, Any], name: str, expected: str, most: int) -> int:
    value = parameters.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise BadInputError(f"the parameter {name} is {value!r:.60}: expected {expected}")
    return value
