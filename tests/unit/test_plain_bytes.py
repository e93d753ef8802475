"""A file's bytes as numbers: windows of head and tail, by table."""

import numpy as np
import pytest
from plain_cases import declares, one, takes

from appliance.core.errors import BadInputError
from appliance.core.manifest import BytesInput
from appliance.workers.plain.raw_bytes import window

P = 256  # the padding of file-type models: a number that no byte is
HEAD_AND_TAIL = BytesInput(name="x", head=4, tail=3, padding=P, strip=True, block=8)

WINDOWS = [
    # A long file: the first block's head, the last block's tail.
    (HEAD_AND_TAIL, b"abcdefghijkl", [*b"abcd", *b"jkl"]),
    # Exactly a block, and shorter than either window: padded after the head and before the tail.
    (HEAD_AND_TAIL, b"abcdefgh", [*b"abcd", *b"fgh"]),
    (HEAD_AND_TAIL, b"ab", [*b"ab", P, P, P, *b"ab"]),
    # White space goes from the outer sides alone: the tail keeps what leads it.
    (HEAD_AND_TAIL, b"  ab  ", [*b"ab  ", *b" ab"]),
    (HEAD_AND_TAIL, b"  a", [*b"a", P, P, P, *b"  a"]),
    (HEAD_AND_TAIL, b"a \t\r\n\x0b\x0c", [*b"a \t\r", P, P, *b"a"]),
    # Only what was read as the block is stripped, so a block of white space is all padding.
    (HEAD_AND_TAIL, b"        abcdef", [P, P, P, P, *b"def"]),
    (HEAD_AND_TAIL, b"abcdef        ", [*b"abcd", P, P, P]),
    (HEAD_AND_TAIL, b"      abcdef", [*b"ab", P, P, *b"def"]),
    # NUL and bytes beyond ASCII are no white space.
    (HEAD_AND_TAIL, b"\x00ab\x85\xa0", [*b"\x00ab\x85", *b"b\x85\xa0"]),
    (BytesInput(name="x", head=4, tail=3, padding=P, block=8), b"  a", [*b"  a", P, *b"  a"]),
    (BytesInput(name="x", head=3), b"abcdef", [*b"abc"]),
    (BytesInput(name="x", head=3, padding=-1), b"a", [97, -1, -1]),
    (BytesInput(name="x", tail=3), b"abcdef", [*b"def"]),
    (BytesInput(name="x", tail=3), b"a", [0, 0, 97]),
    # A window wider than the block has no more than the block; block 0: the whole file.
    (BytesInput(name="x", head=6, block=4), b"abcdefgh", [*b"abcd", 0, 0]),
    (BytesInput(name="x", head=6, block=0), b"abcdefgh", [*b"abcdef"]),
    # Without a window, every byte.
    (BytesInput(name="x"), b"a b", [*b"a b"]),
]


@pytest.mark.parametrize(("declared", "content", "numbers"), WINDOWS)
def test_a_window_takes_its_head_and_tail(declared, content, numbers):
    assert window(content, declared).tolist() == numbers
    assert window(memoryview(content), declared).tolist() == numbers


FILE_TYPES = declares(
    {"name": "bytes", "as": "bytes", "head": 1024, "tail": 1024, "padding": P, "strip": True, "block": 4096}
)
MAGIKA = takes(("bytes", "INT32", (-1, 2048)))


@pytest.mark.parametrize(
    "content_type",
    [
        "application/octet-stream",
        "image/png",
        "audio/wav",
        "text/plain",
        "text/csv",
        "application/json",
        "application/pdf",
        "",
    ],
)
@pytest.mark.parametrize("content", [b"#!/bin/sh\necho hello\n", b'{"name": "x"}', b"[1, 2, 3]", b"{broken"])
def test_any_content_is_a_file_where_the_manifest_wants_bytes(content_type, content):
    tensor = one(content_type, content, MAGIKA, FILE_TYPES)
    assert (tensor.dtype, tensor.shape) == (np.int32, (1, 2048))
    assert tensor[0, : len(content)].tolist() == list(content.rstrip() if content.endswith(b"\n") else content) + [
        10
    ] * (content.endswith(b"\n"))
    stripped = content.rstrip()
    assert tensor[0, 2048 - len(stripped) :].tolist() == list(stripped)
    assert set(tensor[0, len(content) : 2048 - len(stripped)].tolist()) == {P}


def test_json_that_names_the_input_gives_its_numbers():
    rows = [[7] * 2048, [8] * 2048]
    tensor = one("application/json", repr({"bytes": rows}).replace("'", '"').encode(), MAGIKA, FILE_TYPES)
    assert tensor.tolist() == rows


@pytest.mark.parametrize("shape", [(-1,), (1, -1), (-1, -1)])
def test_an_input_of_bytes_takes_a_file_without_a_declaration(shape):
    tensor = one("application/octet-stream", b"abc", takes(("x", "UINT8", shape)))
    assert (tensor.dtype, tensor.ravel().tolist()) == (np.uint8, [*b"abc"])


@pytest.mark.parametrize("dtype", ["UINT8", "INT64", "FP16", "FP32", "FP64"])
def test_bytes_become_the_input_s_own_type(dtype):
    tensor = one("", b"\x00\xff", takes(("x", dtype, (-1, 2))), declares({"name": "x", "as": "bytes"}))
    assert tensor.tolist() == [[0, 255]]


def test_bytes_become_bfloat16_bits():
    tensor = one("", b"\x00\x01\xff", takes(("x", "BF16", (3,))), declares({"name": "x", "as": "bytes"}))
    assert tensor.tolist() == [0, 0x3F80, 0x437F]


def test_a_short_file_is_padded_where_the_model_fixes_the_length():
    manifest = declares({"name": "x", "as": "bytes", "padding": 9})
    assert one("", b"ab", takes(("x", "INT32", (-1, 4))), manifest).tolist() == [[97, 98, 9, 9]]


def test_a_string_input_takes_a_file_of_text():
    manifest = declares({"name": "x", "as": "bytes"})
    assert one("", "é".encode(), takes(("x", "BYTES", (-1,))), manifest).item() == "é"
    with pytest.raises(BadInputError, match="no utf-8"):
        one("", b"\xff", takes(("x", "BYTES", (-1,))), manifest)


@pytest.mark.parametrize(
    ("signature", "declared", "body", "says"),
    [
        (takes(("x", "INT32", (-1, 2))), {}, b"abc", "takes shape [any, 2], but 3 numbers came"),
        (takes(("x", "INT32", (4, 2))), {}, b"abc", "takes shape [4, 2]"),
        (takes(("x", "UINT8", (-1, 4))), {"head": 4, "padding": 256}, b"abc", "cannot hold all of 97 to 256"),
        (takes(("x", "INT8", (-1, -1))), {}, b"\x80", "cannot hold"),
        (takes(("x", "BOOL", (-1, 3))), {}, b"abc", "BOOL"),
        (takes(("x", "INT32", (-1, -1))), {}, b"", "empty"),
    ],
)
def test_bytes_that_do_not_fit_are_refused_with_a_sentence(signature, declared, body, says):
    with pytest.raises(BadInputError) as refused:
        one("", body, signature, declares({"name": "x", "as": "bytes", **declared}))
    assert says in refused.value.sentence
