"""A variable that looks like a setting and is none is told of; all that mean something are known."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.variables import KNOWN, unknown_variables

ROOT = Path(__file__).parents[2]
# A name as code and documents write it. `INGLE_...` is none, and `_INGLE_COMPLETE` is the shells' own.
NAME = re.compile(r"(?<![A-Z0-9_])INGLE_[A-Z0-9_]*[A-Z0-9]")
# They name what nobody reads.
NOT_READERS = ("variables.py", "test_variables.py", "test_cli.py")
KUBERNETES = {
    "INGLE_SERVICE_HOST": "10.0.0.1",
    "INGLE_SERVICE_PORT": "8000",
    "INGLE_SERVICE_PORT_HTTP": "8000",
    "INGLE_PORT": "tcp://10.0.0.1:8000",
    "INGLE_PORT_8000_TCP_ADDR": "10.0.0.1",
}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("INGLE_MEMORY_BUGDET", "INGLE_MEMORY_BUDGET"),
        ("INGLE_MESHKEY", "INGLE_MESH_KEY"),
        ("INGLE_WORKER_IDLE_S", "INGLE_WORKERS_IDLE_S"),
        ("INGLE_memory_budget", "INGLE_MEMORY_BUDGET"),
        ("INGLE_HTTPS", "INGLE_HTTP"),
        ("INGLE_CONFIGURATION", "INGLE_CONFIG"),
    ],
)
def test_a_variable_that_is_no_setting_is_named_with_the_nearest(name: str, nearest: str) -> None:
    [sentence] = unknown_variables({name: "4GiB", "HOME": "/root"})
    assert sentence.startswith(f"{name} is set, and there is no such setting")
    assert sentence.endswith(f"the nearest is {nearest}")
    assert "4GiB" not in sentence  # it may be a secret


def test_what_means_something_is_not_told_of() -> None:
    assert unknown_variables(dict.fromkeys(KNOWN, "x")) == []


def test_what_kubernetes_sets_for_a_service_of_this_name_is_not_told_of() -> None:
    assert unknown_variables(KUBERNETES) == []
    assert len(unknown_variables({"INGLE_PORT": "8000"})) == 1  # a person's


def test_very_many_are_told_of_briefly() -> None:
    told = unknown_variables({f"INGLE_X{number}": "" for number in range(1000)} | {f"INGLE_{'X' * 10000}": ""})
    assert len(told) == 9
    assert told[-1].startswith("992 more")
    assert max(map(len, told)) < 300


def test_every_variable_that_is_written_anywhere_here_is_known() -> None:
    """Whoever reads a new one enters it, or a node that is told of it would say that it changes nothing."""
    written = {name: str(path) for path in _own_files() for name in NAME.findall(path.read_text())}
    assert {name: path for name, path in written.items() if name not in KNOWN} == {}
    assert KNOWN - set(written) == set()  # README has all settings


def _own_files() -> Iterator[Path]:
    yield from (ROOT / "README.md", ROOT / "Makefile")
    for folder in ("appliance", "federation", "converters", "build", "docs", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".c", ".h", ".sh", ".spec", ".md") and path.name not in NOT_READERS:
                yield path
