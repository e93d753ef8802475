"""Which version a sequence's calls go to: the one that its first call went to, whatever its name means by then.

Runs in the gateway's event loop. A sequence is known by its caller's key, the model and version as asked for, and the
caller's own id.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from appliance.core.errors import BadInputError, IngleError
from appliance.core.names import ModelName
from appliance.core.requests import CallRequest
from appliance.gateway.routes import Route
from appliance.workers.sequences import CallSequence

_MAX_KNOWN = 10_000

Key = tuple[str, ModelName, str, int | str]


class Held(NamedTuple):
    route: Route
    sequence: CallSequence


class SequenceRoutes:
    """Sequences that are under way, or were lost and whose callers have not been told yet."""

    def __init__(self) -> None:
        self._held: dict[Key, Held] = {}

    @contextmanager
    def step(self, request: CallRequest, key_id: str, route: Route) -> Iterator[tuple[Route, CallSequence | None]]:
        """Around the admission of a call: where it goes, and its sequence; None where the model keeps no state.

        Raises BadInputError for a sequence that was not started, SequenceLostError for one that was lost, BusyError
        where a new one has no room. A start whose call is not admitted is none.
        """
        step = request.sequence
        assert step is not None
        key = (key_id, route.model.name, request.version, step.id)
        held = self._held.get(key)
        if step.start:
            if not route.model.manifest.state:
                yield route, None
                return
            if held is not None:
                held.sequence.owner.end(held.sequence)
            held = self._begin(key, route, step.id)
        elif held is None or (held.sequence.over and not held.sequence.lost):
            self._held.pop(key, None)
            if not route.model.manifest.state:
                yield route, None
                return
            raise BadInputError(
                f"no sequence {step.id!r:.80} of {route.name} is under way: its first call says sequence_start"
            )
        elif held.sequence.lost:
            raise held.sequence.lost_error()
        elif held.sequence.owner is not held.route.pool.sequences:
            held = self._handed_over(key, held.sequence, route)
        try:
            yield held
        except IngleError:
            if step.start:
                held.sequence.owner.end(held.sequence)
                self._held.pop(key, None)
            raise
        if step.end:
            self._held.pop(key, None)

    def _handed_over(self, key: Key, sequence: CallSequence, route: Route) -> Held:
        """It waited for a version that was replaced, and went to its successor. Raises SequenceLostError where the name
        means yet another one by now."""
        if sequence.owner is not route.pool.sequences:
            sequence.owner.lose(sequence, "was lost, since its model's version was replaced")
            raise sequence.lost_error()
        held = self._held[key] = Held(route, sequence)
        return held

    def _begin(self, key: Key, route: Route, id: int | str) -> Held:  # noqa: A002
        if len(self._held) >= _MAX_KNOWN:
            self._held = {k: held for k, held in self._held.items() if not held.sequence.over}
        held = self._held[key] = Held(route, route.pool.sequences.begin(id))
        return held
