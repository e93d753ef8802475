"""Formats that are told by their first bytes. Pure."""

import re

from converters.content import Content
from converters.detected import Detected
from converters.looks.refusals import refused

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"GGUF", "gguf"),
    (b"ggjt", "gguf"),
    (b"\x12\x01\x00\x00\x00\x00\x00\x00", "mxnet"),  # NDArray list, magic 0x112
    (b"ptrt", "tensorrt"),
    (b"ftrt", "tensorrt"),
    (b"ML\xefR", "stablehlo"),
    (b"StableHLO_v", "stablehlo"),
    (b"binf", "xgboost-binary"),
    (b"bs64\t", "xgboost-binary"),
    (b"RDX2\n", "r-data"),
    (b"RDX3\n", "r-data"),
    (b"X\n\x00\x00\x00\x02", "rds"),
    (b"X\n\x00\x00\x00\x03", "rds"),
    (b"A\n2\n", "rds"),
    (b"A\n3\n", "rds"),
    (b"\xac\xed\x00\x05", "weka"),
    (b"MATLAB 5.0 MAT-file", "matlab"),
    (b"B\x00C\x00N\x00", "cntk"),
    (b"\xba\x16\x4f\x2f", "fasttext"),  # 793712314, little-endian
    (b"7767517\n", "ncnn"),
    (b"(* ::", "wolfram"),
)


def by_start(content: Content) -> Detected | None:
    """What needs no more than its first bytes."""
    head = content.head
    for start, word in _STARTS:
        if head.startswith(start):
            return refused(word)
    if head.startswith(b"CBM1"):
        return Detected(format="catboost", what="a CatBoost model")
    if head[4:8] == b"TFL3":
        return Detected(format="tflite", what="a TensorFlow Lite model")
    if head[4:8] == b"ORTM":
        return refused("ort")
    if head[4:8] == b"MNN ":
        return refused("mnn")
    return None


def hdf5(content: Content) -> Detected | None:
    """HDF5; of Keras where its root has the attribute `model_config`, whose name lies in the file as it is."""
    if not content.head.startswith(b"\x89HDF\r\n\x1a\n"):
        return None
    if content.holds(b"model_config"):
        return Detected(format="hdf5-keras", what="a Keras model in HDF5")
    if content.holds(b"layer_names") or content.holds(b"_layer_checkpoint_dependencies") or content.holds(b"layers"):
        return refused("keras-weights")
    return refused("hdf5")


def safetensors(content: Content) -> Detected | None:
    """8 bytes of length, then that much JSON."""
    length = int.from_bytes(content.head[:8], "little")
    if content.head[8:9] != b"{" or not 2 <= length <= max(0, content.size_bytes - 8):
        return None
    return refused("safetensors") if b'"dtype"' in content.head or b"__metadata__" in content.head else None


def jax_export(content: Content) -> Detected | None:
    """A flatbuffer, whose root's table of fields lies just before it, with a StableHLO program within."""
    root = int.from_bytes(content.head[:4], "little")
    if not 8 <= root <= len(content.head) - 4 or content.size_bytes < 64:
        return None
    fields = root - int.from_bytes(content.head[root : root + 4], "little", signed=True)
    if not 4 <= fields <= len(content.head) - 4:
        return None
    return refused("jax-export") if content.holds(b"StableHLO_v") or content.holds(b"ML\xefR") else None


def flax_weights(content: Content) -> Detected | None:
    """A msgpack table of texts, in which Flax keeps arrays as extension 1: (shape, dtype's name, bytes)."""
    if re.match(rb"[\x81-\x8f][\xa1-\xbf]|\xde..[\xa1-\xbf\xd9]", content.head, re.DOTALL) and re.search(
        rb"[\xc7-\xc9].{1,4}\x01\x93[\x90-\x9f].{0,80}?[\xa4-\xa8](b?float|u?int|bool)", content.head, re.DOTALL
    ):
        return refused("flax-weights")
    return None


def ubjson_of_xgboost(content: Content) -> Detected | None:
    """An object whose first key is `learner`, or which has it near its start."""
    if re.match(rb"\{(\$.)?(#.)?[LliIU]", content.head, re.DOTALL) and b"learner" in content.head[:4096]:
        return Detected(format="xgboost-ubjson", what="an XGBoost model in UBJSON")
    return None


def darknet_weights(content: Content) -> Detected | None:
    """Three small numbers, major 0, minor 1 or 2, revision 0 to 5, then how many pictures it has seen."""
    head = content.head
    numbers = [int.from_bytes(head[at : at + 4], "little") for at in (0, 4, 8)]
    floats_follow = len(head) > 64 and content.size_bytes % 4 == 0
    if len(head) >= 20 and numbers[0] == 0 and numbers[1] in (1, 2) and numbers[2] <= 5 and floats_follow:
        return refused("darknet")
    return None


LOOKS = (by_start, hdf5, safetensors, jax_export, flax_weights, ubjson_of_xgboost, darknet_weights)
