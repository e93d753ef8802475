"""PyTorch programs: from a module to a program of torch.export, from that to ONNX, and what it answers.

In the process of a conversion alone. Keras on its torch backend comes through here, too.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils import _pytree as pytree

from appliance.core.errors import RefusedError
from appliance.core.tensors import DTYPES, TensorSpec
from converters.converter import Feed
from converters.half_precision import widen_file
from converters.onnx_names import rename
from converters.rows import FREE
from converters.torch_exporter import without_sources
from converters.torch_inputs import example_of, line, quiet, tensor

OPSET = 18  # what torch's own translations are written for
INLINE_BYTES = 1_500_000_000
_UNBOUNDED = 2**31
_UNFOLLOWED = (
    "a branch or a loop that goes by a tensor's numbers wants torch.cond or torch.while_loop, a packed sequence a mask"
)

Answer = Callable[[Feed], Feed]


class Written(NamedTuple):
    """An ONNX file and its names, in the order of the program's tensors."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def exported(module: Any, specs: Sequence[TensorSpec], *, side: int = FREE) -> tuple[Any, tuple[str, ...]]:
    """A program of the module, and what is to be said of it: its free axes are free where torch can keep them so.
    Raises RefusedError where torch cannot follow the module."""
    reasons = []
    for free in (True, False):
        shapes = tuple(_free_axes(spec) if free else None for spec in specs)
        try:
            with quiet():
                example = example_of(specs, 3 if free else 1, side=side)
                shaped = ((shapes,) if _varargs(module) else shapes) if free else None
                program = torch.export.export(module, example, dynamic_shapes=shaped, strict=False)
        except Exception as error:  # torch's own, or the module's
            reasons.append(line(error))
            continue
        note = f"the batch axis is fixed at 1: torch cannot keep it free ({reasons[0]})" if reasons else ""
        return program, tuple(filter(None, (note,)))
    by_numbers = any(word in reasons[-1] for word in ("data-dependent", "FakeTensor"))
    way = f"; {_UNFOLLOWED}" if by_numbers else ""
    raise RefusedError(f"torch.export cannot follow this model: {reasons[-1]}{way}")


def _varargs(module: Any) -> bool:
    import inspect

    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    return bool(kinds) and kinds[0] is inspect.Parameter.VAR_POSITIONAL


def _free_axes(spec: TensorSpec) -> dict[int, Any]:
    return {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(spec.shape) if size < 0}


def with_free_batch(program: Any) -> Any:
    """The same program with free first axes where it was exported with fixed ones; None where torch
    cannot free them."""
    placeholders = _tensor_placeholders(program)
    if any(not node.meta["val"].ndim for node in placeholders) or not placeholders:
        return None
    firsts = {spec.shape[0] for spec in input_specs(program)}
    if len(firsts) != 1 or -1 in firsts:
        return None
    leaves = [_example_like(node.meta["val"]) for node in placeholders]
    arguments, keywords = pytree.tree_unflatten(_all_leaves(program, leaves), program.call_spec.in_spec)
    shapes = pytree.tree_map(
        lambda leaf: {0: torch.export.Dim.DYNAMIC} if isinstance(leaf, torch.Tensor) else None, (arguments, keywords)
    )
    try:
        with quiet():
            module = program.module(check_guards=False)
            freed = torch.export.export(
                module, arguments, keywords, dynamic_shapes=_named(shapes, module), strict=False
            )
    except Exception:  # a size is written into the program: it stays as it was exported
        return None
    return freed if all(spec.shape[0] == -1 for spec in input_specs(freed)) else None


def _named(shapes: Any, module: Any) -> Any:
    arguments, keywords = shapes
    return (*arguments, *keywords.values()) if not keywords else _by_parameter(arguments, keywords, module)


def _by_parameter(arguments: Any, keywords: Any, module: Any) -> dict[str, Any]:
    import inspect

    names = list(inspect.signature(module.forward).parameters)
    return dict(zip(names, arguments, strict=False)) | dict(keywords)


def _example_like(value: Any) -> Any:
    shape = [3, *(int(size) if isinstance(size, int) else 8 for size in value.shape[1:])]
    if value.dtype.is_floating_point:
        return torch.randn(shape).to(value.dtype)
    return torch.zeros(shape, dtype=value.dtype)


def _tensor_placeholders(program: Any) -> list[Any]:
    names = set(program.graph_signature.user_inputs)
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    return [node for node in nodes if isinstance(node.meta.get("val"), torch.Tensor)]


