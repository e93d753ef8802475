"""What becomes of models that are converted: each in its own process, with the largest error against its original.

    python -m benchmarks.conversions MODEL ...     # files and folders; none: the originals of the tests

Prints the table that docs/converters/ shows. A folder that is no model itself is looked into.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from appliance.core.errors import IngleError, RefusedError
from converters import isolation, registry
from converters.detection import detect
from converters.isolation import Limits
from converters.job import Job
from converters.options import Options

ORIGINALS = Path(__file__).parents[1] / "tests" / "converters" / "originals"


class Outcome(NamedTuple):
    """One row. `largest_error` is None where nothing was compared; `words` say why it was refused."""

    framework: str
    model: str
    converted: bool
    largest_error: float | None
    seconds: float
    words: str


def convert(model: Path, limits: Limits = Limits(seconds=300.0)) -> Outcome:  # noqa: B008
    """Converts one model, as `ingle convert` does."""
    framework = "?"
    try:
        detected = detect(model)
        framework = detected.format
        converter = registry.converter_of(detected)
        registry.check_installed(converter)
        framework = converter.title
        with isolation.workplace() as work:
            job = Job(
                source=str(model.resolve()),
                detected=detected,
                framework=converter.name,
                folder=str(work / "bundle"),
                options=Options(),
                processes=converter.needs_processes,
            )
            record = isolation.run(job, limits).record
    except IngleError as error:
        return Outcome(framework, model.name, False, None, 0.0, error.sentence)
    parity = record.parity
    words = "" if parity.within else "answers otherwise than the original"
    return Outcome(framework, model.name, parity.within, parity.largest_error, record.seconds, words)


def models_in(paths: list[Path]) -> Iterator[Path]:
    """The models that are named, and those in folders that are none themselves."""
    for path in paths:
        if path.is_dir():
            try:
                detect(path)
            except RefusedError:
                # What the originals answered lies beside them, and is no model.
                yield from models_in(
                    sorted(child for child in path.iterdir() if path != ORIGINALS or child.suffix != ".json")
                )
                continue
        yield path


def table(outcomes: list[Outcome]) -> str:
    """Markdown."""
    lines = ["| framework | model | outcome | largest error | seconds |", "| --- | --- | --- | --- | --- |"]
    for row in outcomes:
        error = "" if row.largest_error is None else f"{row.largest_error:.2g}"
        words = "converted" if row.converted else f"refused: {row.words}"
        lines.append(f"| {row.framework} | {row.model} | {words} | {error} | {row.seconds:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table([convert(model) for model in models_in([Path(word) for word in sys.argv[1:]] or [ORIGINALS])]))
