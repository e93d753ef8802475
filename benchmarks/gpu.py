"""What a GPU's inference costs by way of the node: `python -m benchmarks.gpu`, on a box with an NVIDIA GPU.

Three nets, V2 binary, a node with `--device cuda` and nothing pinned, held against `session.run` in a loop on the same
GPU without TF32, as the node computes; the loop with TF32, onnxruntime's default, and one on the CPU stand beside it.
Then the device's memory: models beside each other in the node's one process, against one bare process.
"""

import http.client
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pynvml

from benchmarks.calls import Call, call_of
from benchmarks.http_load import http_load
from benchmarks.measured import Measured, Ratio, interleave, median_of
from benchmarks.models import BenchmarkModel, convnet, mlp, residual
from benchmarks.processes import Node, bare_session, deploy, node, unload
from benchmarks.report import Section, microseconds, verdict, write_section

_ROUNDS = 3
_SECONDS = 1.0
_FEW, _MANY = 4, 32
_MODELS = 8
_COLD_ROUNDS = 5
_LOOK_S = 0.02
_MIB = 1024 * 1024
_NETS = (convnet, residual, mlp)
_LOOP = "`session.run` in a loop on the GPU, FP32"
_GOAL = 0.8


def _used_bytes() -> int:
    return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used)


def _compared(model: BenchmarkModel, file: Path, served: Node) -> tuple[list[tuple[str, ...]], Ratio, Ratio]:
    """The rows of one model, and the node's ratios to the loop with few callers and with many."""
    call = call_of(model, file)
    request = call.binary_request(served.http)

    def through_node(callers: int) -> Measured:
        return http_load(served.http, request, call.check_binary, concurrency=callers, seconds=_SECONDS)

    def loop(device: str) -> Measured:
        return Measured(**bare_session(file, _SECONDS, device=device))

    nodes = {callers: f"node, {callers} caller{'s' if callers > 1 else ''}" for callers in (1, _FEW, _MANY)}
    contestants: dict[str, Callable[[], Measured]] = {
        _LOOP: partial(loop, "cuda-fp32"),
        "the same, TF32": partial(loop, "cuda"),
        "the same on the CPU, one thread": partial(loop, "cpu"),
    }
    turns = interleave(contestants | {name: partial(through_node, number) for number, name in nodes.items()}, _ROUNDS)
    base = [turn.calls_per_s for turn in turns[_LOOP]]
    ratios = {name: Ratio.of([turn.calls_per_s for turn in own], base) for name, own in turns.items()}
    rows: list[tuple[str, ...]] = [
        (
            model.name,
            name,
            f"{median_of(own, lambda turn: turn.calls_per_s):,.0f}",
            microseconds(median_of(own, lambda turn: turn.p50_s)),
            "" if name == _LOOP else str(ratios[name]),
        )
        for name, own in turns.items()
    ]
    return rows, ratios[nodes[_FEW]], ratios[nodes[_MANY]]


def _cold_s(call: Call, served: Node) -> float:
    """The median of first calls that find the model asleep."""
    took_s = []
    for _ in range(_COLD_ROUNDS):
        unload(served, call.name)
        took_s.append(_post(served, call))
    return statistics.median(took_s)


def _bare_process_bytes(file: Path) -> int:
    """What a bare process takes of the device's memory: the most that was in use while it ran, less what was before."""
    before = most = _used_bytes()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(bare_session, file, _SECONDS, device="cuda-fp32")
        while not running.done():
            most = max(most, _used_bytes())
            time.sleep(_LOOK_S)
        running.result()
    return most - before


def _share(file: Path, call: Call, served: Node) -> int:
    """Has the model deployed once more under so many names, each called once; what the device holds more for that."""
    before = _used_bytes()
    for number in range(_MODELS):
        name = f"beside-{number}"
        deploy(served, name, file.read_bytes())
        _post(served, replace(call, name=name))
    return _used_bytes() - before


def _post(served: Node, call: Call) -> float:
    """One call over a connection of its own, checked; how long it took."""
    head, _, body = call.binary_request(served.http).partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines()[1:])
    connection = http.client.HTTPConnection(served.http, timeout=60)
    connection.connect()
    started_s = time.perf_counter()
    connection.request("POST", f"/v2/models/{call.name}/infer", body, fields)
    content = connection.getresponse().read()
    took_s = time.perf_counter() - started_s
    connection.close()
    call.check_binary(content)
    return took_s


def measure() -> Section:
    """The nets, then what one process for all of them saves, and what a first call costs."""
    pynvml.nvmlInit()
    card = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))
    rows: list[tuple[str, ...]] = []
    verdicts = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {model.name: model.write(folder) for model in _NETS}
        call = call_of(residual, files["residual"])
        bare_bytes = _bare_process_bytes(files["residual"])
        before = _used_bytes()
        with node(list(files.values()), folder, {"INGLE_DEVICE": "cuda"}) as served:
            for model in _NETS:
                compared, few, many = _compared(model, files[model.name], served)
                rows += compared
                verdicts += [
                    verdict(f"{model.name}, {_FEW} callers", few.median, _GOAL),
                    verdict(f"{model.name}, {_MANY} callers, who share runs", many.median, 1.0),
                ]
            nets_bytes = _used_bytes() - before
            cold_s = _cold_s(call, served)
            more_bytes = _share(files["residual"], call, served)
    verdicts += [
        (
            f"memory of the device: a bare process with `residual` takes {bare_bytes / _MIB:,.0f} MiB, the node with "
            f"all nets {nets_bytes / _MIB:,.0f}, and {more_bytes / _MIB:,.0f} more with `residual` deployed {_MODELS} "
            "times more"
        ),
        f"a call that finds `residual` (76 MB) asleep: {cold_s * 1000:,.0f} ms, median of {_COLD_ROUNDS}",
    ]
    return Section(
        "gpu",
        f"{card}, driver {pynvml.nvmlSystemGetDriverVersion()}. `convnet`: {convnet.flops / 1e6:.0f} MFLOP, 602 KB a "
        f"call; `residual`: {residual.flops / 1e6:,.0f} MFLOP, 49 KB a call; `mlp`: {mlp.flops / 1e6:.0f} MFLOP, 256 "
        "bytes a call; V2 binary; ratio to the loop in FP32.",
        ("model", "", "calls a second", "p50, µs", "ratio"),
        rows,
        verdicts,
    )


if __name__ == "__main__":
    write_section(measure())
