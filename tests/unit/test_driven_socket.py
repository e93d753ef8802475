"""A socket that is driven by the loop leaves turns to others."""

import asyncio

import pytest
import zmq

from federation.sockets import DrivenSocket


@pytest.mark.parametrize(("messages_a_turn", "first"), [(2, 2), (64, 5)])
def test_so_many_messages_are_dealt_with_before_the_loop_sees_to_others(messages_a_turn: int, first: int) -> None:
    async def read_all(context: zmq.Context[zmq.Socket[bytes]]) -> list[int]:
        came: list[bytes] = []
        reads = DrivenSocket(context, zmq.PAIR, lambda frames: came.append(frames[0].bytes), messages_a_turn)
        reads.zmq.bind("inproc://pair")
        sends = context.socket(zmq.PAIR)
        sends.connect("inproc://pair")
        for number in range(5):
            sends.send(b"%d" % number)
        reads.drive()
        counts = [len(came)]
        while counts[-1] < 5:
            await asyncio.sleep(0)
            counts.append(len(came))
        assert came == [b"0", b"1", b"2", b"3", b"4"]
        reads.close()
        sends.close()
        return counts

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        counts = asyncio.run(read_all(context))
    finally:
        context.term()
    assert counts[0] == first
    assert max(after - before for before, after in zip([0, *counts], counts, strict=False)) == first
