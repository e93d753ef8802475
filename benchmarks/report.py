"""RESULTS.md: one section a benchmark, each rewritten by its own command, in a fixed order.

Runs in the benchmark's process. Knows how figures are shown, not what they mean.
"""

import importlib.metadata
import os
import platform
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

RESULTS = Path(__file__).with_name("RESULTS.md")
ORDER = (
    "overhead",
    "throughput_http",
    "throughput_grpc",
    "fronts",
    "zmq",
    "shared_memory",
    "convnet",
    "batching",
    "gpu",
    "many_versions",
    "rivals",
    "perf_analyzer",
    "costs",
    "burst",
    "flood",
    "kills",
    "cold_start",
    "density",
    "keep_warm",
    "mesh_simulation",
    "seefood",
    "mesh_sight",
    "mesh_peer",
    "mesh_routing",
    "mesh_faults",
    "mesh_only_holder",
    "mesh_restart",
    "mesh_copies",
    "mesh_idle",
    "conversion_costs",
    "binary",
    "soak",
)
# Those that only their own command runs: they take long, or need what must be built first.
APART = frozenset(("binary", "conversion_costs", "gpu", "soak"))
_HEAD = """# What was measured

Written by `make bench`; each section also by its own command. Ratios are medians over interleaved rounds, with the
lowest and the highest round; figures alone depend on the machine and on what else ran on it, ratios much less so. What
each benchmark does and why is in the module of its name.
"""
_PACKAGES = ("aiohttp", "uvloop", "orjson", "msgspec", "grpcio", "numpy")


@dataclass(frozen=True)
class Section:
    """One benchmark's results: `name` is its module's; `verdicts` say which goals were reached."""

    name: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    verdicts: Sequence[str] = ()

    def markdown(self) -> str:
        lines = [f"## {self.name}", "", self.text, ""]
        lines += ["| " + " | ".join(self.columns) + " |", "| --- " * len(self.columns) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        lines += ["", *(f"- {verdict}" for verdict in self.verdicts)]
        lines += ["", f"{_machine()}. Command: `python -m benchmarks.{self.name}`.", ""]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def verdict(what: str, figure: float, goal: float, *, at_most: bool = False) -> str:
    """`what`: the figure, the goal, and whether it is reached."""
    reached = figure <= goal if at_most else figure >= goal
    sign = "≤" if at_most else "≥"
    return f"{what}: **{figure:.2f}**, goal {sign} {goal:.2f}: {'reached' if reached else 'NOT reached'}"


def microseconds(value_s: float) -> str:
    return f"{value_s * 1e6:,.0f}"


def whole(value: float) -> str:
    return f"{value:,.0f}"


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.machine()


def _machine() -> str:
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in _PACKAGES)
    versions += f", onnxruntime {onnxruntime.__version__}"  # whichever of its distributions brought it
    load = " ".join(f"{value:.1f}" for value in os.getloadavg()[:2])
    return (
        f"{time.strftime('%Y-%m-%d')}; {_processor()}, {os.cpu_count()} cores, load average {load} at the end; "
        f"Linux {platform.release()}, Python {platform.python_version()}, {versions}"
    )


def write_section(section: Section) -> None:
    """Prints the section and puts it in its place in RESULTS.md, by rename; the other sections stay."""
    sys.stdout.write(section.markdown())
    kept = {}
    if RESULTS.exists():
        for part in re.split(r"^(?=## )", RESULTS.read_text(), flags=re.MULTILINE)[1:]:
            kept[part.split("\n", 1)[0].removeprefix("## ").strip()] = part.rstrip() + "\n"
    kept[section.name] = section.markdown()
    unfinished = RESULTS.with_suffix(".new")
    unfinished.write_text("\n".join([_HEAD, *(kept[name] for name in ORDER if name in kept)]))
    unfinished.rename(RESULTS)
