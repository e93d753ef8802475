"""Meshes of real nodes: `ingle serve` on hosts of a LAN, with the faults that befall boxes.

    with Lan() as lan, Mesh(lan, folder) as mesh:
        a, b = mesh.start("a", "b")
        b.deploy("local/double", model.read_bytes())
        a.ask("GET", "/v1/nodes")
        b.kill()

Nodes listen where they do when nobody says otherwise, for each has a host of its own unless it is told one. They die
with the thread that started them. Runs in the test's or the benchmark's process.
"""

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tests.mesh.lan import ROOT, Host, Lan

START_TIMEOUT_S = 60.0
# The node that is being worked on.
PACKAGE = (sys.executable, "-m", "appliance.cli.main")
_STOP_TIMEOUT_S = 40.0
# Flags of a node that warms no model: a mesh copies what is slow to answer to where there is memory for it, which is
# not wanted of an entry node whose calls are to go to others.
WITHOUT_MEMORY = ("--memory-budget", "1MiB")
_ASK_TIMEOUT_S = 60.0
# The node dies with whoever started it, and with nothing between them that would have to be killed too.
_DIES_WITH_ITS_PARENT = ("setpriv", "--pdeathsig", "KILL")


class NodeError(Exception):
    """A node did not do what was asked of it."""


