"""A descriptor of our own for a connection that ZeroMQ owns: to end it, and to see how much came over it.

Runs in the gateway's event loop. ZeroMQ can end no single connection of a ROUTER, and bounds a message's parts but not
how many follow each other; it keeps them all until the last has come.
"""

import contextlib
import os
import socket
import struct

# linux/tcp.h: tcpi_bytes_received in struct tcp_info.
_BYTES_RECEIVED = struct.Struct("=128xQ")
_AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: on, for no time


class TcpEnd:
    """end() or release() it: until then the connection stays open, whatever ZeroMQ does."""

    def __init__(self, fd: int) -> None:
        """Raises OSError where there is no such connection any more."""
        self._socket = socket.socket(fileno=os.dup(fd))
        self._messages_seen = 0
        self._received_then = 0
        self.ended = False

    def is_of(self, port: int) -> bool:
        """Whether it came in on this port: the descriptor that was named may have been closed and given away."""
        try:
            return bool(self._socket.getsockname()[1] == port)
        except (OSError, IndexError):
            return False

    def unfinished_bytes(self, messages: int) -> int:
        """What came since a message was last complete, as far as this was asked before. `messages`: how many there
        were so far."""
        if self.ended:
            return 0
        told = b""
        with contextlib.suppress(OSError):
            told = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.size)
        received = int(_BYTES_RECEIVED.unpack(told)[0]) if len(told) == _BYTES_RECEIVED.size else 0
        if messages != self._messages_seen:
            self._messages_seen, self._received_then = messages, received
        return received - self._received_then

    def end(self) -> None:
        """Ends the connection, once; ZeroMQ finds out by itself."""
        if not self.ended:
            with contextlib.suppress(OSError):  # it has ended by itself
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                self._socket.shutdown(socket.SHUT_RDWR)
            self.release()

    def release(self) -> None:
        """Lets go of a connection that has ended by itself, or is not the one that was meant."""
        if not self.ended:
            self.ended = True
            self._socket.close()
