"""What a process of each role may touch."""

import sys
from pathlib import Path

import msgspec
import pytest

from appliance.core.manifest import Manifest
from appliance.workers import confinement
from appliance.workers.spec import CachedGraph, WorkerSpec

SERVE = WorkerSpec(1, "serve", "/data/models/a", Manifest(), 1, 1, ("CPUExecutionProvider",), 0)
RUNTIME = {*confinement.runtime_folders(), "/sys/devices/system/cpu"}


def test_a_worker_reads_its_model_and_the_runtime_and_writes_nothing() -> None:
    assert confinement.profile(SERVE) == (("/data/models/a", *sorted(RUNTIME, key=_order)), (), False)


def _order(path: str) -> tuple[bool, str]:
    return path.startswith("/sys"), path


def test_a_worker_with_an_optimised_graph_reads_that_too() -> None:
    graph = CachedGraph("/data/graphs/a", {})
    assert set(confinement.profile(msgspec.structs.replace(SERVE, graph=graph)).readable) == {
        "/data/models/a",
        "/data/graphs/a",
        *RUNTIME,
    }


def test_only_an_optimisation_writes_and_only_into_its_folder() -> None:
    spec = msgspec.structs.replace(SERVE, role="optimise", output="/data/incoming/b")
    assert confinement.profile(spec).writable == ("/data/incoming/b",)


def test_only_a_worker_on_a_gpu_speaks_to_devices_and_names_its_threads() -> None:
    spec = msgspec.structs.replace(SERVE, providers=("CUDAExecutionProvider", "CPUExecutionProvider"))
    allowed = confinement.profile(spec)
    assert allowed.devices
    assert {"/proc", "/usr/local/cuda", *RUNTIME} < set(allowed.readable)
    assert "/proc/self/task" in allowed.writable
    assert all(path.startswith("/dev/nvidia") for path in allowed.writable if path != "/proc/self/task")


def test_the_working_folder_is_no_part_of_the_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    confinement.runtime_folders.cache_clear()
    assert set(confinement.runtime_folders()) < RUNTIME
    assert not any(tmp_path.is_relative_to(folder) for folder in confinement.runtime_folders())
