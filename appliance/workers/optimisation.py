"""Writing a model's optimised graph, and finding out whether it answers as the model does and loads quicker.

Runs in a forked, confined child of low priority that writes into one fresh folder, answers one JSON text on its socket
and ends. What is kept of it, the gateway says.
"""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import IngleError
from appliance.workers.batch_trial import Kind, made
from appliance.workers.inspection import declared_sample
from appliance.workers.opening import open_graph
from appliance.workers.session import Session
from appliance.workers.spec import CachedGraph, WorkerSpec
from appliance.workers.text_session import Model, for_callers, model_inputs
from appliance.workers.verdict import GraphVerdict

Array = NDArray[Any]
Inputs = dict[str, Array]

# A graph must spare this share of a load and its first run, and this much time, to be worth its room on the disk.
_LEAST_SHARE = 0.1
_LEAST_S = 0.001
_ROUNDS = 3
_SLOW_LOAD_S = 2.0
_NICE = 19

_KINDS: tuple[Kind, ...] = ("mixed", "high", "low")


def run_optimisation(spec: WorkerSpec, sock: socket.socket) -> None:
    """The child's body: sends a GraphVerdict."""
    os.nice(_NICE)
    try:
        verdict = optimise(spec)
    except IngleError as error:
        verdict = GraphVerdict(refused=error.sentence)
    except MemoryError:
        verdict = GraphVerdict(refused="optimising needs more memory than the model's limit")
    except Exception as error:
        verdict = GraphVerdict(refused=f"{type(error).__name__}: {error}"[:600])
    sock.sendall(msgspec.json.encode(verdict))


def optimise(spec: WorkerSpec) -> GraphVerdict:
    """Writes the graph into `spec.output`, opens it anew and compares. Raises IngleError where either does not open."""
    model, written = Path(spec.folder, "model.onnx"), Path(spec.output, "model.onnx")
    original = Session(model, threads=1, providers=spec.providers, write_to=written)
    graph = CachedGraph(spec.output, {item.name: item.stat().st_size for item in Path(spec.output).iterdir()})
    cached = open_graph(graph, spec)
    if cached.signature != original.signature:
        return GraphVerdict(refused="the optimised graph takes or gives other tensors than the model")
    samples = _samples(spec, original)
    if not samples:
        return GraphVerdict(refused="no made-up row runs, so nothing shows that the graph answers as the model does")
    for sample in samples:
        if not _equal(original.run(sample), cached.run(sample)):
            return GraphVerdict(refused="the optimised graph answers otherwise than the model")
    del original, cached
    original_s = cached_s = float("inf")
    for _ in range(_ROUNDS):
        original_s = min(original_s, _spent_s(lambda: Session(model, threads=1, providers=spec.providers), samples[0]))
        cached_s = min(cached_s, _spent_s(lambda: open_graph(graph, spec), samples[0]))
        if original_s > _SLOW_LOAD_S:
            break
    if cached_s > (1 - _LEAST_SHARE) * original_s or original_s - cached_s < _LEAST_S:
        return GraphVerdict(
            refused=f"loading it is no quicker: {cached_s * 1e3:.1f} ms against {original_s * 1e3:.1f} ms"
        )
    return GraphVerdict(original_s=original_s, cached_s=cached_s)


def _samples(spec: WorkerSpec, session: Session) -> list[Inputs]:
    """Inputs that the model runs on: the manifest's sample, and made-up rows of several kinds and numbers."""
    callers = for_callers(session, spec.manifest, Path(spec.folder))
    inputs = [item for item in callers.signature.inputs if not item.optional]
    offered = [
        {item.name: made(item, rows, seed, free=free, below=below, kind=kind) for item in inputs}
        for seed, (rows, free, below) in enumerate(((1, 1, 5), (3, 3, 2), (2, 1, 1)))
        for kind in _KINDS
    ]
    if (declared := declared_sample(spec.manifest, callers.signature)) is not None:
        offered.insert(0, declared)
    return [fed for sample in offered if (fed := _fed(callers, sample)) is not None and _runs(session, fed)]


def _fed(callers: Model, sample: Inputs) -> Inputs | None:
    try:
        return model_inputs(callers, sample)
    except IngleError:
        return None


def _runs(session: Session, sample: Inputs) -> bool:
    try:
        session.run(sample)
    except IngleError:
        return False
    return True


def _equal(expected: list[Array], found: list[Array]) -> bool:
    """To the bit, since processor, kernels and threads are the same; a not-a-number equals another."""
    return len(expected) == len(found) and all(
        one.dtype == other.dtype
        and one.shape == other.shape
        and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
        for one, other in zip(expected, found, strict=True)
    )


def _spent_s(load: Callable[[], Session], sample: Inputs) -> float:
    """Processor time of a load and its first run, when mapped weights are first read. Not the clock's time: this child
    gives way to all others."""
    began_s = time.process_time()
    load().run(sample)
    return time.process_time() - began_s
