"""One conversion within the test's process, compared with the original, and its row of the documentation's table.

`python -m tests.converters.converting LINES` prints the table of the lines that the tests wrote.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.core.errors import RefusedError
from appliance.core.manifest import manifest_from_table
from converters.converter import Conversion, Converter
from converters.detected import Detected
from converters.options import Options
from converters.parity import check
from converters.report import ParityReport
from converters.session import Session

ROWS_FILE = "INGLE_CONVERSION_ROWS"  # where it names a file, each comparison and refusal adds a line to it

_formats: dict[Path, str] = {}  # by the model that was made: a Conversion does not know what it was made of


def conversion(converter: Converter, source: Path, word: str, folder: Path, **options: object) -> Conversion:
    folder.mkdir(exist_ok=True)
    detected = Detected(format=word, what=word)
    made = converter.convert(source, detected, folder, Options(**options), lambda _: None)  # type: ignore[arg-type]
    manifest_from_table(made.manifest)  # raises where a node would refuse the bundle for it
    _formats[made.model] = word
    return made


def compared(made: Conversion, converter: Converter, family: str, *, rows: int = 192, word: str = "") -> ParityReport:
    """`word`: the format, of what conversion() did not make."""
    report = check(made, Session(made.model, manifest_from_table(made.manifest)), sample=None, rows=rows, seed=0).report
    outcome = "converted" if report.within else "not published: out of tolerance"
    errors = [max(getattr(output, what) for output in report.outputs) for what in ("max_absolute", "max_relative")]
    differing = sum(output.labels_differ for output in report.outputs)
    outcome += f", {differing} labels differ" if differing else ""
    _write(converter, _formats.get(made.model, word), family, outcome, " | ".join(f"{error:.1e}" for error in errors))
    return report


def refused(converter: Converter, source: Path, word: str, folder: Path, family: str, match: str) -> None:
    """That it is refused with a sentence that `match` is found in."""
    with pytest.raises(RefusedError, match=match):
        conversion(converter, source, word, folder)
    _write(converter, word, family, "refused", " | ")


def _write(converter: Converter, word: str, family: str, outcome: str, errors: str) -> None:
    if path := os.environ.get(ROWS_FILE):
        row = {"framework": converter.title, "format": word, "family": family, "outcome": outcome, "errors": errors}
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def render(lines: list[str]) -> str:
    """The documentation's table; of lines about the same family the last one counts."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for line in lines:
        row = json.loads(line)
        rows[row["framework"], row["format"], row["family"]] = row
    published = [row for row in rows.values() if row["outcome"] == "converted"]
    formats = {row["format"] for row in published}
    table = [
        "# What was converted, and how far from the original",
        "",
        f"{len(published)} of {len(rows)} models convert within tolerance, over {len(formats)} formats; no other is",
        "published. Both errors are the largest of all rows and outputs. Within tolerance is what differs by at most",
        "1e-5 + 1e-4 of its row's largest number in single precision, 1e-7 + 1e-6 in double; labels must be equal. The",
        "relative error is large where a row holds nothing but numbers near zero. The tests write this table: see",
        "[README.md](README.md).",
        "",
        "| framework | format | model family | outcome | largest error | relative to its row's largest number |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for _, row in sorted(rows.items()):
        family = row["family"].replace("|", "/")
        table.append(f"| {row['framework']} | {row['format']} | {family} | {row['outcome']} | {row['errors']} |")
    return "\n".join(table) + "\n"


if __name__ == "__main__":
    print(render(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()), end="")
