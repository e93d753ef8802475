"""What `ingle why` says of a call for which no node was chosen: what is so, where that is known."""

import pytest

from appliance.cli.why import why_none_was_chosen
from appliance.client_answers import CallRecord, Seconds


def record(status: str) -> CallRecord:
    return CallRecord("c1", "me/model", "1.0.0", "attic", status, Seconds())


@pytest.mark.parametrize(
    ("status", "is_alone", "words"),
    [
        ("ok", True, "'attic' is alone"),
        ("worker_failed", True, "'attic' is alone"),
        ("worker_failed", False, "remembered of answered calls alone"),
        ("ok", False, "another node asked this one to"),
    ],
)
def test_why_none_was_chosen_is_said_as_far_as_it_is_known(status: str, is_alone: bool, words: str) -> None:
    assert words in why_none_was_chosen(record(status), is_alone=is_alone)


def test_of_a_node_that_is_alone_nothing_is_left_open() -> None:
    assert " or " not in why_none_was_chosen(record("ok"), is_alone=True)
