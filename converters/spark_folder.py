"""A saved Spark ML model as a folder: which stages it says it has, before Spark is started to load any of them.

Pure but for reading small files. Spark loads whatever class a folder names; here it may name those that are known.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from appliance.core.errors import RefusedError

MAX_STAGES = 1000
MAX_DEPTH = 8
MAX_METADATA_BYTES = 16 * 2**20
_PACKAGE = "org.apache.spark.ml."

_CLASSES = {
    "classification": (
        "LogisticRegressionModel", "DecisionTreeClassificationModel", "RandomForestClassificationModel",
        "GBTClassificationModel", "NaiveBayesModel", "LinearSVCModel", "FMClassificationModel",
        "MultilayerPerceptronClassificationModel", "OneVsRestModel",
    ),
    "regression": (
        "LinearRegressionModel", "GeneralizedLinearRegressionModel", "DecisionTreeRegressionModel",
        "RandomForestRegressionModel", "GBTRegressionModel", "AFTSurvivalRegressionModel",
        "FMRegressionModel", "IsotonicRegressionModel",
    ),
    "clustering": (
        "KMeansModel", "BisectingKMeansModel", "GaussianMixtureModel",
    ),
    "feature": (
        "StringIndexerModel", "IndexToString", "OneHotEncoderModel", "VectorAssembler", "StandardScalerModel",
        "MinMaxScalerModel", "MaxAbsScalerModel", "RobustScalerModel", "Normalizer", "ImputerModel",
        "Bucketizer", "Binarizer", "PCAModel", "ElementwiseProduct", "VectorSlicer", "VectorIndexerModel",
        "ChiSqSelectorModel", "UnivariateFeatureSelectorModel", "VarianceThresholdSelectorModel", "Tokenizer",
        "RegexTokenizer", "StopWordsRemover", "NGram", "HashingTF", "CountVectorizerModel", "IDFModel", "Word2VecModel",
        "Interaction", "PolynomialExpansion", "DCT", "VectorSizeHint",
    ),
}  # fmt: skip
CONVERTED = frozenset(f"{package}.{name}" for package, names in _CLASSES.items() for name in names)

# What is trained for each class, and written beside the models of them.
_ESTIMATORS = frozenset(
    f"classification.{name}"
    for name in (
        "LogisticRegression", "DecisionTreeClassifier", "RandomForestClassifier", "GBTClassifier", "NaiveBayes",
        "LinearSVC", "FMClassifier", "MultilayerPerceptronClassifier",
    )
)  # fmt: skip
BISECTING = "clustering.BisectingKMeansModel"
_ONE_VS_REST = "classification.OneVsRestModel"
# Of what a folder has within, the part that answers.
_WITHIN = {
    "tuning.CrossValidatorModel": "bestModel",
    "tuning.TrainValidationSplitModel": "bestModel",
    "feature.RFormulaModel": "pipelineModel",
}
# RFormula's, which change the names of columns and which are there, and no number.
_NAMES_ALONE = ("feature.VectorAttributeRewriter", "feature.ColumnPruner")
_JOINS = "its hashes are for joins within Spark: save the pipeline without it"
_TOPICS = "the topics of a text are found by trying, from chance: ask Spark for them"
_WAYS = {
    "feature.SQLTransformer": "SQL has no ONNX: do it before the call, and save the pipeline without it",
    "feature.FeatureHasher": "what it does with a column goes by its type, which the folder does not say: fit the "
    "pipeline with StringIndexer, OneHotEncoder and VectorAssembler in its place",
    "feature.MinHashLSHModel": _JOINS,
    "feature.BucketedRandomProjectionLSHModel": _JOINS,
    "clustering.LocalLDAModel": _TOPICS,
    "clustering.DistributedLDAModel": _TOPICS,
    "fpm.FPGrowthModel": "its rules are a table: look them up where it is kept",
    "recommendation.ALSModel": "its factors are tables: multiply those of the user and the item where they are kept",
}


class Stage(NamedTuple):
    """`kind` is the class without Spark's package."""

    kind: str
    path: Path


