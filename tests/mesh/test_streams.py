"""Streams between nodes, with real sockets: calls and copies go on them, in order, and whatever ends is told."""

import asyncio
import contextlib
import ctypes
import socket
import struct
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
import uvloop

from appliance.core.addresses import Address
from federation.frames import message_parts
from federation.knocking import Knock, knock
from federation.mesh import Mesh
from federation.messages import Cancel, Chunk, Head, MeshInvoke, Streamed, Ticket
from federation.sealed_stream import _RECORD_COSTS_BYTES, _TURN_BYTES, RECORD_BYTES, SealedStream
from federation.sealing import SECRET_BYTES, TICKET_ID_BYTES
from federation.streams import _STEADY_S, Purpose, _Given
from tests.mesh.meshed import MAX_BODY_BYTES, Shells, shells, until
from tests.mesh.strangers import StreamEnd, Tap, stranger
from tests.mesh.test_links import invoke, reply


def stream(one: Mesh, other: Mesh, purpose: Purpose = Purpose.CALLS) -> SealedStream | None:
    """One's, where there is one."""
    link = one._links._links.get(other.node_id)
    streams = link.streams.get(purpose) if link is not None else None
    return streams[0] if streams else None


async def far_end(near: SealedStream, mesh: Mesh, other: Mesh) -> SealedStream:
    """The mesh's end of a stream of the other's, once it has begun there too: where both dialled there are two."""
    streams = mesh._links._links[other.node_id].streams[near.purpose]
    await until(lambda: any(stream.ticket_id == near.ticket_id for stream in streams))
    return next(stream for stream in streams if stream.ticket_id == near.ticket_id)


async def streaming(*meshes: Mesh) -> None:
    """Returns when each has both streams with each other one."""
    await until(
        lambda: all(
            stream(one, other, purpose) for one in meshes for other in meshes if one is not other for purpose in Purpose
        )
    )


@contextlib.asynccontextmanager
async def streaming_pair(folder: Path) -> AsyncIterator[tuple[Shells, Mesh, Mesh]]:
    """Two nodes with both streams between them, and what starts others."""
    async with shells(folder) as nodes:
        one, other = await nodes.pair()
        await streaming(one, other)
        yield nodes, one, other


@contextlib.asynccontextmanager
async def pair_with_something_between(folder: Path) -> AsyncIterator[tuple[Shells, Mesh, Mesh, list[Tap]]]:
    """The same, with whatever these do between the streams' ends; the link goes past them."""
    async with shells(folder) as nodes:
        one, other = await nodes.start("one"), await nodes.start("other")
        taps = []
        for mesh in (one, other):
            port, bulk_port = mesh._ports
            taps.append(Tap(bulk_port))
            mesh._ports = (port, await taps[-1].open())
            mesh._show_myself()
        one.join(nodes.address[other.node_id])
        await nodes.met(one, other)
        await streaming(one, other)
        try:
            yield nodes, one, other, taps
        finally:
            for tap in taps:
                tap.close()


