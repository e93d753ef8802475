"""Models on the GPU of this box: real node, real driver, real kills. Skipped where there is no NVIDIA driver; where it
is, and the node does not get its GPU, each fails with the reason of the node."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from appliance.client import Client
from benchmarks.models import BenchmarkModel, convnet, residual
from tests.conftest import RunningNode, start_node, stop_node
from tests.process.models import bundle, counting, doubling, normalised
from tests.process.test_cached_graphs import ROW
from tests.process.test_faults import FOR_EVER, ask, deploy, double, gone, parent, refusal, wait_until
from tests.process.test_gpu import device_of, on, worker_of, workers_of

pytestmark = pytest.mark.skipif(
    not Path("/proc/driver/nvidia/version").exists() and not Path("/dev/nvidiactl").exists(),
    reason="no NVIDIA driver is here",
)
MIB = 1024 * 1024
CUDA = "CUDAExecutionProvider"
HEAVY_MIB = 100
# Holds all of the device's memory but so many MiB, by the driver alone, until its input ends.
_HOG = """
import ctypes, sys
cuda, device, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_void_p()
free, total, held = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_uint64()
assert not cuda.cuInit(0)
assert not cuda.cuDeviceGet(ctypes.byref(device), 0)
assert not cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
assert not cuda.cuCtxSetCurrent(context)
assert not cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
assert not cuda.cuMemAlloc_v2(ctypes.byref(held), ctypes.c_size_t(free.value - int(sys.argv[1]) * 2**20))
print(flush=True)
sys.stdin.read()
"""

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """One node for all tests that leave its GPU as it is."""
    running = start_node(tmp_path_factory.mktemp("gpu"), "--device", "cuda")
    assert device_of(running).startswith(f"GPU 0: {CUDA}"), f"{device_of(running)}\n{running.log.read_text()}"
    yield running
    assert stop_node(running) == 0


@pytest.fixture
def all_but(nodes: Callable[..., RunningNode]) -> Iterator[Callable[[int], RunningNode]]:
    """Starts a node, and has another program take all of the GPU's memory but so many MiB beside it."""
    hogs: list[subprocess.Popen[bytes]] = []

    def start(left_mib: int) -> RunningNode:
        node = nodes("--device", "cuda")
        assert device_of(node).startswith("GPU 0"), node.log.read_text()
        hog = subprocess.Popen(
            [sys.executable, "-c", _HOG, str(left_mib)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        hogs.append(hog)
        assert hog.stdout is not None
        assert hog.stdout.readline() == b"\n"
        return node

    yield start
    for hog in hogs:
        hog.communicate()


@contextmanager
def calls(node: RunningNode) -> Iterator[Client]:
    with Client(node.url, node.admin_key) as client:
        yield client


def heavy(path: Path, seed: int) -> Path:
    """y = the sums of x @ w, FP32 [n, 64] to [n, 1], with 100 MiB of weights."""
    weights = np.full((64, HEAVY_MIB * MIB // 4 // 64), 1 + seed, np.float32)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("ReduceMean", ["h"], ["y"], axes=[1])]
    graph = helper.make_graph(nodes, "heavy", [x], [y], [numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def heavy_answer(node: RunningNode, name: str) -> float:
    answer = ask(node, f"/v1/models/{name}", {"x": [[1.0] * 64]})["outputs"]["y"][0][0]
    assert isinstance(answer, float)
    return answer


@pytest.mark.parametrize("model", [convnet, residual], ids=lambda model: model.name)
def test_a_net_answers_on_the_gpu_as_on_the_cpu(gpu: RunningNode, model: BenchmarkModel, tmp_path: Path) -> None:
    file = model.write(tmp_path)
    rows = model.rows(4)
    truth = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(None, {"x": rows})[0]
    deploy(gpu, model.name, file)
    with calls(gpu) as client:
        answer = client.infer(model.name, {"x": rows}).outputs["y"]
    assert on(gpu, model.name) == CUDA
    # FP32 to the last bits but three or four; TF32 would be off by a thousandth.
    assert np.abs(answer - truth).max() <= 1e-5 * np.abs(truth).max()


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64", "object"]
)
@pytest.mark.parametrize("shape", [(3, 2), (0, 2)], ids=["some", "none"])
def test_each_dtype_goes_to_the_gpu_and_back(
    gpu: RunningNode, dtype: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    values = np.array([["a", "é", ""][number % 3] if dtype == "object" else number for number in range(6)], dtype)
    rows = values.reshape(3, 2)[: shape[0]]
    kind = TensorProto.STRING if dtype == "object" else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x, y = (helper.make_tensor_value_info(name, kind, ["n", 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Concat", ["x", "x"], ["y"], axis=1)], "twice", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "twice.onnx"))
    name = f"twice-{dtype}-{shape[0]}"
    deploy(gpu, name, tmp_path / "twice.onnx")
    with calls(gpu) as client:
        answer = client.infer(name, {"x": rows}).outputs["y"]
    expected = np.concatenate([rows, rows], axis=1)
    np.testing.assert_array_equal(answer, np.char.encode(expected.astype("U")) if dtype == "object" else expected)
    assert on(gpu, name) == ("CPUExecutionProvider" if dtype == "object" else CUDA)


def test_many_models_share_one_process_on_the_gpu_and_what_each_holds_is_measured(
    gpu: RunningNode, tmp_path: Path
) -> None:
    names = [f"heavy-{seed}" for seed in range(4)]
    for seed, name in enumerate(names):
        deploy(gpu, name, heavy(tmp_path / "heavy.onnx", seed))
        assert heavy_answer(gpu, name) == pytest.approx(64.0 * (1 + seed), rel=1e-5)
    assert len({worker_of(gpu, name)["pid"] for name in names}) == 1
    for name in names:
        held_mib = worker_of(gpu, name)["device_bytes"] / MIB
        assert HEAVY_MIB <= held_mib <= 1.5 * HEAVY_MIB + 64


def test_calls_at_once_share_runs_on_the_gpu_and_answer_as_alone(gpu: RunningNode, tmp_path: Path) -> None:
    deploy(gpu, "net", normalised(tmp_path / "n.onnx"))
    alone = np.array(ask(gpu, "/v1/models/net", {"x": ROW})["outputs"]["y"])
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ask(gpu, "/v1/models/net", {"x": ROW})["outputs"]["y"], range(128)))
    for answer in answers:
        np.testing.assert_allclose(answer, alone, rtol=1e-5, atol=1e-6)


def test_the_process_on_the_gpu_is_confined(gpu: RunningNode, tmp_path: Path) -> None:
    deploy(gpu, "doubling", doubling(tmp_path / "d.onnx"))
    assert double(gpu, 1.0) == 2.0
    pid = worker_of(gpu, "doubling")["pid"]
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()


def test_a_model_that_is_put_to_sleep_gives_the_gpus_memory_back(
    nodes: Callable[..., RunningNode], tmp_path: Path
) -> None:
    import pynvml  # of ingle[gpu]

    pynvml.nvmlInit()

    def free_mib() -> float:
        return float(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).free) / MIB

    node = nodes("--device", "cuda")
    deploy(node, "heavy", heavy(tmp_path / "h.onnx", 0))
    heavy_answer(node, "heavy")
    wait_until(lambda: worker_of(node, "heavy")["device_bytes"] > HEAVY_MIB * MIB, "it is measured")
    with_it_mib = free_mib()
    ask(node, "/v2/repository/models/heavy/unload", {})
    wait_until(lambda: free_mib() > with_it_mib + 0.8 * HEAVY_MIB, "the memory is free")


def test_idle_models_give_way_when_the_gpus_memory_is_short(
    all_but: Callable[[int], RunningNode], tmp_path: Path
) -> None:
    node = all_but(700)
    names = [f"heavy-{seed}" for seed in range(6)]
    for seed, name in enumerate(names):
        deploy(node, name, heavy(tmp_path / "heavy.onnx", seed))
    for _, (seed, name) in itertools.product(range(2), enumerate(names)):
        assert heavy_answer(node, name) == pytest.approx(64.0 * (1 + seed), rel=1e-5)
        assert on(node, name) == CUDA, worker_of(node, name)["note"]
    assert any(workers_of(node, name) == [] for name in names)


def test_a_model_too_large_for_what_is_left_runs_on_the_cpu_and_says_why(
    all_but: Callable[[int], RunningNode], tmp_path: Path
) -> None:
    node = all_but(70)
    deploy(node, "heavy", heavy(tmp_path / "h.onnx", 0))
    assert heavy_answer(node, "heavy") == pytest.approx(64.0, rel=1e-5)
    worker = worker_of(node, "heavy")
    assert worker["providers"] == ["CPUExecutionProvider"]
    assert "the model does not fit the memory" in worker["note"]


def test_a_run_that_finds_no_room_on_the_gpu_is_answered_by_the_cpu(
    all_but: Callable[[int], RunningNode], tmp_path: Path
) -> None:
    node = all_but(600)
    deploy(node, "heavy", heavy(tmp_path / "h.onnx", 0))
    assert heavy_answer(node, "heavy") == pytest.approx(64.0, rel=1e-5)
    assert on(node, "heavy") == CUDA
    rows = 512  # 800 MiB between its two nodes
    with calls(node) as client:
        answer = client.infer("heavy", {"x": np.ones((rows, 64), np.float32)}).outputs["y"]
    np.testing.assert_allclose(answer, np.full((rows, 1), 64.0), rtol=1e-5)
    assert on(node, "heavy") == "CPUExecutionProvider"
    assert "ran out of its worker's memory" in worker_of(node, "heavy")["note"]


def test_no_call_fails_when_the_process_on_the_gpu_is_killed(nodes: Callable[..., RunningNode], tmp_path: Path) -> None:
    node = nodes("--device", "cuda")
    deploy(node, "doubling", doubling(tmp_path / "d.onnx"))
    deploy(node, "net", normalised(tmp_path / "n.onnx"))
    ask(node, "/v1/models/net", {"x": ROW})
    double(node, 0.0)
    for _ in range(2):
        pid = worker_of(node, "net")["pid"]
        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(ask, node, "/v1/models/net", {"x": ROW}) for _ in range(50)]
            os.kill(pid, signal.SIGKILL)
            assert all(len(future.result()["outputs"]["y"][0]) == 256 for future in futures)
        assert double(node, 4.0) == 8.0
        assert worker_of(node, "doubling")["pid"] != pid
    pid = worker_of(node, "doubling")["pid"]
    os.kill(parent(pid), signal.SIGKILL)
    wait_until(partial(gone, pid), "the zygote's worker dies with it")
    assert double(node, 5.0) == 10.0
    assert on(node, "doubling") == CUDA


def test_a_model_that_hangs_on_the_gpu_twice_goes_to_the_cpu_and_its_neighbour_stays(
    nodes: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = nodes("--device", "cuda")
    limited = bundle(tmp_path / "c.ingle", counting(tmp_path / "c.onnx"), "[limits]\nrun_seconds = 2.0\n")
    deploy(node, "counting", limited)
    deploy(node, "doubling", doubling(tmp_path / "d.onnx"))
    assert double(node, 1.0) == 2.0
    status, error = refusal(node, "/v1/models/counting", {"turns": [FOR_EVER]})
    assert (status, "limit of 2" in error["error"]) == (500, True), error
    assert double(node, 2.0) == 4.0
    assert on(node, "doubling") == CUDA
    assert ask(node, "/v1/models/counting", {"turns": [3]})["outputs"]["y"] == [3]
    assert on(node, "counting") == "CPUExecutionProvider"
