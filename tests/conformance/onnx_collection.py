"""The collection: small ONNX models with inputs for them, gathered from what the `onnx` package ships.

Most are made by `onnx.backend.test.case` (one model or more for every operator, with its inputs), the others lie as
files in the package's test data. Answers are not taken from there: what bare onnxruntime says is the truth.
"""

import importlib
import pkgutil
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[Any]
Feed = dict[str, Array]

# Together seven seconds to make: reference pooling in Python loops. The whole collection has them.
SLOW_TO_MAKE = frozenset(("averagepool", "lppool", "maxpool"))
# Weights of hundreds of megabytes, made up at load: they try the memory and not the protocol.
TOO_HEAVY = frozenset(("light_bvlc_alexnet", "light_vgg19", "light_zfnet512"))


@dataclass(frozen=True)
class Case:
    """A model and one or more feeds. What is no array (a sequence, a missing optional) stays as onnx gave it."""

    name: str
    model: bytes
    feeds: tuple[dict[str, Any], ...]
    origin: str
    operators: frozenset[str] = frozenset()


@cache
def gather(*, whole: bool) -> list[Case]:
    """Every case, sorted by name. Not `whole`: without the few that take long to make or load."""
    cases = [*_made_by_onnx(whole), *_stored_with_onnx(whole)]
    return sorted({case.name: case for case in cases}.values(), key=lambda case: case.name)


def spread(cases: Iterable[Case]) -> list[Case]:
    """A fixed choice: every operator, and every kind of value with every rank, as an input and as an output."""
    seen: set[object] = set()
    chosen = []
    # The order is shuffled by name, the same on every machine, so that no letter of the alphabet has the say.
    for case in sorted(cases, key=lambda case: zlib.crc32(case.name.encode())):
        if fresh := {*case.operators, *_declared(case.model)} - seen:
            seen |= fresh
            chosen.append(case)
    return chosen


def _declared(model: bytes) -> Iterator[tuple[object, ...]]:
    graph = onnx.load_from_string(model).graph
    for side, values in (("in", graph.input), ("out", graph.output)):
        for kind in (value.type for value in values):
            yield side, kind.WhichOneof("value"), kind.tensor_type.elem_type, len(kind.tensor_type.shape.dim)


def case_from_model(name: str, model: onnx.ModelProto, feeds: Sequence[Sequence[Any]], origin: str) -> Case:
    """A case whose feeds are lists of values in the order of the graph's inputs."""
    names = [value.name for value in model.graph.input]
    named = tuple({n: _value(v) for n, v in zip(names, feed, strict=False)} for feed in feeds)
    operators = frozenset(f"{node.domain}:{node.op_type}" for node in model.graph.node)
    return Case(name, model.SerializeToString(), named, origin, operators)


def _made_by_onnx(whole: bool) -> Iterator[Case]:
    import onnx.backend.test.case.model as models
    import onnx.backend.test.case.node as nodes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases overflow and divide by zero on purpose
        for package in (nodes, models):
            _import_all(package, frozenset() if whole else SLOW_TO_MAKE)
    # The public collect_testcases() would make the slow ones too.
    for made in (*nodes._NodeTestCases, *models._SimpleModelTestCases):
        yield case_from_model(made.name, made.model, [inputs for inputs, _ in made.data_sets], made.kind)


def _import_all(package: ModuleType, left_out: frozenset[str]) -> None:
    for module in pkgutil.iter_modules(package.__path__):
        if module.name in left_out:
            continue
        imported = importlib.import_module(f"{package.__name__}.{module.name}")
        if module.ispkg:
            _import_all(imported, left_out)


def _stored_with_onnx(whole: bool) -> Iterator[Case]:
    data = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for folder in ("pytorch-converted", "pytorch-operator", "simple"):
        for path in sorted((data / folder).glob("*/model.onnx")):
            model = onnx.load(path)
            feeds = [_stored_feed(dataset, model) for dataset in sorted(path.parent.glob("test_data_set_*"))]
            yield case_from_model(f"{folder}-{path.parent.name}", model, feeds, folder)
    for path in sorted((data / "light").glob("*.onnx")) if whole else ():
        if path.stem not in TOO_HEAVY:
            model = onnx.load(path)
            yield case_from_model(path.stem, model, [_made_up_feed(model)], "light")


def _stored_feed(folder: Path, model: onnx.ModelProto) -> list[Any]:
    feed: list[Any] = []
    for position, value in enumerate(model.graph.input):
        path = folder / f"input_{position}.pb"
        if not path.exists():
            break
        if value.type.HasField("sequence_type"):
            feed.append(numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes())))
        else:
            feed.append(numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes())))
    return feed


def _made_up_feed(model: onnx.ModelProto) -> list[Any]:
    """Seeded noise for the inputs that no initialiser fills."""
    random = np.random.default_rng(11)
    filled = {tensor.name for tensor in model.graph.initializer}
    shapes = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input if v.name not in filled]
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


def _value(value: Any) -> Any:
    """An array as the node's own terms have it: bfloat16 as its bits, strings as str; anything else untouched."""
    if isinstance(value, onnx.TensorProto):
        value = numpy_helper.to_array(value)
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.name == "bfloat16":
        return value.view(np.uint16)
    if value.dtype.kind in "OSU":
        texts = [e.decode() if isinstance(e, bytes) else str(e) for e in value.reshape(-1)]
        return np.array([*texts, ""], object)[:-1].reshape(value.shape)
    return value
