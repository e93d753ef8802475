"""Introductions by datagram: how two nodes of one mesh come to know each other where multicast is blocked.

Runs in the gateway's event loop, on the UDP port of the mesh's number. Three datagrams, each under an HMAC of a mesh
key, so that whoever has none gets no answer at all:

    ASK      who I am, my nonce; padded, so that no answer is longer than what asked for it
    ANSWER   who I am, a cookie for your address and nonce, your nonce
    CONFIRM  who I am, my nonce, your cookie

An answer proves by the nonce that it was made just now, a CONFIRM by the cookie that its sender is at that address: one
that was recorded changes nothing, whatever the clocks of the two say. Nothing is kept for whoever asks.
"""

import asyncio
import contextlib
import hmac
import secrets
import socket
import struct
import time
from collections.abc import Callable
from enum import IntEnum

import msgspec

from appliance.core.addresses import Address
from federation.credentials import mac
from federation.keyring import Keyring, MeshKey
from federation.messages import Introduction

MAX_ASKED = 1024
_MAGIC = b"INGLE\x01"
_HEAD = struct.Struct("<6sB8sH")  # magic, act, key id, the text's size
_MAC_BYTES = 32
ASK_BYTES = 1200  # goes through every IPv6 link unfragmented
NONCE_BYTES = 16
_CONTEXT = b"ingle-introduction-1"
_COOKIE_S = 30.0
# A flood of datagrams has no more of the event loop than this many in this time.
_DATAGRAMS_A_TURN = 32
_REST_S = 0.01


class Act(IntEnum):
    ASK = 1
    ANSWER = 2
    CONFIRM = 3


class Told(msgspec.Struct, array_like=True):
    """What a datagram says. `echo`: what the other side's `nonce` was. `unix_s`: the sender's clock, which decides
    nothing."""

    introduction: Introduction
    nonce: bytes
    echo: bytes = b""
    unix_s: float = 0.0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Told).decode


def seal(act: Act, key: MeshKey, told: Told, size_bytes: int = 0) -> bytes:
    """A datagram, of `size_bytes` at least."""
    text = _encode(told)
    start = _HEAD.pack(_MAGIC, act, bytes.fromhex(key.id), len(text)) + text
    start += bytes(max(0, size_bytes - _MAC_BYTES - len(start)))
    return start + mac(key, _CONTEXT, start)


def key_id_of(datagram: bytes) -> str:
    """Under which key a datagram says that it is; empty where it is none of ours."""
    if len(datagram) < _HEAD.size + _MAC_BYTES or not datagram.startswith(_MAGIC):
        return ""
    return bytes(_HEAD.unpack_from(datagram)[2]).hex()


def unseal(datagram: bytes, key: MeshKey) -> tuple[Act, Told] | None:
    """What a datagram under this key says; None where it was not made with it, or makes no sense."""
    if not hmac.compare_digest(mac(key, _CONTEXT, datagram[:-_MAC_BYTES]), datagram[-_MAC_BYTES:]):
        return None
    _, act, _, size = _HEAD.unpack_from(datagram)
    try:
        told = _decode(datagram[_HEAD.size : -_MAC_BYTES][:size])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return (Act(act), told) if act in iter(Act) else None


