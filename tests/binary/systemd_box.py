"""A box that systemd runs, in namespaces of its own: a root folder with systemd in it, booted, and its power cut."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.binary.conftest import wait_for

# What a machine would give: devices, a tree of control groups, a network with nothing but itself.
BOOT = """
    set -e
    R={place}/root
    mount --make-rprivate /
    mount -t overlay overlay -o lowerdir={system},upperdir={place}/upper,workdir={place}/work $R
    mount -t proc proc $R/proc
    mount -t sysfs sysfs $R/sys
    mount -t cgroup2 none $R/sys/fs/cgroup
    mount -t tmpfs -o mode=755 none $R/dev
    for device in null zero full random urandom tty; do
        : > $R/dev/$device; mount --bind /dev/$device $R/dev/$device
    done
    mkdir $R/dev/pts $R/dev/shm; chmod 1777 $R/dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666 none $R/dev/pts; ln -s pts/ptmx $R/dev/ptmx
    mount -t tmpfs -o mode=755 none $R/run
    mount -t tmpfs none $R/tmp
    ip link set lo up
    cd $R; mkdir -p .old; pivot_root . .old; umount -l /.old
    exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --show-status=0
"""
_SPACES = ("--mount", "--pid", "--uts", "--ipc", "--cgroup", "--net")


class SystemdBox(NamedTuple):
    """`init`: systemd, as the box outside counts."""

    init: int

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Runs the words there as root, to their end."""
        environment = ("env", "-i", "HOME=/root", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        command = ("nsenter", f"--target={self.init}", *_SPACES, "--root", *environment, *words)
        return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def make_place(place: Path) -> Path:
    """A folder for a box; what lies beneath `upper` in it is there beside the system."""
    for name in ("root", "upper/opt", "work"):
        (place / name).mkdir(parents=True)
    return place


@contextmanager
def booted(system: Path, place: Path) -> Iterator[SystemdBox]:
    """The box until the end; then its power is cut. `system` stays as it is, what is written goes to `place`."""
    group = _control_groups() / f"ingle-test-{os.getpid()}"
    group.mkdir()
    with (place / "console").open("w") as log:
        start = f'echo $$ > {group}/cgroup.procs; exec unshare {" ".join(_SPACES)} --fork --kill-child sh -c "$0"'
        outer = subprocess.Popen(["sh", "-c", start, BOOT.format(place=place, system=system)], stdout=log, stderr=log)
        try:
            wait_for(lambda: psutil.Process(outer.pid).children())
            box = SystemdBox(psutil.Process(outer.pid).children()[0].pid)
            wait_for(lambda: box.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"))
            yield box
        finally:
            for init in psutil.Process(outer.pid).children():
                init.kill()
            outer.wait(30)
            for path in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                _remove_group(path)
            _remove_group(group)


def _control_groups() -> Path:
    """Where groups of version 2 are."""
    (mounted, *_) = (line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in line)
    return Path(mounted)


def _remove_group(group: Path) -> None:
    """Once nobody is in it any more."""
    wait_for(lambda: (group / "cgroup.procs").read_text() == "")
    group.rmdir()
