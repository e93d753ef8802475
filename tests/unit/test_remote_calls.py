"""What a peer says of a call that it was asked is believed as far as it can be meant."""

from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from msgspec.structs import replace

from appliance.core.errors import BusyError, IngleError
from appliance.gateway.remote_calls import RemoteCalls
from federation.messages import MeshFault, MeshReply


@pytest.mark.parametrize(
    ("told_s", "retry_after_s"),
    [
        (0.0, None),
        (2.5, 2.5),
        (-1.0, None),
        (1e300, None),
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_callers_are_told_to_wait_as_long_as_a_peer_can_mean(told_s: float, retry_after_s: float | None) -> None:
    failures: list[IngleError] = []
    nobody: Any = None
    asked: Any = SimpleNamespace(
        model_key="local/m:1.0.0@d", failed_at=lambda _node_id, error, *, elsewhere: failures.append(error)
    )

    async def hears() -> None:
        calls = RemoteCalls(
            nobody, nobody, node_id="here", send=nobody, peer=nobody, heard=nobody, next_number=iter([1]).__next__
        )
        calls.asks(1, "there", asked)
        calls.on_fault("there", MeshFault(1, "busy", "it is full", True, told_s))

    uvloop.run(hears())
    assert [type(error) for error in failures] == [BusyError]
    assert failures[0].retry_after_s == retry_after_s


SAID = MeshReply(1, [], 7, 10, 20, 30, 40, 1, 8, 0.1, 0.2, 0.5)
PASSED_OVER = MeshReply(1, [], 7, 0, 0, 0, 0, 1, 1, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("wrong", "believed"),
    [
        ({}, SAID),
        ({"run_ns": -1}, PASSED_OVER),
        ({"wait_ns": 2**63 - 1}, PASSED_OVER),
        ({"executions": -(10**12)}, PASSED_OVER),
        ({"batch_rows": 2**63 - 1}, PASSED_OVER),
        ({"total_s": float("-inf")}, PASSED_OVER),
        ({"queue_s": float("nan")}, PASSED_OVER),
        ({"load_s": 1e300}, PASSED_OVER),
    ],
)
def test_figures_of_an_answer_that_cannot_be_meant_are_passed_over(wrong: dict[str, Any], believed: MeshReply) -> None:
    """They would be added to counters that are told to V2's clients, and must stay numbers that those can hold."""
    replies: list[MeshReply] = []
    nobody: Any = None
    asked: Any = SimpleNamespace(
        model_key="local/m:1.0.0@d", replied=lambda _node_id, reply, _body: replies.append(reply)
    )

    async def hears() -> None:
        calls = RemoteCalls(
            nobody, nobody, node_id="here", send=nobody, peer=nobody, heard=nobody, next_number=iter([1]).__next__
        )
        calls.asks(1, "there", asked)
        calls.on_reply("there", replace(SAID, **wrong), ())

    uvloop.run(hears())
    assert replies == [believed]
