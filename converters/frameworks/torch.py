"""PyTorch: programs of torch.export, TorchScript, and modules given as code with weights beside them.

A state dict alone has no program and full pickles run what they bring: detection refuses both with the way out.
"""

from pathlib import Path
from typing import Any, ClassVar

from appliance.core.errors import RefusedError
from converters.converter import Conversion, Converter, Say, require
from converters.detected import Detected
from converters.net_rows import net_rows, reaching_rows
from converters.options import Options

FIXED = (
    "the batch axis is fixed at {size}: the program was exported so. For free batches export it with "
    "dynamic_shapes=({{0: torch.export.Dim.DYNAMIC}},)"
)
INPUTS = "say what it takes with --input 'NAME=FP32[n,3,224,224]', one for each input, in order"


class TorchConverter(Converter):
    name: ClassVar[str] = "torch"
    extra: ClassVar[str] = "torch"
    title: ClassVar[str] = "PyTorch"
    takes: ClassVar[str] = "torch.export programs (.pt2), TorchScript, modules as module:factory with --weights"
    formats: ClassVar[tuple[str, ...]] = (
        "torch-export", "torchscript", "code", "torch-checkpoint", "torch-legacy",
    )  # fmt: skip
    modules: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnxscript", "onnxruntime")

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        target = folder / "model.onnx"
        say("loading PyTorch")
        import torch

        torch.set_num_threads(1)
        if detected.format == "torch-export":
            return _program(source, target, options, say)
        if detected.format == "torchscript":
            return _script(source, target, options, say)
        if detected.format == "code":
            return _module(_made(detected, options, say), target, options, say)
        require(options.trusted, "a pickled model runs code when it is opened: it takes --trust")
        say("opening the pickle")
        return _module(torch.load(source, map_location="cpu", weights_only=False), target, options, say)


def _program(source: Path, target: Path, options: Options, say: Say) -> Conversion:
    import torch

    from converters import torch_inputs as given
    from converters import torch_programs as programs

    say("reading the program")
    try:
        program = torch.export.load(str(source))
    except Exception as error:
        raise RefusedError(f"torch.export cannot read this program: {given.line(error)}") from None
    examples = _examples(program)
    specs = programs.input_specs(program)
    require(bool(specs), "the program takes no tensor")
    require(
        not programs.is_training(program),
        "the program was exported in training mode, with dropout at work or batch norm of the batch at hand: call "
        "model.eval() before torch.export.export()",
    )
    firsts = {spec.shape[0] for spec in specs if spec.shape}
    notes = []
    chosen = program
    if firsts - {-1}:
        say("freeing the batch axis")
        freed = programs.with_free_batch(program)
        if freed is not None and not _same(program, freed, max(firsts)):
            freed = None  # it takes its rows together, as many as they were
        if freed is None:
            notes.append(FIXED.format(size=max(firsts)))
        else:
            chosen = freed
            notes.append("the batch axis was freed: the program was exported with a fixed one")
    say("translating it")
    written = programs.write(chosen, target, options.opset)
    original = programs.program_answer(program, written)
    fewest, most = programs.batch_range(chosen)
    if chosen is not program:
        original = _in_pieces(original, max(firsts))
    elif fewest > 1 and not _answers_one(original, programs.input_specs(chosen)):
        original = _filled_up(original, fewest)
    return Conversion(
        target,
        original,
        reaching_rows(original, programs.input_specs(chosen), [tensor.shape for tensor in examples]),
        manifest=_limits(most),
        notes=tuple(notes),
        continuous=True,
        precision=programs.precision_of(program),
    )


def _limits(rows: int) -> dict[str, Any]:
    """The manifest of a model that takes so many rows at once; 0: as many as there are."""
    return {"limits": {"batch": rows}} if rows else {}


