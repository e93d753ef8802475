"""Where a sequence's calls go when what its model's name means changes under it."""

import asyncio

import msgspec
import pytest

from appliance.core.errors import SequenceLostError
from appliance.core.frames import AnswerForm, Invoke
from appliance.core.manifest import Manifest, StateDeclaration
from appliance.core.names import ModelName
from appliance.core.requests import CallRequest, SequenceStep
from appliance.gateway.routes import Route
from appliance.gateway.sequence_routes import SequenceRoutes
from appliance.observability.statistics import VersionCounters
from appliance.workers.pool import Pool
from appliance.workers.work import Work
from tests.unit.box import Box
from tests.unit.test_work import Caller

_NAME = ModelName("local", "m")

pytestmark = pytest.mark.usefixtures("driven_clock")


class Stream:
    """One caller's sequence over two versions that take the same tensors, `before` and `after`."""

    def __init__(self) -> None:
        self.box = Box(budget_mib=100)
        self.before, self.after = self.box.model("before", 10), self.box.model("after", 10)
        self._routes = SequenceRoutes()
        self._number = 0

    def step(self, pool: Pool, *, start: bool = False) -> Caller:
        """A call, at a time when the model's name means this pool's version."""
        manifest = Manifest(state=(StateDeclaration("s", "s2"),))
        route = Route(msgspec.structs.replace(pool.model, name=_NAME, manifest=manifest), pool, VersionCounters())
        request = CallRequest("m", "", AnswerForm.PLAIN, [], [], sequence=SequenceStep(7, start=start))
        with self._routes.step(request, "key", route) as (place, sequence):
            self._number += 1
            caller = Caller()
            work = Work(Invoke(self._number, 0, []), [], self.box.now_s + 60, caller, 0)
            work.sequence, work.invoke.sequence_start = sequence, start
            place.pool.submit(work)
        return caller

    def answer(self, pool: Pool) -> None:
        worker = self.box.workers(pool)[0]
        if worker.state == "starting":
            worker.load()
        worker.answer_all()


def test_a_sequence_that_waited_when_its_version_was_replaced_goes_on_with_the_successor() -> None:
    async def run() -> None:
        stream = Stream()
        first = stream.step(stream.before, start=True)
        stream.before.hand_over(stream.after)
        stream.before.close()
        stream.answer(stream.after)
        second = stream.step(stream.after)
        stream.answer(stream.after)
        assert isinstance(first.told, tuple)
        assert isinstance(second.told, tuple)

    asyncio.run(run())


def test_a_sequence_whose_successor_is_no_longer_meant_is_told_that_it_is_lost() -> None:
    async def run() -> None:
        stream = Stream()
        stream.step(stream.before, start=True)
        stream.before.hand_over(stream.after)
        stream.before.close()
        other = stream.box.model("other", 10)
        with pytest.raises(SequenceLostError):
            stream.step(other)

    asyncio.run(run())
