"""Recordings as samples: every coding of WAV, mixing, other rates, and headers that lie."""

import struct

import numpy as np
import pytest
from plain_cases import declares, one, outcome, takes

from appliance.core.errors import BadInputError, IngleError, TooLargeError, UnsupportedError
from appliance.workers.plain.resampling import resampled
from appliance.workers.plain.wav import read_wav

WAV = "audio/wav"
FREE = takes(("x", "FP32", (-1, -1)))


def wav(
    data,
    *,
    code=1,
    channels=1,
    rate=16000,
    bits=16,
    frame_bytes=None,
    data_size=None,
    riff_size=None,
    extra=b"",
    before=b"",
    after=b"",
):
    """A WAV file, honest but where it is told otherwise."""
    frame_bytes = channels * bits // 8 if frame_bytes is None else frame_bytes
    form = struct.pack("<HHIIHH", code, channels, rate, rate * frame_bytes & 0xFFFFFFFF, frame_bytes, bits) + extra
    chunks = b"WAVE" + before + b"fmt " + struct.pack("<I", len(form)) + form + b"data"
    chunks += struct.pack("<I", len(data) if data_size is None else data_size) + data + after
    return b"RIFF" + struct.pack("<I", len(chunks) if riff_size is None else riff_size) + chunks


def audio(**declaration):
    return declares({"name": "x", "as": "audio", **declaration})


def extensible(code, bits):
    return struct.pack("<HHIH", 22, bits, 0, code) + bytes.fromhex("000000001000800000AA00389B71")


CODINGS = [
    ("PCM 8", {"bits": 8}, bytes([0, 128, 192])),
    ("PCM 16", {"bits": 16}, struct.pack("<3h", -32768, 0, 16384)),
    ("PCM 24", {"bits": 24}, b"\x00\x00\x80" + b"\x00\x00\x00" + b"\x00\x00\x40"),
    ("PCM 32", {"bits": 32}, struct.pack("<3i", -(2**31), 0, 2**30)),
    ("float 32", {"code": 3, "bits": 32}, struct.pack("<3f", -1, 0, 0.5)),
    ("float 64", {"code": 3, "bits": 64}, struct.pack("<3d", -1, 0, 0.5)),
    ("extensible PCM", {"code": 0xFFFE, "extra": extensible(1, 16)}, struct.pack("<3h", -32768, 0, 16384)),
    ("extensible float", {"code": 0xFFFE, "bits": 32, "extra": extensible(3, 32)}, struct.pack("<3f", -1, 0, 0.5)),
]


@pytest.mark.parametrize(("form", "data"), [row[1:] for row in CODINGS], ids=[row[0] for row in CODINGS])
def test_each_coding_gives_the_same_samples(form, data):
    tensor = one(WAV, wav(data, **form), FREE, audio())
    assert tensor.dtype == np.float32
    assert tensor.tolist() == [[-1.0, 0.0, 0.5]]


@pytest.mark.parametrize("content_type", ["audio/wav", "audio/x-wav", "audio/wave", "application/octet-stream", ""])
def test_a_recording_is_known_by_its_declaration(content_type):
    assert one(content_type, wav(bytes(8)), FREE, audio()).shape == (1, 4)


STEREO = wav(struct.pack("<4h", 16384, 0, -16384, 0), channels=2)


