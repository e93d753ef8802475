"""JAX: functions, and modules of Flax and Equinox, given as code with weights beside them, through jax2onnx.

What JAX writes is no way in: serialised jax.export programs hold StableHLO, files of weights no program. Detection
refuses both with the way out.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from msgspec.structs import replace

from appliance.core.errors import RefusedError
from appliance.core.tensors import TensorSpec
from converters.converter import Conversion, Converter, Feed, Say, require
from converters.declared import declared_inputs
from converters.detected import Detected
from converters.net_rows import net_rows
from converters.options import Options

OPSET = 21
INPUTS = "say what it takes with --input 'NAME=FP32[n,28,28,1]', one for each input, in order"
_NARROW = {"INT64": "INT32", "UINT64": "UINT32", "FP64": "FP32"}  # what JAX makes of them without x64


class JaxConverter(Converter):
    name: ClassVar[str] = "jax"
    extra: ClassVar[str] = "jax"
    title: ClassVar[str] = "JAX and Flax"
    takes: ClassVar[str] = "functions, Flax and Equinox modules as module:factory with --weights"
    formats: ClassVar[tuple[str, ...]] = ("code",)
    modules: ClassVar[tuple[str, ...]] = ("jax", "flax", "jax2onnx", "onnx", "onnxruntime")

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        declared = declared_inputs(options.inputs)
        os.environ.update(JAX_PLATFORMS="cpu", XLA_FLAGS="--xla_cpu_multi_thread_eigen=false")
        say("loading JAX")
        import jax

        wide = any(spec.dtype == "FP64" for spec in declared)
        jax.config.update("jax_enable_x64", wide)
        from converters import jax_programs as programs
        from converters import jax_weights as weights

        made = _made(detected, say)
        given = weights.read(Path(options.weights)) if options.weights else None
        specs = declared if wide else [replace(spec, dtype=_NARROW.get(spec.dtype, spec.dtype)) for spec in declared]
        program = programs.program_of(made, given, specs)
        specs = _named(specs, program.names)
        notes = [*program.notes]
        if any(spec.dtype != said.dtype for spec, said in zip(specs, declared, strict=False)):
            notes.append("JAX keeps whole numbers in 32 bits, and so does the model")
        if not specs:
            say("looking for what it takes")
            guess = programs.guessed_input(program)
            require(guess is not None, f"the model does not say what it takes: {INPUTS}")
            assert guess is not None
            specs = [guess]
        outputs = programs.output_names(program, specs)
        say("translating it")
        target = folder / "model.onnx"
        specs, more, precision = _written(program.call, specs, outputs, target, options.opset or OPSET, wide=wide)
        run = jax.jit(program.call)

        def answer(feed: Feed) -> Feed:
            leaves = jax.tree.leaves(run(*(feed[spec.name] for spec in specs)))
            return {name: jax.device_get(leaf) for name, leaf in zip(outputs, leaves, strict=True)}

        return Conversion(target, answer, net_rows(specs), notes=(*notes, *more), continuous=True, precision=precision)


def _named(specs: Sequence[TensorSpec], names: Sequence[str]) -> list[TensorSpec]:
    filled = [*names, *(f"input_{index}" for index in range(len(names), len(specs)))]
    return [replace(spec, name=spec.name or filled[index]) for index, spec in enumerate(specs)]


def _written(
    call: Any, specs: list[TensorSpec], outputs: Sequence[str], target: Path, opset: int, *, wide: bool
) -> tuple[list[TensorSpec], tuple[str, ...], str]:
    """By jax2onnx, with free axes where JAX can keep them so: the inputs, notes, and the half precision that it
    computes in, if any. Raises RefusedError where it cannot translate it."""
    import jax2onnx
    import onnx

    from converters import half_precision, jax_repairs, onnx_model
    from converters.jax_weights import line

    jax_repairs.repair()
    fixed = [replace(spec, shape=tuple(abs(size) for size in spec.shape)) for spec in specs]
    reasons = []
    for tried in (specs, fixed):
        try:
            model = jax2onnx.to_onnx(
                call, [_Traced(spec) for spec in tried], opset=opset, enable_double_precision=wide,
                input_names=[spec.name for spec in tried], output_names=list(outputs),
            )  # fmt: skip
        except Exception as error:
            reasons.append(line(error))
            continue
        if (precision := half_precision.precision_of(model)) == "bfloat16":
            half_precision.widen(model)
        onnx.save_model(model, str(target), **onnx_model.external_if_large(model))
        note = f"the batch axis is fixed at 1: JAX cannot keep it free ({reasons[0]})" if reasons else ""
        return tried, tuple(filter(None, (note,))), precision
    raise RefusedError(f"jax2onnx cannot translate this model: {reasons[0]}")


class _Traced:
    """What jax2onnx takes for an input: a word for each free axis, the batch's the same in all inputs."""

    def __init__(self, spec: TensorSpec) -> None:
        from appliance.core.tensors import DTYPES

        words = spec.dimension_names or ("",) * len(spec.shape)
        self.shape = tuple(
            size if size >= 0 else (word or ("n" if axis == 0 else f"{spec.name}_{axis}"))
            for axis, (size, word) in enumerate(zip(spec.shape, words, strict=True))
        )
        self.dtype = DTYPES[spec.dtype].numpy


def _made(detected: Detected, say: Say) -> Any:
    """What the owner's own code makes: the factory's result, or the thing itself where it is no factory."""
    import importlib

    from converters.jax_weights import line

    module, factory = detected.facts["module"], detected.facts["factory"]
    say(f"running {module}:{factory}")
    try:
        found = getattr(importlib.import_module(module), factory)
        needed = _needed(found)
        if isinstance(found, type) and needed:
            words = f"is a class that takes {', '.join(needed)}: give a function that makes the model"
            raise RefusedError(f"{module}:{factory} {words}")
        return found if needed else found()
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError(f"{module}:{factory} failed: {line(error)}") from None


def _needed(found: Any) -> list[str]:
    """What it must be called with; what is no function or class stands for itself."""
    import inspect

    if not callable(found):
        return ["itself"]
    maker: Any = vars(found).get("__init__", found) if isinstance(found, type) else found
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [
        p.name for p in inspect.signature(maker).parameters.values() if p.default is p.empty and p.kind not in variable
    ]
    return needed[1:] if isinstance(found, type) else needed


CONVERTER = JaxConverter()
