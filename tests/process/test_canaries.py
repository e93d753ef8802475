"""Calls spread over versions, copied, and taken back. A real node and real models."""

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunningNode
from tests.process.models import bundle, counting
from tests.process.test_faults import ask, wait_until
from tests.process.test_kernel import adding, call

TRAFFIC = "/v1/models/local/adding/traffic"


@pytest.fixture
def two(nodes: Callable[..., RunningNode], tmp_path: Path) -> RunningNode:
    """A node with a model of two versions: the default 1.0.0 adds one, 2.0.0 adds two."""
    node = nodes()
    for number in (1, 2):
        model = adding(tmp_path / f"{number}.onnx", number)
        ask(node, f"/v1/models/adding:{number}.0.0", model, method="PUT")
    ask(node, "/v1/models/local/adding/aliases/default", {"version": "1.0.0"}, method="PUT")
    return node


def spread(node: RunningNode, **wish: Any) -> dict[str, Any]:
    answer: dict[str, Any] = ask(node, TRAFFIC, wish, method="PUT")
    return answer


def test_a_canary_answers_its_share_of_the_calls_that_name_no_version(two: RunningNode) -> None:
    assert spread(two, canary="2", canary_share=0.25)["canary"] == "2.0.0"
    answers = [call(two, "adding") for _ in range(40)]
    assert answers.count(2.0) == 10
    assert {call(two, "adding:1.0.0") for _ in range(8)} == {1.0}
    ask(two, TRAFFIC, method="DELETE")
    assert {call(two, "adding") for _ in range(8)} == {1.0}


def test_a_shadow_gets_copies_and_its_answers_are_compared_and_thrown_away(two: RunningNode) -> None:
    spread(two, shadow="2.0.0")
    assert {call(two, "adding") for _ in range(20)} == {1.0}

    def compared() -> dict[str, Any]:
        report: dict[str, Any] = ask(two, TRAFFIC)["compared"]
        return report

    wait_until(lambda: compared()["different"] == 20, "all copies are compared")
    assert compared()["largest_difference"] == 1.0
    assert ask(two, "/v2/models/adding/versions/2/stats")["model_stats"][0]["inference_count"] == 0


def test_a_canary_that_fails_is_given_no_more_calls_and_the_reason_is_kept(
    nodes: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = nodes()
    good = bundle(tmp_path / "good.ingle", counting(tmp_path / "good.onnx"), "")
    # The same model, but with so little time that every call ends with its worker.
    poor = bundle(tmp_path / "poor.ingle", counting(tmp_path / "poor.onnx"), "[limits]\nrun_seconds = 0.000001\n")
    ask(node, "/v1/models/counting:1.0.0", good.read_bytes(), method="PUT")
    ask(node, "/v1/models/counting:2.0.0", poor.read_bytes(), method="PUT")
    ask(node, "/v1/models/local/counting/aliases/default", {"version": "1.0.0"}, method="PUT")
    traffic = "/v1/models/local/counting/traffic"
    wish = {"canary": "2.0.0", "canary_share": 1.0, "max_error_share": 0.1, "least_calls": 2}
    ask(node, traffic, wish, method="PUT")
    wait_until(lambda: "1.0.0" in ask(node, traffic)["versions"], "the trial is on")

    def ended() -> str:
        if not (said := str(ask(node, traffic)["ended"])):
            with contextlib.suppress(urllib.error.HTTPError):  # the trial may be over by now
                ask(node, "/v1/models/counting", {"turns": [200_000]})
        return said

    wait_until(lambda: bool(ended()), "the canary is taken back")
    assert "2.0.0 is given no more calls" in ended()
    assert ask(node, "/v1/models/counting", {"turns": [3]})["version"] == "1.0.0"


def test_a_wish_that_makes_no_sense_is_refused_with_a_sentence(two: RunningNode) -> None:
    for wish, word in (
        ({"canary": "1.0.0", "canary_share": 0.1}, "default version"),
        ({"canary_share": 0.1}, "no canary"),
        ({"canary": "7.0.0", "canary_share": 0.1}, "no version"),
        ({"return_to": "1.0.0"}, "max_error_share"),
    ):
        status, error = refusal_of(two, wish)
        assert 400 <= status < 500
        assert word in error["error"]


def refusal_of(node: RunningNode, wish: dict[str, Any]) -> tuple[int, dict[str, str]]:
    request = urllib.request.Request(node.url + TRAFFIC, json.dumps(wish).encode(), node.headers, method="PUT")
    request.add_header("Content-Type", "application/json")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    with caught.value as error:
        return error.code, json.loads(error.read())
