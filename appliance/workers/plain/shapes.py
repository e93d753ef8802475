"""How data of one shape becomes the tensor that an input declares: rows, batch axes and axes of size 1.

Pure, no numpy. Runs in a worker process. Data is reordered by nothing here: only axes of size 1 are put in or left
out, and flat rows are folded, where there is one way to do it.
"""

from collections.abc import Sequence
from functools import cache

from appliance.core.tensors import element_count, shape_fits

Shape = tuple[int, ...]


def fitted_shape(declared: Sequence[int], given: Sequence[int]) -> Shape | None:
    """The shape under which data of shape `given` satisfies `declared`, or None where there is not exactly one sense.

    In order: as it is; with axes of size 1 put in (for a declared 1, or in front for a free batch axis) or left out;
    flat rows folded into the row's fixed shape. (4,) fits (-1, 4) as one row; (3,) fits (-1, 1) as three rows.
    """
    declared, given = tuple(declared), tuple(given)
    if shape_fits(declared, given):
        return given
    if declared and declared[0] in (-1, 1) and shape_fits(declared[1:], given):
        return (1, *given)
    if element_count(given) == 1 and all(size in (-1, 1) for size in declared):
        return (1,) * len(declared)
    aligned = _aligned(declared, given)
    return aligned if aligned is not None else _folded(declared, given)


def _aligned(declared: Shape, given: Shape) -> Shape | None:
    @cache
    def rest(at: int, taken: int) -> Shape | None:
        if at == len(declared) and taken == len(given):
            return ()
        if at < len(declared) and (declared[at] == 1 or (at == 0 and declared[0] == -1)):
            found = rest(at + 1, taken)
            if found is not None:
                return (1, *found)
        if at < len(declared) and taken < len(given) and declared[at] in (-1, given[taken]):
            found = rest(at + 1, taken + 1)
            if found is not None:
                return (given[taken], *found)
        if taken < len(given) and given[taken] == 1:
            return rest(at, taken + 1)
        return None

    return rest(0, 0)


def _folded(declared: Shape, given: Shape) -> Shape | None:
    """Flat data under a row's fixed shape: (n, 784) for (-1, 28, 28), (784,) for one of them."""
    if not declared or not 1 <= len(given) <= 2:
        return None
    if -1 not in declared and len(given) == 1 and element_count(declared) == given[0]:
        return declared
    row = declared[1:]
    if -1 in row or not row or given[-1] != element_count(row):
        return None
    rows = given[0] if len(given) == 2 else 1
    return (rows, *row) if declared[0] in (-1, rows) else None
