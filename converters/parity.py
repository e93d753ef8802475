"""Asks the original and the converted model the same, in batches of several sizes, and says how far apart they are.

Runs in the process of a conversion. What "the same" means is comparison.py's.
"""

from typing import NamedTuple

import numpy as np

from appliance.core.errors import RefusedError
from appliance.core.tensors import Signature, TensorSpec
from converters.comparison import compare, joined
from converters.converter import Conversion, Feed, first_rows, row_count
from converters.report import OutputParity, ParityReport
from converters.rows import made_feed
from converters.session import Session

SINGLE_ROWS = 8  # of a feed are also asked one by one
PART_ROWS = 3


class Pair(NamedTuple):
    """One run: what was asked, and both answers."""

    feed: Feed
    original: Feed
    converted: Feed


class Checked(NamedTuple):
    """The report, and runs of which test vectors can be made."""

    report: ParityReport
    pairs: list[Pair]


def check(
    conversion: Conversion, session: Session, *, sample: list[Feed] | None, rows: int, seed: int, precision: str = ""
) -> Checked:
    """Compares on the user's sample where there is one, else on made rows. Raises RefusedError where the converted
    model does not take them, or no rows can be made that the original takes."""
    feeds = sample if sample is not None else _made(conversion, session.signature, rows, seed)
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
        source="made" if sample is None else "sample",
        rows=sum(max(1, row_count(feed)) for feed in feeds),
        batch_sizes=tuple(sorted({max(1, row_count(pair.feed)) for pair in pairs})),
        outputs=tuple(outputs),
        not_compared=tuple(left_out),
    )
    return Checked(report, pairs)


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
