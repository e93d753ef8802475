"""The error table in gRPC's words, and the bounds of a stream."""

import asyncio
import logging

import pytest

from appliance.core.errors import ERRORS, BusyError
from appliance.gateway.grpc_errors import STATUS, as_ingle_error
from appliance.gateway.grpc_library import grpc
from appliance.gateway.grpc_stream import MAX_IN_FLIGHT, Window


def test_every_fault_of_the_table_has_a_status() -> None:
    assert set(STATUS) == set(ERRORS)
    assert grpc.StatusCode.OK not in STATUS.values()


def test_a_fault_of_the_table_is_told_as_it_is() -> None:
    fault = BusyError("too many calls", retry_after_s=2.0)
    assert as_ingle_error(fault) is fault


def test_an_unexpected_fault_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        told = as_ingle_error(KeyError("secret"))
    assert told.code == "internal"
    assert "secret" not in told.sentence
    assert "secret" in caplog.text


def enters_at_once(window: Window, size_bytes: int) -> bool:
    """Whether the request has room without anyone leaving."""
    step = window.enter(size_bytes)
    try:
        step.send(None)
    except StopIteration:
        return True
    step.close()
    return False


def in_a_loop(check: object) -> None:
    async def run() -> None:
        check()  # type: ignore[operator]

    asyncio.run(run())


def test_a_stream_has_so_many_requests_at_work_and_no_more() -> None:
    def check() -> None:
        window = Window(max_bytes=1000)
        assert [enters_at_once(window, 1) for _ in range(MAX_IN_FLIGHT)] == [True] * MAX_IN_FLIGHT
        assert not enters_at_once(window, 1)
        window.leave(1)
        assert enters_at_once(window, 1)

    in_a_loop(check)


def test_a_stream_has_so_many_bytes_at_work_but_always_one_request() -> None:
    def check() -> None:
        window = Window(max_bytes=1000)
        assert enters_at_once(window, 5000)
        assert not enters_at_once(window, 1)
        window.leave(5000)
        assert enters_at_once(window, 600)
        assert not enters_at_once(window, 600)
        assert enters_at_once(window, 400)

    in_a_loop(check)
