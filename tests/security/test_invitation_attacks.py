"""Invitations over real sockets: who has the code is let in; who guesses, relays, replays, floods or stalls is not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest

from appliance.core.addresses import Address
from appliance.core.errors import ForbiddenError, IngleError, NotFoundError, UnavailableError
from federation.invitation_code import Code, new_code
from federation.invitation_exchange import Asked, Grant, Granted, NotAgreedError, Offered, Proved, seal
from federation.invitation_frames import encoded, receive, send
from federation.invitations import TRIES, Invitation
from federation.invite_client import Host, Joiner, join
from federation.invite_server import MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS, InviteServer
from federation.messages import Introduction, Keys

KEY = "5a" * 32
INVITER, NEWCOMER, THIEF = (
    Introduction(letter * 32, f"node-{letter}", letter.encode() * 32, "key", b"c" * 32, ["127.0.0.1"], 8004, 8005)
    for letter in "abc"
)
GRANT = Grant(Keys([KEY], "key", []), [INVITER])


class House:
    """What the inviting node gives away, and whom it was told of."""

    def __init__(self, revoked: bytes = b"") -> None:
        self.revoked = revoked
        self.welcomed: list[tuple[Introduction, str]] = []
        self.fails = False

    def me(self) -> Introduction:
        return INVITER

    def is_revoked(self, public_key: bytes) -> bool:
        return public_key == self.revoked

    def grant(self) -> Grant:
        if self.fails:
            raise UnavailableError("the disk is full")
        return GRANT

    async def welcome(self, introduction: Introduction, host: str) -> None:
        self.welcomed.append((introduction, host))


class Newcomer:
    """A node that joins; what it kept."""

    def __init__(self, introduction: Introduction = NEWCOMER) -> None:
        self.introduction = introduction
        self.kept: list[Grant] = []

    async def keep(self, grant: Grant) -> Introduction:
        self.kept.append(grant)
        return self.introduction

    async def join(self, code: Code, port: int, *, exchange_s: float = 10.0) -> Host:
        me = Joiner(self.introduction.node_id, self.introduction.name, self.introduction.public_key)
        return await join(code, [Address("127.0.0.1", port)], me, self.keep, exchange_s=exchange_s)


@contextlib.asynccontextmanager
async def inviting(house: House, *, exchange_s: float = 10.0) -> AsyncIterator[tuple[InviteServer, Invitation]]:
    server = InviteServer(house, "127.0.0.1", 0, exchange_s=exchange_s)
    try:
        yield server, await server.invite()
    finally:
        await server.close()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def wrong(code: Code) -> Code:
    return Code(code.label, "0" * 6 if code.secret != "0" * 6 else "1" * 6)


Middle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(serve: Middle) -> AsyncIterator[int]:
    """A server of the attacker's on a port of its own."""

    async def serve_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, NotAgreedError):
                await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve_and_close, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def test_who_has_the_code_gets_the_keys_and_is_welcomed_and_the_port_closes() -> None:
    async def test() -> None:
        house, newcomer = House(), Newcomer()
        async with inviting(house) as (server, invitation):
            port = server.port
            host = await newcomer.join(invitation.code, port)
            await until(lambda: server.port == 0)
            assert (host.name, newcomer.kept, house.welcomed) == ("node-a", [GRANT], [(NEWCOMER, "127.0.0.1")])
            assert (invitation.standing, invitation.joined) == ("joined", "node-b")
            with pytest.raises(UnavailableError, match="cannot be reached"):
                await Newcomer(THIEF).join(invitation.code, port)

    run(test)


def test_a_code_is_good_once_while_another_invitation_keeps_the_port_open() -> None:
    async def test() -> None:
        house, thief = House(), Newcomer(THIEF)
        async with inviting(house) as (server, first):
            second = await server.invite()
            await Newcomer().join(first.code, server.port)
            with pytest.raises(ForbiddenError, match="used already"):
                await thief.join(first.code, server.port)
            await thief.join(second.code, server.port)
            await until(lambda: len(house.welcomed) == 2)

    run(test)


def test_wrong_codes_are_counted_told_of_and_end_the_invitation() -> None:
    async def test() -> None:
        house, thief = House(), Newcomer(THIEF)
        async with inviting(house) as (server, invitation):
            other = await server.invite()
            for left in range(TRIES - 1, -1, -1):
                with pytest.raises(ForbiddenError, match="code is wrong"):
                    await thief.join(wrong(invitation.code), server.port)
                assert invitation.tries_left == left
            assert len(invitation.notes) == TRIES
            with pytest.raises(ForbiddenError, match="too many wrong codes"):
                await Newcomer().join(invitation.code, server.port)
            assert (thief.kept, house.welcomed, other.standing) == ([], [], "open")

    run(test)


