"""Keras 3: whole models in its own form (.keras) and in HDF5, on its PyTorch backend, through torch.export.

HDF5 of Keras 2 is made to mean to Keras 3 what it meant then (keras_2.py), for the comparison's original too.

Lambda layers run code that the file brings: safe_mode stays on, and so they are refused. Weights alone have no model.
"""

import importlib
import inspect
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from appliance.core.errors import RefusedError
from appliance.core.tensors import DTYPES, TensorSpec
from converters.converter import Conversion, Converter, Say
from converters.detected import Detected
from converters.net_rows import reaching_rows
from converters.options import Options


class KerasConverter(Converter):
    name: ClassVar[str] = "keras"
    extra: ClassVar[str] = "keras"
    title: ClassVar[str] = "Keras"
    takes: ClassVar[str] = "whole models of Keras 3 (.keras) and of HDF5 (.h5, of Keras 2 too), of Keras' own layers"
    formats: ClassVar[tuple[str, ...]] = ("keras", "hdf5-keras")
    modules: ClassVar[tuple[str, ...]] = ("keras", "torch", "h5py", "onnx", "onnxscript", "onnxruntime")

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        target = folder / "model.onnx"
        say("loading Keras")
        os.environ["KERAS_BACKEND"] = "torch"
        import torch

        from converters import torch_inputs as given
        from converters import torch_programs as programs

        torch.set_num_threads(1)
        say("reading the model")
        model, repairs = _loaded(source, detected, folder, options)
        module = _flat(model)
        specs = _specs(model)
        side = given.fitting_side(module, specs)
        example = given.example_of(specs, side=side)
        try:
            with given.quiet():
                result = module(*example)  # some layers are built at the first call alone
        except Exception as error:
            raise RefusedError(f"Keras' own model does not run: {given.line(error)}") from None
        outputs = _outputs(model, programs.result_names(result))
        say("translating it")
        written, notes = _written(module, specs, outputs, target, options, side)
        answer = programs.module_answer(module, written)
        rows = reaching_rows(answer, specs, [tensor.shape for tensor in example])
        if notes and any(-1 in spec.shape[1:] for spec in specs):
            _require_free_lengths(target, answer, rows)
        return Conversion(target, answer, rows, notes=(*repairs, *notes), continuous=True, precision=_precision(model))


def _loaded(source: Path, detected: Detected, folder: Path, options: Options) -> tuple[Any, tuple[str, ...]]:
    """The model, and sentences of what was repaired."""
    import keras

    from converters import keras_2, keras_files

    # Keras goes by the name; the copy lies beside the conversion's folder, where nothing of it is kept.
    suffix = ".keras" if detected.format == "keras" else ".h5"
    copy = folder.parent / "tmp" / f"model{suffix}"
    copy.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, copy)
    try:
        if detected.format == "keras":
            keras_files.refuse_old_archive(copy)
            return keras.saving.load_model(copy, compile=False, safe_mode=not options.trusted), ()
        origin, repairs = keras_files.repair(copy)
        with keras_2.old_activations() if origin.is_old else nullcontext():
            classes = keras_2.classes() if origin.is_old else None
            model = keras.saving.load_model(copy, classes, compile=False, safe_mode=not options.trusted)
        keras_files.check_places(model, copy)
        return model, repairs
    except RefusedError:
        raise
    except Exception as error:
        words = " ".join(str(error).split())
        if "ambda" in words or "safe_mode" in words:
            way = "it has a Lambda layer, whose code runs when it is opened: replace it with a layer of Keras' own"
            raise RefusedError(f"{way}, or give --trust") from None
        if "Could not locate class" in words or "Unknown layer" in words or "custom object" in words:
            way = "export it where its classes are known: model.export('model.onnx', format='onnx')"
            named = re.search(r"Could not locate \w+ '([^']+)'|Unknown layer:? '?([\w>]+)", words)
            whose = (named.group(1) or named.group(2)) if named else words[:200]
            raise RefusedError(f"the model has layers of its owner's own ({whose}): {way}") from None
        if "No model config found" in words:
            way = "save the whole model with model.save('model.keras')"
            raise RefusedError(f"the file has weights and no model: {way}") from None
        raise RefusedError(f"Keras cannot read this model: {type(error).__name__}: {words[:300]}") from None
    finally:
        copy.unlink()


def _specs(model: Any) -> list[TensorSpec]:
    if not getattr(model, "inputs", None):
        way = "call it once and save it again, or export it with model.export('model.onnx', format='onnx')"
        raise RefusedError(f"the model does not say what it takes, as it is a class of its owner's own: {way}")
    names = _unlike([tensor.name.split(":")[0] for tensor in model.inputs])
    return [
        TensorSpec(name, _dtype(tensor.dtype), tuple(size or -1 for size in tensor.shape))
        for name, tensor in zip(names, model.inputs, strict=True)
    ]


