"""The ways by which `ingle bench` calls a model: over HTTP by its own small client, over ZeroMQ by Ingle's."""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from appliance.cli.target import Target
from appliance.client_answers import ModelDetails

if TYPE_CHECKING:
    from appliance.cli.bench_request import Request
    from appliance.cli.closed_loop import Answers, Timing
    from appliance.client import Client


class Way(Protocol):
    """`about` says in words what is sent, `request_bytes` how much of it."""

    protocol: str
    about: str
    request_bytes: int

    def call_once(self) -> object:
        """One call alone. Raises IngleError."""

    def run(self, callers: int, timing: "Timing") -> Coroutine[Any, Any, "Answers"]:
        """So many callers at once. Raises IngleError where the node cannot be reached."""


class OverHttp:
    """Each caller has a connection of its own. Raises BadInputError for a URL that is none."""

    def __init__(self, client: "Client", target: Target, request: "Request") -> None:
        from appliance.cli.closed_loop import endpoint, request_bytes

        plain, binary = request.path.startswith("/v1/"), "Inference-Header-Content-Length" in request.headers
        self.protocol = "plain" if plain else "binary" if binary else "json"
        self.about = request.about
        self.request_bytes = len(request.body)
        self._client = client
        self._request = request
        self._place = endpoint(client.url, target.ca_file, target.fingerprint)
        key = {"Authorization": f"Bearer {target.key}"} if target.key else {}
        self._bytes = request_bytes(self._place, request.path, {**request.headers, **key}, request.body)

    def call_once(self) -> object:
        return self._client.send(self._request.path, self._request.body, self._request.headers)

    def run(self, callers: int, timing: "Timing") -> Coroutine[Any, Any, "Answers"]:
        from appliance.cli.closed_loop import run_step

        return run_step(self._place, self._bytes, callers, timing)


class OverZmq:
    """All callers share one connection, as ZeroMQ means it. Raises BadInputError for a URL that is none."""

    protocol = "zmq"

    def __init__(self, url: str, key: str, details: ModelDetails) -> None:
        from appliance.cli.bench_request import raw_tensors

        self._tensors, self.about = raw_tensors(details)
        self.request_bytes = sum(len(tensor.data) for tensor in self._tensors.values())
        self._url = url
        self._key = key
        self._model = details.model
        self._version = details.version

    def call_once(self) -> object:
        from appliance.client import Client

        with Client(self._url, self._key) as client:
            return client.infer(self._model, self._tensors, version=self._version)

    async def run(self, callers: int, timing: "Timing") -> "Answers":
        from appliance.cli.closed_loop import run_asking
        from appliance.client import AsyncClient

        async with AsyncClient(self._url, self._key) as client:
            return await run_asking(
                lambda: client.infer(self._model, self._tensors, version=self._version), callers, timing
            )