def test_channels_are_mixed_down_doubled_or_kept():
    assert one(WAV, STEREO, FREE, audio()).tolist() == [[0.25, -0.25]]
    first = takes(("x", "FP32", (-1, 2, -1)))
    last = takes(("x", "FP32", (-1, -1, 2)))
    kept = audio(channels=2, layout="channels_samples")
    assert one(WAV, STEREO, first, kept).tolist() == [[[0.5, -0.5], [0, 0]]]
    assert one(WAV, STEREO, last, audio(channels=2, layout="samples_channels")).tolist() == [[[0.5, 0], [-0.5, 0]]]
    assert one(WAV, wav(struct.pack("<h", 16384)), first, kept).tolist() == [[[0.5], [0.5]]]
    with pytest.raises(BadInputError, match="has 3 channels, but the model takes 2"):
        one(WAV, wav(bytes(6), channels=3), first, kept)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((-1,), "samples"), ((-1, -1), "samples"), ((-1, 1, -1), "channels_samples"), ((-1, -1, 1), "samples_channels")],
)
def test_one_channel_fits_every_rank(shape, layout):
    assert one(WAV, wav(bytes(8)), takes(("x", "FP32", shape)), audio(layout=layout)).size == 4


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("INT16", [-32768, 0, 16384]),
        ("UINT8", [0, 128, 192]),
        ("FP64", [-1, 0, 0.5]),
        ("BF16", [0xBF80, 0, 0x3F00]),
        ("INT64", [-(2**63), 0, 2**62]),
    ],
)
def test_samples_become_the_input_s_own_type(dtype, expected):
    body = wav(struct.pack("<3h", -32768, 0, 16384))
    assert one(WAV, body, takes(("x", dtype, (-1,))), audio()).tolist() == expected


def test_loud_samples_are_clipped_and_not_wrapped():
    body = wav(struct.pack("<2f", 2.0, -2.0), code=3, bits=32)
    assert one(WAV, body, takes(("x", "INT16", (-1,))), audio()).tolist() == [32767, -32768]
    assert one(WAV, body, takes(("x", "INT64", (-1,))), audio()).tolist()[0] > 2**62


def test_silence_fills_a_fixed_length_and_a_longer_recording_is_refused():
    fixed = takes(("x", "FP32", (-1, 4)))
    assert one(WAV, wav(struct.pack("<2h", 16384, 16384)), fixed, audio()).tolist() == [[0.5, 0.5, 0, 0]]
    with pytest.raises(BadInputError, match="has 5 samples at 16000 Hz, but the model takes 4"):
        one(WAV, wav(bytes(10)), fixed, audio())
    two = takes(("x", "FP32", (1, 2, 4)))
    assert one(WAV, STEREO, two, audio(channels=2, layout="channels_samples")).shape == (1, 2, 4)


@pytest.mark.parametrize(
    ("rate", "wanted"), [(44100, 16000), (8000, 16000), (48000, 16000), (16000, 44100), (22050, 16000), (16001, 15999)]
)
def test_another_rate_keeps_the_tone(rate, wanted):
    seconds, tone = 0.25, 440.0
    source = np.sin(2 * np.pi * tone * np.arange(int(rate * seconds)) / rate).astype(np.float32)[:, None]
    result = resampled(source, rate, wanted)[:, 0]
    assert len(result) == int(len(source) * wanted / rate + 0.5)
    expected = np.sin(2 * np.pi * tone * np.arange(len(result)) / wanted)
    edge = wanted // 50  # where the filter has no neighbours
    assert np.abs(result - expected)[edge:-edge].max() < 0.005


def test_a_tone_that_the_new_rate_cannot_hold_does_not_fold_back():
    source = np.sin(2 * np.pi * 11000 * np.arange(11025) / 44100).astype(np.float32)[:, None]
    assert np.abs(resampled(source, 44100, 16000)[400:-400]).max() < 0.01


def test_a_recording_at_another_rate_is_brought_to_the_declared_one():
    assert one(WAV, wav(bytes(2 * 44100), rate=44100), FREE, audio(rate=8000)).shape == (1, 8000)
    assert one(WAV, wav(bytes(2), rate=44100), FREE, audio(rate=8000)).shape == (1, 1)


@pytest.mark.parametrize("data_size", [0xFFFFFFFF, 1000])
def test_a_size_beyond_the_end_means_all_that_came(data_size):
    assert one(WAV, wav(bytes(8), data_size=data_size), FREE, audio()).shape == (1, 4)


def test_a_stream_that_never_knew_its_size_is_read_to_its_end():
    assert one(WAV, wav(bytes(8), data_size=0, riff_size=0), FREE, audio()).shape == (1, 4)
    with pytest.raises(BadInputError, match="no samples"):
        one(WAV, wav(b"", after=b"LIST\x04\x00\x00\x00abcd"), FREE, audio())


