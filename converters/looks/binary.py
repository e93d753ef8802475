"""Formats that are told by their first bytes. Pure."""

from converters.content import Content
from converters.detected import Detected


def onnx(content: Content) -> Detected | None:
    """ModelProto: its fields in order begin with ir_version (1, a number), and the producer or graph follows."""
    head = content.head
    if head[:1] == b"\x08" and head[1:2] < b"\x20" and head[2:3] in (b"\x12", b"\x3a", b"\x1a", b"\x22", b"\x42"):
        return Detected(format="onnx", what="an ONNX model")
    return None


LOOKS = (onnx,)