def _all_leaves(program: Any, tensors: Sequence[Any]) -> list[Any]:
    """Values for every leaf of the program's arguments: the tensors in their order, constants as they were."""
    rest = iter(tensors)
    tensor_names = {node.name for node in _tensor_placeholders(program)}
    return [
        next(rest) if name in tensor_names else (None if isinstance(name, str) else name)
        for name in program.graph_signature.user_inputs
    ]


def input_specs(program: Any) -> list[TensorSpec]:
    """What the program's tensors must be; -1 for sizes that are free."""
    found = []
    for node in _tensor_placeholders(program):
        value = node.meta["val"]
        dtype = dtype_of(value)
        found.append(TensorSpec(node.name, dtype, tuple(s if isinstance(s, int) else -1 for s in value.shape)))
    return found


def is_training(program: Any) -> bool:
    """Whether it drops numbers, or normalises by its batch, as modules do while they are trained."""
    return any(
        argument.name in ("train", "training") and value is True
        for node in program.graph.nodes
        if isinstance(node.target, torch._ops.OpOverload)
        for argument, value in zip(node.target._schema.arguments, node.args, strict=False)
    )


def precision_of(program: Any) -> str:
    """`bfloat16` or `float16` where some of its steps compute in it; else nothing."""
    kinds = {getattr(node.meta.get("val"), "dtype", None) for node in program.graph.nodes}
    return next((str(kind).removeprefix("torch.") for kind in (torch.bfloat16, torch.float16) if kind in kinds), "")


def batch_range(program: Any) -> tuple[int, int]:
    """The fewest and the most rows that the program takes at once, by the bounds of its free first axes; 0: no most."""
    fewest, most = 1, 0
    for node in _tensor_placeholders(program):
        size = node.meta["val"].shape[0] if node.meta["val"].ndim else 0
        bounds = None if isinstance(size, int) else program.range_constraints.get(size.node.expr)
        if bounds is not None:
            fewest = max(fewest, int(bounds.lower))
            if bounds.upper < _UNBOUNDED:
                most = min(filter(None, (most, int(bounds.upper))))
    return fewest, most


def dtype_of(value: Any) -> str:
    """The name of a tensor's dtype. Raises RefusedError where no call could carry it."""
    name = str(value.dtype).removeprefix("torch.")
    for dtype in DTYPES.values():
        if dtype.name not in ("BYTES", "BF16") and np.dtype(dtype.numpy).name == name:
            return dtype.name
    raise RefusedError(f"the model takes or gives {name}, which no call can carry: make it single precision first")


def write(
    program: Any, target: Path, opset: int, *, inputs: Sequence[str] = (), outputs: Sequence[str] = ()
) -> Written:
    """The program as an ONNX file, by these names or its own. Raises RefusedError where an operator has no
    translation."""
    written = _apart(
        tuple(inputs) or tuple(spec.name for spec in input_specs(program)), tuple(outputs) or output_names(program)
    )
    marked = _marked(program, written)
    try:
        with quiet(), without_sources():
            made = torch.onnx.export(
                program, dynamo=True, opset_version=opset or OPSET, verbose=False, optimize=True,
                input_names=[marked.get(name, name) for name in written.inputs],
                output_names=[marked.get(name, name) for name in written.outputs],
            )  # fmt: skip
            made.save(str(target), external_data=_weight_bytes(program) > INLINE_BYTES)
    except Exception as error:
        raise RefusedError(f"torch.onnx cannot translate this program: {_untranslated(error)}") from None
    rename(target, {mark: name for name, mark in marked.items()})
    if precision_of(program) == "bfloat16":
        widen_file(target)
    return written


def _marked(program: Any, written: Written) -> dict[str, str]:
    """Other names, for as long as it is written, for those that some node of the program has too: the exporter would
    use them twice."""
    taken = {node.name for node in program.graph.nodes} - {node.name for node in _tensor_placeholders(program)}
    return {name: f"ingle_{name}" for name in (*written.outputs, *written.inputs) if name in taken}


