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
from urllib.parse import quote

import numpy as np

from appliance.core.errors import RefusedError, UnsupportedError
from converters.converter import Conversion, Converter, Feed, Say
from converters.detected import Detected
from converters.options import Options
from converters.spark_folder import BISECTING, Stage, stages_of

if TYPE_CHECKING:
    from converters.spark_graph import SparkGraph, Value

LOOPBACK = "127.0.0.1"
MEMORY = "2g"  # of the JVM, for models of many trees


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
        from converters.spark_plan import Plan, Step

        stages = stages_of(source)
        work = folder.parent / "tmp"
        say("starting Spark")
        session = _session(work)
        say("loading the model")
        stages = [_plainly_named(stage, work / f"stage{at}") for at, stage in enumerate(stages)]
        steps = [Step(stage, _loaded(session, stage.path)) for stage in stages]
        say("writing its graph")
        plan = Plan(steps, options)
        graph = SparkGraph(plan.matrix)
        for column, width in plan.inputs.items():
            if column in plan.rules:
                graph.take_words(column, plan.rules[column])
                continue
            graph.take(column, width=max(1, width), is_text=column in plan.texts, is_vector=width > 0)
        for step in plan.steps:
            step.write(graph, lambda path: _data(session, path))
        for column in plan.outputs:
            graph.give(column, graph.values[column])
        graph.g.save(folder / "model.onnx")
        answers = _answers(session, [step.stage for step in plan.steps], graph, plan.outputs, work)
        return Conversion(folder / "model.onnx", answers, graph.rows, plan.manifest(), plan.notes())


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
        "spark.sql.catalogImplementation": "in-memory", "spark.driver.memory": MEMORY,
    }  # fmt: skip
    builder = SparkSession.builder
    for key, value in settings.items():
        builder = builder.config(key, value)
    try:
        return builder.getOrCreate()
    except Exception as error:
        raise RefusedError(f"Spark does not start: {_line(error)}; it needs Java 17 or newer") from None


def _plainly_named(stage: Stage, place: Path) -> Stage:
    """The stage, in a copy where Spark would look for its data under a name with %20 in the place of a space."""
    path = str(stage.path)
    if stage.kind != BISECTING or quote(path, safe="/") == path:
        return stage
    shutil.copytree(path, place)
    return stage._replace(path=place)


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
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql import types

    values = dict(graph.values)
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
        for stage in stages:
            table = _transformed(session, stage, table)
        found = table.select(*(f"`{name}`" for name in outputs)).collect()
        return {name: _gathered(values[name], [row[place] for row in found]) for place, name in enumerate(outputs)}

    return answer


def _transformed(session: Any, stage: Any, table: Any) -> Any:
    """By Java alone: what pyspark has written in Python would start a Python of its own."""
    from pyspark.ml.wrapper import JavaTransformer
    from pyspark.sql import DataFrame

    if isinstance(stage, JavaTransformer):
        return stage.transform(table)

    return DataFrame(stage._to_java().transform(table._jdf), session)


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
