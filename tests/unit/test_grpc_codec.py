"""V2's protobuf messages to calls and back, without a server."""

import subprocess
import sys

import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult, service_pb2
from tritonclient.grpc._utils import _get_inference_request

from appliance.core.errors import BadInputError, DeadlineError, UnsupportedError
from appliance.core.frames import AnswerForm, OutputWish, TensorHead
from appliance.core.requests import CallAnswer, CallRequest, Seconds
from appliance.gateway.grpc_answers import infer_response, stream_error, stream_response
from appliance.gateway.grpc_asked import ask_placement, shortest_deadline_s
from appliance.gateway.grpc_codec import parse_infer, to_call, wants_final_mark
from appliance.gateway.grpc_stubs import SERVICE, message_class, pb
from appliance.gateway.peers import NOBODY
from appliance.gateway.shared_memory import SharedMemory
from appliance.security.scopes import ANONYMOUS

Tensor = service_pb2.ModelInferRequest.InferInputTensor


def client_request(inputs=(), outputs=None, timeout=None, parameters=None):
    """What tritonclient puts on the wire."""
    message = _get_inference_request(
        model_name="own/net",
        inputs=inputs,
        model_version="2",
        request_id="seven",
        outputs=outputs,
        sequence_id=0,
        sequence_start=False,
        sequence_end=False,
        priority=1,
        timeout=timeout,
        parameters=parameters,
    )
    return parse_infer(message.SerializeToString())


def a_call(message):
    """The call, on a node that shares no memory."""
    return to_call(message, SharedMemory(allowed=False, max_bytes=0).of(ANONYMOUS, NOBODY))


def an_input(array, dtype, name="x"):
    tensor = InferInput(name, list(array.shape), dtype)
    tensor.set_data_from_numpy(array)
    return tensor


def typed_request(dtype, shape, **contents):
    message = pb.ModelInferRequest(model_name="net")
    message.inputs.add(name="x", datatype=dtype, shape=shape).contents.MergeFrom(pb.InferTensorContents(**contents))
    return message


def an_answer(*outputs):
    """The answer a data plane gives for these (name, dtype, shape, bytes)."""
    heads = [TensorHead(name, dtype, shape, 0, len(data)) for name, dtype, shape, data in outputs]
    body = memoryview(b"".join(data for *_, data in outputs))
    return CallAnswer("c1", "here", "own/net", "1.0.0", 3, heads, body, 0, Seconds(0, 0, 0, 0))


def test_a_request_of_tritonclient_becomes_a_call_of_raw_tensors() -> None:
    first, second = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([[b"one"], [b"zwo"]], dtype=object)
    call = a_call(client_request([an_input(first, "FP32", "a"), an_input(second, "BYTES", "b")], timeout=2_500_000))
    assert (call.model, call.version, call.by_ordinal, call.form) == ("own/net", "2", True, AnswerForm.TENSORS)
    assert call.tensors == [TensorHead("a", "FP32", [2, 3], 0, 24), TensorHead("b", "BYTES", [2, 1], 0, 14)]
    assert list(call.parts) == [first.tobytes(), b"\x03\0\0\0one\x03\0\0\0zwo"]
    assert call.outputs is None
    assert call.deadline_s == 2.5


def test_an_empty_tensor_has_a_part_of_its_own() -> None:
    call = a_call(client_request([an_input(np.zeros((0, 4), np.float32), "FP32"), an_input(np.ones(1, "i8"), "INT64")]))
    assert [head.size_bytes for head in call.tensors] == [0, 8]
    assert [len(part) for part in call.parts] == [0, 8]


def test_named_outputs_and_classification_become_wishes() -> None:
    call = a_call(client_request(outputs=[InferRequestedOutput("y"), InferRequestedOutput("z", class_count=3)]))
    assert call.outputs == [OutputWish("y", True), OutputWish("z", True, 3)]


@pytest.mark.parametrize(
    ("dtype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False, True]),
        ("UINT8", "uint_contents", [0, 7, 255]),
        ("UINT16", "uint_contents", [0, 7, 65535]),
        ("UINT32", "uint_contents", [0, 7, 2**32 - 1]),
        ("UINT64", "uint64_contents", [0, 7, 2**64 - 1]),
        ("INT8", "int_contents", [-128, 0, 127]),
        ("INT16", "int_contents", [-32768, 0, 32767]),
        ("INT32", "int_contents", [-(2**31), 0, 2**31 - 1]),
        ("INT64", "int64_contents", [-(2**63), 0, 2**63 - 1]),
        ("FP32", "fp32_contents", [0.5, float("inf"), -1.25]),
        ("FP64", "fp64_contents", [0.1, float("-inf"), 1e300]),
    ],
)
def test_typed_contents_are_packed_as_numpy_would(dtype: str, field: str, values: list[object]) -> None:
    call = a_call(typed_request(dtype, [1, 3], **{field: values}))
    expected = np.array(values, tritonclient.utils.triton_to_np_dtype(dtype)).tobytes()
    assert list(call.parts) == [expected]
    assert call.tensors == [TensorHead("x", dtype, [1, 3], 0, len(expected))]


