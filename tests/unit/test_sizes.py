"""Sizes as people write them."""

import pytest

from appliance.core.errors import BadInputError
from appliance.core.manifest import parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("4GiB", 2**32), ("512 MB", 512 * 10**6), ("0.5 kib", 512), ("17", 17), (17, 17), ("1kB", 1000), ("3B", 3)],
)
def test_a_size_is_a_number_with_a_unit_or_without(text: object, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1 PB", "1e9", "four", True, "1GiB1", "١"])
def test_what_is_no_size_is_refused_with_what_was_expected(text: object) -> None:
    with pytest.raises(BadInputError, match="expected bytes"):
        parse_size(text)
