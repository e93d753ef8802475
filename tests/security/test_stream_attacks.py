"""Streams, and whoever should have none: without a ticket, with a stolen one, with what was recorded, and too many."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop
from msgspec.structs import replace

from federation.listener import MAX_STRANGERS
from federation.mesh import Mesh
from federation.messages import Chunk, Drain, Head, Streamed, Ticket
from federation.sealed_stream import SIZE
from federation.sealing import (
    BANNER,
    OPENING_BYTES,
    SECRET_BYTES,
    TAG_BYTES,
    TICKET_ID_BYTES,
    keys_of,
    new_opening,
)
from federation.streams import Purpose
from tests.mesh.meshed import shells, stands, until
from tests.mesh.strangers import Stranger, StreamEnd, Tap, stranger
from tests.mesh.test_links import invoke
from tests.mesh.test_streams import heard_by, streaming, streaming_pair


@contextlib.asynccontextmanager
async def member_of_a_mesh(folder: Path) -> AsyncIterator[tuple[Mesh, Stranger, dict[int, Ticket]]]:
    """A node, a member whose streams are dialled by hand, and the tickets that the node gave it."""
    async with shells(folder) as nodes, stranger() as member:
        mesh = await nodes.start("node")
        await member.become_member(mesh)
        yield mesh, member, await member.tickets()


def end_of(member: Stranger, mesh: Mesh, ticket: Ticket, *, secret: bytes = b"") -> StreamEnd:
    return StreamEnd(member.identity.node_id, mesh.node_id, ticket, secret=secret)


def test_a_member_is_heard_on_the_stream_that_its_ticket_opens(tmp_path: Path) -> None:
    async def run() -> None:
        async with member_of_a_mesh(tmp_path) as (mesh, member, tickets):
            heard = heard_by(mesh)
            end = end_of(member, mesh, tickets[Purpose.CALLS])
            assert await end.dial(mesh.introduction.bulk_port)
            member.say(Streamed(tickets[Purpose.CALLS].ticket_id))
            assert end.say(invoke(7, 3), (b"abc",))
            await until(lambda: heard)
            assert mesh.send(member.identity.node_id, invoke(8, 3), [b"abc"])
            await until(lambda: end.heard)

    uvloop.run(run())


def test_without_a_ticket_there_is_no_stream(tmp_path: Path) -> None:
    async def run() -> None:
        async with member_of_a_mesh(tmp_path) as (mesh, member, tickets):
            for made_up in (
                Ticket(bytes(TICKET_ID_BYTES), bytes(SECRET_BYTES), Purpose.CALLS),
                Ticket(bytes(TICKET_ID_BYTES), tickets[Purpose.CALLS].secret, Purpose.CALLS),
            ):
                assert not await end_of(member, mesh, made_up).dial(mesh.introduction.bulk_port)
            assert not mesh._links._links[member.identity.node_id].streams

    uvloop.run(run())


def test_a_ticket_that_was_seen_on_the_wire_is_no_use_without_its_secret_and_stays_its_owners(tmp_path: Path) -> None:
    async def run() -> None:
        async with member_of_a_mesh(tmp_path) as (mesh, member, tickets):
            ticket = tickets[Purpose.CALLS]
            thief = end_of(member, mesh, ticket, secret=bytes(SECRET_BYTES))
            assert not await thief.dial(mesh.introduction.bulk_port)
            assert await end_of(member, mesh, ticket).dial(mesh.introduction.bulk_port)

    uvloop.run(run())


def test_a_ticket_is_good_for_one_stream(tmp_path: Path) -> None:
    async def run() -> None:
        async with member_of_a_mesh(tmp_path) as (mesh, member, tickets):
            first, second = (end_of(member, mesh, tickets[Purpose.COPIES]) for _ in range(2))
            assert await first.dial(mesh.introduction.bulk_port)
            assert not await second.dial(mesh.introduction.bulk_port)
            assert not first.ended

    uvloop.run(run())


def test_an_opening_that_is_repeated_before_it_is_proved_opens_one_stream(tmp_path: Path) -> None:
    """By someone on the way: two streams with the same keys would seal different records with the same nonces."""

    async def run() -> None:
        async with member_of_a_mesh(tmp_path) as (mesh, member, tickets):
            ticket = tickets[Purpose.COPIES]
            opening = new_opening(ticket.ticket_id, both_have_aes=True)
            node_id = member.identity.node_id
            keys = keys_of(ticket.secret, opening, dialling_id=node_id, accepting_id=mesh.node_id)
            proof = keys.dialled.seal(b"")
            reader, writer = await asyncio.open_connection("127.0.0.1", mesh.introduction.bulk_port)
            again_reader, again_writer = await asyncio.open_connection("127.0.0.1", mesh.introduction.bulk_port)
            for one in (writer, again_writer):
                one.write(opening.encoded())
            strangers = mesh._links._streams._strangers
            await until(lambda: [stranger.ticket_id for stranger in strangers] == [ticket.ticket_id] * 2)
            for one in (writer, again_writer):
                one.write(SIZE.pack(len(proof)) + proof)
            await until(lambda: not strangers)
            assert len(mesh._links._links[node_id].streams[Purpose.COPIES]) == 1
            said = await reader.readexactly(len(BANNER) + SIZE.size + TAG_BYTES)
            assert keys.accepted.open(said[-TAG_BYTES:]) == b""
            with contextlib.suppress(ConnectionError):
                assert await again_reader.read() in (BANNER, b"")  # and no record
            for one in (writer, again_writer):
                one.close()

    uvloop.run(run())


def test_a_ticket_that_ends_before_its_opening_is_proved_opens_nothing(tmp_path: Path) -> None:
    """Else whoever waits with the proof would have a stream beside a link that its ticket was not said on."""

    async def run() -> None:
        async with member_of_a_mesh(tmp_path) as (mesh, member, tickets):
            ticket = tickets[Purpose.CALLS]
            opening = new_opening(ticket.ticket_id, both_have_aes=True)
            node_id = member.identity.node_id
            keys = keys_of(ticket.secret, opening, dialling_id=node_id, accepting_id=mesh.node_id)
            reader, writer = await asyncio.open_connection("127.0.0.1", mesh.introduction.bulk_port)
            writer.write(opening.encoded())
            await until(lambda: any(stranger.ticket_id for stranger in mesh._links._streams._strangers))
            mesh._links.cut(node_id, "the test says so")
            await until(lambda: member.ended)
            member.begun = False
            member.heard.clear()
            await member.become_member(mesh, introduced=False)
            proof = keys.dialled.seal(b"")
            writer.write(SIZE.pack(len(proof)) + proof)
            await until(lambda: not mesh._links._streams._strangers)
            assert not mesh._links._links[node_id].streams
            with contextlib.suppress(ConnectionError):
                assert await reader.read() in (BANNER, b"")
            writer.close()

    uvloop.run(run())


def test_a_ticket_of_another_member_opens_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with member_of_a_mesh(tmp_path) as (mesh, member, tickets), stranger() as other:
            await other.become_member(mesh)
            stolen = end_of(other, mesh, tickets[Purpose.CALLS])
            assert not await stolen.dial(mesh.introduction.bulk_port)
            assert await end_of(member, mesh, tickets[Purpose.CALLS]).dial(mesh.introduction.bulk_port)

    uvloop.run(run())


def test_a_recorded_stream_says_nothing_when_it_is_played_again_and_shows_no_byte(tmp_path: Path) -> None:
    async def run() -> None:
        async with member_of_a_mesh(tmp_path) as (mesh, member, tickets):
            heard = heard_by(mesh)
            ticket = tickets[Purpose.CALLS]
            tap = Tap(mesh.introduction.bulk_port)
            end = end_of(member, mesh, ticket)
            assert await end.dial(await tap.open())
            member.say(Streamed(ticket.ticket_id))
            secret = b"what nobody is to see " * 2000
            assert end.say(invoke(7, len(secret)), (secret,))
            await until(lambda: heard)
            assert len(tap.recorded) > len(secret)
            assert secret[:22] not in tap.recorded
            assert b"local/m" not in tap.recorded
            end.stream.end("enough")
            tap.close()
            for recorded in (bytes(tap.recorded), bytes(tap.recorded)[: OPENING_BYTES + SIZE.size + 16]):
                reader, writer = await asyncio.open_connection("127.0.0.1", mesh.introduction.bulk_port)
                writer.write(recorded)
                with contextlib.suppress(ConnectionError):
                    while await reader.read(65536):
                        pass
                writer.close()
            assert len(heard) == 1

    uvloop.run(run())


GARBAGE = {
    "nothing": b"\0" * OPENING_BYTES,
    "noise": b"\xff" * 5000,
    "ZeroMQ's greeting": b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(52, b"\0"),
    "HTTP": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 10,
    "an opening alone": new_opening(bytes(TICKET_ID_BYTES), both_have_aes=True).encoded() + b"\xff\xff\xff\xff",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_is_no_stream_and_the_connection_ends(tmp_path: Path, what: str) -> None:
    async def run() -> None:
        async with streaming_pair(tmp_path) as (_, one, other):
            reader, writer = await asyncio.open_connection("127.0.0.1", one.introduction.bulk_port)
            writer.write(GARBAGE[what])
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
            assert not one._links._streams._strangers
            assert stands(one, other) == stands(other, one) == "alive"

    uvloop.run(run())


def test_a_stranger_may_not_have_a_large_record_kept_for_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with member_of_a_mesh(tmp_path) as (mesh, _, tickets):
            reader, writer = await asyncio.open_connection("127.0.0.1", mesh.introduction.bulk_port)
            opening = new_opening(tickets[Purpose.CALLS].ticket_id, both_have_aes=True)
            writer.write(opening.encoded() + SIZE.pack(4_000_000) + bytes(100))
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()

    uvloop.run(run())


def test_very_many_connections_that_say_nothing_keep_no_stream_from_being_made(tmp_path: Path) -> None:
    async def run() -> None:
        async with member_of_a_mesh(tmp_path) as (mesh, member, tickets):
            writers = []
            for _ in range(MAX_STRANGERS + 50):
                _, writer = await asyncio.open_connection("127.0.0.1", mesh.introduction.bulk_port)
                writers.append(writer)
            assert await end_of(member, mesh, tickets[Purpose.CALLS]).dial(mesh.introduction.bulk_port)
            assert len(mesh._links._streams._strangers) <= MAX_STRANGERS
            for writer in writers:
                writer.close()

    uvloop.run(run())


def test_as_many_may_connect_in_one_turn_of_the_loop_as_strangers_may_wait(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            mesh = await nodes.start("node")
            await asyncio.sleep(0)
            with contextlib.ExitStack() as open_ones:
                for _ in range(MAX_STRANGERS):  # one that the system does not take waits for its second SYN, and longer
                    address = ("127.0.0.1", mesh.introduction.bulk_port)
                    open_ones.enter_context(socket.create_connection(address, timeout=5.0))
                await until(lambda: len(mesh._links._streams._strangers) == MAX_STRANGERS)

    uvloop.run(run())


def test_whoever_tells_of_a_node_with_another_port_for_streams_keeps_none_from_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A credential is seen by all on the LAN, and proves no port; what is said on the link counts."""
    monkeypatch.setattr("federation.introducer.Introducer.ask", lambda *_: None)  # no word by datagram comes between

    async def run() -> None:
        async with shells(tmp_path) as nodes:
            started = [await nodes.start(name) for name in ("one", "other")]
            dialling, dialled = sorted(started, key=lambda mesh: mesh.node_id)
            assert dialled.introduced(dialling.introduction) == ""
            assert dialling.introduced(replace(dialled.introduction, bulk_port=1)) == ""
            await streaming(dialling, dialled)

    uvloop.run(run())


