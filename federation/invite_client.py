"""The joining node's end of an invitation. Runs wherever a node joins: in the gateway, or in the command line for a
node that is not running.

Nothing of the joining node changes before the inviting one has proved that it knows the code too.
"""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from appliance.core.addresses import Address, parse_address
from appliance.core.errors import (
    BadInputError,
    BusyError,
    ForbiddenError,
    IngleError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
)
from federation.invitation_code import Code
from federation.invitation_exchange import (
    INVITATION_PROTOCOL,
    Asked,
    Exchange,
    Grant,
    Granted,
    NotAgreedError,
    Offered,
    Proved,
    Refused,
    Secrets,
    Settled,
    open_grant,
    same,
    seal,
)
from federation.invitation_frames import MAX_GRANT_BYTES, encoded, hang_up, receive, send
from federation.messages import Introduction

CONNECT_S = 5.0
EXCHANGE_S = 15.0
DEFAULT_PORT = 8006

_NEW_CODE = "ask for a new one with `ingle mesh invite`"
_REFUSALS: dict[str, tuple[type[IngleError], str]] = {
    "version": (UnsupportedError, "the inviting node runs a version of Ingle that invites differently: update both"),
    "unknown": (NotFoundError, "the node that was asked has no such invitation open: look at the code's first three"),
    "busy": (BusyError, "too many ask the inviting node at once: try again in a few seconds"),
    "used": (ForbiddenError, f"another node has used this code already: {_NEW_CODE}"),
    "joined": (ForbiddenError, f"this code was used already: {_NEW_CODE}"),
    "expired": (ForbiddenError, f"this code's ten minutes are over: {_NEW_CODE}"),
    "spent": (ForbiddenError, f"too many wrong codes were tried, and this one is no longer good: {_NEW_CODE}"),
    "withdrawn": (ForbiddenError, f"this invitation was withdrawn: {_NEW_CODE}"),
    "wrong_code": (ForbiddenError, "the code is wrong: look at it once more; after five wrong ones it ends"),
    "revoked": (
        ForbiddenError,
        "this node was revoked from that mesh, for good: as another node, with a data folder of its own, it may join",
    ),
    "failed": (UnavailableError, "the inviting node failed, and has logged why"),
}


class Joiner(NamedTuple):
    """Who joins."""

    node_id: str
    name: str
    public_key: bytes


class Host(NamedTuple):
    """The node that let this one in."""

    node_id: str
    name: str
    address: Address


async def join(
    code: Code,
    addresses: Sequence[Address],
    me: Joiner,
    keep: Callable[[Grant], Awaitable[Introduction]],
    *,
    connect_s: float = CONNECT_S,
    exchange_s: float = EXCHANGE_S,
) -> Host:
    """Joins by way of the node that has the invitation open, at the first of its addresses that answers.

    `keep` makes what was granted this node's own, all or nothing, and says how the node is reached from now on. Raises
    what it raises, and IngleError with a sentence where nobody answers, the code is wrong or the other end is none of
    ours: nothing has changed then.
    """
    address, reader, writer = await _connected(addresses, connect_s)
    kept = False

    async def keep_once(grant: Grant) -> Introduction:
        nonlocal kept
        introduction = await keep(grant)
        kept = True
        return introduction

    host = Host("", str(address), address)
    try:
        async with asyncio.timeout(exchange_s):
            host = await _exchange(code, address, me, keep_once, reader, writer)
    except (NotAgreedError, OSError, TimeoutError) as error:
        # What was kept is kept: the other side hears of this node as it hears of any other that has the key.
        if not kept:
            reason = str(error) or f"it was silent for {exchange_s:g} s"
            raise UnavailableError(
                f"{address} did not finish the invitation ({reason}): nothing has changed, try again"
            ) from None
    finally:
        await hang_up(writer)
    return host


async def _connected(
    addresses: Sequence[Address], connect_s: float
) -> tuple[Address, asyncio.StreamReader, asyncio.StreamWriter]:
    reasons = []
    for address in addresses:
        try:
            async with asyncio.timeout(connect_s):
                return address, *await asyncio.open_connection(address.host, address.port, limit=MAX_GRANT_BYTES)
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or str(error) or f"no answer in {connect_s:g} s"
            reasons.append(f"{address} ({reason})")
    raise UnavailableError(
        f"the inviting node cannot be reached at {', '.join(reasons)}: is the invitation still open there, and its "
        "port not blocked?"
    )


async def _exchange(
    code: Code,
    address: Address,
    me: Joiner,
    keep: Callable[[Grant], Awaitable[Introduction]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> Host:
    exchange = await asyncio.to_thread(Exchange, code, "joiner")
    asked = encoded(Asked(INVITATION_PROTOCOL, code.label, exchange.element, *me))
    await send(writer, asked)

    offered, offered_bytes = await receive(reader)
    _check_refused(offered)
    if not isinstance(offered, Offered):
        raise NotAgreedError("it offered nothing")
    secrets: Secrets = await asyncio.to_thread(exchange.agree, offered.element, asked, offered_bytes)
    await send(writer, encoded(Proved(secrets.joiner_proof)))

    granted, _ = await receive(reader, MAX_GRANT_BYTES)
    _check_refused(granted)
    if not isinstance(granted, Granted) or not same(granted.proof, secrets.inviter_proof):
        raise ForbiddenError(
            f"the node at {address} does not know the code, though it answered to it: either the code is wrong, or "
            "somebody stands between. Nothing has changed"
        )
    introduction = await keep(open_grant(secrets.grant_key, granted.sealed))
    await send(writer, encoded(Settled(seal(secrets.settled_key, introduction))))
    return Host(offered.node_id, offered.name, address)


def _check_refused(frame: object) -> None:
    if isinstance(frame, Refused):
        kind, sentence = _REFUSALS.get(frame.why, (ForbiddenError, "the inviting node refused, for a reason unknown"))
        raise kind(sentence)


def parse_invite_address(text: str) -> Address:
    """`HOST`, `HOST:PORT` or `[v6]:PORT` of a node that invites. Raises BadInputError."""
    bare = text.strip().removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        if ":" not in text:
            text = f"{text}:{DEFAULT_PORT}"
    else:
        text = str(Address(bare, DEFAULT_PORT))
    address = parse_address(text)
    if address is None or not address.port:
        raise BadInputError(f"'{text[:80]}' is no address of a node that invites: expected HOST:PORT")
    return address
