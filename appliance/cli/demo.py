"""`ingle demo`: a node of its own, a real model in it, real files identified through its HTTP API.

The model is Magika's (file types by content), which the PyPI package `magika` ships; nothing else of that package is
used. The node and all it stores are gone afterwards.
"""

import contextlib
import importlib.util
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import click

from appliance.cli.output import print_table
from appliance.cli.target import NodeFile, url_of
from appliance.client import Client
from appliance.core.errors import IngleError
from appliance.core.names import parse_name
from appliance.core.own_program import own_command

START_S = 60.0
MANIFEST = Path(__file__).with_name("magika.toml")


class Answer(NamedTuple):
    """What the model said of one file, and how long the caller waited."""

    file: Path
    label: str
    score: float
    ms: float


@click.command("demo", hidden=True)
@click.option("--once", is_flag=True, help="End after the answers instead of staying up.")
def command(once: bool) -> None:
    """Start a node, deploy Magika's model, identify files of this machine, and stay up until Ctrl-C."""
    model = _magika_model()
    signal.signal(signal.SIGTERM, _interrupt)
    with (
        contextlib.suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="ingle-demo-") as folder,
        _running_node(Path(folder)) as (process, node),
    ):
        url, key = url_of(node.http or ""), Path(node.admin_key_file).read_text().strip()
        click.echo(f"A node runs at {url} (pid {node.pid}), its data in {folder}.")
        answers = _identify(Client(url, key), model, Path(folder))
        print_table(
            ("FILE", "ANSWER", "SCORE", "MS"),
            [(a.file, a.label, f"{a.score:.3f}", f"{a.ms:.1f}") for a in answers],
            right=("SCORE", "MS"),
        )
        if not once:
            _tell(url, key, answers[-1].file)
            click.echo("\nThe node stays up until Ctrl-C.")
            process.wait()
            raise IngleError("the node ended by itself")


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _magika_model() -> Path:
    """The folder of the model. Found without importing the package, which would load an onnxruntime of its own."""
    spec = importlib.util.find_spec("magika")
    found = sorted(Path(spec.origin).parent.glob("models/standard_*/model.onnx")) if spec and spec.origin else []
    if not found:
        raise IngleError("the demo's model is not installed: 'make demo' does it, or 'pip install --no-deps magika'")
    return found[-1].parent


@contextlib.contextmanager
def _running_node(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], NodeFile]]:
    import msgspec

    ready, log = folder / "ready.json", folder / "node.log"
    arguments = ["--data-dir", folder / "data", "--ready-file", ready, "--zmq", "off", "--mesh", "off"]
    arguments += ["--http", f"127.0.0.1:{_free_or_any(8000)}", "--grpc", f"127.0.0.1:{_free_or_any(8001)}"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INGLE_")}
    with log.open("wb") as output:
        # A session of its own: Ctrl-C is for the demo, which then ends the node in order.
        process = subprocess.Popen(
            own_command("ingle", "serve", *map(str, arguments)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environ,
            start_new_session=True,
        )
    try:
        started = time.monotonic()
        while not ready.exists():
            if process.poll() is not None or time.monotonic() - started > START_S:
                last = log.read_text(errors="replace").strip().splitlines()[-20:]
                raise IngleError("\n".join(["the node did not start; its last words:", *last]))
            time.sleep(0.02)
        yield process, msgspec.json.decode(ready.read_bytes(), type=NodeFile)
    finally:
        process.terminate()
        process.wait()


def _free_or_any(port: int) -> int:
    """The usual port where nobody has it, else 0 for any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def _identify(client: Client, model: Path, folder: Path) -> list[Answer]:
    from appliance.catalogue.packing import find_package, stream

    labels = folder / "labels.txt"
    labels.write_text("\n".join(json.loads((model / "config.min.json").read_text())["target_labels_space"]) + "\n")
    package = find_package(model / "model.onnx", MANIFEST, labels)
    name = parse_name(package.manifest.name)
    with client:
        deployed = client.deploy(name, stream(package))
        click.echo(f"{deployed.model}:{deployed.version} is deployed (sha256:{deployed.digest[:12]}).")
        answers = []
        for file in _files(model):
            content = file.read_bytes()
            started = time.perf_counter()
            called = client.call(name, content, "application/octet-stream")
            ms = (time.perf_counter() - started) * 1000
            best = called.labels[0][0]
            answers.append(Answer(file, best.label, best.score, ms))
    return answers


def _files(model: Path) -> list[Path]:
    """Files of many kinds that are on every machine with this program on it."""
    library = Path(sysconfig.get_paths()["stdlib"])
    candidates = [
        Path(sys.executable).resolve(),
        *sorted(library.glob("ensurepip/_bundled/pip*.whl")),
        *sorted(library.glob("idlelib/Icons/*.gif"))[:1],
        *sorted(library.glob("idlelib/Icons/*.png"))[:1],
        *sorted(library.glob("__pycache__/os.*.pyc"))[:1],
        *sorted(model.glob("*.md")),
        model / "config.min.json",
        MANIFEST,
        Path(__file__),
    ]
    return [file for file in candidates if file.is_file()]


def _tell(url: str, key: str, file: Path) -> None:
    from appliance.core.manifest import parse_manifest

    name = parse_manifest(MANIFEST.read_text()).name
    program = sys.argv[0] if Path(sys.argv[0]).name == "ingle" else "ingle"
    line = ["curl", "-H", f"Authorization: Bearer {key}", "-H", "Content-Type: application/octet-stream"]
    click.echo("The same from any shell:\n")
    click.echo(f"  {shlex.join([*line, '--data-binary', f'@{file}', f'{url}/v1/models/{name}'])}\n")
    click.echo("Or with the command line:\n")
    click.echo(f"  export INGLE_NODE={url} INGLE_KEY={key}")
    click.echo(f"  {shlex.join([program, 'call', name, f'@{file}'])}")
