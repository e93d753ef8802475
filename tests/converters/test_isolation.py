"""Whatever a conversion does to its process, its caller gets a sentence within the limits, and nothing stays behind."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from appliance.core.errors import RefusedError
from converters import isolation
from converters.detected import Detected
from converters.isolation import Environment, Limits
from converters.job import Done, Job
from converters.options import Options


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """This Python, with one framework more."""
    more = tmp_path / "more"
    (more / "frameworks").mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("misbehaving.py"), more / "frameworks")
    (more / "sitecustomize.py").write_text(
        f"import converters.frameworks\nconverters.frameworks.__path__.append({str(more / 'frameworks')!r})\n"
    )
    return Environment(sys.executable, str(more))


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    places = tmp_path / "places"
    places.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(places))
    before = set(psutil.pids())
    yield
    assert list(places.iterdir()) == []
    left = [
        p
        for p in psutil.process_iter(["cmdline"])
        if p.pid not in before and "converters.child" in (p.info["cmdline"] or ())
    ]
    assert [process for process in left if str(places) in process.cwd()] == []


def convert(word: str, tmp_path: Path, environment: Environment, limits: Limits = Limits(30.0)) -> Done:  # noqa: B008
    source = tmp_path / "model"
    source.write_text(f"misbehave {word}")
    with isolation.workplace() as work:
        job = Job(
            source=str(source),
            detected=Detected(format="misbehaving", what="a test"),
            framework="misbehaving",
            folder=str(work / "bundle"),
            options=Options(),
        )
        return isolation.run(job, limits, environment=environment)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("exit", "SystemExit"),
        ("die", "ended with status 7 while die"),
        ("abort", "ended by SIGABRT while abort"),
        ("raise", "failed while raise: RecursionError: too deep"),
        ("nothing", "wrote no model.onnx"),
        ("fork", "PermissionError|Operation not permitted"),
        ("spawn", "PermissionError|Operation not permitted"),
        ("read", "Permission denied"),
        ("write", "Permission denied"),
        ("network", "OSError|Permission|unreachable|refused"),
        ("kill", "PermissionError|Operation not permitted"),
    ],
)
def test_what_a_process_does_becomes_a_sentence(
    word: str, sentence: str, tmp_path: Path, environment: Environment
) -> None:
    with pytest.raises(RefusedError, match=sentence):
        convert(word, tmp_path, environment)


@pytest.mark.parametrize("word", ["loop", "sleep"])
def test_a_model_that_never_ends_is_given_up(word: str, tmp_path: Path, environment: Environment) -> None:
    with pytest.raises(RefusedError, match="given up after 1 s while"):
        convert(word, tmp_path, environment, Limits(seconds=1.0))


def test_a_model_that_fills_the_disk_is_ended(tmp_path: Path, environment: Environment) -> None:
    with pytest.raises(RefusedError, match="wrote more than"):
        convert("fill", tmp_path, environment, Limits(seconds=60.0, disk_bytes=2**25))


def test_a_model_that_wants_all_memory_is_refused(tmp_path: Path, environment: Environment) -> None:
    with pytest.raises(RefusedError, match="more memory than its limit"):
        convert("memory", tmp_path, environment, Limits(data_bytes=2**31))


def test_a_conversion_that_answers_otherwise_is_not_within(tmp_path: Path, environment: Environment) -> None:
    parity = convert("wrong", tmp_path, environment).record.parity
    (output,) = parity.outputs
    assert not parity.within
    assert (output.rows_differ, output.worst[0].run, output.worst[0].row) == (1, 0, 5)
    assert output.max_absolute == pytest.approx(1.5)


def test_secrets_of_the_user_do_not_reach_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INGLE_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert "secret" not in isolation._variables(isolation.THIS_PYTHON, tmp_path).values()
    assert os.environ["INGLE_KEY"] == "secret"
