"""Models of JAX as one function of arrays: functions, modules of Flax (linen and nnx) and of Equinox, for inference.

In the process of a conversion alone.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from appliance.core.errors import RefusedError
from appliance.core.tensors import DTYPES, TensorSpec
from converters import jax_weights as weights
from converters.jax_weights import line

# What modules call the switch between training and inference, and where it stands for inference.
EVALUATING = {
    "train": False, "training": False, "is_training": False, "deterministic": True, "use_running_average": True,
    "inference": True,
}  # fmt: skip
_RANDOM = frozenset({"key", "rng", "rngs", "dropout_rng"})
_SIZES = (224, 32, 28, 64, 256, 299, 96, 128, 8)


class Program(NamedTuple):
    """`call` takes arrays in order and gives a tree of them. `names` are its parameters'; `leaves` its weights, from
    which its inputs are guessed."""

    call: Callable[..., Any]
    names: tuple[str, ...]
    leaves: Mapping[str, Any] = {}
    notes: tuple[str, ...] = ()


def program_of(made: Any, given: dict[str, Any] | None, specs: Sequence[TensorSpec]) -> Program:
    """The program of what a factory gave, with the weights of a file where there is one. Raises RefusedError."""
    for program in (_nnx(made, given), _linen(made, given, specs), _equinox(made, given)):
        if program is not None:
            return program
    if callable(made) and not isinstance(made, type):
        return _function(made, given)
    raise RefusedError(
        f"the factory gave a {type(made).__name__}: expected a function of arrays, a module of flax.nnx or Equinox, or "
        "a module of flax.linen with its variables, as (module, variables)"
    )


def _function(made: Any, given: dict[str, Any] | None) -> Program:
    names, flags, notes = _parameters(made)
    if given is None:
        return Program(lambda *arrays: made(*arrays, **flags), names, notes=notes)
    tree = jax.tree.map(jax.numpy.asarray, weights.with_lists(given))
    return Program(lambda *arrays: made(tree, *arrays, **flags), names[1:], weights.flat_of(tree), notes)


def _nnx(made: Any, given: dict[str, Any] | None) -> Program | None:
    from flax import nnx

    if not isinstance(made, nnx.Module):
        return None
    made.eval()
    pairs = nnx.to_flat_state(nnx.state(made))
    flat = {
        weights.name_of([jax.tree_util.GetAttrKey(str(word)) for word in path]): variable
        for path, variable in pairs
        if not isinstance(variable, nnx.RngState)
    }
    if given is not None:
        values = {name: variable.get_value() for name, variable in flat.items()}
        for name, value in weights.placed(values, weights.flat_of(given)).items():
            flat[name].set_value(value)
    for _, variable in pairs:  # jax2onnx takes keys as the numbers that they are
        if isinstance(variable, nnx.RngKey):
            variable.set_value(jax.random.key_data(variable.get_value()))
    nnx.update(made, nnx.from_flat_state(pairs))
    names, flags, notes = _parameters(made.__call__)
    graph, state = nnx.split(made)

    def call(*arrays: Any) -> Any:  # made anew within each trace: a module may count what it draws
        return nnx.merge(graph, state, copy=True)(*arrays, **flags)

    return Program(call, names, {name: variable.get_value() for name, variable in flat.items()}, notes)


def _linen(made: Any, given: dict[str, Any] | None, specs: Sequence[TensorSpec]) -> Program | None:
    from flax import linen

    module, variables = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, linen.Module):
        return None
    if variables is None and module.scope is not None:
        module, variables = module.unbind()
    if given is not None:
        variables = given if "params" in given else {"params": given}
    if variables is None:
        raise RefusedError(
            "a module of flax.linen has no weights in it: give them with --weights, or let the factory give "
            "(module, variables)"
        )
    if not isinstance(variables, Mapping) or "params" not in variables:
        variables = {"params": variables}
    variables = jax.tree.map(jax.numpy.asarray, dict(variables))
    names, flags, notes = _parameters(module.__call__)
    if specs and given is not None:
        _check_linen(module, variables, specs, flags)

    def call(*arrays: Any) -> Any:
        return module.apply(variables, *arrays, **flags)

    return Program(call, names, weights.flat_of(variables["params"]), notes)


def _check_linen(module: Any, variables: Any, specs: Sequence[TensorSpec], flags: dict[str, bool]) -> None:
    """That the weights are all that the module has, which it does not ask itself: it leaves what is too many."""
    key = jax.random.key(0)

    def init(*arrays: Any) -> Any:
        return module.init({"params": key, "dropout": key}, *arrays, **flags)

    try:
        wanted = weights.flat_of(jax.eval_shape(init, *shapes_of(specs)))
    except Exception:  # it runs otherwise when it is made: what is missing shows when it is followed
        return
    weights.placed(wanted, weights.flat_of(variables))


def _equinox(made: Any, given: dict[str, Any] | None) -> Program | None:
    import equinox

    if not isinstance(made, equinox.Module):
        return None
    arrays, rest = equinox.partition(equinox.nn.inference_mode(made), equinox.is_array)
    flat = weights.flat_of(arrays)
    if given is not None:
        values = weights.placed(flat, weights.flat_of(given))
        pairs, tree = jax.tree_util.tree_flatten_with_path(arrays)
        arrays = jax.tree_util.tree_unflatten(tree, [values[weights.name_of(path)] for path, _ in pairs])
    module = equinox.combine(arrays, rest)
    names, flags, notes = _parameters(module.__call__)

    def one(*rows: Any) -> Any:
        return module(*rows, **flags)

    note = "the module takes one row: it was mapped over the batch (jax.vmap)"
    return Program(jax.vmap(one), names, flat, (*notes, note))


def _parameters(function: Any) -> tuple[tuple[str, ...], dict[str, bool], tuple[str, ...]]:
    """Names of what it takes in order, the switches it has, and what is to be said of them."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return (), {}, ()
    flags = {name: EVALUATING[name] for name in parameters if name in EVALUATING}
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    taken = [p.name for p in parameters.values() if p.kind in positional and p.name not in (*flags, *_RANDOM)]
    said = ", ".join(f"{name}={value}" for name, value in flags.items())
    return tuple(taken), flags, (f"run for inference: {said}",) if said else ()


