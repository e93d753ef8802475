"""Levels of the log turned on and off while a process runs."""

import io
import logging
from collections.abc import Iterator

import pytest

from appliance.core.errors import BadInputError
from appliance.observability.log_switch import OURS, LogSettings, LogSwitch
from appliance.observability.logs import set_up_logs


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the process logs; as it was before, afterwards."""
    root, ours = logging.getLogger(), logging.getLogger(OURS)
    before = list(root.handlers), root.level, ours.level
    text = io.StringIO()
    set_up_logs(stream=text)
    yield text
    for handler in root.handlers:  # pytest's own among them, which outlive this test
        handler.filters[:] = [each for each in handler.filters if not isinstance(each, LogSwitch)]
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, ["info", "warning", "error", "critical"]),
        ({"log_info": False}, ["warning", "error", "critical"]),
        ({"log_warning": False}, ["info", "error", "critical"]),
        ({"log_error": False}, ["info", "warning"]),
        ({"log_verbose_level": 1}, ["debug", "info", "warning", "error", "critical"]),
        ({"log_verbose_level": 1, "log_info": False}, ["debug", "warning", "error", "critical"]),
    ],
)
def test_each_level_is_turned_on_and_off_by_itself(
    log: io.StringIO, changed: dict[str, object], words: list[str]
) -> None:
    switch = LogSwitch()
    switch.update(changed)
    logger = logging.getLogger(f"{OURS}.test")
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(logger, level)("a line")
    assert [line.split()[1] for line in log.getvalue().splitlines()] == words


def test_what_is_changed_back_is_as_before(log: io.StringIO) -> None:
    switch = LogSwitch()
    switch.update({"log_verbose_level": 1, "log_error": False})
    assert switch.update({"log_verbose_level": 0, "log_error": True}) == LogSettings()
    logging.getLogger(f"{OURS}.test").debug("nothing")
    logging.getLogger(f"{OURS}.test").error("something")
    assert "nothing" not in log.getvalue()
    assert "something" in log.getvalue()


def test_others_are_not_made_verbose(log: io.StringIO) -> None:
    LogSwitch().update({"log_verbose_level": 1})
    logging.getLogger("asyncio").debug("a line")
    assert log.getvalue() == ""


@pytest.mark.parametrize(
    "changed",
    [{"log_info": "yes"}, {"log_info": None}, {"log_verbose_level": True}, {"log_verbose_level": -1}, {"x": 1}],
)
def test_a_value_that_cannot_be_changes_nothing(log: io.StringIO, changed: dict[str, object]) -> None:
    switch = LogSwitch()
    with pytest.raises(BadInputError):
        switch.update({"log_warning": False, **changed})
    assert switch.settings == LogSettings()
