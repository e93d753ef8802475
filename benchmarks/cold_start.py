"""What a call costs that finds no worker: `python -m benchmarks.cold_start`.

A model at zero replicas is called once over a connection that is open, V2 binary. It is held against a fresh process
that has imported onnxruntime and then opens the model and runs it once, the goal being 1.5 times that and 20 ms.
Models: the tiny one, Magika's, and residual blocks of 76 MB, with much to fold and fuse. Two nodes: one that
has cached the optimised graphs, as a node does after a model's first load, and one that keeps none. Between rounds V2's
unload puts the model to sleep, and the round begins when its worker has gone.
"""

import functools
import http.client
import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.measured import LoadError
from benchmarks.models import residual, tiny
from benchmarks.processes import ROOT, Node, node
from benchmarks.report import Section, verdict, write_section

_ROUNDS = 9
_TIMES = 1.5
_PLUS_S = 0.020
_WAIT_S = 60.0
_DTYPES = {"tensor(float)": ("FP32", np.float32), "tensor(int32)": ("INT32", np.int32)}
_CACHED, _OWN = "node, cached graph", "node, own file"


@dataclass(frozen=True)
class _Model:
    """A model's file and one row for it, as the bare process reads it and as the node does."""

    path: Path
    bare_request: Path
    body: bytes
    head_size: int

    @property
    def name(self) -> str:
        return self.path.stem


