"""A socket that is driven by the loop leaves turns to others."""

import asyncio

import pytest
import zmq

from federation import sockets
from federation.sockets import MESSAGES_A_TURN, DrivenSocket


@pytest.mark.parametrize(
    ("turn_s", "most"), [(60.0, MESSAGES_A_TURN), pytest.param(0.0, 1, id="each message takes all of a turn's time")]
)
def test_so_many_messages_are_dealt_with_before_the_loop_sees_to_others(
    turn_s: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "TURN_S", turn_s)
    sent = [b"%d" % number for number in range(2 * MESSAGES_A_TURN + 5)]

    async def read_all(context: zmq.Context[zmq.Socket[bytes]]) -> list[int]:
        came: list[bytes] = []
        reads = DrivenSocket(context, zmq.PAIR, lambda frames: came.append(frames[0].bytes))
        reads.zmq.bind("inproc://pair")
        sends = context.socket(zmq.PAIR)
        sends.connect("inproc://pair")
        for message in sent:
            sends.send(message)
        reads.drive()
        counts = [len(came)]
        while counts[-1] < len(sent):
            await asyncio.sleep(0)
            counts.append(len(came))
        assert came == sent
        reads.close()
        sends.close()
        return counts

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        counts = asyncio.run(read_all(context))
    finally:
        context.term()
    assert max(after - before for before, after in zip([0, *counts], counts, strict=False)) == most
