"""System shared memory with tritonclient's own regions, over HTTP and gRPC, and what hostile callers try with it."""

import asyncio
import contextlib
import ctypes
import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
import tritonclient.utils.shared_memory as shm
from google.protobuf.json_format import MessageToDict
from served import ADD_ONE, ECHO_TEXT, deploy, make_key, onnx_bytes
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

from tests.conftest import RunningNode, start_node, stop_node

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
# Past the size from which tensors go by the region between gateway and worker.
MANY = np.arange(3 * 50_000, dtype=np.float32).reshape(-1, 3)
CLIENTS = {"http": tritonclient.http, "grpc": tritonclient.grpc}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    own = start_node(tmp_path_factory.mktemp("shared"), "--allow-shared-memory")
    deploy(own, "shm/add", onnx_bytes(ADD_ONE))
    deploy(own, "shm/echo", onnx_bytes(ECHO_TEXT))
    yield own
    assert stop_node(own) == 0


@pytest.fixture(params=["http", "grpc"])
def front(request: Any, shared: RunningNode) -> Iterator[tuple[Any, Any, dict[str, str]]]:
    """tritonclient's module, a client of the node, and the key as headers."""
    module = CLIENTS[request.param]
    with module.InferenceServerClient(getattr(shared, request.param)) as client:
        key = {"authorization": f"Bearer {shared.admin_key}"}
        yield module, client, key
        client.unregister_system_shared_memory(headers=key)


@pytest.fixture
def memory() -> Iterator[Any]:
    """Makes regions of /dev/shm: `memory(size)` gives tritonclient's handle and the key."""
    made = []

    def make(size: int) -> tuple[Any, str]:
        key = f"ingle-test-{uuid.uuid4().hex}"
        made.append(shm.create_shared_memory_region("r", key, size))
        return made[-1], key

    yield make
    for handle in made:
        with contextlib.suppress(FileNotFoundError):
            shm.destroy_shared_memory_region(handle)


def tensor(module: Any, rows: Any, region: str, offset: int = 0, size: int | None = None) -> Any:
    given = module.InferInput("x", list(rows.shape), "FP32")
    given.set_shared_memory(region, rows.nbytes if size is None else size, offset)
    return given


def wanted(module: Any, region: str, size: int, offset: int = 0, name: str = "y", **how: Any) -> Any:
    output = module.InferRequestedOutput(name, **how)
    output.set_shared_memory(region, size, offset)
    return output


@pytest.mark.parametrize("rows", [ROWS, MANY], ids=["small", "large"])
def test_input_and_output_go_by_shared_memory(front: Any, memory: Any, rows: Any) -> None:
    module, client, key = front
    handle, name = memory(2 * rows.nbytes + 64)
    shm.set_shared_memory_region(handle, [rows], offset=64)
    client.register_system_shared_memory("both", name, 2 * rows.nbytes + 64, headers=key)
    outputs = [wanted(module, "both", rows.nbytes, 64 + rows.nbytes)]
    result = client.infer("shm/add", [tensor(module, rows, "both", 64)], outputs=outputs, headers=key)
    found = shm.get_contents_as_numpy(handle, np.float32, rows.shape, 64 + rows.nbytes)
    np.testing.assert_array_equal(found, rows + 1)
    output = result.get_output("y")
    if module is tritonclient.grpc:
        output = MessageToDict(output, preserving_proto_field_name=True)
    assert list(map(int, output["shape"])) == list(rows.shape)
    # Triton's C++ client, and with it perf_analyzer, takes parameters in JSON for the description of binary data.
    assert ("both" in str(output.get("parameters"))) == (module is tritonclient.grpc)
    assert "data" not in output


def test_input_by_memory_and_output_by_answer_and_the_other_way(front: Any, memory: Any) -> None:
    module, client, key = front
    handle, name = memory(MANY.nbytes)
    shm.set_shared_memory_region(handle, [MANY])
    client.register_system_shared_memory("one", f"/{name}", MANY.nbytes, headers=key)
    result = client.infer("shm/add", [tensor(module, MANY, "one")], headers=key)
    np.testing.assert_array_equal(result.as_numpy("y"), MANY + 1)
    sent = module.InferInput("x", list(ROWS.shape), "FP32")
    sent.set_data_from_numpy(ROWS)
    client.infer("shm/add", [sent], outputs=[wanted(module, "one", 1000)], headers=key)
    np.testing.assert_array_equal(shm.get_contents_as_numpy(handle, np.float32, ROWS.shape), ROWS + 1)


