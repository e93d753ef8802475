"""PMML as ONNX operators, in double. Trees: pmml_tree_graph.py; fields and predicates: pmml_input_graph.py.

In the process of a conversion.
"""

from pathlib import Path

import numpy as np

from appliance.core.errors import RefusedError
from converters.column_graph import ColumnGraph
from converters.pmml_input_graph import Inputs
from converters.pmml_model import (
    Chain,
    Clusters,
    Document,
    Ensemble,
    Equation,
    Model,
    Regression,
    Target,
    Tree,
)
from converters.pmml_tree_graph import TreeEnsemble


def write(document: Document, target: Path) -> None:
    """Raises RefusedError where the model is of a form that has no graph here."""
    g = ColumnGraph()
    inputs = Inputs(g, document)
    model, classes = document.model, document.classes
    if isinstance(model, Clusters):
        _clusters(g, inputs, model, inputs.without_answer())
    elif classes:
        shares = _values(g, inputs, model, classes)
        shares = _answered(g, shares, inputs.without_answer())
        says = _says(g, inputs, model, classes) or shares
        best = g.node("Gather", g.value(classes, "BYTES"), g.node("ArgMax", says, axis=1, keepdims=0))
        g.give("label", _where_any(g, shares, best), "BYTES")
        g.give("probabilities", *_precise(g, shares, model), len(classes))
    else:
        value = _told(g, _values(g, inputs, model, ()), document.target)
        value = _answered(g, value, inputs.without_answer())
        g.give("value", *_precise(g, g.shaped(value, [-1]), model))
    g.save(target)


def _says(g: ColumnGraph, inputs: Inputs, model: Model, classes: tuple[str, ...]) -> str:
    """[rows, classes], of which the largest is the label's; "" where that goes by the probabilities."""
    if isinstance(model, Chain):
        return _says(g, inputs, model.last, classes)
    if isinstance(model, Tree):
        return _trees(g, inputs, (model,), (1.0,), classes, votes=True)
    if isinstance(model, Ensemble) and model.method == "selectFirst":
        said = [_says(g, inputs, one, classes) or _values(g, inputs, one, classes) for one in model.members]
        return _first(g, inputs.counted(model), said)
    return ""


def _first(g: ColumnGraph, counted: list[str], values: list[str]) -> str:
    """NaN where none counts."""
    chosen = g.value(np.nan)
    for holds, value in zip(reversed(counted), reversed(values), strict=True):
        chosen = g.node("Where", holds, value, chosen)
    return chosen


def _answered(g: ColumnGraph, value: str, without_answer: str) -> str:
    return g.node("Where", without_answer, g.value(np.nan), value) if without_answer else value


def _where_any(g: ColumnGraph, numbers: str, label: str) -> str:
    """An empty text where the row's numbers are none."""
    gaps = g.node("ReduceMax", g.to(g.node("IsNaN", numbers), "INT64"), g.value([1], "INT64"), keepdims=0)
    return g.node("Where", g.to(gaps, "BOOL"), g.value("", "BYTES"), label)


def _told(g: ColumnGraph, value: str, target: Target) -> str:
    nothing = g.node("IsNaN", value)
    for margin, comparison in ((target.low, "Less"), (target.high, "Greater")):
        if np.isfinite(margin):
            value = g.node("Where", g.node(comparison, value, g.value(margin)), g.value(margin), value)
    value = g.node("Add", g.node("Mul", value, g.value(target.factor)), g.value(target.constant))
    if target.cast == "round":
        value = g.node("Floor", g.node("Add", value, g.value(0.5)))
    elif target.cast:
        value = g.node("Ceil" if target.cast == "ceiling" else "Floor", value)
    return value if np.isnan(target.default) else g.node("Where", nothing, g.value(target.default), value)


def _precise(g: ColumnGraph, value: str, model: Model) -> tuple[str, str]:
    """The value and its dtype: no more is promised than there is."""
    return (value, "FP64") if isinstance(model, Regression) else (g.to(value, "FP32"), "FP32")


