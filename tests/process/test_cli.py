"""The command line against a real node: every verb does what it says, in words and in JSON, with its exit code."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from appliance.cli.main import run
from tests.conftest import RunningNode
from tests.process.conftest import Ingle
from tests.process.models import plus


def test_a_model_is_deployed_listed_shown_called_and_removed(ingle: Ingle, tmp_path: Path) -> None:
    model = plus(tmp_path / "plus.onnx", 1.0)
    deployed = ingle("deploy", model, "--name", "cli/whole", "--json")
    assert (deployed.status, deployed.json["version"], deployed.json["created"]) == (0, "1.0.0", True)
    assert "cli/whole" in ingle("models").out
    assert "cli/whole" in [row["model"] for row in ingle("models", "--json").json]
    shown = ingle("show", "cli/whole")
    assert shown.status == 0
    assert "FP32[?, 3]" in shown.out
    assert "curl" in shown.out
    answer = ingle("call", "cli/whole", "[1, 2, 3]", "--json")
    assert answer.json["outputs"]["y"] == [[2.0, 3.0, 4.0]]
    assert "2.0,3.0,4.0" in ingle("call", "cli/whole", "[1, 2, 3]").out
    gone = ingle("rm", "cli/whole", "--yes", "--json")
    assert gone.json == {"model": "cli/whole", "deleted": ["1.0.0"], "later": {}, "unknown": []}
    assert ingle("show", "cli/whole").status == 3


def test_data_comes_from_a_file_or_from_stdin_too(ingle: Ingle, node: RunningNode, tmp_path: Path) -> None:
    ingle("deploy", plus(tmp_path / "plus.onnx", 1.0), "--name", "cli/data")
    (tmp_path / "row.csv").write_text("1,2,3\n4,5,6\n")
    (tmp_path / "rows.json").write_text("[[1, 2, 3], [4, 5, 6]]")
    expected = [[2.0, 3.0, 4.0], [5.0, 6.0, 7.0]]
    assert ingle("call", "cli/data", f"@{tmp_path}/rows.json", "--json").json["outputs"]["y"] == expected
    piped = subprocess.run(
        [sys.executable, "-m", "appliance.cli.main", "call", "cli/data", "--json"],
        env={**os.environ, "INGLE_DATA_DIR": str(node.data_dir)},
        input=b"[[1, 2, 3], [4, 5, 6]]",
        capture_output=True,
        check=True,
    )
    assert json.loads(piped.stdout)["outputs"]["y"] == expected


def test_versions_aliases_and_rollback(ingle: Ingle, tmp_path: Path) -> None:
    first, second = plus(tmp_path / "a.onnx", 1.0), plus(tmp_path / "b.onnx", 2.0)
    assert ingle("deploy", first, "--name", "cli/several", "--alias", "default").status == 0
    assert "nothing to do" in ingle("deploy", first, "--name", "cli/several:1.0.0").out
    assert ingle("deploy", second, "--name", "cli/several", "--version", "1.0.0").status == 6
    assert ingle("deploy", second, "--name", "cli/several").status == 0
    assert ingle("alias", "cli/several", "default", "1.1", "--json").json["version"] == "1.1.0"
    assert ingle("alias", "cli/several", "--json").json == {"default": "1.1.0"}
    assert ingle("call", "cli/several", "[0, 0, 0]", "--json").json["outputs"]["y"] == [[2.0, 2.0, 2.0]]
    assert ingle("call", "cli/several:1.0", "[0, 0, 0]", "--json").json["outputs"]["y"] == [[1.0, 1.0, 1.0]]
    assert "1.0.0" in ingle("rollback", "cli/several").out
    assert ingle("call", "cli/several", "[0, 0, 0]", "--json").json["outputs"]["y"] == [[1.0, 1.0, 1.0]]
    assert ingle("alias", "cli/several", "prod", "latest").status == 0
    assert ingle("alias", "cli/several", "prod", "--remove").status == 0
    assert ingle("alias", "cli/several", "--json").json == {"default": "1.0.0"}
    assert ingle("alias", "cli/several", "prod", "9.9.9").status == 3


def test_search_finds_by_words_and_tags_of_the_manifest(ingle: Ingle, tmp_path: Path) -> None:
    (tmp_path / "manifest.toml").write_text(
        'name = "cli/searched"\nversion = "2.5.0"\ndescription = "tells newts from efts"\ntags = ["amphibia"]\n'
        "labels = 'words.txt'\n[[output]]\nname = 'y'\nlabels = true\n"
    )
    (tmp_path / "words.txt").write_text("newt\neft\naxolotl\n")
    plus(tmp_path / "model.onnx", 1.0, external="weights.bin")
    assert ingle("deploy", tmp_path, "--json").json["version"] == "2.5.0"
    assert [row["model"] for row in ingle("search", "newts", "--json").json] == ["cli/searched"]
    assert [row["model"] for row in ingle("search", "efts", "--tag", "amphibia", "--json").json] == ["cli/searched"]
    assert "No model" in ingle("search", "basilisk").err
    best = ingle("call", "cli/searched", "[0, 0, 5]", "--json").json["labels"][0][0]
    assert best == {"label": "axolotl", "score": 6.0}
    assert "axolotl" in ingle("call", "cli/searched", "[0, 0, 5]").out


def test_what_is_no_model_is_refused_and_nothing_is_stored(ingle: Ingle, tmp_path: Path) -> None:
    whole = plus(tmp_path / "whole.onnx", 1.0).read_bytes()
    cut, page = tmp_path / "cut.onnx", tmp_path / "page.onnx"
    cut.write_bytes(whole[: len(whole) // 2])
    page.write_text("<!DOCTYPE html><html></html>")
    for file in (cut, page):
        refused = ingle("deploy", file, "--name", "cli/broken")
        assert (refused.status, refused.out) == (6, "")
        assert refused.err.strip()
    assert ingle("show", "cli/broken").status == 3


def test_a_wrong_call_is_a_sentence_and_status_1(ingle: Ingle, tmp_path: Path) -> None:
    ingle("deploy", plus(tmp_path / "plus.onnx", 1.0), "--name", "cli/wrong")
    wrong = ingle("call", "cli/wrong", "[1, 2]")
    assert (wrong.status, wrong.out) == (1, "")
    assert wrong.err.count("\n") == 1
    unfinished = ingle("call", "cli/wrong", '{"x": [1, 2')
    assert (unfinished.status, unfinished.out) == (1, "")
    assert unfinished.err.startswith("DATA begins as JSON, but is none: ")


def test_deleting_asks_first(ingle: Ingle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = plus(tmp_path / "plus.onnx", 1.0)
    ingle("deploy", model, "--name", "cli/asked")
    for said in ("", "n\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(said))
        assert ingle("rm", "cli/asked").status == 1
        assert ingle("show", "cli/asked").status == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert ingle("rm", "cli/asked:1.0.0").status == 0
    assert ingle("show", "cli/asked").status == 3


def test_keys_are_made_used_and_revoked(ingle: Ingle, node: RunningNode, tmp_path: Path) -> None:
    ingle("deploy", plus(tmp_path / "plus.onnx", 1.0), "--name", "cli/keyed")
    made = ingle("keys", "create", "the camera", "--scope", "call:cli/keyed", "--json").json
    asked = ("--node", node.url, "--key", made["key"])
    assert ingle("call", "cli/keyed", "[1, 2, 3]", *asked).status == 0
    assert ingle("rm", "cli/keyed", "--yes", *asked).status == 4
    assert ingle("keys", "list", *asked).status == 4
    assert made["id"] in ingle("keys", "list").out
    assert made["key"] not in ingle("keys", "list").out
    assert ingle("keys", "revoke", made["id"]).status == 0
    assert ingle("call", "cli/keyed", "[1, 2, 3]", *asked).status == 4
    assert ingle("models", "--node", node.url).status == 4
    wrong = ingle("keys", "create", "wrong", "--scope", "everything")
    assert wrong.status == 2
    assert "'everything' is no scope: expected call, deploy or admin" in wrong.err
    asked_wrongly = requests.post(
        f"{node.url}/v1/keys", json={"label": "wrong", "scopes": ["everything"]}, headers=node.headers, timeout=30
    )
    assert asked_wrongly.status_code == 400
    assert "not of the form that /openapi.json says for it - at `$.scopes[0]`" in asked_wrongly.json()["error"]
    assert ingle("keys", "revoke", "no-such-key").status == 3


def test_logs_are_read(ingle: Ingle, tmp_path: Path) -> None:
    ingle("deploy", plus(tmp_path / "plus.onnx", 1.0), "--name", "cli/logged")
    assert isinstance(ingle("logs", "cli/logged", "--json").json, list)
    silent = ingle("logs", "cli/logged")
    assert (silent.status, silent.out) == (0, "")
    assert silent.err == "The workers of cli/logged have written nothing.\n"
    assert ingle("logs", "cli/nothing").status == 3


def test_completion_knows_the_models(ingle: Ingle, node: RunningNode, tmp_path: Path) -> None:
    ingle("deploy", plus(tmp_path / "plus.onnx", 1.0), "--name", "cli/completed")
    script = ingle("completion", "bash")
    assert "_INGLE_COMPLETE" in script.out
    done = subprocess.run(
        [sys.executable, "-c", "from appliance.cli.main import main; main()"],
        env={
            **os.environ,
            "INGLE_DATA_DIR": str(node.data_dir),
            "_INGLE_COMPLETE": "bash_complete",
            "COMP_WORDS": "ingle show cli/com",
            "COMP_CWORD": "2",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["plain,cli/completed"]


def test_the_doctor_finds_this_box_fit(ingle: Ingle) -> None:
    examined = ingle("doctor", "--json")
    verdicts = {finding["about"]: finding["verdict"] for finding in examined.json}
    assert (examined.status, verdicts["onnxruntime"], verdicts["data folder"]) == (0, "ok", "ok")
    assert ingle("doctor").out.count("\n") == len(verdicts)


def test_the_doctor_names_each_layer_that_confines_models(ingle: Ingle) -> None:
    about = [finding["about"] for finding in ingle("doctor", "--json").json]
    layers = ("network namespace", "no_new_privs", "rlimits", "Landlock", "seccomp")
    assert [name for name in about if name.startswith("sandbox: ")] == [f"sandbox: {layer}" for layer in layers]


def test_a_data_folder_that_cannot_be_written_fails_the_examination(
    ingle: Ingle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INGLE_DATA_DIR", str(tmp_path / "file"))
    examined = ingle("doctor", "--json")
    assert examined.status == 1
    assert {f["about"] for f in examined.json if f["verdict"] == "fail"} == {"data folder"}


def test_serve_with_files_serves_them_under_their_stems_and_ends_in_order(
    nodes: Callable[..., RunningNode],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    served = nodes(str(plus(tmp_path / "plus.onnx", 1.0)))
    monkeypatch.setenv("INGLE_DATA_DIR", str(served.data_dir))
    assert run(["models", "--json"]) == 0
    assert [row["model"] for row in json.loads(capsys.readouterr().out)] == ["local/plus"]
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 0
    # What it was started with. It says so after it has told that it is ready.
    assert f"`INGLE_DATA_DIR={served.data_dir} ingle` finds it" in served.log.read_text()
    assert run(["models"]) == 5


def test_a_second_node_on_the_same_data_folder_is_told_so(node: RunningNode, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "appliance.cli.main", "serve", "--grpc", "off", "--zmq", "off"]
    second = subprocess.run(
        [*command, "--http", "127.0.0.1:0", "--data-dir", node.data_dir], capture_output=True, text=True, check=False
    )
    assert second.returncode == 5
    assert "Traceback" not in second.stderr
    taken = subprocess.run(
        [*command, "--http", node.http, "--data-dir", tmp_path / "other"], capture_output=True, text=True, check=False
    )
    assert taken.returncode == 1
    assert "Traceback" not in taken.stderr
    assert f"cannot listen on {node.http}, another program has it" in taken.stderr
    assert "--http HOST:PORT" in taken.stderr


def test_a_mistyped_variable_is_told_of_at_the_start_and_keeps_no_node_from_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "appliance.cli.main", "serve", "--data-dir", tmp_path / "data"]
    fronts = ["--http", "127.0.0.1:0", "--grpc", "off", "--zmq", "off", "--mesh", "off"]
    environ = {**os.environ, "INGLE_MEMORY_BUGDET": "4GiB"}
    sentence = "INGLE_MEMORY_BUGDET is set, and there is no such setting: it changes nothing; the nearest is "
    with subprocess.Popen(
        [*command, *fronts], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as node:
        assert node.stdout is not None
        told = next((line for line in node.stdout if "warning" in line), "")
        node.terminate()
        _, log = node.communicate(timeout=60)
    assert told == f"  warning: {sentence}INGLE_MEMORY_BUDGET\n"
    assert log.count(f"warning node {sentence}INGLE_MEMORY_BUDGET") == 1
    assert node.returncode == 0


def test_a_node_that_is_started_with_what_is_no_model_says_which_file_once(tmp_path: Path) -> None:
    page = tmp_path / "page.onnx"
    page.write_text("<!DOCTYPE html><html></html>")
    command = [sys.executable, "-m", "appliance.cli.main", "serve", page, "--data-dir", tmp_path / "data"]
    fronts = ["--http", "127.0.0.1:0", "--grpc", "off", "--zmq", "off", "--mesh", "off"]
    refused = subprocess.run([*command, *fronts], capture_output=True, text=True, check=False)
    assert refused.returncode == 6
    assert refused.stderr.count("page.onnx") == 1


def test_why_says_what_became_of_a_call(ingle: Ingle, tmp_path: Path) -> None:
    ingle("deploy", plus(tmp_path / "plus.onnx", 1.0), "--name", "cli/why")
    called = ingle("call", "cli/why", "[1, 2, 3]", "--json").json
    told = ingle("why", called["call"])
    assert "cli/why:1.0.0 was answered on node" in told.out
    assert "is alone, it knows no other node." in told.out
    assert " or " not in told.out
    assert ingle("why", called["call"], "--json").json["status"] == "ok"
    assert ingle("why", "never").status == 3
