"""Which of two connections between the same two nodes is their link. Pure: both ends must come to the same answer."""

import msgspec


class Candidate(msgspec.Struct, frozen=True):
    """A connection on which both have said HELLO. `incarnation` is the other node's."""

    incarnation: int
    dialled: bool  # by this node


def takes_over(candidate: Candidate, current: Candidate, *, own_id: str, peer_id: str) -> bool:
    """Whether a connection that has come up is to be used in place of the one that was.

    The other node's later life counts before all. Of one life it is the one that the node with the lower id dialled,
    and of two that the same node dialled the later: it would not have dialled if it still had the other.
    """
    if candidate.incarnation != current.incarnation:
        return candidate.incarnation > current.incarnation
    if candidate.dialled != current.dialled:
        return candidate.dialled == (own_id < peer_id)
    return True
