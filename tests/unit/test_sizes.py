"""Sizes as people write them."""

import pytest

from appliance.core.errors import BadInputError
from appliance.core.manifest import parse_manifest
from appliance.core.sizes import LEAST_BYTES, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("4GiB", 2**32),
        ("512 MB", 512 * 10**6),
        ("0.5 kib", 512),
        ("17", 17),
        (17, 17),
        ("1kB", 1000),
        ("3B", 3),
        ("4G", 2**32),
        ("2t", 2**41),
    ],
)
def test_a_size_is_a_number_with_a_unit_or_without(text: object, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1 PB", "1e9", "four", True, "1GiB1", "١"])
def test_what_is_no_size_is_refused_with_what_was_expected(text: object) -> None:
    with pytest.raises(BadInputError, match="expected bytes"):
        parse_size(text)


@pytest.mark.parametrize(
    ("said", "read"),
    [("4", "4 bytes"), ("0.5", "1 byte,"), (4, "4 bytes"), ("1", "1 byte,"), ("9kB", "9000 bytes")],
)
def test_what_is_too_little_to_be_meant_is_refused_with_what_was_read_and_an_example(said: object, read: str) -> None:
    with pytest.raises(BadInputError, match=f"'{said}' was read as {read}.* expected 1 MiB or more, .* such as 4G$"):
        parse_size(said, least_bytes=LEAST_BYTES)


@pytest.mark.parametrize(("said", "size_bytes"), [("0", 0), (0, 0), ("1MiB", 2**20), ("4G", 2**32)])
def test_what_can_be_meant_passes_zero_among_it(said: object, size_bytes: int) -> None:
    assert parse_size(said, least_bytes=LEAST_BYTES) == size_bytes


def test_a_models_own_limit_is_held_to_the_same() -> None:
    assert parse_manifest("[limits]\nmemory = '4G'").limits.memory_bytes == 2**32
    with pytest.raises(BadInputError, match="read as 4 bytes"):
        parse_manifest("[limits]\nmemory = 4")
