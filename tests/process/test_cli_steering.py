"""`ingle scale`, `traffic`, `deploy --canary` and `alias --return-if-...` against a real node."""

import json
import threading
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import RunningNode
from tests.process.conftest import Ingle
from tests.process.models import bundle, counting, plus
from tests.process.test_faults import wait_until


@pytest.fixture
def model(ingle: Ingle, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A model of its own for each test: `y = x + 1`, version 1.0.0."""
    name = f"steered/{request.node.originalname[5:60].replace('_', '-')}"
    assert ingle("deploy", plus(tmp_path / "one.onnx", 1.0), "--name", name).status == 0
    return name


def outputs(node: RunningNode, model: str, calls: int) -> list[float]:
    found = []
    for _ in range(calls):
        headers = {**node.headers, "Content-Type": "application/json"}
        request = urllib.request.Request(f"{node.url}/v1/models/{model}", b"[[0, 0, 0]]", headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found.append(json.loads(answer.read())["outputs"]["y"][0][0])
    return found


def test_a_pinned_model_is_warm_without_a_call(ingle: Ingle, model: str) -> None:
    assert "as the node decides" in ingle("scale", model).out
    pinned = ingle("scale", model, "--pin", "--max", "2", "--latency", "50ms", "--json").json
    assert pinned == {"model": model, "min_replicas": 1, "max_replicas": 2, "target_latency_s": 0.05}
    wait_until(lambda: ingle("show", model, "--json").json["state"] == "warm", "the model is warm")
    (listed,) = [row for row in ingle("models", "--json").json if row["model"] == model]
    assert (listed["state"], listed["replicas"], listed["runs_on"]) == ("warm", 1, ["CPUExecutionProvider"])
    assert listed["memory_bytes"] > 0
    assert "at least 1 always warm, at most 2, calls within 50 ms" in ingle("show", model).out
    assert ingle("scale", model, "--unpin", "--json").json["min_replicas"] == 0
    assert ingle("scale", model, "--min", "3").status == 2
    assert ingle("scale", model, "--reset", "--json").json == {
        "model": model,
        "min_replicas": 0,
        "max_replicas": 0,
        "target_latency_s": 0.0,
    }


def test_a_canary_gets_its_share_and_is_promoted(ingle: Ingle, node: RunningNode, model: str, tmp_path: Path) -> None:
    deployed = ingle(
        "deploy", plus(tmp_path / "two.onnx", 2.0), "--name", model, "--canary", "25%", "--max-errors", "2%"
    )
    assert deployed.status == 0
    assert "25% of the calls" in deployed.out
    shown = ingle("show", model, "--json").json
    assert (shown["default"], [row["state"] for row in shown["versions"]]) == ("1.0.0", ["asleep", "warm"])
    assert sorted(outputs(node, model, 20)) == [1.0] * 15 + [2.0] * 5
    told = ingle("traffic", model).out
    assert "75% to 1.0.0, the default, 25% to 1.1.0, the canary" in told
    assert "more than 2% of its calls fail" in told
    assert ingle("alias", model, "default", "1.1.0").status == 0
    assert outputs(node, model, 4) == [2.0] * 4
    assert ingle("traffic", model, "--json").json["canary"] == ""


def test_no_call_sees_a_canary_as_the_default(ingle: Ingle, node: RunningNode, model: str, tmp_path: Path) -> None:
    seen: list[float] = []
    done = threading.Event()

    def keep_calling() -> None:
        while not done.is_set():
            seen.extend(outputs(node, model, 1))

    calling = threading.Thread(target=keep_calling)
    calling.start()
    try:
        for add in (2.0, 3.0):
            file = plus(tmp_path / f"{add}.onnx", add)
            assert ingle("deploy", file, "--name", model, "--canary", "0.0001%").status == 0
    finally:
        done.set()
        calling.join()
    assert set(seen) == {1.0}


def test_a_canary_without_a_version_beside_it_is_refused(ingle: Ingle, tmp_path: Path) -> None:
    refused = ingle("deploy", plus(tmp_path / "one.onnx", 1.0), "--name", "steered/alone", "--canary", "5%")
    assert refused.status == 6
    assert ingle("show", "steered/alone").status == 3


def test_a_canary_that_is_deleted_takes_no_call_with_it(
    ingle: Ingle, node: RunningNode, model: str, tmp_path: Path
) -> None:
    ingle("deploy", plus(tmp_path / "two.onnx", 2.0), "--name", model, "--canary", "50%")
    assert set(outputs(node, model, 4)) == {1.0, 2.0}
    assert ingle("rm", f"{model}:1.1.0", "--yes").status == 0
    assert outputs(node, model, 4) == [1.0] * 4
    assert ingle("traffic", model, "--json").json["canary"] == ""


def test_copies_for_a_shadow_are_compared(ingle: Ingle, node: RunningNode, model: str, tmp_path: Path) -> None:
    ingle("alias", model, "default", "1.0.0")
    ingle("deploy", plus(tmp_path / "two.onnx", 2.0), "--name", model)
    assert ingle("traffic", model, "--shadow", "1.1", "--json").json["shadow"] == "1.1.0"
    assert outputs(node, model, 4) == [1.0] * 4
    wait_until(lambda: ingle("traffic", model, "--json").json["compared"]["different"] == 4, "the copies are compared")
    shown = ingle("traffic", model).out
    assert "Copies of 100% of them go to 1.1.0, the shadow." in shown
    assert "LARGEST DIFFERENCE" in shown
    assert "tries another" in ingle("traffic", model, "--off").out


def test_a_default_that_fails_goes_back_by_itself(ingle: Ingle, tmp_path: Path) -> None:
    name = "steered/counting"
    good = bundle(tmp_path / "good.ingle", counting(tmp_path / "good.onnx"), "")
    # The same model, but with so little time that every call ends with its worker.
    poor = bundle(tmp_path / "poor.ingle", counting(tmp_path / "poor.onnx"), "[limits]\nrun_seconds = 0.000001\n")
    ingle("deploy", good, "--name", f"{name}:1.0.0")
    ingle("alias", name, "default", "1.0.0")
    ingle("deploy", poor, "--name", f"{name}:2.0.0")
    moved = ingle("alias", name, "default", "2.0.0", "--return-if-errors", "10%", "--least-calls", "2")
    assert "goes back to 1.0.0 if more than 10% of its calls fail" in moved.out
    assert "1.0.0 is the default again if" in ingle("traffic", name).out
    wait_until(lambda: "2.0.0" in ingle("traffic", name, "--json").json["versions"], "the trial is on")

    def ended() -> str:
        said: str = ingle("traffic", name, "--json").json["ended"]
        if not said:
            ingle("call", name, '{"turns": [200000]}')
        return said

    wait_until(lambda: bool(ended()), "the default is taken back")
    assert "Taken back: 1.0.0 is the default again" in ingle("traffic", name).out
    assert ingle("alias", name, "--json").json == {"default": "1.0.0"}


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (("traffic", "MODEL", "--share", "5%"), 2, "--canary"),
        (("traffic", "MODEL", "--canary", "1.0.0", "--share", "5%"), 6, "default"),
        (("traffic", "MODEL", "--canary", "7", "--share", "5%"), 3, "no version"),
        (("traffic", "MODEL", "--off", "--share", "5%"), 2, "--off"),
        (("alias", "MODEL", "prod", "1.0.0", "--return-if-errors", "2%"), 2, "default"),
        (("alias", "MODEL", "default", "1.0.0", "--return-if-errors", "2%"), 6, "already"),
        (("scale", "MODEL", "--pin", "--min", "2"), 2, "--pin"),
        (("scale", "MODEL", "--reset", "--min", "2"), 2, "--reset"),
        (("scale", "nobody/nothing"), 3, "no model"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    ingle: Ingle, model: str, arguments: tuple[str, ...], status: int, word: str
) -> None:
    shown = ingle(*(model if word == "MODEL" else word for word in arguments))
    assert (shown.status, shown.out) == (status, "")
    assert word in shown.err
    assert shown.err.count("\n") == 1


def test_who_may_only_call_may_look_and_not_steer(ingle: Ingle, node: RunningNode, model: str) -> None:
    key = ingle("keys", "create", "a caller", "--scope", f"call:{model}", "--json").json["key"]
    asked = ("--node", node.url, "--key", key)
    assert ingle("scale", model, *asked).status == 0
    assert ingle("traffic", model, *asked).status == 0
    assert ingle("scale", model, "--pin", *asked).status == 4
    assert ingle("traffic", model, "--off", *asked).status == 4
    assert ingle("top", "--once", "--interval", "0.1", *asked).status == 0
