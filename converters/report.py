"""What a comparison found, and everything a conversion tells about itself: the structs of `parity.json`.

Plain data without numpy, for the command line, the bundle and the node.
"""

import msgspec


class Tolerance(msgspec.Struct, frozen=True):
    """Two numbers agree where they differ by no more than `absolute` + `relative` times the largest number in the
    original's row."""

    absolute: float
    relative: float


class RowDifference(msgspec.Struct, frozen=True):
    """One row that is beyond the tolerance. `run` counts the feeds, `row` the rows in it; `original` and `converted`
    are the two values that differ most, as text."""

    run: int
    row: int
    error: float
    original: str
    converted: str


class OutputParity(msgspec.Struct, frozen=True, kw_only=True):
    """One output over all rows. `labels_differ` counts rows whose text or integer is another, `rows_differ` all rows
    beyond the tolerance; `fault` says what made a comparison impossible, such as another shape."""

    name: str
    dtype: str
    rows: int
    max_absolute: float = 0.0
    max_relative: float = 0.0
    labels_differ: int = 0
    rows_differ: int = 0
    tolerance: Tolerance | None = None
    worst: tuple[RowDifference, ...] = ()
    fault: str = ""


class ParityReport(msgspec.Struct, frozen=True, kw_only=True):
    """`source` of the rows: `sample` (the user's) or `made`. `batch_sizes` that were run."""

    source: str
    rows: int
    batch_sizes: tuple[int, ...]
    outputs: tuple[OutputParity, ...]
    not_compared: tuple[str, ...] = ()

    @property
    def within(self) -> bool:
        """Whether the conversion may be published: something was compared and all of it agrees."""
        compared = [output for output in self.outputs if output.rows]
        return bool(compared) and all(not output.rows_differ and not output.fault for output in self.outputs)

    @property
    def largest_error(self) -> float:
        return max((output.max_absolute for output in self.outputs), default=0.0)


class ConversionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`parity.json`: from what, by what, to what, and how near. Digests are sha256 in hexadecimal, `libraries` the
    versions that did it; `seconds` are of the conversion alone, the comparison aside."""

    format: str
    framework: str
    source_digest: str
    model_digest: str
    opset: int
    libraries: dict[str, str]
    parity: ParityReport
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    precision: str = ""  # `float16` or `int8` where asked for; `float16` or `bfloat16` where the original computes so
