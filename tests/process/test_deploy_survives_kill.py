"""kill -9 at every act of a deploy, an alias or a deletion leaves the old world or the new, whole, and nothing else."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import deploy_steps
import pytest

from appliance.catalogue.catalogue import Catalogue
from appliance.core.digests import file_digest

ROOT = Path(__file__).parents[2]
World = tuple[tuple[str, str, tuple[str, ...]], ...]


def world(folder: Path) -> World:
    """What a start finds: each version with its artifact and the aliases. Every byte is verified on the way."""
    catalogue = Catalogue(folder)
    found = []
    named = set()
    for entry in catalogue.search():
        for version in entry.versions:
            files = catalogue.files(version.digest)
            assert {path: file_digest(Path(version.folder) / path) for path in files} == files
            named.add(version.folder)
            found.append(
                (str(version), version.digest, tuple(a for a, v in entry.aliases.items() if v == version.version))
            )
    assert {str(path) for path in folder.glob("artifacts/*/*")} == named, "an artifact that no version names"
    assert list((folder / "incoming").iterdir()) == []
    catalogue.close()
    return tuple(found)


def run(folder: Path, action: str, acts: int) -> int:
    """The exit status of a process killed before that many acts, 0 where there were fewer."""
    command = [sys.executable, str(ROOT / "tests/process/deploy_steps.py"), str(folder), action, str(acts)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, check=False, timeout=60).returncode


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A data folder with one deployed version."""
    folder = tmp_path / "before"
    catalogue = Catalogue(folder)
    deploy_steps.deploy(catalogue, b"first")
    catalogue.close()
    return folder


@pytest.mark.parametrize("action", ["deploy", "alias", "delete", "delete all"])
def test_a_kill_at_any_act_leaves_the_old_world_or_the_new(before: Path, tmp_path: Path, action: str) -> None:
    old = world(before)
    finished = tmp_path / "finished"
    shutil.copytree(before, finished)
    assert run(finished, action, 10_000) == 0
    new = world(finished)
    assert new != old

    outcomes = []
    for acts in range(1, 1000):
        folder = tmp_path / f"killed-{acts}"
        shutil.copytree(before, folder)
        status = run(folder, action, acts)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        outcomes.append(world(folder))
        assert outcomes[-1] in (old, new), f"killed before act {acts}"
        shutil.rmtree(folder)
    assert old in outcomes
    assert new in outcomes
    assert outcomes == sorted(outcomes, key=lambda outcome: outcome == new), "once new, never old again"


def test_a_kill_at_any_act_of_a_first_start_leaves_a_folder_that_starts(tmp_path: Path) -> None:
    killed = 0
    for acts in range(1, 1000):
        folder = tmp_path / f"killed-{acts}"
        status = run(folder, "open", acts)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        killed += 1
        assert world(folder) == ()
    assert killed > 10
