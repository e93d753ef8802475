"""CatBoost's own files (CBM1 and JSON): symmetric and other trees over numbers, every loss.

CatBoost itself turns its binary form into its JSON; the graph is written from that, in double precision as CatBoost
sums. Categories, texts and embeddings are refused: the file has hashes of them, which no graph can reckon.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from appliance.core.errors import RefusedError
from converters.converter import Conversion, Converter, Feed, Say, require
from converters.detected import Detected
from converters.options import Options

if TYPE_CHECKING:
    from converters.graph import Graph
    from converters.trees import Columns, Ensemble, Node, Split

BINARY = ("Logloss", "CrossEntropy", "Focal")
SEVERAL_TRUE = ("MultiLogloss", "MultiCrossEntropy")
WAY_OUT = (
    "train it on numbers (encode them in front of it, for instance with scikit-learn's encoders in one pipeline), or "
    "serve the model with CatBoost itself"
)
MAX_NODES = 8_000_000
LABEL_DTYPES: dict[str, Any] = {"Integer": np.int64, "String": object, "Boolean": object, "Float": np.float64}


class CatBoostConverter(Converter):
    name: ClassVar[str] = "catboost"
    extra: ClassVar[str] = "catboost"
    title: ClassVar[str] = "CatBoost"
    takes: ClassVar[str] = "CBM1 and JSON files over numbers; categorical, text and embedding features are refused"
    formats: ClassVar[tuple[str, ...]] = ("catboost", "catboost-json")
    modules: ClassVar[tuple[str, ...]] = ("catboost", "onnx", "onnxruntime")

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        import catboost

        say("reading the model")
        booster = catboost.CatBoost()
        booster.load_model(str(source), format="json" if detected.format == "catboost-json" else "cbm")
        model = _read(booster)
        say("writing its trees as ONNX")
        model.write(folder / "model.onnx", _threshold(booster))
        return Conversion(folder / "model.onnx", _answers_of(booster, model), model.rows, model.manifest())


def write_trees(booster: Any, path: Path, ml_opset: int) -> None:
    """A model as ONNX with one input, for a converter of models that have one within them."""
    _read(booster).write(path, _threshold(booster), ml_opset)


def _read(booster: Any) -> "_Model":
    import catboost

    with tempfile.TemporaryDirectory() as work:
        written = Path(work) / "model.json"
        try:
            booster.save_model(str(written), format="json")
        except catboost.CatBoostError as error:  # what has no form in JSON
            what = "texts" if "text" in str(error) else "embeddings" if "embedding" in str(error) else "features"
            raise RefusedError(
                f"the model takes {what} that CatBoost can describe to itself alone: {WAY_OUT}"
            ) from None
        described = json.loads(written.read_text(encoding="utf-8"))
    return _Model(described, list(booster.feature_names_ or ()))


def _threshold(booster: Any) -> float:
    return float(booster.get_metadata().get("binclass_probability_threshold", "0.5"))


class _Model:
    """A model's JSON, read. `targets` is how many sums its trees make."""

    def __init__(self, described: dict[str, Any], names: list[str]) -> None:
        self.described = described
        info = described["features_info"]
        for kind, what in (("categorical", "categories"), ("text", "texts"), ("embedding", "embeddings")):
            require(not info.get(f"{kind}_features"),
                    f"the model takes {what}, of which a CatBoost file keeps only hashes and statistics: "
                    f"{WAY_OUT}")  # fmt: skip
        self.floats = {int(item["feature_index"]): item for item in info.get("float_features", ())}
        self.columns = max([len(names), *(int(item["flat_feature_index"]) + 1 for item in self.floats.values())])
        require(0 < self.columns <= 1_000_000, "the model has no columns, or too many")
        self.names = names
        self.scale, self.bias = float(described["scale_and_bias"][0]), np.atleast_1d(described["scale_and_bias"][1])
        self.targets = len(self.bias)
        details = described["model_info"]
        self.loss = str(_parsed(details.get("params", {})).get("loss_function", {}).get("type", ""))
        classes = _parsed(details.get("class_params", {}))
        self.classes = list(classes.get("class_names", ()))
        self.label_dtype = LABEL_DTYPES.get(str(classes.get("class_label_type", "")), object)
        self.is_classifier = bool(self.classes) and (self.loss in BINARY or self.loss.startswith("MultiClass"))
        self.thresholds: dict[int, set[float]] = {}

    def write(self, path: Path, threshold: float, ml_opset: int = 5) -> None:
        from converters.graph import Graph
        from converters.trees import Columns, Ensemble

        graph, columns, ensemble = (
            Graph(ml_opset=ml_opset),
            Columns(self.columns, truncates=False),
            Ensemble(self.targets),
        )
        x = graph.input("input", np.float32, ["rows", self.columns])
        nodes = 0
        for tree in self.described.get("oblivious_trees", ()):
            nodes += len(tree["leaf_values"])
            require(nodes <= MAX_NODES, f"the model's trees have more than {MAX_NODES} leaves")
            self._add_symmetric(tree, columns, ensemble)
        for tree in self.described.get("trees", ()):
            for target in range(self.targets):
                ensemble.add(self._nodes(tree, columns, target), target)
        wide = graph.cast(x, np.float64)
        sums = ensemble.write(graph, wide, np.float64)
        scaled = graph.node("Mul", sums, graph.constant(np.asarray(np.float64(self.scale))))
        raw = graph.node("Add", scaled, graph.constant(self.bias.astype(np.float64).reshape(1, -1)))
        self._outputs(graph, raw, threshold)
        graph.save(path)

    def _add_symmetric(self, tree: dict[str, Any], columns: "Columns", ensemble: "Ensemble") -> None:
        """Every level asks one question; the answers are the bits of the leaf's number, the first the lowest."""
        splits, values = tree.get("splits") or [], np.asarray(tree["leaf_values"], np.float64)
        depth = len(splits)
        require(depth <= 16 and len(values) == (self.targets << depth), "a tree has other leaves than its depth says")
        weights = values.reshape(-1, self.targets)
        questions: list[Node] = []
        for level in range(depth):  # from the last question down to the first: leaves then stand in order
            asked = self._split(splits[depth - 1 - level], columns, true=0, false=0)
            places = range((1 << level) - 1, (2 << level) - 1)
            questions += [asked._replace(true=2 * at + 2, false=2 * at + 1) for at in places]
        for target in range(self.targets):
            ensemble.add([*questions, *map(float, weights[:, target])], target)

    def _split(self, split: dict[str, Any], columns: "Columns", *, true: int, false: int) -> "Split":
        from converters.trees import Split

        require(split.get("split_type", "FloatFeature") == "FloatFeature", "the model splits on more than numbers")
        feature = self.floats.get(int(split["float_feature_index"]))
        require(feature is not None, "a tree looks at a feature that the model does not have: the file is damaged")
        assert feature is not None
        column, border = columns.own(int(feature["flat_feature_index"])), float(np.float32(split["border"]))
        self.thresholds.setdefault(column, set()).add(border)
        return Split(column, ">", border, true, false, feature.get("nan_value_treatment") == "AsTrue")

    def _nodes(self, tree: dict[str, Any], columns: "Columns", target: int) -> "list[Node]":
        nodes: list[Node] = [0.0]
        waiting = [(0, tree)]
        while waiting:
            at, node = waiting.pop()
            if "split" not in node:
                nodes[at] = float(np.atleast_1d(node["value"])[target])
                continue
            true, false = len(nodes), len(nodes) + 1
            nodes += [0.0, 0.0]
            nodes[at] = self._split(node["split"], columns, true=true, false=false)
            waiting += [(true, node["right"]), (false, node["left"])]
        return nodes

    def _outputs(self, graph: "Graph", raw: str, threshold: float) -> None:
        if self.loss in BINARY and self.targets == 1 and self.is_classifier:
            true = graph.node("Sigmoid", raw)
            false = graph.node("Sigmoid", graph.node("Neg", raw))
            self._classes(graph, graph.node("Concat", false, true, axis=1), self._chosen(graph, raw, threshold))
        elif self.is_classifier:
            likely = graph.node("Softmax", raw, axis=1) if self.loss == "MultiClass" else graph.node("Sigmoid", raw)
            self._classes(graph, likely, graph.node("ArgMax", raw, axis=1, keepdims=0))
        elif self.loss == "RMSEWithUncertainty":
            variance = graph.node("Exp", graph.node("Mul", raw, graph.constant(np.array([[0.0, 2.0]]))))
            mean = graph.constant(np.array([[True, False]]))
            graph.output("prediction", graph.node("Where", mean, raw, variance), np.float64, ["rows", 2])
        else:
            self._numbers(graph, raw)

    def _numbers(self, graph: "Graph", raw: str) -> None:
        operator = {"Exponent": "Exp", "Probability": "Sigmoid"}.get(self.prediction_type, "Identity")
        shape: list[str | int]
        value, shape = graph.node(operator, raw), ["rows", self.targets]
        if self.targets == 1:
            value, shape = graph.node("Squeeze", value, graph.constant(np.array([1], np.int64))), ["rows"]
        graph.output("prediction", value, np.float64, shape)

    @property
    def prediction_type(self) -> str:
        """What CatBoost's own classes answer with by default, of a model that is no classifier of one label."""
        if self.loss in SEVERAL_TRUE:
            return "Probability"
        if self.loss in ("Poisson", "Tweedie"):
            return "Exponent"
        return "RMSEWithUncertainty" if self.loss == "RMSEWithUncertainty" else "RawFormulaVal"

    def _chosen(self, graph: "Graph", raw: str, threshold: float) -> str:
        margin = np.log(threshold) - np.log1p(-threshold) if 0 < threshold < 1 else 0.0
        chosen = graph.node("Greater", raw, graph.constant(np.asarray(np.float64(margin))))
        return graph.cast(graph.node("Squeeze", chosen, graph.constant(np.array([1], np.int64))), np.int64)

    def _classes(self, graph: "Graph", likely: str, chosen: str) -> None:
        dtype = self.label_dtype
        names = [str(name) for name in self.classes] if dtype is object else self.classes
        label = graph.node("Gather", graph.constant(np.array(names, dtype)), chosen, axis=0)
        graph.output("label", label, dtype, ["rows"])
        graph.output("probabilities", likely, np.float64, ["rows", len(self.classes)])

    def rows(self, count: int, random: np.random.Generator) -> Feed:
        from converters.table_rows import rows_around

        return {"input": rows_around(count, random, self.columns, np.float32, thresholds=self.thresholds)}

    def manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = {}
        if len(self.names) == self.columns == len(set(self.names)):
            manifest["input"] = [{"name": "input", "as": "columns", "columns": self.names, "missing": "nan"}]
        if self.is_classifier:
            manifest["labels"] = [str(name) for name in self.classes]
            manifest["output"] = [{"name": "probabilities", "labels": True}]
        return manifest


def _parsed(value: Any) -> dict[str, Any]:
    """A table, which some versions write as text."""
    table = json.loads(value) if isinstance(value, str) else value
    return table if isinstance(table, dict) else {}


def _answers_of(booster: Any, model: _Model) -> Callable[[Feed], Feed]:
    def predict(feed: Feed, kind: str) -> Any:
        return np.asarray(booster.predict(feed["input"], prediction_type=kind, thread_count=1))

    def answer(feed: Feed) -> Feed:
        if not model.is_classifier:
            return {"prediction": predict(feed, model.prediction_type).astype(np.float64)}
        return {
            "label": predict(feed, "Class").reshape(-1),
            "probabilities": predict(feed, "Probability").astype(np.float64),
        }

    return answer


CONVERTER = CatBoostConverter()