@dataclass(frozen=True)
class Reply:
    """An answer over HTTP; `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class MeshNode:
    """One node: where it is, and what can be done to it. Started again it keeps its data, its name and its host."""

    def __init__(
        self,
        name: str,
        host: Host,
        folder: Path,
        key: str | None,
        flags: tuple[str, ...],
        program: tuple[str, ...] = PACKAGE,
    ) -> None:
        self.name = name
        self.host = host
        self.folder = folder
        self.log = folder / "node.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.told: dict[str, Any] = {}
        self._key = key
        self._flags = flags
        self._program = program

    def begin(self, *, environment: Mapping[str, str] | None = None) -> None:
        """Starts it; it answers once wait_ready() has returned."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._ready_file.unlink(missing_ok=True)
        command = [*_DIES_WITH_ITS_PARENT, *self._program, "serve", "--name", self.name]
        command += ["--data-dir", str(self.folder / "data"), "--ready-file", str(self._ready_file), *self._flags]
        given = {name: value for name, value in os.environ.items() if not name.startswith("INGLE_")}
        if self._key is not None:
            given["INGLE_MESH_KEY"] = self._key
        with self.host.entered(), self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=given | dict(environment or {}),
            )

    def wait_ready(self) -> None:
        """Raises NodeError with its last words where it ends first or takes a minute."""
        ends_s = time.monotonic() + START_TIMEOUT_S
        while not self._ready_file.exists():
            if self._process.poll() is not None or time.monotonic() > ends_s:
                raise NodeError(f"{self.name} did not start; it said: {self.last_words()}")
            time.sleep(0.005)
        self.told = json.loads(self._ready_file.read_text())

    def restart(self) -> None:
        """Starts it again after its end, and returns when it is ready."""
        self.begin()
        self.wait_ready()

    # What it is asked

    @property
    def url(self) -> str:
        """Of HTTP, as other hosts reach it."""
        return f"http://{self.host.ipv4}:{self.told['http'].rpartition(':')[2]}"

    @property
    def ready_since_s(self) -> float:
        """When its ready file was written, in seconds since 1970."""
        return self._ready_file.stat().st_mtime

    @property
    def admin_key(self) -> str:
        return Path(self.told["admin_key_file"]).read_text().strip()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = _ASK_TIMEOUT_S,
    ) -> Reply:
        """Asks over HTTP from the node's own host, as the administrator. Raises OSError where it cannot be reached."""
        port = int(self.told["http"].rpartition(":")[2])
        with self.host.entered():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
            try:
                connection.request(method, path, body, {"Authorization": f"Bearer {self.admin_key}", **(headers or {})})
                answer = connection.getresponse()
                return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
            finally:
                connection.close()

    def deploy(self, model: str, upload: bytes, query: str = "") -> None:
        """Under `owner/name` on this node. Raises NodeError where it refuses."""
        answer = self.ask("PUT", f"/v1/models/{model}{query}", upload)
        if answer.status not in (200, 201):
            raise NodeError(f"{self.name} refused {model}: {answer.body[:500]!r}")

    def call(self, model: str, inputs: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Reply:
        """A plain call through this node."""
        given = {"Content-Type": "application/json", **(headers or {})}
        return self.ask("POST", f"/v1/models/{model}", json.dumps(inputs), given)

    def nodes(self) -> dict[str, dict[str, Any]]:
        """What it says of each node that it knows, by name; it knows itself."""
        return {each["name"]: each for each in self.ask("GET", "/v1/nodes").json["nodes"]}

    def sees(self) -> set[str]:
        """The names of the nodes that it would give calls to, itself too."""
        known = self.nodes().items()
        return {name for name, node in known if node["state"] == "ready" and node.get("standing", "alive") == "alive"}

    # What befalls it

    def kill(self) -> None:
        """As `kill -9`: its host stays, so that what knocks is told that nobody is there."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """All its processes stand still, and its connections stay open, until thaw()."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def stop(self) -> int:
        """As a person ends it: it drains first. Its exit status. Raises NodeError where it does not end."""
        self._process.terminate()
        try:
            return self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise NodeError(f"{self.name} does not end; it said: {self.last_words()}") from None

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """The gateway and all that it started."""
        gateway = psutil.Process(self._process.pid)
        return [gateway, *gateway.children(recursive=True)]

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    @property
    def _process(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise NodeError(f"{self.name} was not started")
        return self.process

    @property
    def _ready_file(self) -> Path:
        return self.folder / "ready.json"

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


class Mesh:
    """Nodes with one mesh key on a LAN, each in a folder of its own."""

    def __init__(self, lan: Lan, folder: Path, program: tuple[str, ...] = PACKAGE) -> None:
        self.lan = lan
        self.folder = folder
        self.program = program
        self.key = secrets.token_hex(32)
        self.nodes: dict[str, MeshNode] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Kills what still runs: how nodes end well is for tests of that."""
        for node in self.nodes.values():
            if node.is_running:
                node.kill()

    def start(self, *names: str, flags: tuple[str, ...] = ("--open",)) -> list[MeshNode]:
        """Nodes of these names, all at once, each on a new host of its name; returns when all are ready."""
        made = [self.make(name, self.lan.host(name), flags=flags) for name in names]
        for node in made:
            node.begin()
        for node in made:
            node.wait_ready()
        return made

    def make(self, name: str, host: Host, *, flags: tuple[str, ...] = ("--open",), key: str | None = "") -> MeshNode:
        """A node that is not started yet. `key`: another mesh's; None: it is told none."""
        node = MeshNode(name, host, self.folder / name, self.key if key == "" else key, flags, self.program)
        self.nodes[name] = node
        return node

    def wait_all_see_all(self, timeout_s: float = 20.0) -> None:
        """Every running node sees every other one. Raises NodeError where that does not come to pass."""
        running = [node for node in self.nodes.values() if node.is_running]
        names = {node.name for node in running}
        until(lambda: all(node.sees() >= names for node in running), "all nodes see each other", timeout_s)


def answered(model: str, nodes: Iterable[MeshNode]) -> Counter[str]:
    """How many calls of a model each node has answered since its start, its peers' and its own callers'; by name."""
    counts: Counter[str] = Counter()
    for node in nodes:
        told = node.ask("GET", f"/v2/models/{model}/stats").json["model_stats"]
        counts[node.name] = sum(version["inference_count"] for version in told)
    return counts


def until(holds: Callable[[], bool], what: str, timeout_s: float = 20.0) -> float:
    """Waits for it; how many seconds that took. Raises NodeError with `what` where it does not come to pass."""
    began_s = time.monotonic()
    while not holds():
        if time.monotonic() > began_s + timeout_s:
            raise NodeError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.01)
    return time.monotonic() - began_s
