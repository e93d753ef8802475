"""Text content, and contents that no input takes: the sentence says what is wanted and how to declare it."""

import pytest
from plain_cases import declares, one, takes

from appliance.core.errors import BadInputError, UnsupportedError
from appliance.core.manifest import Manifest
from appliance.workers.plain.content import tensors_from_content

TEXT = "text/plain"


@pytest.mark.parametrize("shape", [(), (1,), (-1,), (-1, 1), (1, 1), (-1, -1)])
def test_a_text_fills_a_string_input_of_any_rank(shape):
    tensor = one(TEXT, "Grüße".encode(), takes(("x", "BYTES", shape)))
    assert tensor.dtype == object
    assert tensor.shape == (1,) * len(shape)
    assert tensor.item() == "Grüße"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b"\xef\xbb\xbfna\xc3\xafve"),
        ("text/plain; charset=utf-8", b"na\xc3\xafve"),
        ("text/plain; charset=ISO-8859-1", b"na\xefve"),
        ('TEXT/HTML; Charset="utf-16"', "naïve".encode("utf-16")),
        ("application/xml", "naïve".encode()),
        ("application/x-www-form-urlencoded", "naïve".encode()),
        ("", "naïve".encode()),
    ],
)
def test_the_charset_is_honoured(content_type, body):
    assert one(content_type, body, takes(("x", "BYTES", (-1,)))).item() == "naïve"


def test_a_declared_text_may_begin_as_json_does():
    manifest = declares({"name": "x", "as": "text"})
    assert one("", b"[sic] he said", takes(("x", "BYTES", (-1,))), manifest).item() == "[sic] he said"


@pytest.mark.parametrize("body", [b"\xff\xfe\xfd", b"abc\xc3"])
def test_a_text_in_another_charset_is_refused(body):
    with pytest.raises(BadInputError, match="no utf-8: byte"):
        one(TEXT, body, takes(("x", "BYTES", (-1,))))


def test_a_model_of_several_strings_wants_them_all():
    manifest = declares({"name": "x", "as": "text"})
    with pytest.raises(BadInputError, match="one text cannot fill"):
        one(TEXT, b"a", takes(("x", "BYTES", (-1, 3))), manifest)


def test_a_text_beside_another_input_is_not_enough():
    signature = takes(("x", "BYTES", (-1,)), ("length", "INT64", (-1,)))
    with pytest.raises(BadInputError, match="takes length besides what a text gives: send application/json"):
        tensors_from_content(TEXT, b"a", signature, declares({"name": "x", "as": "text"}))


def test_two_texts_cannot_come_as_one():
    signature = takes(("x", "BYTES", (-1,)), ("y", "BYTES", (-1,)))
    manifest = declares({"name": "x", "as": "text"}, {"name": "y", "as": "text"})
    with pytest.raises(BadInputError, match=r"several contents at once \(x, y\)"):
        tensors_from_content(TEXT, b"a", signature, manifest)


@pytest.mark.parametrize(
    ("content_type", "signature", "says"),
    [
        (TEXT, takes(("x", "FP32", (-1, 2))), "takes tensors, not a text (text/plain). It takes 'x' (FP32 [any, 2])"),
        ("image/png", takes(("x", "FP32", (-1, 2))), 'declare in the manifest: [[input]] name = "x", as = "image"'),
        ("image/png", takes(("x", "FP32", (-1, -1, -1, -1))), 'name = "x", as = "image"'),
        ("audio/wav", takes(("x", "FP32", (-1, -1))), 'name = "x", as = "audio", rate = 16000'),
        ("application/octet-stream", takes(("x", "INT32", (-1, 8))), 'name = "x", as = "bytes"'),
        ("application/pdf", takes(("x", "FP32", (-1, 8))), "not bytes (application/pdf)"),
        ("", takes(("x", "FP32", (-1, 8))), "no Content-Type was given"),
    ],
)
def test_a_content_that_no_input_takes_is_told_what_is_wanted(content_type, signature, says):
    with pytest.raises(UnsupportedError) as refused:
        tensors_from_content(content_type, b"abc", signature, Manifest())
    assert says in refused.value.sentence


def test_a_declaration_decides_against_what_would_be_guessed():
    signature = takes(("x", "FP32", (-1, 3, 8, 8)))
    with pytest.raises(UnsupportedError, match="an input declared as audio, not a picture"):
        tensors_from_content("image/png", b"abc", signature, declares({"name": "x", "as": "audio"}))
