"""A flood on one model and what another model's callers notice of it: `python -m benchmarks.flood`.

A model whose run takes 20 ms of one core is called in open loop at ten times what the node can answer, from a process
of its own. Meanwhile the tiny model is called 50 times a second; its times are set against those without a flood, in
turns. What the node cannot answer it must refuse, and that cheaply.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import orjson
from onnx import parser

from benchmarks.calls import Call, call_of
from benchmarks.http_load import http_load
from benchmarks.measured import LoadError, Ratio
from benchmarks.models import tiny
from benchmarks.open_loop import Answers, OpenLoop, evenly, run_open
from benchmarks.processes import ROOT, node
from benchmarks.report import Section, microseconds, verdict, whole, write_section

_ROUNDS = 5
_SECONDS = 8.0
_RUN_S = 0.02
_TIMES_CAPACITY = 10
_STEADY_PER_S = 50.0
_GOAL = 3.0
_SETTLED_S = 1.0  # the first second of the flood finds queues empty
_NAME = "burning"

# Loops do not share runs, and each turn costs a product of two matrices of 64 x 64.
_GRAPH = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,4] x) => (float[1,4] y) <bool go = {1}, int64 turns = {TURNS}, int64[2] square = {64, 64}>
{ first = ReduceMean <keepdims = 1> (x)
  v = Expand (first, square)
  last = Loop (turns, go, v) <body = b (int64 i, bool c, float[64,64] before) => (bool d, float[64,64] after)
    { d = Identity (c)
      product = MatMul (before, before)
      after = Tanh (product) }>
  mean = ReduceMean <keepdims = 1> (last)
  y = Add (x, mean) }"""


def burning_model(folder: Path, run_s: float) -> Call:
    """Writes a model whose run takes so long on one core of this machine; the call that is sent to it."""
    path = folder / f"{_NAME}.onnx"
    row = np.full((1, 4), 0.1, np.float32)
    turns = 200
    for _ in range(3):  # the first guess is measured, and again with what it says
        text = _GRAPH.replace("TURNS", str(turns))
        path.write_bytes(onnx.ModelProto.SerializeToString(parser.parse_model(text)))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        took_s = []
        for _ in range(5):
            began_s = time.process_time()
            (expected,) = session.run(None, {"x": row})
            took_s.append(time.process_time() - began_s)
        turns = max(1, round(turns * run_s / min(took_s)))
    return Call(_NAME, row, np.asarray(expected, np.float32))


@contextlib.contextmanager
def flooded(address: str, request: bytes, rate_per_s: float, seconds: float, folder: Path) -> Iterator[Path]:
    """While another process calls at this rate; yields the file in which it says what became of its calls."""
    file, said = folder / "flood.request", folder / "flood.json"
    file.write_bytes(request)
    said.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.flood", address, str(file), str(rate_per_s), str(seconds), str(said)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it is about to begin
        yield said
        if process.wait():
            raise LoadError(f"the flood ended with status {process.returncode}")


def flood(address: str, request: bytes, rate_per_s: float, seconds: float, said: Path) -> None:
    """The other process: calls, writes what became of the calls, and hangs up on those that still wait."""
    due = evenly(rate_per_s, seconds)
    stream = OpenLoop(address, request, lambda _: None, due)
    stream.patience_s = 0.0
    sys.stdout.write("begins\n")
    sys.stdout.flush()
    (answers,) = run_open(stream)
    refused = {str(status): count for status, count in answers.refused.items()}
    told = {"answered": len(answers.calls), "refused": refused, "unanswered": answers.unanswered}
    said.write_bytes(orjson.dumps(told))
    os._exit(0)


def measure(rounds: int = _ROUNDS, seconds: float = _SECONDS) -> Section:
    """Turns with and without a flood."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steady, burning = call_of(tiny, tiny.write(folder)), burning_model(folder, _RUN_S)
        models = [folder / f"{tiny.name}.onnx", folder / f"{_NAME}.onnx"]
        rows: list[tuple[str, ...]] = []
        alone_s: list[float] = []
        under_s: list[float] = []
        with node(models, folder) as served:
            request = burning.binary_request(served.http)
            capacity = http_load(served.http, request, burning.check_binary, concurrency=8, seconds=2.0).calls_per_s

            def steadily() -> Answers:
                due = evenly(_STEADY_PER_S, seconds)
                (answers,) = run_open(
                    OpenLoop(served.http, steady.binary_request(served.http), steady.check_binary, due)
                )
                if answers.failed:
                    raise LoadError(f"{answers.failed} of the steady calls failed: {dict(answers.refused)}")
                return answers

            steadily()  # the first turn finds the model cold
            for number in range(1, rounds + 1):
                alone = steadily()
                rate_per_s = _TIMES_CAPACITY * capacity
                with flooded(served.http, request, rate_per_s, seconds + _SETTLED_S, folder) as said:
                    under = steadily()
                told = orjson.loads(said.read_bytes())
                alone_s.append(alone.centile_s(99))
                under_s.append(under.centile_s(99, after_s=_SETTLED_S))
                rows.append(
                    (
                        f"round {number}",
                        microseconds(alone.median_s()),
                        microseconds(under.median_s()),
                        microseconds(alone_s[-1]),
                        microseconds(under_s[-1]),
                        whole(told["answered"]),
                        ", ".join(f"{count} x {status}" for status, count in told["refused"].items()) or "none",
                    )
                )
    ratio = Ratio.of(under_s, alone_s)
    return Section(
        "flood",
        f"Tiny model, {_STEADY_PER_S:.0f} calls a second in open loop, alone and beside {_TIMES_CAPACITY} times the "
        f"{capacity:.0f} calls a second that the node answers of a model of {_RUN_S * 1e3:.0f} ms. Load generators on "
        "the same cores.",
        ("", "p50 alone, µs", "p50 flooded, µs", "p99 alone, µs", "p99 flooded, µs", "flood: answered", "refused"),
        rows,
        [verdict(f"p99 flooded over p99 alone ({ratio})", ratio.median, _GOAL, at_most=True)],
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        place, what, rate, length, answer_file = sys.argv[1:]
        flood(place, Path(what).read_bytes(), float(rate), float(length), Path(answer_file))
    else:
        write_section(measure())
