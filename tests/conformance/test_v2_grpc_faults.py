"""Wrong requests over V2's gRPC get the right status with a sentence, and the next call its answer."""

import struct
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import urllib3
from graphs import graph
from tritonclient.grpc import service_pb2, service_pb2_grpc

MODEL = "col/grpc-faults"
TEXTS = "col/grpc-faults-texts"
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND

Request = service_pb2.ModelInferRequest


class Front:
    """The stubs, with the key and without."""

    def __init__(self, node: Any) -> None:
        self.channel = grpc.insecure_channel(node.grpc, options=[("grpc.max_send_message_length", -1)])
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        self.key = (("authorization", f"Bearer {node.admin_key}"),)

    def infer(self, request: Any) -> Any:
        return self.stub.ModelInfer(request, metadata=self.key, timeout=30)

    def answers_a_good_call(self) -> None:
        assert struct.unpack("<3f", self.infer(good()).raw_output_contents[0]) == (2.0, 3.0, 4.0)


@pytest.fixture(scope="module")
def front(node: Any) -> Iterator[Front]:
    pool = urllib3.PoolManager(retries=False, timeout=30)
    adds = "g (float[N,3] x, int64[N,1] n) => (float[N,3] y) {f = Cast<to = 1>(n) \n y = Add(x, f)}"
    key = {"Authorization": f"Bearer {node.admin_key}"}
    for name, text in ((MODEL, adds), (TEXTS, "g (string[N] s) => (string[N] t) {t = Identity(s)}")):
        model = graph("faults", text).model
        assert pool.request("PUT", f"{node.url}/v1/models/{name}", body=model, headers=key).status in (200, 201)
    made = Front(node)
    yield made
    made.channel.close()
    for name in (MODEL, TEXTS):
        pool.request("DELETE", f"{node.url}/v1/models/{name}", headers=key)


def good() -> Any:
    request = Request(model_name=MODEL)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    request.inputs.add(name="n", datatype="INT64", shape=[1, 1])
    request.raw_input_contents.extend([struct.pack("<3f", 1, 2, 3), struct.pack("<q", 1)])
    return request


def typed() -> Any:
    """The same with the numbers in fields of their own type."""
    request = good()
    del request.raw_input_contents[:]
    request.inputs[0].contents.fp32_contents.extend([1, 2, 3])
    request.inputs[1].contents.int64_contents.append(1)
    return request


def changed(**members: Any) -> Any:
    request = good()
    tensor = request.inputs[0]
    for name, value in members.items():
        if name == "shape":
            del tensor.shape[:]
            tensor.shape.extend(value)
        elif name == "raw":
            request.raw_input_contents[0] = value
        else:
            setattr(tensor, name, value)
    return request


def _without_inputs() -> Any:
    return Request(model_name=MODEL)


def _input_left_out() -> Any:
    request = good()
    del request.inputs[1], request.raw_input_contents[1]
    return request


def _raw_left_out() -> Any:
    request = good()
    del request.raw_input_contents[1]
    return request


def _raw_too_many() -> Any:
    request = good()
    request.raw_input_contents.append(b"")
    return request


def _twice() -> Any:
    request = good()
    request.inputs.append(request.inputs[0])
    request.raw_input_contents.append(request.raw_input_contents[0])
    return request


def _raw_and_typed() -> Any:
    request = typed()
    request.raw_input_contents.extend(good().raw_input_contents)
    return request


def _typed_too_few() -> Any:
    request = typed()
    del request.inputs[0].contents.fp32_contents[0]
    return request


def _typed_otherwise() -> Any:
    request = typed()
    request.inputs[0].ClearField("contents")
    request.inputs[0].contents.int_contents.extend([1, 2, 3])
    return request


def _unknown_output() -> Any:
    request = good()
    request.outputs.add(name="z")
    return request


