"""What goes to a Triton server and what comes from it, message by message."""

from typing import Any

import numpy as np
import pytest

from appliance.core.errors import BadInputError, IngleError, WorkerFailedError
from appliance.core.frames import AnswerForm, Encoding, Invoke, OutputWish, SharedPlace, TensorHead, Translate
from appliance.core.models import OUTSIDE
from appliance.core.names import ModelName
from appliance.core.tensors import Signature, TensorSpec
from appliance.gateway.grpc_stubs import pb
from appliance.gateway.triton_messages import (
    cut,
    needs_reading,
    needs_writing,
    to_record,
    to_reply,
    to_request,
    to_writing,
)
from appliance.workers.translation import inputs_read, outputs_written
from federation.credible import credible_record
from federation.messages import MeshInvoke

DATA = bytes(range(8))
NAME = ModelName("triton", "tiny")


def asked(form: AnswerForm = AnswerForm.TENSORS, **more: Any) -> MeshInvoke:
    head = TensorHead("x", "FP32", [1, 2], more.pop("encoding", Encoding.RAW), 8)
    return MeshInvoke(7, str(NAME), "3.0.0", "d" * 64, form, [head], call_id="call", **more)


def answer(**outputs: tuple[str, list[int], bytes]) -> Any:
    response = pb.ModelInferResponse(model_name="tiny")
    for name, (dtype, shape, data) in outputs.items():
        response.outputs.add(name=name, datatype=dtype, shape=shape)
        response.raw_output_contents.append(data)
    return response


def test_tensors_are_passed_on_as_they_are_to_the_servers_own_name_and_version() -> None:
    request = to_request(asked(outputs=[OutputWish("y", True, 2)]), [memoryview(DATA)])
    assert (request.model_name, request.model_version, request.id) == ("tiny", "3", "call")
    (given,) = request.inputs
    assert (given.name, given.datatype, list(given.shape)) == ("x", "FP32", [1, 2])
    assert list(request.raw_input_contents) == [DATA]
    (wanted,) = request.outputs
    assert (wanted.name, wanted.parameters["classification"].int64_param) == ("y", 2)


@pytest.mark.parametrize(
    ("call", "read", "written"),
    [
        pytest.param(asked(), False, False, id="tensors"),
        pytest.param(asked(encoding=Encoding.JSON), True, False, id="elements that came as JSON"),
        pytest.param(asked(AnswerForm.PLAIN, encoding=Encoding.CONTENT), True, True, id="a plain call"),
        pytest.param(asked(AnswerForm.GENERATE, encoding=Encoding.JSON), True, True, id="generate"),
        pytest.param(asked(AnswerForm.V2_JSON), False, True, id="outputs wanted as JSON"),
        pytest.param(asked(AnswerForm.V2_JSON, binary=True), False, False, id="outputs wanted as binary data"),
        pytest.param(
            asked(AnswerForm.V2_JSON, outputs=[OutputWish("y"), OutputWish("z", True)]), False, True, id="one of them"
        ),
        pytest.param(asked(AnswerForm.V2_JSON, outputs=[OutputWish("y", False, 2)]), False, True, id="classes as JSON"),
    ],
)
def test_elements_are_read_and_written_only_where_they_must_be(call: MeshInvoke, read: bool, written: bool) -> None:
    assert (needs_reading(call), needs_writing(call)) == (read, written)


def test_what_is_written_for_the_caller_is_what_the_server_gave_classified_already() -> None:
    call = asked(AnswerForm.V2_JSON, outputs=[OutputWish("y", False, 1)])
    invoke, parts = to_writing(call, answer(y=("BYTES", [1], b"\1\0\0\0a")))
    assert (invoke.outputs, parts) == ([OutputWish("y")], [b"\1\0\0\0a"])
    heads, text_size, written, _ = outputs_written(invoke, memoryview(b"".join(parts)))
    text = b'[{"name":"y","datatype":"BYTES","shape":[1],"data":["a"]}]'
    assert (heads, text_size, b"".join(written)) == ([], len(text), text)
    with pytest.raises(WorkerFailedError, match="lacks the output"):
        to_writing(call, answer(z=("BYTES", [0], b"")))


def test_json_and_plain_content_become_raw_tensors_by_the_signature() -> None:
    signature = Signature((TensorSpec("x", "FP32", (-1, 2)),), ())
    raw = np.array([[1, 2]], np.float32).tobytes()
    for invoke, body in (
        (Invoke(1, AnswerForm.V2_JSON, [TensorHead("x", "FP32", [1, 2], Encoding.JSON, 6)]), b"[1, 2]"),
        (
            Invoke(
                1,
                AnswerForm.PLAIN,
                [TensorHead("", "", [], Encoding.CONTENT, 6)],
                content_type="application/json",
            ),
            b"[1, 2]",
        ),
    ):
        heads, _, parts, size_bytes = inputs_read(Translate(invoke, signature, False), memoryview(body))
        assert (b"".join(parts), size_bytes) == (raw, 8)
        (head,) = heads
        assert (head.name, head.dtype, head.shape, head.encoding) == ("x", "FP32", [1, 2], Encoding.RAW)
        assert cut(heads, raw) == [raw]


