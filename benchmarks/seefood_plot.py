"""The day of benchmarks/seefood.py as a picture: calls a second above, machines of each strategy below."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

_STEP_S = 120.0


def draw(path: Path, calls_per_s: NDArray[np.float64], machines: Mapping[str, Sequence[int]], turn_s: float) -> None:
    """Writes an SVG: the same bytes for the same day. `machines` has each strategy's at every turn."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    _line(above, calls_per_s, 1.0, "calls")
    above.set_ylabel("calls a second")
    for name, counts in machines.items():
        _line(below, np.asarray(counts, np.float64), turn_s, name)
    below.set_ylabel("machines")
    below.set_xlabel("hour of the day")
    below.set_xticks(range(0, 25, 3))
    below.legend()
    for axes in (above, below):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    path.parent.mkdir(exist_ok=True)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": path.name}):
        figure.savefig(path, format="svg", metadata={"Date": None})


def _line(axes: Axes, values: NDArray[np.float64], each_s: float, label: str) -> None:
    """Averages over _STEP_S, since a day has too many seconds for a picture."""
    step = int(_STEP_S / each_s)
    averages = values[: len(values) // step * step].reshape(-1, step).mean(axis=1)
    axes.plot((np.arange(len(averages)) + 0.5) * _STEP_S / 3600, averages, linewidth=1, label=label)
