"""What is no model, or means harm, is refused with a sentence; nothing of it is stored and the node goes on."""

import gzip
import io
import json
import pickle
import random
import socket
import stat
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import urllib3
from onnx import TensorProto, numpy_helper, parser

HEAD = '<ir_version: 10, opset_import: ["" : 21, "acme" : 1]>\n'
HOSTILE = "hostile/model"
GOOD = "hostile/good"
SECRET = "root:"  # how /etc/passwd begins


def onnx_model(text: str) -> onnx.ModelProto:
    return parser.parse_model(HEAD + text)


def onnx_bytes(text: str) -> bytes:
    return serialised(onnx_model(text))


def serialised(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString())


NEGATES = onnx_bytes("g (float[N] x) => (float[N] y) {y = Neg(x)}")


class Node:
    """The node with a good model on it, which must answer after each attempt."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self.pool = urllib3.PoolManager(retries=False, timeout=100)

    def send(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        answer = self.pool.request(method, self.node.url + path, body=body, headers=self.node.headers)
        return answer.status, json.loads(answer.data) if answer.data else None

    def deploy(self, body: bytes, name: str = HOSTILE) -> tuple[int, Any]:
        return self.send("PUT", f"/v1/models/{name}", body)

    def infer(self, name: str, values: list[Any], datatype: str = "FP32", shape: list[int] | None = None) -> Any:
        tensor = {"name": "x", "shape": [len(values)] if shape is None else shape, "datatype": datatype, "data": values}
        return self.send("POST", f"/v2/models/{name}/infer", json.dumps({"inputs": [tensor]}).encode())

    def check_refused(self, body: bytes) -> str:
        """Deploys what must not be taken; the sentence that says why."""
        status, answer = self.deploy(body)
        assert status == 422, (status, answer)
        assert answer["code"] == "refused"
        sentence: str = answer["error"]
        assert " " in sentence
        assert not any(trace in sentence for trace in ("Traceback", "object at 0x", str(self.node.data_dir), SECRET))
        self.check_nothing_stored()
        return sentence

    def check_nothing_stored(self) -> None:
        assert self.send("GET", f"/v1/models/{HOSTILE}")[0] == 404
        assert list((self.node.data_dir / "incoming").iterdir()) == []
        self.check_answers()

    def check_answers(self) -> None:
        status, answer = self.infer(GOOD, [1.0, -2.0])
        assert (status, answer["outputs"][0]["data"]) == (200, [-1.0, 2.0])


@pytest.fixture(scope="module")
def node_(node: Any) -> Iterator[Node]:
    made = Node(node)
    assert made.deploy(NEGATES, GOOD)[0] in (200, 201)
    yield made
    made.send("DELETE", f"/v1/models/{GOOD}")


def bundle(*entries: tuple[str | zipfile.ZipInfo, bytes], deflated: bool = False) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def weights_elsewhere(location: str, *, offset: str = "", length: str = "", nested: bool = False) -> bytes:
    """A model whose two weights lie in another file."""
    tensor = numpy_helper.from_array(np.array([1, 2], np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value:
            tensor.external_data.add(key=key, value=value)
    if not nested:
        model = onnx_model("g (float[2] x) => (float[2] y) {y = Add(x, w)}".replace("{y", "<float[2] w = {1, 2}> {y"))
        model.graph.initializer[0].CopyFrom(tensor)
        return serialised(model)
    model = onnx_model("""g (float[2] x, bool c) => (float[2] y) { y = If (c)
<then_branch = t () => (float[2] a) {a = Neg(x)},
else_branch = e () => (float[2] b) {b = Constant<value = float[2] {1, 2}>()}>}""")
    constant = model.graph.node[0].attribute[1].g.node[0]
    constant.attribute[0].t.CopyFrom(tensor)
    return serialised(model)


def test_a_model_cut_short_anywhere_is_refused(node_: Node) -> None:
    weights = ", ".join(str(number) for number in range(600))
    text = f"g (float[N,20] x) => (float[N,30] y) <float[20,30] w = {{{weights}}}> {{m = MatMul(x, w) \n y = Relu(m)}}"
    whole = onnx_bytes(text)
    for part in range(12):
        node_.check_refused(whole[: len(whole) * part // 12])
    node_.check_refused(whole[:-1])


NO_MODELS: dict[str, bytes] = {
    "nothing": b"",
    "one byte": b"\x08",
    "zeros": bytes(100_000),
    "noise": random.Random(1).randbytes(100_000),
    "noise that begins as a model": b"\x08\x0a" + random.Random(2).randbytes(100_000),
    "a model with noise behind": NEGATES + random.Random(3).randbytes(1000),
    "a web page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "a pickle": pickle.dumps({"weights": [1, 2, 3]}),
    "a pickle of protocol 0": pickle.dumps({"weights": [1, 2, 3]}, 0),
    "json": b'{"model": 1}',
    "a text": b"This is not a model.\n" * 100,
    "a gzipped model": gzip.compress(NEGATES),
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "a program": b"\x7fELF" + bytes(1000),
    "a pointer of git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "a length of four gigabytes": b"\x3a\xff\xff\xff\xff\x0f" + bytes(1000),
    "a length of all bits": b"\x3a" + b"\xff" * 9 + b"\x01" + bytes(1000),
    "a number without end": b"\x08" + b"\x80" * 1000,
    "groups in groups": b"\x0b" * 100_000,
    "a model without a graph": onnx.ModelProto(ir_version=10).SerializeToString(),
}


@pytest.mark.parametrize("body", NO_MODELS.values(), ids=NO_MODELS.keys())
def test_what_is_no_model_is_refused(node_: Node, body: bytes) -> None:
    node_.check_refused(body)


def test_graphs_within_graphs_without_end_are_refused(node_: Node) -> None:
    inner = b""
    for _ in range(3000):  # GraphProto.node, NodeProto.attribute, AttributeProto.g
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            inner = tag + _varint(len(inner)) + inner
    node_.check_refused(b"\x08\x0a" + b"\x3a" + _varint(len(inner)) + inner)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


def _encrypted() -> bytes:
    made = bytearray(bundle(("model.onnx", NEGATES)))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        made[made.find(signature) + offset] |= 1
    return bytes(made)


def _entry_that_lies() -> bytes:
    """The list of entries says the model is ten bytes long; the entry itself unpacks to more."""
    made = bytearray(bundle(("model.onnx", bytes(10_000)), deflated=True))
    at = made.find(b"PK\x01\x02")
    struct.pack_into("<I", made, at + 24, 10)
    return bytes(made)


WEIGHTS = np.array([3, 4], np.float32).tobytes()
BUNDLES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: bundle(),
    "cut short": lambda: bundle(("model.onnx", NEGATES))[:-30],
    "cut in the middle": lambda: bundle(("model.onnx", NEGATES))[:60],
    "without a model": lambda: bundle(("readme.txt", b"hello")),
    "with a folder for a model": lambda: bundle(("model.onnx/", b"")),
    "with a page for a model": lambda: bundle(("model.onnx", b"<html></html>")),
    "with an empty model": lambda: bundle(("model.onnx", b"")),
    "with a bundle for a model": lambda: bundle(("model.onnx", bundle(("model.onnx", NEGATES)))),
    "with two models of one name": lambda: _twice("model.onnx"),
    "that climbs out": lambda: bundle(("model.onnx", NEGATES), ("../../evil", b"x")),
    "that climbs out within": lambda: bundle(("model.onnx", NEGATES), ("a/../../evil", b"x")),
    "with an absolute path": lambda: bundle(("model.onnx", NEGATES), ("/etc/evil", b"x")),
    "with back slashes": lambda: bundle(("model.onnx", NEGATES), ("..\\..\\evil", b"x")),
    "with a drive": lambda: bundle(("model.onnx", NEGATES), ("C:\\evil", b"x")),
    "with a link for a model": lambda: bundle((_link("model.onnx"), b"/etc/passwd")),
    "with a link for weights": lambda: bundle(
        ("model.onnx", weights_elsewhere("w.bin")), (_link("w.bin"), b"/etc/passwd")
    ),
    "with a link for a folder": lambda: bundle(
        ("model.onnx", weights_elsewhere("d/passwd")), (_link("d"), b"/etc"), ("d/passwd", WEIGHTS)
    ),
    "with a link for a manifest": lambda: bundle(("model.onnx", NEGATES), (_link("manifest.toml"), b"/etc/passwd")),
    "encrypted": _encrypted,
    "with a size that lies": _entry_that_lies,
    "with a manifest that is none": lambda: bundle(("model.onnx", NEGATES), ("manifest.toml", b"= = =")),
    "with a manifest of noise": lambda: bundle(("model.onnx", NEGATES), ("manifest.toml", b"\xff\xfe\x00")),
    "with a manifest of other things": lambda: bundle(("model.onnx", NEGATES), ("manifest.toml", b"colour = 1\n")),
    "with a manifest of lists in lists": lambda: bundle(
        ("model.onnx", NEGATES), ("manifest.toml", b"a = " + b"[" * 100_000)
    ),
    "with a manifest for another model": lambda: bundle(
        ("model.onnx", NEGATES), ("manifest.toml", b'[[input]]\nname = "other"\n')
    ),
    "with limits below nothing": lambda: bundle(("model.onnx", NEGATES), ("manifest.toml", b"[limits]\nbatch = -1\n")),
    "with labels out of the bundle": lambda: bundle(
        ("model.onnx", NEGATES), ("manifest.toml", b'labels = "../../../../etc/passwd"\n')
    ),
    "with labels that are no text": lambda: bundle(("model.onnx", NEGATES), ("labels.txt", b"\xff\xfe\xfd")),
    "with more entries than any model": lambda: bundle(
        ("model.onnx", NEGATES), *((f"{number}.bin", b"") for number in range(70_000))
    ),
}


def _twice(name: str) -> bytes:
    made = bundle((name, NEGATES), ("x" * len(name), NEGATES))
    return made.replace(b"x" * len(name), name.encode())


@pytest.mark.parametrize("make", BUNDLES.values(), ids=BUNDLES.keys())
def test_a_hostile_bundle_is_refused(node_: Node, make: Callable[[], bytes]) -> None:
    node_.check_refused(make())


def test_a_bundle_that_unpacks_to_a_thousand_times_its_size_is_refused_before_it_is_unpacked(node_: Node) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.onnx", NEGATES)
        with archive.open("w.bin", "w") as entry:
            for _ in range(16):
                entry.write(bytes(2**24))
    node_.check_refused(file.getvalue())


@pytest.mark.parametrize("nested", [False, True], ids=["at the top", "in a branch"])
@pytest.mark.parametrize(
    "location",
    [
        "../../../../../../../../etc/passwd",
        "/etc/passwd",
        "w/../../../../../../../../etc/passwd",
        "./../manifest.json",
        "..",
        ".",
        "",
        "missing.bin",
        "model.onnx/",
        "file:///etc/passwd",
        "\\\\server\\share",
        "w\0.bin",
        "~/.ssh/id_rsa",
        "/proc/self/environ",
        "/dev/zero",
    ],
)
def test_weights_outside_the_model_are_refused(node_: Node, location: str, nested: bool) -> None:
    model = weights_elsewhere(location, nested=nested)
    node_.check_refused(model)
    node_.check_refused(bundle(("model.onnx", model), ("other.bin", WEIGHTS)))


@pytest.mark.parametrize(
    ("offset", "length"),
    [("0", "9"), ("4", "8"), ("99999999999999999999", "8"), ("-4", "8"), ("0", "-8"), ("x", "8"), ("0", "9" * 30)],
)
def test_weights_beyond_their_file_are_refused(node_: Node, offset: str, length: str) -> None:
    model = weights_elsewhere("w.bin", offset=offset, length=length)
    node_.check_refused(bundle(("model.onnx", model), ("w.bin", WEIGHTS)))


def test_weights_inside_the_bundle_are_taken(node_: Node) -> None:
    model = weights_elsewhere("parts/w.bin", offset="0", length="8")
    assert node_.deploy(bundle(("model.onnx", model), ("parts/w.bin", WEIGHTS)), "hostile/parts")[0] == 201
    status, answer = node_.infer("hostile/parts", [1.0, 1.0])
    assert (status, answer["outputs"][0]["data"]) == (200, [4.0, 5.0])
    node_.send("DELETE", "/v1/models/hostile/parts")


def test_operators_that_are_not_there_are_named(node_: Node) -> None:
    assert "Warp" in node_.check_refused(onnx_bytes("g (float[N] x) => (float[N] y) {y = acme.Warp(x)}"))
    assert "Warp" in node_.check_refused(onnx_bytes("g (float[N] x) => (float[N] y) {y = Warp(x)}"))


def _large_weights() -> bytes:
    model = onnx_model("g (float[N] x) => (float[N] y) <float[1] w = {1}> {y = Mul(x, w)}")
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([2**40, 2**20])
    return serialised(model)


def _negative_weights() -> bytes:
    model = onnx_model("g (float[N] x) => (float[N] y) <float[1] w = {1}> {y = Mul(x, w)}")
    model.graph.initializer[0].dims[0] = -1
    return serialised(model)


@pytest.mark.parametrize(
    "body",
    [
        _large_weights(),
        _negative_weights(),
        onnx_bytes("g (float[N] x) => (float[N] y) {y = Neg(z)}"),
        onnx_bytes("g (float[N] x) => (float[N] y) {y = Neg(y)}"),
        onnx_bytes("g (float[N] x) => (int64[N] y) {y = Neg(x)}"),
        onnx_bytes("g (float[2] x) => (float[2] y) <float[3] w = {1, 2, 3}> {y = Add(x, w)}"),
        onnx_bytes("g (float[N] x, float[N] x) => (float[N] y) {y = Neg(x)}"),
    ],
    ids=[
        "weights of exabytes",
        "weights of a negative size",
        "an input from nowhere",
        "a circle",
        "a type that lies",
        "shapes that do not fit",
        "an input twice",
    ],
)
def test_a_graph_that_cannot_be_is_refused(node_: Node, body: bytes) -> None:
    node_.check_refused(body)


def test_inputs_of_a_size_that_fits_no_memory_do_not_hurt(node_: Node) -> None:
    """Such a model is lawful, and no sample of it can be made: it is taken or refused, and nothing else comes of it."""
    status, answer = node_.deploy(onnx_bytes("g (float[1099511627776] x) => (float[M] y) {y = Neg(x)}"))
    assert status in (201, 422), answer
    node_.check_answers()
    node_.send("DELETE", f"/v1/models/{HOSTILE}")


def test_a_constant_of_terabytes_does_not_hurt(node_: Node) -> None:
    text = """g (float[N] x) => (float[1] y) <int64[2] s = {1048576, 1048576}>
{c = ConstantOfShape<value = float[1] {1}>(s) \n m = ReduceMax(c)
r = Reshape(m, o) \n z = ReduceMax(x) \n y = Add(r, z)}"""
    status, answer = node_.deploy(onnx_bytes(text.replace("<int64[2]", "<int64[1] o = {1}, int64[2]")))
    assert status in (201, 422), answer
    node_.check_answers()
    node_.send("DELETE", f"/v1/models/{HOSTILE}")


def test_a_model_that_takes_more_memory_than_its_limit_fails_alone(node_: Node) -> None:
    takes = onnx_bytes("""g (int64[1] x) => (float y)
{c = ConstantOfShape<value = float[1] {1}>(x) \n y = ReduceSum<keepdims = 0>(c)}""")
    manifest = b'[limits]\nmemory = "256MiB"\n[sample]\nx = [4]\n'
    status, answer = node_.deploy(bundle(("model.onnx", takes), ("manifest.toml", manifest)), "hostile/takes")
    assert status == 201, answer
    status, answer = node_.infer("hostile/takes", [2**30], "INT64")  # four gigabytes
    assert status in (400, 500, 503), answer
    assert " " in answer["error"]
    node_.check_answers()
    status, answer = node_.infer("hostile/takes", [8], "INT64")
    assert status == 200, answer
    assert answer["outputs"][0]["data"] == [8.0]
    node_.send("DELETE", "/v1/models/hostile/takes")


def test_a_model_that_never_ends_is_killed_at_its_limit_and_the_next_call_is_answered(node_: Node) -> None:
    loops = onnx_bytes("""g (int64 x) => (int64 y) <int64 one = {1}, bool go = {1}, int64 zero = {0}>
{ y = Loop (x, go, zero)
<body = b (int64 i, bool c, int64 v) => (bool d, int64 w) {d = Identity(c) \n w = Add(v, one)}>}""")
    manifest = b"[limits]\nrun_s = 1.0\n[sample]\nx = 4\n"
    status, answer = node_.deploy(bundle(("model.onnx", loops), ("manifest.toml", manifest)), "hostile/loops")
    assert status == 201, answer
    began_s = time.monotonic()
    status, answer = node_.infer("hostile/loops", [2**62], "INT64", [])
    assert status in (500, 503, 504), answer
    assert " " in answer["error"]
    assert time.monotonic() - began_s < 30, "the limit is one second a run, and a call is tried once again"
    node_.check_answers()
    status, answer = node_.infer("hostile/loops", [5], "INT64", [])
    assert status == 200, answer
    assert answer["outputs"][0]["data"] == [5]
    node_.send("DELETE", "/v1/models/hostile/loops")


def test_an_upload_that_breaks_off_leaves_nothing(node_: Node) -> None:
    host, port = node_.node.http.rsplit(":", 1)
    head = f"PUT /v1/models/{HOSTILE} HTTP/1.1\r\nHost: node\r\nAuthorization: Bearer {node_.node.admin_key}\r\n"
    incoming = node_.node.data_dir / "incoming"
    deadline_s = time.monotonic() + 30
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + b"Content-Length: 1000000\r\n\r\n" + NEGATES)
        while not any(incoming.iterdir()) and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert any(incoming.iterdir())
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    while any(incoming.iterdir()) and time.monotonic() < deadline_s:  # nobody is told when the node has tidied up
        time.sleep(0.01)
    node_.check_nothing_stored()
    node_.check_answers()


@pytest.mark.parametrize(
    "name",
    [
        "..%2F..%2Fevil",
        "%2e%2e/evil",
        ".hidden",
        "a/b/c",
        "a%00b",
        "a%0Ab",
        "ready",
        "infer",
        "-rf",
        "n" * 129,
        "%C3%BC",
    ],
)
def test_a_name_that_is_none_is_refused(node_: Node, name: str) -> None:
    status, answer = node_.send("PUT", f"/v1/models/{name}", NEGATES)
    assert status in (400, 404), answer
    assert " " in answer["error"]
    node_.check_answers()