@pytest.fixture
def without_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that leave unread what is said, for as long as a loaded machine takes."""
    monkeypatch.setattr("federation.stream_watch._LOOK_EVERY_S", 600.0)


@pytest.fixture
def quick_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value_s in (("_LOOK_EVERY_S", 0.01), ("_PATIENCE_S", 0.1), ("_UNTAKEN_PATIENCE_S", 0.2)):
        monkeypatch.setattr(f"federation.stream_watch.{name}", value_s)


def heard_by(mesh: Mesh) -> list[tuple[Head, list[bytes]]]:
    heard: list[tuple[Head, list[bytes]]] = []
    mesh.on_call = lambda _, head, body: heard.append((head, list(map(bytes, body))))
    return heard


def test_bodies_of_every_size_come_as_they_were_both_ways(tmp_path: Path) -> None:
    async def run() -> None:
        async with streaming_pair(tmp_path) as (_, one, other):
            sizes = [
                0,
                1,
                31_000,
                33_000,
                RECORD_BYTES - 1,
                RECORD_BYTES,
                RECORD_BYTES + 1,
                3 * RECORD_BYTES,
                1_000_001,
            ]
            bodies = [bytes([number]) * size for number, size in enumerate(sizes)]
            for sender, receiver in ((one, other), (other, one)):
                heard = heard_by(receiver)
                for number, body in enumerate(bodies):
                    assert sender.send(receiver.node_id, invoke(number, len(body), 2), [body, b"ab"])
                await until(lambda heard=heard: len(heard) == len(bodies))
                assert [body for _, body in heard] == [[body, b"ab"] for body in bodies]

    uvloop.run(run())


def test_calls_keep_their_order_when_they_come_to_go_on_the_stream(tmp_path: Path) -> None:
    """From before the nodes have a stream until after: the sizes make each way slow in its turn."""

    async def run() -> None:
        async with shells(tmp_path) as nodes:
            one, other = await nodes.pair()
            heard = heard_by(other)
            number = 0
            after = 50
            while after:
                size = 200_000 if number % 3 == 0 else 5
                assert one.send(other.node_id, invoke(number, size), [bytes(size)])
                number += 1
                after -= stream(one, other) is not None
                await asyncio.sleep(0)
            await until(lambda: len(heard) == number)
            assert [head.call for head, _ in heard if isinstance(head, MeshInvoke)] == list(range(number))

    uvloop.run(run())


def test_what_comes_on_a_stream_before_the_link_says_so_waits_and_no_more_is_read(
    tmp_path: Path, without_watches: None
) -> None:
    async def run() -> None:
        async with streaming_pair(tmp_path) as (_, one, other):
            heard = heard_by(other)
            streams = other._links._streams
            near = stream(one, other)
            assert near is not None
            there = await far_end(near, other, one)
            await until(lambda: there not in streams._held)
            streams._held[there] = []  # as if STREAMED were still on its way
            for number in range(40):
                assert one.send(other.node_id, invoke(number, 300_000), [bytes(300_000)])
            await until(lambda: streams._held[there])
            await until(lambda: not one.send(other.node_id, invoke(99, 2**24), [bytes(2**24)]))  # it is not read
            assert not heard
            assert len(streams._held[there]) < 10
            assert one._links._links[other.node_id].packer.send(message_parts(Streamed(there.ticket_id)))
            await until(lambda: len(heard) >= 40)
            assert [head.call for head, _ in heard][:40] == list(range(40))

    uvloop.run(run())


def test_a_peer_that_does_not_read_holds_no_more_than_its_bound(tmp_path: Path, without_watches: None) -> None:
    async def run() -> None:
        async with streaming_pair(tmp_path) as (_, one, other):
            near = stream(one, other)
            assert near is not None
            there = await far_end(near, other, one)
            there.wait(waits=True)
            body = bytes(2**22)
            sent = 0
            while one.send(other.node_id, reply(sent), [body]):
                sent += 1
                assert sent < 100
                await asyncio.sleep(0)
            heard = heard_by(other)
            there.wait(waits=False)
            await until(lambda: len(heard) == sent)

    uvloop.run(run())


def test_many_small_messages_at_once_leave_turns_to_others(tmp_path: Path) -> None:
    async def run() -> None:
        async with streaming_pair(tmp_path) as (_, one, other):
            heard = heard_by(other)
            assert one.send(other.node_id, invoke(0, 10**6), [bytes(10**6)])  # more is read at once after that
            await until(lambda: heard)
            for number in range(3000):
                assert one.send(other.node_id, invoke(number, 3), [b"abc"])
            counts = [1]
            while counts[-1] < 3001:
                await asyncio.sleep(0)
                counts.append(len(heard))
            a_turn = _TURN_BYTES // _RECORD_COSTS_BYTES
            assert max(after - before for before, after in pairwise(counts)) <= 2 * a_turn

    uvloop.run(run())


def test_a_large_message_leaves_turns_to_others_while_it_is_sealed(tmp_path: Path) -> None:
    async def run() -> None:
        async with streaming_pair(tmp_path) as (_, one, other):
            near = stream(one, other)
            assert near is not None
            heard = heard_by(other)
            size = 8 * _TURN_BYTES
            counts = [size]
            assert one.send(other.node_id, invoke(1, size), [bytes(size)])
            while counts[-1]:
                counts.append(near._unsealed_bytes)
                await asyncio.sleep(0)
            # A turn's worth by itself, and another where the connection takes more after it was full.
            assert max(before - after for before, after in pairwise(counts)) <= 2 * (_TURN_BYTES + RECORD_BYTES)
            await until(lambda: heard)

    uvloop.run(run())


def test_a_message_larger_than_a_body_may_be_ends_the_stream_and_costs_no_memory(tmp_path: Path) -> None:
    async def run() -> None:
        async with streaming_pair(tmp_path) as (nodes, one, other):
            heard = heard_by(other)
            size = MAX_BODY_BYTES + 9 * 2**20
            link_before = other._links._links[one.node_id].wire
            assert one.send(other.node_id, invoke(1, size), [bytes(size)])
            await until(lambda: other._links._links[one.node_id].wire not in (None, link_before))
            await nodes.met(one, other)
            assert not heard

    uvloop.run(run())


def test_a_stream_for_calls_that_breaks_is_a_link_that_ends_so_no_call_waits_for_ever(tmp_path: Path) -> None:
    async def run() -> None:
        async with streaming_pair(tmp_path) as (nodes, one, other):
            stood: list[str] = []
            one.on_peer_change = lambda node_id: stood.append(one.by_id[node_id].standing)
            broken = stream(one, other)
            assert broken is not None
            broken._transport.abort()  # as a reset connection does
            await until(lambda: "dead" in stood)
            await nodes.met(one, other)
            await streaming(one, other)
            heard = heard_by(other)
            assert one.send(other.node_id, invoke(1, 3), [b"abc"])
            await until(lambda: heard)

    uvloop.run(run())


@pytest.mark.parametrize("again_s", [600.0, 0.05])
def test_where_each_stream_for_calls_is_lost_at_once_the_link_stays_and_one_is_tried_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again_s: float
) -> None:
    """As where something on the way resets all connections to that port."""
    monkeypatch.setattr("federation.streams._AGAIN_S", again_s)

    async def run() -> None:
        async with shells(tmp_path) as nodes:
            one, other = await nodes.pair()
            for _ in range(2):
                await streaming(one, other)
                broken = stream(one, other)
                assert broken is not None
                broken._transport.abort()
                await until(lambda broken=broken: stream(one, other) is not broken)
                await nodes.met(one, other)
            if again_s > _STEADY_S:
                await until(lambda: stream(one, other, Purpose.COPIES))
                assert stream(one, other) is stream(other, one) is None
                heard = heard_by(other)
                assert one.send(other.node_id, invoke(1, 3), [b"abc"])
                await until(lambda: heard)
            else:
                await streaming(one, other)

    uvloop.run(run())


@pytest.mark.parametrize(("tcp_gives_up_s", "patience_s"), [(0.3, 600.0), (600.0, 0.2)], ids=["by TCP", "by its watch"])
def test_a_stream_that_is_lost_on_the_way_while_the_link_lives_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_watches: None, tcp_gives_up_s: float, patience_s: float
) -> None:
    """As where a firewall has forgotten the one connection: nothing comes of it any more, and nobody says so."""
    monkeypatch.setattr("federation.streams._GIVE_UP_S", tcp_gives_up_s)
    monkeypatch.setattr("federation.stream_watch._UNTAKEN_PATIENCE_S", patience_s)

    async def run() -> None:
        async with streaming_pair(tmp_path) as (nodes, one, other):
            near = stream(one, other)
            assert near is not None
            lose_all_that_comes((await far_end(near, other, one))._transport.get_extra_info("socket"))
            heard = heard_by(other)
            stood: list[str] = []
            one.on_peer_change = lambda node_id: stood.append(one.by_id[node_id].standing)
            assert one.send(other.node_id, invoke(1, 3), [b"abc"])
            await until(lambda: "dead" in stood)  # so that the call is asked of another
            await nodes.met(one, other)
            await streaming(one, other)
            assert one.send(other.node_id, invoke(2, 3), [b"abc"])
            await until(lambda: heard)
            assert [head.call for head, _ in heard] == [2]

    uvloop.run(run())


@pytest.mark.parametrize("way", ["there", "back"])
def test_a_stream_whose_bytes_are_taken_on_the_way_and_not_delivered_is_given_up(
    tmp_path: Path, quick_watches: None, way: str
) -> None:
    """As by a middlebox that acknowledges them for the peer: TCP finds nothing amiss."""

    async def run() -> None:
        async with pair_with_something_between(tmp_path) as (nodes, one, other, taps):
            near = stream(one, other)
            assert near is not None
            speaker, hearer = (one, other) if near.dialled == (way == "there") else (other, one)
            heard = heard_by(hearer)
            stood: list[str] = []
            for mesh, peer in ((one, other), (other, one)):
                mesh.on_peer_change = lambda _, mesh=mesh, peer=peer: stood.append(mesh.by_id[peer.node_id].standing)
            for tap in taps:
                tap.swallows = frozenset({way})
            assert speaker.send(hearer.node_id, invoke(1, 3), [b"abc"])
            await until(lambda: stood.count("dead") >= 2)  # at both ends, so that each asks its calls of another
            for tap in taps:
                tap.swallows = frozenset()
            await nodes.met(one, other)
            await streaming(one, other)
            assert speaker.send(hearer.node_id, invoke(2, 3), [b"abc"])
            await until(lambda: heard)
            assert [head.call for head, _ in heard] == [2]

    uvloop.run(run())


def test_where_each_stream_is_swallowed_calls_go_on_the_link(
    tmp_path: Path, quick_watches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.streams._AGAIN_S", 600.0)
    monkeypatch.setattr("federation.streams._STEADY_S", 0.0)  # however long each lay idle, it never carried anything

    async def run() -> None:
        async with pair_with_something_between(tmp_path) as (nodes, one, other, taps):
            heard = heard_by(other)
            for lost in range(2):
                await streaming(one, other)
                near = stream(one, other)
                for tap in taps:
                    tap.swallows = frozenset({"there", "back"})
                one.send(other.node_id, invoke(lost, 3), [b"abc"])
                await until(lambda near=near: stream(one, other) is not near)
                for tap in taps:
                    tap.swallows = frozenset()
                await nodes.met(one, other)
            assert stream(one, other) is stream(other, one) is None
            assert not heard
            assert one.send(other.node_id, invoke(7, 3), [b"abc"])
            await until(lambda: heard)

    uvloop.run(run())


def test_a_stream_on_which_nothing_is_said_is_not_asked_about(tmp_path: Path, quick_watches: None) -> None:
    async def run() -> None:
        async with streaming_pair(tmp_path) as (_, one, other):
            near = stream(one, other)
            assert near is not None
            watch = one._links._streams._watches[near]
            assert watch._timer is None
            heard = heard_by(other)
            for number in range(3):
                assert one.send(other.node_id, invoke(number, 3), [b"abc"])
            await until(lambda: len(heard) == 3 and watch._timer is None)
            await until(lambda: near.taken_bytes() == near.said_bytes)

    uvloop.run(run())


def lose_all_that_comes(sock: socket.socket) -> None:
    """By a filter that lets nothing in: socket(7), SO_ATTACH_FILTER; linux/filter.h, struct sock_fprog."""
    nothing = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))  # BPF_RET, 0 bytes
    sock.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", 1, ctypes.addressof(nothing)))


def test_a_stream_for_copies_that_breaks_is_made_anew_and_the_link_stays(tmp_path: Path) -> None:
    async def run() -> None:
        async with streaming_pair(tmp_path) as (_, one, other):
            stood: list[str] = []
            one.on_peer_change = lambda node_id: stood.append(one.by_id[node_id].standing)
            broken = stream(one, other, Purpose.COPIES)
            assert broken is not None
            broken.end("the test says so")
            await until(lambda: stream(one, other, Purpose.COPIES) not in (None, broken))
            await streaming(one, other)
            got: list[bytes] = []
            other.on_copy = lambda _, head, body: got.append(bytes(body[0]))
            assert one.send_copy(other.node_id, Chunk(1, 3), [b"abc"])
            await until(lambda: got == [b"abc"])
            assert set(stood) <= {"alive"}

    uvloop.run(run())


def test_a_peer_whose_link_was_taken_over_before_it_read_its_tickets_gets_others(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as member:
            mesh = await nodes.start("node")
            await member.become_member(mesh)
            before = await member.tickets()
            first = member.wire
            assert first is not None
            member.heard.clear()
            member.begun = False
            await member.become_member(mesh, introduced=False)  # it lost the first connection, as far as it can see
            after = await member.tickets()
            assert not {ticket.ticket_id for ticket in before.values()} & {one.ticket_id for one in after.values()}
            assert len(mesh._links._streams._given) == len(Purpose)
            first.end("the test is over")

    uvloop.run(run())


def test_a_peer_that_gives_tickets_without_end_has_no_more_streams_for_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with streaming_pair(tmp_path) as (_, one, other):
            wire = one._links._links[other.node_id].wire
            assert wire is not None
            dialling, dialled = (one, other) if wire.dialled else (other, one)
            gives = dialled._links._links[dialling.node_id]
            has = dialling._links._links[dialled.node_id].streams
            for number in range(5):
                ticket = Ticket(bytes([number]) * TICKET_ID_BYTES, bytes(SECRET_BYTES), Purpose.COPIES)
                assert gives.wire is not None
                given = _Given(gives, gives.wire, Purpose.COPIES, ticket.secret)
                dialled._links._streams._given[ticket.ticket_id] = given
                gives.packer.send(message_parts(ticket))
                await until(lambda ticket=ticket: any(s.ticket_id == ticket.ticket_id for s in has[Purpose.COPIES]))
            await until(lambda: sum(stream.dialled for stream in has[Purpose.COPIES]) == 1)

    uvloop.run(run())


def test_a_peer_without_streams_is_called_on_its_link(tmp_path: Path) -> None:
    """As one of an earlier version is, or one whose port for streams lets nobody in."""

    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as member:
            mesh = await nodes.start("node")
            await member.become_member(mesh)
            node_id = member.identity.node_id
            await until(lambda: mesh.by_id[node_id].standing == "alive")
            assert mesh.send(node_id, invoke(7, 100_000), [bytes(100_000)])
            await until(lambda: any(isinstance(head, MeshInvoke) and head.call == 7 for head in member.heard))
            heard = heard_by(mesh)
            member.say(Cancel(3))
            await until(lambda: heard)
            assert not mesh.send_copy(node_id, Chunk(1, 3), [b"abc"])

    uvloop.run(run())


def test_the_memory_of_a_large_message_is_let_go(tmp_path: Path) -> None:
    async def run() -> None:
        async with streaming_pair(tmp_path) as (_, one, other):
            heard = heard_by(other)
            near = stream(one, other)
            assert near is not None
            there = await far_end(near, other, one)
            assert one.send(other.node_id, invoke(1, 10**6), [bytes(10**6)])
            await until(lambda: heard)
            assert there._came.is_large
            assert there._rest is not None
            there._let_go()
            assert not there._came.is_large
            assert one.send(other.node_id, invoke(2, 10**6), [bytes(10**6)])
            await until(lambda: len(heard) == 2)

    uvloop.run(run())


def test_a_peer_that_does_not_come_though_it_was_asked_to_is_awaited_until_it_does(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as member:
            mesh = await nodes.start("node")
            await member.become_member(mesh)
            tickets = await member.tickets()
            node_id = member.identity.node_id
            assert mesh.awaited_s(node_id) > 0
            end = StreamEnd(node_id, mesh.node_id, tickets[Purpose.COPIES])
            assert await end.dial(mesh.introduction.bulk_port)
            assert mesh.awaited_s(node_id) == mesh.awaited_s("nobody") == 0
            end.stream.end("the test is over")

    uvloop.run(run())


def test_whoever_knocks_is_told_that_streams_are_there(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            mesh = await nodes.start("node")
            port = mesh.introduction.bulk_port
            assert await knock(Address("127.0.0.1", port), wait_s=10.0) == Knock("open", is_mesh=True)

    uvloop.run(run())
