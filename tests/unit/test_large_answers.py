"""Where a worker may put a large answer in the memory that it shares with the gateway, and what it may not claim."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from appliance.core.errors import IngleError, WorkerFailedError
from appliance.core.frames import PREFIX, PREFIX_SIZE, REGION_FROM_BYTES, Answer, Invoke, decode_invoke
from appliance.workers.region import SharedRegion
from appliance.workers.replica import Replica
from appliance.workers.run_times import RunTimes
from appliance.workers.work import Outcome, Work

LARGE = REGION_FROM_BYTES
_SIZE_BYTES = 16 * LARGE


class Caller:
    def __init__(self) -> None:
        self.told: Outcome | IngleError | None = None

    def done(self) -> bool:
        return self.told is not None

    def set_result(self, result: Outcome, /) -> None:
        self.told = result

    def set_exception(self, exception: IngleError, /) -> None:
        self.told = exception


class Box:
    """A replica, and its worker played by hand."""

    def __init__(self) -> None:
        self.region = SharedRegion(_SIZE_BYTES)
        self.replica = Replica(1, self.region, lambda _: None, run_times=RunTimes(), memory_bytes=0)
        self.told: list[Invoke] = []
        link: Any = self
        self.replica.attach(link)

    def send(self, parts: tuple[bytes, ...], patience_turns: int) -> None:
        _, _, _, head_size, _ = PREFIX.unpack_from(parts[0])
        self.told.append(decode_invoke(parts[0][PREFIX_SIZE : PREFIX_SIZE + head_size]))

    def call(self, number: int) -> Caller:
        caller = Caller()
        self.replica.send(Work(Invoke(number, 0, []), [], 1e9, caller, 0))
        return caller

    def answer(self, number: int, *, body: bytes = b"", body_at: int = -1, body_bytes: int = 0) -> None:
        self.replica.on_frame(Answer(number, [], body_at=body_at, body_bytes=body_bytes), body)

    def answered(self, number: int, size_bytes: int) -> Invoke:
        """A call is made and answered with so many bytes through the socket: what the worker was told."""
        caller = self.call(number)
        self.answer(number, body=bytes(size_bytes))
        assert not isinstance(caller.told, IngleError)
        return self.told[-1]


def run(what: Callable[[Box], Awaitable[None]]) -> None:
    async def in_a_loop() -> None:
        box = Box()
        await what(box)
        box.region.close()

    asyncio.run(in_a_loop())


def test_a_place_is_given_once_answers_were_seen_to_be_large() -> None:
    async def grows(box: Box) -> None:
        assert box.answered(1, LARGE - 1).answer_at == -1
        assert box.answered(2, LARGE).answer_at == -1
        told = box.answered(3, 3 * LARGE)
        assert (told.answer_at >= 0, told.answer_bytes) == (True, LARGE)
        assert box.answered(4, 10).answer_bytes == 3 * LARGE

    run(grows)


def test_the_place_shrinks_with_the_answers_until_there_is_none() -> None:
    async def shrinks(box: Box) -> None:
        box.answered(1, 2 * LARGE)
        sizes = [box.answered(number, 10).answer_bytes for number in range(2, 9)]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-1] == 0

    run(shrinks)


def test_what_lies_in_its_place_is_the_answer_and_the_place_is_free_again() -> None:
    async def lies(box: Box) -> None:
        box.answered(1, LARGE)
        first, second = box.call(2), box.call(3)
        places = [(told.answer_at, told.answer_bytes) for told in box.told[-2:]]
        assert places[0][0] != places[1][0]
        for content, (start, size) in zip((b"a", b"b"), places, strict=True):
            with box.region.view(start, size) as place:
                place[:] = content * size
        box.answer(3, body_at=places[1][0], body_bytes=LARGE)
        box.answer(2, body_at=places[0][0], body_bytes=LARGE - 7)
        assert first.told is not None
        assert not isinstance(first.told, IngleError)
        assert first.told[1] == b"a" * (LARGE - 7)
        assert second.told is not None
        assert not isinstance(second.told, IngleError)
        assert second.told[1] == b"b" * LARGE
        assert box.region.take(_SIZE_BYTES) == 0  # nothing is taken any more

    run(lies)


@pytest.mark.parametrize(
    ("start", "size_bytes"),
    [(64, 64), (0, LARGE + 1), (0, -1), (_SIZE_BYTES, 64), (2**40, 2**40)],
    ids=["another place", "more than was given", "a negative size", "behind the end", "far away"],
)
def test_an_answer_that_claims_another_place_is_refused(start: int, size_bytes: int) -> None:
    async def claims(box: Box) -> None:
        box.answered(1, LARGE)
        caller = box.call(2)
        assert box.told[-1].answer_at == 0
        box.answer(2, body_at=start, body_bytes=size_bytes)
        assert isinstance(caller.told, WorkerFailedError)
        assert box.region.take(_SIZE_BYTES) == 0

    run(claims)


def test_without_room_the_answer_comes_through_the_socket() -> None:
    async def full(box: Box) -> None:
        box.answered(1, LARGE)
        box.region.take(_SIZE_BYTES)
        caller = box.call(2)
        assert box.told[-1].answer_at == -1
        box.answer(2, body=b"x" * LARGE)
        assert not isinstance(caller.told, IngleError)

    run(full)
