"""Knocking at ports: open, closed and silent ones, of meshes with this key and with another, and of what is none."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zmq

from appliance.core.addresses import Address
from federation.credentials import introduce, why_distrusted
from federation.identity import Identity, new_identity
from federation.introducer import Introducer
from federation.keyring import Keyring
from federation.knocking import Answer, Knock, ask, knock
from federation.messages import Introduction

LOOPBACK = "127.0.0.1"
WAIT_S = 5.0


def own(keyring: Keyring, identity: Identity | None = None) -> Introduction:
    identity = identity or new_identity()
    return introduce(identity, keyring, name="box", addresses=[LOOPBACK], mesh_port=8004, bulk_port=8005)


@contextlib.asynccontextmanager
async def introducing(keyring: Keyring) -> AsyncIterator[tuple[Address, Introduction, list[Introduction]]]:
    shown, met = own(keyring), list[Introduction]()
    introducer = Introducer(
        keyring,
        shown=lambda _: shown,
        is_believed=lambda told: not why_distrusted(told, keyring),
        on_met=lambda told, _: met.append(told),
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind((LOOPBACK, 0))
        address = Address(*free.getsockname())
    introducer.open(address)
    try:
        yield address, shown, met
    finally:
        introducer.close()


@pytest.mark.parametrize("encrypted", [True, False])
def test_only_a_zeromq_port_with_curve_is_a_meshs(encrypted: bool) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        if encrypted:
            router.curve_secretkey = zmq.curve_keypair()[1]
            router.curve_server = True
        port = router.bind_to_random_port(f"tcp://{LOOPBACK}")
        assert asyncio.run(knock(Address(LOOPBACK, port), wait_s=WAIT_S)) == Knock("open", is_mesh=encrypted)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"x" * 64, b"\xff" * 64])
def test_a_port_of_something_else_is_open_and_no_meshs(said: bytes) -> None:
    async def scenario() -> Knock:
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(said)
            writer.close()

        async with await asyncio.start_server(answer, LOOPBACK, 0) as server:
            return await knock(Address(LOOPBACK, server.sockets[0].getsockname()[1]), wait_s=WAIT_S)

    assert asyncio.run(scenario()) == Knock("open")


def test_ports_where_nobody_listens_are_closed(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path)
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for sock in (tcp, udp):
            sock.bind((LOOPBACK, 0))
        addresses = [Address(*sock.getsockname()) for sock in (tcp, udp)]
    assert asyncio.run(knock(addresses[0], wait_s=WAIT_S)).ending == "closed"
    answer = asyncio.run(ask(addresses[1], keyring.current, own(keyring), wait_s=WAIT_S))
    assert answer.ending == "closed"


def test_a_node_with_the_key_answers_who_it_is_and_keeps_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        keyring = Keyring(tmp_path)
        async with introducing(keyring) as (address, shown, met):
            answer = await ask(address, keyring.current, own(keyring), wait_s=WAIT_S)
            assert (answer.ending, answer.introduction) == ("open", shown)
            assert abs(answer.ahead_s) < WAIT_S
            assert met == []

    asyncio.run(scenario())


def test_a_node_with_another_key_says_nothing(tmp_path: Path) -> None:
    async def scenario() -> Answer:
        folders = [tmp_path / "a", tmp_path / "b"]
        for folder in folders:
            folder.mkdir()
        keyring, other = map(Keyring, folders)
        async with introducing(other) as (address, _, _):
            return await ask(address, keyring.current, own(keyring), wait_s=0.3)

    assert asyncio.run(scenario()) == Answer("silent")
