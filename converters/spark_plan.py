"""Which of a pipeline's stages are needed for an answer, what comes in, what goes out: Spark's columns, stage by stage.

In the process of a conversion alone. Stages are Spark's own objects, loaded.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from appliance.core.errors import RefusedError
from appliance.core.manifest import WordRule
from converters import spark_vectors
from converters.declared import declared_inputs
from converters.options import Options
from converters.spark_classifiers import CLASSIFIERS, TREE_CLASSIFIERS, one_vs_rest
from converters.spark_clusters import CLUSTERINGS, TREE_CLUSTERINGS
from converters.spark_columns import is_set, outputs_of
from converters.spark_expansions import EXPANSIONS
from converters.spark_features import FEATURES
from converters.spark_folder import Stage
from converters.spark_graph import SparkGraph, words_of
from converters.spark_regressors import REGRESSORS, TREE_REGRESSORS
from converters.spark_words import COUNTED, WORDS, rule_of

_MODELS = {**CLASSIFIERS, **REGRESSORS, **CLUSTERINGS}
_TREES = {**TREE_CLASSIFIERS, **TREE_REGRESSORS, **TREE_CLUSTERINGS}
_ONE_VS_REST = "OneVsRestModel"
# Those that take single columns, those that cut texts, and those that take a vector and do not say how long it is.
_OF_COLUMNS = (
    "VectorAssembler", "StringIndexerModel", "IndexToString", "OneHotEncoderModel", "ImputerModel", "Bucketizer",
    "Binarizer", "IsotonicRegressionModel", "Interaction",
)  # fmt: skip
_CUT = ("Tokenizer", "RegexTokenizer")
_OF_A_VECTOR = (
    "Normalizer", "VectorSlicer", "ChiSqSelectorModel", "UnivariateFeatureSelectorModel",
    "VarianceThresholdSelectorModel", "DCT", "PolynomialExpansion",
)  # fmt: skip
_LENGTHS: dict[str, Callable[[Any], int]] = {
    "StandardScalerModel": lambda stage: int(stage.mean.size),
    "RobustScalerModel": lambda stage: int(stage.median.size),
    "MinMaxScalerModel": lambda stage: int(stage.originalMin.size),
    "MaxAbsScalerModel": lambda stage: int(stage.maxAbs.size),
    "ElementwiseProduct": lambda stage: int(stage.getScalingVec().size),
    "PCAModel": lambda stage: int(stage.pc.numRows),
    "VectorSizeHint": lambda stage: int(stage.getSize()),
    "BisectingKMeansModel": lambda stage: len(stage.clusterCenters()[0]),
    _ONE_VS_REST: lambda stage: int(stage.models[0].numFeatures),
    "IDFModel": lambda stage: int(stage.idf.size),
    "KMeansModel": lambda stage: len(stage.clusterCenters()[0]),
    "GaussianMixtureModel": lambda stage: int(stage.gaussians[0].mean.size),
}


class Step:
    """One stage, with the columns that it takes and makes."""

    def __init__(self, saved: Stage, stage: Any) -> None:
        self.kind, self.path, self.stage = saved.kind.rpartition(".")[2], saved.path, stage
        self.is_model = self.kind in (*_MODELS, *_TREES, _ONE_VS_REST)
        self.is_text = self.kind == "StringIndexerModel"
        if self.is_model or self.kind.endswith("SelectorModel"):
            self.takes = [str(stage.getFeaturesCol())]
        elif is_set(stage, "inputCols"):
            self.takes = [str(name) for name in stage.getInputCols()]
        else:
            self.takes = [str(stage.getInputCol())]
        self.makes = spark_vectors.outputs_of(stage) if self.is_model else outputs_of(stage)
        if self.kind == "GeneralizedLinearRegressionModel" and is_set(stage, "linkPredictionCol"):
            self.makes.append(str(stage.getLinkPredictionCol()))
        if is_set(stage, "offsetCol") and stage.getOffsetCol():
            self.takes.append(str(stage.getOffsetCol()))

    def write(self, graph: SparkGraph, data: Callable[[Path], Sequence[Any]]) -> None:
        """Adds its columns to the graph. `data` reads the rows that lie in a stage's folder."""
        if self.kind in WORDS:
            WORDS[self.kind](graph, self.stage)
            return
        width, given = self.vector_width(), graph.values[self.takes[0]].width
        if width and width != given:
            raise RefusedError(
                f"{self.kind} takes a vector of {width}, and the columns come to {given}: some of them are vectors "
                "themselves, which a saved pipeline does not say; declare those: --input 'NAME=FP64[n,3]'"
            )
        if self.kind == _ONE_VS_REST:
            one_vs_rest(graph, self.stage, lambda index: data(self.path / f"model_{index}"))
        elif self.kind in _TREES:
            # The clusters lie a folder deeper, as those of Spark's older library.
            _TREES[self.kind](
                graph, self.stage, data(self.path / "data" if self.kind in TREE_CLUSTERINGS else self.path)
            )
        elif self.is_model:
            _MODELS[self.kind](graph, self.stage)
        else:
            {**FEATURES, **EXPANSIONS}[self.kind](graph, self.stage)

    def vector_width(self) -> int:
        """How long the vector is that it takes; 0 where it takes single columns, or does not know."""
        if self.kind in _LENGTHS:
            return _LENGTHS[self.kind](self.stage)
        if self.kind in _OF_COLUMNS or self.kind in WORDS or not hasattr(self.stage, "numFeatures"):
            return 0
        return max(0, int(self.stage.numFeatures))


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
        self.rules: dict[str, WordRule] = {}  # of the text that is cut into words
        for step in self.steps:
            for column in step.takes:
                if column not in made and column not in self.inputs:
                    self.inputs[column] = step.vector_width() if column == step.takes[0] else 0
                    if step.kind in _OF_A_VECTOR and not self.inputs[column]:
                        raise RefusedError(
                            f"how long the vector is that {step.kind} takes cannot be told: save it with the stages "
                            "before it"
                        )
                    if step.is_text or step.kind in _CUT:
                        self.texts.add(column)
            made |= set(step.makes)
        self._cut()
        for spec in declared_inputs(options.inputs):
            if spec.name in self.inputs and len(spec.shape) == 2 and spec.shape[1] > 0:
                self.inputs[spec.name] = spec.shape[1]
        single = not self.texts and not any(self.inputs.values())
        self.matrix = list(self.inputs) if single else []
        self.all_steps = steps

    def _cut(self) -> None:
        """Finds the text that is cut into words. Raises RefusedError where it is not one that is cut in one way."""
        lists: set[str] = set()
        for step in self.steps:
            if step.kind in _CUT:
                column, rule = step.takes[0], rule_of(step.kind, step.stage)
                if column not in self.inputs or self.rules.setdefault(column, rule) != rule:
                    raise RefusedError(
                        f"column '{column[:60]}' is made before it is cut into words, or is cut in two ways"
                    )
            elif step.kind in WORDS and not lists.issuperset(step.takes):
                raise RefusedError(f"{step.kind} takes lists of words: save it with the Tokenizer before it")
            elif step.kind not in WORDS and (used := sorted(set(step.takes) & {*lists, *self.rules})):
                raise RefusedError(
                    f"{step.kind} takes '{used[0][:60]}', which is cut into words or is a list of words: that is not "
                    "converted"
                )
            if step.kind in WORDS and step.kind not in COUNTED:
                lists |= set(step.makes)
        if len(self.rules) > 1:
            raise RefusedError(
                f"the pipeline cuts the texts {', '.join(sorted(self.rules))[:200]} into words, and one is taken: make "
                "a pipeline for each, or join them to one text before the call"
            )
        if given := sorted(lists & set(self.outputs)):
            raise RefusedError(
                f"'{given[0][:60]}' are lists of words, which no tensor is: save what counts them with it"
            )

    def manifest(self) -> dict[str, Any]:
        table: dict[str, Any] = {}
        if self.matrix:
            table["input"] = [{"name": "input", "as": "columns", "columns": self.matrix}]
        for column, rule in self.rules.items():
            words, present = words_of(column)
            declared = {"name": column, "as": "text", "ids": words, "mask": present, "words": msgspec.to_builtins(rule)}
            table["input"] = [declared]
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
