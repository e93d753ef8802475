"""What a turn of the loop brings is done once at its end, and at once where turns bring one thing each."""

import asyncio
from collections.abc import Sequence

import pytest
import uvloop

from federation.turns import AtTurnsEnd


async def turns_end() -> None:
    """Two turns: what was to be called at the end of this one has been."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("turns", "done"),
    [
        pytest.param([1, 1, 1], [[1], [1], [1]], id="one by one"),
        pytest.param([3], [[1, 2]], id="the first goes at once, what nobody expected together"),
        pytest.param([3, 3, 3], [[1, 2], [3], [3]], id="many: together from the second turn on"),
        pytest.param([3, 1, 1], [[1, 2], [1], [1]], id="many, then one by one"),
    ],
)
def test_what_a_turn_brings_is_done_at_once_or_together(turns: Sequence[int], done: Sequence[Sequence[int]]) -> None:
    async def run() -> None:
        waiting: list[int] = []
        calls: list[int] = []

        def what() -> None:
            if waiting:
                calls.append(len(waiting))
                waiting.clear()

        turn = AtTurnsEnd(what)
        for brought, expected in zip(turns, done, strict=True):
            calls.clear()
            for number in range(brought):
                waiting.append(number)
                turn.one_more()
            await turns_end()
            assert calls == list(expected)
            assert waiting == []

    uvloop.run(run())


def test_a_lone_thing_is_done_before_the_turn_ends() -> None:
    async def run() -> None:
        done: list[str] = []
        AtTurnsEnd(lambda: done.append("done")).one_more()
        assert done == ["done"]

    uvloop.run(run())
