"""What is wrong in a manifest is said with what would be right."""

import pytest

from appliance.core.errors import BadInputError
from appliance.core.manifest import parse_manifest


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ('lables = ["a"]', "'lables' is no field of it; the nearest is 'labels'"),
        ('[limits]\nmemmory = "1GiB"', "'memmory' is no field of it - at `$.limits`; the nearest is 'memory'"),
        ('[[input]]\nname = "x"\nas = "image"\nsise = [8, 8]',
         "'sise' is no field of it - at `$.input[0]`; the nearest is 'size'"),
        ("qqqqqqqq = 1", "'qqqqqqqq' is no field of it"),
        ('[[input]]\nname = "x"\nas = "colums"',
         "Invalid value 'colums' - at `$.input[0].as`: expected one of tensor, image, text, bytes, audio, columns"),
        ("top_k = 'five'", "Expected `int`, got `str` - at `$.top_k`"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_what_was_expected(written: str, sentence: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_manifest(written)
    assert str(caught.value) == f"the manifest is wrong: {sentence}"