@pytest.mark.parametrize(
    ("dtype", "field", "others"),
    [
        ("FP32", "fp32_contents", {"int_contents": [1, 2]}),
        ("FP32", "fp32_contents", {"bytes_contents": [b"more"]}),
        ("FP64", "fp64_contents", {"fp32_contents": [1.0]}),
    ],
)
def test_contents_of_other_types_beside_the_right_ones_change_nothing(
    dtype: str, field: str, others: dict[str, object]
) -> None:
    values = np.random.default_rng(3).standard_normal(300).astype(tritonclient.utils.triton_to_np_dtype(dtype))
    message = typed_request(dtype, [300], **{field: values.tolist()}, **others)
    assert list(a_call(parse_infer(message.SerializeToString())).parts) == [values.tobytes()]


def test_fields_that_protobuf_does_not_know_change_no_contents() -> None:
    message = typed_request("FP32", [2], fp32_contents=[1, 2]).SerializeToString()
    # The last field is `inputs`, and in it `contents`: put an unknown field 15 at the end of both.
    inputs = pb.ModelInferRequest.FromString(message).inputs[0]
    contents = inputs.contents.SerializeToString() + b"\x7a\x01!"
    inputs.ClearField("contents")
    tensor = inputs.SerializeToString() + bytes([5 << 3 | 2, len(contents)]) + contents
    call = a_call(parse_infer(bytes([5 << 3 | 2, len(tensor)]) + tensor))
    assert list(call.parts) == [np.array([1, 2], np.float32).tobytes()]


