"""What a model's code can do and cannot, tried in forks of a real zygote, on this kernel and on lesser ones."""

import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tests.security import confined

REFUSED = {"EACCES", "EPERM", "ENOSYS"}
X86 = pytest.mark.skipif("x86_64" not in confined.platform.machine(), reason="only x86-64 has older ways to call")


class Tried(NamedTuple):
    layers: dict[str, tuple[bool, str]]
    outcomes: dict[str, str]


def trial(folder: Path, held_back: str = "nothing", acts: Sequence[str] = (), role: confined.Role = "serve") -> Tried:
    """What became of these acts, or of all that there are for the role."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.security.confined", held_back, str(folder), role],
        input=json.dumps(acts),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    return Tried({name: (active, detail) for name, active, detail in said["layers"]}, said["outcomes"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as far as it matters: the own model, which may be read, beside what may not."""
    root = tmp_path_factory.mktemp("data")
    own = root / "own"
    (root / "other").mkdir()
    own.mkdir()
    (root / "keys.sqlite").write_bytes(b"secret")
    (root / "other/model.onnx").write_bytes(b"secret")
    (own / "link").symlink_to(root / "keys.sqlite")
    for form in ("jpeg", "png", "webp"):
        Image.new("RGB", (40, 30), "red").save(own / f"picture.{form}")
    weights = numpy_helper.from_array(np.full((512, 512), 0.5, np.float32), "w")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 512]) for name in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(own / "model.onnx"))
    onnx.save(model, str(own / "outside.onnx"), save_as_external_data=True, location="weights.bin", size_threshold=0)
    return root


@pytest.fixture(scope="module")
def here(folder: Path) -> Tried:
    """All acts on this kernel, which must have every layer for this test to mean anything."""
    return _whole(trial(folder))


@pytest.fixture(scope="module")
def on_gpu(folder: Path) -> Tried:
    """As `here`, in forks that are allowed what a GPU's driver needs; no GPU is needed for that."""
    return _whole(trial(folder, role="device"))


def _whole(tried: Tried) -> Tried:
    missing = [f"{name}: {detail}" for name, (active, detail) in tried.layers.items() if not active]
    if missing:
        pytest.skip(f"this kernel lacks layers of the sandbox: {'; '.join(missing)}")
    return tried


@pytest.mark.parametrize("act", [act for act in confined.HOSTILE if not act.startswith("call as ")])
def test_a_model_may_not(here: Tried, act: str) -> None:
    assert here.outcomes[act] in REFUSED


@pytest.mark.parametrize(
    "act", [act for act in (*confined.HOSTILE, *confined.ON_GPU) if not act.startswith("call as ")]
)
def test_a_model_on_a_gpu_may_not(on_gpu: Tried, act: str) -> None:
    assert on_gpu.outcomes[act] in REFUSED


@pytest.mark.parametrize("act", confined.NEEDED_ON_GPU)
def test_a_gpus_driver_may(on_gpu: Tried, act: str) -> None:
    assert on_gpu.outcomes[act] == "done"


@X86
def test_calls_in_the_manner_of_another_architecture_end_the_process(here: Tried) -> None:
    assert here.outcomes["call as i386"] == "SIGSYS"
    assert here.outcomes["call as x32"] == "ENOSYS"


@pytest.mark.parametrize("act", confined.NEEDED)
def test_a_model_may(here: Tried, act: str) -> None:
    assert here.outcomes[act] == "done"


def test_abort_still_ends_a_worker_by_its_signal(here: Tried) -> None:
    assert here.outcomes["abort"] == "SIGABRT"


def test_nothing_was_changed_by_what_was_tried(here: Tried, folder: Path) -> None:
    assert here.outcomes
    names = {"link", "model.onnx", "outside.onnx", "weights.bin", "picture.jpeg", "picture.png", "picture.webp"}
    assert {path.name for path in (folder / "own").iterdir()} == names
    assert not Path("/tmp/ingle-was-here").exists()


def test_without_landlock_seccomp_holds_and_the_lack_is_said(here: Tried, folder: Path) -> None:
    kept = [
        "exec",
        "fork",
        "open a TCP socket",
        "write into its folder",
        "signal the zygote",
        "run a session with threads",
    ]
    tried = trial(folder, "landlock", [*kept, "read the password file"])
    active, sentence = tried.layers["Landlock"]
    assert not active
    assert "does not offer it" in sentence
    assert tried.layers["seccomp"] == here.layers["seccomp"]
    *refused, allowed = (tried.outcomes[act] for act in kept)
    assert set(refused) <= REFUSED
    assert allowed == "done"
    assert tried.outcomes["read the password file"] == "done"


def test_without_seccomp_landlock_holds_and_the_lack_is_said(here: Tried, folder: Path) -> None:
    kept = ["read the password file", "write into its folder", "signal the zygote", "run a session with threads"]
    tried = trial(folder, "seccomp", [*kept, "fork"])
    active, sentence = tried.layers["seccomp"]
    assert not active
    assert "does not take a filter" in sentence
    assert tried.layers["Landlock"] == here.layers["Landlock"]
    *refused, allowed = (tried.outcomes[act] for act in kept)
    assert set(refused) <= REFUSED
    assert allowed == "done"
    assert tried.outcomes["fork"] == "done"


BY_ABI = """
import os, sys
from pathlib import Path
from appliance.sandbox import confine, landlock

readable, writable, other = map(Path, sys.argv[1:])
confine.forbid_new_privileges()

def refused(act):
    try:
        act()
    except PermissionError:
        return
    raise AssertionError("it was not refused")

for abi in range(1, landlock.offered().abi + 1):
    if os.fork():
        assert os.wait()[1] == 0, abi
        continue
    landlock.restrict_files(landlock.ruleset(abi), [str(readable), "/not/there"], [str(writable)])
    assert (readable / "file").read_bytes() == b"x"
    refused((other / "file").read_bytes)
    refused(lambda: (readable / "file").write_bytes(b"y"))
    refused(lambda: (other / "new").write_bytes(b"y"))
    (writable / "new").write_bytes(b"first")
    (writable / "new").write_bytes(b"y")
    (writable / "new").rename(writable / "renamed")
    assert (writable / "renamed").read_bytes() == b"y"
    (writable / "renamed").unlink()
    os._exit(0)
"""


def test_each_version_of_landlock_leaves_what_was_given_and_nothing_else(here: Tried, tmp_path: Path) -> None:
    assert here.layers["Landlock"][0]
    folders = [tmp_path / name for name in ("readable", "writable", "other")]
    for place in folders:
        place.mkdir()
        (place / "file").write_bytes(b"x")
    done = subprocess.run(
        [sys.executable, "-c", BY_ABI, *map(str, folders)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


OWN_LOOPBACK = """
import socket, sys
from appliance.sandbox import confine

assert confine.leave_network().active and confine.raise_loopback()
confine.forbid_new_privileges()
assert confine.confine_files(["/usr", sys.base_prefix, *sys.path], tcp=True).active
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname(), timeout=5).close()
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)
except ConnectionRefusedError:
    print("nobody of the host's")
"""


def test_programs_that_may_talk_do_so_over_a_loopback_of_their_own(here: Tried) -> None:
    assert here.layers["network namespace"][0]
    with socket.create_server(("127.0.0.1", 0)) as outside:
        port = str(outside.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-c", OWN_LOOPBACK, port], capture_output=True, text=True, check=False, timeout=60
        )
    assert done.stdout == "nobody of the host's\n", done.stderr