def _values(g: ColumnGraph, inputs: Inputs, model: Model, classes: tuple[str, ...]) -> str:
    """[rows, classes], or [rows, 1] of a number."""
    if isinstance(model, Regression):
        return _regression(g, inputs, model, classes)
    if isinstance(model, Chain):
        for step in model.steps:
            value = _values(g, inputs, step.model, step.classes)
            if step.label:
                value = g.node("Gather", value, g.value([step.classes.index(step.label)], "INT64"), axis=1)
            inputs.named[step.name] = value if step.label else _told(g, value, step.target)
            inputs.settle()
        return _values(g, inputs, model.last, classes)
    if not isinstance(model, Ensemble):
        return _trees(g, inputs, (model,), (1.0,), classes, votes=False)
    votes = "Vote" in model.method
    weights = model.weights if "eighted" in model.method else (1.0,) * len(model.members)
    if model.tests or model.method == "median":
        return _counted(g, inputs, model, weights, classes)
    if all(isinstance(member, Tree) for member in model.members):
        total = _trees(g, inputs, model.members, weights, classes, votes=votes)
    else:
        total = _mixed(g, inputs, model, weights, classes)
    if votes:
        return g.node("Div", total, g.node("ReduceSum", total, g.value([1], "INT64"), keepdims=1))
    return total if "um" in model.method else g.node("Mul", total, g.value(1.0 / sum(weights)))


def _counted(
    g: ColumnGraph, inputs: Inputs, model: Ensemble, weights: tuple[float, ...], classes: tuple[str, ...]
) -> str:
    """Of members that count for some rows alone; and the median."""
    values = [_values(g, inputs, member, classes) for member in model.members]
    if model.method == "median":
        return _median(g, values)
    counted = inputs.counted(model)
    if model.method == "selectFirst":
        return _first(g, counted, values)
    total = weighed = ""
    for holds, value, weight in zip(counted, values, weights, strict=True):
        part = g.node("Where", holds, g.node("Mul", value, g.value(weight)), g.value(0.0))
        share = g.node("Where", holds, g.value(weight), g.value(0.0))
        total = g.node("Add", total, part) if total else part
        weighed = g.node("Add", weighed, share) if weighed else share
    nothing = g.node("Equal", weighed, g.value(0.0))
    total = total if "um" in model.method else g.node("Div", total, weighed)
    return g.node("Where", nothing, g.value(np.nan), total)


