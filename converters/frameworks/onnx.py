"""ONNX itself: a newer opset (never an older), shapes inferred, on request float16 or int8, against the original."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from converters.converter import Conversion, Converter, Feed, Say
from converters.detected import Detected
from converters.options import Options


class OnnxConverter(Converter):
    name: ClassVar[str] = "onnx"
    extra: ClassVar[str] = "onnx"
    title: ClassVar[str] = "ONNX"
    takes: ClassVar[str] = "ONNX files: a newer opset, inferred shapes, float16, int8"
    formats: ClassVar[tuple[str, ...]] = ("onnx",)
    modules: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        import onnx

        from converters import onnx_model

        target = folder / "model.onnx"
        say("reading the model")
        model = onnx_model.load(source)
        onnx_model.refuse_unknown(model)
        if model.ir_version < 4:  # where weights are inputs, too, which tools insist on; all else is the same
            model.ir_version = 4
        if options.opset:
            say(f"converting it to opset {options.opset}")
            model = onnx_model.upgraded(model, options.opset)
        say("inferring shapes")
        model = onnx_model.with_shapes(model)
        onnx.save_model(model, str(target), **onnx_model.external_if_large(model))
        return Conversion(target, _answers_of(source))


def _answers_of(source: Path) -> Callable[[Feed], Feed]:
    from converters.session import Session

    original = Session(source)

    def answer(feed: Feed) -> Feed:
        return original.run(feed)

    return answer


CONVERTER = OnnxConverter()
