"""Frames of an invitation's TCP connection: four bytes of length, then msgpack. Bounded in size and time.

Used by both ends. Whoever sends something else is a stranger, and is hung up on.
"""

import asyncio
import contextlib

import msgspec

from federation.invitation_exchange import Asked, Frame, Granted, NotAgreedError, Offered, Proved, Refused, Settled

# Asked, Offered, Proved and Settled are some hundreds of bytes; Granted tells of up to 200 members.
MAX_FRAME_BYTES = 4096
MAX_GRANT_BYTES = 262_144
_SIZE_BYTES = 4

_decoder = msgspec.msgpack.Decoder(Asked | Offered | Proved | Granted | Settled | Refused)


def encoded(frame: Frame) -> bytes:
    """A frame's bytes without its length: what the transcript is made of."""
    return msgspec.msgpack.encode(frame)


async def send(writer: asyncio.StreamWriter, content: bytes) -> None:
    """Sends encoded() bytes. Raises OSError where the other end has gone."""
    writer.write(len(content).to_bytes(_SIZE_BYTES, "big") + content)
    await writer.drain()


async def receive(reader: asyncio.StreamReader, max_bytes: int = MAX_FRAME_BYTES) -> tuple[Frame, bytes]:
    """The next frame, and its bytes. Raises NotAgreedError for what is none, and at the connection's end."""
    try:
        size = int.from_bytes(await reader.readexactly(_SIZE_BYTES), "big")
        if not 0 < size <= max_bytes:
            raise NotAgreedError(f"a frame of {size} bytes")
        content = await reader.readexactly(size)
        return _decoder.decode(content), content
    except asyncio.IncompleteReadError:
        raise NotAgreedError("the connection ended") from None
    except msgspec.MsgspecError:
        raise NotAgreedError("no frame of an invitation") from None


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Ends the connection, whatever its other end does."""
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1.0):
            await writer.wait_closed()
