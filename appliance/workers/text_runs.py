"""Which texts of one run go through the model together: those of like length, since all are filled up to the longest.
A pure decision.

One text of 256 tokens among seven short ones made the eight take twice as long as one by one.
"""

from collections.abc import Sequence

_MOST_FILLING = 0.25  # of what goes through the model


def by_length(lengths: Sequence[int], most_rows: int) -> list[list[int]]:
    """The rows' indices in groups of at most `most_rows`, the longest first; in each, filling is a quarter at most."""
    groups: list[list[int]] = []
    longest = own = 0
    for index in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        length = lengths[index]
        rows = len(groups[-1]) if groups else most_rows
        if rows >= most_rows or own + length < (1 - _MOST_FILLING) * longest * (rows + 1):
            groups.append([])
            longest, own = length, 0
        groups[-1].append(index)
        own += length
    return groups