class Introducer:
    """open(), then ask(). `on_met(introduction, host)`: a node of this mesh has proved that it is at this host, now."""

    def __init__(
        self,
        keyring: Keyring,
        *,
        shown: Callable[[Introduction | None], Introduction],
        is_believed: Callable[[Introduction], bool],
        on_met: Callable[[Introduction, str], None],
    ) -> None:
        """`shown` gives how this node introduces itself, to that node if one is named."""
        self._keyring = keyring
        self._shown = shown
        self._is_believed = is_believed
        self._on_met = on_met
        self._loop = asyncio.get_running_loop()
        self._cookie_key = secrets.token_bytes(32)
        self._asked: dict[bytes, float] = {}  # when, by nonce; the oldest first
        self._socket: socket.socket | None = None

    def open(self, address: Address) -> int:
        """Listens, in place of where it did before; the port. Raises OSError where it cannot be had."""
        self.close()
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._socket = sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(tuple(address))
        except OSError as error:
            self.close()
            raise OSError(error.errno, f"cannot listen for introductions on UDP {address}: {error.strerror}") from None
        self._loop.add_reader(sock, self._read)
        return int(sock.getsockname()[1])

    def close(self) -> None:
        """Answers no more."""
        sock, self._socket = self._socket, None
        if sock is not None:
            self._loop.remove_reader(sock)
            sock.close()

    def ask(self, address: Address) -> None:
        """Introduces this node to whoever is at this IP address. A datagram may be lost: ask again."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        self._asked[nonce] = self._loop.time()
        if len(self._asked) > MAX_ASKED:
            del self._asked[next(iter(self._asked))]
        key = self._keyring.current
        self._send(seal(Act.ASK, key, self._tell(None, nonce), ASK_BYTES), tuple(address))

    def _tell(self, to: Introduction | None, nonce: bytes, echo: bytes = b"") -> Told:
        return Told(self._shown(to), nonce, echo, time.time())

    def _send(self, datagram: bytes, to: tuple[object, ...]) -> None:
        assert self._socket is not None
        host, port = str(to[0]), to[1]
        if self._socket.family == socket.AF_INET6 and ":" not in host:
            host = f"::ffff:{host}"
        with contextlib.suppress(OSError):  # no way there, or no room: it is said again
            self._socket.sendto(datagram, (host, port))

    # What comes.

    def _read(self) -> None:
        sock = self._socket
        assert sock is not None
        for _ in range(_DATAGRAMS_A_TURN):
            try:
                datagram, sender = sock.recvfrom(65536)
            except BlockingIOError:
                return
            except OSError:  # what was sent before could not be delivered
                continue
            self._heard(datagram, sender)
            if sock.fileno() < 0:  # what was heard made somebody close it
                return
        self._loop.remove_reader(sock)
        self._loop.call_later(_REST_S, self._read_on)

    def _read_on(self) -> None:
        if self._socket is not None:
            self._loop.add_reader(self._socket, self._read)

    def _heard(self, datagram: bytes, sender: tuple[object, ...]) -> None:
        key_id = key_id_of(datagram)
        key = self._keyring.get(key_id) or self._keyring.get_retired(key_id, time.time())
        if key is None or (read := unseal(datagram, key)) is None:
            return
        act, told = read
        if len(told.nonce) != NONCE_BYTES or not self._is_believed(told.introduction):
            return
        if act == Act.ASK:
            cookie = self._cookie(sender, told.nonce, 0)
            answer = seal(Act.ANSWER, key, self._tell(told.introduction, cookie, told.nonce))
            if len(answer) <= len(datagram):
                self._send(answer, sender)
        elif act == Act.ANSWER:
            if self._asked.pop(told.echo, None) is not None:
                self._send(seal(Act.CONFIRM, key, self._tell(told.introduction, told.echo, told.nonce)), sender)
                self._on_met(told.introduction, _host(sender))
        elif any(hmac.compare_digest(self._cookie(sender, told.nonce, age), told.echo) for age in (0, 1)):
            self._on_met(told.introduction, _host(sender))

    def _cookie(self, sender: tuple[object, ...], nonce: bytes, age: int) -> bytes:
        """What only whoever is at this address was told lately."""
        epoch = int(self._loop.time() / _COOKIE_S) - age
        said = f"{epoch} {sender[0]} {sender[1]} ".encode() + nonce
        return hmac.digest(self._cookie_key, said, "sha256")[:NONCE_BYTES]


def _host(sender: tuple[object, ...]) -> str:
    return str(sender[0]).removeprefix("::ffff:")
