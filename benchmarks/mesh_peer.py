"""What a call through a peer costs, both nodes on one host: `python -m benchmarks.mesh_peer`.

The tiny model lies on one of two nodes. It is called there, and through the other, which hands the call on. Then a
model that copies 600 KB, through the other node, against a bare ZeroMQ echo with CURVE of as many bytes.
"""

import sys
from functools import partial
from pathlib import Path

from benchmarks.baselines.curve_echo import curve_load
from benchmarks.calls import Call, call_of
from benchmarks.http_load import http_load
from benchmarks.measured import LoadError, Measured, Ratio, interleave, median_of
from benchmarks.meshed import Meshed, answers_everywhere, on_a_lan, place
from benchmarks.models import BenchmarkModel, identity, tiny
from benchmarks.processes import running
from benchmarks.report import Section, verdict, write_section
from benchmarks.throughput import COLUMNS, rows_of
from tests.mesh.lan import Host
from tests.mesh.meshes import WITHOUT_MEMORY, MeshNode

_ROUNDS = 9
_SECONDS = 2.0
_OTHER_PORTS = ("--open", "--http", "0.0.0.0:9000", "--grpc", "off", "--zmq", "off", "--mesh", "0.0.0.0:9004")
_GOAL_S, _GOAL_SHARE, _GOAL_ECHO = 0.0006, 0.5, 0.7


def _two_on_one_host(meshed: Meshed) -> tuple[MeshNode, MeshNode]:
    """A node that will have the models, and one that will not."""
    host = meshed.lan.host("box")
    has = meshed.mesh.make("has", host)
    asks = meshed.mesh.make("asks", host, flags=_OTHER_PORTS + WITHOUT_MEMORY)
    for node in (has, asks):
        node.begin()
    for node in (has, asks):
        node.wait_ready()
    meshed.mesh.wait_all_see_all()
    return has, asks


def _placed(meshed: Meshed, model: BenchmarkModel, has: MeshNode, asks: MeshNode) -> Call:
    file = model.write(meshed.folder)
    place(model.name, file.read_bytes(), [has])
    answers_everywhere(model.name, [has, asks])
    return call_of(model, file)


def _binary(host: Host, node: MeshNode, call: Call, concurrency: int, seconds: float) -> Measured:
    address = f"127.0.0.1:{node.told['http'].rpartition(':')[2]}"
    with host.entered():
        return http_load(
            address, call.binary_request(address), call.check_binary, concurrency=concurrency, seconds=seconds
        )


def _still_runs_elsewhere(asks: MeshNode, has: MeshNode, call: Call) -> None:
    node = asks.call(call.name, {"x": call.row.tolist()}).headers["x-ingle-node"]
    if node != has.name:
        raise LoadError(f"the model is no longer on {has.name} alone: {node} ran it")


def measure(rounds: int = _ROUNDS, seconds: float = _SECONDS) -> Section:
    """Rounds of all in turn."""
    with on_a_lan() as meshed:
        has, asks = _two_on_one_host(meshed)
        box = has.host
        small, large = _placed(meshed, tiny, has, asks), _placed(meshed, identity, has, asks)
        contestants = {}
        for callers in (1, 32):
            contestants[f"tiny, local, {callers}"] = partial(_binary, box, has, small, callers, seconds)
            contestants[f"tiny, through a peer, {callers}"] = partial(_binary, box, asks, small, callers, seconds)
        ready_file = Path(meshed.folder, "echo.ready")
        command = [sys.executable, "-m", "benchmarks.baselines.curve_echo", str(ready_file)]
        with running(command, ready_file.exists, log=Path(meshed.folder, "echo.log")):
            told = ready_file.read_text()
            message = large.row.tobytes()
            for callers in (1, 4):
                echo = partial(curve_load, told, message, concurrency=callers, seconds=seconds)
                contestants[f"600 KB, bare CURVE echo, {callers}"] = echo
                contestants[f"600 KB, local, {callers}"] = partial(_binary, box, has, large, callers, seconds)
                contestants[f"600 KB, through a peer, {callers}"] = partial(_binary, box, asks, large, callers, seconds)
            turns = interleave(contestants, rounds)
        for call in (small, large):
            _still_runs_elsewhere(asks, has, call)
    calls = {name: [turn.calls_per_s for turn in own] for name, own in turns.items()}
    ratios = {
        f"{what}, through a peer, {callers}": Ratio.of(
            calls[f"{what}, through a peer, {callers}"], calls[f"{what}, {against}, {callers}"]
        )
        for what, against, callers in (
            ("tiny", "local", 1),
            ("tiny", "local", 32),
            ("600 KB", "bare CURVE echo", 1),
            ("600 KB", "bare CURVE echo", 4),
        )
    }
    near, far = (median_of(turns[f"tiny, {way}, 1"], lambda turn: turn.p50_s) for way in ("local", "through a peer"))
    return Section(
        "mesh_peer",
        "Two nodes on one host, V2 binary, load generator on the same cores; ratio of calls a second to the local "
        "call, and for 600 KB each way to the bare echo.",
        COLUMNS,
        rows_of(turns, ratios),
        [
            verdict("p50 through a peer over local, ms, 1 caller", (far - near) * 1e3, _GOAL_S * 1e3, at_most=True),
            verdict(
                "calls a second, through a peer, 32 callers", ratios["tiny, through a peer, 32"].median, _GOAL_SHARE
            ),
            verdict("600 KB over the bare echo, 1 caller", ratios["600 KB, through a peer, 1"].median, _GOAL_ECHO),
            verdict("600 KB over the bare echo, 4 callers", ratios["600 KB, through a peer, 4"].median, _GOAL_ECHO),
        ],
    )


if __name__ == "__main__":
    write_section(measure())
