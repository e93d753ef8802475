"""grpc.health.v1, and how the gRPC front ends: what is under way is answered, what only waits is told."""

import queue
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest
import requests
import tritonclient.grpc as client
from grpc_health.v1 import health_pb2, health_pb2_grpc
from served import SLOW, deploy, onnx_bytes
from tritonclient.grpc import service_pb2, service_pb2_grpc

grpc = client.grpc
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def check(service: str) -> Any:
    return health_pb2.HealthCheckRequest(service=service)


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService"])
def test_a_node_that_is_up_serves(node: Any, service: str) -> None:
    with grpc.insecure_channel(node.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(check(service)).status == SERVING
        watch = health.Watch(check(service))
        assert next(watch).status == SERVING
        watch.cancel()


def test_a_service_that_is_not_here_is_unknown(node: Any) -> None:
    with grpc.insecure_channel(node.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(check("other.Service"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        watch = health.Watch(check("other.Service"))
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()


def test_an_ending_node_answers_what_is_under_way_and_ends_what_waits(nodes: Any) -> None:
    node = nodes()
    deploy(node, "ends/slow", onnx_bytes(SLOW))
    key = (("authorization", node.admin_key),)
    message = service_pb2.ModelInferRequest(model_name="ends/slow", id="slow")
    message.inputs.add(name="turns", datatype="INT64", shape=[])
    message.inputs.add(name="x", datatype="FP32", shape=[64, 64])
    message.raw_input_contents.extend([np.int64(50_000).tobytes(), bytes(64 * 64 * 4)])
    with grpc.insecure_channel(node.grpc) as channel:
        stub, health = service_pb2_grpc.GRPCInferenceServiceStub(channel), health_pb2_grpc.HealthStub(channel)
        watched: queue.SimpleQueue[int] = queue.SimpleQueue()
        watch = health.Watch(check(""))
        watcher = threading.Thread(target=lambda: [watched.put(answer.status) for answer in watch])
        watcher.start()
        assert watched.get(timeout=20) == SERVING
        # A stream that has asked nothing yet: requests() ends when the test does.
        over = threading.Event()

        def requests_of_an_idle_stream() -> Any:
            over.wait(60)
            yield from ()

        idle = stub.ModelStreamInfer(requests_of_an_idle_stream(), metadata=key)
        call = stub.ModelInfer.future(message, metadata=key)
        wait_until_at_work(node, "ends/slow")
        node.process.send_signal(signal.SIGTERM)
        assert call.result(timeout=30).id == "slow"
        assert watched.get(timeout=20) == NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            next(idle)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "stopping" in caught.value.details()
        over.set()
        watcher.join(20)
        assert not watcher.is_alive()
    assert node.process.wait(30) == 0


def wait_until_at_work(node: Any, model: str) -> None:
    """Returns once a worker of the model has a call."""
    ends_s = time.monotonic() + 20
    while time.monotonic() < ends_s:
        told = requests.get(f"{node.url}/v1/models/{model}", headers=node.headers, timeout=20).json()
        if any(worker["in_flight"] for worker in told["workers"]):
            return
    raise AssertionError(f"no worker of {model} got a call")
