"""What a box says of its GPU and of TensorRT, from libraries that are played by Python: no real one was ever asked."""

import ctypes
import importlib
import os
from collections.abc import Callable
from typing import Any

import pytest

# As the zygote has it before its first import: onnxruntime is not to phone home from a test either.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
runtime = importlib.import_module("appliance.workers.runtime")

ATTRIBUTES = {75: 8, 76: 9, 16: 128}


class Cuda:
    """The driver's interface, with one GPU under the number 1 and the handle 7."""

    fails = ""

    def __getattr__(self, name: str) -> Callable[..., int]:
        if name == self.fails:
            return lambda *_: 100
        answer: Callable[..., int] = getattr(self, f"_{name}")
        return answer

    def _cuInit(self, _flags: int) -> int:
        return 0

    def _cuDeviceGet(self, device: Any, number: int) -> int:
        device._obj.value = 7
        return 0 if number == 1 else 101

    def _cuDeviceGetName(self, name: Any, size: int, device: ctypes.c_int) -> int:
        assert (size, device.value) == (256, 7)
        name.value = b"NVIDIA GeForce RTX 4090"
        return 0

    def _cuDeviceTotalMem_v2(self, memory: Any, device: ctypes.c_int) -> int:
        assert device.value == 7
        memory._obj.value = 24 * 2**30
        return 0

    def _cuDeviceGetAttribute(self, number: Any, attribute: int, device: ctypes.c_int) -> int:
        assert device.value == 7
        number._obj.value = ATTRIBUTES[attribute]
        return 0


class TensorRt:
    def getInferLibVersion(self) -> int:
        return 101300


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Those that can be loaded, by name."""
    there: dict[str, object] = {"libcuda.so.1": Cuda(), "libnvinfer.so.10": TensorRt()}

    def load(name: str, **_: object) -> object:
        if name not in there:
            raise OSError(f"{name}: cannot open shared object file")
        return there[name]

    monkeypatch.setattr(ctypes, "CDLL", load)
    return there


def test_a_box_tells_all_that_its_engines_depend_on(libraries: dict[str, object]) -> None:
    facts = runtime.engine_facts(1)
    known = {"gpu": "NVIDIA GeForce RTX 4090", "memory_mib": "24576", "major": "8", "minor": "9"}
    known |= {"multiprocessors": "128", "tensorrt": "101300"}
    assert known.items() <= facts.items()
    assert facts.keys() - known.keys() == {"onnxruntime", "cuda", "machine"}


@pytest.mark.parametrize("name", ["libcuda.so.1", "libnvinfer.so.10"])
def test_what_lacks_one_library_tells_nothing(libraries: dict[str, object], name: str) -> None:
    del libraries[name]
    assert runtime.engine_facts(1) == {}


@pytest.mark.parametrize(
    "call", ["cuInit", "cuDeviceGet", "cuDeviceGetName", "cuDeviceTotalMem_v2", "cuDeviceGetAttribute"]
)
def test_a_driver_that_does_not_say_all_says_nothing(libraries: dict[str, object], call: str) -> None:
    cuda = Cuda()
    cuda.fails = call
    libraries["libcuda.so.1"] = cuda
    assert runtime.engine_facts(1) == {}


def test_a_process_that_has_not_loaded_tensorrt_tells_nothing() -> None:
    assert runtime.engine_facts(0) == {}