def _median(g: ColumnGraph, values: list[str]) -> str:
    """NaN where one of them is."""
    count, axis = len(values), g.value([1], "INT64")
    every = g.node("Concat", *values, axis=1)
    ranks = g.second("TopK", every, g.value([count], "INT64"), axis=1, largest=0)
    ranked = g.node("GatherElements", every, ranks, axis=1)
    middle = g.node("Gather", ranked, g.value(sorted({(count - 1) // 2, count // 2}), "INT64"), axis=1)
    gaps = g.node("ReduceMax", g.to(g.node("IsNaN", every), "INT64"), axis, keepdims=1)
    return g.node("Where", g.to(gaps, "BOOL"), g.value(np.nan), g.node("ReduceMean", middle, axis, keepdims=1))


def _mixed(
    g: ColumnGraph, inputs: Inputs, model: Ensemble, weights: tuple[float, ...], classes: tuple[str, ...]
) -> str:
    if "Vote" in model.method:
        raise RefusedError("a vote of other models than trees is not converted")
    total = ""
    for member, weight in zip(model.members, weights, strict=True):
        part = g.node("Mul", _values(g, inputs, member, classes), g.value(weight))
        total = g.node("Add", total, part) if total else part
    return total


def _trees(
    g: ColumnGraph, inputs: Inputs, trees: tuple[Model, ...], weights: tuple[float, ...], classes: tuple[str, ...], *,
    votes: bool,
) -> str:  # fmt: skip
    """The weighted sum of what the trees' leaves hold, or of what they say."""
    ensemble = TreeEnsemble(inputs, classes, votes=votes)
    for tree, weight in zip(trees, weights, strict=True):
        assert isinstance(tree, Tree)
        ensemble.add(tree, weight)
    return ensemble.node(g)


def _regression(g: ColumnGraph, inputs: Inputs, model: Regression, classes: tuple[str, ...]) -> str:
    values = {equation.target: _equation(g, inputs, equation) for equation in model.equations}
    if not classes:
        value = _equation(g, inputs, model.equations[0])
        if model.normalization in ("softmax", "logit"):
            return g.node("Sigmoid", value)
        return g.node("Exp", value) if model.normalization == "exp" else _linked(g, model.normalization, value)
    nothing = g.node("Mul", next(iter(values.values())), g.value(0.0))
    ordered = [values.get(name, nothing) for name in classes]
    y = g.node("Concat", *ordered, axis=1)
    one = g.value(1.0)
    if model.normalization == "softmax":
        return g.node("Softmax", y, axis=1)
    if model.normalization == "logit" and len(classes) == 2:
        first = classes.index(model.equations[0].target)
        likely = g.node("Sigmoid", ordered[first])
        both = [likely, g.node("Sub", one, likely)]
        return g.node("Concat", *(both if first == 0 else both[::-1]), axis=1)
    axis = g.value([1], "INT64")
    if model.normalization == "logit":
        y = g.node("Sigmoid", y)
    if model.normalization in ("logit", "simplemax"):
        return g.node("Div", y, g.node("ReduceSum", y, axis, keepdims=1))
    if len(classes) == 2:
        first = classes.index(model.equations[0].target)
        likely = _linked(g, model.normalization, ordered[first])
        for margin, comparison in ((0.0, "Less"), (1.0, "Greater")):
            likely = g.node("Where", g.node(comparison, likely, g.value(margin)), g.value(margin), likely)
        both = [likely, g.node("Sub", one, likely)]
        return g.node("Concat", *(both if first == 0 else both[::-1]), axis=1)
    last = classes.index(model.equations[-1].target)
    others = [value for index, value in enumerate(ordered) if index != last]
    rest = g.node("Sub", one, g.node("Sum", *others))
    return g.node("Concat", *(rest if index == last else value for index, value in enumerate(ordered)), axis=1)


def _linked(g: ColumnGraph, link: str, value: str) -> str:
    one = g.value(1.0)
    if link == "cloglog":
        return g.node("Sub", one, g.node("Exp", g.node("Neg", g.node("Exp", value))))
    return g.node("Exp", g.node("Neg", g.node("Exp", g.node("Neg", value)))) if link == "loglog" else value


def _equation(g: ColumnGraph, inputs: Inputs, equation: Equation) -> str:
    # As many rows as there are, also where the equation has nothing but its intercept.
    first = next(iter(inputs.named.values()))
    nothing = g.node("Mul", g.to(g.node("Equal", first, first), "FP64"), g.value(0.0))
    total = g.node("Add", nothing, g.value(equation.intercept))
    for name, exponent, coefficient in equation.numbers:
        total = g.node("Add", total, g.node("Mul", _factor(g, inputs, name, exponent), g.value(coefficient)))
    for name, level, coefficient in equation.categories:
        total = g.node("Add", total, g.node("Mul", _factor(g, inputs, name, 1, level), g.value(coefficient)))
    for factors, coefficient in equation.products:
        product = g.value(coefficient)
        for factor in factors:
            product = g.node("Mul", product, _factor(g, inputs, *factor))
        total = g.node("Add", total, product)
    for name in equation.needed:
        missing = g.node("Equal", inputs.named[name], g.value("", "BYTES"))
        total = g.node("Where", missing, g.value(np.nan), total)
    return total


def _factor(g: ColumnGraph, inputs: Inputs, name: str, exponent: float, level: str | float | None = None) -> str:
    """A number's power; of a level whether the field is that."""
    if name not in inputs.named or (name in inputs.texts) != isinstance(level, str):
        taken = "compared as a category, and is none of the categorical ones"
        if level is None:
            taken = "taken for a number, and is none of the model's numbers"
        raise RefusedError(f"field '{name[:60]}' is {taken}")
    value = inputs.named[name]
    if level is not None:
        return g.to(g.node("Equal", value, g.value(level, "BYTES" if isinstance(level, str) else "FP64")), "FP64")
    return value if exponent == 1 else g.node("Pow", value, g.value(float(exponent)))


def _clusters(g: ColumnGraph, inputs: Inputs, model: Clusters, without_answer: str) -> None:
    if not set(model.fields) <= set(inputs.named) - inputs.texts:
        raise RefusedError("the clusters' fields are not all numbers of the model's")
    x = g.node("Concat", *(inputs.named[name] for name in model.fields), axis=1)
    known = g.to(g.node("Not", g.node("IsNaN", x)), "FP64")
    x = g.node("Where", g.node("IsNaN", x), g.value(0.0), x)
    apart = g.node("Sub", g.node("Unsqueeze", x, g.value([1], "INT64")), g.value(np.array(model.centers)[None]))
    apart = g.node("Abs", apart) if model.kind == "cityBlock" else g.node("Mul", apart, apart)
    weighted = g.node(
        "Mul", g.node("Mul", apart, g.value(model.weights)), g.node("Unsqueeze", known, g.value([1], "INT64"))
    )
    distance = g.node("ReduceSum", weighted, g.value([2], "INT64"), keepdims=0)
    count = g.node("ReduceSum", known, g.value([1], "INT64"), keepdims=1)
    distance = g.node("Mul", distance, g.node("Div", g.value(float(len(model.fields))), count))
    distance = _answered(g, distance, without_answer)
    if model.kind == "euclidean":
        distance = g.node("Sqrt", distance)
    nearest = g.node("Gather", g.value(model.names, "BYTES"), g.node("ArgMin", distance, axis=1, keepdims=0))
    g.give("label", _where_any(g, distance, nearest), "BYTES")
    g.give("distances", distance, "FP64", len(model.names))
