"""Rows that reach a PMML model: on and around what it compares with, through the fields that are derived. Pure."""

import math
from collections.abc import Callable

import numpy as np

from converters.converter import Feed
from converters.pmml_derived import Derived, walked_expression
from converters.pmml_derived_rows import settle
from converters.pmml_model import Clusters, Document, Model, Regression, Test, walked

_EXACT = {"constant", "field", "+", "-", "*", "/", "abs", "min", "max", "if", "call", "discretize", "map", "indicator"}
MAX_MARKS = 6
Marks = dict[str, set[float]]
Levels = dict[str, set[str]]


def rows_of(document: Document) -> Callable[[int, np.random.Generator], Feed]:
    """Around and on the thresholds that the model compares with, every level, and now and then one that it does not
    know, a value outside of its intervals, and a gap."""
    marks, levels = _looked_for(document.model)
    for one in reversed(document.derived):
        _through(one, marks, levels)

    def made(count: int, random: np.random.Generator) -> Feed:
        feed: Feed = {}
        rare = min(0.04, 0.4 / max(1, len(document.fields)))
        for field in document.fields:
            column = np.empty((count, 1), object if field.is_text else np.float64)
            strange = random.random(count) < rare
            if field.is_text:
                more = sorted(levels.get(field.name, set()) - set(field.levels)) if not field.bounded else ()
                known = [*field.levels, *more, *field.absent]
                column[:, 0] = random.choice(np.array(known, object), count)
                column[strange, 0] = "\u00fcn \U0001f642"
            else:
                on = np.array(sorted({*marks.get(field.name, ()), *map(float, field.absent)}) or field.span)
                wide = (on.max() - on.min()) or max(1.0, abs(on.max()) / 4)
                value = random.choice(on, count) + wide * random.normal(size=count) * random.choice(
                    (0, 1e-6, 0.3), count
                )
                column[:, 0] = value
                if field.points and not field.intervals:
                    column[:, 0] = random.choice(np.array(field.points), count)
                elif field.intervals:
                    column[:, 0] = np.clip(value, *field.span)
                column[strange, 0] = value[strange]
            column[random.random(count) < rare, 0] = "" if field.is_text else np.nan
            feed[field.name] = column
        return feed

    return made


def _looked_for(model: Model) -> tuple[Marks, Levels]:
    """What the model compares its fields with."""
    marks: Marks = {}
    levels: Levels = {}
    for item in walked(model):
        if isinstance(item, Clusters):
            for index, name in enumerate(item.fields):
                marks.setdefault(name, set()).update(center[index] for center in item.centers)
        elif isinstance(item, Regression):
            for equation in item.equations:
                for name, level, _ in equation.categories:
                    if isinstance(level, str):
                        levels.setdefault(name, set()).add(level)
        elif isinstance(item, Test) and isinstance(item.value, float) and item.field:
            marks.setdefault(item.field, set()).add(item.value)
        elif isinstance(item, Test) and item.field:
            levels.setdefault(item.field, set()).update(filter(None, (str(item.value), *item.values)))
    return marks, levels


def _through(one: Derived, marks: Marks, levels: Levels) -> None:
    """Marks of a derived field become marks of those that it is made of."""
    constants: set[float] = set()
    for item in walked_expression(one.expression):
        keys = list(zip(*(keys for keys, _ in item.rows), strict=True)) or [(item.value,)]
        for part, values in zip(item.parts, keys, strict=False):
            if item.operation in ("map", "indicator") and part.operation == "field":
                for value in values:
                    if isinstance(value, str):
                        levels.setdefault(part.field, set()).add(value)
                    elif value is not None:
                        marks.setdefault(part.field, set()).add(value)
        texts = {str(p.value) for p in item.parts if p.operation == "constant" and p.kind == "text"}
        for part in item.parts:
            if part.operation == "field" and texts:
                levels.setdefault(part.field, set()).update(texts)
        constants |= {float(item.value)} if item.operation == "constant" and isinstance(item.value, float) else set()
        constants |= {orig for orig, _ in item.points}
        constants |= {end for interval, _ in item.bins for end in interval[:2] if math.isfinite(end)}
    numbers = {item.field for item in walked_expression(one.expression) if item.operation == "field"
               and item.kind != "text"}  # fmt: skip
    wanted = marks.get(one.name, set())
    for name in numbers:
        if numbers == one.of == {name}:
            found = _inverted(one, name, constants, wanted)
            marks.setdefault(name, set()).update(found or constants)
        else:
            marks.setdefault(name, set()).update(constants | wanted)


def _inverted(one: Derived, name: str, constants: set[float], wanted: set[float]) -> set[float]:
    """Where `one`, made of the number `name` alone, crosses what is wanted; and where it may bend."""
    bases, steps = sorted(constants | {0.0})[:MAX_MARKS], sorted({abs(c) for c in constants} | {1.0})[:MAX_MARKS]
    grid = sorted({b + s * t for b in bases for s in steps for t in (-3, -1.5, -0.5, 0, 0.5, 1.5, 3)})
    grid = grid[:: max(1, len(grid) // 60)]

    def at(x: float) -> float:
        row = {name: x}
        settle((one,), row)  # type: ignore[arg-type]
        value = row[one.name]
        return float(value) if isinstance(value, float) else math.nan

    if one.kind == "text" or not wanted:
        return set(grid[:: max(1, len(grid) // MAX_MARKS)])
    exact = {item.operation for item in walked_expression(one.expression)} <= _EXACT
    values, found = [at(x) for x in grid], set()
    for mark in sorted(wanted)[:: max(1, len(wanted) // MAX_MARKS)]:
        for low, high, a, b in zip(grid, grid[1:], values, values[1:], strict=False):
            if (a <= mark) == (b <= mark) or math.isnan(a + b):
                continue
            below = a <= mark
            for _ in range(60):
                middle = (low + high) / 2
                low, high = (middle, high) if (at(middle) <= mark) == below else (low, middle)
            found |= {low, high} if exact else {low - 1e-7 * abs(low), high + 1e-7 * abs(high)}
            break
    return found | {grid[len(grid) // 4], grid[3 * len(grid) // 4]}
