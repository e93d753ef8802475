"""What tests of the command line share: a verb run in this process, on the node that all tests share."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from appliance.cli.main import run
from tests.conftest import RunningNode


class Shown(NamedTuple):
    """What a command line did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Ingle = Callable[..., Shown]


@pytest.fixture
def ingle(node: RunningNode, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ingle:
    """Runs a verb as the node's owner would on the node's own box: told nothing but where the data lies."""
    monkeypatch.setenv("INGLE_DATA_DIR", str(node.data_dir))

    def call(*arguments: object) -> Shown:
        status = run([str(argument) for argument in arguments])
        return Shown(status, *capsys.readouterr())

    return call
