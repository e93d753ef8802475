"""Hugging Face folders: a model of Transformers with its tokenizer or picture processor, and sentence-transformers.

A text model comes out taking texts, an image model taking pictures. Weights are safetensors, or a pickle of tensors
alone; code that a folder brings is never run.
"""

from pathlib import Path
from typing import Any, ClassVar

from appliance.core.errors import RefusedError
from converters.converter import Conversion, Converter, Say, require
from converters.detected import Detected
from converters.options import Options

GENERATES = (
    "it writes text token by token, which takes a server that keeps its state: llama.cpp's or vLLM's own, or export it "
    "with optimum (`optimum-cli export onnx`) and run its parts"
)
OWN_CODE = (
    "its classes are code in the folder or elsewhere (`auto_map`), which is not run: give the model as module:factory "
    "with --weights, or one whose type Transformers has itself"
)
_GENERATING = (
    "ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForSeq2SeqLM", "ForImageTextToText", "ForSpeechSeq2Seq",
    "ForTextToSpeech", "ForVision2Seq",
)  # fmt: skip


class HuggingFaceConverter(Converter):
    name: ClassVar[str] = "huggingface"
    extra: ClassVar[str] = "huggingface"
    title: ClassVar[str] = "Hugging Face"
    takes: ClassVar[str] = (
        "folders of Transformers and sentence-transformers: texts, pictures and recordings into classes and vectors"
    )
    formats: ClassVar[tuple[str, ...]] = ("hugging-face",)
    modules: ClassVar[tuple[str, ...]] = ("transformers", "tokenizers", "torch", "onnx", "onnxscript", "onnxruntime")

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        from converters.huggingface_folder import read_folder

        found = read_folder(source)
        architecture = found.architecture
        require(not architecture.endswith(_GENERATING), f"this is a {architecture}: {GENERATES}")
        say("loading Transformers")
        import torch
        import transformers

        torch.set_num_threads(1)
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        require(not found.own_code or found.model_type in transformers.CONFIG_MAPPING, OWN_CODE)
        say("reading the weights")
        model = _loaded(architecture, found.model_folder)
        _refuse_both(model, architecture)
        if model.main_input_name == "input_ids":
            from converters.huggingface_texts import converted_texts

            return converted_texts(model, found, folder, options, say)
        if model.main_input_name == "pixel_values":
            from converters.huggingface_images import converted_images

            return converted_images(model, found, folder, options, say)
        if model.main_input_name in ("input_values", "input_features"):
            from converters.huggingface_sounds import converted_sounds

            return converted_sounds(model, found, folder, options, say)
        raise RefusedError(
            f"this is a {architecture}, which takes {model.main_input_name}: models of texts, of pictures and of "
            "recordings are taken; export others with torch.export and give the .pt2"
        )


def _refuse_both(model: Any, architecture: str) -> None:
    """Of a model that takes texts and pictures at once. Raises RefusedError with the way to its halves."""
    import inspect

    import transformers

    if not {"input_ids", "pixel_values"} <= inspect.signature(model.forward).parameters.keys():
        return
    kin = architecture.removesuffix("Model")
    halves = [f"{kin}{half}Model" for half in ("Text", "Vision")]
    halves = [name + "WithProjection" if hasattr(transformers, name + "WithProjection") else name for name in halves]
    way = "export it with torch.export and give the .pt2"
    if architecture == kin + "Model" and all(hasattr(transformers, name) for name in halves):
        calls = " and ".join(f"{name}.from_pretrained(FOLDER).save_pretrained(OTHER)" for name in halves)
        way = f"convert its halves, each with its tokenizer or processor beside it: {calls}"
    raise RefusedError(f"this is a {architecture}, which takes texts and pictures together: {way}")


def _loaded(architecture: str, folder: Path) -> Any:
    """The model with all its weights, in single precision. Raises RefusedError where some are not in the folder."""
    import torch
    import transformers

    from converters.torch_inputs import line, quiet

    made = getattr(transformers, architecture, None)
    if made is None:
        raise RefusedError(
            f"Transformers {transformers.__version__} has no {architecture or 'class that config.json names'}: say "
            "`architectures` in config.json"
        )
    try:
        with quiet():
            model, report = made.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False, dtype=torch.float32,
                attn_implementation="eager", output_loading_info=True,
            )  # fmt: skip
    except Exception as error:  # a dozen classes, of Transformers, safetensors and torch
        raise RefusedError(f"Transformers cannot load this folder: {type(error).__name__}: {line(error)}") from None
    # Of a model without a head the pooler alone may be missing: many were saved without the one that nobody trained.
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing:
        named = f"{', '.join(missing[:5])}{' and others' if len(missing) > 5 else ''}"
        raise RefusedError(
            f"the folder has no weights for {named}: they would be random numbers. It may "
            "have been trained for another task than its config.json says"
        )
    if report["missing_keys"]:
        model.pooler = None
    return model.eval()


CONVERTER = HuggingFaceConverter()
