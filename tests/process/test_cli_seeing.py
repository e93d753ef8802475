"""`ingle top` and `ingle bench` against a real node; and what a node measured, after its restart."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.cli.main import run
from tests.conftest import RunningNode, stop_node
from tests.process.conftest import Ingle
from tests.process.models import plus
from tests.process.test_faults import wait_until

_MAIN = [sys.executable, "-m", "appliance.cli.main"]


@pytest.fixture(scope="module")
def model(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that is warm."""
    file = plus(tmp_path_factory.mktemp("seen") / "plus.onnx", 1.0)
    environ = {**os.environ, "INGLE_DATA_DIR": str(node.data_dir)}
    for arguments in (("deploy", str(file), "--name", "seen/plus"), ("call", "seen/plus", "[1, 2, 3]")):
        subprocess.run([*_MAIN, *arguments], env=environ, check=True, capture_output=True)
    return "seen/plus"


def test_top_once_is_a_table_and_in_json_one_object(ingle: Ingle, model: str) -> None:
    shown = ingle("top", "--once", "--interval", "0.1", "--model", "seen/*")
    assert shown.status == 0
    assert re.search(r"memory .* for models", shown.out)
    (row,) = [line for line in shown.out.splitlines() if line.startswith("seen/plus:1.0.0")]
    assert "warm" in row
    found = ingle("top", "--json", "--interval", "0.1", "--model", "seen/*").json
    assert [(line["model"], line["state"], line["replicas"]) for line in found["models"]] == [(model, "warm", 1)]
    assert found["memory"]["used_bytes"] > 0


def test_top_is_live_on_a_terminal_and_ends_at_ctrl_c(node: RunningNode, model: str) -> None:
    leader, follower = pty.openpty()
    environ = {**os.environ, "INGLE_DATA_DIR": str(node.data_dir), "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    # Whoever started the tests in the background had the interrupt ignored, and that is inherited.
    command = ["env", "--default-signal=INT", *_MAIN, "top", "--interval", "0.1"]
    top = subprocess.Popen(
        [*command, "--model", "seen/*"],  # others' models may fill the screen
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environ,
    )
    os.close(follower)
    seen = b""
    try:
        gives_up_s = time.monotonic() + 60
        while seen.count(b"seen/plus:1.0.0") < 3:  # drawn again and again
            assert time.monotonic() < gives_up_s, seen[-2000:]
            assert select.select([leader], [], [], 60)[0], seen
            seen += os.read(leader, 65536)
        top.send_signal(signal.SIGINT)
        # What it writes on its way out must be taken, or it waits for ever.
        ends_s = time.monotonic() + 60
        while time.monotonic() < ends_s and select.select([leader], [], [], 60)[0]:
            try:
                if not (piece := os.read(leader, 65536)):
                    break
            except OSError:  # the other end is closed
                break
            seen += piece
        assert top.wait(60) == 0
    finally:
        top.kill()
        top.wait()
        os.close(leader)
    assert b"Traceback" not in seen
    assert seen.rstrip().endswith((b"\x1b[?1049l\x1b[?25h", b"\x1b[?25h\x1b[?1049l", b"\x1b[?1049l"))


def test_top_where_the_output_is_no_terminal_ends_after_one_table(node: RunningNode, model: str) -> None:
    environ = {**os.environ, "INGLE_DATA_DIR": str(node.data_dir)}
    done = subprocess.run(
        [*_MAIN, "top", "--interval", "0.1"], env=environ, capture_output=True, text=True, check=True, timeout=60
    )
    assert "\x1b" not in done.stdout
    assert "seen/plus:1.0.0" in done.stdout


@pytest.mark.parametrize("protocol", ["json", "binary", "plain"])
def test_bench_measures_with_each_protocol(ingle: Ingle, model: str, protocol: str) -> None:
    report = ingle("bench", model, "-c", "1,4", "--seconds", "0.2", "--http", protocol, "--json").json
    assert (report["model"], report["version"], report["protocol"]) == (model, "1.0.0", protocol)
    assert [step["callers"] for step in report["steps"]] == [1, 4]
    for step in report["steps"]:
        assert (step["failed"], step["first_error"]) == (0, "")
        assert step["calls_per_s"] > 10
        assert 0 < step["p50_s"] <= step["p90_s"] <= step["p99_s"]
        assert 0 < step["spent"]["run"] < step["mean_s"]


def test_bench_goes_over_zeromq_too(ingle: Ingle, node: RunningNode, model: str) -> None:
    report = ingle("bench", model, "-c", "1,4", "--seconds", "0.2", "--zmq", f"tcp://{node.zmq}", "--json").json
    assert (report["protocol"], report["request_bytes"]) == ("zmq", 12)
    for step in report["steps"]:
        assert (step["failed"], step["first_error"]) == (0, "")
        assert step["answered"] > 0
        assert step["spent"]["run"] > 0
    nobody = ingle("bench", model, "--zmq", "tcp://127.0.0.1:1")
    assert (nobody.status, nobody.out) == (5, "")


def test_bench_tells_people_of_the_cold_start_first(ingle: Ingle, model: str) -> None:
    shown = ingle("bench", model, "-c", "2", "--seconds", "0.2", "--cold")
    assert shown.status == 0
    said = shown.out.splitlines()
    assert said[0].startswith("seen/plus:1.0.0 on ")
    assert said[1].startswith("Cold start: ")
    assert "CALLS/S" in shown.out
    assert "QUEUE" in shown.out


def test_bench_sends_a_file_as_it_is(ingle: Ingle, model: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text("[[1, 2, 3], [4, 5, 6]]")
    report = ingle("bench", model, "-c", "1", "--seconds", "0.2", "--input", rows, "--json").json
    assert (report["protocol"], report["request_bytes"]) == ("plain", 22)
    assert report["steps"][0]["answered"] > 0
    (tmp_path / "wrong.json").write_text("[1, 2]")
    wrong = ingle("bench", model, "-c", "1", "--seconds", "0.2", "--input", tmp_path / "wrong.json")
    assert (wrong.status, wrong.out) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("seen/nothing",), 3),
        (("seen/plus", "-c", "0"), 2),
        (("seen/plus", "-c", "8,many"), 2),
        (("seen/plus", "-c", "100000"), 2),
        (("seen/plus", "--seconds", "3600"), 2),
        (("seen/plus", "--http", "telepathy"), 2),
        (("seen/plus", "--type", "image/jpeg"), 2),
        (("seen/plus", "--zmq", "http://box"), 2),
        (("seen/plus", "--zmq", "tcp://box:1", "--http", "json"), 2),
        (("seen/plus", "--node", "http://127.0.0.1:1"), 5),
    ],
)
def test_bench_refuses_nonsense_in_one_sentence(
    ingle: Ingle, model: str, arguments: tuple[str, ...], status: int
) -> None:
    shown = ingle("bench", *arguments)
    assert (shown.status, shown.out) == (status, "")
    assert shown.err.count("\n") == 1


