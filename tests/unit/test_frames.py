"""Frames through real sockets, cut wherever a stream may cut them."""

import asyncio
import socket
import threading

import pytest

from appliance.core.frames import (
    PREFIX_SIZE,
    Answer,
    Encoding,
    Failure,
    Invoke,
    Kind,
    Loaded,
    TensorHead,
    decode_answer,
    decode_invoke,
    frame_start,
)
from appliance.workers.link import Link
from appliance.workers.stream import FrameStream


def _invoke(call: int, body: bytes) -> bytes:
    head = Invoke(call, 0, [TensorHead("x", "UINT8", [len(body)], Encoding.RAW, len(body))])
    return frame_start(Kind.INVOKE, head, len(body)) + body


def test_a_worker_reads_all_frames_that_have_arrived_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(_invoke(1, b"ab") + _invoke(2, b"") + _invoke(3, b"cde"))
        frames = FrameStream(theirs).read(wait=True)
        assert [(decode_invoke(f.head).call, bytes(f.body)) for f in frames] == [(1, b"ab"), (2, b""), (3, b"cde")]


@pytest.mark.parametrize("cut", [1, PREFIX_SIZE - 1, PREFIX_SIZE, PREFIX_SIZE + 3])
def test_a_frame_cut_anywhere_is_read_whole(cut: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream, first, second = FrameStream(theirs), _invoke(1, b"abc"), _invoke(2, b"def")
        ours.sendall(first + second[:cut])
        rest = threading.Thread(target=ours.sendall, args=(second[cut:],))
        rest.start()
        read = stream.read(wait=True)
        if len(read) < 2:
            read += stream.read(wait=True)
        rest.join()
        assert [decode_invoke(f.head).call for f in read] == [1, 2]
        assert bytes(read[1].body) == b"def"


def test_a_reader_is_told_when_the_other_end_has_gone() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        with pytest.raises(EOFError):
            FrameStream(theirs).read(wait=True)


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_the_gateway_reads_answers_in_pieces_of_any_size(step: int) -> None:
    body = bytes(range(256)) * 4000  # larger than the link's buffer

    async def heard() -> list[tuple[int, bytes]]:
        got: list[tuple[int, bytes]] = []

        def on_frame(head: Answer | Failure | Loaded, content: bytes) -> None:
            assert isinstance(head, Answer)
            got.append((head.call, content))

        link = Link(lambda _: None, on_frame, lambda: None)
        data = b"".join(
            frame_start(Kind.ANSWER, Answer(call, []), len(content)) + content
            for call, content in ((1, b"a"), (2, body), (3, b""), (4, b"z" * 10))
        )
        position = 0
        while position < len(data):
            buffer = link.get_buffer(-1)
            count = min(step if position < 2000 or step > 7 else 50_000, len(buffer), len(data) - position)
            buffer[:count] = data[position : position + count]
            link.buffer_updated(count)
            position += count
        return got

    assert asyncio.run(heard()) == [(1, b"a"), (2, body), (3, b""), (4, b"z" * 10)]


def test_an_older_answer_without_the_newest_fields_is_still_understood() -> None:
    import msgspec

    assert decode_answer(msgspec.msgpack.encode([7, []])) == Answer(7, [])
