"""Spark ML: saved models and pipelines, loaded by Spark itself, whose numbers become a graph written here.

Spark gives the answers to compare with, in a session on this process's own loopback. onnxmltools' converters are not
used: see docs/decisions for why.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from appliance.core.errors import RefusedError, UnsupportedError
from converters.converter import Conversion, Converter, Feed, Say
from converters.declared import declared_inputs
from converters.detected import Detected
from converters.options import Options
from converters.spark_folder import Stage, stages_of

if TYPE_CHECKING:
    from converters.spark_graph import SparkGraph, Value

LOOPBACK = "127.0.0.1"


class SparkConverter(Converter):
    name: ClassVar[str] = "spark"
    extra: ClassVar[str] = "spark"
    title: ClassVar[str] = "Spark ML"
    takes: ClassVar[str] = "saved models and pipelines: classification, regression, clustering, features (needs Java)"
    formats: ClassVar[tuple[str, ...]] = ("spark",)
    modules: ClassVar[tuple[str, ...]] = ("pyspark", "onnx", "onnxruntime")
    needs_processes: ClassVar[bool] = True

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        from converters.spark_graph import SparkGraph

        stages = stages_of(source)
        work = folder.parent / "tmp"
        say("starting Spark")
        session = _session(work)
        say("loading the model")
        steps = [Step(stage, _loaded(session, stage.path)) for stage in stages]
        say("writing its graph")
        plan = Plan(steps, options)
        graph = SparkGraph(plan.matrix)
        for column, width in plan.inputs.items():
            graph.take(column, width=max(1, width), is_text=column in plan.texts, is_vector=width > 0)
        for step in plan.steps:
            step.write(graph, session)
        for column in plan.outputs:
            graph.give(column, graph.values[column])
        graph.g.save(folder / "model.onnx")
        answers = _answers(session, [step.stage for step in plan.steps], graph, plan.outputs, work)
        return Conversion(folder / "model.onnx", answers, graph.rows, plan.manifest(), plan.notes())


class Step:
    """One stage, with the columns that it takes and makes."""

    def __init__(self, saved: Stage, stage: Any) -> None:
        from converters import spark_features, spark_models
        from converters.spark_features import is_set

        self.kind, self.path, self.stage = saved.kind.rpartition(".")[2], saved.path, stage
        self.is_model = self.kind in spark_models.MODELS or self.kind in spark_models.TREES
        self.is_text = self.kind == "StringIndexerModel"
        if self.is_model or self.kind.endswith("SelectorModel"):
            self.takes = [str(stage.getFeaturesCol())]
        elif is_set(stage, "inputCols"):
            self.takes = [str(name) for name in stage.getInputCols()]
        else:
            self.takes = [str(stage.getInputCol())]
        self.makes = spark_models.outputs_of(stage) if self.is_model else spark_features.outputs_of(stage)
        if self.kind == "GeneralizedLinearRegressionModel" and is_set(stage, "linkPredictionCol"):
            self.makes.append(str(stage.getLinkPredictionCol()))

    def write(self, graph: "SparkGraph", session: Any) -> None:
        from converters import spark_features, spark_models

        if self.kind in spark_models.TREES:
            spark_models.TREES[self.kind](graph, self.stage, _data(session, self.path))
        elif self.is_model:
            spark_models.MODELS[self.kind](graph, self.stage)
        else:
            spark_features.FEATURES[self.kind](graph, self.stage)

    def vector_width(self) -> int:
        """How long the vector is that it takes; 0 where it takes single columns, or does not know."""
        if self.kind in ("VectorAssembler", "StringIndexerModel", "IndexToString", "OneHotEncoderModel", "ImputerModel",
                         "Bucketizer", "Binarizer", "IsotonicRegressionModel"):  # fmt: skip
            return 0
        return _width(self.kind, self.stage)


class Plan:
    """Which stages are needed for what is answered, and the columns that come in."""

    def __init__(self, steps: Sequence[Step], options: Options) -> None:
        self.outputs = _wanted(steps)
        needed, kept = set(self.outputs), []
        for step in reversed(steps):
            if needed & set(step.makes):
                kept.append(step)
                needed |= set(step.takes)
        self.steps = kept[::-1]
        self.dropped = [step for step in steps if step not in kept]
        made: set[str] = set()
        self.inputs: dict[str, int] = {}  # how long its vector is; 0: a single number or text
        self.texts: set[str] = set()
        for step in self.steps:
            for column in step.takes:
                if column not in made and column not in self.inputs:
                    self.inputs[column] = step.vector_width()
                    if step.is_text:
                        self.texts.add(column)
            made |= set(step.makes)
        for spec in declared_inputs(options.inputs):
            if spec.name in self.inputs and len(spec.shape) == 2 and spec.shape[1] > 0:
                self.inputs[spec.name] = spec.shape[1]
        single = not self.texts and not any(self.inputs.values())
        self.matrix = list(self.inputs) if single else []
        self.all_steps = steps

    def manifest(self) -> dict[str, Any]:
        table: dict[str, Any] = {}
        if self.matrix:
            table["input"] = [{"name": "input", "as": "columns", "columns": self.matrix}]
        labels, output = self._labels()
        if labels and output in self.outputs:
            table |= {"labels": labels, "output": [{"name": output, "labels": True}]}
        return table

    def _labels(self) -> tuple[list[str], str]:
        """The names of the classes, which an indexer of the pipeline gave them, and the output with their shares."""
        for step in reversed(self.steps):
            if step.is_model and step.stage.hasParam("probabilityCol") and step.stage.hasParam("labelCol"):
                for other in self.all_steps:
                    if other.is_text and str(step.stage.getLabelCol()) in other.makes:
                        place = other.makes.index(str(step.stage.getLabelCol()))
                        return [str(label) for label in other.stage.labelsArray[place]], step.stage.getProbabilityCol()
        return [], ""

    def notes(self) -> tuple[str, ...]:
        notes = ["rows for which Spark raises an error (what it does not know, or missing values) answer NaN"]
        if self.texts:
            notes.append(f"columns of texts: {', '.join(sorted(self.texts))[:300]}")
        if self.dropped:
            notes.append("left out, as no answer needs it: " + ", ".join(step.kind for step in self.dropped))
        return tuple(notes)


def _wanted(steps: Sequence[Step]) -> list[str]:
    """What the predictors make, and what is made of that; without a predictor what no other stage takes."""
    models = [step for step in steps if step.is_model]
    if not models:
        taken = {column for step in steps for column in step.takes}
        return [column for step in steps for column in step.makes if column not in taken]
    found = [column for step in models for column in step.makes]
    for step in steps:
        if not step.is_model and set(step.takes) & set(found):
            found += step.makes
    if not found:
        raise RefusedError("the model makes no column: give its predictionCol a name")
    return list(dict.fromkeys(found))


_LENGTHS: dict[str, Callable[[Any], int]] = {
    "StandardScalerModel": lambda stage: int(stage.mean.size),
    "RobustScalerModel": lambda stage: int(stage.median.size),
    "MinMaxScalerModel": lambda stage: int(stage.originalMin.size),
    "MaxAbsScalerModel": lambda stage: int(stage.maxAbs.size),
    "ElementwiseProduct": lambda stage: int(stage.getScalingVec().size),
    "PCAModel": lambda stage: int(stage.pc.numRows),
    "KMeansModel": lambda stage: len(stage.clusterCenters()[0]),
    "GaussianMixtureModel": lambda stage: int(stage.gaussians[0].mean.size),
}


def _width(kind: str, stage: Any) -> int:
    if kind in _LENGTHS:
        return _LENGTHS[kind](stage)
    if hasattr(stage, "numFeatures"):
        return int(stage.numFeatures)
    raise RefusedError(
        f"how long the vector is that {kind} takes cannot be told: save it with the VectorAssembler before it"
    )


def _session(work: Path) -> Any:
    """A session on this machine alone. Raises UnsupportedError where there is no Java."""
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        raise UnsupportedError("Spark needs Java 17 or newer, and there is none: apt-get install default-jre-headless")
    from pyspark.sql import SparkSession

    work.mkdir(exist_ok=True)
    os.environ.update(
        SPARK_LOCAL_IP=LOOPBACK, SPARK_LOCAL_HOSTNAME=LOOPBACK, SPARK_USER="ingle", HADOOP_USER_NAME="ingle",
        SPARK_LOCAL_DIRS=str(work), PYSPARK_PYTHON="/nowhere",
        JAVA_TOOL_OPTIONS=f"-Djava.io.tmpdir={work} -XX:-UsePerfData -XX:+UseSerialGC -XX:TieredStopAtLevel=1",
    )  # fmt: skip
    settings = {
        "spark.master": "local[1]", "spark.ui.enabled": "false", "spark.driver.host": LOOPBACK,
        "spark.driver.bindAddress": LOOPBACK, "spark.ui.showConsoleProgress": "false", "spark.log.level": "OFF",
        "spark.sql.shuffle.partitions": "1", "spark.sql.warehouse.dir": str(work / "warehouse"),
        "spark.sql.catalogImplementation": "in-memory",
    }  # fmt: skip
    builder = SparkSession.builder
    for key, value in settings.items():
        builder = builder.config(key, value)
    try:
        return builder.getOrCreate()
    except Exception as error:
        raise RefusedError(f"Spark does not start: {_line(error)}; it needs Java 17 or newer") from None


def _loaded(session: Any, path: Path) -> Any:
    from pyspark.ml.util import DefaultParamsReader

    try:
        return DefaultParamsReader.loadParamsInstance(str(path), session.sparkContext)
    except Exception as error:
        raise RefusedError(f"Spark cannot load the stage {path.name[:80]}: {_line(error)}") from None


def _data(session: Any, path: Path) -> Sequence[Any]:
    try:
        return list(session.read.parquet(str(path / "data")).collect())
    except Exception as error:
        raise RefusedError(f"Spark cannot read the data of {path.name[:80]}: {_line(error)}") from None


def _answers(
    session: Any, stages: Sequence[Any], graph: "SparkGraph", outputs: Sequence[str], work: Path
) -> Callable[[Feed], Feed]:
    """Rows go to Spark in a file of JSON: what Python makes itself takes a Python of Spark's own to be read."""
    from pyspark.ml import PipelineModel
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql import types

    model, values = PipelineModel(list(stages)), dict(graph.values)
    schema = types.StructType()
    for name, one in graph.inputs.items():
        kind = VectorUDT() if one.is_vector else types.StringType() if one.is_text else types.DoubleType()
        schema.add(types.StructField(name, kind))
    file = work / "rows.json"

    def cell(name: str, array: Any) -> Any:
        if graph.inputs[name].is_vector:
            return {"type": 1, "values": array.tolist()}
        return str(array[0]) if graph.inputs[name].is_text else float(array[0])

    def answer(feed: Feed) -> Feed:
        columns = graph.columns_of(feed)
        count = len(next(iter(columns.values())))
        rows = ({name: cell(name, columns[name][row]) for name in columns} for row in range(count))
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        table = session.read.schema(schema).json(str(file), mode="FAILFAST").coalesce(1)
        found = model.transform(table).select(*(f"`{name}`" for name in outputs)).collect()
        return {name: _gathered(values[name], [row[place] for row in found]) for place, name in enumerate(outputs)}

    return answer


def _gathered(value: "Value", cells: list[Any]) -> Any:
    if value.is_text:
        texts = np.empty(len(cells), object)
        texts[:] = cells
        return texts
    if value.is_vector:
        return np.array([cell.toArray() for cell in cells], np.float64)
    return np.array(cells, np.float64)


def _line(error: BaseException) -> str:
    """Java's own word, of the stack that py4j prints."""
    text = str(getattr(error, "java_exception", None) or error)
    return f"{type(error).__name__}: {' '.join(text.split())[:300]}"


CONVERTER = SparkConverter()
