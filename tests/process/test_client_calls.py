"""The Python client's calls: over HTTP and ZeroMQ, in a thread and in an event loop, all four alike."""

import array
import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.client import AsyncClient, Client, Inference, Tensor
from appliance.core.errors import (
    BadInputError,
    DeadlineError,
    ForbiddenError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)
from appliance.core.names import parse_name
from tests.conftest import RunningNode
from tests.process.models import counting, doubling

Ask = Callable[..., Any]
WAYS = ["http", "zmq", "http, async", "zmq, async"]


@pytest.fixture(scope="module")
def served(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> RunningNode:
    folder: Path = tmp_path_factory.mktemp("models")
    with Client(node.url, node.admin_key) as client:
        for name, make in (("doubling", doubling), ("counting", counting)):
            client.deploy(parse_name(f"calls/{name}"), iter([make(folder / f"{name}.onnx").read_bytes()]))
    return node


def url_of(node: RunningNode, way: str) -> str:
    return node.url if way.startswith("http") else f"tcp://{node.zmq}"


def asking(way: str, url: str | list[str], key: str, method: str, *args: Any, **named: Any) -> Any:
    """Opens a client, has it do one thing, closes it."""
    if not way.endswith("async"):
        with Client(url, key) as client:
            return getattr(client, method)(*args, **named)

    async def ask() -> Any:
        async with AsyncClient(url, key) as client:
            return await getattr(client, method)(*args, **named)

    return asyncio.run(ask())


@pytest.fixture(params=WAYS)
def ask(request: pytest.FixtureRequest, served: RunningNode) -> Ask:
    """One thing asked of the node: `ask("infer", ...)`; `key` and `url` may be others."""
    way = request.param

    def ask(method: str, *args: Any, key: str = served.admin_key, url: Any = None, **named: Any) -> Any:
        return asking(way, url or url_of(served, way), key, method, *args, **named)

    return ask


def test_arrays_go_in_and_come_out(ask: Ask, served: RunningNode) -> None:
    x = np.array([[1, 2], [3, 4]], np.float32)
    answer: Inference = ask("infer", "calls/doubling", {"x": x})
    assert np.array_equal(answer.outputs["y"], x * 2)
    assert answer.outputs["y"].dtype == np.float32
    assert (answer.model, answer.version) == ("calls/doubling", "1")
    assert answer.call
    assert answer.node


def test_what_is_no_numpy_array_goes_in_too(ask: Ask) -> None:
    for x in (
        memoryview(array.array("f", [1, 2])).cast("B").cast("f", [1, 2]),
        np.array([[9, 1, 9, 2]], "f4")[:, 1::2],
    ):
        assert ask("infer", "calls/doubling", {"x": x}).outputs["y"].tolist() == [[2, 4]]
    x = Tensor("FP32", [1, 2], np.float32([1, 2]).tobytes())
    assert ask("infer", "calls/doubling", {"x": x}, outputs=["y"]).outputs["y"].tolist() == [[2, 4]]
    assert ask("infer", "calls/doubling", {"x": np.empty((0, 2), "f4")}).outputs["y"].shape == (0, 2)


def test_tensors_of_twenty_megabytes_go_both_ways(ask: Ask) -> None:
    x = np.arange(5_000_000, dtype=np.float32).reshape(-1, 2)
    assert np.array_equal(ask("infer", "calls/doubling", {"x": x}).outputs["y"], x * 2)


def test_what_is_asked_of_models_is_answered_alike(ask: Ask) -> None:
    assert ask("ready") is True
    assert ask("ready", "calls/doubling") is True
    assert ask("ready", "calls/nothing") is False
    assert ask("metadata", "calls/doubling", "1.0.0")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    row = {"name": "calls/doubling", "version": "1", "state": "READY", "reason": ""}
    assert row in ask("index", ready_only=True)


@pytest.mark.parametrize(
    ("model", "inputs", "named", "kind"),
    [
        ("calls/nothing", {"x": np.ones((1, 2), "f4")}, {}, NotFoundError),
        ("calls/doubling", {"x": np.ones((1, 2), "f4")}, {"version": "7"}, NotFoundError),
        ("calls/doubling", {"z": np.ones((1, 2), "f4")}, {}, BadInputError),
        ("calls/doubling", {"x": np.ones((1, 2), "f8")}, {}, BadInputError),
        ("calls/doubling", {"x": np.ones((1, 3), "f4")}, {}, BadInputError),
        ("calls/doubling", {"x": np.ones((1, 2), "f4")}, {"outputs": ["z"]}, BadInputError),
        ("calls/doubling", {"x": np.ones((1, 2), "f4")}, {"key": "simno"}, UnauthenticatedError),
        ("calls/doubling", {"x": [1.0, 2.0]}, {}, BadInputError),
        ("calls/doubling", {"x": np.ones((1, 2), ">f4")}, {}, BadInputError),
        ("calls/counting", {"turns": np.array([10**6])}, {"deadline_s": 0.02}, DeadlineError),
    ],
)
def test_errors_are_of_the_same_class_whichever_way(
    ask: Ask, model: str, inputs: dict[str, Any], named: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind) as refused:
        ask("infer", model, inputs, **named)
    assert " " in str(refused.value)


def test_a_key_may_do_what_its_scopes_say(ask: Ask, served: RunningNode) -> None:
    with Client(served.url, served.admin_key) as client:
        key = client.create_key("counting only", ["call:calls/counting"]).key
    with pytest.raises(ForbiddenError):
        ask("infer", "calls/doubling", {"x": np.ones((1, 2), "f4")}, key=key)
    assert [row["name"] for row in ask("index", key=key)] == ["calls/counting"]


@pytest.mark.parametrize("way", WAYS)
def test_where_nobody_answers_the_next_node_is_asked(served: RunningNode, way: str) -> None:
    nowhere = "http://127.0.0.1:1" if way.startswith("http") else "tcp://127.0.0.1:1"
    with pytest.raises(UnavailableError, match="no node answers"):
        asking(way, nowhere, "", "ready")
    assert asking(way, [nowhere, url_of(served, way)], served.admin_key, "ready") is True


@contextlib.contextmanager
def hanging_up(way: str) -> Iterator[tuple[str, list[bytes]]]:
    """The URL of who hangs up under the first call, and is not there for a second; what it was sent, in the end."""
    taken: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            server.close()  # aiohttp would ask a second time what changes nothing
            taken.append(connection.recv(10))
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        yield f"{'http' if way.startswith('http') else 'tcp'}://127.0.0.1:{server.getsockname()[1]}", taken
        thread.join()


@pytest.mark.parametrize("way", WAYS)
def test_a_connection_that_breaks_is_said_and_not_tried_again(way: str) -> None:
    with hanging_up(way) as (url, taken), pytest.raises(UnavailableError):
        asking(way, url, "", "ready")
    assert len(taken) == 1


@pytest.mark.parametrize("way", WAYS)
def test_what_a_node_that_ends_had_begun_is_asked_of_the_next_one(served: RunningNode, way: str) -> None:
    x = np.ones((1, 2), np.float32)
    with hanging_up(way) as (url, taken):
        urls = [url, url_of(served, way)]
        answer = asking(way, urls, served.admin_key, "infer", "calls/doubling", {"x": x}, deadline_s=30.0)
    assert answer.outputs["y"].tolist() == [[2, 2]]
    assert len(taken) == 1


@pytest.mark.parametrize("way", ["http, async", "zmq, async"])
def test_many_calls_at_once_move_on_together(served: RunningNode, way: str) -> None:
    nowhere = "http://127.0.0.1:1" if way.startswith("http") else "tcp://127.0.0.1:1"
    x = np.ones((1, 2), np.float32)

    async def call() -> list[Inference]:
        async with AsyncClient([nowhere, nowhere, url_of(served, way)], served.admin_key) as client:
            return await asyncio.gather(*(client.infer("calls/doubling", {"x": x}) for _ in range(20)))

    assert [answer.outputs["y"].tolist() for answer in asyncio.run(call())] == [[[2, 2]]] * 20


@pytest.mark.parametrize("way", WAYS)
def test_a_node_that_dies_under_a_call_is_told_at_once(
    nodes: Callable[..., RunningNode], way: str, tmp_path: Path
) -> None:
    node = nodes()
    with Client(node.url, node.admin_key) as client:
        client.deploy(parse_name("calls/counting"), iter([counting(tmp_path / "counting.onnx").read_bytes()]))
    killer = threading.Timer(0.5, node.process.kill)
    killer.start()
    with pytest.raises(UnavailableError):
        asking(way, url_of(node, way), node.admin_key, "infer", "calls/counting", {"turns": np.array([10**9])})
    killer.join()


@pytest.mark.parametrize("way", ["http, async", "zmq, async"])
def test_many_calls_at_once_are_told_apart(served: RunningNode, way: str) -> None:
    async def call() -> list[Inference]:
        async with AsyncClient(url_of(served, way), served.admin_key) as client:
            rows = [np.full((1, 2), number, np.float32) for number in range(200)]
            return await asyncio.gather(*(client.infer("calls/doubling", {"x": row}) for row in rows))

    assert [answer.outputs["y"][0, 0] for answer in asyncio.run(call())] == [2.0 * number for number in range(200)]


def test_management_is_for_http(served: RunningNode) -> None:
    with Client(f"tcp://{served.zmq}", served.admin_key) as client, pytest.raises(UnsupportedError, match="HTTP"):
        client.models()


def test_the_readmes_example_runs(served: RunningNode, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = text.replace("HOST:8003", served.zmq).replace("me/model", "calls/doubling")
    exec(compile(code, "README.md", "exec"), {"KEY": served.admin_key, "array": np.ones((1, 2), np.float32)})
    assert capsys.readouterr().out.startswith("[[2. 2.]]")
