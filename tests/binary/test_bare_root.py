"""The one file in a root that has nothing, as an ordinary user: a new user's first minutes, and boxes that are odd."""

import json
import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from appliance.workers.tiny_model import IDENTITY_MODEL
from tests.binary.bare_root import command_in, make_root, run_in
from tests.binary.conftest import wait_for

FRONTS = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--zmq", "off", "--mesh", "off")


@pytest.fixture
def root(one_file: Path, tmp_path: Path) -> Path:
    made = make_root(tmp_path / "root", one_file)
    (made / "opt/model.onnx").write_bytes(IDENTITY_MODEL)
    return made


@contextmanager
def serving(root: Path, *flags: str, folder: str = "home/ann", before: str = "") -> Iterator[tuple[str, str]]:
    """A node there until the end, then killed with all that is in its namespace; its URL and admin key."""
    ready = root / folder / "ready.json"
    ready.unlink(missing_ok=True)
    words = ("/opt/ingle", "serve", "/opt/model.onnx", *FRONTS, "--ready-file", f"/{folder}/ready.json", *flags)
    alive, held = os.pipe()  # ends when the last process of the namespace has
    with (root.parent / "node.log").open("w+") as log:
        node = subprocess.Popen(command_in(root, *words, before=before), stdout=log, stderr=log, pass_fds=(held,))
        os.close(held)
        try:
            wait_for(lambda: ready.exists() or node.poll() is not None)
            assert ready.exists(), (root.parent / "node.log").read_text()
            told = json.loads(ready.read_text())
            yield f"http://{told['http']}", (root / told["admin_key_file"].lstrip("/")).read_text().strip()
        finally:
            for first in psutil.Process(node.pid).children():  # the namespace's: all others end with it
                first.kill()
            node.wait(30)
            assert select.select([alive], [], [], 30)[0], "a process of the node outlived it"
            os.close(alive)


def called(url: str, key: str) -> object:
    """What the model answers to curl."""
    headers = ["-H", f"Authorization: Bearer {key}", "-H", "Content-Type: application/json"]
    asked = ["curl", "-s", *headers, "--data-binary", '{"x": [0.5]}', f"{url}/v1/models/local/model"]
    return json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)["outputs"]


def test_a_node_serves_is_killed_and_serves_again(root: Path) -> None:
    for _ in range(2):
        with serving(root) as (url, key):
            assert called(url, key) == {"y": [0.5]}
    assert len([path for path in (root / "home/ann/.cache/ingle").iterdir() if path.is_dir()]) == 1


def test_several_front_processes_serve(root: Path) -> None:
    with serving(root, "--fronts", "2") as (url, key):
        assert called(url, key) == {"y": [0.5]}


def test_a_root_that_cannot_be_written_with_one_folder_that_can(root: Path) -> None:
    (root / "data").mkdir(mode=0o777)
    before = """
        mount --bind $R/data $R/data; chown 4242 $R/data; chmod 700 $R/data
        mount -o remount,bind,ro $R; mount -t tmpfs -o ro none $R/dev/shm
    """
    with serving(root, "--data-dir", "/data/ingle", folder="data", before=before) as (url, key):
        assert called(url, key) == {"y": [0.5]}
    assert (root / "data/ingle/program").is_dir()


def test_tmp_may_be_noexec(root: Path) -> None:
    with serving(root, before="mount -t tmpfs -o noexec none $R/tmp") as (url, key):
        assert called(url, key) == {"y": [0.5]}


def test_a_user_without_a_home_is_asked_where_the_data_is_to_be(root: Path) -> None:
    homeless = ("/bin/busybox", "env", "-u", "HOME")
    done = run_in(root, *homeless, "/opt/ingle", "serve")
    assert (done.returncode, "--data-dir or INGLE_DATA_DIR" in done.stderr) == (2, True)
    done = run_in(root, *homeless, "INGLE_DATA_DIR=/home/ann/data", "/opt/ingle", "models")
    assert (done.returncode, "/home/ann/data/node.json" in done.stderr) == (5, True)


def test_the_sandbox_holds_there(root: Path) -> None:
    done = run_in(root, "/opt/ingle", "doctor", "--json")
    verdicts = {finding["about"]: finding["verdict"] for finding in json.loads(done.stdout)}
    assert verdicts["onnxruntime"] == "ok", done.stdout
    # The kernel refuses a user namespace, and so one for the network, to whoever lives in a chroot.
    held = {
        name.removeprefix("sandbox: ")
        for name, verdict in verdicts.items()
        if name.startswith("sandbox") and verdict == "ok"
    }
    assert {"no_new_privs", "rlimits", "Landlock", "seccomp"} <= held


def test_help_is_there_and_every_verb_has_its_own(root: Path) -> None:
    from appliance.cli.main import VERBS

    script = "".join(f"/opt/ingle {verb} --help || exit 1; " for verb in VERBS)
    done = run_in(root, "/bin/sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: ingle ") == len(VERBS)
    assert "Start a node, with these models in it" in done.stdout
    assert "whether this box can run a node" in run_in(root, "/opt/ingle", "--help").stdout


def test_an_onnx_file_is_converted_into_a_bundle(root: Path) -> None:
    done = run_in(root, "/opt/ingle", "convert", "/opt/model.onnx", "-o", "/home/ann/model.ingle")
    assert done.returncode == 0, done.stderr
    assert (root / "home/ann/model.ingle").stat().st_size > 0


def test_the_licences_of_all_that_is_inside_are_there(root: Path) -> None:
    parts = {part["name"].lower(): part for part in json.loads(run_in(root, "/opt/ingle", "licenses", "--json").stdout)}
    assert {"ingle", "python", "numpy", "onnxruntime", "tokenizers", "libzstd-dev", "libc6-dev"} <= parts.keys()
    assert "BSD" in parts["libzstd-dev"]["texts"][0]


def test_the_bill_of_materials_and_the_sums_are_those_of_the_file(one_file: Path) -> None:
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=one_file.parent, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout
    bill = json.loads((one_file.parent / "ingle.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert {"numpy", "onnxruntime", "Python"} <= {part["name"] for part in bill["components"]}
