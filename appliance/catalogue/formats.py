"""What a file is by its first bytes: an ONNX model, a bundle, or something that people upload by mistake. Pure.

Sources: the formats' own magic numbers; ONNX's `ModelProto`, whose fields a model file begins with one of.
"""

HEAD_BYTES = 512

ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")

_CONVERT = "convert it to ONNX first"
_UNPACK = "unpack it and deploy the ONNX file, or a ZIP with model.onnx in it"
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file it stands for: fetch it with `git lfs pull`"),
    (b"\x1f\x8b", f"compressed with gzip: {_UNPACK}"),
    (b"BZh", f"compressed with bzip2: {_UNPACK}"),
    (b"\xfd7zXZ", f"compressed with xz: {_UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"compressed with zstd: {_UNPACK}"),
    (b"7z\xbc\xaf", f"a 7z archive: {_UNPACK}"),
    (b"Rar!", f"a RAR archive: {_UNPACK}"),
    (b"\x89HDF", f"an HDF5 file, perhaps a Keras model: {_CONVERT}"),
    (b"GGUF", f"a GGUF model: {_CONVERT}"),
    (b"\x93NUMPY", "a numpy array, no model"),
    (b"\x89PNG", "a PNG picture, no model"),
    (b"\xff\xd8\xff", "a JPEG picture, no model"),
    (b"%PDF", "a PDF document, no model"),
    (b"\x7fELF", "a program, no model"),
    (b"\x80\x02", f"a Python pickle: {_CONVERT}"),
    (b"\x80\x03", f"a Python pickle: {_CONVERT}"),
    (b"\x80\x04", f"a Python pickle: {_CONVERT}"),
    (b"\x80\x05", f"a Python pickle: {_CONVERT}"),
)
# (field number << 3 | wire type) of ModelProto's fields; the two last take two bytes, of which this is the first.
_MODEL_TAGS = frozenset((0x08, 0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72, 0xA2, 0xCA, 0xD2))


def is_zip(head: bytes) -> bool:
    return head.startswith(ZIP_STARTS)


def why_no_onnx(head: bytes) -> str | None:
    """What the file is instead of an ONNX model, as the end of a sentence that begins with `the file is`; None where it
    may be one. `head` holds its first HEAD_BYTES."""
    if not head:
        return "empty: expected an ONNX model, or a ZIP with model.onnx in it"
    for start, what in _STARTS:
        if head.startswith(start):
            return what
    if head[4:8] == b"TFL3":
        return f"a TensorFlow Lite model: {_CONVERT}"
    if head[4:8] == b"ORTM":
        return "in onnxruntime's own ORT format: deploy the ONNX file it was made from"
    if head[257:262] == b"ustar":
        return f"a tar archive: {_UNPACK}"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return f"a safetensors file, which has weights and no graph: {_CONVERT}"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body", b"<svg")):
        return "a web page or XML, perhaps a download that failed: expected an ONNX model"
    if text.startswith((b"{", b"[")):
        return "JSON text, no model: expected an ONNX model, or a ZIP with model.onnx in it"
    if head[0] not in _MODEL_TAGS:
        return "no ONNX model (it does not begin as one): expected an ONNX file, or a ZIP with model.onnx in it"
    return None
