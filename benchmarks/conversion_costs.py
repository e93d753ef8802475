"""What a conversion costs, the comparison aside, against the bare library's own conversion of the same file.

    python -m benchmarks.conversion_costs [PYTHON ...]

Both in fresh processes of the same environment, in turn. Ours is timed as `ingle convert` starts it, from its process'
start (sandbox included) until it would compare; the bare one from its process' start to its end. The environments are
those that `make test-converters` and `make test-nets` made, or the PYTHONs named; what none of them has is said.
TensorFlow.js has no bare conversion that runs with these pins, so it is not among them.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import Section, verdict, write_section
from converters import isolation, registry
from converters.detection import detect
from converters.isolation import Environment, Limits
from converters.job import Job
from converters.looks.code import code
from converters.options import Options

GOAL = 1.5
ROUNDS = 7
ROOT = Path(__file__).parents[1]
_AFTER = "opening it in onnxruntime"  # the step with which the comparison begins


class Case(NamedTuple):
    """`name` is the converter's and that of its functions in bare_conversions.py; `bare`: what that one is called."""

    name: str
    file: str
    bare: str
    modules: tuple[str, ...]


CASES = (
    Case("sklearn", "model.skops", "skl2onnx", ("sklearn", "skl2onnx", "skops")),
    Case("xgboost", "model.json", "onnxmltools", ("xgboost", "onnxmltools")),
    Case("lightgbm", "model.txt", "onnxmltools", ("lightgbm", "onnxmltools")),
    Case("catboost", "model.cbm", "save_model(format='onnx')", ("catboost",)),
    Case("torch", "model.pt2", "torch.onnx.export", ("torch", "onnxscript")),
    Case("keras", "model.keras", "model.export(format='onnx')", ("keras", "torch", "onnxscript")),
    Case("tensorflow", "model", "tf2onnx", ("tensorflow", "tf2onnx")),
    Case("jax", "model", "jax2onnx", ("jax", "flax", "jax2onnx")),
)


class Cost(NamedTuple):
    """Seconds of each round, in order."""

    case: Case
    ours_s: list[float]
    bare_s: list[float]

    @property
    def ratios(self) -> list[float]:
        return [ours / bare for ours, bare in zip(self.ours_s, self.bare_s, strict=True)]


def measure(pythons: Sequence[Path] = (), *, rounds: int = ROUNDS, cases: Sequence[Case] = CASES) -> Section:
    """Raises SystemExit where no environment has any of the frameworks."""
    found = list(pythons) or list(_environments())
    costs, missing = [], []
    for case in cases:
        python = next((python for python in found if _has(python, case.modules)), None)
        if python is None:
            missing.append(case.name)
            continue
        costs.append(_cost(case, python, rounds))
        sys.stderr.write(f"{case.name}: {statistics.median(costs[-1].ratios):.2f}\n")
    if not costs:
        raise SystemExit(
            "no environment has any framework: run 'make test-converters test-nets' before, or name PYTHONs"
        )
    return section(costs, missing)


def section(costs: Sequence[Cost], missing: Sequence[str]) -> Section:
    rows = []
    for cost in costs:
        ratios = cost.ratios
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        seconds = [f"{statistics.median(figures):.2f}" for figures in (cost.bare_s, cost.ours_s)]
        rows.append([cost.case.name, cost.case.bare, *seconds, spread])
    verdicts = [verdict(cost.case.name, statistics.median(cost.ratios), GOAL, at_most=True) for cost in costs]
    if missing:
        verdicts.append(f"not measured, as no environment has what it takes: {', '.join(missing)}")
    text = (
        "Seconds of a conversion, the comparison aside, and of the bare library's own conversion of the same file, "
        f"each from the start of a fresh process; medians of {len(costs[0].ours_s)} interleaved rounds."
    )
    return Section("conversion_costs", text, ("framework", "bare", "bare, s", "ours, s", "ours / bare"), rows, verdicts)


def _environments() -> Iterator[Path]:
    for folder in (Path(sys.prefix), ROOT / ".venv-converters", *sorted((ROOT / ".venv-nets").glob("*"))):
        if (folder / "bin" / "python").exists():
            yield folder / "bin" / "python"


def _has(python: Path, modules: Sequence[str]) -> bool:
    words = f"import importlib.util, sys; sys.exit(not all(map(importlib.util.find_spec, {modules!r})))"
    return subprocess.run([str(python), "-c", words], check=False, capture_output=True).returncode == 0


def _cost(case: Case, python: Path, rounds: int) -> Cost:
    cost = Cost(case, [], [])
    with tempfile.TemporaryDirectory(prefix="ingle-costs-") as folder:
        model, target = Path(folder) / case.file, Path(folder) / "bare.onnx"
        _run(python, "make", case.name, str(model))
        for number in range(-1, rounds):  # the first round warms the files' cache, and is not counted
            taken = {}
            for word in ("bare", "ours") if number % 2 else ("ours", "bare"):
                taken[word] = _ours_s(python, case, model) if word == "ours" else _bare_s(python, case, model, target)
            if number >= 0:
                cost.ours_s.append(taken["ours"])
                cost.bare_s.append(taken["bare"])
    return cost


def _bare_s(python: Path, case: Case, model: Path, target: Path) -> float:
    began_s = time.monotonic()
    _run(python, "bare", case.name, str(model), str(target))
    taken_s = time.monotonic() - began_s
    target.unlink()  # raises where nothing was written
    return taken_s


def _run(python: Path, *words: str) -> None:
    threads = str(min(4, os.cpu_count() or 1))  # as a conversion has them
    environment = os.environ | {"OMP_NUM_THREADS": threads, "ORT_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT)}
    command = [str(python), "-m", "benchmarks.bare_conversions", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:2])} failed: {done.stderr.strip()[-600:]}")


def _ours_s(python: Path, case: Case, model: Path) -> float:
    as_code = case.name == "jax"
    detected = code("net_of_jax", "make", model) if as_code else detect(model)
    converter = registry.converter_of(detected, name=case.name)
    until_s = 0.0

    def on_step(step: str) -> None:
        nonlocal until_s
        if step == _AFTER:
            until_s = time.monotonic()

    with isolation.workplace() as work:
        job = Job(
            source="net_of_jax:make" if as_code else str(model),
            detected=detected,
            framework=converter.name,
            folder=str(work / "bundle"),
            options=Options(inputs=("x=FP32[n,64]",) if as_code else ()),
            processes=converter.needs_processes,
            code_folder=str(model) if as_code else "",
            rows=8,
        )
        began_s = time.monotonic()
        done = isolation.run(job, Limits(), environment=Environment(str(python), str(ROOT)), on_step=on_step)
    if not done.record.parity.within or not until_s:
        raise RuntimeError(f"{case.name}: the conversion was not within tolerance, and says nothing")
    return until_s - began_s


if __name__ == "__main__":
    write_section(measure([Path(word) for word in sys.argv[1:]]))
