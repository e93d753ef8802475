"""The Python client for an event loop: calls over HTTP and over ZeroMQ. Runs in whatever program uses it.

What is asked and answered is client_wire's; aiohttp and pyzmq are imported where a URL asks for them.
"""

import asyncio
import io
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from appliance.client_tensors import tensor_of
from appliance.client_wire import (
    Asked,
    BrokenError,
    HttpAnswer,
    Infer,
    Inference,
    NotReachedError,
    Operation,
    from_http,
    is_asked_elsewhere,
    retry_wait_s,
    to_http,
    what_is_left,
)
from appliance.core.errors import BadInputError, IngleError, UnavailableError


class _Link(Protocol):
    async def ask(self, asked: Asked, timeout_s: float = 0.0) -> Any: ...
    async def close(self) -> None: ...


class AsyncClient:
    """As Client's calls, and many at a time. `urls`: one or several nodes, `http://` or `tcp://`; where one cannot be
    reached, takes no calls or ends under a call, the next is asked."""

    def __init__(self, urls: str | Sequence[str], key: str = "", *, timeout_s: float = 300.0) -> None:
        self._links = [_link(url, key, timeout_s) for url in ([urls] if isinstance(urls, str) else urls)]
        self._at = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections; what is under way fails."""
        for link in self._links:
            await link.close()

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        version: str = "",
        outputs: Sequence[str] | None = None,
        deadline_s: float = 0.0,
        priority: int = 0,
    ) -> Inference:
        """As Client.infer()."""
        tensors = {name: tensor_of(name, value) for name, value in inputs.items()}
        answer = await self._perform(Infer(model, version, tensors, outputs, deadline_s, priority), deadline_s)
        assert isinstance(answer, Inference)
        return answer

    async def ready(self, model: str = "", version: str = "") -> bool:
        """As Client.ready()."""
        answer = await self._perform(Operation("model_ready" if model else "ready", model, version))
        return bool(answer["ready"])

    async def metadata(self, model: str, version: str = "") -> dict[str, Any]:
        """As Client.metadata()."""
        answer: dict[str, Any] = await self._perform(Operation("model_metadata", model, version))
        return answer

    async def index(self, *, ready_only: bool = False) -> list[dict[str, Any]]:
        """As Client.index()."""
        answer: list[dict[str, Any]] = await self._perform(Operation("index", ready_only=ready_only))
        return answer

    async def _perform(self, asked: Asked, deadline_s: float = 0.0) -> Any:
        ends_s = time.monotonic() + deadline_s if deadline_s else None
        at, asked_of = self._at, 0
        while True:
            try:
                left = what_is_left(asked, time.monotonic(), ends_s)
                return await self._links[at].ask(left, deadline_s + GRACE_S if deadline_s else 0.0)
            except IngleError as error:
                asked_of += 1
                if is_asked_elsewhere(error) and asked_of < len(self._links):
                    following = (at + 1) % len(self._links)
                    if self._at == at:  # else another call has moved on already
                        self._at = following
                    at = following
                    continue
                wait_s = retry_wait_s(error, time.monotonic(), ends_s)
                if wait_s is None:
                    raise
                await asyncio.sleep(wait_s)
                at, asked_of = self._at, 0


# A node that keeps a deadline says so itself; only one that does not answer at all is given up, this much later.
GRACE_S = 5.0


def _link(url: str, key: str, timeout_s: float) -> _Link:
    scheme, _, place = url.partition("://")
    if scheme == "tcp":
        from appliance.client_zmq import AsyncZmqLink

        return AsyncZmqLink(url, key, timeout_s)
    if scheme in ("http", "https") and place:
        return _HttpLink(url.rstrip("/"), key, timeout_s)
    raise BadInputError(f"'{url}' is no URL: expected one such as http://HOST:8000 or tcp://HOST:8003")


class _HttpLink:
    """aiohttp's session for one node."""

    def __init__(self, url: str, key: str, timeout_s: float) -> None:
        self._url = url
        self._headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._timeout_s = timeout_s
        self._session: Any = None

    async def ask(self, asked: Asked, timeout_s: float = 0.0) -> Any:
        """The node's answer. Raises the error that it names, NotReachedError where there is none, BrokenError where the
        connection breaks, and UnavailableError where nothing comes in time."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        request = to_http(asked)
        timeout = aiohttp.ClientTimeout(total=timeout_s or self._timeout_s, sock_connect=10.0)
        try:
            async with self._session.request(
                request.method,
                self._url + request.path,
                data=io.BytesIO(request.body) if request.body else None,
                headers={**self._headers, **request.headers},
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                answer = HttpAnswer(response.status, headers, await response.read())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotReachedError(f"no node answers at {self._url} ({error}): is it running there?") from None
        except TimeoutError:
            raise UnavailableError(f"the node at {self._url} took too long to answer: try again later") from None
        except (aiohttp.ClientError, OSError) as error:
            raise BrokenError(f"the connection to {self._url} broke ({error}): try again") from None
        return from_http(asked, self._url, answer)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
