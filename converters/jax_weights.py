"""Files of weights for models of JAX: safetensors, NPZ and the msgpack of Flax; never a pickle. And where they go.

In the process of a conversion alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import RefusedError

Flat = dict[str, NDArray[Any]]  # by `layer.kernel`
SHOWN = 4
_WAYS = "expected safetensors, NPZ or the msgpack of flax.serialization"


def read(file: Path) -> dict[str, Any]:
    """The weights as a tree of tables; names are cut up at `/`, or at `.` where none has one. Raises RefusedError."""
    with file.open("rb") as opened:
        head = opened.read(9)
    try:
        if head[8:9] == b"{":
            from safetensors.numpy import load_file

            return tree_of(load_file(str(file)))
        if head.startswith(b"PK"):
            with np.load(file, allow_pickle=False) as arrays:
                return tree_of({name: arrays[name] for name in arrays.files})
        from flax import serialization

        restored = serialization.msgpack_restore(file.read_bytes())
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError(f"{file.name} is no file of weights ({_WAYS}): {line(error)}") from None
    if not isinstance(restored, dict):
        raise RefusedError(f"{file.name} has no table of weights: {_WAYS}")
    return restored


def tree_of(flat: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a/kernel": x}` as `{"a": {"kernel": x}}`. Raises RefusedError where a name is both a table and a weight."""
    mark = "/" if any("/" in name for name in flat) else "."
    tree: dict[str, Any] = {}
    for name, array in flat.items():
        *tables, last = name.split(mark)
        at = tree
        for word in tables:
            at = at.setdefault(word, {})
            if not isinstance(at, dict):
                raise RefusedError(f"the weights have '{word}' both as a table and as numbers")
        at[last] = array
    return tree


def flat_of(tree: Any) -> Flat:
    """The leaves by their paths, words and numbers joined by dots."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {name_of(path): leaf for path, leaf in pairs}


def name_of(path: Sequence[Any]) -> str:
    return str(jax.tree_util.keystr(tuple(path), simple=True, separator="."))


def with_lists(tree: Any) -> Any:
    """Tables whose keys are 0, 1, 2 ... as lists, as functions of plain JAX keep their layers."""
    if not isinstance(tree, dict):
        return tree
    inner = {key: with_lists(value) for key, value in tree.items()}
    if inner and all(str(key).isdecimal() for key in inner):
        order = sorted(inner, key=int)
        if [int(key) for key in order] == list(range(len(order))):
            return [inner[key] for key in order]
    return inner


def placed(wanted: Mapping[str, Any], given: Flat) -> dict[str, Any]:
    """For each wanted leaf its weight, in its dtype. Raises RefusedError where names or shapes differ."""
    check_names(wanted, given)
    found = {}
    for name, leaf in wanted.items():
        if tuple(given[name].shape) != tuple(leaf.shape):
            shapes = f"{list(given[name].shape)}, and the model's is {list(leaf.shape)}"
            raise RefusedError(f"the weights are not this model's: '{name}' is {shapes}")
        found[name] = jax.numpy.asarray(given[name], leaf.dtype)
    return found


def check_names(wanted: Iterable[str], given: Iterable[str]) -> None:
    """Raises RefusedError where a weight is missing or too many."""
    missing, more = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    words = [
        f"{what} {', '.join(names[:SHOWN])}" for what, names in (("missing:", missing), ("too many:", more)) if names
    ]
    if words:
        raise RefusedError(f"the weights are not this model's; {'; '.join(words)}")


def line(error: BaseException) -> str:
    """An error in one line: its first words, and the last, which often hold the cause."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words if len(words) <= 400 else f'{words[:300]} ... {words[-100:]}'}"