def _same(program: Any, freed: Any, size: int) -> bool:
    """Whether rows are answered as they were where they come in other numbers."""
    import numpy as np

    from converters import torch_programs as programs

    specs = programs.input_specs(freed)
    names = programs.Written(tuple(spec.name for spec in specs), programs.output_names(program))
    feed = net_rows(specs)(2 * size + 1, np.random.default_rng(0))
    try:
        kept = _in_pieces(programs.program_answer(program, names), size)(feed)
        found = programs.program_answer(freed, names)(feed)
    except Exception:  # the comparison with what becomes ONNX will say
        return True
    return all(
        kept[name].shape == found[name].shape and np.allclose(kept[name], found[name], 1e-2, 1e-3, equal_nan=True)
        for name in names.outputs
    )


def _answers_one(answer: Any, specs: list[Any]) -> bool:
    """Whether a single row is answered: the bound of a program may be one of its writing alone."""
    import numpy as np

    try:
        answer(net_rows(specs)(1, np.random.default_rng(0)))
    except Exception:  # whatever torch raises
        return False
    return True


def _filled_up(answer: Any, size: int) -> Any:
    """An answer that takes `size` rows at least, asked for any number of them: the last one is there several times."""
    import numpy as np

    def whole(feed: Any) -> Any:
        rows = len(next(iter(feed.values())))
        missing = max(0, size - rows)
        filled = {name: np.concatenate([array, *([array[-1:]] * missing)]) for name, array in feed.items()}
        return {name: array[:rows] for name, array in answer(filled).items()}

    return whole


def _in_pieces(answer: Any, size: int) -> Any:
    """An answer that takes `size` rows at once, asked for any number of them; the last piece is filled up."""
    if size <= 0:
        return answer
    import numpy as np

    def whole(feed: Any) -> Any:
        rows = len(next(iter(feed.values())))
        answers = []
        for start in range(0, rows, size):
            part = {name: array[start : start + size] for name, array in feed.items()}
            missing = size - len(next(iter(part.values())))
            filled = {name: np.concatenate([array, *([array[-1:]] * missing)]) for name, array in part.items()}
            answers.append({name: array[: size - missing] for name, array in answer(filled).items()})
        return {name: np.concatenate([part[name] for part in answers]) for name in answers[0]}

    return whole


def _examples(program: Any) -> list[Any]:
    import torch
    from torch.utils import _pytree as pytree

    example = program.example_inputs or ()
    return [leaf for leaf in pytree.tree_leaves(example) if isinstance(leaf, torch.Tensor)]


def _script(source: Path, target: Path, options: Options, say: Say) -> Conversion:
    import torch

    from converters import torch_inputs as given
    from converters import torch_programs as programs

    say("reading the program")
    try:
        module = torch.jit.load(str(source), map_location="cpu").eval()
    except Exception as error:
        raise RefusedError(f"TorchScript cannot read this program: {given.line(error)}") from None
    names = [value.debugName() for value in module.graph.inputs()][1:]
    specs = _specs(module, [name.split(".")[0] for name in names], options, say)
    side = given.fitting_side(module, specs)
    example = given.example_of(specs, side=side)
    with given.quiet():
        try:
            result = module(*example)
        except Exception as error:
            raise RefusedError(f"the program does not run on {_shown(specs)}: {given.line(error)}; {INPUTS}") from None
    say("translating it")
    written = programs.write_traced(module, specs, programs.result_names(result), target, options.opset, side=side)
    answer = programs.module_answer(module, written)
    rows = reaching_rows(answer, specs, [tensor.shape for tensor in example])
    return Conversion(target, answer, rows, notes=_guessed(specs, options), continuous=True)


