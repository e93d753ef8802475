"""Long work in short turns: the event loop serves calls between them.

Runs in the gateway's event loop, for answers about everything that exists, which may be tens of thousands of models.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

TURN_S = 0.002
Item = TypeVar("Item")


async def paced(items: Iterable[Item], turn_s: float = TURN_S) -> AsyncIterator[Item]:
    """The items, letting the loop do its other work whenever `turn_s` has been spent on them."""
    ends_s = time.perf_counter() + turn_s
    for item in items:
        yield item
        if time.perf_counter() >= ends_s:
            await asyncio.sleep(0)
            ends_s = time.perf_counter() + turn_s
