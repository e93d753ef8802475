"""Calls as unmodified clients make them: `tritonclient` over HTTP, binary and JSON, and over gRPC; and over ZeroMQ.

Arrays are as in `bare_onnxruntime`: BF16 as bits, strings as str; the translation to the client's forms is here.
"""

import json
import queue
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import ml_dtypes
import numpy as np
import tritonclient.grpc
import tritonclient.http
import urllib3
from bare_onnxruntime import Array, Declared
from tritonclient.utils import InferenceServerException
from zmq_caller import ZmqCaller

from appliance import client_tensors
from appliance.client_tensors import array_of, tensor_of
from appliance.core.client_frames import Call, Fault, Result, Tensor

__all__ = ["Callers", "Given", "InferenceServerException", "Response"]


class Given(NamedTuple):
    """One output as a client sees it."""

    name: str
    dtype: str
    array: Array


class Response(NamedTuple):
    status: int
    body: Any

    @property
    def sentence(self) -> str:
        return str(self.body.get("error", "")) if isinstance(self.body, dict) else ""


class Callers:
    """The clients of one thread. `http`, `grpc` and `zmq` are HOST:PORT."""

    def __init__(self, http: str, grpc: str, zmq: str, key: str) -> None:
        self._base = f"http://{http}"
        self._authorization = f"Bearer {key}"
        self._plain = urllib3.PoolManager(maxsize=1, retries=False, timeout=60)
        self._http = tritonclient.http.InferenceServerClient(http, concurrency=8, network_timeout=60)
        self._grpc = tritonclient.grpc.InferenceServerClient(grpc)
        self._zmq = ZmqCaller(zmq)

    def close(self) -> None:
        self._http.close()
        self._grpc.close()
        self._zmq.close()
        self._plain.clear()

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Response:
        """Any request with the admin key; the body parsed where it is JSON."""
        sent = {"Authorization": self._authorization, **{name.replace("_", "-"): v for name, v in headers.items()}}
        answer = self._plain.request(method, self._base + path, body=body, headers=sent)
        try:
            return Response(answer.status, json.loads(answer.data))
        except ValueError:
            return Response(answer.status, answer.data)

    def deploy(self, name: str, model: bytes) -> Response:
        return self.request("PUT", f"/v1/models/{quote(name)}", model)

    def delete(self, name: str) -> Response:
        return self.request("DELETE", f"/v1/models/{quote(name)}")

    def metadata(self, name: str) -> Any:
        return self._http.get_model_metadata(name, headers={"Authorization": self._authorization})

    def executions(self, name: str) -> tuple[int, int]:
        """How many calls a model answered, and in how many runs."""
        statistics = self.request("GET", f"/v2/models/{name}/stats").body["model_stats"][0]
        return int(statistics["inference_stats"]["success"]["count"]), int(statistics["execution_count"])

    def binary(self, name: str, feed: dict[str, Array], inputs: Sequence[Declared]) -> list[Given]:
        """HTTP with binary tensors both ways. Raises InferenceServerException, as the two below."""
        result = self._http.infer(name, self._tensors(tritonclient.http, feed, inputs), headers=self._headers())
        return _given_by_http(result)

    def json(
        self, name: str, feed: dict[str, Array], inputs: Sequence[Declared], outputs: Mapping[str, bool]
    ) -> list[Given]:
        """HTTP with JSON, but for the inputs that it cannot carry; `outputs` says of each whether JSON can."""
        tensors = []
        for declared in inputs:
            if declared.name in feed:
                array = feed[declared.name]
                tensor = tritonclient.http.InferInput(declared.name, list(array.shape), declared.dtype)
                plain = fits_json(declared.dtype, array)
                tensor.set_data_from_numpy(_for_client(array, declared.dtype), binary_data=not plain)
                tensors.append(tensor)
        wishes = [tritonclient.http.InferRequestedOutput(o, binary_data=not plain) for o, plain in outputs.items()]
        result = self._http.infer(name, tensors, outputs=wishes, headers=self._headers())
        return _given_by_http(result)

    def some_outputs(
        self, name: str, feed: dict[str, Array], inputs: Sequence[Declared], names: list[str]
    ) -> list[str]:
        """The outputs' names as they come where these are asked for, which must be alike over HTTP and gRPC."""
        came = []
        for module, client in ((tritonclient.http, self._http), (tritonclient.grpc, self._grpc)):
            wishes = [module.InferRequestedOutput(wish) for wish in names]
            result = client.infer(name, self._tensors(module, feed, inputs), outputs=wishes, headers=self._headers())
            given = _given_by_http(result) if client is self._http else _given_by_grpc(result)
            came.append([output.name for output in given])
        assert came[0] == came[1]
        return came[0]

    def grpc(self, name: str, feed: dict[str, Array], inputs: Sequence[Declared]) -> list[Given]:
        result = self._grpc.infer(name, self._tensors(tritonclient.grpc, feed, inputs), headers=self._headers())
        return _given_by_grpc(result)

    def zeromq(self, name: str, feed: dict[str, Array], inputs: Sequence[Declared]) -> list[Given]:
        """The frames of docs/zeromq.md. Raises InferenceServerException, as the others."""
        heads, bodies = [], []
        for declared in inputs:
            if declared.name in feed:
                array = feed[declared.name]
                bodies.append(array.tobytes() if declared.dtype == "BF16" else bytes(tensor_of("", array).data))
                heads.append(Tensor(declared.name, declared.dtype, list(array.shape), 0, len(bodies[-1])))
        self._zmq.call(Call(1, name, tensors=heads, key=self._authorization), *bodies)
        head, parts = self._zmq.answer()
        if isinstance(head, Fault):
            raise InferenceServerException(head.sentence)
        assert isinstance(head, Result)
        return [_given_by_zeromq(one, part) for one, part in zip(head.tensors, parts, strict=True)]

    def at_once(
        self, name: str, feeds: Sequence[dict[str, Array]], inputs: Sequence[Declared]
    ) -> list[list[Given] | InferenceServerException]:
        """Every feed in flight at the same time, half over gRPC and half over HTTP. Answers in the feeds' order."""
        answers: queue.SimpleQueue[tuple[int, Any, Any]] = queue.SimpleQueue()

        def remember(index: int) -> Callable[[Any, Any], None]:
            return lambda result, error: answers.put((index, result, error))

        waiting = []
        for index, feed in enumerate(feeds):
            if index % 2:
                tensors = self._tensors(tritonclient.grpc, feed, inputs)
                self._grpc.async_infer(name, tensors, callback=remember(index), headers=self._headers())
            else:
                tensors = self._tensors(tritonclient.http, feed, inputs)
                waiting.append((index, self._http.async_infer(name, tensors, headers=self._headers())))
        found: dict[int, list[Given] | InferenceServerException] = {}
        for index, handle in waiting:
            try:
                found[index] = _given_by_http(handle.get_result())
            except InferenceServerException as error:
                found[index] = error
        for _ in range(len(feeds) - len(waiting)):
            index, result, fault = answers.get(timeout=60)
            found[index] = fault or _given_by_grpc(result)
        return [found[index] for index in range(len(feeds))]

    def _headers(self) -> dict[str, str]:
        return {"authorization": self._authorization}

    @staticmethod
    def _tensors(client: Any, feed: dict[str, Array], inputs: Sequence[Declared]) -> list[Any]:
        tensors = []
        for declared in inputs:
            if declared.name in feed:
                array = feed[declared.name]
                tensor = client.InferInput(declared.name, list(array.shape), declared.dtype)
                tensor.set_data_from_numpy(_for_client(array, declared.dtype))
                tensors.append(tensor)
        return tensors