def stages_of(folder: Path) -> list[Stage]:
    """The stages in their order, those of pipelines within among them. Raises RefusedError where one is damaged or is
    not converted."""
    found: list[Stage] = []
    _collect(folder, folder.resolve(), found, 0)
    unknown = [stage.kind for stage in found if stage.kind not in CONVERTED]
    if unknown:
        kind = unknown[0]
        way = _WAYS.get(kind, "do that step before or after the call, and save the pipeline without it")
        raise RefusedError(f"the stage {kind.rpartition('.')[2]} is not converted: {way}")
    if not found:
        raise RefusedError("the pipeline has no stages")
    return found


def _collect(folder: Path, top: Path, found: list[Stage], depth: int) -> None:
    if depth > MAX_DEPTH or len(found) > MAX_STAGES:
        raise RefusedError(f"the pipeline has more than {MAX_STAGES} stages, or {MAX_DEPTH} pipelines in each other")
    table = _metadata(folder, top)
    name = str(table.get("class", ""))
    if not name.startswith(_PACKAGE):
        raise RefusedError(
            f"the stage {name[:120] or '(without a class)'} is none of Spark's own, whose code is not here"
        )
    kind = name.removeprefix(_PACKAGE)
    if kind in _WITHIN:
        _collect(folder / _WITHIN[kind], top, found, depth + 1)
        return
    if kind in _NAMES_ALONE:
        return
    if kind == _ONE_VS_REST:
        _check_classes(folder, top, table)
    if kind == BISECTING and not (folder / "data").is_dir():
        raise RefusedError(
            f"{folder.name[:80]} has no data: under a path with a space or the like Spark writes those of a "
            "BisectingKMeansModel to another folder, with %20 in its name; save the model under a plain path"
        )
    if kind != "PipelineModel":
        found.append(Stage(kind, folder))
        return
    uids = table.get("paramMap", {}).get("stageUids", [])
    if not isinstance(uids, list) or len(uids) > MAX_STAGES or not all(isinstance(uid, str) for uid in uids):
        raise RefusedError("the pipeline's list of stages is damaged")
    width = len(str(len(uids)))
    for index, uid in enumerate(uids):
        if "/" in uid or uid.startswith("."):
            raise RefusedError(f"the pipeline's stage '{uid[:60]}' leads out of its folder")
        # Spark pads the numbers to the same length.
        _collect(folder / "stages" / f"{index:0{width}}_{uid}", top, found, depth + 1)


def _check_classes(folder: Path, top: Path, table: dict[str, Any]) -> None:
    """That the models of OneVsRest are known: Spark loads them with it, and what they were trained by."""
    count = table.get("numClasses")
    if not isinstance(count, int) or not 0 < count <= MAX_STAGES:
        raise RefusedError("the number of OneVsRest's classes is damaged")
    names = ["classifier", *(f"model_{index}" for index in range(count))]
    for name in names:
        kind = str(_metadata(folder / name, top).get("class", "")).removeprefix(_PACKAGE)
        known = _ESTIMATORS if name == "classifier" else CONVERTED - {_ONE_VS_REST}
        if kind not in known or not kind.startswith("classification."):
            raise RefusedError(
                f"OneVsRest of {kind[:80] or 'nothing'} is not converted: train it with Spark's classifiers"
            )


def _metadata(folder: Path, top: Path) -> dict[str, Any]:
    parts = sorted((folder / "metadata").glob("part-*")) if (folder / "metadata").is_dir() else []
    where = folder.name[:80]
    if not parts:
        raise RefusedError(f"{where} has no metadata: the folder is not whole")
    if any(top not in path.resolve().parents for path in (folder / "x", *parts)):
        raise RefusedError(f"{where} is a link that leads out of the model's folder")
    if parts[0].stat().st_size > MAX_METADATA_BYTES:
        raise RefusedError(f"the metadata of {where} are larger than {MAX_METADATA_BYTES} bytes")
    try:
        table = json.loads(parts[0].read_bytes().split(b"\n")[0])
        if isinstance(table, dict) and isinstance(table.get("paramMap", {}), dict):
            return table
    except (ValueError, RecursionError):
        pass
    raise RefusedError(f"the metadata of {where} are damaged: expected JSON as Spark writes it")