def test_typed_bytes_get_their_lengths() -> None:
    call = a_call(typed_request("BYTES", [2], bytes_contents=[b"", b"\xffab"]))
    assert list(call.parts) == [b"\0\0\0\0\x03\0\0\0\xffab"]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (typed_request("FP32", [3], fp32_contents=[1, 2]), "takes 3 elements"),
        (typed_request("FP32", [2], fp64_contents=[1, 2]), "contents.fp32_contents, but 0 came"),
        (typed_request("INT8", [1], int_contents=[300]), "does not fit"),
        (typed_request("FP16", [1]), "raw_input_contents"),
        (typed_request("", [1]), "of no datatype"),
        (typed_request("FP32", [-1]), "each size must be"),
        (typed_request("FP32", [2**40, 2**40]), "more elements"),
    ],
)
def test_typed_contents_that_do_not_fit_are_refused(message: object, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        a_call(message)


def test_raw_contents_must_be_one_for_each_input() -> None:
    message = client_request([an_input(np.ones(1, np.float32), "FP32")])
    message.raw_input_contents.append(b"more")
    with pytest.raises(BadInputError, match="1 inputs but 2 raw_input_contents"):
        a_call(message)


def test_raw_and_typed_contents_are_not_mixed() -> None:
    message = typed_request("FP32", [1], fp32_contents=[1])
    message.raw_input_contents.append(b"abcd")
    with pytest.raises(BadInputError, match="use one or the other"):
        a_call(message)


def test_shared_memory_is_refused_for_inputs_and_outputs() -> None:
    tensor, output = InferInput("x", [1], "FP32"), InferRequestedOutput("y")
    tensor.set_shared_memory("region", 4)
    output.set_shared_memory("region", 4)
    for message in (client_request([tensor]), client_request(outputs=[output])):
        with pytest.raises(UnsupportedError, match="shared memory"):
            a_call(message)


def test_bytes_that_are_no_message_are_bad_input() -> None:
    with pytest.raises(BadInputError, match="no ModelInferRequest"):
        parse_infer(b"\xff\xff\xff")


@pytest.mark.parametrize("choice", [{"int64_param": -1}, {"string_param": "soon"}, {"bool_param": True}])
def test_a_timeout_that_is_no_number_of_microseconds_is_bad_input(choice: dict[str, object]) -> None:
    message = pb.ModelInferRequest(parameters={"timeout": pb.InferParameter(**choice)})
    with pytest.raises(BadInputError, match="microseconds"):
        a_call(message)


def test_an_answer_is_what_protobuf_would_have_written() -> None:
    large = bytes(range(256)) * 100
    answer = an_answer(
        ("y", "FP32", [2, 1], b"abcdefgh"), ("leer", "INT64", [0, 2], b""), ("z", "UINT8", [25600], large)
    )
    message = pb.ModelInferResponse.FromString(infer_response(answer, "net", "näme"))
    expected = pb.ModelInferResponse(model_name="net", model_version="3", id="näme")
    expected.outputs.add(name="y", datatype="FP32", shape=[2, 1])
    expected.outputs.add(name="leer", datatype="INT64", shape=[0, 2])
    expected.outputs.add(name="z", datatype="UINT8", shape=[25600])
    expected.raw_output_contents.extend([b"abcdefgh", b"", large])
    assert message == expected


def test_tritonclient_reads_an_answer() -> None:
    data = np.array([[1.5], [-2.0]], np.float32)
    answer = an_answer(("s", "BYTES", [1], b"\x02\0\0\0hi"), ("y", "FP32", [2, 1], data.tobytes()))
    result = InferResult(pb.ModelInferResponse.FromString(infer_response(answer, "net", "")))
    np.testing.assert_array_equal(result.as_numpy("y"), data)
    assert result.as_numpy("s").tolist() == [b"hi"]


@pytest.mark.parametrize("final_mark", [True, False])
def test_a_streamed_answer_says_that_it_is_final_where_asked(final_mark: bool) -> None:
    asked = {"triton_enable_empty_final_response": pb.InferParameter(bool_param=final_mark)}
    assert wants_final_mark(pb.ModelInferRequest(parameters=asked)) is final_mark
    answer = an_answer(("y", "UINT8", [200], bytes(200)))
    message = pb.ModelStreamInferResponse.FromString(stream_response(answer, "net", "1", final_mark=final_mark))
    assert message.error_message == ""
    assert message.infer_response.raw_output_contents[0] == bytes(200)
    assert ("triton_final_response" in message.infer_response.parameters) is final_mark


def test_a_streamed_error_carries_the_id_of_its_request() -> None:
    message = pb.ModelStreamInferResponse.FromString(stream_error("it is so", "nine"))
    assert (message.error_message, message.infer_response.id) == ("it is so", "nine")


@pytest.mark.parametrize(
    ("asked_s", "metadata", "remaining_s", "expected_s"),
    [
        (0.0, {}, None, 0.0),
        (2.0, {}, None, 2.0),
        (0.0, {"x-ingle-deadline-ms": "1500"}, None, 1.5),
        (2.0, {"x-ingle-deadline-ms": "1500"}, None, 1.5),
        (1.0, {"x-ingle-deadline-ms": "1500"}, 9.0, 1.0),
        (0.0, {}, 0.25, 0.25),
        (3.0, {"x-ingle-deadline-ms": "1500"}, 0.25, 0.25),
    ],
)
def test_the_shortest_deadline_counts(
    asked_s: float, metadata: dict[str, str], remaining_s: float | None, expected_s: float
) -> None:
    assert shortest_deadline_s(asked_s, metadata, remaining_s) == expected_s


@pytest.mark.parametrize("text", ["", "soon", "-5", "0", "nan", "1e400", "٣"])
def test_a_deadline_that_is_no_number_is_bad_input(text: str) -> None:
    with pytest.raises(BadInputError, match="x-ingle-deadline-ms"):
        shortest_deadline_s(0, {"x-ingle-deadline-ms": text}, None)


def test_a_deadline_that_has_passed_is_said_at_once() -> None:
    with pytest.raises(DeadlineError):
        shortest_deadline_s(0, {}, 0.0)


def test_a_pin_is_read_from_the_metadata() -> None:
    request = CallRequest("m", "", AnswerForm.TENSORS, [], [])
    ask_placement(request, {"x-ingle-pin": "node:there", "x-ingle-explain": "1"})
    assert (request.pin, request.explain) == ("node:there", True)
    with pytest.raises(BadInputError, match="expected local"):
        ask_placement(request, {"x-ingle-pin": "over there"})


def test_the_stubs_are_those_of_tritonclient() -> None:
    assert len(SERVICE.methods) == 20
    assert pb.ModelInferRequest is service_pb2.ModelInferRequest
    assert message_class(SERVICE.methods_by_name["ModelInfer"].input_type) is service_pb2.ModelInferRequest


_WITHOUT_NUMPY = """
import sys
from appliance.gateway.grpc_stubs import pb
assert "numpy" not in sys.modules, "numpy was imported"
assert "tritonclient.grpc" not in sys.modules, "a bare package was left behind"
import tritonclient.grpc
assert tritonclient.grpc.InferenceServerClient
assert tritonclient.grpc.service_pb2.ModelInferRequest is pb.ModelInferRequest
assert sys.modules["tritonclient"].grpc is tritonclient.grpc
"""


def test_the_stubs_come_without_numpy_and_leave_tritonclient_whole() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", _WITHOUT_NUMPY], check=True)
