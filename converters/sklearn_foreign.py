"""What skl2onnx writes: an estimator or a transformer as ONNX, with what it gets wrong set right.

In the process of a conversion alone. What it is known to get wrong and is not set right frameworks/sklearn.py refuses.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from converters.sklearn_inputs import parts
from converters.sklearn_trees import single_below

OPSETS = {"": 18, "ai.onnx.ml": 3}  # IsolationForest takes these and no newer
# Of Python's words, as onnxruntime's tokenizer (RE2) writes them: letters, numbers, the underscore. Two at least.
WORD = r"[\p{L}\p{N}_]{2,}"
LOCALE = "C.UTF-8"  # lower case of all scripts; the plain C locale knows only ASCII
TREES = ("Forest", "Tree", "Boosting", "Bagging")


def onnx_of(model: Any, types: list[tuple[str, Any]], *, scores: bool = False) -> Any:
    """`types`: names and skl2onnx' types of the inputs. `scores`: a classifier's decision function in the place of its
    probabilities. The model's thresholds are rounded as ONNX keeps them. Raises whatever skl2onnx does."""
    from skl2onnx import convert_sklearn

    _round_thresholds(model)
    with _plain_attributes(), _missing_values():
        made = convert_sklearn(model, initial_types=types, options=_options(model, scores) or None, target_opset=OPSETS)
    _mend_stop_words(model, made)
    _mend_labels(model, made.graph)
    return made


def counts_of(vectorizer: Any) -> Any:
    """A vectorizer that counts the words of `vectorizer`, and no more."""
    from sklearn.feature_extraction.text import CountVectorizer

    plain = CountVectorizer()
    plain.__dict__.update({name: getattr(vectorizer, name) for name in plain.get_params()})
    plain.vocabulary_ = vectorizer.vocabulary_
    plain.fixed_vocabulary_ = False
    return plain


def sentence_of(model: Any, error: Exception) -> str:
    """What skl2onnx' refusal means to whoever has the model."""
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

    name = type(model).__name__
    if isinstance(error, MissingConverter | MissingShapeCalculator):
        found = re.search(r"for type '<class '([\w.]+)'>'", str(error))
        name = found.group(1).rsplit(".", 1)[-1] if found else name
        return (
            f"{name} has no form in ONNX that is known here: use another estimator in its place, or do that step in "
            "front of the model and convert what follows"
        )
    return (
        f"skl2onnx does not convert this {name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}; "
        "use another estimator in its place, or do that step in front of the model"
    )


def _round_thresholds(model: Any) -> None:
    """Trees compare single precision with double thresholds; ONNX has single ones. The next single number below leaves
    the original's answers as they are, and lets ONNX give the same ones for numbers that lie on a threshold."""
    for part in parts(model):
        if hasattr(part, "tree_"):
            part.tree_.threshold[:] = single_below(part.tree_.threshold)
        for stage in getattr(part, "_predictors", ()):
            for predictor in stage:
                predictor.nodes["num_threshold"] = single_below(predictor.nodes["num_threshold"])
        if hasattr(part, "flatten_transform"):
            if isinstance(part.weights, list):
                part.weights = np.array(part.weights)  # which skl2onnx sums by their method
            part.flatten_transform = False  # it concerns transform() alone, and skl2onnx refuses it
        if type(part).__name__ == "KBinsDiscretizer" and part.encode == "onehot":
            part.encode = "onehot-dense"  # the same numbers, which ONNX has no sparse form of


def _options(model: Any, scores: bool) -> dict[int, dict[str, Any]]:
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common._registration import _converter_pool

    all_parts = list(parts(model))
    before_trees = any(word in type(part).__name__ for part in all_parts for word in TREES)
    options: dict[int, dict[str, Any]] = {}
    for part in all_parts:
        alias = sklearn_operator_name_map.get(type(part))
        if any(hasattr(part, name) for name in ("steps", "transformers_", "transformer_list")):
            continue  # it would hand its options down to all of its parts
        registered = _converter_pool.get(alias)
        allowed = registered.get_allowed_options() if registered is not None else None
        if not isinstance(allowed, dict):
            continue
        chosen: dict[str, Any] = {}
        if "zipmap" in allowed:
            chosen["zipmap"] = False
        if "score_samples" in allowed:
            chosen["score_samples"] = True
        if "raw_scores" in allowed and (scores or not hasattr(part, "predict_proba")):
            chosen["raw_scores"] = True
        if "div" in allowed and before_trees:
            chosen["div"] = "div_cast"
        if "tokenexp" in allowed:
            chosen["tokenexp"] = WORD
            if "locale" in allowed:
                chosen["locale"] = LOCALE
        if chosen:
            options[id(part)] = chosen
    return options


@contextlib.contextmanager
def _plain_attributes() -> Iterator[None]:
    """numpy's truth values and numbers as Python's own in attributes: protobuf 7 takes no others."""
    from onnx import helper

    original = helper.make_attribute

    def plain(key: str, value: Any, *arguments: Any, **named: Any) -> Any:
        if isinstance(value, list | tuple) and value and isinstance(value[0], bool | np.generic):
            value = [
                int(item) if isinstance(item, bool | np.bool_) else getattr(item, "item", lambda i=item: i)()
                for item in value
            ]
        elif isinstance(value, bool | np.bool_):
            value = int(value)
        return original(key, value, *arguments, **named)

    helper.make_attribute = plain
    try:
        yield
    finally:
        helper.make_attribute = original


