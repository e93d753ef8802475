"""Invitations decided: codes as people type them, tries, ends, and who may still use one."""

import pytest

from appliance.core.errors import BadInputError
from federation.invitation_code import ALPHABET, Code, new_code, parse_code
from federation.invitations import LIFETIME_S, TRIES, Invitation, cut_off, forgotten, judge, refusal, settle

ALICE, MALLORY = b"a" * 32, b"m" * 32


def invitation() -> Invitation:
    return Invitation(code=Code("K7M", "4QXT2W"), ends_s=LIFETIME_S)


def proof(invitation: Invitation, key: bytes, good: bool, *, revoked: bool = False, now_s: float = 1.0) -> str | None:
    return judge(invitation, key, good, who="192.0.2.9", revoked=revoked, now_s=now_s)


@pytest.mark.parametrize(
    "typed", ["K7M-4QX-T2W", "k7m-4qx-t2w", "k7m4qxt2w", " K7M 4QX\tT2W\n", "K7M_4QX.T2W", "K7M-4QX-T2W".lower()]
)
def test_a_code_may_be_typed_in_any_way(typed: str) -> None:
    assert parse_code(typed) == Code("K7M", "4QXT2W")


def test_what_looks_alike_is_read_as_what_it_looks_like() -> None:
    assert parse_code("oil-0Q1-LIO") == Code("011", "0Q1110")


@pytest.mark.parametrize("typed", ["", "K7M-4QX-T2", "K7M-4QX-T2WW", "K7M-4QX-T2U", "K7M-4QX-T2é", "K7M/4QX/T2W"])
def test_what_is_no_code_is_refused_with_a_sentence(typed: str) -> None:
    with pytest.raises(BadInputError, match="nine letters and digits"):
        parse_code(typed)


def test_codes_are_read_as_they_are_shown_and_have_no_look_alikes() -> None:
    codes = [new_code() for _ in range(300)]
    assert [parse_code(str(code)) for code in codes] == codes
    assert set("".join(code.label + code.secret for code in codes)) == set(ALPHABET)
    assert not set("ILOU") & set(ALPHABET)


def test_no_invitation_is_begun_with_that_is_unknown_over_or_another_nodes() -> None:
    assert refusal(None, ALICE, 1.0) == "unknown"
    assert refusal(invitation(), ALICE, 1.0) is None
    assert refusal(invitation(), ALICE, LIFETIME_S) == "expired"
    bound = invitation()
    assert proof(bound, ALICE, True) is None
    assert refusal(bound, ALICE, 2.0) is None  # cut off, it may ask again
    assert refusal(bound, MALLORY, 2.0) == "used"
    settle(bound, "alice", "192.0.2.1")
    assert refusal(bound, ALICE, 3.0) == "joined"


def test_five_wrong_codes_end_an_invitation_however_many_exchanges_were_begun_before() -> None:
    guessed = invitation()
    assert [refusal(guessed, bytes([i]) * 32, 1.0) for i in range(9)] == [None] * 9
    answers = [proof(guessed, bytes([i]) * 32, False) for i in range(9)]
    assert answers == ["wrong_code"] * TRIES + ["spent"] * (9 - TRIES)
    assert proof(guessed, ALICE, True) == "spent"
    assert guessed.bound_to == b""
    assert guessed.notes[0] == "a wrong code came from 192.0.2.9: 4 tries are left"
    assert guessed.notes[-1].endswith("that was the last try, the invitation is over")


def test_a_proof_that_comes_too_late_or_second_is_no_good() -> None:
    late = invitation()
    assert proof(late, ALICE, True, now_s=LIFETIME_S + 1) == "expired"
    raced = invitation()
    assert proof(raced, ALICE, True) is None
    assert proof(raced, MALLORY, True) == "used"
    assert raced.bound_to == ALICE


def test_a_revoked_node_with_the_code_is_not_let_in_and_ends_the_invitation() -> None:
    asked = invitation()
    assert proof(asked, MALLORY, False, revoked=True) == "wrong_code"  # nobody without the code learns of revocations
    assert proof(asked, MALLORY, True, revoked=True) == "revoked"
    assert (asked.standing, asked.bound_to) == ("withdrawn", b"")


def test_who_was_cut_off_is_told_of_and_what_ended_is_forgotten_after_a_while() -> None:
    cut = invitation()
    assert proof(cut, ALICE, True) is None
    cut_off(cut, "192.0.2.1")
    assert "same code is good for it again" in cut.notes[-1]
    assert not forgotten(cut, 5 * LIFETIME_S)  # while it is open it is never forgotten
    settle(cut, "alice", "192.0.2.1")
    assert [forgotten(cut, after_s) for after_s in (LIFETIME_S, 2 * LIFETIME_S)] == [False, True]


def test_notes_are_bounded() -> None:
    cut = invitation()
    for _ in range(1000):
        cut_off(cut, "192.0.2.1")
    assert len(cut.notes) == 20
