"""Pickles and joblib's files: what they would load is read from their opcodes, and nothing of it is loaded.

Source: pickletools (the opcodes), joblib's numpy_pickle (arrays within the stream, and the compressions).
"""

import bz2
import lzma
import pickletools
import re
import zlib
from collections.abc import Callable
from io import BytesIO

from converters.content import MAX_TEXT_BYTES, Content
from converters.detected import Detected
from converters.looks.refusals import refused

MAX_OPCODES = 500_000
MAX_CLASSES = 200
SHOWN_CLASSES = 12

_TORCH_LEGACY = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # torch.serialization.MAGIC_NUMBER as an opcode
# Protocols 0 and 1 have no mark at their beginning: an object, a dict, a list or a class.
_OLD = re.compile(rb"(\(?[dl]p?\d*\n|c[A-Za-z_][\w.]*\n[A-Za-z_]\w*\n|\(i[A-Za-z_][\w.]*\n|ccopy_reg\n|\}q|\]q|\(dp)")
_GLOBAL = re.compile(rb"c([A-Za-z_][\w.]{0,200})\n([A-Za-z_][\w.]{0,200})\n")
_STACK_GLOBAL = re.compile(rb"\x8c.([A-Za-z_][\w.]{0,200})\x94\x8c.([A-Za-z_][\w.]{0,200})\x94\x93", re.DOTALL)

_WAYS: tuple[tuple[str, str], ...] = (
    ("sklearn.", "save it with skops: `skops.io.dump(model, 'model.skops')`"),
    ("xgboost.", "save it in XGBoost's own form: `model.save_model('model.json')`"),
    ("lightgbm.", "save it in LightGBM's own form: `model.booster_.save_model('model.txt')`"),
    ("catboost.", "save it in CatBoost's own form: `model.save_model('model.cbm')`"),
    ("torch", "save the program: `torch.export.save(torch.export.export(model, (example,)), 'model.pt2')`"),
    ("keras.", "save it in Keras' own form: `model.save('model.keras')`"),
    ("tensorflow.", "save it in Keras' own form: `model.save('model.keras')`"),
    ("statsmodels.", "write its coefficients as JSON, as docs/converters/glm.md says"),
    ("pyspark.", "save it with Spark's own writer: `model.write().save('folder')`"),
    ("onnx", "save it with `onnx.save(model, 'model.onnx')`"),
)  # fmt: skip


def pickle(content: Content) -> Detected | None:
    """A pickle, or what joblib writes, compressed or not; R's files, which are compressed alike, too."""
    head = content.head
    if _is_pickle(head):
        return _found(content.read(0, MAX_TEXT_BYTES), "")
    for start, name, opened in _COMPRESSIONS:
        if head.startswith(start):
            inner = _unpacked(content.read(0, MAX_TEXT_BYTES), opened)
            if _is_pickle(inner):
                return _found(inner, name)
            if inner.startswith((b"X\n\x00\x00\x00", b"RDX")):
                return refused("rds" if inner.startswith(b"X\n") else "r-data")
    if head.startswith(b"\x04\x22\x4d\x18"):
        return _detected("joblib", "a file compressed with LZ4, as joblib writes them", ())
    return None


def _is_pickle(head: bytes) -> bool:
    return (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")) or bool(_OLD.match(head))


def _unpacked(data: bytes, opened: Callable[[], object]) -> bytes:
    machine = opened()
    try:
        return bytes(machine.decompress(data, MAX_TEXT_BYTES))  # type: ignore[attr-defined]
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        return b""


_COMPRESSIONS: tuple[tuple[bytes, str, Callable[[], object]], ...] = (
    (b"\x78\x01", "zlib", zlib.decompressobj),
    (b"\x78\x5e", "zlib", zlib.decompressobj),
    (b"\x78\x9c", "zlib", zlib.decompressobj),
    (b"\x78\xda", "zlib", zlib.decompressobj),
    (b"\x1f\x8b", "gzip", lambda: zlib.decompressobj(31)),
    (b"BZh", "bzip2", bz2.BZ2Decompressor),
    (b"\xfd7zXZ", "xz", lzma.LZMADecompressor),
    (b"\x5d\x00\x00", "lzma", lzma.LZMADecompressor),
)


def _found(data: bytes, compression: str) -> Detected:
    if _TORCH_LEGACY in data[:64]:
        return _detected("torch-legacy", "a PyTorch file in its old form, which is a pickle", classes_of(data))
    classes = classes_of(data)
    is_joblib = bool(compression) or any(name.startswith("joblib.") for name in classes)
    word = "joblib" if is_joblib else "pickle"
    what = (
        f"a file of joblib, compressed with {compression}"
        if compression
        else f"a {'joblib file' if is_joblib else 'pickle'}"
    )
    return _detected(word, what, classes)


def _detected(word: str, what: str, classes: tuple[str, ...]) -> Detected:
    shown = ", ".join(classes[:SHOWN_CLASSES]) + (
        f" and {len(classes) - SHOWN_CLASSES} more" if len(classes) > SHOWN_CLASSES else ""
    )
    way = next((way for start, way in _WAYS for name in classes if name.startswith(start)), "")
    way = way or "save the model in its framework's own form, which holds data and no code"
    loads = f"it would load {shown}" if classes else "what it would load cannot be read"
    refusal = f"opening it runs code that it brings ({loads}); {way}. --trust converts it all the same, in the sandbox"
    return Detected(format=word, what=what, refusal=refusal, classes=classes, runs_code=True)


def classes_of(data: bytes) -> tuple[str, ...]:
    """What unpickling this would import, by full name, in order: as far as the opcodes can be followed, and beyond that
    (arrays within the stream) by what looks like one."""
    reader = _Reader()
    try:
        for count, (opcode, argument, at) in enumerate(pickletools.genops(BytesIO(data))):
            reader.read(opcode.name, argument, at or 0)
            if count > MAX_OPCODES or len(reader.found) > MAX_CLASSES:
                break
    except Exception:  # a stream that ends, or is none: what was read until then counts
        reader.guess(data)
    return tuple(reader.found)


class _Reader:
    """Follows the texts on a pickle's stack, as far as names of classes need it."""

    def __init__(self) -> None:
        self.found: dict[str, None] = {}
        self._memo: dict[int, str] = {}
        self._texts: list[str] = []
        self._at = 0

    def read(self, opcode: str, argument: object, at: int) -> None:
        self._at = at
        if opcode in ("GLOBAL", "INST"):
            self.found[str(argument).replace(" ", ".", 1)] = None
        elif opcode == "STACK_GLOBAL" and len(self._texts) >= 2:
            self.found[f"{self._texts[-2]}.{self._texts[-1]}"] = None
        elif isinstance(argument, str) and "UNICODE" in opcode:
            self._texts.append(argument[:300])
        elif opcode == "MEMOIZE":
            self._remember(len(self._memo))
        elif opcode.endswith("PUT") and isinstance(argument, int):
            self._remember(argument)
        elif opcode.endswith("GET") and argument in self._memo:
            self._texts.append(self._memo[int(str(argument))])
        del self._texts[:-4]

    def _remember(self, index: int) -> None:
        self._memo[index] = self._texts[-1] if self._texts else ""

    def guess(self, data: bytes) -> None:
        for pattern in (_GLOBAL, _STACK_GLOBAL):
            for match in pattern.finditer(data, self._at):
                if len(self.found) <= MAX_CLASSES:
                    self.found[f"{match[1].decode()}.{match[2].decode()}"] = None


LOOKS = (pickle,)
