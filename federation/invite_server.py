"""The inviting node's end: a TCP port that is open only while an invitation is, and what is said there.

Runs in the gateway. Knows neither keyring nor mesh: it is handed what it is to give away and whom to tell. Strangers
are bounded: few connections at once, fewer from one address, ten seconds for all of an exchange, small frames, and one
exchange's arithmetic after the other, at least _PACE_S apart.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from appliance.core.errors import BusyError, IngleError, NotFoundError
from federation.invitation_code import new_code
from federation.invitation_exchange import (
    INVITATION_PROTOCOL,
    Asked,
    Exchange,
    Frame,
    Grant,
    Granted,
    NotAgreedError,
    Offered,
    Proved,
    Refused,
    Secrets,
    Settled,
    open_introduction,
    same,
    seal,
)
from federation.invitation_frames import encoded, hang_up, receive, send
from federation.invitations import (
    LIFETIME_S,
    MAX_OPEN,
    Invitation,
    Why,
    cut_off,
    expire,
    forgotten,
    judge,
    refusal,
    settle,
)
from federation.messages import Introduction

EXCHANGE_S = 10.0
MAX_CONNECTIONS = 16
MAX_CONNECTIONS_PER_ADDRESS = 3
PUBLIC_KEY_BYTES = 32
# The arithmetic of one exchange takes some milliseconds, a little longer for some codes than for others: answers leave
# at this pace, so that neither is its time told nor can many who ask take the node's processor.
_PACE_S = 0.05

_log = logging.getLogger("ingle.mesh")


class Inviter(Protocol):
    """What an invitation needs of the node."""

    def me(self) -> Introduction:
        """This node, as it is reached."""

    def is_revoked(self, public_key: bytes) -> bool:
        """Whether the node of this key was revoked from the mesh."""

    def grant(self) -> Grant:
        """What a node that joins is given."""

    async def welcome(self, introduction: Introduction, host: str) -> None:
        """A node has joined, from this IP address: let it in at once."""


class InviteServer:
    """Open invitations and their port. Call in one event loop."""

    def __init__(
        self,
        inviter: Inviter,
        host: str,
        port: int,
        *,
        on_change: Callable[[], None] = lambda: None,
        exchange_s: float = EXCHANGE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`port` is the one to be had where it is free; else the system chooses. `on_change`: other invitations are
        open than before."""
        self._inviter = inviter
        self._host, self._wanted_port = host, port
        self._on_change = on_change
        self._exchange_s = exchange_s
        self._clock = clock
        self._invitations: dict[str, Invitation] = {}
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._from: Counter[str] = Counter()
        self._pace = asyncio.Lock()
        self._closing: asyncio.TimerHandle | None = None
        self.open_labels: frozenset[str] = frozenset()
        self.port = 0  # 0 while it is shut

    async def invite(self) -> Invitation:
        """A new invitation, with the port open. Raises BusyError where too many are, OSError where no port can be
        had."""
        self._tidy()
        if sum(i.standing == "open" for i in self._invitations.values()) >= MAX_OPEN:
            raise BusyError(f"{MAX_OPEN} invitations are open: withdraw one, or wait until one has ended")
        if self._server is None:
            await self._listen()
        code = new_code()
        while code.label in self._invitations:
            code = new_code()
        invitation = Invitation(code=code, ends_s=self._clock() + LIFETIME_S)
        self._invitations[code.label] = invitation
        self._tidy()
        return invitation

    def invitations(self) -> list[Invitation]:
        """Those that are open, and those that ended lately."""
        self._tidy()
        return list(self._invitations.values())

    def withdraw(self, label: str) -> Invitation:
        """Ends an invitation. Raises NotFoundError."""
        invitation = self._invitations.get(label)
        if invitation is None:
            raise NotFoundError(f"there is no invitation {label[:8]!r}")
        if invitation.standing == "open":
            invitation.standing = "withdrawn"
        self._tidy()
        return invitation

    async def close(self) -> None:
        """Ends all invitations, exchanges and the port."""
        for invitation in self._invitations.values():
            if invitation.standing == "open":
                invitation.standing = "withdrawn"
        self._shut()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _listen(self) -> None:
        try:
            self._server = await asyncio.start_server(self._accept, self._host, self._wanted_port, limit=8192)
        except OSError:
            self._server = await asyncio.start_server(self._accept, self._host, 0, limit=8192)
        self.port = self._server.sockets[0].getsockname()[1]

    def _tidy(self) -> None:
        """Ends what has run out, forgets what is old, and shuts the port when nothing is open. Looks again when the
        next one runs out."""
        now_s = self._clock()
        for label, invitation in tuple(self._invitations.items()):
            expire(invitation, now_s)
            if forgotten(invitation, now_s):
                del self._invitations[label]
        ends_s = [i.ends_s for i in self._invitations.values() if i.standing == "open"]
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if ends_s:
            self._closing = asyncio.get_running_loop().call_later(max(0.0, min(ends_s) - now_s) + 0.01, self._tidy)
        else:
            self._shut()
        labels = frozenset(label for label, i in self._invitations.items() if i.standing == "open")
        if labels != self.open_labels:
            self.open_labels = labels
            self._on_change()

    def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            self.port = 0
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = str((writer.get_extra_info("peername") or ("somewhere",))[0])
        self._from[host] += 1
        try:
            async with asyncio.timeout(self._exchange_s):
                if len(self._connections) > MAX_CONNECTIONS or self._from[host] > MAX_CONNECTIONS_PER_ADDRESS:
                    await self._refuse(writer, "busy")
                else:
                    await self._exchange(reader, writer, host)
        except (NotAgreedError, OSError, TimeoutError) as error:
            _log.debug("an invitation's caller at %s was hung up on: %s", host, error)
        except IngleError as error:
            _log.error("a node at %s could not be let in: %s", host, error.sentence)
            with contextlib.suppress(OSError):
                await self._refuse(writer, "failed")
        finally:
            self._from -= Counter((host,))
            await hang_up(writer)
            self._tidy()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        asked, asked_bytes = await receive(reader)
        if not isinstance(asked, Asked) or len(asked.public_key) != PUBLIC_KEY_BYTES:
            raise NotAgreedError("it did not ask")
        invitation = self._invitations.get(asked.label)
        why: Why | None = "version" if asked.protocol != INVITATION_PROTOCOL else None
        why = why or refusal(invitation, asked.public_key, self._clock())
        if invitation is None or why is not None:
            await self._refuse(writer, why or "unknown")
            return
        offered, secrets = await self._agree(invitation, asked, asked_bytes)
        await send(writer, offered)
        proved, _ = await receive(reader)
        if not isinstance(proved, Proved):
            raise NotAgreedError("it did not prove its code")
        why = judge(
            invitation,
            asked.public_key,
            same(proved.proof, secrets.joiner_proof),
            who=host,
            revoked=self._inviter.is_revoked(asked.public_key),
            now_s=self._clock(),
        )
        if why is not None:
            if why in ("wrong_code", "revoked"):
                _log.warning("an invitation: %s", invitation.notes[-1])
            await self._refuse(writer, why)
            return
        try:
            await send(writer, encoded(Granted(secrets.inviter_proof, seal(secrets.grant_key, self._inviter.grant()))))
            introduction = _settled(await receive(reader), secrets, asked)
        except (NotAgreedError, OSError, TimeoutError, asyncio.CancelledError):
            cut_off(invitation, host)
            raise
        settle(invitation, introduction.name, host)
        _log.info("an invitation: %s", invitation.notes[-1])
        await self._inviter.welcome(introduction, host)

    async def _agree(self, invitation: Invitation, asked: Asked, asked_bytes: bytes) -> tuple[bytes, Secrets]:
        """The frame to offer, and the secrets that its reader shares if it has the code. Raises NotAgreedError."""
        me = self._inviter.me()

        def agree() -> tuple[bytes, Secrets]:
            exchange = Exchange(invitation.code, "inviter")
            offered = encoded(Offered(INVITATION_PROTOCOL, exchange.element, me.node_id, me.name, me.public_key))
            return offered, exchange.agree(asked.element, asked_bytes, offered)

        async with self._pace:
            agreed, _ = await asyncio.gather(asyncio.to_thread(agree), asyncio.sleep(_PACE_S))
        return agreed

    async def _refuse(self, writer: asyncio.StreamWriter, why: Why) -> None:
        await send(writer, encoded(Refused(why)))


def _settled(received: tuple[Frame, bytes], secrets: Secrets, asked: Asked) -> Introduction:
    settled, _ = received
    if not isinstance(settled, Settled):
        raise NotAgreedError("it did not say that it has the keys")
    introduction = open_introduction(secrets.settled_key, settled.sealed)
    if (introduction.node_id, introduction.public_key) != (asked.node_id, asked.public_key):
        raise NotAgreedError("it settled as another node than it asked as")
    return introduction
