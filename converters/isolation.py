"""Has a conversion done in a process of its own, within limits of time, memory and disk, and takes its death for an
answer.

Runs in the command line's process. Whatever the model does, nothing is left behind: the process
dies with its group, and its folder is workplace()'s to remove.
"""

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from appliance.core.errors import RefusedError
from appliance.core.own_program import foreign_environment, own_command
from converters.job import Done, Failed, Job, Refused, Step, Word, decode_word, encode

MAX_WORD_BYTES = 16 * 2**20
_LAST_WORDS_BYTES = 4096
_LOOK_S = 0.25  # how often the folder's size is looked at


class Limits(NamedTuple):
    """0 bytes of memory: as the machine has."""

    seconds: float = 900.0
    data_bytes: int = 0
    disk_bytes: int = 16 * 2**30


class Environment(NamedTuple):
    """The Python that converts, and what must stand in front of its path."""

    python: str = sys.executable
    path: str = ""


THIS_PYTHON = Environment()


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder for one conversion, gone afterwards: `bundle` in it is what becomes the bundle."""
    folder = Path(tempfile.mkdtemp(prefix="ingle-convert-"))
    try:
        for name in ("bundle", "tmp", "home"):
            (folder / name).mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(
    job: Job,
    limits: Limits,
    *,
    environment: Environment = THIS_PYTHON,
    on_step: Callable[[str], None] = lambda _: None,
) -> Done:
    """The conversion's outcome; `job.folder`, in a workplace(), is filled then. `on_step` hears each step as it begins.

    Raises RefusedError with the reason: the converter's, the framework's, or which limit was reached.
    """
    bounded = msgspec.structs.replace(job, data_bytes=limits.data_bytes, file_bytes=limits.disk_bytes)
    out, into = os.pipe()
    work = Path(job.folder).parent
    with (work / "stderr").open("w+b") as stderr:
        try:
            process = subprocess.Popen(
                _command(environment, into),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=(into,),
                cwd=work,
                env=_variables(environment, work),
                start_new_session=True,
            )
        finally:
            os.close(into)
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(encode(bounded))
                process.stdin.close()
            return _follow(process, out, limits, work, on_step)
        finally:
            os.close(out)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _command(environment: Environment, fd: int) -> list[str]:
    if environment.python == sys.executable:
        return own_command("convert", str(fd))
    return [environment.python, "-m", "converters.child", str(fd)]


def _variables(environment: Environment, work: Path) -> dict[str, str]:
    """None of the user's but where programs and libraries are: keys and tokens stay outside."""
    known = os.environ if environment.python == sys.executable else foreign_environment()
    kept = {name: known[name] for name in ("PATH", "LD_LIBRARY_PATH", "JAVA_HOME", "PYTHONPATH") if name in known}
    # The child's path is the parent's: it may run from a checkout.
    own = [path for path in sys.path if path] if environment.python == sys.executable else []
    path = os.pathsep.join(filter(None, (environment.path, *own)))
    return kept | {
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "HOME": str(work / "home"),
        "TMPDIR": str(work / "tmp"),
        "LC_ALL": "C.UTF-8",
        "ORT_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": str(min(4, os.cpu_count() or 1)),
    }


def _follow(
    process: "subprocess.Popen[bytes]", out: int, limits: Limits, work: Path, on_step: Callable[[str], None]
) -> Done:
    ends_s = time.monotonic() + limits.seconds
    step, rest = "starting", b""
    os.set_blocking(out, False)
    with selectors.DefaultSelector() as selector:
        selector.register(out, selectors.EVENT_READ)
        while True:
            ready = selector.select(_LOOK_S)
            if time.monotonic() > ends_s:
                raise RefusedError(
                    f"the conversion was given up after {limits.seconds:.0f} s while {step}: --timeout says how long"
                )
            if _size_bytes(work) > limits.disk_bytes:
                raise RefusedError(
                    f"the conversion wrote more than {limits.disk_bytes} bytes while {step}, and was ended"
                )
            if not ready:
                continue
            data = os.read(out, 2**20)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > MAX_WORD_BYTES:
                raise RefusedError(f"the process of the conversion said too much while {step}")
            for line in lines:
                word = _word(line, step)
                if isinstance(word, Done):
                    return word
                step = word.name
                on_step(step)
    status = process.wait()
    reason = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
    raise RefusedError(f"the process of the conversion ended {reason} while {step}{_last_words(work)}")


def _word(line: bytes, step: str) -> Step | Done:
    try:
        word: Word = decode_word(line)
    except msgspec.MsgspecError as error:
        raise RefusedError(f"the process of the conversion said what makes no sense while {step}: {error}") from None
    if isinstance(word, Refused):
        raise RefusedError(word.sentence)
    if isinstance(word, Failed):
        raise RefusedError(f"the conversion failed while {step}: {word.sentence}")
    return word


def _size_bytes(work: Path) -> int:
    size = 0
    for folder, _, files in os.walk(work):
        for name in files:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(folder, name)).st_blocks * 512  # noqa: PTH118
    return size


def _last_words(work: Path) -> str:
    with contextlib.suppress(OSError), (work / "stderr").open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - _LAST_WORDS_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines()
        if lines:
            return f"; its last words: {lines[-1][:300]}"
    return ""