def _module(module: Any, target: Path, options: Options, say: Say) -> Conversion:
    import inspect

    import torch

    from appliance.core.tensors import TensorSpec
    from converters import torch_inputs as given
    from converters import torch_programs as programs

    require(
        isinstance(module, torch.nn.Module), f"a torch.nn.Module was expected, and this is a {type(module).__name__}"
    )
    module = module.eval()
    specs = _specs(module, list(inspect.signature(module.forward).parameters), options, say)
    say("following the program")
    side = given.fitting_side(module, specs)
    examples = given.example_of(specs, side=side)
    try:
        program, notes = programs.exported(module, specs, side=side)
    except RefusedError as error:
        return _as_script(module, specs, examples, side, target, options, say, error)
    say("translating it")
    written = programs.write(program, target, options.opset, inputs=[spec.name for spec in specs])
    found = zip(written.inputs, programs.input_specs(program), strict=True)
    taken = [TensorSpec(name, spec.dtype, spec.shape) for name, spec in found]
    answer = programs.module_answer(module, written)
    rows = reaching_rows(answer, taken, [tensor.shape for tensor in examples])
    return Conversion(
        target,
        answer,
        rows,
        manifest=_limits(programs.batch_range(program)[1]),
        notes=(*notes, *_guessed(specs, options)),
        continuous=True,
        precision=programs.precision_of(program),
    )


def _as_script(
    module: Any,
    specs: list[Any],
    examples: tuple[Any, ...],
    side: int,
    target: Path,
    options: Options,
    say: Say,
    reason: RefusedError,
) -> Conversion:
    """By TorchScript, which keeps branches and loops that go by the numbers. Raises `reason` where the module is no
    TorchScript either."""
    import torch

    from converters import torch_inputs as given
    from converters import torch_programs as programs

    say("compiling it as TorchScript")
    try:
        with given.quiet():
            script = torch.jit.script(module)
            result = module(*examples)
        written = programs.write_traced(script, specs, programs.result_names(result), target, options.opset, side=side)
    except Exception:
        raise reason from None
    answer = programs.module_answer(module, written)
    rows = reaching_rows(answer, specs, [tensor.shape for tensor in examples])
    note = f"compiled as TorchScript, since {reason.sentence[:200]}"
    return Conversion(target, answer, rows, notes=(note, *_guessed(specs, options)), continuous=True)


def _specs(module: Any, names: list[str], options: Options, say: Say) -> list[Any]:
    from appliance.core.tensors import TensorSpec
    from converters import torch_inputs as given
    from converters.declared import declared_inputs

    if options.inputs:
        declared = declared_inputs(options.inputs)
        filled = [*names, *(f"input_{index}" for index in range(len(names), len(declared)))]
        return [
            TensorSpec(spec.name or filled[index], spec.dtype, spec.shape, spec.dimension_names)
            for index, spec in enumerate(declared)
        ]
    say("looking for what it takes")
    guess = given.guessed_inputs(module, names[0]) if names else None
    require(guess is not None, f"the model does not say what it takes: {INPUTS}")
    return [guess]


def _guessed(specs: list[Any], options: Options) -> tuple[str, ...]:
    """What the owner should know of an input that was found by trying."""
    if options.inputs:
        return ()
    words = ", ".join(f"'{spec.name}={spec.dtype}[{','.join('n' if size < 0 else str(size) for size in spec.shape)}]'"
                      for spec in specs)  # fmt: skip
    way = "if that is not it, say so with --input (a word in the place of a size leaves that axis free)"
    return (f"what it takes was found by trying: {words}; {way}",)


def _shown(specs: list[Any]) -> str:
    return ", ".join(f"{spec.name}={spec.dtype}{list(spec.shape)}" for spec in specs)


def _made(detected: Detected, options: Options, say: Say) -> Any:
    """The module that the owner's own code makes, with its weights."""
    import importlib

    from converters import torch_inputs as given

    module, factory = detected.facts["module"], detected.facts["factory"]
    say(f"running {module}:{factory}")
    try:
        made = getattr(importlib.import_module(module), factory)()
    except Exception as error:
        raise RefusedError(f"{module}:{factory} failed: {type(error).__name__}: {given.line(error)}") from None
    if options.weights:
        say("reading the weights")
        given.load_weights(made, Path(options.weights))
    return made


CONVERTER = TorchConverter()