def test_guesses_at_once_are_no_more_than_guesses_in_turn() -> None:
    async def test() -> None:
        house = House()
        async with inviting(house) as (server, invitation):
            thieves = [Newcomer(THIEF) for _ in range(40)]
            answers = await asyncio.gather(
                *(thief.join(wrong(invitation.code), server.port) for thief in thieves), return_exceptions=True
            )
            assert all(isinstance(answer, IngleError) for answer in answers)
            assert sum("code is wrong" in str(answer) for answer in answers) <= TRIES
            assert all(thief.kept == [] for thief in thieves)

    run(test)


def test_an_unknown_label_costs_no_try() -> None:
    async def test() -> None:
        async with inviting(House()) as (server, invitation):
            label = "ZZZ" if invitation.code.label != "ZZZ" else "000"
            with pytest.raises(NotFoundError, match="first three"):
                await Newcomer(THIEF).join(Code(label, invitation.code.secret), server.port)
            assert (invitation.tries_left, invitation.notes) == (TRIES, [])

    run(test)


def test_a_revoked_node_is_not_let_in_though_it_has_the_code() -> None:
    async def test() -> None:
        house, thief = House(revoked=THIEF.public_key), Newcomer(THIEF)
        async with inviting(house) as (server, invitation):
            with pytest.raises(ForbiddenError, match="was revoked"):
                await thief.join(invitation.code, server.port)
            assert (thief.kept, house.welcomed) == ([], [])

    run(test)


def test_a_man_in_the_middle_with_a_code_of_his_own_gets_nothing_from_either() -> None:
    """He plays the inviting node to the newcomer and the newcomer to the inviting node, each with another code."""

    async def test() -> None:
        house, newcomer, thief = House(), Newcomer(), Newcomer(THIEF)
        async with inviting(house) as (server, invitation), inviting(House()) as (his_server, his_invitation):
            his_invitation.code = wrong(invitation.code)
            his_server._invitations[invitation.code.label] = his_invitation
            with pytest.raises(ForbiddenError, match="code is wrong"):
                await newcomer.join(invitation.code, his_server.port)
            with pytest.raises(ForbiddenError, match="code is wrong"):
                await thief.join(his_invitation.code, server.port)
            assert (newcomer.kept, thief.kept, house.welcomed) == ([], [], [])
            assert invitation.tries_left == TRIES - 1

    run(test)


@pytest.mark.parametrize("place", ["name", "element", "grant"])
def test_a_man_in_the_middle_who_changes_what_is_said_is_noticed(place: str) -> None:
    async def test() -> None:
        house, newcomer = House(), Newcomer()
        async with inviting(house) as (server, invitation):

            async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                async with connected(server.port) as (theirs, ours):
                    await send(ours, (await receive(reader))[1])
                    offered, content = await receive(theirs)
                    assert isinstance(offered, Offered)
                    if place == "name":
                        content = encoded(Offered(1, offered.element, "e" * 32, "evil", b"e" * 32))
                    elif place == "element":
                        content = encoded(Offered(1, offered.element[:-1] + b"\0", *_who(offered)))
                    await send(writer, content)
                    await send(ours, (await receive(reader))[1])
                    granted, content = await receive(theirs, 1 << 18)
                    if place == "grant" and isinstance(granted, Granted):
                        content = encoded(Granted(granted.proof, seal(b"k" * 32, GRANT)))
                    await send(writer, content)
                    await reader.read()

            async with listening(relay) as port:
                with pytest.raises(IngleError):
                    await newcomer.join(invitation.code, port)
            assert (newcomer.kept, house.welcomed) == ([], [])
            assert invitation.standing == "open"

    run(test)


def _who(offered: Asked | Offered) -> tuple[str, str, bytes]:
    return offered.node_id, offered.name, offered.public_key


