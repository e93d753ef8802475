"""Which of two connections stays: both ends must say the same, in whatever order they hear of them."""

import itertools

import pytest

from federation.link_choice import Candidate, takes_over

LOW, HIGH = "0" * 32, "f" * 32


@pytest.mark.parametrize(
    ("candidate", "current", "own_id", "taken"),
    [
        (Candidate(2, dialled=False), Candidate(1, dialled=True), LOW, True),
        (Candidate(1, dialled=True), Candidate(2, dialled=False), LOW, False),
        (Candidate(1, dialled=True), Candidate(1, dialled=False), LOW, True),
        (Candidate(1, dialled=False), Candidate(1, dialled=True), LOW, False),
        (Candidate(1, dialled=True), Candidate(1, dialled=False), HIGH, False),
        (Candidate(1, dialled=False), Candidate(1, dialled=True), HIGH, True),
        (Candidate(1, dialled=True), Candidate(1, dialled=True), HIGH, True),
        (Candidate(1, dialled=False), Candidate(1, dialled=False), LOW, True),
    ],
)
def test_a_later_life_then_the_lower_ids_dial_then_the_later_one(
    candidate: Candidate, current: Candidate, own_id: str, taken: bool
) -> None:
    peer_id = HIGH if own_id == LOW else LOW
    assert takes_over(candidate, current, own_id=own_id, peer_id=peer_id) == taken


def test_both_ends_keep_the_same_of_two_that_both_dialled_in_whatever_order_they_came_up() -> None:
    for order_at_low, order_at_high in itertools.product(itertools.permutations((LOW, HIGH)), repeat=2):
        kept = []
        for own_id, peer_id, order in ((LOW, HIGH, order_at_low), (HIGH, LOW, order_at_high)):
            current, who = Candidate(1, dialled=order[0] == own_id), order[0]
            candidate = Candidate(1, dialled=order[1] == own_id)
            if takes_over(candidate, current, own_id=own_id, peer_id=peer_id):
                who = order[1]
            kept.append(who)
        assert kept == [LOW, LOW]
