"""What a peer says of a call that it was asked is believed as far as it can be meant."""

from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from appliance.core.errors import BusyError, IngleError
from appliance.gateway.remote_calls import RemoteCalls
from federation.messages import MeshFault


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