def _apart(inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Written:
    """No output has an input's name: a program may give what it was given."""
    return Written(inputs, tuple(f"output_{name}" if name in inputs else name for name in outputs))


def _untranslated(error: BaseException) -> str:
    """The operator without a translation, which torch tells at the end of a chain of errors; else its own words."""
    cause: BaseException | None = error
    while cause is not None:
        if found := re.search(r"No ONNX function found for <OpOverload\(op='([^']+)', overload='([^']+)'", str(cause)):
            numbers = " of complex numbers" if "complex-valued" in str(cause) else ""
            name = found.group(1) if found.group(2) == "default" else ".".join(found.groups())
            return f"there is no translation of {name}{numbers}; build that step of other operations"
        cause = cause.__cause__
    return line(error)


def write_traced(
    module: Any, specs: Sequence[TensorSpec], outputs: Sequence[str], target: Path, opset: int, *, side: int = FREE
) -> Written:
    """The module as an ONNX file by the older exporter, which takes TorchScript and traces what is none. Raises
    RefusedError where an operator has no translation."""
    written = _apart(tuple(spec.name for spec in specs), tuple(outputs))
    free = {name: {0: "batch"} for name in written.outputs}
    for spec in specs:
        names = {axis: f"{spec.name}_{axis}" if axis else "batch" for axis, size in enumerate(spec.shape) if size < 0}
        free[spec.name] = names
    try:
        with quiet():
            torch.onnx.export(
                module, example_of(specs, side=side), str(target), dynamo=False, opset_version=opset or OPSET,
                input_names=list(written.inputs), output_names=list(written.outputs), dynamic_axes=free,
            )  # fmt: skip
    except Exception as error:
        raise RefusedError(f"torch.onnx cannot translate this program: {_untraced(error)}") from None
    return written


def _untraced(error: BaseException) -> str:
    words = line(error).partition(" Please feel free")[0]
    way = "; it was quantised: give the model from before that, and --int8" if "quantized::" in words else ""
    return words + way


def _weight_bytes(program: Any) -> int:
    held = [*program.state_dict.values(), *program.constants.values()]
    return sum(t.numel() * t.element_size() for t in held if isinstance(t, torch.Tensor))


def output_names(program: Any) -> tuple[str, ...]:
    """`output`, `output_0`..., or the keys where the program gives a table of them: tensors only, in their order."""
    specs = program.graph_signature.output_specs
    user = [spec for spec in specs if spec.kind.name == "USER_OUTPUT"]
    filled = pytree.tree_unflatten(list(range(len(user))), program.call_spec.out_spec)
    pairs, _ = pytree.tree_flatten_with_path(filled)
    return _words([path for path, index in pairs if type(user[index].arg).__name__ == "TensorArgument"])


def _words(paths: Sequence[Sequence[Any]]) -> tuple[str, ...]:
    words = ["_".join(_key(entry) for entry in path) for path in paths]
    if len(words) == 1 and (not words[0] or words[0].isdecimal()):
        return ("output",)
    return tuple(f"output_{word}" if word[:1].isdecimal() else word or "output" for word in words)


def _key(entry: Any) -> str:
    return str(next(getattr(entry, name) for name in ("key", "idx", "name") if hasattr(entry, name)))


def result_names(result: Any) -> tuple[str, ...]:
    """The same for what a module gave."""
    pairs, _ = pytree.tree_flatten_with_path(_plain(result))
    return _words([path for path, leaf in pairs if isinstance(leaf, torch.Tensor)])


def program_answer(program: Any, written: Written) -> Answer:
    """The program's own answers; where its first axis is fixed, in pieces of that size."""
    with quiet():
        module = program.module(check_guards=False)

    def answer(feed: Feed) -> Feed:
        leaves = _all_leaves(program, [tensor(feed[name]) for name in written.inputs])
        arguments, keywords = pytree.tree_unflatten(leaves, program.call_spec.in_spec)
        with quiet():
            return named(module(*arguments, **keywords), written.outputs)

    return answer


def module_answer(module: Any, written: Written) -> Answer:
    """The module's own answers, which takes its tensors in order."""

    def answer(feed: Feed) -> Feed:
        with quiet():
            return named(module(*(tensor(feed[name]) for name in written.inputs)), written.outputs)

    return answer


def named(result: Any, names: Sequence[str]) -> Feed:
    """The tensors of what a model gave, by the names, in order."""
    leaves = [leaf for leaf in pytree.tree_leaves(_plain(result)) if isinstance(leaf, torch.Tensor)]
    if len(leaves) != len(names):
        raise RefusedError(f"the original gives {len(leaves)} tensors, the converted model {len(names)}")
    return {name: leaf.detach().cpu().numpy() for name, leaf in zip(names, leaves, strict=True)}


def _plain(result: Any) -> Any:
    return dict(result) if hasattr(result, "keys") else result