def test_bench_over_tls_trusts_the_fingerprint_it_was_given(nodes: Callable[..., RunningNode], tmp_path: Path) -> None:
    served = nodes(str(plus(tmp_path / "plus.onnx", 1.0)), "--tls", "self", "--open")
    url = served.url.replace("http://", "https://")
    fingerprint = json.loads((served.data_dir / "node.json").read_text())["tls_fingerprint"]
    asked = ["bench", "local/plus", "-c", "2", "--seconds", "0.2", "--node", url]
    assert run([*asked, "--fingerprint", fingerprint]) == 0
    assert run([*asked, "--fingerprint", "0" * 64]) == 5
    assert run([*asked, "--ca", str(served.data_dir / "tls.crt")]) == 0


def test_what_was_measured_is_shown_after_a_restart_before_any_call(
    nodes: Callable[..., RunningNode], ingle: Ingle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = nodes(str(plus(tmp_path / "plus.onnx", 1.0)))
    monkeypatch.setenv("INGLE_DATA_DIR", str(first.data_dir))
    assert ingle("show", "plus", "--json").json["measured"]["memory_bytes"] == 0
    assert ingle("bench", "plus", "-c", "4", "--seconds", "0.2").status == 0

    def measured() -> dict[str, float]:
        found: dict[str, float] = ingle("show", "plus", "--json").json["measured"]
        return found

    wait_until(lambda: measured()["memory_bytes"] > 0 and measured()["calls"] > 0, "the worker was looked at")
    before = measured()
    assert stop_node(first) == 0
    nodes(data_dir=first.data_dir)
    after = measured()
    assert ingle("show", "plus", "--json").json["state"] == "asleep"
    for word in ("memory_bytes", "memory_loaded_bytes", "cold_start_s", "load_s"):
        assert after[word] == pytest.approx(before[word], rel=0.5)
        assert after[word] > 0
    assert after["calls"] >= before["calls"]
    assert after["run_s"]
    shown = ingle("show", "plus").out
    assert re.search(r"measured +[0-9.]+ MB of memory, cold start ", shown)
    assert re.search(r"runs +1 row ", shown)
