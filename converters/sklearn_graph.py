"""A fitted model as one ONNX graph over its columns: pipelines, column transformers and what is built of other models
are written here, their steps by sklearn_steps.py, and what neither knows by skl2onnx.

In the process of a conversion alone. All is in double precision, as scikit-learn reckons; trees that read single
precision get it.
"""

from typing import Any

import numpy as np

from appliance.core.errors import RefusedError
from converters import (
    histogram_trees,
    sklearn_boosters,
    sklearn_foreign,
    sklearn_machines,
    sklearn_models,
    sklearn_trees,
)
from converters.converter import require
from converters.sklearn_boosters import Outputs
from converters.sklearn_composed import COMPOSED
from converters.sklearn_imputers import is_missing
from converters.sklearn_inputs import parts
from converters.sklearn_steps import frequencies, places_of, writer_of
from converters.sklearn_table import Block, Table

SINGLE = ("Forest", "ExtraTree", "DecisionTree", "GradientBoosting")  # of scikit-learn's: they read single precision
# What leaves a sparse matrix sparse, and the rest as it comes.
KEEP_SPARSE = (
    "FeatureUnion", "StandardScaler", "RobustScaler", "MaxAbsScaler", "Normalizer", "Binarizer", "PolynomialFeatures",
    "SimpleImputer", "FunctionTransformer",
)  # fmt: skip
# Composed of others, and always written here.
ALWAYS = (
    "ColumnTransformer", "IterativeImputer", "TransformedTargetRegressor", "FixedThresholdClassifier",
    "TunedThresholdClassifierCV", "MultiOutputClassifier", "ClassifierChain", "RegressorChain", "BaggingClassifier",
    "BaggingRegressor", "SelfTrainingClassifier", "OutputCodeClassifier", "OneVsRestClassifier",
    "OneVsOneClassifier",
)  # fmt: skip


def is_written_here(model: Any) -> bool:
    """Whether it has a part that is not left to skl2onnx."""
    return hasattr(model, "steps") or any(_is_own(part) for part in parts(model))


def _is_own(part: Any) -> bool:
    if (
        type(part).__name__ in ALWAYS
        or hasattr(part, "vocabulary_")
        or histogram_trees.is_histogram(part)
        or sklearn_boosters.is_booster(part)
        or sklearn_trees.is_of_trees(part)
        or sklearn_models.is_known(part)
        or sklearn_machines.is_written_whole(part)
        or getattr(part, "method", "") == "temperature"
    ):
        return True
    return writer_of(part) is not None and not hasattr(part, "get_support")


def _is_sparse(part: Any, table: Table, made: Table) -> bool:
    name = type(part).__name__
    if isinstance(part, str) or part is None or name in KEEP_SPARSE:
        return made.is_sparse or table.is_sparse
    if hasattr(part, "steps") or hasattr(part, "best_estimator_"):
        return made.is_sparse
    if hasattr(part, "sparse_output_"):  # a column transformer, which decided it from its share of zeros
        return bool(part.sparse_output_)
    if hasattr(part, "vocabulary_") or name == "TfidfTransformer":
        return True
    if hasattr(part, "get_support"):
        return table.is_sparse
    return bool(getattr(part, "sparse_output", False)) or getattr(part, "encode", "") == "onehot"


