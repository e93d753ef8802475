"""What an ONNX file says of itself, and whether the files that it names may be opened: read before onnxruntime sees it.

Reads hostile bytes, so for an upload it runs in the sandboxed child; the CLI runs it on the user's own files. Knows the
shape of ONNX's messages and nothing of what the operators do.
Sources: onnx/onnx, `onnx/onnx.proto` (field numbers) and `docs/ExternalData.md`.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from appliance.catalogue.formats import HEAD_BYTES, why_no_onnx
from appliance.catalogue.wire import DamagedError, Source, fields, packed_varints
from appliance.core.errors import RefusedError

MAX_DEPTH = 32  # of graphs within graphs

# Domains whose operators onnxruntime brings.
KNOWN_DOMAINS = frozenset(
    (
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "ai.onnx.training",
        "ai.onnx.preview",
        "ai.onnx.preview.training",
        "com.microsoft",
        "com.microsoft.nchwc",
        "com.microsoft.experimental",
        "com.ms.internal.nhwc",
        "org.pytorch.aten",
    )
)
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16}
_BITS |= {17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2}
_CONTROL_FLOW = frozenset(("If", "Loop", "Scan"))
_EXTERNAL = 1  # TensorProto.DataLocation


class ExternalTensor(msgspec.Struct, frozen=True):
    """A tensor whose bytes lie in another file, from `offset` for `size_bytes` (-1: not said, to the file's end)."""

    name: str
    location: str
    offset: int
    size_bytes: int


class OnnxFacts(msgspec.Struct, frozen=True):
    """`opsets`: domain to version. `custom_operators`: `domain:name` of what is neither in a domain that onnxruntime
    brings nor a function of the file's own, sorted."""

    ir_version: int
    opsets: dict[str, int]
    producer: str
    external: tuple[ExternalTensor, ...]
    custom_operators: tuple[str, ...]
    node_count: int
    has_control_flow: bool

    @property
    def external_files(self) -> tuple[str, ...]:
        """The files that the model needs beside it, each once, sorted; as the file names them, unchecked."""
        return tuple(sorted({tensor.location for tensor in self.external}))


def read_onnx(path: Path) -> OnnxFacts:
    """Walks the whole of a model: graphs within graphs, functions, sparse tensors. Weights are passed over.

    Raises RefusedError where the file is another format, empty, cut short, damaged or nested too deep, or external data
    is described wrongly.
    """
    with path.open("rb") as file:
        if fault := why_no_onnx(file.read(HEAD_BYTES)):
            raise RefusedError(f"{path.name} is {fault}")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as source:
            try:
                return _Reader(source).model()
            except DamagedError as error:
                advice = "upload it again, whole" if error.cut else "export or fetch it again"
                raise RefusedError(f"{path.name} is {error}, so it is no whole ONNX model: {advice}") from None


def check_external(folder: Path, facts: OnnxFacts) -> None:
    """Raises RefusedError unless each file that the model names lies in `folder`, is a file, and is long enough."""
    root = folder.resolve()
    for tensor in facts.external:
        shown = ascii(tensor.location[:120])
        parts = PurePosixPath(tensor.location).parts
        if not parts or tensor.location.startswith("/") or ".." in parts or "\\" in tensor.location:
            raise RefusedError(f"the model wants its data from {shown}, outside its folder: that is never opened")
        # onnxruntime takes such a name for an address in its own memory.
        if "_ORT_MEM_ADDR_" in tensor.location or not tensor.location.isprintable():
            raise RefusedError(f"the model wants its data from {shown}, which names no file")
        try:
            target = (root / tensor.location).resolve()
            if not target.is_relative_to(root):
                raise RefusedError(f"the model's data file {shown} is a link to outside its folder: put the file there")
            size_bytes = target.stat().st_size if target.is_file() else -1
        except (OSError, RuntimeError):
            size_bytes = -1
        if size_bytes < 0:
            raise RefusedError(
                f"the model's data file {shown} is missing: deploy a ZIP with model.onnx and the files that it names"
            )
        needed = tensor.offset + max(tensor.size_bytes, 0)
        if size_bytes < needed:
            raise RefusedError(
                f"the model's data file {shown} is cut short: tensor {tensor.name[:80]!a} needs {needed} bytes of it "
                f"and it has {size_bytes}"
            )


class _Reader:
    """One walk through one file; what it meets is gathered in its attributes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._external: list[ExternalTensor] = []
        self._operators: set[tuple[str, str]] = set()
        self._functions: set[tuple[str, str]] = set()
        self._node_count = 0

    def model(self) -> OnnxFacts:
        ir_version = 0
        producer = ["", ""]
        opsets: dict[str, int] = {}
        has_graph = False
        for number, value, end in fields(self._source, 0, len(self._source)):
            if end < 0:
                ir_version = value if number == 1 else ir_version
            elif number in (2, 3):
                producer[number - 2] = self._text(value, end)
            elif number == 7:
                has_graph = True
                self._graph(value, end, 0)
            elif number == 8:
                domain, version = self._opset(value, end)
                opsets[domain] = version
            elif number == 20:
                for part, start, stop in self._messages(value, end):
                    if part in (1, 2):
                        self._graph(start, stop, 0)
            elif number == 25:
                self._function(value, end)
        if not has_graph:
            raise RefusedError("the file has no graph, so it is no ONNX model (or only its beginning)")
        return OnnxFacts(
            ir_version=ir_version,
            opsets=opsets,
            producer=" ".join(filter(None, producer)),
            external=tuple(self._external),
            custom_operators=tuple(
                sorted(
                    f"{domain}:{name}"
                    for domain, name in self._operators - self._functions
                    if domain not in KNOWN_DOMAINS
                )
            ),
            node_count=self._node_count,
            has_control_flow=any(name in _CONTROL_FLOW for _, name in self._operators),
        )

    def _graph(self, start: int, end: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise RefusedError(f"the model has graphs within graphs more than {MAX_DEPTH} deep: no real one has")
        for number, value, stop in self._messages(start, end):
            if number == 1:
                self._node(value, stop, depth)
            elif number == 5:
                self._tensor(value, stop)
            elif number == 15:
                self._sparse(value, stop)

    def _node(self, start: int, end: int, depth: int) -> None:
        domain = name = ""
        self._node_count += 1
        for number, value, stop in self._messages(start, end):
            if number == 4:
                name = self._text(value, stop)
            elif number == 7:
                domain = self._text(value, stop)
            elif number == 5:
                self._attribute(value, stop, depth)
        self._operators.add((domain, name))

    def _attribute(self, start: int, end: int, depth: int) -> None:
        for number, value, stop in self._messages(start, end):
            if number in (5, 10):
                self._tensor(value, stop)
            elif number in (6, 11):
                self._graph(value, stop, depth + 1)
            elif number in (22, 23):
                self._sparse(value, stop)

    def _sparse(self, start: int, end: int) -> None:
        for number, value, stop in self._messages(start, end):
            if number in (1, 2):
                self._tensor(value, stop)

    def _function(self, start: int, end: int) -> None:
        domain = name = ""
        for number, value, stop in self._messages(start, end):
            if number == 1:
                name = self._text(value, stop)
            elif number == 10:
                domain = self._text(value, stop)
            elif number == 7:
                self._node(value, stop, 0)
            elif number == 11:
                self._attribute(value, stop, 0)
        self._functions.add((domain, name))

    def _tensor(self, start: int, end: int) -> None:
        location_kind = 0
        name = ""
        said: dict[str, str] = {}
        for number, value, stop in fields(self._source, start, end):
            if number == 14 and stop < 0:
                location_kind = value
            elif number == 8 and stop >= 0:
                name = self._text(value, stop)
            elif number == 13 and stop >= 0:
                pair = {part: self._text(at, until) for part, at, until in self._messages(value, stop)}
                said[pair.get(1, "")] = pair.get(2, "")
        if location_kind == _EXTERNAL:
            if not said.get("location"):
                raise RefusedError(f"tensor {name[:80]!a} has its data in another file and does not say in which")
            offset = _size(name, said.get("offset") or "0")
            size_bytes = _size(name, said["length"]) if said.get("length") else self._tensor_bytes(start, end)
            self._external.append(ExternalTensor(name, said["location"], offset, size_bytes))

    def _tensor_bytes(self, start: int, end: int) -> int:
        """How many bytes the tensor's shape and type make; -1 where they do not tell."""
        count = 1
        data_type = 0
        for number, value, stop in fields(self._source, start, end, whole_runs=True):
            if number == 2 and stop < 0:
                data_type = value
            elif number == 1:
                for size in packed_varints(self._source, value, stop) if stop >= 0 else (value,):
                    count = min(count * size, 2**63)
        return (count * _BITS[data_type] + 7) // 8 if data_type in _BITS else -1

    def _opset(self, start: int, end: int) -> tuple[str, int]:
        domain, version = "", 0
        for number, value, stop in fields(self._source, start, end):
            if number == 1 and stop >= 0:
                domain = self._text(value, stop)
            elif number == 2 and stop < 0:
                version = value
        return domain, version

    def _messages(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        return ((number, value, stop) for number, value, stop in fields(self._source, start, end) if stop >= 0)

    def _text(self, start: int, end: int) -> str:
        return self._source[start : min(end, start + 4096)].decode("utf-8", "backslashreplace")


def _size(tensor: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise RefusedError(f"tensor {tensor[:80]!a} gives {text[:40]!a} as a place in its data file: no number")
    return int(text)