def _texts(raw: bytes) -> Any:
    request = Request(model_name=TEXTS)
    request.inputs.add(name="s", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(raw)
    return request


def _shared_memory() -> Any:
    request = good()
    request.inputs[0].parameters["shared_memory_region"].string_param = "r"
    request.inputs[0].parameters["shared_memory_byte_size"].int64_param = 12
    return request


WRONG_REQUESTS = {
    "no inputs": _without_inputs(),
    "an input left out": _input_left_out(),
    "an unknown input": changed(name="z"),
    "an input twice": _twice(),
    "no datatype": changed(datatype=""),
    "an unknown datatype": changed(datatype="FP31"),
    "another datatype": changed(datatype="INT32"),
    "another rank": changed(shape=[3]),
    "another fixed size": changed(shape=[1, 4], raw=bytes(16)),
    "a negative shape": changed(shape=[-1, 3]),
    "two negative sizes": changed(shape=[-1, -3]),
    "a shape whose product overflows": changed(shape=[2**62, 4]),
    "a shape that overflows to the right size": changed(shape=[2**63 - 1, 3]),
    "a shape that fits no memory": changed(shape=[2**39, 3]),
    "sixty dimensions": changed(shape=[1] * 60),
    "raw data too short": changed(raw=bytes(11)),
    "raw data too long": changed(raw=bytes(16)),
    "raw data empty": changed(raw=b""),
    "raw data left out": _raw_left_out(),
    "too many raw data": _raw_too_many(),
    "raw and typed data": _raw_and_typed(),
    "typed data too few": _typed_too_few(),
    "typed data of another type": _typed_otherwise(),
    "an unknown output": _unknown_output(),
    "a text cut short": _texts(struct.pack("<I", 3) + b"ab"),
    "a text of four gigabytes": _texts(struct.pack("<I", 0xFFFFFFFF) + b"ab"),
    "two texts for one": _texts(struct.pack("<I", 1) + b"a" + struct.pack("<I", 1) + b"b"),
    "a text that is no UTF-8": _texts(struct.pack("<I", 2) + b"\xff\xfe"),
    "a region of shared memory": _shared_memory(),
}


@pytest.mark.parametrize("request_", WRONG_REQUESTS.values(), ids=WRONG_REQUESTS.keys())
def test_a_wrong_request_is_refused_with_a_sentence(front: Front, request_: Any) -> None:
    # What is understood and not offered, such as shared memory, has a status of its own.
    check_fault(lambda: front.infer(request_), INVALID, grpc.StatusCode.UNIMPLEMENTED)
    front.answers_a_good_call()


@pytest.mark.parametrize("request_", WRONG_REQUESTS.values(), ids=WRONG_REQUESTS.keys())
def test_a_wrong_request_in_a_stream_is_told_and_the_stream_goes_on(front: Front, request_: Any) -> None:
    answers = list(front.stub.ModelStreamInfer(iter([good(), request_, good()]), metadata=front.key, timeout=30))
    told = [answer.error_message for answer in answers]
    assert len([words for words in told if words]) == 1, told
    assert " " in next(words for words in told if words)
    assert len(told) == 3


def _version(version: str) -> Any:
    request = good()
    request.model_version = version
    return request


def _model(name: str) -> Any:
    request = good()
    request.model_name = name
    return request


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (_model("nothing"), NOT_FOUND),
        (_model("nobody/nothing"), NOT_FOUND),
        (_version("99"), NOT_FOUND),
        (_version("none"), NOT_FOUND),
        (_version("99999999999999999999"), NOT_FOUND),
        (_model(""), NOT_FOUND),
        (_model("../../etc/passwd"), NOT_FOUND),
        (_model("a" * 10_000), NOT_FOUND),
    ],
    ids=str.split("model owner version word number empty path long"),
)
def test_what_is_not_there_is_said_not_to_be_there(front: Front, request_: Any, status: Any) -> None:
    check_fault(lambda: front.infer(request_), status)


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig", "ModelStatistics"])
def test_nothing_is_told_of_a_model_that_is_not_there(front: Front, method: str) -> None:
    request = getattr(service_pb2, f"{method}Request")(name="nothing")
    check_fault(lambda: getattr(front.stub, method)(request, metadata=front.key, timeout=30), NOT_FOUND)


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_what_is_not_there_cannot_be_loaded(front: Front, method: str) -> None:
    request = getattr(service_pb2, f"{method}Request")(model_name="nothing")
    check_fault(lambda: getattr(front.stub, method)(request, metadata=front.key, timeout=30), NOT_FOUND)


@pytest.mark.parametrize("key", [None, "", "Bearer wrong", "wrong", "Basic YTpi"])
def test_without_a_good_key_nothing_is_told(front: Front, key: str | None) -> None:
    metadata = () if key is None else (("authorization", key),)
    check_fault(lambda: front.stub.ModelInfer(good(), metadata=metadata, timeout=30), grpc.StatusCode.UNAUTHENTICATED)


@pytest.mark.parametrize(
    "message", [b"\xff" * 100, b"\x0a\x7fshort", b"\x0a\x02\xff\xfe"], ids=["noise", "cut", "text"]
)
def test_a_message_that_is_none_is_refused(front: Front, message: bytes) -> None:
    call = front.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    check_fault(lambda: call(message, metadata=front.key, timeout=30), INVALID, grpc.StatusCode.INTERNAL)
    front.answers_a_good_call()


def test_an_unknown_method_is_said_not_to_exist(front: Front) -> None:
    call = front.channel.unary_unary("/inference.GRPCInferenceService/Nothing")
    check_fault(lambda: call(b"", metadata=front.key, timeout=30), grpc.StatusCode.UNIMPLEMENTED)


def test_a_message_that_is_too_large_is_refused(front: Front) -> None:
    request = changed(raw=bytes(257 * 2**20))
    check_fault(lambda: front.infer(request), grpc.StatusCode.RESOURCE_EXHAUSTED)
    front.answers_a_good_call()


def test_metadata_that_are_too_long_are_refused(front: Front) -> None:
    metadata = (*front.key, ("x-long", "a" * 500_000))
    check_fault(
        lambda: front.stub.ModelInfer(good(), metadata=metadata, timeout=30), grpc.StatusCode.RESOURCE_EXHAUSTED
    )
    front.answers_a_good_call()


def check_fault(call: Any, *statuses: Any) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    assert raised.value.code() in statuses, raised.value
    sentence = raised.value.details()
    assert " " in sentence
    assert not any(trace in sentence for trace in ("Traceback", "object at 0x")), sentence
