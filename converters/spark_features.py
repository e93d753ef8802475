"""Spark's feature stages as ONNX: indexers, encoders, selections; scalers are spark_scalers.py's. What each does: its
class of org.apache.spark.ml.feature, of the same name.

In the process of a conversion alone. A stage is Spark's own object, loaded; its columns are in the graph already.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from appliance.core.errors import RefusedError
from converters.spark_columns import inputs_of, is_set, not_skipped, outputs_of
from converters.spark_graph import SparkGraph, Value, mixed
from converters.spark_scalers import SCALERS


def _string_indexer(graph: SparkGraph, stage: Any) -> None:
    g, keep = graph.g, not_skipped(stage) == "keep"
    for column, output, labels in zip(inputs_of(stage), outputs_of(stage), stage.labelsArray, strict=True):
        value, known = graph.values[column], [str(label) for label in labels]
        for source in graph.sources(value):
            source.labels, source.closed = known, not keep
        index = g.node(
            "LabelEncoder", value.name, domain="ai.onnx.ml", keys_strings=known,
            values_int64s=list(range(len(known))), default_int64=len(known),
        )  # fmt: skip
        if not keep:
            graph.wrong_where(g.node("Equal", index, g.value(len(known), "INT64")))
        graph.values[output] = mixed(g.to(index, "FP64"), 1, is_vector=False)
        graph.categories[output] = len(known) + int(keep)


def _index_to_string(graph: SparkGraph, stage: Any) -> None:
    labels = [str(label) for label in stage.getLabels()] if is_set(stage, "labels") else []
    if not labels:
        way = "make it with IndexToString(labels=indexer.labels), or save the pipeline without it"
        raise RefusedError(f"IndexToString has no labels of its own, and columns do not keep theirs in a file: {way}")
    g, index = graph.g, graph.values[inputs_of(stage)[0]].name
    known = g.node(
        "And", g.node("GreaterOrEqual", index, g.value(0.0)), g.node("Less", index, g.value(float(len(labels))))
    )
    graph.wrong_where(g.node("Not", known))
    whole = g.to(g.node("Where", known, index, g.value(0.0)), "INT64")
    graph.values[outputs_of(stage)[0]] = mixed(
        g.node("Gather", g.value(labels, "BYTES"), whole), 1, is_vector=False, is_text=True
    )


def _one_hot(graph: SparkGraph, stage: Any) -> None:
    g, keep = graph.g, not_skipped(stage) == "keep"
    for column, output, size in zip(inputs_of(stage), outputs_of(stage), stage.categorySizes, strict=True):
        value = graph.values[column]
        if keep:  # all that is not known becomes a category of its own, the last
            inside = _within(graph, value.name, size)
            index = g.node("Where", inside, value.name, g.value(float(size)))
        else:
            index = value.name
            graph.wrong_where(g.node("Not", _within(graph, index, size)))
        width = size + int(keep) - int(stage.getDropLast())
        for source in graph.sources(value):
            source.marks[0], source.closed = {float(i) for i in range(size)}, True
        if width < 1:
            raise RefusedError(f"OneHotEncoder makes no column of '{column[:60]}', which has one category alone")
        ones = g.node("Equal", g.node("Floor", index), g.value(np.arange(width, dtype=np.float64)[None]))
        graph.values[output] = mixed(g.to(ones, "FP64"), width)


def _within(graph: SparkGraph, name: str, size: int) -> str:
    g = graph.g
    return g.node("And", g.node("GreaterOrEqual", name, g.value(0.0)), g.node("Less", name, g.value(float(size))))


def _assembler(graph: SparkGraph, stage: Any) -> None:
    g, values = graph.g, [graph.values[column] for column in inputs_of(stage)]
    name = values[0].name if len(values) == 1 else g.node("Concat", *(value.name for value in values), axis=1)
    if not_skipped(stage) == "error":
        graph.wrong_where_any(g.node("IsNaN", name))
        for value in values:
            for source in graph.sources(value):
                source.missing = False
    origins = tuple(origin for value in values for origin in value.origins)
    graph.values[outputs_of(stage)[0]] = Value(name, len(origins), is_vector=True, origins=origins)


def _imputer(graph: SparkGraph, stage: Any) -> None:
    g, surrogates = graph.g, stage.surrogateDF.collect()[0].asDict()
    absent = float(stage.getMissingValue())
    for column, output in zip(inputs_of(stage), outputs_of(stage), strict=True):
        value = graph.values[column]
        missing = g.node("IsNaN", value.name)
        if not np.isnan(absent):
            missing = g.node("Equal", value.name, g.value(absent))
            graph.mark(value, 0, [absent])
        replaced = g.node("Where", missing, g.value(float(surrogates[column])), value.name)
        graph.values[output] = value._replace(name=replaced, origins=value.origins)


def _bucketizer(graph: SparkGraph, stage: Any) -> None:
    g, keep = graph.g, not_skipped(stage) == "keep"
    splits = stage.getSplitsArray() if is_set(stage, "splitsArray") else [stage.getSplits()]
    for column, output, bounds in zip(inputs_of(stage), outputs_of(stage), splits, strict=True):
        value, ends = graph.values[column], np.array(bounds, np.float64)
        # The last bucket holds its upper end, too.
        above = g.node("GreaterOrEqual", value.name, g.value(ends[None, 1:-1]))
        bucket = g.node("ReduceSum", g.to(above, "FP64"), g.value([1], "INT64"), keepdims=1)
        missing = g.node("IsNaN", value.name)
        outside = g.node(
            "Or", g.node("Less", value.name, g.value(ends[0])), g.node("Greater", value.name, g.value(ends[-1]))
        )
        if keep:
            bucket = g.node("Where", missing, g.value(float(len(ends) - 1)), bucket)
        else:
            outside = g.node("Or", outside, missing)
        graph.wrong_where(outside)
        graph.mark(value, 0, [end for end in bounds if np.isfinite(end)])
        for source in graph.sources(value):
            source.missing = source.missing and keep
            source.low, source.high = max(source.low, ends[0]), min(source.high, ends[-1])
        graph.values[output] = mixed(bucket, 1, is_vector=False)
        graph.categories[output] = len(ends) - 1


def _binarizer(graph: SparkGraph, stage: Any) -> None:
    g = graph.g
    limits = stage.getThresholds() if is_set(stage, "thresholds") else [stage.getThreshold()] * len(inputs_of(stage))
    for column, output, limit in zip(inputs_of(stage), outputs_of(stage), limits, strict=True):
        value = graph.values[column]
        for at in range(value.width):
            graph.mark(value, at, [limit])
        more = g.to(g.node("Greater", value.name, g.value(float(limit))), "FP64")
        graph.values[output] = mixed(more, value.width, is_vector=value.is_vector)


def _pca(graph: SparkGraph, stage: Any) -> None:
    g, value, components = graph.g, graph.values[inputs_of(stage)[0]], np.asarray(stage.pc.toArray(), np.float64)
    name = g.node("MatMul", value.name, g.value(components))
    graph.values[outputs_of(stage)[0]] = mixed(name, components.shape[1])


def _selected(graph: SparkGraph, stage: Any, places: Sequence[int]) -> None:
    g, value = (
        graph.g,
        graph.values[str(stage.getFeaturesCol() if stage.hasParam("featuresCol") else stage.getInputCol())],
    )
    if not places or not 0 <= min(places) <= max(places) < value.width:
        raise RefusedError(f"{stage.uid.partition('_')[0]} takes nothing, or elements that the vector does not have")
    name = g.node("Gather", value.name, g.value(list(places), "INT64"), axis=1)
    origins = tuple(value.origins[at] for at in places)
    graph.values[outputs_of(stage)[0]] = Value(name, len(places), is_vector=True, origins=origins)


def _selector(graph: SparkGraph, stage: Any) -> None:
    # In the order of the vector, whichever order the model has them in.
    _selected(graph, stage, sorted(int(at) for at in stage.selectedFeatures))


def _slicer(graph: SparkGraph, stage: Any) -> None:
    if is_set(stage, "names") and stage.getNames():
        raise RefusedError("VectorSlicer picks by names, which columns do not keep in a file: pick by indices")
    _selected(graph, stage, [int(at) for at in stage.getIndices()])


def _vector_indexer(graph: SparkGraph, stage: Any) -> None:
    g, keep, value = graph.g, not_skipped(stage) == "keep", graph.values[inputs_of(stage)[0]]
    maps = {int(at): {float(k): int(v) for k, v in known.items()} for at, known in stage.categoryMaps.items()}
    columns, origins = [], list(value.origins)
    for at in range(value.width):
        column = g.node("Gather", value.name, g.value([at], "INT64"), axis=1)
        known = maps.get(at)
        if known is not None:
            graph.mark(value, at, list(known))
            for source in [graph.inputs[o.column] for o in [origins[at]] if o is not None and not keep]:
                source.closed = True
            matches = g.node("Equal", column, g.value(np.array([list(known)], np.float64)))
            index = g.node("MatMul", g.to(matches, "FP64"), g.value(np.array([[float(v)] for v in known.values()])))
            hit = g.node("ReduceMax", g.to(matches, "FP32"), g.value([1], "INT64"), keepdims=1)
            found = g.node("Greater", hit, g.value(0.5, "FP32"))
            if not keep:
                graph.wrong_where(g.node("Not", found))
            column, origins[at] = g.node("Where", found, index, g.value(float(len(known)))), None
        columns.append(column)
    name = columns[0] if len(columns) == 1 else g.node("Concat", *columns, axis=1)
    graph.values[outputs_of(stage)[0]] = Value(name, value.width, is_vector=True, origins=tuple(origins))


FEATURES: dict[str, Callable[[SparkGraph, Any], None]] = {
    "StringIndexerModel": _string_indexer, "IndexToString": _index_to_string, "OneHotEncoderModel": _one_hot,
    "VectorAssembler": _assembler, "ImputerModel": _imputer, "Bucketizer": _bucketizer, "Binarizer": _binarizer,
    "PCAModel": _pca, "ChiSqSelectorModel": _selector, "UnivariateFeatureSelectorModel": _selector,
    "VarianceThresholdSelectorModel": _selector, "VectorSlicer": _slicer, "VectorIndexerModel": _vector_indexer,
    **SCALERS,
}  # fmt: skip