def test_texts_go_by_shared_memory(front: Any, memory: Any) -> None:
    module, client, key = front
    texts = np.array([["größer"], [""], ["x" * 70_000]], object).reshape(3)
    raw = serialize_byte_tensor(texts).item()
    handle, name = memory(2 * len(raw))
    shm.set_shared_memory_region(handle, [serialize_byte_tensor(texts)])
    client.register_system_shared_memory("texts", name, 2 * len(raw), headers=key)
    given = module.InferInput("s", [3], "BYTES")
    given.set_shared_memory("texts", len(raw))
    client.infer("shm/echo", [given], outputs=[wanted(module, "texts", len(raw), len(raw), "t")], headers=key)
    found = shm.get_contents_as_numpy(handle, np.object_, [3], len(raw))
    assert [word.decode() for word in found] == list(texts)


def test_many_callers_at_once_each_find_their_own_answer(front: Any, memory: Any) -> None:
    """More than the region between gateway and worker holds at once: what does not fit goes through the socket."""
    module, client, key = front
    count, rows = 24, np.zeros((500_000, 3), np.float32)
    handle, name = memory(2 * rows.nbytes * count)
    client.register_system_shared_memory("many", name, 2 * rows.nbytes * count, headers=key)
    for index in range(count):
        shm.set_shared_memory_region(handle, [rows + index], offset=2 * index * rows.nbytes)

    def asked(index: int) -> dict[str, Any]:
        given = tensor(module, rows, "many", 2 * index * rows.nbytes)
        output = wanted(module, "many", rows.nbytes, (2 * index + 1) * rows.nbytes)
        return {"model_name": "shm/add", "inputs": [given], "outputs": [output], "headers": key}

    if module is tritonclient.http:

        async def all_at_once() -> None:
            async with tritonclient.http.aio.InferenceServerClient(client._parsed_url.netloc) as many:
                await asyncio.gather(*(many.infer(**asked(index)) for index in range(count)))
    else:

        async def all_at_once() -> None:
            async with tritonclient.grpc.aio.InferenceServerClient(client._channel._channel.target().decode()) as many:
                await asyncio.gather(*(many.infer(**asked(index)) for index in range(count)))

    asyncio.run(all_at_once())
    for index in range(count):
        found = shm.get_contents_as_numpy(handle, np.float32, rows.shape, (2 * index + 1) * rows.nbytes)
        assert found.min() == found.max() == index + 1


def test_regions_are_listed_and_forgotten(front: Any, memory: Any) -> None:
    module, client, key = front
    _, name = memory(4096)
    client.register_system_shared_memory("a", name, 1000, offset=96, headers=key)
    client.register_system_shared_memory("b", name, 4096, headers=key)
    listed = client.get_system_shared_memory_status(headers=key, **({"as_json": True} if "grpc" in str(module) else {}))
    rows = listed if isinstance(listed, list) else list(listed["regions"].values())
    found = sorted((row["name"], row["key"], int(row.get("offset", 0)), int(row["byte_size"])) for row in rows)
    assert found == [
        ("a", name, 96, 1000),
        ("b", name, 0, 4096),
    ]
    with pytest.raises(InferenceServerException, match="registered already"):
        client.register_system_shared_memory("a", name, 1000, headers=key)
    client.unregister_system_shared_memory("a", headers=key)
    client.unregister_system_shared_memory("a", headers=key)  # again is no fault
    with pytest.raises(InferenceServerException, match="no shared memory region 'a'"):
        client.get_system_shared_memory_status("a", headers=key)
    assert client.get_system_shared_memory_status("b", headers=key)
    client.unregister_system_shared_memory(headers=key)
    with pytest.raises(InferenceServerException, match="no shared memory region 'b'"):
        client.infer("shm/add", [tensor(module, ROWS, "b")], headers=key)


