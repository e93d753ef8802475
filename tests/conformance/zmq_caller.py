"""A caller over ZeroMQ that knows no more than the frames: for tests of the front, not of the Python client."""

from types import TracebackType
from typing import Any, Self

import numpy as np
import zmq
import zmq.utils.monitor

from appliance.core.client_frames import Call, Fault, Head, Query, Tensor, message_parts, read_message

ANSWER_MS = 20_000


class ZmqCaller:
    """One DEALER socket. `address` is HOST:PORT; options of the socket are named in `options`."""

    def __init__(self, address: str, **options: Any) -> None:
        self._context = zmq.Context()
        self.socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        self.socket.linger = 1000
        for name, value in options.items():
            self.socket.set(getattr(zmq, name), value)
        self.monitor = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.socket.connect(f"tcp://{address}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; what was sent has a second to leave."""
        if not self.socket.closed:
            self.socket.disable_monitor()
            self.monitor.close(linger=0)
            self.socket.close()
            self._context.term()

    def send(self, *parts: Any) -> None:
        self.socket.send_multipart(parts)

    def call(self, head: Call | Query, *body: Any) -> None:
        self.send(*message_parts(head, body))

    def answer(self) -> tuple[Head, list[Any]]:
        """The next frame that comes. Fails where none does."""
        assert self.socket.poll(ANSWER_MS), "no answer came"
        return read_message(self.socket.recv_multipart())

    def fault(self) -> Fault:
        """The next frame, which must be a fault."""
        head, _ = self.answer()
        assert isinstance(head, Fault), head
        return head

    def was_cut_off(self) -> bool:
        """Whether the node ends the connection, now or in a while."""
        return bool(self.monitor.poll(ANSWER_MS))


def tensor(name: str, array: Any, dtype: str = "FP32") -> Tensor:
    """The head of a tensor that lies RAW in the body."""
    return Tensor(name, dtype, list(array.shape), 0, array.nbytes)


ROW = np.array([[1, 2, 3]], np.float32)


def add_one(number: int, key: str, **fields: Any) -> Call:
    """A call of the model `zmq/add-one` with ROW, whose bytes are the body."""
    return Call(number, "zmq/add-one", tensors=[tensor("x", ROW)], key=key, **fields)