def test_outputs_come_back_in_the_order_in_which_they_were_wanted() -> None:
    wanted = asked(outputs=[OutputWish("b", True), OutputWish("a", True)])
    reply, body = to_reply(wanted, answer(a=("INT8", [2], b"12"), b=("INT8", [1], b"3")), 0.5)
    assert [(head.name, head.shape, head.size_bytes) for head in reply.tensors] == [("b", [1], 1), ("a", [2], 2)]
    assert (b"".join(body), reply.call, reply.run_ns) == (b"312", 7, 500_000_000)


def test_v2s_json_describes_binary_outputs_before_them() -> None:
    reply, body = to_reply(asked(AnswerForm.V2_JSON, binary=True), answer(y=("INT8", [2], b"12")), 0.0)
    text = b'[{"name":"y","datatype":"INT8","shape":[2],"parameters":{"binary_data_size":2}}]'
    assert (b"".join(body), reply.text_size) == (text + b"12", len(text))


def test_what_goes_to_its_callers_memory_comes_last_and_must_fit() -> None:
    wishes = [OutputWish("a", True, 0, SharedPlace("mine", 0, 2)), OutputWish("b", True)]
    response = answer(a=("INT8", [2], b"12"), b=("INT8", [1], b"3"))
    reply, body = to_reply(asked(outputs=wishes), response, 0.0)
    assert (b"".join(body), reply.tensors[0].shared) == (b"312", wishes[0].shared)
    with pytest.raises(BadInputError, match="make it larger"):
        to_reply(asked(outputs=[OutputWish("a", True, 0, SharedPlace("mine", 0, 1))]), response, 0.0)


def test_a_server_that_answers_in_typed_contents_is_understood() -> None:
    response = pb.ModelInferResponse()
    response.outputs.add(name="y", datatype="INT32", shape=[2]).contents.int_contents.extend([1, 258])
    assert b"".join(to_reply(asked(), response, 0.0)[1]) == b"\1\0\0\0\2\1\0\0"


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(answer(y=("INT8", [3], b"12")), id="too few bytes"),
        pytest.param(answer(y=("INT8", [-2], b"12")), id="a negative size"),
        pytest.param(answer(y=("INT9", [2], b"12")), id="an unknown type"),
        pytest.param(answer(z=("INT8", [2], b"12")), id="not what was asked for"),
        pytest.param(pb.ModelInferResponse(raw_output_contents=[b"1"]), id="contents without outputs"),
    ],
)
def test_an_answer_that_makes_no_sense_is_the_servers_fault(response: Any) -> None:
    with pytest.raises(WorkerFailedError):
        to_reply(asked(outputs=[OutputWish("y", True)]), response, 0.0)


def metadata(dtype: str = "FP32", shape: tuple[int, ...] = (-1, 3)) -> Any:
    told = pb.ModelMetadataResponse(name="tiny", versions=["3"])
    told.inputs.add(name="x", datatype=dtype, shape=shape)
    told.outputs.add(name="y", datatype="BYTES", shape=[-1])
    return told


def test_a_servers_version_is_told_as_any_other_holders() -> None:
    config = pb.ModelConfigResponse().config
    config.input.add(name="x", optional=True)
    record = to_record(NAME, "3", metadata(), config, 12.0)
    assert credible_record(record)
    assert (record.name, record.version, record.ordinal, record.source) == ("triton/tiny", "3.0.0", 3, OUTSIDE)
    assert record.signature.inputs == (TensorSpec("x", "FP32", (-1, 3), (), True),)
    assert not record.batchable


def test_servers_that_tell_the_same_of_a_version_have_one_digest_and_others_another() -> None:
    config = pb.ModelConfigResponse().config

    def digest(name: ModelName = NAME, version: str = "3", **more: Any) -> str:
        return to_record(name, version, metadata(**more), config, 12.0).digest

    assert digest() == to_record(NAME, "3", metadata(), config, 99.0).digest
    others = {digest(version="4"), digest(dtype="FP64"), digest(shape=(1, 3)), digest(ModelName("other", "tiny"))}
    assert len(others | {digest()}) == 5


def sequences() -> Any:
    config = pb.ModelConfigResponse().config
    config.sequence_batching.SetInParent()
    return config


def decoupled() -> Any:
    config = pb.ModelConfigResponse().config
    config.model_transaction_policy.decoupled = True
    return config


@pytest.mark.parametrize(
    ("version", "told", "config", "why"),
    [
        pytest.param("latest", metadata(), None, "is no number", id="a version that is no number"),
        pytest.param("0", metadata(), None, "is no number", id="zero"),
        pytest.param("1", metadata("FP8"), None, "not known here", id="a type that is not known"),
        pytest.param("1", metadata(shape=(-3,)), None, "has the shape", id="a shape that is none"),
        pytest.param("1", pb.ModelMetadataResponse(), None, "0 inputs", id="no tensors at all"),
        pytest.param("1", metadata(), sequences(), "keeps state", id="sequences"),
        pytest.param("1", metadata(), decoupled(), "several times", id="decoupled"),
    ],
)
def test_a_model_that_cannot_be_called_from_here_is_not_told_of(version: str, told: Any, config: Any, why: str) -> None:
    with pytest.raises(IngleError, match=why):
        to_record(NAME, version, told, config or pb.ModelConfigResponse().config, 0.0)
