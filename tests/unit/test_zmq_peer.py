"""What one ZeroMQ connection may have under way, and what becomes of it when the connection ends."""

import pytest

from appliance.core.errors import BadInputError, BusyError
from appliance.gateway.zmq_peer import MAX_CALLS, Peer


class Waiting:
    abandoned = False

    def abandon(self) -> None:
        self.abandoned = True


class Sent:
    done = False


def test_calls_under_way_are_bounded_by_their_number() -> None:
    peer = Peer(100)
    for number in range(MAX_CALLS):
        peer.take(number, Waiting(), 0)
    with pytest.raises(BusyError, match="read answers") as refused:
        peer.take(MAX_CALLS, Waiting(), 0)
    assert refused.value.retry_after_s
    peer.leave(3)
    peer.take(MAX_CALLS, Waiting(), 0)


def test_calls_under_way_are_bounded_by_their_bytes_but_one_always_passes() -> None:
    peer = Peer(100)
    peer.take(1, Waiting(), 1000)
    with pytest.raises(BusyError, match="1000 bytes"):
        peer.take(2, Waiting(), 1)
    peer.leave(1)
    peer.take(3, Waiting(), 60)
    peer.take(4, Waiting(), 40)
    with pytest.raises(BusyError):
        peer.take(5, Waiting(), 1)


def test_a_number_in_use_is_refused_and_free_again_once_answered() -> None:
    peer = Peer(100)
    peer.take(7, Waiting(), 1)
    with pytest.raises(BadInputError, match="call 7"):
        peer.take(7, Waiting(), 1)
    peer.leave(7)
    peer.take(7, Waiting(), 1)


def test_unread_answers_are_bounded_by_their_bytes_but_one_always_passes() -> None:
    peer = Peer(100)
    first, second = Sent(), Sent()
    assert peer.may_send(1000)
    peer.sent(first, 1000)
    assert not peer.may_send(1)
    first.done = True
    assert peer.may_send(100)
    peer.sent(second, 60)
    assert peer.may_send(40)
    assert not peer.may_send(41)


def test_what_a_lost_connection_waited_for_is_abandoned() -> None:
    peer, calls = Peer(100), [Waiting(), Waiting(), Waiting()]
    for number, call in enumerate(calls):
        peer.take(number, call, 1)
    peer.leave(1)
    peer.gone()
    assert [call.abandoned for call in calls] == [True, False, True]
