"""What the gateway holds at once, what moves, and how descriptors are divided: pure, by tables."""

import os

import pytest

from appliance.core.errors import BadInputError, UnavailableError
from appliance.core.machine import bound_umask, connections_allowed
from appliance.gateway.held import HeldBytes
from appliance.gateway.peers import NOBODY
from appliance.gateway.progress import LEAST_BYTES_PER_S, LOOK_S, PATIENCE_LOOKS, Progress, looked
from appliance.gateway.shared_memory import SharedMemory
from appliance.gateway.v2_infer import read_infer
from appliance.security.scopes import ANONYMOUS

NOWHERE = SharedMemory(allowed=False, max_bytes=0).of(ANONYMOUS, NOBODY)
ENOUGH = int(LEAST_BYTES_PER_S * LOOK_S)


def test_bytes_beyond_the_bound_are_refused_until_some_are_given_back() -> None:
    held = HeldBytes(100)
    held.take(60)
    held.take(40)
    with pytest.raises(UnavailableError, match="come back") as caught:
        held.take(1)
    assert caught.value.retry_after_s
    held.give_back(60)
    held.take(60)
    assert held.held_bytes == 100


def test_a_single_body_is_taken_whatever_the_bound() -> None:
    held = HeldBytes(100)
    held.take(1000)
    with pytest.raises(UnavailableError):
        held.take(1)


@pytest.mark.parametrize(
    ("reads", "unwritten", "receiving", "stuck"),
    [
        ([0] * 4, [0] * 4, False, False),  # nothing is asked
        ([0] * 4, [0] * 4, True, True),
        ([1, 2, 3, 4], [0] * 4, True, True),  # byte by byte
        ([ENOUGH, 2 * ENOUGH, 3 * ENOUGH, 4 * ENOUGH], [0] * 4, True, False),
        ([0, 0, 0, ENOUGH], [0] * 4, True, False),
        ([0] * 4, [9 * ENOUGH] * 4, False, True),  # an answer that nobody reads
        ([0] * 4, [9 * ENOUGH, 8 * ENOUGH, 7 * ENOUGH, 6 * ENOUGH], False, False),
    ],
)
def test_a_request_or_answer_that_does_not_move_for_half_a_minute_is_stuck(
    reads: list[int], unwritten: list[int], receiving: bool, stuck: bool
) -> None:
    progress = Progress()
    for read_bytes, unwritten_bytes in zip(reads, unwritten, strict=True):
        progress = looked(progress, read_bytes=read_bytes, unwritten_bytes=unwritten_bytes, receiving=receiving)
    assert progress.stuck == stuck
    assert len(reads) == PATIENCE_LOOKS


@pytest.mark.parametrize(("limit", "connections"), [(16, 4), (256, 64), (1024, 384), (20_000, 7500)])
def test_connections_leave_descriptors_to_models_and_files(limit: int, connections: int) -> None:
    assert connections_allowed(limit) == connections


def test_a_large_body_with_what_json_has_not_is_refused_and_not_parsed_by_python() -> None:
    small = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [NaN]}]}'
    assert read_infer(small, None, "m", "", NOWHERE).call.tensors[0].name == "x"
    with pytest.raises(BadInputError, match="NaN and Infinity"):
        read_infer(small.replace(b"NaN", b"NaN" + b" " * 5_000_000), None, "m", "", NOWHERE)


@pytest.mark.parametrize(("given", "taken"), [(0o000, 0o022), (0o777, 0o077), (0o027, 0o027), (0o277, 0o077)])
def test_what_the_node_makes_is_its_users_and_written_by_nobody_else(given: int, taken: int) -> None:
    before = os.umask(given)
    try:
        bound_umask()
        assert os.umask(0o077) == taken
    finally:
        os.umask(before)
