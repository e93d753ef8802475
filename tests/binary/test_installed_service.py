"""`ingle install` on a box that systemd runs: the service serves, confines its models, is updated, starts by itself.

The system is a root folder that INGLE_TEST_SYSTEMD_ROOT names, as this makes one (a network is needed, and a minute):
`debootstrap --variant=minbase --include=systemd,dbus bookworm FOLDER`.
"""

import os
import shutil
from pathlib import Path

import pytest

from appliance.workers.tiny_model import IDENTITY_MODEL
from tests.binary.conftest import wait_for
from tests.binary.releases import NEW, make_later_catalogue
from tests.binary.systemd_box import SystemdBox, booted, make_place

LAYERS = "sandbox: network namespace, no_new_privs, rlimits, Landlock, seccomp"


@pytest.fixture(scope="module")
def system() -> Path:
    named = os.environ.get("INGLE_TEST_SYSTEMD_ROOT")
    if not named:
        pytest.skip("a root folder with systemd is needed: INGLE_TEST_SYSTEMD_ROOT=FOLDER, as this file says")
    return Path(named)


def main_pid(box: SystemdBox) -> str:
    return box.run("systemctl", "show", "ingle", "--property=MainPID").stdout


def log(box: SystemdBox) -> str:
    return box.run("journalctl", "--unit=ingle", "--no-pager", "--output=cat").stdout


def answers(box: SystemdBox) -> bool:
    return box.run("ingle", "call", "local/model", '{"x": [0.5]}').stdout.startswith("y: [0.5]")


def test_a_service_from_its_installation_to_its_end(
    system: Path, old: Path, new: Path, hangs: Path, tmp_path: Path
) -> None:
    place = make_place(tmp_path)
    opt = place / "upper/opt"
    for name, release in (("old", old), ("new", new), ("hangs", hangs)):
        shutil.copy(release, opt / name)
    (opt / "model.onnx").write_bytes(IDENTITY_MODEL)
    make_later_catalogue(opt)
    with booted(system, place) as box:
        installed = box.run("/opt/old", "install")
        assert installed.returncode == 0, installed.stderr + log(box)
        assert "is ready" in installed.stdout
        assert LAYERS in log(box)
        assert box.run("ingle", "deploy", "/opt/model.onnx").returncode == 0
        assert answers(box)
        pid = main_pid(box)

        updated = box.run("ingle", "update", "/opt/new")
        assert updated.returncode == 0, updated.stderr + log(box)
        assert main_pid(box) == pid
        assert f"ingle {NEW}\n" == box.run("ingle", "version").stdout
        assert answers(box)

        assert box.run("ingle", "update", "/opt/hangs", "--limit", "3").returncode == 1
        wait_for(lambda: "is taken back" in log(box))
        wait_for(lambda: answers(box))
        assert main_pid(box) != pid
        assert f"ingle {NEW}\n" == box.run("ingle", "version").stdout
        assert box.run("ls", "-A", "/usr/local/bin").stdout == "ingle\n"
    with booted(system, place) as box:  # its power was cut
        wait_for(lambda: answers(box))

        assert box.run("ingle", "uninstall").returncode == 0
        assert box.run("systemctl", "is-active", "ingle").stdout == "inactive\n"
        assert box.run("ls", "/usr/local/bin", "/var/cache").stdout.count("ingle") == 0
        assert box.run("ls", "/var/lib/ingle/catalogue.sqlite").returncode == 0
        assert box.run("/opt/new", "uninstall", "--purge").returncode == 0
        assert box.run("ls", "/var/lib/ingle").returncode != 0
        assert box.run("/opt/new", "uninstall").returncode == 3