def test_a_region_is_its_keys_alone(shared: RunningNode, front: Any, memory: Any) -> None:
    module, client, key = front
    _, name = memory(4096)
    client.register_system_shared_memory("mine", name, 4096, headers=key)
    other = {"authorization": f"Bearer {make_key(shared, 'call')}"}
    with pytest.raises(InferenceServerException, match="no shared memory region 'mine'"):
        client.infer("shm/add", [tensor(module, ROWS, "mine")], headers=other)
    client.unregister_system_shared_memory(headers=other)
    assert client.infer("shm/add", [tensor(module, ROWS, "mine")], headers=key)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"offset": 4096 - 40}, "which has 4096 bytes"),
        ({"offset": 2**63 - 8}, "which has 4096 bytes"),
        ({"size": 2**62, "offset": 2**62}, "which has 4096 bytes"),
        ({"size": 47}, "takes 48 bytes, but 47 came"),
        ({"size": -1}, "expected a number of bytes"),
        ({"region": "other"}, "no shared memory region 'other'"),
        ({"region": "x" * 1_000_000}, "no shared memory region"),
    ],
)
def test_a_place_outside_of_its_region_is_refused(front: Any, memory: Any, given: Any, words: str) -> None:
    module, client, key = front
    _, name = memory(4096)
    client.register_system_shared_memory("small", name, 4096, headers=key)
    with pytest.raises(InferenceServerException, match=words):
        client.infer("shm/add", [tensor(module, ROWS, **{"region": "small", **given})], headers=key)
    with pytest.raises(InferenceServerException, match=r"has 48 bytes, but its place .* has 47: make it larger"):
        client.infer(
            "shm/add", [tensor(module, ROWS, "small")], outputs=[wanted(module, "small", 47, 100)], headers=key
        )


def test_no_key_leads_out_of_dev_shm(front: Any, memory: Any, tmp_path: Path) -> None:
    _, client, key = front
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4096))
    link, folder, pipe = (Path("/dev/shm", f"ingle-test-{uuid.uuid4().hex}") for _ in range(3))
    link.symlink_to(secret)
    folder.mkdir()
    os.mkfifo(pipe)
    try:
        for name in (f"../..{secret}", str(secret), "..", ".", "", "/", "a/b", "a\0b", "k" * 256, "k" * 1_000_000):
            with pytest.raises(InferenceServerException, match=r"no key of shared memory|cannot be opened"):
                client.register_system_shared_memory("out", name, 100, headers=key)
        for name in (link.name, folder.name, pipe.name, "ingle-test-none"):
            with pytest.raises(InferenceServerException, match=r"cannot be opened|is no file of"):
                client.register_system_shared_memory("out", name, 100, headers=key)
    finally:
        link.unlink()
        folder.rmdir()
        pipe.unlink()
    _, name = memory(4096)
    for offset, size in ((0, 4097), (4096, 1), (2**63 - 1, 2**63 - 1), (0, 0), (2**64 - 1, 2)):
        with pytest.raises(InferenceServerException, match=r"byte|Expected `int`"):
            client.register_system_shared_memory("out", name, size, offset=offset, headers=key)
    with pytest.raises(InferenceServerException):
        client.register_system_shared_memory("n" * 1_000_000, name, 100, headers=key)
    with pytest.raises(InferenceServerException, match="1 to 256 characters"):
        client.register_system_shared_memory("n" * 257, name, 100, headers=key)
    assert client.is_server_ready(headers=key)


def test_memory_that_is_cut_short_costs_its_callers_the_call_and_nobody_the_node(front: Any, memory: Any) -> None:
    module, client, key = front
    handle, name = memory(2 * MANY.nbytes)
    shm.set_shared_memory_region(handle, [MANY])
    client.register_system_shared_memory("cut", name, 2 * MANY.nbytes, headers=key)
    ask = {"inputs": [tensor(module, MANY, "cut")], "outputs": [wanted(module, "cut", MANY.nbytes, MANY.nbytes)]}
    client.infer("shm/add", **ask, headers=key)
    file = Path("/dev/shm", name)
    os.truncate(file, MANY.nbytes)  # the output's place is gone
    with pytest.raises(InferenceServerException, match="cut short"):
        client.infer("shm/add", **ask, headers=key)
    os.truncate(file, 100)
    with pytest.raises(InferenceServerException, match="cut short"):
        client.infer("shm/add", **ask, headers=key)
    assert file.stat().st_size == 100
    # What was registered stays what it was, whatever bears its name now.
    os.truncate(file, 2 * MANY.nbytes)
    file.unlink()
    file.write_bytes(b"new")
    client.infer("shm/add", **ask, headers=key)


