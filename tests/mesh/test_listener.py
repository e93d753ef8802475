"""Whose a message is, where a connection has gone before it is known that it came, and its descriptor is another's."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import uvloop
import zmq

from appliance.core.addresses import Address
from federation.identity import new_identity
from federation.listener import AcceptedWire, Listener, _is_later
from federation.sockets import Context
from federation.zap import Gate
from tests.mesh.meshed import until
from tests.mesh.strangers import TUNING

# A peer, in a process of its own so that no descriptor here is its: connects once it is told to, and says a word.
_PEER = """
import sys, zmq
host, server_key, public_key, secret_key = sys.argv[1:]
peer = zmq.Context().socket(zmq.DEALER)
peer.curve_serverkey = bytes.fromhex(server_key)
peer.curve_publickey, peer.curve_secretkey = bytes.fromhex(public_key), bytes.fromhex(secret_key)
sys.stdin.readline()
monitor = peer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
peer.connect(host)
monitor.recv_multipart()
peer.send(b"hello")
print("said", flush=True)
sys.stdin.readline()
"""


@contextmanager
def gate(context: Context, public_key: bytes) -> Iterator[None]:
    """Lets the key in from a loop of its own, so that handshakes succeed while the listener's loop stands still."""
    opened, closing = threading.Event(), threading.Event()

    async def run() -> None:
        opening = Gate(context)
        opening.allow(public_key)
        opened.set()
        await asyncio.to_thread(closing.wait)
        opening.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    opened.wait()
    try:
        yield
    finally:
        closing.set()
        thread.join()


def accepted_at(port: int) -> set[int]:
    """The descriptors of this process's connections that came in on a port."""
    return {each.fd for each in psutil.Process().net_connections() if each.laddr.port == port and each.raddr}


@contextmanager
def came_and_went(port: int) -> Iterator[int]:
    """Connects, and is gone; the descriptor that the connection had, which is free again and the next to be given."""
    with Path(os.devnull).open() as spare, socket.create_connection(("127.0.0.1", port)) as passer:
        passer.recv(1)  # the greeting: it was accepted
        (fd,) = accepted_at(port)
        os.dup2(spare.fileno(), passer.fileno())  # ends the connection, and keeps the descriptor of its other end
        while accepted_at(port):
            pass
        yield fd


def test_a_first_message_belongs_to_the_connection_it_came_on_though_its_descriptor_was_anothers() -> None:
    listening, peering = new_identity(), new_identity()
    heard: list[tuple[AcceptedWire, bytes]] = []
    ended: list[AcceptedWire] = []

    async def run() -> None:
        context: Context = zmq.Context()
        with gate(context, peering.public_key):
            listener = Listener(
                context,
                listening,
                TUNING,
                on_message=lambda wire, frames: heard.append((wire, frames[0].bytes)),
                on_end=lambda wire, _: ended.append(wire),
            )
            port = listener.open(Address("127.0.0.1", 0))
            keys = [listening.public_key.hex(), peering.public_key.hex(), peering.secret_key.hex()]
            command = [sys.executable, "-c", _PEER, f"tcp://127.0.0.1:{port}", *keys]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
                assert peer.stdin is not None
                assert peer.stdout is not None
                # All that follows has happened before the loop, which this holds up, hears of the first of it.
                with came_and_went(port) as fd:
                    print(file=peer.stdin, flush=True)
                    assert peer.stdout.readline() == "said\n"
                    assert accepted_at(port) == {fd}
                await until(lambda: bool(heard))
                (wire, said) = heard[0]
                assert said == b"hello"
                assert wire.node_id == peering.node_id
                assert not wire.ended
                assert not ended
                assert wire.send([b"answer"])
                print(file=peer.stdin, flush=True)
                await until(lambda: ended == [wire])
            listener.close()
        context.destroy(linger=0)

    uvloop.run(run())


@pytest.mark.parametrize(
    ("routing_id", "before", "is_later"),
    [
        (6, 5, True),
        pytest.param(5, 5, False, id="what an ended connection said is not the next one's"),
        (4, 5, False),
        (2, 2**32 - 3, True),
        (2**32 - 3, 2, False),
    ],
)
def test_of_two_connections_with_one_descriptor_the_later_is_the_one_that_is_open(
    routing_id: int, before: int, is_later: bool
) -> None:
    assert _is_later(*(b"\0" + number.to_bytes(4, "big") for number in (routing_id, before))) == is_later
