"""Links between nodes, with real sockets: they meet, talk, lose and find each other."""

import asyncio
import contextlib
import functools
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop

from appliance.core.addresses import Address
from appliance.core.frames import TensorHead
from appliance.core.requests import Buffer
from federation.dialled import DialledWire
from federation.identity import new_identity
from federation.links import LinkEvents, Links
from federation.mesh import Mesh
from federation.messages import Chunk, Fetch, Head, Introduction, MeshInvoke, MeshReply
from federation.settings import MeshSettings
from tests.mesh.meshed import shells, stands, until


def invoke(call: int, *sizes: int) -> MeshInvoke:
    return MeshInvoke(call, "local/m", "1.0.0", "d", 0, [TensorHead("x", "UINT8", [n], 0, n) for n in sizes])


def reply(call: int) -> MeshReply:
    return MeshReply(call, [], 0, 0, 0, 0, 0, 1, 1)


def test_three_nodes_of_whom_two_know_the_third_are_one_mesh(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            a, b, c = [await nodes.start(name) for name in "abc"]
            a.join(nodes.address[b.node_id])
            c.join(nodes.address[b.node_id])
            await nodes.met(a, b, c)
            hello = a.by_id[c.node_id].hello
            assert (hello.introduction.name, hello.http, hello.grpc, hello.zmq) == ("c", 1, 2, 3)

    uvloop.run(run())


def test_a_call_and_its_answer_pass_with_large_and_small_bodies(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            one, other = await nodes.pair()
            bodies = [b"small", b"", bytes(range(256)) * 4096]
            answers: list[tuple[Head, list[Buffer]]] = []

            def serve(node_id: str, head: Head, body: list[Buffer]) -> None:
                assert isinstance(head, MeshInvoke)
                assert list(map(bytes, body)) == bodies
                assert other.send(node_id, reply(head.call), [b"".join(body)])

            other.on_call = serve
            one.on_call = lambda _, head, body: answers.append((head, body))
            assert one.send(other.node_id, invoke(7, *map(len, bodies)), bodies)
            await until(lambda: answers)
            head, body = answers[0]
            assert isinstance(head, MeshReply)
            assert head.call == 7
            assert bytes(body[0]) == b"".join(bodies)

    uvloop.run(run())


def test_bulk_passes_on_a_link_of_its_own_both_ways(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            one, other = await nodes.pair()
            got: list[bytes] = []
            piece = bytes(2**20)

            def take(mesh: Mesh, node_id: str, head: Head, body: list[Buffer]) -> None:
                if isinstance(head, Fetch):
                    assert mesh.send_copy(node_id, Chunk(head.number, len(piece)), [piece])
                else:
                    got.append(bytes(body[0]))

            for mesh in (one, other):
                mesh.on_copy = functools.partial(take, mesh)
            for asker, giver in ((one, other), (other, one)):
                await until(functools.partial(asker.send_copy, giver.node_id, Fetch(1, "d", "f", 0, len(piece))))
                await until(lambda: got)
                assert got.pop() == piece

    uvloop.run(run())


def test_a_node_that_ends_is_dead_at_once_and_alive_when_it_is_back(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            one, other = await nodes.pair()
            before = one.by_id[other.node_id].hello.incarnation
            await nodes.stop(other)
            await until(lambda: stands(one, other) == "dead")
            assert not one.send(other.node_id, invoke(1))
            again = await nodes.start("other")
            assert again.node_id == other.node_id
            await nodes.met(one, again)  # it remembers whom it had met
            assert one.by_id[other.node_id].hello.incarnation > before

    uvloop.run(run())


def test_an_address_that_acknowledges_nothing_is_dialled_anew_and_one_that_does_is_waited_for() -> None:
    async def run() -> None:
        own, other = sorted((new_identity(), new_identity()), key=lambda identity: identity.node_id)
        hello: Any = None  # nobody comes so far
        links = Links(own, MeshSettings(), max_body_bytes=1000, hello=lambda _: hello, events=LinkEvents(*[hello] * 4))
        links.allow(other.node_id, other.public_key)
        attempts = links._links[other.node_id].attempts

        def dial(server: socket.socket) -> DialledWire:
            port = server.getsockname()[1]
            links.dial(Introduction(other.node_id, "", other.public_key, "", b"", ["127.0.0.1"], port, 0))
            return attempts[Address("127.0.0.1", port)]

        with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_server(("127.0.0.1", 0)) as mute:
            with contextlib.ExitStack() as callers:
                for _ in range(3):  # as many as it takes, and more: what comes now is dropped
                    caller = callers.enter_context(socket.socket())
                    caller.setblocking(False)
                    caller.connect_ex(full.getsockname())
                lost = dial(full)
                assert dial(full) is lost
                lost._dialled_s -= 1.0
                assert dial(full) is not lost
                heard = dial(mute)
                await until(lambda: heard._tcp is not None)
                heard._dialled_s -= 1.0
                assert dial(mute) is heard
        links.close()

    uvloop.run(run())


def test_draining_is_known_before_the_end(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            one, other = await nodes.pair()
            await other.drain()
            await until(lambda: stands(one, other) == "draining")

    uvloop.run(run())


def test_answers_that_were_just_given_are_heard_before_the_end(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            one, other = await nodes.pair()
            answers: list[int] = []
            one.on_call = lambda _, head, _body: answers.append(head.call)
            for call in range(20):
                assert other.send(one.node_id, reply(call), [bytes(2**20 if call % 5 == 0 else 8)])
            await other.wait_until_heard()
            await nodes.stop(other)
            await until(lambda: stands(one, other) == "dead")
            assert answers == list(range(20))

    uvloop.run(run())


def test_registers_are_known_to_all_and_after_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            one, other = await nodes.pair()
            heard: list[str] = []
            other.on_registers = lambda registers: heard.extend(register.value for register in registers)
            one.write_register(kind="alias", name="local/m", key="default", value="1.0.0")
            await until(lambda: heard == ["1.0.0"])
            await nodes.stop(other)
            again = await nodes.start("other")
            assert [register.value for register in again.registers] == ["1.0.0"]

    uvloop.run(run())


def test_nodes_that_dial_each_other_at_once_keep_one_link_and_lose_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            one, other = await nodes.start("one"), await nodes.start("other")
            calls: set[int] = set()
            other.on_call = lambda _node_id, head, _body: calls.add(head.call)
            for mesh in (one, other):  # nobody waits for the other
                mesh._links._loop = _AtOnce(asyncio.get_running_loop())
            one.introduced(other.introduction)
            other.introduced(one.introduction)
            sent = 0
            while sent < 500:
                sent += one.send(other.node_id, invoke(sent))
                await asyncio.sleep(0)
            await until(lambda: calls == set(range(500)))
            await nodes.met(one, other)
            dialled = [mesh._links._links[peer.node_id].wire.dialled for mesh, peer in ((one, other), (other, one))]
            assert sorted(dialled) == [False, True]

    uvloop.run(run())


class _AtOnce:
    """An event loop in which nothing waits a quarter of a second."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call_later(self, delay_s: float, *call: object) -> object:
        return self._loop.call_later(0 if delay_s == 0.25 else delay_s, *call)

    def time(self) -> float:
        return self._loop.time()


@contextlib.contextmanager
def another_process(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A node in a process of its own, and its port."""
    folder.mkdir()
    command = [sys.executable, "-m", "tests.mesh.shell_process", str(folder)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_a_process_that_is_frozen_is_dead_until_it_goes_on_and_dead_when_it_is_killed(tmp_path: Path) -> None:
    async def run() -> None:
        async with shells(tmp_path) as nodes:
            with another_process(tmp_path / "other") as (process, port):
                one = await nodes.start("one")
                one.join(Address("127.0.0.1", port))
                await until(one.linked)
                (peer,) = one.peers()
                seen: list[str] = []
                one.on_peer_change = lambda _: seen.append(peer.standing)
                process.send_signal(signal.SIGSTOP)
                await until(lambda: peer.standing == "dead")
                assert not one.send(peer.node_id, invoke(1))
                process.send_signal(signal.SIGCONT)
                await until(lambda: peer.standing == "alive")
                process.kill()
                await until(lambda: peer.standing == "dead")
                assert seen.count("dead") == 2

    uvloop.run(run())
