"""ModelStreamInfer as tritonclient uses it: answers in order, several at work, faults in their place."""

import asyncio
import queue
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as client
import tritonclient.grpc.aio
from served import ADD_ONE, SLOW, deploy, onnx_bytes
from tritonclient.grpc import service_pb2, service_pb2_grpc

# Less than a second of work, and several: long enough for all that is to happen meanwhile.
SOME_TURNS, MANY_TURNS = 30_000, 400_000


@pytest.fixture(scope="module")
def served(node: Any) -> Any:
    deploy(node, "stream/add", onnx_bytes(ADD_ONE))
    deploy(node, "stream/slow", onnx_bytes(SLOW))
    return node


@pytest.fixture(scope="module")
def key(served: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {served.admin_key}"}


class Stream:
    """A stream of the synchronous client, and what came back on it."""

    def __init__(self, triton: client.InferenceServerClient, key: dict[str, str]) -> None:
        self._triton = triton
        self.answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        triton.start_stream(callback=lambda result, error: self.answers.put((result, error)), headers=key)

    def ask(self, request_id: str, *tensors: client.InferInput, model: str = "stream/add", **options: Any) -> None:
        self._triton.async_stream_infer(model, list(tensors), request_id=request_id, **options)

    def next(self) -> tuple[Any, Any]:
        return self.answers.get(timeout=60)


@pytest.fixture
def stream(served: Any, key: dict[str, str]) -> Iterator[Stream]:
    with client.InferenceServerClient(served.grpc) as triton:
        yield Stream(triton, key)
        triton.stop_stream(cancel_requests=True)


def row(value: float) -> client.InferInput:
    tensor = client.InferInput("x", [1, 3], "FP32")
    tensor.set_data_from_numpy(np.full((1, 3), value, np.float32))
    return tensor


def work(turns: int) -> list[client.InferInput]:
    count, matrix = client.InferInput("turns", [], "INT64"), client.InferInput("x", [64, 64], "FP32")
    count.set_data_from_numpy(np.array(turns, np.int64))
    matrix.set_data_from_numpy(np.eye(64, dtype=np.float32))
    return [count, matrix]


def test_answers_come_in_the_order_of_the_requests(stream: Stream) -> None:
    for number in range(300):
        stream.ask(str(number), row(number))
    for number in range(300):
        result, error = stream.next()
        assert error is None
        assert result.get_response().id == str(number)
        assert result.as_numpy("y")[0, 0] == number + 1


def test_a_quick_answer_waits_for_a_slow_one_that_was_asked_before(stream: Stream) -> None:
    stream.ask("slow", *work(SOME_TURNS), model="stream/slow")
    stream.ask("quick", row(1))
    assert [stream.next()[0].get_response().id for _ in range(2)] == ["slow", "quick"]


def test_requests_behind_a_slow_one_are_at_work_already(served: Any, stream: Stream, key: dict[str, str]) -> None:
    with client.InferenceServerClient(served.grpc) as other:

        def answered() -> int:
            stats = other.get_inference_statistics("stream/add", headers=key)
            return int(stats.model_stats[0].inference_stats.success.count)

        before = answered()
        stream.ask("slow", *work(MANY_TURNS), model="stream/slow")
        for number in range(40):
            stream.ask(str(number), row(number))
        ends_s = time.monotonic() + 20
        while answered() < before + 40:
            assert time.monotonic() < ends_s, "the requests behind the slow one did not run"
        assert stream.answers.empty()


def test_a_fault_is_answered_in_its_place_and_the_stream_goes_on(stream: Stream) -> None:
    stream.ask("first", row(1))
    stream.ask("unknown", row(1), model="stream/nothing")
    wrong = client.InferInput("x", [1, 4], "FP32")
    wrong.set_data_from_numpy(np.zeros((1, 4), np.float32))
    stream.ask("shape", wrong)
    stream.ask("last", row(2))
    assert stream.next()[0].get_response().id == "first"
    assert "stream/nothing" in str(stream.next()[1])
    assert "[1, 4]" in str(stream.next()[1])
    assert stream.next()[0].get_response().id == "last"


def test_an_error_message_carries_the_id_of_its_request(served: Any, key: dict[str, str]) -> None:
    asked = [service_pb2.ModelInferRequest(model_name="stream/nothing", id="seven")]
    with client.grpc.insecure_channel(served.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        (answer,) = stub.ModelStreamInfer(iter(asked), metadata=tuple(key.items()))
    assert answer.infer_response.id == "seven"
    assert "stream/nothing" in answer.error_message


def test_a_message_that_cannot_be_read_does_not_end_the_stream(served: Any, key: dict[str, str]) -> None:
    good = service_pb2.ModelInferRequest(model_name="stream/add", id="good")
    good.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    good.raw_input_contents.append(bytes(12))
    with client.grpc.insecure_channel(served.grpc) as channel:
        call = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            response_deserializer=service_pb2.ModelStreamInferResponse.FromString,
        )
        bad, answer = call(iter([b"\xff\xff", good.SerializeToString()]), metadata=tuple(key.items()))
    assert "no ModelInferRequest" in bad.error_message
    assert answer.infer_response.id == "good"


def test_without_a_key_each_request_is_refused(served: Any) -> None:
    with client.InferenceServerClient(served.grpc) as triton:
        stream = Stream(triton, {})
        stream.ask("a", row(1))
        result, error = stream.next()
        triton.stop_stream()
    assert result is None
    assert "key" in str(error)


def test_the_final_answer_is_marked_where_that_was_asked(stream: Stream) -> None:
    stream.ask("plain", row(1))
    stream.ask("marked", row(1), enable_empty_final_response=True)
    plain, marked = (stream.next()[0].get_response() for _ in range(2))
    assert "triton_final_response" not in plain.parameters
    assert marked.parameters["triton_final_response"].bool_param
    assert marked.raw_output_contents


def test_a_stream_that_its_caller_ends_is_answered_to_the_last(served: Any, key: dict[str, str]) -> None:
    with client.InferenceServerClient(served.grpc) as triton:
        stream = Stream(triton, key)
        for number in range(20):
            stream.ask(str(number), row(number))
        triton.stop_stream()
    assert stream.answers.qsize() == 20


def test_a_cancelled_stream_leaves_the_node_well(served: Any, key: dict[str, str]) -> None:
    with client.InferenceServerClient(served.grpc) as triton:
        stream = Stream(triton, key)
        for number in range(10):
            stream.ask(str(number), *work(MANY_TURNS), model="stream/slow")
        triton.stop_stream(cancel_requests=True)
        result = triton.infer("stream/add", [row(1)], headers=key)
    assert result.as_numpy("y")[0, 0] == 2


def test_the_asynchronous_client_streams(served: Any, key: dict[str, str]) -> None:
    async def asked() -> AsyncIterator[dict[str, Any]]:
        for number in range(30):
            yield {"model_name": "stream/add", "inputs": [row(number)], "request_id": str(number)}

    async def run() -> list[str]:
        async with tritonclient.grpc.aio.InferenceServerClient(served.grpc) as triton:
            ids = []
            async for result, error in triton.stream_infer(asked(), headers=key):
                assert error is None
                ids.append(result.get_response().id)
            return ids

    assert asyncio.run(run()) == [str(number) for number in range(30)]
