"""The Python client against a real node and against what is none: typed answers, the node's own errors."""

import http.server
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from appliance.client import Client
from appliance.core.errors import (
    DeadlineError,
    ForbiddenError,
    IngleError,
    NotFoundError,
    RefusedError,
    UnauthenticatedError,
    UnavailableError,
)
from appliance.core.names import parse_name
from tests.conftest import RunningNode


@pytest.fixture
def client(node: RunningNode) -> Iterator[Client]:
    with Client(node.url, node.admin_key) as opened:
        yield opened


def test_an_unknown_model_is_not_found(client: Client) -> None:
    with pytest.raises(NotFoundError, match="client/nothing"):
        client.show(parse_name("client/nothing"))
    with pytest.raises(NotFoundError):
        client.call(parse_name("client/nothing"), b"[]", "application/json")


def test_keys_are_told_apart_by_what_they_may_do(client: Client, node: RunningNode) -> None:
    made = client.create_key("a caller", ["call:client/*"])
    with Client(node.url, made.key) as caller:
        assert caller.models() == []
        with pytest.raises(ForbiddenError):
            caller.keys()
    client.revoke_key(made.id)
    for key in ("", "sim0", made.key):
        with Client(node.url, key) as stranger, pytest.raises(UnauthenticatedError):
            stranger.models()


def test_a_large_upload_that_is_turned_away_early_is_still_a_sentence(node: RunningNode) -> None:
    megabytes = (bytes(2**20) for _ in range(256))
    with Client(node.url, "sim0") as stranger, pytest.raises(UnauthenticatedError):
        stranger.deploy(parse_name("client/large"), megabytes)


def test_an_upload_that_is_no_model_is_refused(client: Client) -> None:
    with pytest.raises(RefusedError):
        client.deploy(parse_name("client/refused"), iter([b"no model", b" at all"]))


def test_where_nobody_answers_the_url_is_named() -> None:
    with Client("127.0.0.1:1") as nobody, pytest.raises(UnavailableError, match=r"http://127\.0\.0\.1:1"):
        nobody.models()


def test_a_connection_that_breaks_is_told_from_a_node_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        hanging_up = threading.Thread(target=lambda: server.accept()[0].close())
        hanging_up.start()
        with Client(f"127.0.0.1:{server.getsockname()[1]}") as client, pytest.raises(UnavailableError, match="broke"):
            client.models()
        hanging_up.join()


@pytest.fixture
def serving() -> Iterator[Callable[[int, bytes], str]]:
    """Makes servers that answer every request alike; gives their URLs."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def serve(status: int, body: bytes) -> str:
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Nobody reads it."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (200, b"<html>", IngleError, "does not speak as a node"),
        (200, b'{"models": [{"model": 3}]}', IngleError, "does not speak as a node"),
        (404, b"<html>", IngleError, "is the URL right"),
        (302, b"", IngleError, "is the URL right"),
        (504, b'{"error": "too late", "code": "deadline"}', DeadlineError, "too late"),
        (418, b'{"error": "a teapot", "code": "from the future"}', IngleError, "a teapot"),
    ],
)
def test_what_does_not_answer_as_a_node_does_is_said(
    serving: Callable[[int, bytes], str], status: int, body: bytes, kind: type[IngleError], words: str
) -> None:
    with Client(serving(status, body)) as client, pytest.raises(kind, match=words):
        client.models()


def test_words_of_a_newer_node_are_passed_over(serving: Callable[[int, bytes], str]) -> None:
    url = serving(200, b'{"models": [{"model": "a/b", "version": "1.0.0", "mood": "sunny"}], "next": null}')
    with Client(url) as client:
        (model,) = client.models()
    assert (model.model, model.versions) == ("a/b", [])
