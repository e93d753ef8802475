"""A conversion in an environment that uv made for it alone; nothing of that is left, whatever comes of it."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from appliance.core.errors import UnavailableError, UnsupportedError
from converters import environments
from converters.frameworks.glm import CONVERTER as GLM
from converters.frameworks.keras import CONVERTER as KERAS

MODEL = "# glm family=binomial link=logit\nterm,estimate\n(Intercept),-1\nage,0.5\n"


@pytest.fixture
def uv() -> str:
    try:
        return environments.find_uv()
    except UnsupportedError:
        pytest.skip("uv is not installed: 'make test-converters' has it")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "places"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def test_without_uv_a_sentence_says_how_to_have_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnsupportedError, match=r"--isolate needs uv, .* pip install uv"), environments.environment(GLM):
        pass


def test_a_model_is_converted_where_only_what_its_framework_takes_is_installed(uv: str, places: Path) -> None:
    (places.parent / "model.csv").write_text(MODEL)
    command = [sys.executable, "-m", "appliance.cli.main", "convert", "model.csv", "--isolate"]
    done = subprocess.run(command, cwd=places.parent, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "making an environment for GLM" in done.stderr
    assert (places.parent / "model.ingle").exists()
    assert list(places.iterdir()) == []


def test_an_environment_that_cannot_be_made_is_a_sentence_with_uvs_own_words(
    uv: str, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    with (
        pytest.raises(UnavailableError, match=r"the environment could not be made: .*keras"),
        environments.environment(KERAS),
    ):
        pass
    assert list(places.iterdir()) == []


def test_a_uv_that_does_not_run_is_a_sentence(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = places.parent / "uv"
    broken.write_text("#!/nowhere\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(places.parent / "python"))
    with (
        pytest.raises(UnavailableError, match=r"the environment could not be made: .*uv"),
        environments.environment(GLM),
    ):
        pass
    assert list(places.iterdir()) == []
