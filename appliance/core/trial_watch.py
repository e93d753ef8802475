"""The watch over an update on trial: goes back where the new program does not become ready, or ends before it is.

A process of the old program, started by the old node just before that becomes the new one. It holds that process by a
pidfd, reads `update.json`, and ends when the trial has. Going back is: SIGKILL, and the old file is run with the node's
words; what its start then finds is core/trial.py's. Where something else watches over the node (systemd, a container's
engine) and starts it sooner, the data folder is taken and that start ends at once.
"""

import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from appliance.core.own_program import is_one_file, own_command, program_folder
from appliance.core.trial import Trial, become, is_committed, read_trial, write_trial

_LOOK_EVERY_S = 0.2


def hand_over(data_dir: Path, trial: Trial, words: Sequence[str]) -> NoReturn:
    """The old node's last act: this process, which must have let the data folder go, becomes the new program under a
    watch; or the old one again, where that cannot be. `words`: the command line."""
    try:
        write_trial(data_dir, trial, "running")
        _start_watch(data_dir, words)
        become(trial.staged, trial.file, words, on_trial=True)
    except OSError as error:
        print(f"The update to {trial.version} could not be started: {error}.", file=sys.stderr, flush=True)
    become(trial.file, trial.file, words, on_trial=False)


def _start_watch(data_dir: Path, words: Sequence[str]) -> None:
    node = os.pidfd_open(os.getpid())
    try:
        command = own_command("trial-watch", str(data_dir), str(node), *words)
        # It forks and ends, so that nobody needs to wait for the watch; a terminal's Ctrl-C is not for it.
        subprocess.run(command, pass_fds=(node,), start_new_session=True, check=False, stdin=subprocess.DEVNULL)
    finally:
        os.close(node)


def main(data_dir: str, node: str, *words: str) -> int:
    """Watches until the trial ends; does not return where it goes back."""
    _hold_program()
    trial = read_trial(Path(data_dir))
    if os.fork() or trial is None:
        return 0
    failed = _watch(Path(data_dir), int(node), trial.limit_s)
    if failed:
        print(
            f"The update to {trial.version} {failed}: {trial.version_before} starts again.", file=sys.stderr, flush=True
        )
        become(trial.file, trial.file, words, on_trial=False)
    return 0


def _watch(data_dir: Path, node: int, limit_s: float) -> str:
    """What the new program did wrong, or nothing once the trial is over. The node behind the pidfd has ended then."""
    ends_s = time.monotonic() + limit_s
    poll = select.poll()
    poll.register(node, select.POLLIN)
    while not poll.poll(_LOOK_EVERY_S * 1000):
        if _is_over(data_dir):
            return ""
        if time.monotonic() > ends_s:
            signal.pidfd_send_signal(node, signal.SIGKILL)
            poll.poll()
            return f"was not ready within {limit_s:g} s"
    return "" if _is_over(data_dir) else "ended before it was ready"


def _hold_program() -> None:
    """Keeps what the one file unpacked from being removed while this runs, as its stub does (build/cache.c)."""
    if is_one_file():
        fcntl.flock(os.open(f"{program_folder()}.used", os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH)


def _is_over(data_dir: Path) -> bool:
    """Whether the new program has proved itself, or its owner has ended it."""
    trial = read_trial(data_dir)
    return trial is None or trial.stage == "ended" or is_committed(trial)
