"""The one file against the environment it was built from: `make binary`, then `python -m benchmarks.binary [FILE]`.

Contestants take turns: the package in `.venv`, the one file, and, for `version`, the folder that the one file unpacks,
which is PyInstaller's one-folder build. A start is timed from the process's beginning to the right answer of a model
that was deployed before, through HTTP; the first ever finds no folder unpacked and is given the model. Memory is that
of a node which has answered no call, as if nobody else were on the box: the proportional shares of its processes in
what is no file's, and each file's pages once.
"""

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import psutil

from benchmarks.calls import Call, call_of
from benchmarks.http_load import http_load
from benchmarks.measured import LoadError, Measured, Ratio, interleave
from benchmarks.models import tiny
from benchmarks.processes import PACKAGE, ROOT, Node, node
from benchmarks.report import Section, verdict, write_section

FILE = ROOT / "dist" / "ingle"
_ROUNDS, _VERSION_ROUNDS, _LOAD_S, _CONCURRENCY, _SETTLE_S = 9, 21, 2.0, 32, 3.0
_START_LIMIT_S = 60.0
_GLIBC = re.compile(rb"\0GLIBC_2\.(\d+)")
_ANONYMOUS = re.compile(r"^Pss_Anon:\s+(\d+) kB$", re.MULTILINE)
_PACKAGE, _ONE_FILE, _ONE_FOLDER = ".venv", "one file", "one folder"

Contestants = Mapping[str, Sequence[str]]


