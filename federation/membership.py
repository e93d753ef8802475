"""Who is in the mesh and how each stands. Decides from what was heard and when; sends nothing itself, and never asks
mDNS whether somebody lives.

    introduced ─▶ joining ── link up ─▶ alive ◀──────── heard ─── suspect ── three times suspect_s ─▶ dead
                     │                   │  └─ silent suspect_s ──▶ ▲                                 │
                     └─ no link: dead    └─ DRAIN ─▶ draining ──────┘    a link's end: dead at once   └─ link up: alive

Silence counts where an answer is owed. A peer with which calls are exchanged is asked as soon as it is silent; one with
which none are, now and then: that its process stands still, or that the way is cut, ZeroMQ's heartbeats find.

A link's HELLO with a higher incarnation than was known: the node started anew, and nothing of before holds. With a
lower one it is of a link that is gone, or of a copy of that node's data folder: passed over, until the one that is
known has been dead for STALE_S (a restored backup may count from a lower number).
"""

from collections.abc import Iterator
from typing import Literal

from federation.messages import Hello, Introduction
from federation.peer import Peer, PeerStanding

MAX_PEERS = 1000
DEAD_AFTER = 3  # times suspect_s
JOINING_S = 5.0
RESTS_S = 2.0  # after the last call; and so long may a peer be silent that rests, before it is asked
STALE_S = 60.0
FORGET_S = 24 * 3600.0
_FIRST_DIAL_S = 0.25
_LAST_DIAL_S = 5.0
_LONG_DEAD_S = 600.0
_LONG_DEAD_DIAL_S = 60.0

Incarnation = Literal["same", "higher", "lower"]


def standing_by_silence(silent_s: float, suspect_s: float, *, draining: bool) -> PeerStanding:
    """How a peer with a link stands that has said nothing for so long."""
    if silent_s >= DEAD_AFTER * suspect_s:
        return "dead"
    if silent_s >= suspect_s:
        return "suspect"
    return "draining" if draining else "alive"


def compare_incarnations(known: int, told: int, *, dead_s: float) -> Incarnation:
    """`dead_s`: for how long the one that is known has had no link; 0 while it has one."""
    if told == known:
        return "same"
    return "higher" if told > known or dead_s >= STALE_S else "lower"


def dial_again_s(dials: int, dead_s: float) -> float:
    """How long after the `dials`-th dial in vain the next one comes: doubling, to 5 s; 60 s for the long dead."""
    if dead_s >= _LONG_DEAD_S:
        return _LONG_DEAD_DIAL_S
    return min(_LAST_DIAL_S, _FIRST_DIAL_S * 2.0 ** min(dials, 8))


class Member:
    """One other node: the peer that others read, and what membership alone keeps of it."""

    def __init__(self, introduction: Introduction, now_s: float) -> None:
        self.introduction = introduction
        self.peer = Peer(
            node_id=introduction.node_id,
            name=introduction.name,
            standing="joining",
            since_s=now_s,
            hello=Hello(0, "", introduction, 0),
        )
        self.incarnation = 0
        self.linked = False
        self.draining = False
        self.leaving = False
        self.heard_s = now_s  # when it said something, or, without a link, when that ended
        self.owes_since_s: float | None = None  # when it was asked first what it has not answered
        self.linked_s = now_s  # when the link began, or the last one did
        self.called_s = now_s  # when a call last went to it or came from it
        self.dials = 0
        self.dial_s = now_s

    @property
    def node_id(self) -> str:
        return self.peer.node_id

    def stand(self, standing: PeerStanding, now_s: float) -> bool:
        """Whether that is a change."""
        if self.peer.standing == standing:
            return False
        self.peer.standing, self.peer.since_s = standing, now_s
        return True

    def silent_s(self, now_s: float, suspect_s: float) -> float:
        """For how long it has been silent though it was asked; who is asked has been silent for half of `suspect_s`."""
        if self.owes_since_s is None:
            return 0.0
        return min(now_s - self.heard_s, now_s - self.owes_since_s + suspect_s / 2)

    def unlinked_s(self, now_s: float) -> float:
        return 0.0 if self.linked else now_s - self.heard_s


