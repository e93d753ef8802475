"""A text as a string input's one element. Runs in a worker process."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import BadInputError, UnsupportedError
from appliance.core.tensors import TensorSpec
from appliance.workers.plain.shapes import fitted_shape


def decoded(body: bytes | memoryview, charset: str) -> str:
    """The text, by the content type's charset or as UTF-8; a byte order mark is left out. Raises BadInputError."""
    name = charset or "utf-8"
    try:
        # Not every codec makes text: "zip" and "hex" are codecs too, and one of them is a bomb.
        if not _is_text_codec(name):
            raise LookupError
        return str(bytes(body), name).removeprefix("\ufeff")
    except (LookupError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise BadInputError(
                f"the text is no {name}: byte {error.start} cannot be read; send UTF-8, or name the charset "
                "in the Content-Type"
            ) from None
        raise UnsupportedError(f"the charset '{name[:40]}' is not known: send UTF-8") from None


def _is_text_codec(name: str) -> bool:
    import codecs

    return bool(getattr(codecs.lookup(name), "_is_text_encoding", True))


def text_tensor(spec: TensorSpec, text: str) -> NDArray[Any]:
    """One element under the input's own rank. Raises BadInputError where the input is no string or takes several."""
    if spec.dtype != "BYTES":
        raise BadInputError(
            f"the manifest declares input '{spec.name}' as = \"text\", but the model takes {spec.dtype} there"
        )
    shape = fitted_shape(spec.shape, ())
    if shape is None:
        raise BadInputError(
            f"input '{spec.name}' takes shape {list(spec.shape)}, which one text cannot fill: send application/json "
            "with all its strings"
        )
    array = np.empty(1, object)
    array[0] = text
    return array.reshape(shape)