def fits_json(dtype: str, array: Array) -> bool:
    """Whether V2's JSON can carry every element: no 16-bit floats, nothing that is not finite."""
    if dtype in ("FP16", "BF16"):
        return False
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _for_client(array: Array, dtype: str) -> Array:
    return array.view(ml_dtypes.bfloat16) if dtype == "BF16" else array


def _given_by_http(result: Any) -> list[Given]:
    outputs = result.get_response().get("outputs", [])
    return [_given(result, output["name"], output["datatype"], output["shape"]) for output in outputs]


def _given_by_grpc(result: Any) -> list[Given]:
    outputs = result.get_response().outputs
    return [_given(result, output.name, output.datatype, output.shape) for output in outputs]


def _given_by_zeromq(head: Tensor, part: Any) -> Given:
    array = array_of(client_tensors.Tensor(head.dtype, head.shape, part))
    if head.dtype == "BYTES":
        array = np.array([*(text.decode() for text in array.reshape(-1)), ""], object)[:-1].reshape(array.shape)
    return Given(head.name, head.dtype, array)


def _given(result: Any, name: str, dtype: str, shape: Sequence[int]) -> Given:
    array = result.as_numpy(name)
    shape = tuple(shape)
    if array is None:
        raise AssertionError(f"output '{name}' came without data")
    if not array.size:
        # The client forgets the dtype of what has no elements, and sometimes the shape.
        return Given(name, dtype, np.empty(shape, array.dtype))
    if dtype == "BYTES":
        texts = [element.decode() if isinstance(element, bytes) else str(element) for element in array.reshape(-1)]
        array = np.array([*texts, ""], object)[:-1].reshape(array.shape)
    elif dtype == "BF16":
        array = array.view(np.uint16)
    return Given(name, dtype, array.reshape(shape))