class Membership:
    """All other nodes that are known, at most MAX_PEERS. `peers` is for reading."""

    def __init__(self, suspect_s: float) -> None:
        self.peers: dict[str, Peer] = {}
        self._members: dict[str, Member] = {}
        self._suspect_s = suspect_s

    def get(self, node_id: str) -> Member | None:
        return self._members.get(node_id)

    def all(self) -> list[Member]:
        return list(self._members.values())

    def linked(self) -> Iterator[Member]:
        return (member for member in self._members.values() if member.linked)

    def meet(self, introduction: Introduction, now_s: float) -> Member | None:
        """The member of this introduction, which is new if it was not known; None where there is no room. For a new
        one the peer that has been dead for longest gives way."""
        member = self._members.get(introduction.node_id)
        if member is not None:
            return member
        if len(self._members) >= MAX_PEERS:
            dead = [member for member in self._members.values() if member.peer.standing == "dead"]
            if not dead:
                return None
            self.forget(min(dead, key=lambda member: member.peer.since_s))
        member = self._members[introduction.node_id] = Member(introduction, now_s)
        self.peers[introduction.node_id] = member.peer
        return member

    def forget(self, member: Member) -> None:
        del self._members[member.node_id]
        del self.peers[member.node_id]

    def link_up(self, member: Member, hello: Hello, now_s: float) -> Incarnation:
        """A link is there and its HELLO was heard. With "lower" nothing was changed."""
        verdict = compare_incarnations(member.incarnation, hello.incarnation, dead_s=member.unlinked_s(now_s))
        if verdict == "lower":
            return verdict
        if not member.linked:
            member.linked_s = now_s
        member.linked, member.heard_s, member.dials = True, now_s, 0
        member.owes_since_s, member.called_s = None, now_s
        member.incarnation = hello.incarnation
        self.greeted(member, hello)
        member.leaving = False
        member.stand("draining" if member.draining else "alive", now_s)
        return verdict

    def greeted(self, member: Member, hello: Hello) -> None:
        """It says of itself."""
        member.introduction = hello.introduction
        member.peer.hello, member.peer.name = hello, hello.introduction.name
        member.draining = hello.draining

    def link_down(self, member: Member, now_s: float) -> None:
        member.linked, member.heard_s, member.dials, member.dial_s = False, now_s, 0, now_s
        member.stand("dead", now_s)

    def heard(self, member: Member, now_s: float) -> bool:
        """It said something. Whether it now stands otherwise."""
        member.heard_s = max(member.heard_s, now_s)
        member.owes_since_s = None
        return member.linked and member.stand("draining" if member.draining else "alive", now_s)

    def is_to_be_asked(self, member: Member, now_s: float, heartbeat_s: float) -> bool:
        """Whether it has been silent for so long that it is asked whether it lives. A peer that said anything lately
        need not be; half of its time is left for its answer."""
        rests = now_s - member.called_s >= RESTS_S
        patience_s = max(heartbeat_s, self._suspect_s / 2)
        return now_s - member.heard_s >= (max(RESTS_S, patience_s) if rests else patience_s)

    def asked(self, member: Member, now_s: float) -> None:
        """It was asked what it answers at once."""
        if member.owes_since_s is None:
            member.owes_since_s = now_s

    def judge(self, member: Member, now_s: float) -> PeerStanding:
        """How it stands now: the caller performs the change, and cuts the link of one that is found dead."""
        if member.linked:
            silent_s = member.silent_s(now_s, self._suspect_s)
            return standing_by_silence(silent_s, self._suspect_s, draining=member.draining)
        if member.peer.standing == "joining" and now_s - member.peer.since_s < JOINING_S:
            return "joining"
        return "dead"

    def slept(self, slept_s: float, now_s: float) -> None:
        """This node itself stood still: nobody was silent meanwhile."""
        for member in self.linked():
            member.heard_s = min(now_s, member.heard_s + slept_s)
            member.called_s = min(now_s, member.called_s + slept_s)
            if member.owes_since_s is not None:
                member.owes_since_s = min(now_s, member.owes_since_s + slept_s)

    def is_to_be_dialled(self, member: Member, now_s: float) -> bool:
        """Whether a dial is due, which is then counted."""
        if member.linked or now_s < member.dial_s:
            return False
        member.dial_s = now_s + dial_again_s(member.dials, member.unlinked_s(now_s))
        member.dials += 1
        return True

    def is_to_be_forgotten(self, member: Member, now_s: float) -> bool:
        return not member.linked and (member.leaving or member.unlinked_s(now_s) >= FORGET_S)