def test_other_chunks_are_passed_over():
    body = wav(bytes(8), before=b"LIST\x03\x00\x00\x00abc\x00", after=b"junk\x02\x00\x00\x00ab")
    assert one(WAV, body, FREE, audio()).shape == (1, 4)


def test_half_a_sample_at_the_end_is_left_out():
    assert one(WAV, wav(bytes(7)), FREE, audio()).shape == (1, 3)


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        (b"", BadInputError, "empty"),
        (b"hello", BadInputError, "no WAV file"),
        (b"ID3\x04" + bytes(40), BadInputError, "no WAV file"),
        (b"RIFF\x00\x00\x00\x00AVI " + bytes(40), BadInputError, "no WAV file"),
        (wav(b"")[:12], BadInputError, "no data chunk"),
        (wav(b"")[:30], BadInputError, "format chunk is cut short"),
        (wav(b""), BadInputError, "no samples"),
        (wav(b"\x00"), BadInputError, "no samples"),
        (b"RIFF\x10\x00\x00\x00WAVEdata\x04\x00\x00\x00abcd", BadInputError, "data before its format"),
        (wav(bytes(8), code=0x55), UnsupportedError, "coded as MP3"),
        (wav(bytes(8), code=7, bits=8), UnsupportedError, "coded as mu-law"),
        (wav(bytes(8), code=999), UnsupportedError, "coded as format 999"),
        (wav(bytes(8), bits=12, frame_bytes=2), UnsupportedError, "samples of 12 bits"),
        (wav(bytes(8), code=3, bits=16), UnsupportedError, "samples of 16 bits"),
        (wav(bytes(8), channels=0), BadInputError, "0 channels"),
        (wav(bytes(8), channels=65535, frame_bytes=2), BadInputError, "65535 channels"),
        (wav(bytes(8), rate=0), BadInputError, "0 Hz"),
        (wav(bytes(8), rate=2**32 - 1), BadInputError, "4294967295 Hz"),
        (wav(bytes(8), frame_bytes=7), BadInputError, "contradicts itself"),
        (wav(struct.pack("<2f", 1, float("nan")), code=3, bits=32), BadInputError, "no numbers"),
        (wav(struct.pack("<2d", 1, 1e300), code=3, bits=64), BadInputError, "beyond"),
    ],
)
def test_a_recording_that_is_not_what_it_says_is_refused(body, error, says):
    with pytest.raises(error) as refused:
        one(WAV, body, FREE, audio())
    assert says in refused.value.sentence


def test_a_rate_that_would_blow_a_recording_up_is_refused():
    with pytest.raises(TooLargeError, match="send it in parts"):
        one(WAV, wav(bytes(2 * 100_000), rate=100), FREE, audio(rate=1_000_000))


@pytest.mark.parametrize(
    ("declaration", "says"),
    [
        ({"rate": 0}, "rate 100 to"),
        ({"channels": 0}, "channels are 1 to 64"),
        ({"channels": 2}, "no place for 2 channels"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_told(declaration, says):
    with pytest.raises(BadInputError, match=says):
        one(WAV, wav(bytes(8)), FREE, audio(**declaration))


def test_damaged_headers_end_in_a_sentence():
    random = np.random.default_rng(3)
    whole = np.frombuffer(wav(bytes(range(200)), channels=2, bits=24, before=b"LIST\x04\x00\x00\x00abcd"), np.uint8)
    for _ in range(400):
        body = whole.copy()
        body[random.integers(0, 60, 3)] = random.integers(0, 256, 3)
        found = outcome(read_wav, body.tobytes()[: random.integers(0, len(body) + 1)])
        if isinstance(found, IngleError):
            assert found.status in (400, 413, 415)
        else:
            assert found.samples.ndim == 2
            assert np.isfinite(found.samples).all()
            assert found.rate >= 100