def test_memory_that_is_cut_and_grown_all_the_time_never_ends_the_node(
    shared: RunningNode, front: Any, memory: Any
) -> None:
    module, client, key = front
    _, name = memory(2 * MANY.nbytes)
    client.register_system_shared_memory("wild", name, 2 * MANY.nbytes, headers=key)
    ask = {"inputs": [tensor(module, MANY, "wild")], "outputs": [wanted(module, "wild", MANY.nbytes, MANY.nbytes)]}
    told = set()
    for size in np.random.default_rng(5).integers(0, 2 * MANY.nbytes + 1, 60).tolist():
        os.truncate(f"/dev/shm/{name}", size)
        try:
            client.infer("shm/add", **ask, headers=key)
        except InferenceServerException as error:
            told.add("cut short" in str(error))
    assert told == {True}
    assert shared.process.poll() is None
    # Some of the calls reached the worker, and it still is the same one.
    models = requests.get(f"{shared.url}/v1/models/shm/add", headers=shared.headers, timeout=60)
    assert models.ok, models.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's file")
def test_another_users_memory_is_not_registered_by_a_caller_who_is_not_that_user(
    shared: RunningNode, memory: Any
) -> None:
    _, name = memory(4096)
    os.chown(f"/dev/shm/{name}", 12345, 12345)
    Path("/dev/shm", name).chmod(0o666)
    assert _register_as(54321, shared, name).startswith("HTTP/1.1 403")
    assert _register_as(12345, shared, name).startswith("HTTP/1.1 200")


def _register_as(user: int, node: RunningNode, key: str) -> str:
    """Registers over a connection whose socket is that user's; the answer's first line."""
    host, port = node.http.rsplit(":", 1)
    body = f'{{"key":"{key}","byte_size":4096}}'
    head = f"POST /v2/systemsharedmemory/region/of-{user}/register HTTP/1.1\r\nHost: x\r\n"
    head += f"Authorization: Bearer {node.admin_key}\r\nContent-Length: {len(body)}\r\n\r\n"
    setfsuid = ctypes.CDLL(None).setfsuid  # of this thread alone; what it makes meanwhile is that user's
    setfsuid(user)
    try:
        sock = socket.socket()
    finally:
        setfsuid(0)
    with sock:
        sock.settimeout(30)
        sock.connect((host, int(port)))
        sock.sendall((head + body).encode())
        return sock.recv(4096).decode()


def test_the_extension_is_named_where_it_is_on(shared: RunningNode, node: RunningNode) -> None:
    named = [
        requests.get(f"{each.url}/v2", headers=each.headers, timeout=60).json()["extensions"] for each in (shared, node)
    ]
    assert "system_shared_memory" in named[0]
    assert "system_shared_memory" not in named[1]


@pytest.mark.parametrize("kind", CLIENTS)
def test_where_it_is_off_nothing_is_registered_and_a_sentence_says_why(node: RunningNode, kind: str) -> None:
    module = CLIENTS[kind]
    key = {"authorization": f"Bearer {node.admin_key}"}
    deploy(node, "shm-off/add", onnx_bytes(ADD_ONE))
    with module.InferenceServerClient(getattr(node, kind)) as client:
        with pytest.raises(InferenceServerException, match="--allow-shared-memory"):
            client.register_system_shared_memory("r", "k", 100, headers=key)
        with pytest.raises(InferenceServerException, match="--allow-shared-memory"):
            client.infer("shm-off/add", [tensor(module, ROWS, "r")], headers=key)
        # As clients do before they begin:
        client.unregister_system_shared_memory(headers=key)
        client.unregister_cuda_shared_memory(headers=key)
        for listed in (client.get_system_shared_memory_status, client.get_cuda_shared_memory_status):
            found = listed(headers=key)
            assert not (found if isinstance(found, list) else found.regions)
        with pytest.raises(InferenceServerException, match="no CUDA shared memory"):
            client.register_cuda_shared_memory("r", b"aGFuZGxl", 0, 100, headers=key)
