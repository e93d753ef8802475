"""Keeps the rings of a mesh's living nodes alike, and takes a rotation from step to step. Runs in the gateway's loop.

The shell around key_rotation.py: every node tells its ring to whoever it has a link with, when the link comes up and
whenever the ring changes, so that each knows what the others hold. Sends only to who is not revoked. What is told to
whom over which link is the mesh's business.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from federation.key_rotation import PATIENCE_S, KeyHolder, Step, next_step
from federation.keyring import Keyring
from federation.messages import Introduction, Keys

MAX_HOLDERS = 1000

_log = logging.getLogger("ingle.mesh")


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
        """`living`: how those show themselves with whom there is a link. Call in the loop it is to run in."""
        self._own_id = own_id
        self._keyring = keyring
        self._living = living
        self._tell = tell
        self._clock = clock
        self._holds: dict[str, frozenset[str]] = {}
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
            self._tell([introduction.node_id], self._keyring.message())
        self.look()

    def told(self, node_id: str, keys: Keys) -> None:
        """A trusted node says what it holds. Raises BadInputError where that makes no sense."""
        revoked_before = self._keyring.revoked_count
        held = frozenset(self._keyring.ids_of(keys))
        changed = self._keyring.merge(keys)
        # Kept when its link ends: what it held it holds, and when one link takes another's place it says nothing again.
        self._holds.pop(node_id, None)
        self._holds[node_id] = held
        if len(self._holds) > MAX_HOLDERS:
            del self._holds[next(iter(self._holds))]
        if self._keyring.revoked_count > revoked_before and self._keyring.current.id not in held:
            # Somebody was thrown out elsewhere while the key was changed here: he may know the key that stands.
            self._keyring.rotate_at_once()
        elif not changed:
            self.look()

    def look(self) -> None:
        """Does what is due: to be called when a peer came, went, or shows itself otherwise."""
        if self._closed:
            return
        living = [peer for peer in self._living() if not self._keyring.is_revoked(peer.public_key)]
        holders = [KeyHolder(p.node_id, self._holds.get(p.node_id, frozenset()), p.key_id) for p in living]
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

    def close(self) -> None:
        """Does nothing any more."""
        self._closed = True
        self._keyring.listeners.remove(self._changed)
        if self._looking is not None:
            self._looking.cancel()

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
        living = [peer.node_id for peer in self._living() if not self._keyring.is_revoked(peer.public_key)]
        if living:
            self._tell(living, self._keyring.message())
        self.look()
        if self._looking is not None:
            self._looking.cancel()
        if self.step.act in ("wait", "leave"):
            self._looking = self._loop.call_later(PATIENCE_S, self.look)
