"""WAV read with distrust: what the header says is checked against the bytes that are there. Runs in a worker process.

PCM of 8, 16, 24 and 32 bits, float of 32 and 64, also behind the extensible header. Source: Microsoft's "Multiple
channel audio data and WAVE files".
"""

import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import BadInputError, TooLargeError, UnsupportedError

Array = NDArray[Any]
MAX_SAMPLES = 2**26  # of all channels together: 70 minutes at 16 kHz, 256 MiB as FP32
MAX_AMPLITUDE = 1e9
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_FORMAT = struct.Struct("<HHIIHH")
_CHUNK = struct.Struct("<4sI")
_NAMES = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "ADPCM", 0x55: "MP3"}


class Recording(NamedTuple):
    """`samples` is FP32, (samples, channels), -1..1 (float files may go beyond); `rate` in Hz."""

    samples: Array
    rate: int


class _Format(NamedTuple):
    code: int
    channels: int
    rate: int
    bits: int


def read_wav(body: bytes | memoryview) -> Recording:
    """The recording. A data chunk whose size says more than came (streamed files write 0 or the largest number) is
    taken as far as it goes. Raises BadInputError, UnsupportedError for another coding."""
    if len(body) < 12 or bytes(body[:4]) != b"RIFF" or bytes(body[8:12]) != b"WAVE":
        raise BadInputError("the content is no WAV file: send audio/wav, PCM or float")
    form, position = None, 12
    while position + _CHUNK.size <= len(body):
        name, size = _CHUNK.unpack_from(body, position)
        start = position + _CHUNK.size
        if name == b"data":
            if form is None:
                raise BadInputError("the WAV file has its data before its format: it is damaged")
            # Written as a stream, the file's own size is 0 or too large too.
            streamed = size == 0 and _CHUNK.unpack_from(body)[1] + _CHUNK.size <= start
            return _samples(form, memoryview(body)[start : len(body) if streamed else start + size])
        if name == b"fmt ":
            form = _format(bytes(body[start : start + min(size, 64)]))
        position = start + size + (size & 1)
    raise BadInputError("the WAV file has no data chunk: it is cut short or damaged")


def _format(chunk: bytes) -> _Format:
    if len(chunk) < _FORMAT.size:
        raise BadInputError("the WAV file's format chunk is cut short")
    code, channels, rate, _, frame_bytes, bits = _FORMAT.unpack_from(chunk)
    if code == _EXTENSIBLE and len(chunk) >= 26:
        (code,) = struct.unpack_from("<H", chunk, 24)
    if code not in (_PCM, _FLOAT):
        raise UnsupportedError(
            f"the WAV file is coded as {_NAMES.get(code, f'format {code}')}: send PCM of 8, 16, 24 or 32 bits, or float"
        )
    if bits not in ((32, 64) if code == _FLOAT else (8, 16, 24, 32)):
        raise UnsupportedError(
            f"the WAV file has samples of {bits} bits: send PCM of 8, 16, 24 or 32 bits, or float of 32 or 64"
        )
    if not 1 <= channels <= 64 or not 100 <= rate <= 1_000_000:
        raise BadInputError(
            f"the WAV file says {channels} channels at {rate} Hz, which no recording has: it is damaged"
        )
    if frame_bytes != channels * bits // 8:
        raise BadInputError(
            f"the WAV file's header contradicts itself: {channels} channels of {bits} bits are {channels * bits // 8} "
            f"bytes, not {frame_bytes}"
        )
    return _Format(code, channels, rate, bits)


def _samples(form: _Format, data: memoryview) -> Recording:
    width = form.bits // 8
    count = len(data) // (width * form.channels)
    if not count:
        raise BadInputError("the WAV file has no samples")
    if count * form.channels > MAX_SAMPLES:
        raise TooLargeError(
            f"the recording has {count} samples of {form.channels} channels: at most "
            f"{MAX_SAMPLES // form.channels} are taken; send it in parts"
        )
    data = data[: count * width * form.channels]
    if form.code == _FLOAT:
        loud: Array = np.frombuffer(data, f"<f{width}")
        if not (np.abs(loud) <= MAX_AMPLITUDE).all():
            raise BadInputError(f"the WAV file has samples that are no numbers, or beyond {MAX_AMPLITUDE:g}")
        samples: Array = loud.astype(np.float32)
    elif width == 1:
        samples = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    elif width == 3:
        triples = np.frombuffer(data, np.uint8).reshape(-1, 3)
        wide = np.zeros((len(triples), 4), np.uint8)
        wide[:, 1:] = triples  # the upper three bytes: the sign comes for free
        samples = wide.view("<i4")[:, 0].astype(np.float32) / 2**31
    else:
        samples = np.frombuffer(data, f"<i{width}").astype(np.float32) / 2 ** (form.bits - 1)
    return Recording(samples.reshape(count, form.channels), form.rate)