def shapes_of(specs: Sequence[TensorSpec], rows: int = 3) -> list[Any]:
    """What JAX traces with: free first axes have `rows`, other free axes 8."""
    return [
        jax.ShapeDtypeStruct(
            tuple(size if size >= 0 else rows if axis == 0 else 8 for axis, size in enumerate(spec.shape)),
            DTYPES[spec.dtype].numpy,
        )
        for spec in specs
    ]


def guessed_input(program: Program) -> TensorSpec | None:
    """The one input of a program that says nothing of it: from its weights, by tracing. None where nothing fits."""
    name = program.names[0] if program.names else "input"
    for spec in _guesses(name, program.leaves):
        try:
            jax.eval_shape(program.call, *shapes_of([spec]))
        except Exception:  # noqa: S112 - another size, then
            continue
        return spec
    return None


def _guesses(name: str, leaves: Mapping[str, Any]) -> Iterator[TensorSpec]:
    found = {leaf: tuple(np.shape(array)) for leaf, array in leaves.items() if 2 <= np.ndim(array) <= 5}
    if any("embed" in leaf.lower() for leaf in found):
        yield TensorSpec(name, "INT32", (-1, 8))
    for leaf, shape in found.items():
        torch_like = leaf.endswith("weight")  # Equinox: outputs first
        if len(shape) == 2:
            yield TensorSpec(name, "FP32", (-1, shape[1] if torch_like else shape[0]))
            continue
        channels, sides = (shape[1], len(shape) - 2) if torch_like else (shape[-2], len(shape) - 2)
        for size in _SIZES:
            image = (channels, *([size] * sides)) if torch_like else (*([size] * sides), channels)
            yield TensorSpec(name, "FP32", (-1, *image))
    for shape in found.values():  # a series of what the first layers take
        yield TensorSpec(name, "FP32", (-1, 8, shape[0]))


def output_names(program: Program, specs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """`output`, `output_0`..., or the keys where it gives a table. Raises RefusedError where it does not run."""
    try:
        result = jax.eval_shape(program.call, *shapes_of(specs))
    except Exception as error:
        shown = ", ".join(f"{spec.name}={spec.dtype}{list(spec.shape)}" for spec in specs)
        raise RefusedError(f"the model does not run on {shown}: {line(error)}") from None
    pairs, _ = jax.tree_util.tree_flatten_with_path(result)
    words = [weights.name_of(path).replace(".", "_") for path, _ in pairs]
    if len(words) == 1 and (not words[0] or words[0].isdecimal()):
        return ("output",)
    return tuple(f"output_{word}" if word[:1].isdecimal() else word or "output" for word in words)
