"""Half an hour of everything at once, and what of it stays: `python -m benchmarks.soak [MINUTES]`.

One node with memory for a few of its models is called over V2 (JSON, binary and gRPC) and with plain calls, gets wrong
calls and callers that hang up, new versions, aliases that move and deletions, all the time. Every five seconds the
gateway's and the zygote's own memory (USS), their descriptors and the workers are counted. What the first five minutes
bring is warmth; what comes later would be a leak. Not part of `make bench`, for it takes its time.
"""

import base64
import contextlib
import json
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import grpc
import psutil
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.calls import Call, call_of
from benchmarks.measured import LoadError
from benchmarks.models import convnet, mlp, tiny
from benchmarks.pinning import children_of
from benchmarks.processes import Node, node
from benchmarks.report import Section, verdict, write_section

_MINUTES = 30.0
_WARM_MINUTES = 5.0
_LOOK_S = 5.0
_MODELS = 24
_ENVIRONMENT = {"INGLE_MEMORY_BUDGET": "160MiB"}
_CALLERS = 4
_REST_S = 0.02  # between two calls of one caller: this is about what stays, not about speed
_GOAL_MB = 1.0


class Look(NamedTuple):
    """One look at the node's own processes."""

    at_s: float
    gateway_bytes: int
    zygote_bytes: int
    gateway_descriptors: int
    zygote_descriptors: int
    workers: int


Figure = Callable[[Look], float]
# What is counted, its unit, and by how much it may have grown in the end.
_FIGURES: tuple[tuple[str, Figure, float, float], ...] = (
    ("gateway's USS, MB", lambda look: look.gateway_bytes, 1e6, _GOAL_MB),
    ("zygote's USS, MB", lambda look: look.zygote_bytes, 1e6, _GOAL_MB),
    ("gateway's descriptors", lambda look: look.gateway_descriptors, 1.0, 10.0),
    ("zygote's descriptors", lambda look: look.zygote_descriptors, 1.0, 10.0),
)


