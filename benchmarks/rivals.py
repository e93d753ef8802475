"""The node beside other servers from PyPI: `python -m benchmarks.rivals`.

Tiny model, V2 JSON where a server speaks it and its own JSON where not, one caller and 32. Each server lives in an
environment of its own, made at first use, and runs as installed with one model worker; the bare aiohttp server is
there as the common measure. Whoever has no turn is stopped (SIGSTOP), for some poll while idle.
"""

import contextlib
import functools
import json
import os
import signal
import socket
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks.calls import Call, call_of
from benchmarks.closed_loop import Check
from benchmarks.environments import environment, installed_version
from benchmarks.http_load import http_load, http_request
from benchmarks.measured import LoadError, Measured, Ratio, interleave, median_of
from benchmarks.models import tiny
from benchmarks.processes import bare_server, node, running
from benchmarks.report import Section, microseconds, verdict, whole, write_section

_ROUNDS = 5
_SECONDS = 2.0
_CONCURRENCY = 32
_GOAL = 4.0
# Its workers ask for an event loop that newer uvloops no longer make.
_MLSERVER = ("mlserver==1.7.1", "uvloop==0.21.0", "onnxruntime")
_LITSERVE = ("litserve==0.2.19", "onnxruntime")
_MOSEC = ("mosec==0.9.8", "onnxruntime")


@dataclass(frozen=True)
class Contestant:
    """A server that answers. `group` is the process group that is stopped between its turns; 0: it is left alone."""

    name: str
    address: str
    request: bytes
    check: Check
    group: int = 0

    def load(self, concurrency: int) -> Measured:
        if self.group:
            os.killpg(self.group, signal.SIGCONT)
        try:
            return http_load(self.address, self.request, self.check, concurrency=concurrency, seconds=_SECONDS)
        except LoadError as error:
            raise LoadError(f"{self.name}: {error}") from None
        finally:
            if self.group:
                os.killpg(self.group, signal.SIGSTOP)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _answers(url: str) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    return ask


def _check_field(call: Call) -> Check:
    return lambda body: call.same(orjson.loads(body)["y"])


@contextlib.contextmanager
def _mlserver(model: Path, call: Call, folder: Path) -> Iterator[Contestant]:
    python = environment("mlserver", _MLSERVER)
    http, grpc, metrics = _free_ports(3)
    served = folder / "mlserver"
    served.mkdir()
    settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    runtime = "benchmarks.rival_servers.mlserver_runtime.OnnxRuntime"
    described = {"name": call.name, "implementation": runtime, "parameters": {"uri": str(model)}}
    (served / "settings.json").write_text(json.dumps(settings))
    (served / "model-settings.json").write_text(json.dumps(described))
    command = [str(python.with_name("mlserver")), "start", str(served)]
    ready = _answers(f"http://127.0.0.1:{http}/v2/models/{call.name}/ready")
    with running(
        command, ready, log=folder / "mlserver.log", environment={"PYTHONPATH": "."}, own_group=True
    ) as process:
        address = f"127.0.0.1:{http}"
        name = f"MLServer {installed_version(python, 'mlserver')}, V2 JSON"
        yield Contestant(name, address, call.json_request(address), call.check_json, process.pid)


@contextlib.contextmanager
def _litserve(model: Path, call: Call, folder: Path) -> Iterator[Contestant]:
    python = environment("litserve", _LITSERVE)
    (port,) = _free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [str(python), "-m", "benchmarks.rival_servers.litserve_server", str(model), str(port)]
    with running(command, _answers(f"http://{address}/health"), log=folder / "litserve.log", own_group=True) as process:
        request = http_request(address, "/predict", orjson.dumps({"x": call.row.tolist()}))
        name = f"LitServe {installed_version(python, 'litserve')}, own JSON"
        yield Contestant(name, address, request, _check_field(call), process.pid)


@contextlib.contextmanager
def _mosec(model: Path, call: Call, folder: Path, batch: int) -> Iterator[Contestant]:
    python = environment("mosec", _MOSEC)
    (port,) = _free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [str(python), "-m", "benchmarks.rival_servers.mosec_server"]
    command += ["--address", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    surroundings = {"MODEL": str(model), "BATCH": str(batch), "TMPDIR": str(folder)}
    log = folder / f"mosec-{batch}.log"
    ready = _answers(f"http://{address}/")
    with running(command, ready, log=log, environment=surroundings, own_group=True) as process:
        request = http_request(address, "/inference", orjson.dumps({"x": call.row[0].tolist()}))
        mode = f"batches of {batch}" if batch > 1 else "no batching"
        name = f"Mosec {installed_version(python, 'mosec')}, own JSON, {mode}"
        yield Contestant(name, address, request, _check_field(call), process.pid)


def measure() -> Section:
    """Rounds of all of them in turn, at both concurrencies."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = tiny.write(folder)
        call = call_of(tiny, model)
        bare_address = stack.enter_context(bare_server("bare_http", model, folder))
        served = stack.enter_context(node([model], folder))
        ours = Contestant("node, V2 JSON", served.http, call.json_request(served.http), call.check_json)
        bare = Contestant("bare aiohttp, V2 JSON", bare_address, call.json_request(bare_address), call.check_json)
        mlserver = stack.enter_context(_mlserver(model, call, folder))
        contestants = [ours, bare, mlserver, stack.enter_context(_litserve(model, call, folder))]
        contestants += [stack.enter_context(_mosec(model, call, folder, batch)) for batch in (1, _CONCURRENCY)]
        for contestant in contestants:
            contestant.load(1)  # warm, and stopped from here on
        many = interleave({one.name: functools.partial(one.load, _CONCURRENCY) for one in contestants}, _ROUNDS)
        single = interleave({one.name: functools.partial(one.load, 1) for one in contestants}, _ROUNDS)
    calls = {name: [turn.calls_per_s for turn in own] for name, own in many.items()}
    ratios = {name: Ratio.of(calls[ours.name], own) for name, own in calls.items() if name != ours.name}
    rows = [
        (
            name,
            microseconds(median_of(single[name], lambda turn: turn.p50_s)),
            whole(median_of(own, lambda turn: turn.calls_per_s)),
            microseconds(median_of(own, lambda turn: turn.p99_s)),
            str(ratios.get(name, "")),
        )
        for name, own in many.items()
    ]
    return Section(
        "rivals",
        f"Tiny model, one caller and {_CONCURRENCY}; every server with one model worker, otherwise as pip installs it.",
        ("", "p50 at 1, µs", "calls a second at 32", "p99 at 32, µs", "node's calls over its"),
        rows,
        [verdict("throughput over MLServer's", ratios[mlserver.name].median, _GOAL)],
    )


if __name__ == "__main__":
    write_section(measure())
