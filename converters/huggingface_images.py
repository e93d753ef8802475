"""Image models of Transformers: what their picture processor does, said as a manifest says it where that can be.

In the process of a conversion alone. The processor's settings are read, with the defaults of its class, and it is not
run: a model is compared on pixels.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from appliance.core.tensors import TensorSpec
from converters.converter import Conversion, Say, require
from converters.huggingface_export import ask, export
from converters.huggingface_folder import Folder
from converters.huggingface_heads import Head, Plain, activation_of, class_head, labels_of
from converters.net_rows import net_rows
from converters.options import Options

INPUT = "pixel_values"
TASKS = "image classification, semantic segmentation, object detection, depth, and models without a head"
_ENDINGS = (
    "ForImageClassification", "ForSemanticSegmentation", "ForObjectDetection", "ForDepthEstimation", "Model",
    "ForImageClassificationWithTeacher", "WithProjection",
)  # fmt: skip
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # Pillow's numbers
_CUTS_IN = "ConvNext"  # resizes by a share of its own where the size is small


def converted_images(model: Any, found: Folder, folder: Path, options: Options, say: Say) -> Conversion:
    architecture = found.architecture
    require(architecture.endswith(_ENDINGS), f"this is a {architecture}: of image models, those for {TASKS} are taken")
    processor = _processor(found)
    height, width = _size(model.config, processor)
    channels = int(getattr(model.config, "num_channels", 3))
    spec = TensorSpec(INPUT, "FP32", (-1, channels, height, width))
    head = _head(model, architecture, spec)
    say("translating it")
    rows = net_rows([spec])
    random = np.random.default_rng(0)
    trials = [rows(2, random), rows(1, random)]
    note = export(head.module, [spec], head.outputs, folder / "model.onnx", options.opset, trials)
    manifest: dict[str, Any] = {}
    if head.scores:
        manifest |= {"labels": labels_of(model.config), "output": [{"name": head.scores, "labels": True}]}
    declared, said = _declaration(processor, (height, width), channels)
    if declared:
        manifest["input"] = [{"name": INPUT, "as": "image", **declared}]
    return Conversion(
        folder / "model.onnx",
        lambda feed: ask(head.module, [INPUT], head.outputs, feed),
        rows,
        manifest=manifest,
        notes=tuple(filter(None, (note, said))),
        continuous=True,
    )


def _processor(found: Folder) -> dict[str, Any]:
    """All its settings; none where the folder has none, or one that Transformers cannot make."""
    from transformers import AutoImageProcessor

    if not found.processor:
        return {}
    try:
        made = AutoImageProcessor.from_pretrained(
            str(found.model_folder), local_files_only=True, trust_remote_code=False
        )
        settings = json.loads(made.to_json_string())
    except Exception:  # of json, of Transformers, and of libraries that its classes want
        return {}
    kind = type(made).__name__.removesuffix("Pil").removesuffix("Fast")
    return {**settings, "image_processor_type": kind} if isinstance(settings, dict) else {}


def _head(model: Any, architecture: str, spec: TensorSpec) -> Head:
    if "ForImageClassification" in architecture and activation_of(model.config) is not None:
        return class_head(model, (INPUT,))
    import torch

    from converters.torch_inputs import quiet

    if architecture.endswith("WithProjection"):
        return Head(Plain(model, (INPUT,), ("image_embeds",)), ("image_embeds",))
    with quiet():
        found = model(torch.zeros((1, *spec.shape[1:])), return_dict=True)
    outputs = tuple(name for name, value in found.items() if isinstance(value, torch.Tensor) and name != "loss")
    return Head(Plain(model, (INPUT,), outputs), outputs)


def _size(config: Any, processor: dict[str, Any]) -> tuple[int, int]:
    """Height and width of what goes into the model: what the processor makes, else what the model is built for."""
    size = processor.get("size")
    exact = (
        None
        if isinstance(size, dict) and "shortest_edge" in size and not _kind(processor).startswith(_CUTS_IN)
        else size
    )
    cut = processor.get("crop_size") if processor.get("do_center_crop") else None
    offered = (cut, exact, getattr(config, "image_size", None), size)
    return next((sides for named in offered if (sides := _sides(named)) is not None), (224, 224))


def _kind(processor: dict[str, Any]) -> str:
    return str(processor.get("image_processor_type") or processor.get("feature_extractor_type") or "")


def _sides(named: Any) -> tuple[int, int] | None:
    if isinstance(named, int) and named > 0:
        return named, named
    if isinstance(named, list | tuple) and len(named) == 2:
        return int(named[0]), int(named[1])
    if isinstance(named, dict) and {"height", "width"} <= named.keys():
        return int(named["height"]), int(named["width"])
    if isinstance(named, dict) and "shortest_edge" in named:
        return int(named["shortest_edge"]), int(named["shortest_edge"])
    return None


def _declaration(processor: dict[str, Any], size: tuple[int, int], channels: int) -> tuple[dict[str, Any], str]:
    """The image input's declaration, or why there is none."""
    without = "the folder's picture processor cannot be said in a manifest, so the model takes numbers: "
    if not processor:
        return {}, "the folder has no preprocessor_config.json that Transformers reads, so the model takes numbers"
    kind = _kind(processor)
    if channels not in (1, 3) or processor.get("rescale_offset") or processor.get("do_pad"):
        return {}, without + (kind or "its channels, offset or padding")
    resized = _resizing(processor, size, kind)
    if resized is None:
        return {}, without + f"how {kind or 'it'} resizes"
    filling = _FILTERS.get(int(processor.get("resample", 2)))
    if filling is None:
        return {}, without + "its resampling"
    declared = {"size": list(size), "layout": "NCHW", **resized}
    declared |= {"filter": filling} if filling != "bilinear" else {}
    if channels == 1:
        declared["colour"] = "L"
    elif processor.get("do_flip_channel_order"):
        declared["colour"] = "BGR"
    if processor.get("do_rescale"):
        declared["scale"] = float(processor.get("rescale_factor", 1 / 255))
    if processor.get("do_normalize") and processor.get("image_mean"):
        declared["mean"] = [float(number) for number in processor["image_mean"]]
        declared["std"] = [float(number) for number in processor["image_std"]]
    return declared, ""


def _resizing(processor: dict[str, Any], size: tuple[int, int], kind: str) -> dict[str, Any] | None:
    """`resize`, and `shorter` where the shorter side is first brought to another length; None: another way."""
    named = processor.get("size")
    if not processor.get("do_resize"):
        return None
    edge = named.get("shortest_edge") if isinstance(named, dict) else None
    if kind.startswith(_CUTS_IN) and isinstance(edge, int):
        if edge >= 384:
            return {"resize": "stretch"}
        return {"resize": "crop", "shorter": int(edge / float(processor.get("crop_pct") or 224 / 256))}
    if processor.get("do_center_crop"):
        if not isinstance(edge, int) and not isinstance(named, int):
            return None
        shorter = edge if isinstance(edge, int) else int(str(named))
        return {"resize": "crop", "shorter": shorter} if shorter >= max(size) and size[0] == size[1] else None
    if edge is not None or (isinstance(named, dict) and "longest_edge" in named):
        return None
    return {"resize": "stretch"}
