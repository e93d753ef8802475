"""Models on a GPU that is faked at the boundary to onnxruntime, and nowhere else: real node, real processes, real
kills. What a real one does, tests/gpu asks."""

import json
import os
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from appliance.cli.examination import examine
from appliance.core.vectors import Bound, Vector, Vectors, VectorTensor
from appliance.settings import Settings
from tests.conftest import RunningNode
from tests.process.models import bundle, counting, doubling, echoing, normalised, optional
from tests.process.test_cached_graphs import ROW
from tests.process.test_faults import FOR_EVER, ask, deploy, double, gone, parent, refusal, wait_until

MIB = 1024 * 1024
StartGpu = Callable[..., RunningNode]
LIMITED = "[limits]\nrun_seconds = 0.5\n"
TURNS = 500_000


def pretend_gpu(folder: Path, **settings: object) -> Path:
    """A folder to be put first on PYTHONPATH; for the settings see fake_runtime.py."""
    shutil.copytree(Path(__file__).with_name("fake_gpu"), folder)
    usual = {
        "vram_bytes": 1024 * MIB,
        "times": 1.0,
        "says": "cuda",
        "gpu": "Pretended 4090",
        "engine_bytes": 3000,
        "adds": 0.0,
        "breaks_at": None,
    }
    (folder / "gpu.json").write_text(json.dumps(usual | settings))
    return folder


