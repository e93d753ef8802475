"""A second descriptor of a connection: how much came over it, and its end."""

import socket
from collections.abc import Iterator

import pytest

from federation.tcp_end import TcpEnd


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection: what dialled it, and what was accepted."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as dialled:
        accepted, _ = server.accept()
        with accepted:
            yield dialled, accepted


def send(dialled: socket.socket, accepted: socket.socket, size: int) -> None:
    dialled.sendall(bytes(size))
    while size:
        size -= len(accepted.recv(size))


def test_what_came_since_the_last_whole_message_is_counted(ends: tuple[socket.socket, socket.socket]) -> None:
    tcp = TcpEnd(ends[1].fileno())
    assert tcp.unfinished_bytes(0) == 0
    send(*ends, 5000)
    assert tcp.unfinished_bytes(0) == 5000
    send(*ends, 3000)
    assert tcp.unfinished_bytes(0) == 8000
    assert tcp.unfinished_bytes(1) == 0
    send(*ends, 10)
    assert tcp.unfinished_bytes(1) == 10
    tcp.release()
    assert tcp.unfinished_bytes(2) == 0


def test_ending_it_ends_the_connection_and_letting_it_go_does_not(ends: tuple[socket.socket, socket.socket]) -> None:
    dialled, accepted = ends
    TcpEnd(accepted.fileno()).release()
    dialled.sendall(b"x")
    assert accepted.recv(1) == b"x"
    tcp = TcpEnd(accepted.fileno())
    assert tcp.is_of(accepted.getsockname()[1])
    assert not tcp.is_of(dialled.getsockname()[1])
    tcp.end()
    tcp.end()
    assert accepted.recv(1) == b""


def test_a_connection_that_is_gone_is_an_error(ends: tuple[socket.socket, socket.socket]) -> None:
    fd = ends[1].fileno()
    ends[1].close()
    with pytest.raises(OSError, match="file descriptor"):
        TcpEnd(fd)
