"""What a gRPC call asks beside its message: who asks, by when, where. Runs in the gateway.

Reads the call's metadata and gRPC's own deadline; knows nothing of what is asked for.
"""

import re
from collections.abc import Mapping

from appliance.core.errors import BadInputError, DeadlineError
from appliance.core.requests import CallAnswer, CallRequest
from appliance.gateway.pin import read_pin

AUTHORIZATION = "authorization"
DEADLINE = "x-ingle-deadline-ms"
PIN = "x-ingle-pin"
EXPLAIN = "x-ingle-explain"

_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")


def shortest_deadline_s(asked_s: float, metadata: Mapping[str, str], remaining_s: float | None) -> float:
    """The nearest of what the message asked for (0: nothing), the metadata's deadline and gRPC's own; 0 where none is.

    Raises BadInputError where the metadata's is no number, DeadlineError where gRPC's has passed.
    """
    text = metadata.get(DEADLINE)
    if text is not None:
        own_s = float(text) / 1000 if _NUMBER.fullmatch(text) else 0.0
        if not own_s:
            raise BadInputError(f"{DEADLINE} is '{text[:40]}': expected a number of milliseconds above 0")
        asked_s = min(asked_s or own_s, own_s)
    if remaining_s is not None:
        if remaining_s <= 0:
            raise DeadlineError("the call's deadline had passed before it was taken up: give it longer")
        asked_s = min(asked_s or remaining_s, remaining_s)
    return asked_s


def ask_placement(request: CallRequest, metadata: Mapping[str, str]) -> None:
    """Puts into the request where the metadata wants it to run, and whether that is to be explained. Raises
    BadInputError where the former is no pin."""
    if PIN in metadata:
        request.pin = read_pin(metadata[PIN])
    if EXPLAIN in metadata:
        request.explain = metadata[EXPLAIN] not in ("0", "")


def answered_metadata(answer: CallAnswer) -> tuple[tuple[str, str], ...]:
    """The trailing metadata that every answer to a call bears."""
    metadata = (("x-ingle-call", answer.call), ("x-ingle-node", answer.node))
    return (*metadata, ("x-ingle-route", answer.route)) if answer.route else metadata
