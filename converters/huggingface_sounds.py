"""Audio models of Transformers: those of samples take a recording, those of spectrograms take that as numbers.

In the process of a conversion alone. What the folder's extractor does to samples (mean 0, variance 1) becomes a part of
the model; a spectrogram is left to the caller.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from appliance.core.tensors import TensorSpec
from converters.converter import Conversion, Feed, Say, require
from converters.huggingface_export import ask, export
from converters.huggingface_folder import Folder
from converters.huggingface_heads import Head, Plain, class_head, labels_of
from converters.net_rows import net_rows
from converters.options import Options

SAMPLES = "audio"
SPECTROGRAMS = ("input_values", "input_features")
TASKS = "audio classification, speaker vectors (XVector), letters (CTC), and models of samples without a head"
_ENDINGS = (
    "ForSequenceClassification", "ForAudioClassification", "ForAudioFrameClassification", "ForXVector", "ForCTC",
    "Model",
)  # fmt: skip
_LABELLED = ("ForSequenceClassification", "ForAudioClassification")
_CTC = (
    "it answers with a score for each letter of vocab.json at each step: take the best one of each, repeated ones once "
    "and the padding not at all"
)
_FEW_ROWS, _SECONDS, _OTHER_SECONDS = 6, 0.5, 0.8


class Normalised(nn.Module):  # type: ignore[misc]
    """A model of samples, given each recording with mean 0 and variance 1 as Wav2Vec2FeatureExtractor makes it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, samples: Any) -> Any:
        centred = samples - samples.mean(-1, keepdim=True)
        return self.module(centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-7))


def converted_sounds(model: Any, found: Folder, folder: Path, options: Options, say: Say) -> Conversion:
    architecture, config = found.architecture, model.config
    require(
        architecture.endswith(_LABELLED)
        or (architecture.endswith(_ENDINGS) and not getattr(config, "is_encoder_decoder", False)),
        f"this is a {architecture}: of audio models, those for {TASKS} are taken",
    )
    given = model.main_input_name
    of_samples = hasattr(config, "conv_stride") and given == "input_values"
    head = _head(model, architecture, given)
    notes = [_CTC] if architecture.endswith("ForCTC") else []
    manifest: dict[str, Any] = {}
    if of_samples:
        rate = int(found.processor.get("sampling_rate", 16000))
        manifest["input"] = [{"name": SAMPLES, "as": "audio", "rate": rate}]
        specs = [TensorSpec(SAMPLES, "FP32", (-1, -1))]
        if found.processor.get("do_normalize"):
            head = head._replace(module=Normalised(head.module))
        lengths = [round(seconds * rate) for seconds in (_SECONDS, _OTHER_SECONDS)]

        def rows(count: int, random: np.random.Generator) -> list[Feed]:
            return [{SAMPLES: recordings(min(count, _FEW_ROWS), length, rate, random)} for length in lengths]
    else:
        shape = _spectrogram(config)
        require(shape is not None, f"this is a {architecture}, whose spectrogram is of a kind that is not known here")
        assert shape is not None
        specs = [TensorSpec(given, "FP32", (-1, *shape))]
        one = net_rows(specs)
        notes.append("the folder's extractor cannot be said in a manifest, so the model takes spectrograms as numbers")

        def rows(count: int, random: np.random.Generator) -> list[Feed]:
            return [one(min(count, _FEW_ROWS), random)]

    say("translating it")
    names = [spec.name for spec in specs]
    random = np.random.default_rng(0)
    trials = [*rows(2, random), *rows(1, random)]
    side = trials[0][names[0]].shape[-1]
    notes.append(export(head.module, specs, head.outputs, folder / "model.onnx", options.opset, trials, side=side))
    if head.scores:
        manifest |= {"labels": labels_of(config), "output": [{"name": head.scores, "labels": True}]}
    return Conversion(
        folder / "model.onnx",
        lambda feed: ask(head.module, names, head.outputs, feed),
        rows,
        manifest=manifest,
        notes=tuple(filter(None, notes)),
        continuous=True,
    )


def _head(model: Any, architecture: str, given: str) -> Head:
    if architecture.endswith(_LABELLED):
        return class_head(model, (given,))
    outputs: tuple[str, ...] = ("last_hidden_state",) if architecture.endswith("Model") else ("logits",)
    if architecture.endswith("ForXVector"):
        outputs = ("embeddings", "logits")
    return Head(Plain(model, (given,), outputs), outputs)


def _spectrogram(config: Any) -> tuple[int, int] | None:
    """What the extractor makes of any recording, as it fills up or cuts each."""
    bins = getattr(config, "num_mel_bins", None)
    if not isinstance(bins, int):
        return None
    if isinstance(frames := getattr(config, "max_source_positions", None), int):  # Whisper halves them itself
        return bins, 2 * frames
    return (frames, bins) if isinstance(frames := getattr(config, "max_length", None), int) else None


def recordings(count: int, length: int, rate: int, random: np.random.Generator) -> Any:
    """Tones, noise, clicks and silence of several loudnesses, in -1 to 1."""
    seconds = np.arange(length) / rate
    made = np.zeros((count, length))
    for row in range(count):
        tone = np.sin(2 * np.pi * random.uniform(80, 3000) * seconds * (1 + 0.3 * seconds))
        noise = random.normal(size=length) * random.choice([0.001, 0.05, 0.3])
        made[row] = random.choice([0.01, 0.3, 0.9]) * tone * (row % 3 != 1) + noise
    if count > 2:
        made[2] = 0.0
        made[2, :: max(1, length // 7)] = 0.5
    return np.clip(made, -1, 1).astype(np.float32)
