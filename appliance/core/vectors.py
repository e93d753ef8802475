"""Test vectors: what a model was seen to answer to what, in the form of `vectors/parity.json`. Plain data, no numpy.

Made by a conversion, kept with the artifact, and run again by the node that takes the model.
"""

from typing import Literal

import msgspec

from appliance.core.errors import RefusedError

MAX_BYTES = 16 * 2**20


class VectorTensor(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tensor in V2's words: `data` are its elements in row order, little-endian, in base64; `texts` of BYTES."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes = b""
    texts: tuple[str, ...] = ()


class Bound(msgspec.Struct, frozen=True):
    """How far an output's numbers may be off: `absolute` + `relative` times the largest number in the row."""

    absolute: float
    relative: float


class Vector(msgspec.Struct, frozen=True):
    """One run: inputs, and the outputs that the original gave for them."""

    inputs: tuple[VectorTensor, ...]
    outputs: tuple[VectorTensor, ...]


class Vectors(msgspec.Struct, frozen=True):
    """`bounds` by the output's name; an output without one must be equal."""

    vectors: tuple[Vector, ...]
    bounds: dict[str, Bound] = {}
    form: Literal[1] = 1


def parse_vectors(text: bytes) -> Vectors:
    """Raises RefusedError where the text is none of this form."""
    if len(text) > MAX_BYTES:
        raise RefusedError(f"the test vectors take {len(text)} bytes: at most {MAX_BYTES} are taken")
    try:
        return msgspec.json.decode(text, type=Vectors)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise RefusedError(f"the test vectors cannot be read: {error}") from None
