"""When a stream for calls is found to be lost."""

import pytest

from federation.stream_watch import _PATIENCE_S, _UNTAKEN_PATIENCE_S, Step, next_step


@pytest.mark.parametrize(
    ("unheard_s", "taken", "answers", "is_asking", "step"),
    [
        pytest.param(0.0, True, 0, False, "wait", id="it was asked just now"),
        pytest.param(_PATIENCE_S, True, 0, False, "ask on the link", id="all is acknowledged, and nothing is heard"),
        pytest.param(_PATIENCE_S, False, 0, False, "wait", id="what was lost on the way is sent anew"),
        pytest.param(_UNTAKEN_PATIENCE_S, False, 0, False, "ask on the link", id="nothing is acknowledged for long"),
        pytest.param(99.0, True, 0, True, "wait", id="the peer stands still: it says nothing on the link either"),
        pytest.param(_PATIENCE_S, True, 1, False, "ask on the link", id="it may have read the link first"),
        pytest.param(99.0, True, 1, True, "wait", id="it stood still after its first answer"),
        pytest.param(_PATIENCE_S, True, 2, False, "give up", id="it heard twice what was asked later"),
        pytest.param(_UNTAKEN_PATIENCE_S, False, 2, False, "give up", id="the same where nothing was acknowledged"),
    ],
)
def test_a_stream_is_lost_where_the_link_tells_of_a_peer_that_lives(
    unheard_s: float, taken: bool, answers: int, is_asking: bool, step: Step
) -> None:
    assert next_step(unheard_s, taken=taken, answers=answers, is_asking=is_asking) == step
