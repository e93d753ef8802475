"""Generalised linear models from their coefficients: a small form in JSON or CSV that R and statsmodels can write."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from converters import glm_file
from converters.content import Content
from converters.converter import Conversion, Converter, Feed, Say
from converters.detected import Detected
from converters.glm_file import Factor, Glm
from converters.options import Options


class GlmConverter(Converter):
    name: ClassVar[str] = "glm"
    extra: ClassVar[str] = "onnx"
    title: ClassVar[str] = "GLM"
    takes: ClassVar[str] = "coefficients of generalised linear models as JSON or CSV (R, statsmodels)"
    formats: ClassVar[tuple[str, ...]] = ("glm",)
    modules: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    def detect(self, content: Content) -> Detected | None:
        if content.head.lstrip(b"\xef\xbb\xbf").startswith(b"# glm "):
            return Detected(format="glm", what="a generalised linear model's coefficients")
        return None

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        say("reading the coefficients")
        model = glm_file.read_glm(source.read_text(encoding="utf-8-sig"))
        say("building the graph")
        _write(model, folder / "model.onnx")
        manifest: dict[str, Any] = {"description": f"generalised linear model, {model.family}, link {model.link}"}
        return Conversion(folder / "model.onnx", _answers(model), _rows(model), manifest)


def _write(model: Glm, target: Path) -> None:
    from converters.column_graph import ColumnGraph

    g = ColumnGraph()
    inputs = {name: g.column(name, "FP64", 1) for name in model.numbers}
    inputs |= {name: g.column(name, "BYTES", 1) for name in model.levels}

    def value(factor: Factor) -> str:
        source = inputs[factor.variable]
        if factor.kind == "level":
            return g.to(g.node("Equal", source, g.value(factor.level, "BYTES")), "FP64")
        if factor.kind == "power":
            return source if factor.power == 1 else g.node("Pow", source, g.value(float(factor.power)))
        if factor.kind == "log1p":
            return g.node("Log", g.node("Add", source, g.value(1.0)))
        return g.node(factor.kind.capitalize(), source)

    eta = ""
    for term in model.terms:
        product = g.value([[term.coefficient]])
        for factor in term.factors:
            product = g.node("Mul", product, value(factor))
        eta = g.node("Add", eta, product) if eta else product
    for name, found in model.levels.items():
        known = g.value(False, "BOOL")
        for level in found:
            known = g.node("Or", known, g.node("Equal", inputs[name], g.value(level, "BYTES")))
        eta = g.node("Where", known, eta, g.value(np.nan))
    g.give("link", eta, "FP64", 1)
    g.give("response", _mean(g, model.link, eta), "FP64", 1)
    g.save(target)


def _mean(g: Any, link: str, eta: str) -> str:
    one, half = g.value(1.0), g.value(0.5)
    if link == "identity":
        return str(g.node("Identity", eta))
    if link == "probit":
        scaled = g.to(g.node("Mul", eta, g.value(0.5**0.5)), "FP32")  # onnxruntime's Erf is single
        return str(g.node("Mul", half, g.node("Add", one, g.to(g.node("Erf", scaled), "FP64"))))
    if link == "cloglog":
        return str(g.node("Sub", one, g.node("Exp", g.node("Neg", g.node("Exp", eta)))))
    if link == "cauchit":
        return str(
            g.node("Add", half, g.node("Mul", g.to(g.node("Atan", g.to(eta, "FP32")), "FP64"), g.value(1 / np.pi)))
        )
    single = {"log": "Exp", "logit": "Sigmoid", "inverse": "Reciprocal"}
    if link in single:
        return str(g.node(single[link], eta))
    return str(g.node("Mul", eta, eta) if link == "sqrt" else g.node("Reciprocal", g.node("Sqrt", eta)))


def _answers(model: Glm) -> Callable[[Feed], Feed]:
    def answer(feed: Feed) -> Feed:
        eta, response = glm_file.respond(model, {name: array[:, 0] for name, array in feed.items()})
        return {"link": eta[:, None], "response": response[:, None]}

    return answer


def _rows(model: Glm) -> Callable[[int, np.random.Generator], Feed]:
    """Numbers of both signs and sizes around one, every level of every factor, and one that none has."""

    def made(count: int, random: np.random.Generator) -> Feed:
        feed: Feed = {}
        logged = {f.variable for term in model.terms for f in term.factors if f.kind in ("log", "sqrt", "log1p")}
        for name in model.numbers:
            numbers = random.normal(size=(count, 1)) * 10.0 ** random.integers(-2, 2, (count, 1))
            numbers[:2, 0] = 0.0, 1.0
            feed[name] = np.abs(numbers) + 0.01 if name in logged else numbers
        for name, found in model.levels.items():
            column = np.empty((count, 1), object)
            column[:, 0] = random.choice(np.array(found, object), count)
            column[-1, 0] = "\u00fcnknown \U0001f642"
            feed[name] = column
        return feed

    return made


CONVERTER = GlmConverter()
