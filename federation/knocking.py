"""What is found at a node's ports by whoever knocks there: for people who ask why two nodes do not meet.

Runs in the command line's process, in an event loop. Looks and changes nothing: an introduction that is asked for is
never confirmed, so the node that answers keeps nothing of it.
"""

import asyncio
import errno
import secrets
import socket
import time
from typing import Literal, NamedTuple

from appliance.core.addresses import Address
from federation.introducer import ASK_BYTES, NONCE_BYTES, Act, Told, key_id_of, seal, unseal
from federation.keyring import MeshKey
from federation.messages import Introduction
from federation.sealing import BANNER

# closed: the box is there and says that nobody listens. silent: nothing came back at all.
Ending = Literal["open", "closed", "silent", "no way"]

_TRIES = 3
# ZMTP 3.1, <https://rfc.zeromq.org/spec/37/>: signature, version, mechanism, as-server, filler.
_GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"CURVE".ljust(20, b"\0") + b"\0" + bytes(31)
_MECHANISM = slice(12, 32)


class Knock(NamedTuple):
    """What a TCP port did. `is_mesh`: it answered as ZeroMQ with CURVE does, or as a port for streams. `detail`: the
    system's words where there was no way."""

    ending: Ending
    is_mesh: bool = False
    detail: str = ""


class Answer(NamedTuple):
    """What the UDP port did. `introduction`: who answered, proved by the mesh's key. `ahead_s`: how far its clock is
    before this box's, give or take half the round trip."""

    ending: Ending
    introduction: Introduction | None = None
    ahead_s: float = 0.0
    detail: str = ""


async def knock(address: Address, *, wait_s: float) -> Knock:
    """Connects to a mesh's port and reads its greeting."""
    try:
        async with asyncio.timeout(wait_s):
            reader, writer = await asyncio.open_connection(*address)
    except TimeoutError:
        return Knock("silent")
    except OSError as error:
        return Knock(_ending(error), detail=error.strerror or str(error))
    try:
        writer.write(_GREETING)
        async with asyncio.timeout(wait_s):
            if (banner := await reader.readexactly(len(BANNER))) == BANNER:
                return Knock("open", is_mesh=True)
            greeting = banner + await reader.readexactly(len(_GREETING) - len(banner))
    except (TimeoutError, OSError, asyncio.IncompleteReadError):
        return Knock("open")
    finally:
        writer.transport.abort()
    is_zeromq = greeting[0] == _GREETING[0] and greeting[9] == _GREETING[9]
    return Knock("open", is_zeromq and greeting[_MECHANISM] == _GREETING[_MECHANISM])


async def ask(address: Address, key: MeshKey, own: Introduction, *, wait_s: float) -> Answer:
    """Asks who is there by datagram, some times over within `wait_s`. Whoever has not the key says nothing."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        try:
            await loop.sock_connect(sock, tuple(address))
            for _ in range(_TRIES):
                nonce = secrets.token_bytes(NONCE_BYTES)
                sent_s = time.time()
                await loop.sock_sendall(sock, seal(Act.ASK, key, Told(own, nonce, unix_s=sent_s), ASK_BYTES))
                try:
                    async with asyncio.timeout(wait_s / _TRIES):
                        while True:
                            told = _answer(await loop.sock_recv(sock, 65536), key, nonce)
                            if told is not None:
                                ahead_s = told.unix_s - (sent_s + time.time()) / 2
                                return Answer("open", told.introduction, ahead_s)
                except TimeoutError:
                    continue
        except OSError as error:
            return Answer(_ending(error), detail=error.strerror or str(error))
    return Answer("silent")


def _answer(datagram: bytes, key: MeshKey, nonce: bytes) -> Told | None:
    read = unseal(datagram, key) if key_id_of(datagram) == key.id else None
    return read[1] if read is not None and read[0] == Act.ANSWER and read[1].echo == nonce else None


def _ending(error: OSError) -> Ending:
    return "closed" if error.errno in (errno.ECONNREFUSED, errno.ECONNRESET) else "no way"