def test_a_replayed_exchange_opens_nothing() -> None:
    """What a newcomer said, recorded and said again word for word to another invitation with the very same code."""

    async def test() -> None:
        house = House()
        said: list[bytes] = []
        async with inviting(house) as (server, invitation):

            async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                async with connected(server.port) as (theirs, ours):
                    for _ in range(2):
                        said.append((await receive(reader))[1])
                        await send(ours, said[-1])
                        await send(writer, (await receive(theirs, 1 << 18))[1])
                    await send(ours, (await receive(reader))[1])

            async with listening(record) as port:
                await Newcomer().join(invitation.code, port)
            await until(lambda: invitation.standing == "joined")
            again = await server.invite()
            del server._invitations[again.code.label]
            again.code = invitation.code
            server._invitations[again.code.label] = again
            async with connected(server.port) as (reader, writer):
                await send(writer, said[0])
                await receive(reader)
                await send(writer, said[1])
                refused, _ = await receive(reader)
            assert not isinstance(refused, Granted)
            assert (again.tries_left, len(house.welcomed)) == (TRIES - 1, 1)

    run(test)


def test_an_element_is_not_taken_back_from_whom_it_was_sent_to() -> None:
    async def test() -> None:
        newcomer = Newcomer()

        async def reflect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked, _ = await receive(reader)
            assert isinstance(asked, Asked)
            await send(writer, encoded(Offered(1, asked.element, *_who(asked))))
            proved, _ = await receive(reader)
            assert isinstance(proved, Proved)
            await send(writer, encoded(Granted(proved.proof, seal(b"k" * 32, GRANT))))

        async with listening(reflect) as port:
            with pytest.raises(IngleError):
                await newcomer.join(new_code(), port)
        assert newcomer.kept == []

    run(test)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\0", b"\xff" * 64, b"\0\0\0\x03\x93\xa5\xff"])
def test_garbage_is_hung_up_on_at_once_and_costs_nothing(garbage: bytes) -> None:
    async def test() -> None:
        async with inviting(House()) as (server, invitation):
            async with connected(server.port) as (reader, writer), asyncio.timeout(5):
                writer.write(garbage)
                assert await reader.read() == b""
            assert invitation.tries_left == TRIES
            await Newcomer().join(invitation.code, server.port)

    run(test)


def test_who_is_silent_is_hung_up_on_and_many_of_them_keep_nobody_out_for_long() -> None:
    async def test() -> None:
        async with inviting(House(), exchange_s=0.3) as (server, invitation):
            stack = contextlib.AsyncExitStack()
            silent = [await stack.enter_async_context(connected(server.port)) for _ in range(3 * MAX_CONNECTIONS)]
            with pytest.raises(IngleError, match="too many ask"):
                await Newcomer().join(invitation.code, server.port)
            assert len(server._connections) <= MAX_CONNECTIONS_PER_ADDRESS + 1
            async with asyncio.timeout(5):
                for reader, _ in silent:
                    await reader.read()
            await stack.aclose()
            await Newcomer().join(invitation.code, server.port)

    run(test)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_join_that_is_cut_short_leaves_both_as_they_were_and_can_be_tried_again(after: int) -> None:
    """The connection breaks before the inviting node's first, second or third word reaches the newcomer."""

    async def test() -> None:
        house, newcomer = House(), Newcomer()
        async with inviting(house) as (server, invitation):

            async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                async with connected(server.port) as (theirs, ours):
                    for word in range(after):
                        await send(ours, (await receive(reader))[1])
                        answer = (await receive(theirs, 1 << 18))[1]
                        if word < after - 1:
                            await send(writer, answer)

            async with listening(cut) as port:
                with pytest.raises(UnavailableError, match="nothing has changed"):
                    await newcomer.join(invitation.code, port)
            assert (newcomer.kept, house.welcomed, invitation.tries_left) == ([], [], TRIES)
            await until(lambda: not server._connections)
            assert invitation.standing == "open"
            await newcomer.join(invitation.code, server.port)
            await until(lambda: len(house.welcomed) == 1)
            assert newcomer.kept == [GRANT]

    run(test)


def test_keys_that_cannot_be_kept_leave_the_invitation_open() -> None:
    async def test() -> None:
        house = House()

        class Full(Newcomer):
            async def keep(self, grant: Grant) -> Introduction:
                raise UnavailableError("the disk is full")

        async with inviting(house) as (server, invitation):
            with pytest.raises(UnavailableError, match="disk is full"):
                await Full().join(invitation.code, server.port)
            await until(lambda: not server._connections)
            assert (invitation.standing, house.welcomed) == ("open", [])
            assert "cut off" in invitation.notes[-1]

    run(test)


def test_a_fault_of_the_inviting_node_is_told_and_ends_nothing() -> None:
    async def test() -> None:
        house = House()
        house.fails = True
        async with inviting(house) as (server, invitation):
            with pytest.raises(UnavailableError, match="inviting node failed"):
                await Newcomer().join(invitation.code, server.port)
            house.fails = False
            await Newcomer().join(invitation.code, server.port)

    run(test)
