"""Who is no node: hand-made peers that say what no node would, eavesdroppers, impostors, and what they recorded."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import zmq

from appliance.core.addresses import Address
from appliance.core.requests import Buffer
from federation.credentials import introduce
from federation.dialled import DialledWire
from federation.frames import message_parts, read_message
from federation.identity import Identity, new_identity
from federation.keyring import Keyring
from federation.mesh import Mesh
from federation.messages import PROTOCOL, Head, Hello, Introduction, Ticket
from federation.sealed_stream import SealedStream, StreamEvents, StreamTuning
from federation.sealing import keys_of, new_opening
from federation.stream_ends import DialledStream
from federation.streams import Purpose
from federation.wires import Tuning
from tests.mesh.meshed import until

TUNING = Tuning(
    suspect_s=0.75,
    max_message_bytes=2**24,
    unsent_bytes=2**28,
    unsent_messages=100_000,
    type_of_service=0,
)


class Stranger:
    """An identity and the end of one connection, driven frame by frame. `heard` are the heads that came."""

    def __init__(self, identity: Identity | None = None) -> None:
        self.identity = identity or new_identity()
        self.heard: list[Head] = []
        self.begun = False
        self.ended = ""
        self._context: zmq.Context[Any] = zmq.Context()
        self.wire: DialledWire | None = None

    def shown(self, keyring: Keyring, *, port: int = 1, name: str = "stranger") -> Introduction:
        """An introduction with a credential of this ring's."""
        return introduce(self.identity, keyring, name=name, addresses=["127.0.0.1"], mesh_port=port, bulk_port=port)

    def dial(self, mesh: Mesh, port: int = 0) -> None:
        """Connects as this identity, to the mesh's port unless another is named."""
        shown = mesh.introduction
        self.ended = ""
        self.wire = DialledWire(
            self._context,
            self.identity,
            TUNING,
            public_key=shown.public_key,
            address=Address("127.0.0.1", port or shown.mesh_port),
            on_begun=self._begin,
            on_message=self._read,
            on_end=self._end,
        )

    def _begin(self, wire: DialledWire) -> None:
        self.begun = True

    def _read(self, wire: DialledWire, frames: list[zmq.Frame]) -> None:
        message = read_message([frame.buffer for frame in frames])
        assert message is not None
        self.heard.append(message[0])

    def _end(self, wire: DialledWire, reason: str) -> None:
        self.ended = reason

    def say(self, head: Head, body: tuple[Buffer, ...] = ()) -> bool:
        return self.say_parts(message_parts(head, body))

    def say_parts(self, parts: list[Buffer]) -> bool:
        assert self.wire is not None
        return self.wire.send(parts)

    async def become_member(self, mesh: Mesh, *, incarnation: int = 1, introduced: bool = True) -> None:
        """Comes in as whoever has the key: introduces itself, connects, and says HELLO."""
        shown = self.shown(mesh.keyring)
        if introduced:
            assert mesh.introduced(shown) == ""
        self.dial(mesh)
        await until(lambda: self.begun)
        self.say(Hello(PROTOCOL, "9.9.9", shown, incarnation))
        await until(lambda: any(isinstance(head, Hello) for head in self.heard))

    async def tickets(self) -> dict[int, Ticket]:
        """What a node that this member dialled gave it, by purpose."""

        def given() -> dict[int, Ticket]:
            return {head.purpose: head for head in self.heard if isinstance(head, Ticket)}

        await until(lambda: len(given()) == len(Purpose))
        return given()

    def close(self) -> None:
        if self.wire is not None:
            self.wire.end("the test is over")
        self._context.destroy(linger=0)


@contextlib.asynccontextmanager
async def stranger(identity: Identity | None = None) -> AsyncIterator[Stranger]:
    made = Stranger(identity)
    try:
        yield made
    finally:
        made.close()


class StreamEnd:
    """The dialling end of a stream that is driven by hand. `heard` are the heads that came."""

    def __init__(self, own_id: str, peer_id: str, ticket: Ticket, *, secret: bytes = b"") -> None:
        opening = new_opening(ticket.ticket_id, both_have_aes=True)
        keys = keys_of(secret or ticket.secret, opening, dialling_id=own_id, accepting_id=peer_id)
        self.heard: list[Head] = []
        self.ended = ""
        self.stream = DialledStream(
            StreamTuning(
                purpose=ticket.purpose,
                max_message_bytes=2**24,
                unsent_bytes=2**28,
                type_of_service=0,
                give_up_s=10.0,
            ),
            StreamEvents(lambda _: None, self._read, self._end),
            node_id=peer_id,
            opening=opening,
            out=keys.dialled,
            into=keys.accepted,
        )

    async def dial(self, port: int) -> bool:
        """Whether it was let in."""
        await asyncio.get_running_loop().create_connection(lambda: self.stream, "127.0.0.1", port)
        await until(lambda: self.stream.begun or self.ended)
        return self.stream.begun

    def _read(self, _: SealedStream, parts: list[Buffer], size_bytes: int) -> None:
        message = read_message(parts)
        assert message is not None
        self.heard.append(message[0])

    def _end(self, _: SealedStream, reason: str) -> None:
        self.ended = reason

    def say(self, head: Head, body: tuple[Buffer, ...] = ()) -> bool:
        return self.stream.send(message_parts(head, body))


class Tap:
    """A port that passes TCP on to another, and keeps what went there: an eavesdropper on the way. Of what is in
    `swallows`, "there" and "back", nothing is passed on, though it is read and so acknowledged."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.recorded = bytearray()
        self.connections = 0
        self.swallows: frozenset[str] = frozenset()
        self._server: asyncio.Server | None = None

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        out_reader, out_writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(self._copy(reader, out_writer, "there"), self._copy(out_reader, writer, "back"))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                if way in self.swallows:
                    continue
                if way == "there":
                    self.recorded += piece
                writer.write(piece)
                await writer.drain()
        writer.close()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