@contextlib.contextmanager
def _missing_values() -> Iterator[None]:
    """Trees send a missing value where they learned to, which skl2onnx leaves out of all but HistGradientBoosting."""
    import sys

    from skl2onnx.common import tree_ensemble

    original = tree_ensemble.add_tree_to_attribute_pairs

    def with_missing(pairs: Any, is_classifier: Any, tree: Any, *arguments: Any, **named: Any) -> None:
        original(pairs, is_classifier, tree, *arguments, **named)
        learned = tree.missing_go_to_left[: tree.node_count].astype(int).tolist()
        pairs["nodes_missing_value_tracks_true"][-len(learned) :] = learned

    users = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("skl2onnx.") and getattr(module, "add_tree_to_attribute_pairs", None) is original
    ]
    for module in users:
        vars(module)["add_tree_to_attribute_pairs"] = with_missing
    try:
        yield
    finally:
        for module in users:
            vars(module)["add_tree_to_attribute_pairs"] = original


def _mend_stop_words(model: Any, made: Any) -> None:
    """skl2onnx leaves stop words where they are, so that they part words that are neighbours to scikit-learn, and join
    others. Here they go behind the rest of their row, as padding, before n-grams are made."""
    from onnx import helper, numpy_helper

    graph = made.graph
    for part in parts(model):
        stop = sorted(part.get_stop_words() or ()) if hasattr(part, "get_stop_words") else []
        if not stop or part.ngram_range[1] < 2 or not hasattr(part, "vocabulary_"):
            continue
        words = {word for entry in part.vocabulary_ for word in entry.split(" ")}
        (at, node), *_ = [
            (at, node)
            for at, node in enumerate(graph.node)
            if node.op_type == "TfIdfVectorizer" and _matches(node, words, len(part.vocabulary_))
        ]
        tokens, name = node.input[0], f"{node.input[0]}_without"
        padding = _padding(graph, tokens)
        for key, value in {"last": np.array([1], np.int64), "one": np.array(1, np.int64), "zero": np.array(0, np.int64),
                           "padding": np.array([padding], object)}.items():  # fmt: skip
            graph.initializer.append(numpy_helper.from_array(value, f"{name}_{key}"))
        marked = [*stop, padding]
        nodes = [
            helper.make_node("LabelEncoder", [tokens], [f"{name}_marks"], domain="ai.onnx.ml", keys_strings=marked,
                             values_int64s=[1] * len(marked), default_int64=0),
            helper.make_node("Shape", [tokens], [f"{name}_shape"]),
            helper.make_node("Gather", [f"{name}_shape", f"{name}_last"], [f"{name}_count"]),
            helper.make_node("Squeeze", [f"{name}_count"], [f"{name}_length"]),
            helper.make_node("Range", [f"{name}_zero", f"{name}_length", f"{name}_one"], [f"{name}_places"]),
            helper.make_node("Mul", [f"{name}_marks", f"{name}_length"], [f"{name}_behind"]),
            helper.make_node("Add", [f"{name}_behind", f"{name}_places"], [f"{name}_keys"]),
            helper.make_node("TopK", [f"{name}_keys", f"{name}_count"], [f"{name}_sorted", f"{name}_order"], axis=1,
                             largest=0, sorted=1),
            helper.make_node("GatherElements", [tokens, f"{name}_order"], [f"{name}_moved"], axis=1),
            helper.make_node("Less", [f"{name}_sorted", f"{name}_length"], [f"{name}_kept"]),
            helper.make_node("Where", [f"{name}_kept", f"{name}_moved", f"{name}_padding"], [name]),
        ]  # fmt: skip
        for place, one in enumerate(nodes):
            graph.node.insert(at + place, one)
        node.input[0] = name
        del made.opset_import[:]
        made.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in OPSETS.items())
        made.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _attribute(node: Any, name: str) -> Any:
    from onnx import helper

    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), None)


def _matches(node: Any, words: set[str], count: int) -> bool:
    pool = {word.decode() for word in _attribute(node, "pool_strings") or ()}
    return pool == words and len(_attribute(node, "ngram_indexes") or ()) == count


def _padding(graph: Any, tokens: str) -> str:
    """The word that fills up the rows of the tokenizer whose words these are."""
    made_by = {name: node for node in graph.node for name in node.output}
    node = made_by[tokens]
    while node.op_type != "Tokenizer":
        node = made_by[node.input[0]]
    return str(_attribute(node, "pad_value").decode())


def _mend_labels(model: Any, graph: Any) -> None:
    """skl2onnx gives a quadratic discriminant's labels as one row."""
    from onnx import helper, numpy_helper

    if not any(type(part).__name__ == "QuadraticDiscriminantAnalysis" for part in parts(model)):
        return
    for node in graph.node:
        node.output[:] = ["label_row" if name == "label" else name for name in node.output]
    graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), "label_shape"))
    graph.node.append(helper.make_node("Reshape", ["label_row", "label_shape"], ["label"]))
