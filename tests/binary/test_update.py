"""`ingle update` in a root that has nothing, as an ordinary user: the node becomes the new version or stays the old."""

import json
import os
import select
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from appliance.core.digests import file_digest
from appliance.core.trial import read_trial
from appliance.workers.tiny_model import IDENTITY_MODEL
from tests.binary.bare_root import UID, command_in, make_root
from tests.binary.conftest import wait_for
from tests.binary.releases import BAD, DIES, NEW, OLD, Releases, make_later_catalogue

REFUSED = 6
FILE, DATA = "/home/ann/bin/ingle", "home/ann/.local/share/ingle"
SERVE = ("serve", "/opt/model.onnx", "--http", "127.0.0.1:0", "--grpc", "off", "--zmq", "off", "--mesh", "off")
# The namespace's first process: the node is not, so that it can be killed from within, and its log goes on after it.
INIT = '"$@" & while :; do sleep 1000; done'


class Box(NamedTuple):
    """A root with a node in it. `init`: its namespace's first process, as the box outside counts."""

    root: Path
    init: int

    def told(self) -> dict[str, str]:
        return json.loads((self.root / DATA / "node.json").read_text())

    def ready(self, version: str) -> bool:
        try:
            return self.told()["version"] == version
        except FileNotFoundError:
            return False

    def answers(self) -> bool:
        """Whether the model that was deployed at the start answers."""
        key = (self.root / DATA / "admin.key").read_text().strip()
        url = f"http://{self.told()['http']}/v1/models/local/model"
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        asked = urllib.request.Request(url, b'{"x": [0.5]}', headers)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.loads(answer.read())["outputs"] == {"y": [0.5]}

    def update(self, release: Path, *flags: str) -> "subprocess.Popen[str]":
        """`ingle update` of the release there, by the node's user."""
        shutil.copy(release, self.root / "opt/release")
        return self.begin(FILE, "update", "/opt/release", *flags)

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """Starts the words there, as the node's user."""
        inside = ["nsenter", f"--target={self.init}", "--mount", "--pid", "--root"]
        inside += [f"--setuid={UID}", f"--setgid={UID}", "/bin/busybox", "env", "-i", "HOME=/home/ann"]
        return subprocess.Popen([*inside, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def file(self) -> Path:
        return self.root / FILE.lstrip("/")


@pytest.fixture
def root(old: Path, tmp_path: Path) -> Path:
    made = make_root(tmp_path / "root", old)
    (made / "opt/model.onnx").write_bytes(IDENTITY_MODEL)
    (made / "home/ann/bin").mkdir()
    (made / "opt/ingle").rename(made / FILE.lstrip("/"))
    for path in (made / "home/ann/bin", made / FILE.lstrip("/")):
        shutil.chown(path, UID, UID)
    make_later_catalogue(made / "opt")
    return made


@contextmanager
def started(root: Path) -> Iterator[Box]:
    """The box with its node until the end, then all that is in it is killed at once, as a power cut would."""
    alive, held = os.pipe()  # ends when the last process of the namespace has
    with (root.parent / "node.log").open("a") as log:
        words = ("/bin/sh", "-c", INIT, "sh", FILE, *SERVE)
        outer = subprocess.Popen(command_in(root, *words), stdout=log, stderr=log, pass_fds=(held,))
        os.close(held)
        node_file = root / DATA / "node.json"
        try:
            wait_for(node_file.exists)
            (init,) = psutil.Process(outer.pid).children()
            yield Box(root, init.pid)
        finally:
            for first in psutil.Process(outer.pid).children():
                first.kill()
            outer.wait(30)
            assert select.select([alive], [], [], 30)[0], "a process of the node outlived it"
            os.close(alive)
            node_file.unlink(missing_ok=True)


def test_the_node_becomes_the_new_version_and_keeps_its_number(root: Path, new: Path) -> None:
    shutil.copy(new, root / "opt/new")
    with started(root) as box:
        pid = box.told()["pid"]
        other = box.begin("/opt/new", "update", "/opt/new")
        _, error = other.communicate(timeout=120)
        assert (other.returncode, f"run '{FILE} update'" in error) == (1, True)
        updated = box.update(new)
        said, error = updated.communicate(timeout=120)
        assert (updated.returncode, error) == (0, "")
        assert f"{FILE} is {NEW} now" in said
        assert box.ready(NEW)
        assert (box.told()["pid"], box.told()["file"]) == (pid, FILE)
        assert box.answers()
    assert file_digest(box.file()) == file_digest(new)
    assert list(box.file().parent.iterdir()) == [box.file()]
    assert read_trial(root / DATA) is None
    with started(root) as box:
        assert box.ready(NEW)


def test_one_that_hangs_is_taken_back_with_the_catalogue(root: Path, hangs: Path, old: Path) -> None:
    with started(root) as box:
        updated = box.update(hangs, "--limit", "2")
        _, error = updated.communicate(timeout=120)
        assert updated.returncode == 1
        assert f"{OLD} runs again" in error
        wait_for(lambda: box.ready(OLD))
        assert box.answers()
    assert file_digest(box.file()) == file_digest(old)
    assert list(box.file().parent.iterdir()) == [box.file()]
    assert list((root / DATA).glob("*.before-*")) == []
    assert "did not become ready and is taken back" in (root.parent / "node.log").read_text()


def test_one_that_dies_is_taken_back_at_once(root: Path, releases: Releases) -> None:
    with started(root) as box:
        updated = box.update(releases.make(BAD, program=DIES))
        updated.communicate(timeout=120)
        assert updated.returncode == 1
        wait_for(lambda: box.ready(OLD))
        assert box.answers()


def test_one_is_taken_back_where_nobody_waits_for_it_any_more(root: Path, hangs: Path) -> None:
    with started(root) as box:
        updated = box.update(hangs, "--limit", "2")
        wait_for(lambda: (trial := read_trial(root / DATA)) is not None and trial.stage == "running")
        psutil.Process(updated.pid).send_signal(signal.SIGKILL)
        updated.communicate()
        wait_for(lambda: box.ready(OLD))
        assert box.answers()


def test_a_power_cut_meanwhile_leaves_the_old_version_and_its_catalogue(root: Path, hangs: Path) -> None:
    with started(root) as box:
        updated = box.update(hangs)
        wait_for((root / DATA / "catalogue.sqlite.before-9").exists)
    updated.communicate(timeout=30)
    with started(root) as box:
        assert box.ready(OLD)
        assert box.answers()
    assert list((root / DATA).glob("*.before-*")) == []


def test_without_a_node_the_file_is_replaced(root: Path, new: Path) -> None:
    shutil.copy(new, root / "opt/release")
    done = subprocess.run(command_in(root, FILE, "update", "/opt/release"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert file_digest(root / FILE.lstrip("/")) == file_digest(new)


def test_what_is_not_signed_changed_or_older_is_refused(root: Path, releases: Releases, new: Path) -> None:
    changed = bytearray(new.read_bytes())
    changed[len(changed) // 2] ^= 1
    (root / "opt/changed").write_bytes(changed)
    shutil.copy(releases.make("0.9.0"), root / "opt/older")
    shutil.copy(releases.make("1.3.0", signed=False), root / "opt/unsigned")
    script = f"for file in changed older unsigned; do {FILE} update /opt/$file || echo $?; done"
    script += f"; {FILE} update /opt/older --allow-downgrade"
    done = subprocess.run(command_in(root, "/bin/sh", "-c", script), capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"{REFUSED}\n" * 3)
    assert f"{FILE} is 0.9.0 now" in done.stdout
    for words in ("was changed", "older than", "not signed"):
        assert words in done.stderr
