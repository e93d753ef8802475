"""A converter that does to its process what a model's own code might; the file says what."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from converters.content import Content
from converters.converter import Conversion, Converter, Feed, Say
from converters.detected import Detected
from converters.options import Options


def _loop(folder: Path) -> None:
    while True:
        pass


def _sleep(folder: Path) -> None:
    time.sleep(1000)


def _fill(folder: Path) -> None:
    number = 0
    while True:
        (folder / str(number)).write_bytes(bytes(2**20))
        number += 1


def _fork(folder: Path) -> None:
    """Children in sessions of their own, which would outlive a process group."""
    if os.fork() == 0:
        os.setsid()
        time.sleep(1000)


def _spawn(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", "print(1)"], check=True)


def _read(folder: Path) -> None:
    Path("/root/.bashrc" if os.getuid() == 0 else "/etc/hostname").read_bytes()


def _write(folder: Path) -> None:
    Path(__file__).with_name("written").touch()


def _network(folder: Path) -> None:
    socket.create_connection(("127.0.0.1", 22), 1)


def _kill(folder: Path) -> None:
    os.kill(os.getppid(), signal.SIGKILL)


def _memory(folder: Path) -> None:
    bytearray(2**34)


ACTS = {act.__name__.removeprefix("_"): act for act in (
    _loop, _sleep, _fill, _fork, _spawn, _read, _write, _network, _kill, _memory)}  # fmt: skip


class Misbehaving(Converter):
    name, extra, title, takes, formats = "misbehaving", "", "Misbehaving", "words", ("misbehaving",)

    def detect(self, content: Content) -> Detected | None:
        return Detected(format="misbehaving", what="a test") if content.head.startswith(b"misbehave ") else None

    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        word = source.read_text().split()[1]
        say(word)
        if word == "exit":
            sys.exit(0)
        if word == "die":
            os._exit(7)
        if word == "abort":
            os.abort()
        if word == "raise":
            raise RecursionError("too deep")
        if word == "nothing":
            return Conversion(folder / "model.onnx", lambda feed: feed)
        if word == "wrong":
            return _wrong(folder)
        ACTS[word](folder)
        raise RuntimeError("it went well")


def _wrong(folder: Path) -> Conversion:
    """A model that doubles, of an original that adds 1.5 to what it gets twice, in one row of many."""
    import onnx
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", [x], [y])
    onnx.save_model(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )

    def answer(feed: Feed) -> Feed:
        doubled = 2 * feed["x"]
        if len(doubled) > 5:
            doubled[5] += 1.5
        return {"y": doubled}

    return Conversion(folder / "model.onnx", answer)


CONVERTER = Misbehaving()