def _dtype(name: str) -> str:
    for dtype in DTYPES.values():
        if dtype.name not in ("BYTES", "BF16") and np.dtype(dtype.numpy).name == name:
            return dtype.name
    raise RefusedError(f"the model takes {name}, which cannot be converted: put that step before the model")


def _precision(model: Any) -> str:
    """Of a model whose policy is mixed, or half: what its layers compute in."""
    found = {layer.compute_dtype for layer in model._flatten_layers()}
    return next((word for word in ("bfloat16", "float16") if word in found), "")


def _outputs(model: Any, found: tuple[str, ...]) -> tuple[str, ...]:
    """As Keras calls the layers that give them; as found where it has no names for all of them."""
    names = tuple(getattr(model, "output_names", None) or ())
    return tuple(_unlike([*names])) if len(names) == len(found) else found


def _unlike(names: list[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name}_{index}" for index, name in enumerate(names)]


def _flat(model: Any) -> Any:
    """The model as a module that takes its tensors in order, however it nests them."""
    import keras
    import torch

    structure = getattr(model, "input", None)  # a Sequential has none: it takes one tensor

    class Flat(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> Any:
            packed = keras.tree.pack_sequence_as(structure, list(tensors)) if len(tensors) > 1 else tensors[0]
            return self.model(packed, training=False)

    return Flat().eval()


def _written(
    module: Any, specs: list[TensorSpec], outputs: tuple[str, ...], target: Path, options: Options, side: int
) -> Any:
    """By torch.export, recurrent layers as a whole or, where that fails, step by step; what it cannot keep free of a
    fixed batch goes through the older exporter."""
    from converters import torch_programs as programs
    from converters.keras_series import scanned

    names = [spec.name for spec in specs]
    for whole in (True, False):
        try:
            with scanned() if whole else nullcontext(), _whole_recurrences() if whole else nullcontext():
                program, notes = programs.exported(module, specs, side=side)
            if not notes:
                return programs.write(program, target, options.opset, inputs=names, outputs=outputs), ()
        except RefusedError:
            target.unlink(missing_ok=True)
    with _whole_recurrences():
        return programs.write_traced(module, specs, outputs, target, options.opset, side=side), (
            "traced by torch's older exporter",
        )


@contextmanager
def _whole_recurrences() -> Iterator[None]:
    """Recurrent layers as torch's own, which ONNX has whole and of any length; Keras goes through their steps one by
    one, and as many as there were would be all that is written. Those of other activations stay as they are."""
    rnn: Any = importlib.import_module("keras.src.backend.torch.rnn")  # the package has a function of that name
    own: dict[str, Any] = {name: getattr(rnn, name, None) for name in ("_fallback_lstm", "_fallback_gru")}
    if None in own.values() or not all(hasattr(rnn, name) for name in ("_cudnn_lstm", "_cudnn_gru")):
        yield  # a newer Keras: the comparison says what came out
        return
    takes = inspect.signature(rnn._cudnn_lstm), inspect.signature(rnn._cudnn_gru)

    def whole(name: str, native: Any, taken: inspect.Signature) -> Any:
        asked = inspect.signature(own[name])

        def run(*arguments: Any, **named: Any) -> Any:
            given = asked.bind(*arguments, **named).arguments
            words = [getattr(given[key], "__name__", "") for key in ("activation", "recurrent_activation")]
            if words != ["tanh", "sigmoid"] or given["bias"] is None or not given.get("batch_first", True):
                return own[name](*arguments, **named)
            given["device"] = given["inputs"].device
            return native(**{key: given[key] for key in taken.parameters})

        return run

    rnn._fallback_lstm = whole("_fallback_lstm", rnn._cudnn_lstm, takes[0])
    rnn._fallback_gru = whole("_fallback_gru", rnn._cudnn_gru, takes[1])
    try:
        yield
    finally:
        vars(rnn).update(own)


def _require_free_lengths(target: Path, answer: Any, rows: Any) -> None:
    """What was traced goes as many steps as it went then, whatever it declares. Raises RefusedError where it does."""
    from converters.session import Session

    for feed in rows(2, np.random.default_rng(0))[1:]:
        try:
            made = Session(target).run(feed)
            same = all(
                made[name].shape == array.shape and np.allclose(made[name], array, rtol=1e-2, atol=1e-3)
                for name, array in answer(feed).items()
            )
        except RefusedError:
            same = False
        if not same:
            raise RefusedError(
                "the model takes series of any length, which ONNX of its layers does not: make it with one length "
                "(keras.Input((30, 5)) in the place of keras.Input((None, 5))), load the weights into that and save it"
            )


CONVERTER = KerasConverter()
