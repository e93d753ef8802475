"""One conversion within the test's process, compared with the original, and its row of the documentation's table."""

import json
import os
import re
from pathlib import Path

from converters.converter import Conversion, Converter
from converters.detected import Detected
from converters.options import Options
from converters.parity import check
from converters.report import ParityReport
from converters.session import Session

ROWS_FILE = "INGLE_CONVERSION_ROWS"  # where it names a file, each comparison adds a line to it


def conversion(converter: Converter, source: Path, word: str, folder: Path, **options: object) -> Conversion:
    folder.mkdir(exist_ok=True)
    detected = Detected(format=word, what=word)
    return converter.convert(source, detected, folder, Options(**options), lambda _: None)  # type: ignore[arg-type]


def compared(made: Conversion, converter: Converter, family: str, *, rows: int = 192) -> ParityReport:
    report = check(made, Session(made.model), sample=None, rows=rows, seed=0).report
    if path := os.environ.get(ROWS_FILE):
        row = {"framework": converter.title, "family": family, "within": report.within, "error": _relative(report)}
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    return report


def _relative(report: ParityReport) -> float:
    return max(output.max_relative for output in report.outputs)


def render(path: Path) -> str:
    """The table of the documentation, of the lines that the tests wrote."""
    rows = sorted({line for line in path.read_text(encoding="utf-8").splitlines() if line})
    table = ["| framework | model family | outcome | largest error, relative to the row |", "| --- | --- | --- | --- |"]
    for line in rows:
        row = json.loads(line)
        outcome = row.get("refused") or ("converted" if row["within"] else "not published: out of tolerance")
        family = re.sub(r"\|", "/", row["family"])
        table.append(f"| {row['framework']} | {family} | {outcome} | {row['error']:.1e} |")
    return "\n".join(table) + "\n"


if __name__ == "__main__":
    import sys

    print(render(Path(sys.argv[1])), end="")