def _with_row(path: Path) -> _Model:
    """The model with one row of seeded numbers of each of its inputs."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(7)
    bare, v2, raw = [], [], b""
    for item in session.get_inputs():
        word, dtype = _DTYPES[item.type]
        shape = [size if isinstance(size, int) else 1 for size in item.shape]
        values = (random.integers(0, 256, shape) if word == "INT32" else random.standard_normal(shape)).astype(dtype)
        bare.append({"name": item.name, "dtype": np.dtype(dtype).name, "shape": shape})
        size = {"binary_data_size": values.nbytes}
        v2.append({"name": item.name, "datatype": word, "shape": shape, "parameters": size})
        raw += values.tobytes()
    request = path.with_suffix(".request")
    request.write_bytes(json.dumps(bare).encode() + b"\n" + raw)
    head = json.dumps({"inputs": v2, "parameters": {"binary_data_output": True}}).encode()
    return _Model(path, request, head + raw, len(head))


def _magika(folder: Path) -> Path | None:
    """A copy of the model that the installed package brings."""
    spec = importlib.util.find_spec("magika")
    if spec is None or spec.origin is None:
        return None
    found = sorted(Path(spec.origin).parent.glob("models/standard_*/model.onnx"))
    return Path(shutil.copy(found[-1], folder / "magika.onnx")) if found else None


def _bare_s(model: _Model) -> tuple[float, list[float]]:
    command = [sys.executable, "-m", "benchmarks.baselines.bare_load", str(model.path), str(model.bare_request)]
    told = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    return told["seconds"], told["first"]


class _Caller:
    """One open connection to a node."""

    def __init__(self, served: Node) -> None:
        self._connection = http.client.HTTPConnection(served.http, timeout=_WAIT_S)
        self._key = {"Authorization": f"Bearer {served.admin_key}"}

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> bytes:
        method = "GET" if body is None else "POST"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, body, self._key | named)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise LoadError(f"{path} answered {answer.status}: {content[:500]!r}")
        return content

    def shown(self, model: _Model) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.ask(f"/v1/models/{model.name}"))
        return told

    def put_to_sleep(self, model: _Model) -> None:
        self.ask(f"/v2/repository/models/{model.name}/unload", b"{}", Content_Type="application/json")
        self.wait(lambda: not self.shown(model)["workers"])

    @staticmethod
    def wait(true: Callable[[], bool]) -> None:
        gives_up_s = time.monotonic() + _WAIT_S
        while not true():
            if time.monotonic() > gives_up_s:
                raise LoadError("the node did not come to the state that the round begins with")
            time.sleep(0.005)

    def call_s(self, model: _Model, expected: list[float]) -> float:
        """Seconds of one call, which must be answered as the bare process answered it."""
        path, size = f"/v2/models/{model.name}/infer", str(model.head_size)
        self.ask("/livez")  # the connection is open, and whoever accepted it is done with that
        started_s = time.perf_counter()
        content = self.ask(path, model.body, Inference_Header_Content_Length=size)
        seconds = time.perf_counter() - started_s
        head, _ = json.JSONDecoder().raw_decode(content.decode("latin-1"))
        first = head["outputs"][0]
        rest = sum(output["parameters"]["binary_data_size"] for output in head["outputs"])
        got = np.frombuffer(content, np.float32, min(8, int(np.prod(first["shape"]))), len(content) - rest)
        if not np.allclose(got, expected[: len(got)], 1e-3, 1e-5):
            raise LoadError(f"{model.name} answered {got}, expected {expected}")
        return seconds

    def cold_s(self, model: _Model, expected: list[float]) -> float:
        self.put_to_sleep(model)
        return self.call_s(model, expected)

    def have_graph_tried(self, model: _Model, expected: list[float]) -> bool:
        """Calls the model until it is known whether its graph is worth keeping; whether it is. Magnitudes below what
        the node finds worth trying stay with their own file."""
        for _ in range(5):
            self.cold_s(model, expected)
            if self.shown(model)["workers"][0]["load_s"] >= 0.005 or "graph" in self.shown(model)["loads_from"]:
                break
        else:
            return False
        self.wait(lambda: self.shown(model)["loads_from"] != "its own file")
        return "cached" in str(self.shown(model)["loads_from"])


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f}"


def measure(rounds: int = _ROUNDS) -> Section:
    """Rounds of bare process, node with graphs and node without, for each model."""
    rows, verdicts = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [tiny.write(folder), _magika(folder), residual.write(folder)]
        models = [_with_row(path) for path in paths if path is not None]
        for side in ("with", "without"):
            (folder / side).mkdir()
        files = [model.path for model in models]
        with (
            node(files, folder / "with") as with_graphs,
            node(files, folder / "without", {"INGLE_WORKERS_GRAPH_CACHE": "0"}) as without,
        ):
            callers = {_CACHED: _Caller(with_graphs), _OWN: _Caller(without)}
            for model in models:
                expected = _bare_s(model)[1]
                cached = callers[_CACHED].have_graph_tried(model, expected)
                spent_s: dict[str, list[float]] = {"bare": [], _CACHED: [], _OWN: []}
                contestants: dict[str, Callable[[], float]] = {
                    "bare": lambda model=model: _bare_s(model)[0],  # type: ignore[misc]
                    **{key: functools.partial(caller.cold_s, model, expected) for key, caller in callers.items()},
                }
                for index in range(rounds):
                    for key in contestants if index % 2 == 0 else reversed(contestants):
                        spent_s[key].append(contestants[key]())
                bare_s = statistics.median(spent_s["bare"])
                for key, own in spent_s.items():
                    median_s = statistics.median(own)
                    label = "node, no graph kept: no quicker" if key == _CACHED and not cached else key
                    cells = [_milliseconds(median_s), _milliseconds(min(own)), _milliseconds(max(own))]
                    rows.append([model.name, label, *cells, "" if key == "bare" else f"{median_s / bare_s:.2f}"])
                node_s = statistics.median(spent_s[_CACHED])
                verdicts.append(
                    verdict(
                        f"{model.name}: (cold call - {_PLUS_S * 1e3:.0f} ms) over bare load and first run",
                        max(0.0, node_s - _PLUS_S) / bare_s,
                        _TIMES,
                        at_most=True,
                    )
                )
    return Section(
        "cold_start",
        "One call to a model at zero replicas, against opening the model and running it once in a process that has "
        "imported onnxruntime.",
        ("model", "", "median, ms", "least", "most", "ratio to bare"),
        rows,
        verdicts,
    )


if __name__ == "__main__":
    write_section(measure())
