"""The mesh against whoever is on the LAN: with no key, with a stolen credential, as an impostor, with recorded bytes,
with very many of something; and against a member that was thrown out, or is broken."""

import asyncio
import contextlib
import secrets
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import uvloop
import zmq

from appliance.core.addresses import Address
from appliance.core.frames import PREFIX, TensorHead
from federation.credentials import introduce
from federation.frames import message_parts, pack_of
from federation.identity import new_identity
from federation.introducer import MAX_ASKED, Act, Told, seal
from federation.keyring import Keyring, mesh_key
from federation.listener import MAX_STRANGERS
from federation.membership import MAX_PEERS
from federation.messages import PROTOCOL, Hello, Introduction, MeshInvoke, MeshKind, Probe, Probed, StateAsked
from tests.mesh.meshed import shells, stands, until
from tests.mesh.strangers import Stranger, Tap, stranger


def invoke(call: int) -> MeshInvoke:
    return MeshInvoke(call, "local/m", "1.0.0", "d", 0, [TensorHead("x", "UINT8", [3], 0, 3)])


@contextlib.contextmanager
def listening() -> Iterator[tuple[socket.socket, int]]:
    """A port at which it is seen whether anybody comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server, server.getsockname()[1]


def nobody_came(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return True
    return False


# Advertisements.


@pytest.mark.parametrize("lie", ["forged", "another key", "stolen", "unknown key", "revoked"])
def test_an_advertisement_that_proves_nothing_makes_the_node_send_nothing(tmp_path: Path, lie: str) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as thief:
            mesh = await nodes.start("node")
            with listening() as (server, port):
                honest = introduce(
                    new_identity(), mesh.keyring, name="x", addresses=["127.0.0.1"], mesh_port=port, bulk_port=port
                )
                public_key, node_id = thief.identity.public_key, thief.identity.node_id
                if lie == "revoked":
                    mesh.keyring.revoke([honest.public_key])
                shown = {
                    "forged": msgspec.structs.replace(honest, credential=secrets.token_bytes(32)),
                    "another key": msgspec.structs.replace(honest, public_key=public_key),
                    "stolen": msgspec.structs.replace(honest, public_key=public_key, node_id=node_id),
                    "unknown key": msgspec.structs.replace(honest, key_id="0" * 16),
                    "revoked": honest,
                }[lie]
                assert mesh.introduced(shown)
                # What is dialled after it comes after it: by then the other would have been dialled too.
                other = await nodes.start("other")
                mesh.introduced(other.introduction)
                await nodes.met(mesh, other)
                assert nobody_came(server)
                assert list(mesh.by_id) == [other.node_id]

    uvloop.run(run())


def test_who_answers_at_an_advertised_address_and_is_another_gets_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            mesh = await nodes.start("node")
            impostor = new_identity()
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            router: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
            router.set(zmq.CURVE_SERVER, 1)
            router.set(zmq.CURVE_SECRETKEY, impostor.secret_key)
            port = router.bind_to_random_port("tcp://127.0.0.1")
            honest = new_identity()
            shown = introduce(honest, mesh.keyring, name="x", addresses=["127.0.0.1"], mesh_port=port, bulk_port=port)
            try:
                assert mesh.introduced(shown) == ""
                await until(lambda: mesh.trouble(honest.node_id))
                assert mesh.by_id[honest.node_id].standing == "joining"
                assert not mesh.send(honest.node_id, invoke(1))
                assert not router.poll(0)
            finally:
                context.destroy(linger=0)

    uvloop.run(run())


# Connections.


@pytest.mark.parametrize("how", ["null", "plain", "curve"])
def test_nobody_without_a_credential_gets_a_connection(tmp_path: Path, how: str) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            mesh = await nodes.start("node")
            shown, thief = mesh.introduction, new_identity()
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            dealer: zmq.Socket[bytes] = context.socket(zmq.DEALER)
            if how == "plain":
                dealer.set(zmq.PLAIN_USERNAME, b"admin")
                dealer.set(zmq.PLAIN_PASSWORD, b"admin")
            if how == "curve":
                dealer.set(zmq.CURVE_SERVERKEY, shown.public_key)
                dealer.set(zmq.CURVE_PUBLICKEY, thief.public_key)
                dealer.set(zmq.CURVE_SECRETKEY, thief.secret_key)
            dealer.set(zmq.RECONNECT_IVL, -1)
            failed = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            monitor = dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | failed)
            dealer.connect(f"tcp://127.0.0.1:{shown.mesh_port}")
            try:
                await until(lambda: monitor.poll(0))
                event = struct.unpack("=HI", monitor.recv_multipart()[0])[0]
                assert event & failed
            finally:
                monitor.close()
                context.destroy(linger=0)

    uvloop.run(run())


def test_a_stolen_introduction_opens_no_connection_to_whoever_lacks_its_secret_key(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as thief:
            one, other = await nodes.pair()
            thief.dial(one)
            await until(lambda: thief.ended)
            assert not thief.begun
            assert stands(one, other) == "alive"

    uvloop.run(run())


def test_garbage_on_every_port_disturbs_nobody(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            one, other = await nodes.pair()
            shown = one.introduction
            pieces = [
                b"",
                b"\0",
                b"GET / HTTP/1.1\r\n\r\n",
                secrets.token_bytes(5000),
                b"\xff" + bytes(8) + b"\x7f\x03",
            ]
            for port in (shown.mesh_port, shown.bulk_port):
                for piece in pieces:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(piece)
                    if len(piece) > 64:  # too much to be waited for
                        with contextlib.suppress(OSError):
                            await reader.read()
                    writer.close()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for piece in (*pieces, b"INGLE\x01", b"INGLE\x01" + secrets.token_bytes(200)):
                    sender.sendto(piece, ("127.0.0.1", shown.mesh_port))
            third = await nodes.start("third")
            third.join(nodes.address[one.node_id])
            await nodes.met(one, other, third)

    uvloop.run(run())


def test_very_many_idle_and_slow_connections_keep_no_node_out(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            one = await nodes.start("one")
            open_ones = []
            for number in range(MAX_STRANGERS + 50):
                _, writer = await asyncio.open_connection("127.0.0.1", one.introduction.mesh_port)
                if number % 2:
                    writer.write(b"\xff")  # the first byte of a greeting, and then nothing
                open_ones.append(writer)
            other = await nodes.start("other")
            other.join(nodes.address[one.node_id])
            await nodes.met(one, other)
            assert len(one._links._listener._strangers) <= MAX_STRANGERS
            for writer in open_ones:
                writer.close()

    uvloop.run(run())


# What was recorded.


def test_a_recorded_connection_that_is_played_again_says_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as member:
            mesh = await nodes.start("node")
            calls: list[int] = []
            mesh.on_call = lambda _node_id, head, _body: calls.append(head.call)
            tap = Tap(mesh.introduction.mesh_port)
            assert mesh.introduced(member.shown(mesh.keyring)) == ""
            member.dial(mesh, await tap.open())
            await until(lambda: member.begun)
            member.say(Hello(PROTOCOL, "0.1.0", member.shown(mesh.keyring), 1))
            member.say(invoke(7), (b"abc",))
            await until(lambda: calls)
            member.close()
            tap.close()
            await until(lambda: mesh.by_id[member.identity.node_id].standing == "dead")
            reader, writer = await asyncio.open_connection("127.0.0.1", mesh.introduction.mesh_port)
            writer.write(bytes(tap.recorded))
            with contextlib.suppress(ConnectionError):
                while await reader.read(65536):
                    pass
            writer.close()
            assert calls == [7]
            assert mesh.by_id[member.identity.node_id].standing == "dead"

    uvloop.run(run())


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.came: list[bytes] = []

    def datagram_received(self, data: bytes, address: object) -> None:
        self.came.append(data)


@contextlib.asynccontextmanager
async def talking_to(port: int):
    """A UDP socket of somebody: transport and what came."""
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        _Datagrams, remote_addr=("127.0.0.1", port)
    )
    try:
        yield transport, protocol.came
    finally:
        transport.close()


def asked(member: Stranger, keyring: Keyring, *, nonce: bytes = b"n" * 16, size_bytes: int = 1200) -> bytes:
    return seal(Act.ASK, keyring.current, Told(member.shown(keyring), nonce), size_bytes)


def test_a_datagram_is_answered_with_no_more_bytes_than_it_had_and_only_under_the_key(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as member:
            mesh = await nodes.start("node")
            genuine = asked(member, mesh.keyring)
            other = mesh_key(secrets.token_bytes(32))
            async with talking_to(mesh.introduction.mesh_port) as (transport, came):
                transport.sendto(genuine[:-1] + bytes([genuine[-1] ^ 1]))  # forged
                transport.sendto(seal(Act.ASK, other, Told(member.shown(mesh.keyring), b"n" * 16), 1200))  # no such key
                stolen = new_identity()
                shown = msgspec.structs.replace(member.shown(mesh.keyring), public_key=stolen.public_key)
                transport.sendto(seal(Act.ASK, mesh.keyring.current, Told(shown, b"n" * 16), 1200))  # of nobody
                transport.sendto(asked(member, mesh.keyring, size_bytes=0))  # shorter than its answer
                transport.sendto(genuine)
                await until(lambda: came)
            assert len(came) == 1
            assert len(came[0]) <= len(genuine)
            assert not mesh.by_id

    uvloop.run(run())


def test_a_recorded_introduction_changes_nothing_when_it_is_sent_again_by_another(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as member:
            mesh = await nodes.start("node")
            keyring, port = mesh.keyring, mesh.introduction.mesh_port
            async with talking_to(port) as (transport, came):
                transport.sendto(asked(member, keyring))
                await until(lambda: came)
                answer = came[0]
            async with talking_to(port) as (transport, came):
                # The eavesdropper has the ASK, and the ANSWER to it; he is at another address.
                transport.sendto(asked(member, keyring))
                transport.sendto(answer)
                # As the member once answered somebody, maybe this node in its last life.
                transport.sendto(seal(Act.ANSWER, keyring.current, Told(member.shown(keyring), b"c" * 16, b"e" * 16)))
                transport.sendto(asked(member, keyring))
                await until(lambda: len(came) == 2)
                assert not mesh.by_id
            echo = _told(answer).nonce  # the cookie for the first address
            async with talking_to(port) as (transport, came):
                confirm = seal(Act.CONFIRM, keyring.current, Told(member.shown(keyring), b"n" * 16, echo))
                transport.sendto(confirm)
                transport.sendto(asked(member, keyring))
                await until(lambda: came)
                assert not mesh.by_id

    uvloop.run(run())


def _told(datagram: bytes) -> Told:
    from federation.introducer import _HEAD, _decode

    size = _HEAD.unpack_from(datagram)[3]
    return _decode(datagram[_HEAD.size : _HEAD.size + size])


# Very many.


def test_a_flood_of_introductions_leaves_room_for_who_is_genuine(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as member:
            one = await nodes.start("one")
            genuine = asked(member, one.keyring)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
                flood.connect(("127.0.0.1", one.introduction.mesh_port))
                for number in range(20_000):
                    flood.send(genuine if number % 2 else genuine[:-1] + b"x")
                    if not number % 100:
                        await asyncio.sleep(0)
            other = await nodes.start("other")
            other.join(nodes.address[one.node_id])
            await nodes.met(one, other)
            assert list(one.by_id) == [other.node_id]
            assert len(one._meeting._introducer._asked) <= MAX_ASKED

    uvloop.run(run())


def test_a_member_that_invents_members_fills_no_memory(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            mesh = await nodes.start("node")
            key = mesh.keyring.current
            for number in range(MAX_PEERS + 20):
                # Unroutable, so that dialling them costs little.
                one = Stranger.__new__(Stranger)
                one.identity = new_identity()
                shown = msgspec.structs.replace(one.shown(mesh.keyring), addresses=["240.0.0.1"])
                why = mesh.introduced(shown)
                assert bool(why) == (number >= MAX_PEERS), (number, why)
            assert len(mesh.by_id) == len(mesh._meeting.believed) == len(mesh._links._links) == MAX_PEERS
            assert mesh.keyring.current == key

    uvloop.run(run())


# Members.


def test_revoking_cuts_a_live_link_and_keeps_it_cut(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as member:
            one, other = await nodes.pair()
            await member.become_member(one)
            calls: list[int] = []
            one.on_call = lambda _node_id, head, _body: calls.append(head.call)
            member.say(invoke(1), (b"abc",))
            await until(lambda: calls == [1])
            one.write_register(kind="node", name=member.identity.public_key.hex(), key="revoked", value="stolen")
            member.say(invoke(2), (b"abc",))
            await until(lambda: member.ended)
            member.begun = False
            for mesh in (one, other):  # a register is everyone's
                await until(lambda mesh=mesh: mesh.keyring.is_revoked(member.identity.public_key))
                assert mesh.introduced(member.shown(mesh.keyring)) == "it was revoked"
                member.dial(mesh)
                await until(lambda: member.ended)
            assert not member.begun
            assert calls == [1]
            assert stands(one, other) == "alive"

    uvloop.run(run())


def test_of_a_pack_nothing_is_heard_that_comes_after_its_sender_was_revoked(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as member:
            mesh = await nodes.start("node")
            await member.become_member(mesh)
            calls: list[int] = []

            def revoke_at_once(_node_id: str, head: MeshInvoke, _body: object) -> None:
                calls.append(head.call)
                key = member.identity.public_key.hex()
                mesh.write_register(kind="node", name=key, key="revoked", value="it asks for this")

            mesh.on_call = revoke_at_once
            member.say_parts([pack_of([message_parts(invoke(call), (b"abc",))[0] for call in range(3)])])
            await until(lambda: member.ended)
            assert calls == [0]

    uvloop.run(run())


def test_whoever_the_keyring_does_not_believe_any_more_is_cut_off(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            one, other = await nodes.pair()
            one.keyring.revoke([other.introduction.public_key])
            assert not one.send(other.node_id, invoke(1))
            await until(lambda: stands(other, one) == "dead")

    uvloop.run(run())


def test_a_revoked_node_does_not_get_the_new_key(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            one, other = await nodes.pair()
            third = await nodes.start("third")
            third.join(nodes.address[one.node_id])
            await nodes.met(one, other, third)
            one.write_register(kind="node", name=third.introduction.public_key.hex(), key="revoked", value="sold")
            new = one.keyring.rotate()
            await until(lambda: other.keyring.current == new)
            await until(lambda: stands(one, other) == "alive")
            assert third.keyring.get(new.id) is None

    uvloop.run(run())


def test_a_rotation_goes_over_live_links_and_calls_go_on(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            one, other = await nodes.pair()
            downs: list[str] = []
            one.on_peer_change = lambda node_id: downs.append(one.by_id[node_id].standing)
            calls: list[int] = []
            other.on_call = lambda _node_id, head, _body: calls.append(head.call)
            old = one.keyring.current
            new = one.keyring.rotate()
            for number in range(50):
                assert one.send(other.node_id, invoke(number), [b"abc"])
                await asyncio.sleep(0)
            await until(lambda: other.keyring.current == new)
            await until(lambda: one._meeting.believed[other.node_id].key_id == new.id)
            if one.keyring.get(old.id) is not None:
                one.keyring.retire(old.id)
            await until(lambda: other.keyring.get(old.id) is None)
            for number in range(50, 100):
                assert one.send(other.node_id, invoke(number), [b"abc"])
            await until(lambda: len(calls) == 100)
            assert calls == list(range(100))
            assert "dead" not in downs

    uvloop.run(run())


def test_a_member_that_says_it_is_another_is_not_believed(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as member:
            one, other = await nodes.pair()
            assert one.introduced(member.shown(one.keyring)) == ""
            member.dial(one)
            await until(lambda: member.begun)
            member.say(Hello(PROTOCOL, "0.1.0", other.introduction, 2**60))
            await until(lambda: member.ended)
            assert stands(one, other) == "alive"
            assert one.by_id[other.node_id].hello.incarnation < 2**60

    uvloop.run(run())


@pytest.mark.parametrize("in_a_pack", [False, True])
def test_a_member_that_speaks_before_its_hello_is_not_heard_and_its_connection_ends(
    tmp_path: Path, in_a_pack: bool
) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as member:
            mesh = await nodes.start("node")
            calls: list[int] = []
            mesh.on_call = lambda _node_id, head, _body: calls.append(head.call)
            mesh.introduced(member.shown(mesh.keyring))
            member.dial(mesh)
            await until(lambda: member.begun)
            said = message_parts(invoke(1), (b"abc",))
            member.say_parts([pack_of(said)] if in_a_pack else said)
            await until(lambda: member.ended)
            member.begun = False
            member.dial(mesh)
            await until(lambda: member.begun)
            member.say(Hello(PROTOCOL, "0.1.0", member.shown(mesh.keyring), 1))
            member.say(invoke(2), (b"abc",))
            await until(lambda: calls)
            assert calls == [2]

    uvloop.run(run())


def test_broken_and_unknown_messages_of_a_member_are_passed_over(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as member:
            mesh = await nodes.start("node")
            await member.become_member(mesh)
            later = PREFIX.pack(1, max(MeshKind) + 1, 0, 3, 2) + b"\xc0" * 3 + b"ab"
            packs = [pack_of([b"x" * 50]), pack_of([later, pack_of([pack_of([])])]), pack_of([later])[:-1]]
            for parts in ([b""], [b"\0" * 100], [secrets.token_bytes(500)], [b"x"] * 2000, [later], *zip(packs)):
                member.say_parts(parts)
            member.say(Probe(77))
            await until(lambda: any(isinstance(head, Probed) and head.number == 77 for head in member.heard))

    uvloop.run(run())


def test_a_message_that_is_not_dealt_with_takes_none_of_its_pack_with_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as member:
            mesh = await nodes.start("node")
            await member.become_member(mesh)
            calls: list[int] = []

            def fail_once(_node_id: str, head: MeshInvoke, _body: object) -> None:
                calls.append(head.call)
                if head.call == 1:
                    raise RuntimeError("a fault of ours")

            mesh.on_call = fail_once
            member.say_parts([pack_of([message_parts(invoke(call), (b"abc",))[0] for call in range(3)])])
            await until(lambda: 2 in calls)
            assert calls == [0, 1, 2]

    uvloop.run(run())


def test_whether_a_peer_reads_packs_is_told_by_the_connection_that_is_its_link(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as member, stranger(member.identity) as twin:
            mesh = await nodes.start("node")
            await member.become_member(mesh, incarnation=5)
            twin.dial(mesh)
            await until(lambda: twin.begun)
            twin.say(Hello(PROTOCOL, "9.9.9", twin.shown(mesh.keyring), 4, packs=True))
            await until(lambda: twin.heard)
            for call in range(3):
                assert mesh.send(member.identity.node_id, invoke(call), [b"abc"])
            await until(lambda: sum(isinstance(head, MeshInvoke) for head in member.heard) == 3)

    uvloop.run(run())


@pytest.mark.parametrize("dialled", [True, False])
def test_a_connection_on_which_much_comes_and_no_message_ends_is_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, dialled: bool
) -> None:
    """A message of parts without end is what it is for; no ZeroMQ sends one, so the reader is made not to see the ends
    of those that come."""

    async def run() -> None:
        async with shells(tmp_path) as nodes:
            one, other = await nodes.pair()
            if one._links._links[other.node_id].wire.dialled != dialled:
                one, other = other, one
            link = one._links._links[other.node_id]
            reader = link.wire._socket if dialled else one._links._listener._socket
            asyncio.get_running_loop().remove_reader(reader.zmq.FD)
            reader._looking = True
            body = bytes(4 * 2**20)
            head = MeshInvoke(1, "local/m", "1.0.0", "d", 0, [TensorHead("x", "UINT8", [len(body)], 0, len(body))])

            def sent_on() -> bool:
                other._links._links[one.node_id].packer.send(message_parts(head, [body]))
                return "had no end" in caplog.text

            await until(sent_on)
            await until(lambda: stands(other, one) == "dead")

    caplog.set_level("INFO", "ingle.mesh")
    uvloop.run(run())


def test_a_node_of_a_later_version_is_a_peer_like_any_other(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as member:
            mesh = await nodes.start("node")
            shown = member.shown(mesh.keyring)
            assert mesh.introduced(shown) == ""
            member.dial(mesh)
            await until(lambda: member.begun)
            fields = [*msgspec.structs.astuple(Hello(PROTOCOL, "7.0.0", shown, 5)), "a field of later", [1, 2]]
            packed = msgspec.msgpack.encode(fields)
            member.say_parts([PREFIX.pack(1, MeshKind.HELLO, 0, len(packed), 0) + packed])
            await until(lambda: member.identity.node_id in mesh.by_id)
            await until(lambda: mesh.by_id[member.identity.node_id].standing == "alive")
            assert mesh.by_id[member.identity.node_id].hello.release == "7.0.0"
            member.say(StateAsked())

    uvloop.run(run())


def test_a_node_that_speaks_another_protocol_is_told_apart_and_not_linked(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as member:
            mesh = await nodes.start("node")
            shown: Introduction = member.shown(mesh.keyring)
            mesh.introduced(shown)
            member.dial(mesh)
            await until(lambda: member.begun)
            member.say(Hello(PROTOCOL + 1, "7.0.0", shown, 5))
            await until(lambda: member.ended)
            assert f"protocol {PROTOCOL + 1}" in mesh.trouble(shown.node_id)

    uvloop.run(run())


def test_a_member_that_reads_nothing_holds_little_memory_and_others_hear_on(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes, stranger() as member:
            one, other = await nodes.pair()
            await member.become_member(one)
            assert member.wire is not None
            asyncio.get_running_loop().remove_reader(member.wire._socket.zmq.FD)
            member.wire._socket.look = lambda: None  # type: ignore[method-assign]
            body = bytes(4 * 2**20)
            head = MeshInvoke(1, "local/m", "1.0.0", "d", 0, [TensorHead("x", "UINT8", [len(body)], 0, len(body))])
            for _ in range(64):
                if not one.send(member.identity.node_id, head, [body]):
                    break
            else:
                raise AssertionError("256 MB were taken for a peer that reads nothing")
            calls: list[int] = []
            other.on_call = lambda _node_id, head, _body: calls.append(head.call)
            assert one.send(other.node_id, invoke(5), [b"abc"])
            await until(lambda: calls == [5])

    uvloop.run(run())


def test_whoever_has_the_address_alone_learns_nothing_by_asking(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            mesh = await nodes.start("node")
            mine = await nodes.start("mine", key="77" * 32)
            mine.join(Address("127.0.0.1", mesh.introduction.mesh_port))
            assert "another mesh" in mine.introduced(mesh.introduction)
            third = await nodes.start("third")
            third.join(nodes.address[mesh.node_id])
            await nodes.met(mesh, third)
            assert not mine.by_id
            assert list(mesh.by_id) == [third.node_id]

    uvloop.run(run())