def measure(
    file: Path = FILE, *, rounds: int = _ROUNDS, version_rounds: int = _VERSION_ROUNDS, load_s: float = _LOAD_S
) -> Section:
    """All rows of the table. Raises LoadError where the file is not there or does not work."""
    if not file.is_file():
        raise LoadError(f"{file} is not there: 'make binary' makes it")
    contestants: Contestants = {_PACKAGE: PACKAGE, _ONE_FILE: [str(file)]}
    with tempfile.TemporaryDirectory() as name, _cache(Path(name) / "cache"):
        folder = Path(name)
        subprocess.run([file, "version"], check=True, capture_output=True)  # unpacks
        (unpacked,) = (path for path in (folder / "cache").iterdir() if path.is_dir())
        # As the stub does it, for the libraries beside the program.
        one_folder = ["env", f"LD_LIBRARY_PATH={unpacked / '_internal'}", str(unpacked / "ingle")]
        versions = _alternate({_ONE_FILE: [str(file)], _ONE_FOLDER: one_folder}, _version_s, version_rounds)
        model = tiny.write(folder)
        call = call_of(tiny, model)
        places = {key: folder / f"data of {key}" for key in contestants}
        for key, program in contestants.items():
            places[key].mkdir()
            _start_s(places[key], program, call, [model])  # deploys it, and makes what a first start makes
        starts = _alternate(contestants, lambda key, program: _start_s(places[key], program, call), rounds)
        first_s = [_first_start_s(folder / f"first {index}", file, call, model) for index in range(rounds)]
        memory = _alternate(contestants, lambda key, program: _idle_mb(places[key], program), max(3, rounds // 3))
        turns = _calls(contestants, places, call, rounds, load_s)
        glibc = _needed_glibc(unpacked)
    calls = {key: [turn.calls_per_s for turn in own] for key, own in turns.items()}
    version = Ratio.of(versions[_ONE_FILE], versions[_ONE_FOLDER])
    start, idle, served = (Ratio.of(own[_ONE_FILE], own[_PACKAGE]) for own in (starts, memory, calls))
    size_mb, version_s, first = file.stat().st_size / 1e6, median(versions[_ONE_FILE]), median(first_s)
    both = (_PACKAGE, _ONE_FILE)
    return Section(
        "binary",
        f"Tiny model; calls over V2 JSON, {_CONCURRENCY} callers in a closed loop, load generator on the same cores.",
        ("", _PACKAGE, _ONE_FILE, "ratio"),
        [
            ("size, MB", "", f"{size_mb:.1f}", ""),
            (
                "`ingle version`, ms",
                f"{median(versions[_ONE_FOLDER]) * 1e3:.0f} (one folder)",
                f"{version_s * 1e3:.0f}",
                str(version),
            ),
            ("start to first answer, s", *(f"{median(starts[key]):.2f}" for key in both), str(start)),
            ("the same, first ever, s", "", f"{first:.2f} ({min(first_s):.2f} to {max(first_s):.2f})", ""),
            ("idle node, MB", *(f"{median(memory[key]):.1f}" for key in both), str(idle)),
            ("calls a second", *(f"{median(calls[key]):,.0f}" for key in both), str(served)),
            ("C library, at the oldest", "", f"glibc 2.{glibc}", ""),
        ],
        [
            verdict("size of the one file, MB", size_mb, 60.0, at_most=True),
            verdict("`ingle version`, s", version_s, 0.1, at_most=True),
            verdict("the same, over the one-folder build", version.median, 1.3, at_most=True),
            verdict("start to first answer, over .venv", start.median, 1.3, at_most=True),
            verdict("first start ever to first answer, s", first, 1.5, at_most=True),
            verdict("memory of an idle node, over .venv", idle.median, 1.1, at_most=True),
            verdict("calls a second, over .venv", served.median, 0.95),
        ],
    )


@contextlib.contextmanager
def _cache(folder: Path) -> Iterator[None]:
    """The one file unpacks there meanwhile."""
    before = os.environ.get("INGLE_CACHE_DIR")
    os.environ["INGLE_CACHE_DIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["INGLE_CACHE_DIR"]
        else:
            os.environ["INGLE_CACHE_DIR"] = before


def _alternate(
    contestants: Contestants, figure: Callable[[str, Sequence[str]], float], rounds: int
) -> dict[str, list[float]]:
    """`rounds` figures of each, every other round in reverse order."""
    figures: dict[str, list[float]] = {key: [] for key in contestants}
    for index in range(rounds):
        for key in contestants if index % 2 == 0 else reversed(list(contestants)):
            figures[key].append(figure(key, contestants[key]))
    return figures


def _version_s(_key: str, program: Sequence[str]) -> float:
    started_s = time.perf_counter()
    subprocess.run([*program, "version"], check=True, capture_output=True)
    return time.perf_counter() - started_s


def _start_s(place: Path, program: Sequence[str], call: Call, models: Sequence[Path] = ()) -> float:
    """Seconds from the process's beginning to the right answer; the data folder knows the model, or is given it."""
    ready_file = place / "node.ready"
    ready_file.unlink(missing_ok=True)
    command = [*program, "serve", *map(str, models), "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--zmq", "off"]
    command += ["--mesh", "off", "--open", "--data-dir", str(place / "node"), "--ready-file", str(ready_file)]
    started_s = time.perf_counter()
    with (place / "node.log").open("wb") as log, subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log) as process:
        try:
            while not ready_file.exists():
                if process.poll() is not None or time.perf_counter() - started_s > _START_LIMIT_S:
                    raise LoadError(f"{command} did not start: {(place / 'node.log').read_text()[-2000:]}")
                time.sleep(0.001)
            call.check_json(_ask(json.loads(ready_file.read_text())["http"], call))
            return time.perf_counter() - started_s
        finally:
            process.terminate()


def _ask(address: str, call: Call) -> bytes:
    """One call over a connection of its own."""
    with contextlib.closing(http.client.HTTPConnection(address, timeout=_START_LIMIT_S)) as connection:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", f"/v2/models/{call.name}/infer", call.json_body(), headers)
        return connection.getresponse().read()


def _first_start_s(place: Path, file: Path, call: Call, model: Path) -> float:
    """The same with nothing there before: no folder unpacked, no data."""
    place.mkdir()
    with _cache(place / "cache"):
        return _start_s(place, [str(file)], call, [model])


def _idle_mb(place: Path, program: Sequence[str]) -> float:
    """What all of an idle node's processes hold, as if nobody else were on the box: of files, what the process holds
    that holds most of each. By proportional shares alone the libraries of `.venv` would be shared with this process."""
    with node([], place, program=program) as served:
        time.sleep(_SETTLE_S)
        tree = [psutil.Process(served.pid), *psutil.Process(served.pid).children(recursive=True)]
        rolled = [Path(f"/proc/{process.pid}/smaps_rollup").read_text() for process in tree]
        anonymous = sum(int(size) for text in rolled for size in _ANONYMOUS.findall(text)) * 1024
        files: dict[str, int] = {}
        for process in tree:
            for held in process.memory_maps(grouped=True):
                if held.path.startswith("/"):
                    files[held.path] = max(files.get(held.path, 0), held.rss - held.anonymous)
        return (anonymous + sum(files.values())) / 1e6


def _calls(
    contestants: Contestants, places: Mapping[str, Path], call: Call, rounds: int, load_s: float
) -> dict[str, list[Measured]]:
    """Both nodes are up, and take turns under load."""
    with contextlib.ExitStack() as stack:

        def loaded(served: Node) -> Callable[[], Measured]:
            request = call.json_request(served.http)
            return lambda: http_load(served.http, request, call.check_json, concurrency=_CONCURRENCY, seconds=load_s)

        up = {key: stack.enter_context(node([], places[key], program=run)) for key, run in contestants.items()}
        return interleave({key: loaded(served) for key, served in up.items()}, rounds)


def _needed_glibc(unpacked: Path) -> int:
    """The minor number of the C library that the program and its libraries ask for."""
    files = [unpacked / "ingle", *unpacked.rglob("*.so*")]
    return max(int(minor) for file in files for minor in _GLIBC.findall(file.read_bytes()))


if __name__ == "__main__":
    write_section(measure(*map(Path, sys.argv[1:2])))
