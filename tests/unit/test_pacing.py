"""Long answers are made in turns: other work goes on between them."""

import asyncio
from collections.abc import Iterator

from appliance.gateway.pacing import paced


def test_other_work_has_its_turn_while_many_items_are_gone_through() -> None:
    async def run() -> tuple[list[int], int]:
        turns = 0
        done = False

        async def other() -> None:
            nonlocal turns
            while not done:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        seen = [item async for item in paced(range(1000), turn_s=0.0)]
        done = True
        await task
        return seen, turns

    seen, turns = asyncio.run(run())
    assert seen == list(range(1000))
    assert turns > 900


def test_short_work_is_done_in_one_turn() -> None:
    async def run() -> bool:
        other = asyncio.create_task(asyncio.sleep(0))
        assert [item async for item in paced(range(3), turn_s=60.0)] == [0, 1, 2]
        was_done = other.done()
        await other
        return was_done

    assert asyncio.run(run()) is False


def test_nothing_is_gone_through_ahead_of_its_turn() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(3):
            taken.append(number)
            yield number

    async def run() -> None:
        async for number in paced(items()):
            assert taken == list(range(number + 1))

    asyncio.run(run())