class Writer:
    """`dtype`: what skl2onnx' parts reckon in. `is_single`: one of them does so in single precision, so that the answer
    is of no more."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.is_single = False

    # What transforms.

    def transformed(self, part: Any, table: Table) -> Table:
        made = self._made(part, table)
        return made._replace(is_sparse=_is_sparse(part, table, made))

    def _made(self, part: Any, table: Table) -> Table:
        name = type(part).__name__
        if part is None or (isinstance(part, str) and part == "passthrough"):
            return table
        if isinstance(part, str):
            return table.of()
        if hasattr(part, "steps"):
            for _, step in part.steps:
                table = self.transformed(step, table)
            return table
        if name == "ColumnTransformer":
            return self._columns(part, table)
        if name == "FeatureUnion":
            weights = part.transformer_weights or {}
            made = [self._weighted(self.transformed(step, table), weights.get(key, 1)) for key, step in
                    part.transformer_list]  # fmt: skip
            joined = table.of(*(block for one in made for block in one.blocks))
            return joined._replace(is_sparse=any(one.is_sparse for one in made))
        if hasattr(part, "vocabulary_"):
            return self._counted(part, table)
        if name == "IterativeImputer":
            return self._imputed(part, table)
        if hasattr(part, "best_estimator_"):
            return self.transformed(part.best_estimator_, table)
        if name == "FrozenEstimator":
            return self.transformed(part.estimator, table)
        writer = writer_of(part)
        return writer(part, table) if writer is not None else self._foreign_table(part, table)

    def _columns(self, part: Any, table: Table) -> Table:
        names = [str(name) for name in getattr(part, "feature_names_in_", ())]
        weights = part.transformer_weights or {}
        blocks: list[Block] = []
        for key, step, wanted in part.transformers_:
            places = places_of(wanted, names, part.n_features_in_)
            if not places or (isinstance(step, str) and step == "drop"):
                continue
            made = self._weighted(self.transformed(step, table.taken(places)), weights.get(key, 1))
            blocks += made.blocks
        return table.of(*blocks)

    def _weighted(self, table: Table, weight: float) -> Table:
        if weight == 1:
            return table
        scaled = table.graph.node("Mul", table.matrix(), table.graph.constant(np.array(float(weight))))
        return table.of(Block(scaled, table.width))

    def _imputed(self, part: Any, table: Table) -> Table:
        """Each round fills what was missing of one column from what the others are by then."""
        require(not part.sample_posterior, "IterativeImputer(sample_posterior=True) draws numbers, no two alike")
        graph, missing = table.graph, part.missing_values
        start = self.transformed(part.initial_imputer_, table)
        require(start.width == table.width, "IterativeImputer drops columns that were empty: leave them out before")
        asked, now = table.columns(), start.columns()
        for feature, neighbours, estimator in part.imputation_sequence_:
            around = table.of(*(now[int(place)] for place in neighbours))
            guess = self.outputs(estimator, around)["variable"]
            low, high = (np.ravel(side)[feature] for side in (part._min_value, part._max_value))
            kept = graph.node("Max", graph.node("Min", guess, graph.constant(np.array(float(high)))),
                              graph.constant(np.array(float(low))))  # fmt: skip
            was_missing = is_missing(table, asked[feature], missing)
            now[feature] = Block(graph.node("Where", was_missing, kept, now[feature].value), 1)
        indicated = self.transformed(part.indicator_, table).blocks if part.add_indicator else ()
        return table.of(*now, *indicated)

    def _counted(self, part: Any, table: Table) -> Table:
        """Words are counted in whole numbers, so that what is made of the counts can be of double precision."""
        from skl2onnx.common.data_types import StringTensorType

        (text,) = table.blocks
        made = sklearn_foreign.onnx_of(sklearn_foreign.counts_of(part), [("text", StringTensorType([None, 1]))])
        (counts,) = table.graph.merge(made, {"text": text.value}).values()
        counted = table.of(Block(table.graph.cast(counts, np.float64), len(part.vocabulary_)))
        return frequencies(part, counted) if hasattr(part, "idf_") or hasattr(part, "sublinear_tf") else counted

    def _foreign_table(self, part: Any, table: Table) -> Table:
        made = self._foreign(part, table)
        (value, width) = next(iter(made.values()))
        return table.of(Block(table.graph.cast(value, np.float64), width or len(part.get_feature_names_out())))

    # What predicts.

    def outputs(self, model: Any, table: Table) -> Outputs:
        """The values of the outputs by their names: `label`, `probabilities`, `variable` and skl2onnx' others."""
        model, table = self._at_its_end(model, table)
        if not hasattr(model, "predict"):
            return {"variable": self.transformed(model, table).matrix()}
        if histogram_trees.is_histogram(model):
            return histogram_trees.written(model, table)
        if sklearn_boosters.is_booster(model):
            self.is_single |= type(model).__module__.startswith("xgboost.")  # it sums in single precision
            return sklearn_boosters.written(model, table)
        if sklearn_trees.is_of_trees(model):
            return sklearn_trees.written(model, table)
        if sklearn_machines.is_written_whole(model):
            return sklearn_machines.written(model, table)
        if sklearn_models.is_known(model):
            return sklearn_models.written(model, table)
        own = COMPOSED.get(type(model).__name__)
        if own is not None and is_written_here(model):
            return own(self, model, table)
        return {key: self._doubled(key, value, table) for key, (value, _) in self._foreign(model, table).items()}

    def _at_its_end(self, model: Any, table: Table) -> tuple[Any, Table]:
        """What predicts in a pipeline or a search, and the table as the steps before it leave it."""
        while True:
            if hasattr(model, "best_estimator_"):
                model = model.best_estimator_
            elif hasattr(model, "steps"):
                for _, step in model.steps[:-1]:
                    table = self.transformed(step, table)
                model = model.steps[-1][1]
            elif type(model).__name__ == "FrozenEstimator":
                model = model.estimator
            else:
                return model, table

    def _doubled(self, name: str, value: str, table: Table) -> str:
        return value if name == "label" else table.graph.cast(value, np.float64)

    def probabilities(self, model: Any, table: Table) -> str:
        require(
            hasattr(model, "predict_proba"), f"{type(model).__name__} gives no probabilities to the model around it"
        )
        return self.outputs(model, table)["probabilities"]

    def decision(self, model: Any, table: Table) -> str:
        """[rows, 1] of two classes, else [rows, classes]."""
        last, table = self._at_its_end(model, table)
        own = sklearn_trees.decision(last, table) if sklearn_trees.is_of_trees(last) else None
        if own is not None:
            return own
        if sklearn_machines.is_machine(last):
            return sklearn_machines.decision(last, table)
        value, _ = self._foreign(last, table, scores=True)["probabilities"]
        wide = table.graph.cast(value, np.float64)
        return wide if len(last.classes_) > 2 else self.last(table, wide)

    def last(self, table: Table, value: str) -> str:
        return table.graph.node("Gather", value, table.graph.constant(np.array([-1], np.int64)), axis=1)

    # What skl2onnx writes.

    def _foreign(self, model: Any, table: Table, *, scores: bool = False) -> dict[str, tuple[str, int]]:
        """By name: the value and how wide it is, 0 where that is not told."""
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

        graph = table.graph
        # Scikit-learn's trees read single precision, whatever they are given.
        names = [type(part).__name__ for part in parts(model)]
        single = self.dtype == np.float32 or any(word in name for name in names for word in SINGLE)
        self.is_single |= single
        kind, value = FloatTensorType if single else DoubleTensorType, table.matrix()
        try:
            made = sklearn_foreign.onnx_of(model, [("input", kind([None, table.width]))], scores=scores)
        except RefusedError:
            raise
        except Exception as error:
            raise RefusedError(sklearn_foreign.sentence_of(model, error)) from None
        merged = graph.merge(made, {"input": graph.cast(value, np.float32) if single else value})
        widths = {}
        for output in made.graph.output:
            dims = output.type.tensor_type.shape.dim
            widths[output.name] = int(dims[1].dim_value) if len(dims) > 1 else 0
        return {name: (value, widths[name]) for name, value in merged.items()}
