"""What `ingle install` does to a box and `ingle uninstall` undoes, as steps that can be shown before they are taken.

Plans are decided from what is said of the box; a step knows how it is taken. Knows systemd's units, and nothing of a
node but how it is started.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from appliance.core.errors import BadInputError, ConflictError, IngleError
from appliance.core.own_program import foreign_environment

NAME = USER = "ingle"
PROGRAM = Path("/usr/local/bin/ingle")
DATA, CACHE = Path("/var/lib/ingle"), Path("/var/cache/ingle")
UNIT = Path("/etc/systemd/system/ingle.service")
COMPLETIONS: Mapping[str, Path] = {
    "bash": Path("/usr/local/share/bash-completion/completions/ingle"),
    "zsh": Path("/usr/local/share/zsh/site-functions/_ingle"),
    "fish": Path("/usr/local/share/fish/vendor_completions.d/ingle.fish"),
}
# Where the service's user, and a unit with ProtectHome and PrivateTmp, sees nothing.
_HIDDEN = (Path("/root"), Path("/home"), Path("/run/user"), Path("/tmp"), Path("/var/tmp"))

# What a node needs of the box decides what it is left: its workers are confined further, each by itself
# (sandbox/confine.py), and for that need user and network namespaces, Landlock and seccomp.
_UNIT = """\
[Unit]
Description=Ingle, models over HTTP and gRPC
Documentation=man:systemd.exec(5)
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={program} serve
User={user}
Group={user}
StateDirectory=ingle
StateDirectoryMode=0700
CacheDirectory=ingle
CacheDirectoryMode=0755
Environment=INGLE_DATA_DIR={data} INGLE_CACHE_DIR={cache}
# Settings: {data}/ingle.toml, or INGLE_... variables here.
EnvironmentFile=-/etc/default/ingle
Restart=on-failure
RestartSec=1
# SIGTERM is for the node, which drains and ends its workers itself; one that is out of memory does not end the others.
KillMode=mixed
TimeoutStopSec=60
OOMPolicy=continue
UMask=0077

NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectProc=invisible
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=user net
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
DevicePolicy=closed
DeviceAllow=char-nvidia* rw
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self

[Install]
WantedBy=multi-user.target
"""


class Box(NamedTuple):
    """What a plan is made from. `program` is what runs now; `installed` what lies at PROGRAM: "same", "other" or ""."""

    program: Path
    is_one_file: bool
    installed: str
    has_user: bool
    has_unit: bool


class Step(Protocol):
    """One act on the box. take() raises IngleError where it cannot be done."""

    def shown(self) -> str:
        """The act in words, with what is written where that matters."""

    def take(self) -> None: ...


class Run(NamedTuple):
    """A program of the box, run to its end."""

    words: tuple[str, ...]

    def shown(self) -> str:
        return f"run    {' '.join(self.words)}"

    def take(self) -> None:
        try:
            done = subprocess.run(self.words, capture_output=True, text=True, env=foreign_environment(), check=False)
        except FileNotFoundError:
            raise IngleError(f"{self.words[0]} is not on this box: install it, and run this again") from None
        if done.returncode:
            raise IngleError(f"'{' '.join(self.words)}' failed: {done.stderr.strip() or done.returncode}")


class Write(NamedTuple):
    """A file of text, and the folders above it."""

    path: Path
    text: str
    is_shown: bool = False

    def shown(self) -> str:
        lines = self.text.splitlines() if self.is_shown else []
        return "\n".join([f"write  {self.path}", *(f"         {line}".rstrip() for line in lines)])

    def take(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(self.text)
        except OSError as error:
            raise IngleError(f"{self.path} cannot be written: {error.strerror}") from None


class Copy(NamedTuple):
    """This program, to where it stays."""

    source: Path
    target: Path

    def shown(self) -> str:
        return f"copy   {self.source} to {self.target}"

    def take(self) -> None:
        partial = self.target.with_name(f".{self.target.name}.part")
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.source, partial)
            partial.chmod(0o755)
            partial.rename(self.target)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise IngleError(f"{self.target} cannot be written: {error.strerror}") from None


class Remove(NamedTuple):
    """A file, or a folder with all that is in it."""

    path: Path

    def shown(self) -> str:
        return f"remove {self.path}"

    def take(self) -> None:
        try:
            if self.path.is_dir() and not self.path.is_symlink():
                shutil.rmtree(self.path)
            else:
                self.path.unlink(missing_ok=True)
        except OSError as error:
            raise IngleError(f"{self.path} cannot be removed: {error.strerror}") from None


def unit(program: Path) -> str:
    """The service, as systemd reads it."""
    return _UNIT.format(program=program, user=USER, data=DATA, cache=CACHE)


def plan_install(box: Box, completions: Mapping[str, str], *, start: bool) -> list[Step]:
    """`completions`: the script of each shell. Raises ConflictError where another version is installed, and
    BadInputError where the service could not read the program."""
    if box.is_one_file and box.installed == "other":
        raise ConflictError(f"{PROGRAM} is another version: 'sudo {PROGRAM} update {box.program}' replaces it safely")
    program = PROGRAM if box.is_one_file else box.program
    if any(program.is_relative_to(folder) for folder in _HIDDEN):
        raise BadInputError(
            f"the service runs as the user '{USER}', who cannot read {program}: install the package where all can, "
            "with 'python3 -m venv /opt/ingle' and '/opt/ingle/bin/pip install ingle[cpu]'"
        )
    steps: list[Step] = []
    if box.is_one_file and not box.installed:
        steps.append(Copy(box.program, PROGRAM))
    if not box.has_user:
        words = (
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir",
            str(DATA),
            "--shell",
            "/usr/sbin/nologin",
        )
        steps.append(Run(("useradd", *words, USER)))
    steps.append(Write(UNIT, unit(program), is_shown=True))
    steps += [Write(path, completions[shell]) for shell, path in COMPLETIONS.items()]
    steps.append(Run(("systemctl", "daemon-reload")))
    steps.append(Run(("systemctl", "enable", *(("--now",) if start else ()), NAME)))
    return steps


def plan_uninstall(box: Box, *, purge: bool) -> list[Step]:
    """The way back; what nobody can make again, models, keys and their owner, goes only with `purge`."""
    steps: list[Step] = []
    if box.has_unit:
        steps += [Run(("systemctl", "disable", "--now", NAME)), Remove(UNIT), Run(("systemctl", "daemon-reload"))]
    steps += [Remove(path) for path in COMPLETIONS.values() if path.exists()]
    if box.is_one_file and box.installed:
        steps.append(Remove(PROGRAM))
    if purge:
        steps += [Remove(DATA)] if DATA.exists() else []
        steps += [Run(("userdel", USER))] if box.has_user else []
    if steps and CACHE.is_dir():
        steps.append(Remove(CACHE))  # last: this very program may run from there
    return steps


def is_run_by_systemd() -> bool:
    """Whether systemd is what starts this box's services; as sd_booted(3) tells."""
    return os.path.isdir("/run/systemd/system")  # noqa: PTH112 - as that page says it
