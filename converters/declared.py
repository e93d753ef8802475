"""What the user says of inputs that a model does not describe itself: `NAME=FP32[n,3,224,224]`. Pure."""

import re
from collections.abc import Sequence

from appliance.core.errors import RefusedError
from appliance.core.tensors import DTYPES, MAX_RANK, TensorSpec

_INPUT = re.compile(r"(?:(?P<name>[^=\[\]]+)=)?(?P<dtype>[A-Z0-9]+)\[(?P<shape>[^\[\]]*)\]")
_WAY = "expected NAME=DTYPE[sizes], such as 'x=FP32[n,3,224,224]'; a word, ? or -1 is a free size"


def declared_inputs(texts: Sequence[str]) -> list[TensorSpec]:
    """One spec for each text, in their order; names are optional ("" then). Raises RefusedError."""
    return [_declared(text) for text in texts]


def _declared(text: str) -> TensorSpec:
    match = _INPUT.fullmatch(text.strip())
    if match is None or match["dtype"] not in DTYPES:
        raise RefusedError(f"'{text}' declares no input: {_WAY}")
    words = [word.strip() for word in match["shape"].split(",")] if match["shape"].strip() else []
    if len(words) > MAX_RANK:
        raise RefusedError(f"'{text}' has {len(words)} axes: at most {MAX_RANK} are taken")
    sizes = tuple(int(word) if word.isdecimal() else -1 for word in words)
    if any(size == 0 or size > 2**24 for size in sizes):
        raise RefusedError(f"'{text}' has a size that no row has: {_WAY}")
    names = tuple("" if word.isdecimal() or word in ("?", "-1") else word for word in words)
    return TensorSpec((match["name"] or "").strip(), match["dtype"], sizes, names if any(names) else ())
