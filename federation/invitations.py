"""Invitations that a node has open, and what becomes of them: pure decisions, no socket and no clock.

Runs in the gateway. Times are readings of a monotonic clock. Every change is remembered as a sentence, because a person
waits beside it and must learn that somebody guesses.
"""

from typing import Literal

import msgspec

from federation.invitation_code import Code

LIFETIME_S = 600.0
TRIES = 5
MAX_OPEN = 16
# Ended ones are shown for as long again, so that whoever waits for one learns how it ended.
_MAX_NOTES = 20

# `joined` is the good end. `spent`: too many wrong codes.
Standing = Literal["open", "joined", "expired", "spent", "withdrawn"]
# Why somebody who asks is sent away. used: another node proved the code; revoked: the node that asks was, earlier;
# unknown: no invitation of that label; failed: a fault of the inviting node's.
Why = Literal[
    "version", "unknown", "busy", "used", "joined", "expired", "spent", "withdrawn", "wrong_code", "revoked", "failed"
]


class Invitation(msgspec.Struct, kw_only=True):
    """One code. `bound_to`: the public key of the node that proved it and was given the keys; it may ask again with the
    same code until it has said that it kept them, nobody else may. `joined`: that node's name."""

    code: Code
    ends_s: float
    standing: Standing = "open"
    tries_left: int = TRIES
    bound_to: bytes = b""
    joined: str = ""
    notes: list[str] = []


def refusal(invitation: Invitation | None, public_key: bytes, now_s: float) -> Why | None:
    """Why no exchange is begun with the node of this key; None where one is. Nothing is counted yet: who is given an
    element learns nothing until it has proved its code."""
    if invitation is None:
        return "unknown"
    expire(invitation, now_s)
    if invitation.standing != "open":
        return invitation.standing
    if invitation.bound_to and invitation.bound_to != public_key:
        return "used"
    return None


def judge(
    invitation: Invitation, public_key: bytes, proof_is_good: bool, *, who: str, revoked: bool, now_s: float
) -> Why | None:
    """Counts one proof, and says why no key is given for it; None where it is given, to this node alone from now on.

    Called when the proof has come, however many exchanges were begun at once: each costs its try here. `who` is an
    address, for the sentence.
    """
    if (why := refusal(invitation, public_key, now_s)) is not None:
        return why
    if not proof_is_good:
        invitation.tries_left -= 1
        if invitation.tries_left == 0:
            invitation.standing = "spent"
        _note(invitation, f"a wrong code came from {who}: {_tries(invitation.tries_left)}")
        return "wrong_code"
    if revoked:
        invitation.standing = "withdrawn"
        _note(invitation, f"the node at {who} proved the code, but was revoked from this mesh: it was not let in")
        return "revoked"
    invitation.bound_to = public_key
    return None


def settle(invitation: Invitation, name: str, who: str) -> None:
    """The node that was given the keys has kept them."""
    invitation.standing = "joined"
    invitation.joined = name
    _note(invitation, f"'{name}' joined from {who}")


def cut_off(invitation: Invitation, who: str) -> None:
    """The node that was given the keys did not say that it kept them."""
    if invitation.standing == "open":
        _note(invitation, f"the node at {who} was cut off before it had joined: the same code is good for it again")


def expire(invitation: Invitation, now_s: float) -> None:
    """Ends it where its time is over."""
    if invitation.standing == "open" and now_s >= invitation.ends_s:
        invitation.standing = "expired"


def forgotten(invitation: Invitation, now_s: float) -> bool:
    """Whether nobody need be told of it any more: it ended, and as long again has passed."""
    return invitation.standing != "open" and now_s >= invitation.ends_s + LIFETIME_S


def _tries(left: int) -> str:
    if left == 0:
        return "that was the last try, the invitation is over"
    return f"{left} {'try is' if left == 1 else 'tries are'} left"


def _note(invitation: Invitation, sentence: str) -> None:
    invitation.notes = [*invitation.notes[-_MAX_NOTES + 1 :], sentence]
