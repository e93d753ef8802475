"""Asks the original and the converted model the same, in batches of several sizes, and says how far apart they are.

Runs in the process of a conversion. What "the same" means is comparison.py's.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import RefusedError
from appliance.core.tensors import Signature, TensorSpec
from converters.comparison import compare, joined
from converters.converter import Conversion, Feed, first_rows, row_count
from converters.report import OutputParity, ParityReport
from converters.rows import evened, made_feed
from converters.session import Session
from converters.steadiness import steady_rows

SINGLE_ROWS = 8  # of a feed are also asked one by one
PART_ROWS = 3


class Pair(NamedTuple):
    """One run: what was asked, and both answers."""

    feed: Feed
    original: Feed
    converted: Feed


class Checked(NamedTuple):
    """The report, runs of which test vectors can be made, and what is to be said of the rows."""

    report: ParityReport
    pairs: list[Pair]
    notes: tuple[str, ...] = ()


def check(
    conversion: Conversion, session: Session, *, sample: list[Feed] | None, rows: int, seed: int, precision: str = ""
) -> Checked:
    """Compares on the user's sample where there is one, else on made rows. Raises RefusedError where the converted
    model does not take them, or no rows can be made that the original takes."""
    precision = precision or conversion.precision
    limit = int(conversion.manifest.get("limits", {}).get("batch", 0))  # no more rows are asked at once on a node
    if sample is None:
        feeds = _made(conversion, session.signature, min(rows, limit) if limit else rows, seed)
        feeds = [evened(feed) for feed in feeds] if precision == "int8" else feeds
    else:
        feeds = [part for feed in sample for part in _pieces(feed, limit)]
    source = "made" if sample is None else "sample"
    checked = _checked(conversion, session, feeds, source, precision)
    if checked.report.within or sample is not None or precision:
        return checked
    if conversion.continuous:
        steady = _steady(conversion, session.signature, feeds, seed)
    elif conversion.undecided is not None and _only_labels_differ(checked.report):
        steady = [_decided(conversion.undecided, feed) for feed in feeds]
    else:
        return checked
    rows, left = (sum(max(1, row_count(feed)) for feed in some) for some in (feeds, steady))
    if not rows / 2 <= left < rows:
        return checked
    try:
        again = _checked(conversion, session, steady, source, precision)
    except RefusedError:  # some models answer other numbers of rows not at all
        return checked
    if not again.report.within:
        return checked
    note = (
        f"{rows - left} of {rows} made rows were left out: the original itself answers them otherwise when a last "
        "digit changes, as numbers cancel in them or scores are equal"
    )
    return again._replace(notes=(note,))


def _only_labels_differ(report: ParityReport) -> bool:
    return all(
        output.tolerance is None and not output.fault for output in report.outputs if output.rows_differ or output.fault
    )


def _decided(undecided: Callable[[Feed], NDArray[np.bool_]], feed: Feed) -> Feed:
    kept = ~undecided(feed)
    return {name: array[kept] for name, array in feed.items()}


def _steady(conversion: Conversion, signature: Signature, feeds: list[Feed], seed: int) -> list[Feed]:
    """The feeds without the rows that say nothing."""
    random = np.random.default_rng(seed)
    found = []
    fixed = any(spec.shape and spec.shape[0] >= 0 for spec in signature.inputs)
    # Where the model takes so many rows and no others, as they are asked.
    parts = [part for feed in feeds for part in _parts(feed, signature)] if fixed else feeds
    for part in parts:
        rows = steady_rows(lambda given: _answer(conversion, given), part, signature.outputs, random)
        if rows.all():
            found.append(part)
        elif rows.any() and not fixed:
            found.append({name: array[rows] for name, array in part.items()})
    return found


def _checked(conversion: Conversion, session: Session, feeds: list[Feed], source: str, precision: str) -> Checked:
    pairs = []
    for feed in feeds:
        parts = _parts(feed, session.signature)
        pairs += [Pair(part, _answer(conversion, part), session.run(part)) for part in parts]
    outputs, left_out = [], []
    for spec in session.signature.outputs:
        compared = [
            _compared(spec, pair, run, precision) for run, pair in enumerate(pairs) if spec.name in pair.original
        ]
        if compared:
            outputs.append(joined(compared))
        else:
            left_out.append(spec.name)
    report = ParityReport(
        source=source,
        rows=sum(max(1, row_count(feed)) for feed in feeds),
        batch_sizes=tuple(sorted({max(1, row_count(pair.feed)) for pair in pairs})),
        outputs=tuple(outputs),
        not_compared=tuple(left_out),
    )
    return Checked(report, pairs)


def _pieces(feed: Feed, limit: int) -> list[Feed]:
    rows = row_count(feed)
    if not 0 < limit < rows:
        return [feed]
    return [first_rows(feed, start, start + limit) for start in range(0, rows, limit)]


def _compared(spec: TensorSpec, pair: Pair, run: int, precision: str) -> OutputParity:
    return compare(
        spec.name, spec.dtype, pair.original[spec.name], pair.converted[spec.name], run=run, precision=precision
    )


def _made(conversion: Conversion, signature: Signature, rows: int, seed: int) -> list[Feed]:
    if conversion.rows is not None:
        made = conversion.rows(rows, np.random.default_rng(seed))
        return made if isinstance(made, list) else [made]
    reason = ""
    for below in (5, 2, 1):  # an index into a small table must stay within it
        feed = made_feed(signature.inputs, rows, np.random.default_rng(seed), below=below)
        try:
            _answer(conversion, feed)
            return [feed]
        except RefusedError as error:
            reason = error.sentence
    raise RefusedError(f"{reason}; the rows were made up: give rows that the model takes with --sample")


def _answer(conversion: Conversion, feed: Feed) -> Feed:
    try:
        return conversion.answer(feed)
    except Exception as error:  # whatever the framework raises
        reason = " ".join(str(error).split())[:300]
        raise RefusedError(f"the original does not answer these rows: {type(error).__name__}: {reason}") from None


def _parts(feed: Feed, signature: Signature) -> list[Feed]:
    """The feed as a whole, some of its rows one by one, and the rest in small batches; where the model's first axes are
    fixed, in pieces of that size."""
    rows = row_count(feed)
    sizes = {spec.shape[0] if spec.shape else 0 for spec in signature.inputs}
    if rows < 1 or (sizes != {-1} and (len(sizes) != 1 or min(sizes) < 1)):
        return [feed]
    if sizes != {-1}:
        size = sizes.pop()
        return [first_rows(feed, start, start + size) for start in range(0, rows - size + 1, size)] or [feed]
    singles = min(rows, SINGLE_ROWS) if rows > 1 else 0
    parts = [feed, *(first_rows(feed, row, row + 1) for row in range(singles))]
    if rows > PART_ROWS:
        parts.append(first_rows(feed, rows - PART_ROWS, rows))
    return parts
