"""Keeps the rings of a mesh's living nodes alike, and takes a rotation from step to step. Runs in the gateway's loop.

The shell around key_rotation.py: every node tells its ring to whoever it has a link with, when the link comes up and
whenever the ring changes, so that each knows what the others hold; and again to who has not said that it holds the
same, since what is told ends with the link that it was told on. Sends only to who is not revoked. What is told to whom
over which link is the mesh's business.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from federation.key_rotation import PATIENCE_S, KeyHolder, RingTold, Step, next_step, tell_again
from federation.keyring import Keyring
from federation.messages import Introduction, Keys

MAX_HOLDERS = 1000
# A member that asks what this node holds is answered so often, whatever it sends.
_ANSWER_EVERY_S = 0.5

_log = logging.getLogger("ingle.mesh")


class _Member:
    """What a member said last, and when it was told. Kept when its link ends: what it held it holds, and when one link
    takes another's place it says nothing again."""

    def __init__(self) -> None:
        self.holds: frozenset[str] = frozenset()
        self.shows = ""
        self.ring = b""
        self.told_s = -math.inf
        self.times = 0
        self.answered_s = -math.inf


class KeyCare:
    """linked(), told() and look() are called by the mesh; close() at its end."""

    def __init__(
        self,
        own_id: str,
        keyring: Keyring,
        *,
        living: Callable[[], Iterable[Introduction]],
        tell: Callable[[Sequence[str], Keys], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`living`: those with whom there is a link. Call in the loop it is to run in."""
        self._own_id = own_id
        self._keyring = keyring
        self._living = living
        self._tell = tell
        self._clock = clock
        self._members: dict[str, _Member] = {}
        self._changed_s = clock()
        self._told_soon = False
        self._looking: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self.step = Step("done")  # how far a rotation is, for people
        keyring.listeners.append(self._changed)

    def linked(self, introduction: Introduction) -> None:
        """A link is up."""
        if not self._keyring.is_revoked(introduction.public_key):
            self._tell_ring([introduction.node_id])
        self.look()

    def told(self, node_id: str, keys: Keys) -> None:
        """A trusted node says what it holds. Raises BadInputError where that makes no sense."""
        revoked_before = self._keyring.revoked_count
        ring, held = self._keyring.hash_of(keys), frozenset(self._keyring.ids_of(keys))
        changed = self._keyring.merge(keys)
        member = self._member(node_id)
        if member.ring != ring:
            member.times = 0
        member.holds, member.shows, member.ring = held, keys.current, ring
        if self._keyring.revoked_count > revoked_before and self._keyring.current.id not in held:
            # Somebody was thrown out elsewhere while the key was changed here: he may know the key that stands.
            self._keyring.rotate_at_once()
        elif not changed:
            if keys.asks and self._clock() - member.answered_s >= _ANSWER_EVERY_S:
                member.answered_s = self._clock()
                self._tell([node_id], self._keyring.message())
            self.look()

    def look(self) -> None:
        """Does what is due: to be called when a peer came or went."""
        if self._closed:
            return
        living = self._living_ids()
        holders = [KeyHolder(node_id, (known := self._member(node_id)).holds, known.shows) for node_id in living]
        keys = [key.id for key in self._keyring.keys]
        self.step = next_step(self._own_id, keys, self._keyring.current.id, holders, self._clock() - self._changed_s)
        # Each of these calls _changed(), which looks again.
        if self.step.act == "promote":
            _log.info("the mesh key %s takes the place of %s", self.step.key_ids[0], self._keyring.current.id)
            self._keyring.make_current(self.step.key_ids[0])
        elif self.step.act == "retire":
            for key_id in self.step.key_ids:
                self._keyring.retire(key_id)
            _log.info("the mesh key is %s; retired: %s", self._keyring.current.id, ", ".join(self.step.key_ids))
        elif not self._told_soon:
            self._tell_again(living)

    def close(self) -> None:
        """Does nothing any more."""
        self._closed = True
        self._keyring.listeners.remove(self._changed)
        if self._looking is not None:
            self._looking.cancel()

    def _living_ids(self) -> list[str]:
        return [peer.node_id for peer in self._living() if not self._keyring.is_revoked(peer.public_key)]

    def _member(self, node_id: str) -> _Member:
        """The last used is the last in the dict: of too many the others go."""
        member = self._members[node_id] = self._members.pop(node_id, _Member())
        if len(self._members) > MAX_HOLDERS:
            del self._members[next(iter(self._members))]
        return member

    def _changed(self) -> None:
        self._changed_s = self._clock()
        if not self._told_soon:
            # Once for all changes of this turn, and after whoever was revoked has been cut off.
            self._told_soon = True
            self._loop.call_soon(self._tell_all)

    def _tell_all(self) -> None:
        self._told_soon = False
        if self._closed:
            return
        if living := self._living_ids():
            self._tell_ring(living)
        self.look()

    def _tell_ring(self, node_ids: Sequence[str]) -> None:
        """There is news: whoever does not answer it is soon told again."""
        for member in map(self._member, node_ids):
            member.told_s, member.times = self._clock(), 0
        self._tell(node_ids, self._keyring.message())

    def _tell_again(self, living: Sequence[str]) -> None:
        """To whom that is due, and looks again when it may be due to others, or nobody is waited for any longer."""
        now_s = self._clock()
        told = [
            RingTold(node_id, (known := self._member(node_id)).ring, known.told_s, known.times) for node_id in living
        ]
        message = self._keyring.message()
        again = tell_again(self._keyring.hash_of(message), told, now_s)
        for member in map(self._member, again.node_ids):
            member.told_s, member.times = now_s, member.times + 1
        if again.node_ids:
            self._tell(again.node_ids, replace(message, asks=True))
        next_s = min(again.next_s, self._changed_s + PATIENCE_S) if self.step.act == "wait" else again.next_s
        if self._looking is not None:
            self._looking.cancel()
        self._looking = self._loop.call_later(next_s - now_s, self.look) if next_s < math.inf else None