@pytest.fixture
def on_gpu(nodes: Callable[..., RunningNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StartGpu:
    """Starts a node on a box with a pretended GPU: `on_gpu(vram_bytes=...)`."""

    def start(*flags: str, **settings: object) -> RunningNode:
        gpu = pretend_gpu(tmp_path / "fake_gpu", **settings)
        monkeypatch.setenv("PYTHONPATH", str(gpu))
        return nodes(*flags)

    return start


def workers_of(node: RunningNode, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(node, f"/v1/models/{name}")["workers"]
    return found


def proven(path: Path, x: float, y: float) -> Path:
    """A bundle of doubling() with a test vector: of x comes y."""

    def row(name: str, value: float) -> VectorTensor:
        return VectorTensor(name, "FP32", (1, 2), np.array([value, 0.0], "<f4").tobytes())

    vectors = Vectors((Vector((row("x", x),), (row("y", y),)),), bounds={"y": Bound(absolute=1e-5, relative=1e-5)})
    bundle(path, doubling(path.with_suffix(".onnx")), "")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("vectors/parity.json", msgspec.json.encode(vectors))
    return path


def worker_of(node: RunningNode, name: str) -> dict[str, Any]:
    (worker,) = workers_of(node, name)
    return worker


def on(node: RunningNode, name: str) -> str:
    return str(worker_of(node, name)["providers"][0])


def device_of(node: RunningNode) -> str:
    return str(ask(node, "/v1/nodes")["nodes"][0]["device"])


def test_many_models_share_one_worker_and_each_says_what_it_got_and_holds(on_gpu: StartGpu, tmp_path: Path) -> None:
    node = on_gpu()
    # TensorRT was tried first and could not start, which is said; CUDA could.
    assert device_of(node).startswith("GPU 0: CUDAExecutionProvider, CPUExecutionProvider (TensorrtExecutionProvider: ")
    deploy(node, "doubling", doubling(tmp_path / "d.onnx"))
    deploy(node, "net", normalised(tmp_path / "n.onnx"))
    assert double(node, 1.5) == 3.0
    outputs = ask(node, "/v1/models/net", {"x": ROW})["outputs"]["y"]
    assert len(outputs[0]) == 256
    one, other = worker_of(node, "doubling"), worker_of(node, "net")
    assert one["pid"] == other["pid"]
    assert one["providers"] == other["providers"] == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    size_bytes = (tmp_path / "n.onnx").stat().st_size
    # As measured around the load and after its first run, not as reckoned.
    wait_until(lambda: worker_of(node, "net")["device_bytes"] == size_bytes + size_bytes // 2, "use is measured")
    listed = {model["model"]: model["runs_on"] for model in ask(node, "/v1/models")["models"]}
    assert listed == {"local/doubling": ["CUDAExecutionProvider"], "local/net": ["CUDAExecutionProvider"]}
    ask(node, "/v2/repository/models/doubling/unload", {})
    assert workers_of(node, "doubling") == []
    assert ask(node, "/v1/models/net", {"x": ROW})["outputs"]["y"] == outputs
    assert double(node, 2.0) == 4.0


def test_a_gpu_that_a_session_does_not_get_is_not_believed(on_gpu: StartGpu, tmp_path: Path) -> None:
    node = on_gpu("--device", "cuda", says="cpu")
    assert device_of(node) == ("CPU: CUDAExecutionProvider was asked for, and the session got the CPU alone")
    deploy(node, "doubling", doubling(tmp_path / "d.onnx"))
    assert double(node, 1.0) == 2.0
    worker = worker_of(node, "doubling")
    assert worker["providers"] == ["CPUExecutionProvider"]
    assert "the session got the CPU alone" in worker["note"]


def test_an_input_that_an_initialiser_stands_in_for_may_be_given_on_the_gpu_or_not(
    on_gpu: StartGpu, tmp_path: Path
) -> None:
    node = on_gpu()
    deploy(node, "optional", optional(tmp_path / "o.onnx"))
    x = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    w = {"name": "w", "datatype": "FP32", "shape": [2], "data": [10, 20]}
    for inputs, y in (([x], [2, 3]), ([x, w], [11, 22])):
        (answer,) = ask(node, "/v2/models/optional/infer", {"inputs": inputs})["outputs"]
        assert answer["data"] == y
    assert on(node, "optional") == "CUDAExecutionProvider"


def test_a_model_of_texts_runs_on_the_cpu_and_says_why(on_gpu: StartGpu, tmp_path: Path) -> None:
    node = on_gpu()
    deploy(node, "echoing", echoing(tmp_path / "e.onnx"))
    assert ask(node, "/v1/models/echoing", {"x": ["a", "é"]})["outputs"]["y"] == ["a", "é"]
    worker = worker_of(node, "echoing")
    assert worker["providers"] == ["CPUExecutionProvider"]
    assert "it takes or gives texts, with which no GPU computes" in worker["note"]


@pytest.mark.parametrize(("says", "verdict", "word"), [("cuda", "ok", "by CUDA"), ("cpu", "warn", "got the CPU alone")])
def test_the_doctor_tries_the_gpu_as_the_node_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, verdict: str, word: str
) -> None:
    monkeypatch.syspath_prepend(pretend_gpu(tmp_path / "fake_gpu", says=says))
    (finding,) = (each for each in examine(Settings(device="cuda", data_dir=tmp_path)) if each.about == "gpu")
    assert (finding.verdict, word in finding.sentence) == (verdict, True), finding


def test_a_model_too_large_for_the_gpu_runs_on_the_cpu_and_says_why(on_gpu: StartGpu, tmp_path: Path) -> None:
    node = on_gpu(vram_bytes=150 * MIB)  # all but a tenth is for models
    deploy(node, "doubling", doubling(tmp_path / "d.onnx"))
    deploy(node, "net", normalised(tmp_path / "n.onnx"))
    ask(node, "/v1/models/net", {"x": ROW})
    worker = worker_of(node, "net")
    assert worker["providers"] == ["CPUExecutionProvider"]
    assert "MiB of the GPU's memory, and 135 MiB can be had" in worker["note"]
    assert double(node, 1.0) == 2.0
    assert on(node, "doubling") == "CUDAExecutionProvider"


def test_a_model_that_answers_otherwise_on_the_gpu_than_its_vectors_runs_on_the_cpu(
    on_gpu: StartGpu, tmp_path: Path
) -> None:
    node = on_gpu(adds=0.5)
    deploy(node, "doubling", proven(tmp_path / "v.ingle", 1.0, 2.0))  # at which the CPU answers
    assert double(node, 3.0) == 6.0
    worker = worker_of(node, "doubling")
    assert worker["providers"] == ["CPUExecutionProvider"]
    assert "answers otherwise here than where it was converted: output 'y' of test vector 1" in worker["note"]
    deploy(node, "unproven", doubling(tmp_path / "u.onnx"))
    assert ask(node, "/v1/models/unproven", [3.0, 0.0])["outputs"]["y"][0] == [6.5, 0.5]


def _holds(node: RunningNode, name: str, least_bytes: int) -> bool:
    return bool(worker_of(node, name)["device_bytes"] > least_bytes)


def test_an_idle_model_gives_up_the_gpus_memory_to_one_that_is_called(on_gpu: StartGpu, tmp_path: Path) -> None:
    files = {name: normalised(tmp_path / f"{name}.onnx", seed=seed) for seed, name in enumerate(("one", "other"))}
    # Each holds 540 MiB of 1 GiB after its first run.
    node = on_gpu(times=360 * MIB / files["one"].stat().st_size)
    for name, file in files.items():
        deploy(node, name, file)
        ask(node, f"/v1/models/{name}", {"x": ROW})
        wait_until(partial(_holds, node, name, 500 * MIB), "its use is measured")
        ask(node, f"/v2/repository/models/{name}/unload", {})
    for name, idle in (("one", "other"), ("other", "one"), ("one", "other")):
        ask(node, f"/v1/models/{name}", {"x": ROW})
        assert on(node, name) == "CUDAExecutionProvider"
        assert workers_of(node, idle) == []


def test_a_model_whose_load_runs_out_of_vram_runs_on_the_cpu(on_gpu: StartGpu, tmp_path: Path) -> None:
    node = on_gpu(times=1000.0)  # far more than its file lets expect
    deploy(node, "doubling", doubling(tmp_path / "d.onnx"))
    deploy(node, "net", normalised(tmp_path / "n.onnx"))
    assert len(ask(node, "/v1/models/net", {"x": ROW})["outputs"]["y"]) == 1
    worker = worker_of(node, "net")
    assert worker["providers"] == ["CPUExecutionProvider"]
    assert "Failed to allocate memory" in worker["note"]
    assert double(node, 1.0) == 2.0
    assert on(node, "doubling") == "CUDAExecutionProvider"


def test_a_run_that_runs_out_of_vram_is_answered_by_the_cpu(on_gpu: StartGpu, tmp_path: Path) -> None:
    file = normalised(tmp_path / "n.onnx")
    size_bytes = file.stat().st_size
    # The load fits, and the first run's half more does not.
    node = on_gpu(vram_bytes=1024 * MIB, times=(800 * MIB) / size_bytes)
    deploy(node, "net", file)
    assert len(ask(node, "/v1/models/net", {"x": ROW})["outputs"]["y"][0]) == 256
    wait_until(lambda: on(node, "net") == "CPUExecutionProvider", "it runs on the CPU")
    assert "ran out of its worker's memory" in worker_of(node, "net")["note"]


def test_no_call_fails_when_the_gpus_worker_is_killed(on_gpu: StartGpu, tmp_path: Path) -> None:
    node = on_gpu()
    deploy(node, "doubling", doubling(tmp_path / "d.onnx"))
    deploy(node, "net", normalised(tmp_path / "n.onnx"))
    expected = ask(node, "/v1/models/net", {"x": ROW})["outputs"]
    double(node, 0.0)
    killed = set()
    for _ in range(2):
        pid = worker_of(node, "net")["pid"]
        killed.add(pid)
        with ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(ask, node, "/v1/models/net", {"x": ROW}) for _ in range(10)]
            os.kill(pid, signal.SIGKILL)
            assert all(call.result()["outputs"] == expected for call in calls)
        assert double(node, 4.0) == 8.0
    pid = worker_of(node, "doubling")["pid"]
    assert pid not in killed
    os.kill(parent(pid), signal.SIGKILL)
    wait_until(lambda: gone(pid), "the zygote's worker dies with it")
    assert double(node, 5.0) == 10.0
    assert on(node, "doubling") == "CUDAExecutionProvider"


@contextmanager
def neighbour_comes_back(node: RunningNode, tmp_path: Path) -> Iterator[None]:
    """`net` is on the GPU when the context begins, where the device is broken: after it, it answers as before, there,
    in another process."""
    deploy(node, "net", normalised(tmp_path / "n.onnx"))
    expected = ask(node, "/v1/models/net", {"x": ROW})["outputs"]
    before = worker_of(node, "net")["pid"]
    yield
    assert ask(node, "/v1/models/net", {"x": ROW})["outputs"] == expected
    assert on(node, "net") == "CUDAExecutionProvider"
    assert worker_of(node, "net")["pid"] != before


def test_a_model_whose_run_breaks_the_gpu_for_its_process_goes_to_the_cpu_and_its_neighbours_come_back(
    on_gpu: StartGpu, tmp_path: Path
) -> None:
    node = on_gpu(breaks_at=13.0)
    deploy(node, "doubling", doubling(tmp_path / "d.onnx"))
    assert double(node, 1.0) == 2.0
    with neighbour_comes_back(node, tmp_path):
        assert double(node, 13.0) == 26.0  # which the CPU has said
        worker = worker_of(node, "doubling")
        assert worker["providers"] == ["CPUExecutionProvider"]
        assert "it broke the device: CUDA error 700, an illegal memory access was encountered" in worker["note"]


def test_a_model_whose_load_breaks_the_gpu_goes_to_the_cpu_and_its_neighbours_come_back(
    on_gpu: StartGpu, tmp_path: Path
) -> None:
    node = on_gpu(breaks_at=13.0)
    with neighbour_comes_back(node, tmp_path):
        deploy(node, "doubling", proven(tmp_path / "v.ingle", 13.0, 26.0))
        assert double(node, 1.0) == 2.0
        assert on(node, "doubling") == "CPUExecutionProvider"


def test_a_model_that_ends_the_gpus_worker_twice_goes_to_the_cpu_and_its_neighbour_stays(
    on_gpu: StartGpu, tmp_path: Path
) -> None:
    node = on_gpu()
    limited = bundle(tmp_path / "c.ingle", counting(tmp_path / "c.onnx"), LIMITED)
    deploy(node, "counting", limited)
    deploy(node, "doubling", doubling(tmp_path / "d.onnx"))
    assert double(node, 1.0) == 2.0
    status, error = refusal(node, "/v1/models/counting", {"turns": [FOR_EVER]})
    assert status == 500
    assert "limit of 0.5 s" in error["error"]
    assert double(node, 2.0) == 4.0
    assert on(node, "doubling") == "CUDAExecutionProvider"
    assert ask(node, "/v1/models/counting", {"turns": [3]})["outputs"]["y"] == [3]
    worker = worker_of(node, "counting")
    assert worker["providers"] == ["CPUExecutionProvider"]
    assert "ended 2 times" in worker["note"]


def test_a_call_that_waits_for_a_neighbours_long_run_longer_than_its_own_limit_is_answered_and_ends_nobody(
    on_gpu: StartGpu, tmp_path: Path
) -> None:
    node = on_gpu()
    deploy(node, "counting", counting(tmp_path / "c.onnx"))
    deploy(node, "doubling", bundle(tmp_path / "d.ingle", doubling(tmp_path / "d.onnx"), LIMITED))
    ask(node, "/v1/models/counting", {"turns": [1]})
    assert double(node, 1.0) == 2.0
    before = worker_of(node, "doubling")["pid"]
    with ThreadPoolExecutor(1) as pool:
        # Some seconds on this kind of box.
        long = pool.submit(ask, node, "/v1/models/counting", {"turns": [TURNS]})
        wait_until(lambda: worker_of(node, "counting")["in_flight"] == 1, "it runs")
        assert double(node, 2.0) == 4.0
        assert long.result()["outputs"]["y"] == [TURNS]
    assert worker_of(node, "doubling")["pid"] == worker_of(node, "counting")["pid"] == before
