"""Calls spread over versions, copied, and taken back. A real node and real models."""

import base64
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


def test_a_canary_or_shadow_that_is_deleted_takes_no_call_with_it(two: RunningNode, tmp_path: Path) -> None:
    ask(two, "/v1/models/adding:3.0.0", adding(tmp_path / "3.onnx", 3), method="PUT")
    spread(two, canary="2.0.0", canary_share=0.5, shadow="3.0.0")
    assert {call(two, "adding") for _ in range(4)} == {1.0, 2.0}
    for version in ("2.0.0", "3.0.0"):
        ask(two, f"/v1/models/local/adding:{version}", method="DELETE")
        assert {call(two, "adding") for _ in range(4)} == {1.0}
    told = ask(two, TRAFFIC)
    assert told["canary"] == told["shadow"] == ""


def test_a_shadow_that_a_load_replaces_is_compared_anew(two: RunningNode, tmp_path: Path) -> None:
    def load(number: float) -> None:
        text = base64.b64encode(adding(tmp_path / "m.onnx", number)).decode()
        ask(two, "/v2/repository/models/adding/load", {"parameters": {"config": "{}", "file:5/model.onnx": text}})

    load(1)
    spread(two, shadow="5.0.0")
    call(two, "adding")
    wait_until(lambda: ask(two, TRAFFIC)["compared"]["same"] == 1, "the copy is compared")
    load(7)
    call(two, "adding")
    wait_until(lambda: ask(two, TRAFFIC)["compared"]["different"] == 1, "the copy for its successor is compared")


def test_a_model_that_comes_after_one_that_was_unloaded_and_deleted_is_ready(two: RunningNode, tmp_path: Path) -> None:
    ask(two, "/v2/repository/models/adding/unload", {})
    ask(two, "/v1/models/local/adding", method="DELETE")
    ask(two, "/v1/models/adding:1.0.0", adding(tmp_path / "one.onnx", 1), method="PUT")
    index = ask(two, "/v2/repository/index", {})
    assert [row["state"] for row in index if row["name"] == "adding"] == ["READY"]
