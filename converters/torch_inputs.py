"""What PyTorch modules are given: example tensors and weights; and what they take, where they do not
say it. In the process of a conversion alone.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from appliance.core.errors import RefusedError
from appliance.core.tensors import TensorSpec
from converters.rows import FREE, made_tensor

_FREE_SIDES = (32, 64, 224)
_SIZES = (224, 32, 28, 64, 256, 299, 96, 128, 8)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without gradients, and without the warnings of a framework about itself."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def example_of(specs: Sequence[TensorSpec], rows: int = 2, *, side: int = FREE) -> tuple[Any, ...]:
    """Tensors that fit: free first axes have `rows`, other free axes `side`. Whole numbers are 1, which is a word of
    any vocabulary and a length."""
    random = np.random.default_rng(0)
    shapes = [(*spec.shape[:1], *(size if size >= 0 else side for size in spec.shape[1:])) for spec in specs]
    sized = [TensorSpec(spec.name, spec.dtype, shape) for spec, shape in zip(specs, shapes, strict=True)]
    made = (np.ascontiguousarray(made_tensor(spec, rows, random, below=2)) for spec in sized)
    return tuple(torch.from_numpy(np.ones_like(array) if array.dtype.kind in "iu" else array) for array in made)


def fitting_side(module: Any, specs: Sequence[TensorSpec]) -> int:
    """How long free axes are made, so that the module runs: pictures must often be large enough to be halved some
    times. FREE where nothing runs, which the caller finds out."""
    if not any(-1 in spec.shape[1:] for spec in specs):
        return FREE
    for side in (FREE, *_FREE_SIDES):
        with quiet(), contextlib.suppress(Exception):
            module(*example_of(specs, side=side))
            return side
    return FREE


def tensor(array: Any) -> Any:
    return torch.from_numpy(np.array(array, copy=True, order="C"))


def guessed_inputs(module: Any, name: str) -> TensorSpec | None:
    """The one input of a module that says nothing of it: from its first weights, by trying. None where nothing runs."""
    first = next((p for p in module.parameters() if p.ndim >= 2), None)
    if first is None:
        return None
    for spec in _guesses(name, tuple(first.shape)):
        with quiet(), contextlib.suppress(Exception):  # another size, then
            module(*example_of((spec,)))
            return spec
    return None


def _guesses(name: str, weight: tuple[int, ...]) -> Iterator[TensorSpec]:
    if len(weight) == 2:
        yield TensorSpec(name, "FP32", (-1, weight[1]))
        yield TensorSpec(name, "INT64", (-1, 8))
    if len(weight) >= 3:
        for size in _SIZES:
            yield TensorSpec(name, "FP32", (-1, weight[1], *([size] * (len(weight) - 2))))


def line(error: BaseException) -> str:
    """The last lines of an error, which in torch hold its cause."""
    words = " ".join(str(error).split())
    return words if len(words) <= 400 else f"{words[:300]} ... {words[-100:]}"


def load_weights(module: Any, file: Path) -> None:
    """Into the module, from safetensors or a state dict; never by unpickling more than tensors. Raises RefusedError."""
    if not isinstance(module, torch.nn.Module):
        raise RefusedError(f"the factory gave a {type(module).__name__}: expected a torch.nn.Module")
    try:
        with file.open("rb") as opened:
            head = opened.read(9)
        if head[8:9] == b"{":
            from safetensors.torch import load_file

            state = load_file(str(file))
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RefusedError(f"{file.name} is no file of weights (safetensors, or a state dict): {line(error)}") from None
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    try:
        module.load_state_dict(state)
    except Exception as error:  # names that are missing or too many, or other shapes
        raise RefusedError(f"the weights are not this module's: {line(error)}") from None