@pytest.mark.parametrize(("purpose", "head"), [(Purpose.CALLS, Drain()), (Purpose.COPIES, invoke(7, 3))])
def test_what_is_not_for_a_stream_is_not_heard_on_it(tmp_path: Path, purpose: Purpose, head: Head) -> None:
    async def run() -> None:
        async with member_of_a_mesh(tmp_path) as (mesh, member, tickets):
            heard = heard_by(mesh)
            copies: list[Head] = []
            mesh.on_copy = lambda _, said, __: copies.append(said)
            end = end_of(member, mesh, tickets[purpose])
            assert await end.dial(mesh.introduction.bulk_port)
            member.say(Streamed(tickets[purpose].ticket_id))
            assert end.say(head, (b"abc",))
            assert end.say(*((invoke(8, 3), (b"abc",)) if purpose == Purpose.CALLS else (Chunk(1, 3), (b"abc",))))
            await until(lambda: heard or copies)
            assert [said.call for said, _ in heard] == ([8] if purpose == Purpose.CALLS else [])
            assert mesh.by_id[member.identity.node_id].standing == "alive"

    uvloop.run(run())


def test_streams_end_with_the_right_to_them(tmp_path: Path) -> None:
    async def run() -> None:
        async with member_of_a_mesh(tmp_path) as (mesh, member, tickets):
            ends = [end_of(member, mesh, ticket) for ticket in tickets.values()]
            for end in ends:
                assert await end.dial(mesh.introduction.bulk_port)
            heard = heard_by(mesh)
            mesh.keyring.revoke([member.identity.public_key])
            await until(lambda: all(end.ended for end in ends))
            assert not heard
            assert not await end_of(member, mesh, tickets[Purpose.CALLS]).dial(mesh.introduction.bulk_port)

    uvloop.run(run())


def test_an_unused_ticket_ends_with_its_link(tmp_path: Path) -> None:
    async def run() -> None:
        async with member_of_a_mesh(tmp_path) as (mesh, member, tickets):
            assert member.wire is not None
            member.wire.end("it goes")
            await until(lambda: mesh.by_id[member.identity.node_id].standing == "dead")
            assert not await end_of(member, mesh, tickets[Purpose.COPIES]).dial(mesh.introduction.bulk_port)
            assert not mesh._links._streams._given

    uvloop.run(run())
