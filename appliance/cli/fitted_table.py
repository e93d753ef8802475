"""Tables of styled text that fit a terminal. Pure, but for rich's texts.

Where the terminal is narrow, columns go in the order of what a reader can most easily do without, and what stands first
is cut.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from rich.text import Text

_GAP = "  "
_LEAST_FIRST = 24  # to which a long first column is cut before others go; a third of the width where that is less

Row = TypeVar("Row")


class Column(NamedTuple, Generic[Row]):
    """`keep`: the higher, the longer it stays on a narrow terminal; the first column always does. `optional`: left out
    where no row has words for it."""

    title: str
    keep: int
    words: Callable[[Row], str]
    right: bool = True
    optional: bool = False


def table(
    columns: Sequence[Column[Row]],
    rows: Sequence[Row],
    width: int,
    styles: Callable[[Row], Mapping[str, str]],
) -> list[Text]:
    """The titles and a line for each row, as wide as `width` allows. `styles`: of a row's cells, by column's title."""
    shown = [column for column in columns if not column.optional or any(map(column.words, rows))]
    cells = {column: [column.words(row) for row in rows] for column in shown}
    widths = {column: max(len(text) for text in (column.title, *cells[column])) for column in shown}
    first = shown[0]
    least = min(widths[first], _LEAST_FIRST, max(1, width // 3))
    while (over := _wide(shown, widths) - width) > widths[first] - least and len(shown) > 1:
        shown.remove(min(shown, key=lambda column: column.keep))
    widths[first] = min(widths[first], max(least, widths[first] - over))
    lines = [Text(_GAP).join(_cell(column.title, column, widths, "bold") for column in shown)]
    for number, row in enumerate(rows):
        style = styles(row)
        lines.append(
            Text(_GAP).join(
                _cell(cells[column][number], column, widths, style.get(column.title, "")) for column in shown
            )
        )
    return lines


def _wide(columns: Sequence[Column[Row]], widths: Mapping[Column[Row], int]) -> int:
    return sum(widths[column] for column in columns) + len(_GAP) * (len(columns) - 1)


def _cell(text: str, column: Column[Row], widths: Mapping[Column[Row], int], style: str) -> Text:
    wide = widths[column]
    if len(text) > wide:
        text = text[: wide - 1] + "…"
    return Text(text.rjust(wide) if column.right else text.ljust(wide), style=style)
