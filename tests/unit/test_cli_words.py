"""The pure parts of the command line: exit codes, guesses, what is new in a log; and that help costs little."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from appliance import client_answers as client
from appliance.cli.call import OCTETS, as_accepted, guess_type
from appliance.cli.conversions import output_fault
from appliance.cli.logs import lines_since
from appliance.cli.main import EXIT_CODES, VERBS, exit_code, run
from appliance.cli.output import shape_words, size_words
from appliance.cli.target import find, url_of
from appliance.core.errors import ERRORS, UnavailableError
from appliance.gateway import answers
from converters.report import OutputParity, RowDifference

README = Path(__file__).parents[2] / "README.md"
MISSING = "/nowhere/model.onnx"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("internal", 1),
        ("bad_input", 1),
        ("worker_failed", 1),
        ("too_large", 1),
        ("unsupported", 1),
        ("not_found", 3),
        ("unauthenticated", 4),
        ("forbidden", 4),
        ("busy", 5),
        ("unavailable", 5),
        ("deadline", 5),
        ("refused", 6),
        ("conflict", 6),
    ],
)
def test_every_error_has_its_exit_code(code: str, status: int) -> None:
    assert exit_code(ERRORS[code]("a sentence")) == status


def test_exit_codes_are_documented_in_the_readme_and_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown, readme = capsys.readouterr().out, README.read_text()
    for code, meaning, _ in EXIT_CODES:
        assert f"{code}  {meaning}" in shown
        assert f"| {code} | {meaning} |" in readme


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: ingle {verb}")
    assert verb == "demo" or f"`{verb}`" in README.read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing-of-the-kind"],
        ["show"],
        ["show", "a/b/c"],
        ["rollback", "me/model:1.0.0"],
        ["deploy", str(README), "--manifest", "/tmp"],
        ["call", "me/model", "@/tmp"],
        ["alias", "me/model", "prod"],
        ["alias", "me/model", "--remove"],
        ["serve", "--http", "nonsense"],
        ["serve", "--device", "abacus"],
        ["completion", "cmd.exe"],
        ["call", "me/model", "@/nowhere", "--deadline", "-1"],
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGLE_NODE", "http://127.0.0.1:9")
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", MISSING],
        ["serve", "--config", MISSING],
        ["deploy", MISSING],
        ["deploy", str(README), "--manifest", MISSING],
        ["deploy", str(README), "--labels", MISSING],
        ["convert", MISSING],
        ["convert", str(README), "--sample", MISSING],
        ["convert", str(README), "--weights", MISSING],
        ["pack", MISSING],
        ["pack", str(README), "--sign", MISSING],
        ["call", "me/model", f"@{MISSING}"],
        ["bench", "me/model", "--input", MISSING],
        ["restore", MISSING],
        ["update", MISSING],
        ["mesh", "key", "import", MISSING],
        ["models", "--ca", MISSING],
    ],
)
def test_a_file_that_is_not_there_is_status_3_with_every_verb(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGLE_NODE", "http://127.0.0.1:9")
    assert run(arguments) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"{MISSING} is not there" in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "broke (it was closed without an answer): try again, or with https:// if"),
        (b"\0\0\x1e\4\0\0\r\n", "broke (what came back is no HTTP: gRPC and ZeroMQ have ports of their own)"),
    ],
)
def test_what_answers_in_another_protocol_makes_one_think_of_scheme_and_port(
    answer: bytes, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("INGLE_NODE", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("INGLE_KEY", "any")

        def hang_up() -> None:  # after it has read, as a server does that finds no TLS there
            caller, _ = server.accept()
            with caller:
                caller.recv(4096)
                caller.sendall(answer)

        ending = threading.Thread(target=hang_up)
        ending.start()
        assert run(["models"]) == 5
        ending.join()
    assert words in capsys.readouterr().err


def test_rows_that_differ_in_a_word_differ_by_no_number() -> None:
    worst = (RowDifference(run=0, row=19, error=0.0, original="pos", converted="neg"),)
    label = OutputParity(name="label", dtype="BYTES", rows=75, labels_differ=1, rows_differ=1, worst=worst)
    words = "output 'label': 1 of 75 rows differ"
    assert output_fault(label) == f"{words}: row 19 of run 0 (pos became neg)"
    number = msgspec.structs.replace(label, max_absolute=0.25)
    assert output_fault(number) == f"{words}, by up to 0.25: row 19 of run 0 (pos became neg)"


def test_a_backup_to_where_nothing_can_be_written_is_not_blamed_on_the_data_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INGLE_NODE", "http://127.0.0.1:9")
    assert run(["backup", str(tmp_path / "nowhere" / "all.tar")]) == 1
    assert f"{tmp_path}/nowhere/all.tar cannot be written (No such file or directory): " in capsys.readouterr().err


def test_no_node_is_status_5_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGLE_DATA_DIR", str(tmp_path))
    assert run(["models"]) == 5
    assert "ingle serve" in capsys.readouterr().err
    (tmp_path / "node.json").write_text('{"http": "127.0.0.1:1", "admin_key_file": "/nowhere"}')
    assert run(["models"]) == 5
    assert "http://127.0.0.1:1" in capsys.readouterr().err


def test_the_admin_key_goes_to_no_other_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "admin.key").write_text("sim1\n")
    (tmp_path / "node.json").write_text(f'{{"http": "0.0.0.0:8000", "admin_key_file": "{tmp_path}/admin.key"}}')
    monkeypatch.setenv("INGLE_DATA_DIR", str(tmp_path))
    assert find("", "")[:3] == ("http://127.0.0.1:8000", "sim1", False)
    assert find("http://10.0.0.9:8000", "").key == ""
    assert find("", "other").key == "other"
    (tmp_path / "node.json").write_text('{"http": null}')
    with pytest.raises(UnavailableError):
        find("", "")


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("[::]:8000", "http://[::1]:8000"),
        ("10.0.0.9:1", "http://10.0.0.9:1"),
    ],
)
def test_a_node_on_all_interfaces_is_reached_by_loopback(address: str, url: str) -> None:
    assert url_of(address) == url


@pytest.mark.parametrize(
    ("content", "suffix", "expected"),
    [
        (b"anything", ".JPG", "image/jpeg"),
        (b"a,b", ".csv", "text/csv"),
        (b"\xff\xd8\xff\xe0", "", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", ".dat", "image/png"),
        (b"RIFF\0\0\0\0WAVE", "", "audio/wav"),
        (b"[1, 2]", "", "application/json"),
        (b"a word", "", "text/plain"),
        (b"\xfe\xff\x00", "", OCTETS),
        (b"print()", ".py", OCTETS),
    ],
)
def test_a_contents_type_is_guessed_by_name_then_by_look(content: bytes, suffix: str, expected: str) -> None:
    assert guess_type(content, suffix) == expected


def test_a_model_of_raw_bytes_gets_raw_bytes_whatever_the_file_is_called() -> None:
    assert as_accepted("image/png", [OCTETS, "application/json"]) == OCTETS
    assert as_accepted("image/png", ["image/png", OCTETS]) == "image/png"
    assert as_accepted("image/png", ["text/plain"]) == "image/png"
    assert as_accepted("image/png", []) == "image/png"


@pytest.mark.parametrize(
    ("before", "after", "new"),
    [
        ([], ["a"], ["a"]),
        (["a"], ["a"], []),
        (["a", "b"], ["a", "b", "c"], ["c"]),
        (["a", "b"], ["b", "c", "d"], ["c", "d"]),
        (["a"], ["x", "y"], ["x", "y"]),
        (["a", "a"], ["a", "a", "a"], ["a"]),
    ],
)
def test_following_a_log_shows_each_line_once(before: list[str], after: list[str], new: list[str]) -> None:
    assert lines_since(before, after) == new


def test_numbers_are_shown_for_people() -> None:
    assert [size_words(n) for n in (0, 999, 3_163_737, 5e12)] == ["0 B", "999 B", "3.2 MB", "5000.0 GB"]
    assert shape_words("FP32", [-1, 3, 224]) == "FP32[?, 3, 224]"
    assert shape_words("INT64", []) == "INT64[]"


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (answers.ModelSummary, client.Model),
        (answers.TensorDescription, client.Tensor),
        (answers.VersionSummary, client.VersionRow),
        (answers.WorkerDescription, client.Worker),
        (answers.Measured, client.Measured),
        (answers.ScaleDescription, client.Scale),
        (answers.ModelDescription, client.ModelDetails),
        (answers.DeployAnswer, client.Deployed),
        (answers.CopyProgress, client.CopyProgress),
        (answers.VersionCopies, client.VersionCopies),
        (answers.DeletedVersions, client.Deleted),
        (answers.AliasAnswer, client.Alias),
        (answers.LabelScore, client.Label),
        (answers.PlainAnswer, client.Called),
        (answers.KeyDescription, client.Key),
        (answers.NewKey, client.Key),
        (answers.TrafficDescription, client.Traffic),
        (answers.TallyDescription, client.Tally),
        (answers.ShadowReport, client.ShadowReport),
        (answers.Activity, client.Activity),
        (answers.Memory, client.NodeMemory),
        (answers.SchedulerCounts, client.WorkerCounts),
        (answers.ModelActivity, client.ModelActivity),
        (answers.NodeList, client.Nodes),
        (answers.NodeDescription, client.MeshNode),
        (answers.SandboxLayer, client.SandboxLayer),
        (answers.NodeLink, client.NodeLink),
        (answers.NodeLoad, client.NodeLoad),
        (answers.WarmModel, client.WarmModel),
        (answers.OtherMeshInSight, client.OtherMesh),
        (answers.OtherNode, client.OtherNode),
    ],
)
def test_the_client_reads_everything_that_the_gateway_says(
    said: type[msgspec.Struct], read: type[msgspec.Struct]
) -> None:
    assert set(said.__struct_fields__) <= set(read.__struct_fields__)


def test_the_version_is_shown_without_loading_what_only_other_verbs_need() -> None:
    program = (
        "import sys; from appliance.cli.main import run; assert run(['version']) == 0; "
        "print(sorted({'rich', 'numpy', 'aiohttp', 'urllib3', 'onnxruntime', 'uvloop', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
