"""Many models on little memory, and models that change under their callers. Real processes and real calls."""

import base64
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import RunningNode
from tests.process.models import doubling
from tests.process.test_faults import ask, deploy, wait_until, workers


def adding(path: Path, number: float) -> bytes:
    """y = x + number, FP32 [n, 2]."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    constant = numpy_helper.from_array(np.array([number], np.float32), "number")
    graph = helper.make_graph([helper.make_node("Add", ["x", "number"], ["y"])], "adding", [x], [y], [constant])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path.read_bytes()


def call(node: RunningNode, name: str) -> float:
    value = ask(node, f"/v1/models/{name}", [0, 0])["outputs"]["y"][0][0]
    assert isinstance(value, float)
    return value


@contextmanager
def called_all_the_time(node: RunningNode, name: str, callers: int = 4) -> Iterator[list[float]]:
    """Calls go on while the block runs; what they were answered. One that fails, fails the test."""
    stop = threading.Event()
    answers: list[float] = []

    def caller() -> None:
        while not stop.is_set():
            answers.append(call(node, name))

    with ThreadPoolExecutor(callers) as pool:
        callers_of = [pool.submit(caller) for _ in range(callers)]
        try:
            wait_until(lambda: len(answers) > callers, "the callers are answered")
            yield answers
        finally:
            stop.set()
        for one in callers_of:
            one.result()


def test_many_models_share_memory_for_a_few_and_no_call_fails(
    nodes: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = nodes("--memory-budget", "40MiB")
    model = doubling(tmp_path / "d.onnx")
    names = [f"many/m{index}" for index in range(16)]
    for name in names:
        deploy(node, name, model)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda name: ask(node, f"/v1/models/{name}", [3, 0]), names * 4))
    assert all(answer["outputs"]["y"] == [[6.0, 0.0]] for answer in answers)
    warm = [name for name in names if workers(node, name)]
    assert 0 < len(warm) < len(names)


@pytest.fixture
def versioned(nodes: Callable[..., RunningNode], tmp_path: Path) -> RunningNode:
    """A node with one model of which 1.0.0 adds one, warm."""
    node = nodes()
    ask(node, "/v1/models/adding:1.0.0", adding(tmp_path / "one.onnx", 1), method="PUT")
    assert call(node, "adding") == 1.0
    return node


def test_a_new_version_takes_over_without_losing_a_call(versioned: RunningNode, tmp_path: Path) -> None:
    with called_all_the_time(versioned, "adding") as answers:
        for number in (2, 3, 4):
            model = adding(tmp_path / f"{number}.onnx", number)
            ask(versioned, f"/v1/models/adding:{number}.0.0", model, method="PUT")
            assert call(versioned, "adding") == number
    assert set(answers) <= {1.0, 2.0, 3.0, 4.0}


def test_an_alias_that_moves_back_and_forth_loses_no_call(versioned: RunningNode, tmp_path: Path) -> None:
    ask(versioned, "/v1/models/adding:2.0.0", adding(tmp_path / "two.onnx", 2), method="PUT")
    ask(versioned, "/v1/models/local/adding/aliases/prod", {"version": "1.0.0"}, method="PUT")
    with called_all_the_time(versioned, "adding:prod"):
        for version in ("2.0.0", "1.0.0", "2.0.0"):
            ask(versioned, "/v1/models/local/adding/aliases/prod", {"version": version}, method="PUT")
            assert call(versioned, "adding:prod") == float(version[0])


def test_a_rollback_loses_no_call(versioned: RunningNode, tmp_path: Path) -> None:
    ask(versioned, "/v1/models/adding:2.0.0", adding(tmp_path / "two.onnx", 2), method="PUT")
    with called_all_the_time(versioned, "adding"):
        ask(versioned, "/v1/models/local/adding/rollback", {}, method="POST")
        assert call(versioned, "adding") == 1.0


def test_a_swap_without_memory_for_two_loses_no_call(nodes: Callable[..., RunningNode], tmp_path: Path) -> None:
    node = nodes("--memory-budget", "11MiB")
    ask(node, "/v1/models/adding:1.0.0", adding(tmp_path / "one.onnx", 1), method="PUT")
    with called_all_the_time(node, "adding"):
        ask(node, "/v1/models/adding:2.0.0", adding(tmp_path / "two.onnx", 2), method="PUT")
        assert call(node, "adding") == 2.0


def test_a_loaded_file_that_replaces_another_loses_no_call(nodes: Callable[..., RunningNode], tmp_path: Path) -> None:
    node = nodes()

    def load(number: float) -> None:
        text = base64.b64encode(adding(tmp_path / "m.onnx", number)).decode()
        ask(node, "/v2/repository/models/adding/load", {"parameters": {"config": "{}", "file:1/model.onnx": text}})

    load(1)
    with called_all_the_time(node, "adding"):
        for number in (2, 3):
            load(number)
            assert call(node, "adding") == number
