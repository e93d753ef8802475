"""A file of traces is whole after each write, and neither it nor its folder grows without bound."""

import json
from pathlib import Path

import pytest

from appliance.observability import trace_file
from appliance.observability.trace_file import append


def test_each_write_leaves_an_array_that_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    for number in range(3):
        assert append(folder, "t.json", [b'{"id":%d}' % number, b"[]"])
        assert len(json.loads((folder / "t.json").read_text())) == 2 * (number + 1)


def test_a_full_file_takes_no_more_and_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_file, "MAX_FILE_BYTES", 40)
    assert append(tmp_path, "t.json", [b'"' + b"x" * 20 + b'"'])
    assert not append(tmp_path, "t.json", [b'"' + b"x" * 20 + b'"'])
    assert json.loads((tmp_path / "t.json").read_text()) == ["x" * 20]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    (tmp_path / "t.json").symlink_to(tmp_path / "out")
    with pytest.raises(OSError):
        append(tmp_path, "t.json", [b"1"])
    assert (tmp_path / "out").read_text() == "precious"