class Soak:
    """The load: threads that call until told to stop, and what came of it."""

    def __init__(self, served: Node, calls: list[tuple[Call, bytes]]) -> None:
        self._node = served
        self._calls = calls  # with the file of each model
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.outcomes: Counter[str] = Counter()

    def run(self, seconds: float, look: Callable[[], None]) -> None:
        threads = [threading.Thread(target=self._caller, args=(seed,)) for seed in range(_CALLERS)]
        threads += [threading.Thread(target=self._grpc_caller), threading.Thread(target=self._owner)]
        threads += [threading.Thread(target=self._nuisance)]
        for thread in threads:
            thread.start()
        ends_s = time.monotonic() + seconds
        try:
            while time.monotonic() < ends_s:
                look()
                time.sleep(_LOOK_S)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _count(self, outcome: str) -> None:
        with self._lock:
            self.outcomes[outcome] += 1

    def _ask(self, method: str, path: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        request = urllib.request.Request(f"http://{self._node.http}{path}", body, method=method)
        request.add_header("Authorization", f"Bearer {self._node.admin_key}")
        for name, value in ({"Content_Type": "application/json"} | headers).items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def _caller(self, seed: int) -> None:
        """Models by a power law, so that some are always warm and others are started and give way again and again."""
        chance = random.Random(seed)
        while not self._stop.wait(_REST_S):
            index = min(len(self._calls) - 1, int(chance.paretovariate(0.8)) - 1)
            call, _ = self._calls[index]
            if chance.random() < 0.5:
                status, body = self._ask("POST", f"/v2/models/{call.name}/infer", call.json_body())
                if status == 200:
                    call.check_json(body)
            else:
                status, body = self._ask("POST", f"/v1/models/{call.name}", json.dumps(call.row.tolist()).encode())
            self._count("answered" if status == 200 else f"status {status}: {body[:120]!r}")

    def _grpc_caller(self) -> None:
        calls = self._calls[: _MODELS // 2]
        key = (("authorization", self._node.admin_key),)
        with grpc.insecure_channel(self._node.grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            index = 0
            while not self._stop.wait(_REST_S):
                call, _ = calls[index % len(calls)]
                index += 1
                message = service_pb2.ModelInferRequest.FromString(call.grpc_message())
                answer = stub.ModelInfer(message, metadata=key, timeout=120)
                call.check_grpc(answer.SerializeToString())
                self._count("answered over gRPC")

    def _owner(self) -> None:
        """Deploys, moves aliases, loads, unloads and deletes."""
        call, file = self._calls[0]
        turn = 0
        while not self._stop.wait(1.0):
            turn += 1
            name = f"passing-{turn % 5}"
            self._owned("PUT", f"/v1/models/{name}:{turn}.0.0", file)
            self._owned("PUT", f"/v1/models/local/{name}/aliases/prod", f'{{"version": "{turn}.0.0"}}'.encode())
            self._owned("POST", f"/v2/models/{name}/infer", call.json_body())
            loaded = base64.b64encode(file).decode()
            parameters = {"parameters": {"config": "{}", "file:1/model.onnx": loaded}}
            self._owned("POST", "/v2/repository/models/loaded/load", json.dumps(parameters).encode())
            self._owned("POST", "/v2/repository/models/loaded/unload", b"{}")
            if turn > 5:
                self._owned("DELETE", f"/v1/models/passing-{(turn + 1) % 5}", b"")

    def _owned(self, method: str, path: str, body: bytes) -> None:
        status, text = self._ask(method, path, body)
        self._count(f"{method} done" if status in (200, 201, 204) else f"{method} status {status}: {text[:120]!r}")

    def _nuisance(self) -> None:
        """Wrong calls, and callers that hang up in the middle."""
        host, _, port = self._node.http.rpartition(":")
        call, _ = self._calls[0]
        while not self._stop.wait(0.2):
            self._ask("POST", f"/v2/models/{call.name}/infer", b'{"inputs": [')
            self._ask("POST", "/v2/models/nobody/infer", call.json_body())
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 10) as caller:
                caller.sendall(call.binary_request(self._node.http)[:-3])
            self._count("nuisance")


def _look(served: Node, started_s: float) -> Look:
    gateway = psutil.Process(served.pid)
    (zygote,) = (psutil.Process(pid) for pid in children_of(served.pid))
    return Look(
        time.monotonic() - started_s,
        gateway.memory_full_info().uss,
        zygote.memory_full_info().uss,
        gateway.num_fds(),
        zygote.num_fds(),
        len(children_of(zygote.pid)),
    )


def _window(looks: list[Look], value: Figure, from_s: float, to_s: float) -> tuple[float, float]:
    """The median and the lowest of what was seen in this time."""
    seen = [value(look) for look in looks if from_s <= look.at_s < to_s]
    if not seen:
        raise LoadError("the soak was too short to say anything")
    return statistics.median(seen), min(seen)


def section(looks: list[Look], outcomes: Counter[str], minutes: float, warm_minutes: float) -> Section:
    """What of it stayed. The lowest figures of each time are compared: bodies of megabytes come and go under load, and
    what is left in between is what stays."""
    span_s = max(20.0, (minutes - warm_minutes) * 60 / 8)
    end_s, warm_s = looks[-1].at_s + 1.0, warm_minutes * 60
    rows, verdicts = [], []
    for what, value, scale, goal in _FIGURES:
        early, late = _window(looks, value, warm_s, warm_s + span_s), _window(looks, value, end_s - span_s, end_s)
        highest = max(value(look) for look in looks)
        shown = [f"{seen[0] / scale:.1f} ({seen[1] / scale:.1f})" for seen in (early, late)]
        rows.append((what, *shown, f"{highest / scale:.1f}"))
        growth = (late[1] - early[1]) / scale
        verdicts.append(verdict(f"growth of the {what} after the warm-up", growth, goal, at_most=True))
    most = max(look.workers for look in looks)
    told = "; ".join(f"{outcome}: {count:,}" for outcome, count in outcomes.most_common(12))
    return Section(
        "soak",
        f"{minutes:.0f} minutes of mixed load, {_MODELS} models and ever new ones on a budget of 160 MiB, at most "
        f"{most} workers at once. Medians, and the lowest in brackets, over {span_s:.0f} s from minute "
        f"{warm_minutes:.0f} on and over the last. {told}.",
        ("", f"from minute {warm_minutes:.0f}", "at the end", "highest"),
        rows,
        verdicts,
    )


def measure(minutes: float = _MINUTES, warm_minutes: float = _WARM_MINUTES) -> Section:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = [tiny, mlp, convnet]
        files = [kind.write(folder) for kind in kinds]
        with node([], folder, _ENVIRONMENT) as served:
            calls = []
            for index in range(_MODELS):
                kind, file = kinds[index % len(kinds)], files[index % len(kinds)]
                calls.append((call_of(kind, file, f"model-{index}"), file.read_bytes()))
            soak = Soak(served, calls)
            for call, content in calls:
                soak._owned("PUT", f"/v1/models/{call.name}", content)
            looks: list[Look] = []
            started_s = time.monotonic()
            soak.run(minutes * 60, lambda: looks.append(_look(served, started_s)))
    return section(looks, soak.outcomes, minutes, warm_minutes)


if __name__ == "__main__":
    write_section(measure(float(sys.argv[1]) if len(sys.argv) > 1 else _MINUTES))
