"""PaddlePaddle: inference models of Paddle 3 (.json and .pdiparams) and of before (.pdmodel), through paddle2onnx.

paddle2onnx's translation alone is called: what it does to a model afterwards would install packages. Programs of the
old form are read by Paddle itself and saved anew. Paddle's own predictor gives the answers to compare with.
"""

import io
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from appliance.core.errors import RefusedError
from appliance.core.tensors import TensorSpec
from converters.converter import Conversion, Converter, Feed, Say
from converters.detected import Detected
from converters.net_rows import net_rows
from converters.options import Options
from converters.paddle_program import Files, check_parameters, files_of, repaired

OPSET = 18
_SIDE = 64  # of pictures whose size is free: detectors halve them five times
_CHANNELS = (1, 3, 4)


class PaddleConverter(Converter):
    name: ClassVar[str] = "paddle"
    extra: ClassVar[str] = "paddle"
    title: ClassVar[str] = "PaddlePaddle"
    takes: ClassVar[str] = "inference models: .json or .pdmodel, with .pdiparams"
    formats: ClassVar[tuple[str, ...]] = ("paddle-pir", "paddle-legacy")
    modules: ClassVar[tuple[str, ...]] = ("paddle", "paddle2onnx", "onnx", "onnxruntime")

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        files = files_of(source, detected.format)
        work = folder.parent / "tmp"
        work.mkdir(exist_ok=True)
        if files.parameters is not None:
            check_parameters(files.parameters)
        say("loading Paddle")
        import onnx

        from converters import onnx_model, paddle_graph

        # Paddle would look for compilers, and use the processor's tricks of oneDNN, which answer a little otherwise.
        os.environ.update(GLOG_minloglevel="3", FLAGS_use_mkldnn="0", CUDA_VISIBLE_DEVICES="")
        _load()
        notes: tuple[str, ...] = ()
        read = files
        if detected.format == "paddle-legacy":
            say("saving it in Paddle 3's form")
            read = _renewed(files, work)
            notes = ("a program of Paddle 2, saved anew by Paddle 3 before it was translated",)
        program = work / "repaired.json"
        if repaired(read.program, program):
            notes += ("numbers that it kept in double are single precision, as paddle2onnx takes them",)
        say("translating it")
        model = _translated(Files(program, read.parameters), options.opset or OPSET)
        if paddle_graph.join_scalars(model):
            notes += ("sizes that Paddle 2 kept as lists of one element are such lists again",)
        specs = paddle_graph.name_axes(model)
        target = folder / "model.onnx"
        onnx.save_model(model, str(target), **onnx_model.external_if_large(model))
        outputs = [value.name for value in model.graph.output]
        rows = net_rows(specs, [_sides(spec) for spec in specs], below=paddle_graph.known_ids(model))
        return Conversion(target, _answers(files, outputs), rows, notes=notes, continuous=True)


class _NoProgram:
    """In place of subprocess.Popen: a program that was not there."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.stdout = io.StringIO()

    def wait(self) -> int:
        return 127

    def communicate(self) -> tuple[bytes, bytes]:
        return b"", b"no program is started here"


def _load() -> None:
    """Imports Paddle, which would ask ldd about the machine: a conversion starts no programs, and it copes without."""
    started, subprocess.Popen = subprocess.Popen, _NoProgram  # type: ignore[assignment, misc]
    try:
        import paddle
        import paddle2onnx  # noqa: F401

        # paddle2onnx aborts at an operator that it does not know: its last word should be that, and no stack.
        paddle.disable_signal_handler()
    finally:
        subprocess.Popen = started  # type: ignore[misc]


def _renewed(files: Files, work: Path) -> Files:
    """The old form's program as one of Paddle 3, in `work`."""
    import paddle
    from paddle2onnx import convert

    if files.parameters is None:
        raise RefusedError(
            f"{files.program.name} has no parameters in one file beside it: load it with "
            "paddle.static.load_inference_model and save it with paddle.static.save_inference_model"
        )
    place = paddle.CPUPlace()
    try:
        paddle.enable_static()
        with paddle.pir_utils.OldIrGuard():
            loaded, *_ = paddle.static.load_inference_model(
                str(files.program.parent),
                paddle.static.Executor(place),
                model_filename=files.program.name,
                params_filename=files.parameters.name,
            )
        translated = paddle.pir.translate_to_pir(loaded.desc)
        convert.load_parameter(translated)
        convert.save_program(translated, str(work / "renewed"))
    except Exception as error:
        raise RefusedError(f"Paddle cannot read this model: {_line(error)}") from None
    return Files(work / "renewed.json", work / "renewed.pdiparams")


def _translated(files: Files, opset: int) -> Any:
    import onnx
    from paddle2onnx import paddle2onnx_cpp2py_export as translation

    parameters = "" if files.parameters is None else str(files.parameters)
    try:
        written = translation.export(
            str(files.program), parameters, opset, True, False, True, True, True, {}, "onnxruntime", "", "", False
        )
        return onnx.load_from_string(written)
    except Exception as error:
        raise RefusedError(f"paddle2onnx cannot convert this model: {_line(error)}") from None


def _sides(spec: TensorSpec) -> tuple[int, ...]:
    """How long the free axes of made rows are: of pictures long enough to be halved often."""
    picture = len(spec.shape) == 4 and spec.dtype.startswith("FP") and spec.shape[1] in _CHANNELS
    return tuple(_SIDE if size < 0 and picture else 8 if size < 0 else size for size in spec.shape)


def _answers(files: Files, outputs: list[str]) -> Callable[[Feed], Feed]:
    from paddle import inference

    config = inference.Config(str(files.program), "" if files.parameters is None else str(files.parameters))
    config.disable_gpu()
    config.disable_mkldnn()
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(1)
    try:
        predictor = inference.create_predictor(config)
    except Exception as error:
        raise RefusedError(f"Paddle cannot run this model: {_line(error)}") from None
    gives = predictor.get_output_names()
    if len(gives) != len(outputs):
        raise RefusedError(f"paddle2onnx changed how many outputs there are: {len(gives)} became {len(outputs)}")

    def answer(feed: Feed) -> Feed:
        for name in predictor.get_input_names():
            predictor.get_input_handle(name).copy_from_cpu(np.ascontiguousarray(feed[name]))
        predictor.run()
        arrays = [predictor.get_output_handle(name).copy_to_cpu() for name in gives]
        return dict(zip(outputs, arrays, strict=True))

    return answer


def _line(error: BaseException) -> str:
    """The last sentence that says something: Paddle's own are a page long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "Error:" in line or line.startswith(("(", "["))] or lines[-1:]
    return f"{type(error).__name__}: {' '.join(told)[:400]}"


CONVERTER = PaddleConverter()
