"""Logs are one printable line a record, whatever is logged."""

import io
import logging
import re
from collections.abc import Iterator

import pytest

from appliance.observability.logs import OneLine, set_up_logs


def line(message: str, *args: object, **fields: object) -> str:
    record = logging.makeLogRecord({"name": "ingle.http", "levelno": 20, "levelname": "INFO", "created": 1.25})
    record.__dict__.update({"msg": message, "args": args, **fields})
    return OneLine().format(record)


@pytest.fixture
def untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    access = logging.getLogger("aiohttp.access").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("aiohttp.access").setLevel(access)


def test_a_record_is_time_level_name_message_and_fields() -> None:
    assert line("deployed %s", "it", model="me/x", count=3) == (
        "1970-01-01T00:00:01.250Z info http deployed it model=me/x count=3"
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [("a b", '"a b"'), ("", '""'), ('say "x"', '"say \\"x\\""'), ("é", '"é"'), ("a=b", '"a=b"'), (None, "None")],
)
def test_a_field_is_quoted_unless_it_is_one_plain_word(value: object, shown: str) -> None:
    assert line("m", word=value).endswith(f" word={shown}")


@pytest.mark.parametrize("hostile", ["a\nb", "\x1b[2J", "a\r\n2026 info fake", "\u2028", "\x00", "\ud800"])
def test_what_a_caller_sent_stays_on_one_printable_line(hostile: str) -> None:
    for written in (line("said %s", hostile), line("said", what=hostile)):
        assert written.isprintable()
        assert written.encode()


def test_a_traceback_is_folded_into_its_line(untouched_logging: None) -> None:
    stream = io.StringIO()
    set_up_logs("DEBUG", stream)
    try:
        raise ValueError("broken\nhere")
    except ValueError:
        logging.getLogger("ingle.x").exception("it failed")
    (written,) = stream.getvalue().splitlines()
    assert re.search(r'error x it failed traceback="Traceback .*ValueError: broken', written)


def test_levels_below_are_left_out_and_setting_up_again_replaces(untouched_logging: None) -> None:
    first, second = io.StringIO(), io.StringIO()
    set_up_logs("INFO", first)
    set_up_logs("WARNING", second)
    logging.getLogger("ingle.x").info("quiet")
    logging.getLogger("ingle.x").warning("loud")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1
