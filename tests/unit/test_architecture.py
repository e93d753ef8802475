"""The form of the code is part of what is tested: arrows between packages, lint, formatting and types."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARGUMENTS_BY_CHECK = {
    "the arrows between packages": ["-c", "from importlinter.cli import lint_imports_command as run; run()"],
    "lint": ["-m", "ruff", "check", "--no-fix", "."],
    "formatting": ["-m", "ruff", "format", "--check", "."],
    "types": ["-m", "mypy"],
}


@pytest.mark.parametrize("check", ARGUMENTS_BY_CHECK)
def test_the_code_keeps_its_form(check: str) -> None:
    command = [sys.executable, *ARGUMENTS_BY_CHECK[check]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{check}:\n{done.stdout}\n{done.stderr}"


def test_package_markers_stay_empty() -> None:
    markers = [m for top in ("appliance", "federation", "converters") for m in (ROOT / top).rglob("__init__.py")]
    assert markers
    assert [m for m in markers if m.read_text().strip()] == []


def test_every_module_says_what_it_owns() -> None:
    modules = [m for top in ("appliance", "federation", "converters") for m in (ROOT / top).rglob("*.py")]
    silent = [m for m in modules if m.name != "__init__.py" and not m.read_text().lstrip().startswith(('"""', 'r"""'))]
    assert silent == []


def test_no_two_test_files_have_one_name() -> None:
    """pytest imports them by their names alone: of two it would collect one, and stop."""
    names = sorted(file.name for file in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, next_name in pairwise(names) if name == next_name] == []
