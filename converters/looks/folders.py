"""Models that are folders, told by what lies in them. Links that lead out are not followed for what they say."""

import json

from converters.content import Content
from converters.detected import Detected
from converters.looks.refusals import refused
from converters.looks.texts import json_model

_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json")


def folder(content: Content) -> Detected | None:
    """The first of the known kinds whose files are there; None for a file."""
    if not content.is_folder:
        return None
    for look in (_tensorflow, _hugging_face, _spark, _others, _tfjs):
        if (found := look(content, content.names)) is not None:
            return found
    return None


def _tensorflow(_: Content, names: frozenset[str]) -> Detected | None:
    if "saved_model.pb" in names or "saved_model.pbtxt" in names:
        return Detected(format="saved-model", what="a TensorFlow SavedModel")
    if "checkpoint" in names and any(name.endswith(".index") for name in names):
        return refused("tf-checkpoint")
    return None


def _hugging_face(content: Content, names: frozenset[str]) -> Detected | None:
    if (content.path / "config.json").is_symlink() and names & set(_WEIGHTS):
        return refused("hugging-face-cache")
    config = content.json_entry("config.json")
    if isinstance(config, dict) and ("model_type" in config or "architectures" in config) and names & set(_WEIGHTS):
        return Detected(
            format="hugging-face", what="a Hugging Face folder", facts={"model_type": str(config.get("model_type", ""))}
        )
    if "adapter_config.json" in names:
        return refused("peft")
    if isinstance(config, dict) and "model_type" in config and names & {"tf_model.h5", "flax_model.msgpack"}:
        return refused("hugging-face-other")
    if "modules.json" in names and "config_sentence_transformers.json" in names:
        return Detected(
            format="hugging-face", what="a folder of sentence-transformers", facts={"model_type": "sentence"}
        )
    return None


def _spark(content: Content, names: frozenset[str]) -> Detected | None:
    for name in sorted(names):
        if name.startswith("metadata/part-"):
            found = _json_line(content.entry(name))
            if isinstance(found, dict) and str(found.get("class", "")).startswith("org.apache.spark.ml"):
                return Detected(format="spark", what="a Spark ML model", facts={"class": str(found["class"])})
    return None


def _json_line(text: bytes) -> object:
    try:
        return json.loads(text.split(b"\n")[0])
    except (ValueError, RecursionError):
        return None


def _others(_: Content, names: frozenset[str]) -> Detected | None:
    if "MLmodel" in names:
        return refused("mlflow")
    if "Manifest.json" in names and any(name.startswith("Data") for name in names):
        return refused("coreml")
    if any(f"{name.removesuffix('.pdiparams')}.json" in names for name in names if name.endswith(".pdiparams")):
        return Detected(format="paddle-pir", what="a Paddle model")
    if "__model__" in names or any(name.endswith(".pdmodel") for name in names):
        return Detected(format="paddle-legacy", what="a Paddle model in its old form")
    if "manifest.ocdbt" in names or "_METADATA" in names or "_CHECKPOINT_METADATA" in names:
        return refused("orbax")
    if any(name.endswith("-symbol.json") for name in names):
        return refused("mxnet")
    return None


def _tfjs(content: Content, names: frozenset[str]) -> Detected | None:
    return json_model(content.entry("model.json")) if "model.json" in names else None


LOOKS = (folder,)
