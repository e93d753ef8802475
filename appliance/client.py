"""The Python client of a node: what the command line uses, and any program may.

    with Client("http://box:8000", key) as node:        # or tcp://box:8003, the ZeroMQ front, for infer() and its like
        node.infer("me/model", {"x": array}).outputs["y"]
        node.call("me/model", jpeg, "image/jpeg").outputs   # what is not about tensors is HTTP's

Every method raises the subclass of core.errors.IngleError that the node named; UnavailableError also where no node
answers. One connection is kept; a Client is not for several threads at once. AsyncClient is for event loops.
"""

import http.client
import re
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import urllib3

from appliance.client_answers import (
    Activity,
    Alias,
    Called,
    CallRecord,
    Deleted,
    Deployed,
    Invitation,
    JoinedMesh,
    Key,
    Mesh,
    MeshMember,
    MeshServer,
    Model,
    ModelDetails,
    Nodes,
    ProgramFetch,
    Restored,
    Scale,
    Statistics,
    Traffic,
    TrafficWish,
    VersionCopies,
)
from appliance.client_async import GRACE_S, AsyncClient
from appliance.client_tensors import Tensor, tensor_of
from appliance.client_wire import (
    Asked,
    BrokenError,
    HttpAnswer,
    Infer,
    Inference,
    NotReachedError,
    Operation,
    from_http,
    http_fault,
    is_asked_elsewhere,
    retry_wait_s,
    to_http,
    what_is_left,
)
from appliance.core.errors import BadInputError, IngleError, UnavailableError, UnsupportedError
from appliance.core.names import ModelName

if TYPE_CHECKING:
    from appliance.client_zmq import ZmqLink

__all__ = ["AsyncClient", "Client", "Inference", "Tensor"]

Answer = TypeVar("Answer")


class _Models(msgspec.Struct):
    models: list[Model]
    next: str | None = None


class _Copies(msgspec.Struct):
    copies: list[VersionCopies]


class _Lines(msgspec.Struct):
    lines: list[str]


class _Invitations(msgspec.Struct):
    invitations: list[Invitation]


class _Keys(msgspec.Struct):
    keys: list[Key]


class _Statistics(msgspec.Struct):
    model_stats: list[Statistics]


class Client:
    """One node's HTTP API. `timeout_s` bounds each request's silence, not a deploy's whole length."""

    def __init__(
        self,
        url: str | Sequence[str],
        key: str = "",
        *,
        timeout_s: float = 300.0,
        ca_file: Path | None = None,
        fingerprint: str = "",
    ) -> None:
        """`url`: one or several nodes, `http://`, `https://` or `tcp://`; where one is not reached, takes no calls or
        ends under a call, the next is asked.

        For `https://`, whom to believe: the system's authorities, or those in `ca_file`, or the one certificate
        whose SHA-256 is `fingerprint`, whatever it says of itself. Raises BadInputError where these are unfit."""
        given = [url] if isinstance(url, str) else url
        self._urls = [(one if "://" in one else f"http://{one}").rstrip("/") for one in given]
        self.url = self._urls[0]  # of the node that is asked next
        self._key = key
        self._timeout_s = timeout_s
        self._links: dict[str, ZmqLink] = {}
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._pool = urllib3.PoolManager(
            retries=False,
            timeout=urllib3.Timeout(connect=min(10.0, timeout_s), read=timeout_s),
            **_trust(ca_file, fingerprint),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._pool.clear()
        for link in self._links.values():
            link.close()

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        version: str = "",
        outputs: Sequence[str] | None = None,
        deadline_s: float = 0.0,
        priority: int = 0,
    ) -> Inference:
        """Runs the model once on arrays, by input; its outputs are numpy arrays where numpy is installed.

        An input is whatever has the buffer protocol, a list of texts, or a Tensor; BYTES come back as bytes, BF16 as
        its bits. `outputs` None: all. Within a deadline, a node that is busy is asked again when it said so; without
        one (0: the node's default) it is not. `priority` 1 is the highest.
        """
        tensors = {name: tensor_of(name, value) for name, value in inputs.items()}
        answer = self._perform(Infer(model, version, tensors, outputs, deadline_s, priority), deadline_s)
        assert isinstance(answer, Inference)
        return answer

    def ready(self, model: str = "", version: str = "") -> bool:
        """Whether a call of the model would be taken, or, without one, whether the node takes calls at all."""
        return bool(self._perform(Operation("model_ready" if model else "ready", model, version))["ready"])

    def metadata(self, model: str, version: str = "") -> dict[str, Any]:
        """What the model takes and gives, in V2's words."""
        answer: dict[str, Any] = self._perform(Operation("model_metadata", model, version))
        return answer

    def index(self, *, ready_only: bool = False) -> list[dict[str, Any]]:
        """V2's index: every version of every model that the key may call."""
        answer: list[dict[str, Any]] = self._perform(Operation("index", ready_only=ready_only))
        return answer

    def _perform(self, asked: Asked, deadline_s: float = 0.0) -> Any:
        ends_s = time.monotonic() + deadline_s if deadline_s else None
        asked_of = 0
        while True:
            try:
                left = what_is_left(asked, time.monotonic(), ends_s)
                return self._once(left, deadline_s + GRACE_S if deadline_s else 0.0)
            except IngleError as error:
                asked_of += 1
                if is_asked_elsewhere(error) and asked_of < len(self._urls):
                    self.url = self._urls[(self._urls.index(self.url) + 1) % len(self._urls)]
                    continue
                wait_s = retry_wait_s(error, time.monotonic(), ends_s)
                if wait_s is None:
                    raise
                time.sleep(wait_s)
                asked_of = 0

    def _once(self, asked: Asked, timeout_s: float) -> Any:
        if self.url.startswith("tcp://"):
            if self.url not in self._links:
                from appliance.client_zmq import ZmqLink

                self._links[self.url] = ZmqLink(self.url, self._key, self._timeout_s)
            return self._links[self.url].ask(asked, timeout_s)
        request = to_http(asked)
        with self._faults():
            response = self._pool.request(
                request.method,
                self.url + request.path,
                body=request.body or None,
                headers={**self._headers, **request.headers},
                redirect=False,
                timeout=urllib3.Timeout(min(10.0, self._timeout_s), timeout_s or self._timeout_s),
            )
        return from_http(asked, self.url, _answer(response))

    def models(self, query: str = "", tag: str = "") -> list[Model]:
        """The models that this key may see, by name; those whose words match `query` and which carry `tag`."""
        asked = {word: value for word, value in (("q", query), ("tag", tag)) if value}
        page = self._ask("GET", "/v1/models", _Models, fields=asked)
        found = page.models
        while page.next:
            page = self._ask("GET", "/v1/models", _Models, fields={**asked, "after": page.next})
            found += page.models
        return found

    def show(self, name: ModelName, version: str = "") -> ModelDetails:
        """One version of a model; without one, what a call without one would reach."""
        return self._ask("GET", _path(name, version), ModelDetails)

    def call(
        self, name: ModelName | str, content: bytes, content_type: str, *, version: str = "", deadline_s: float = 0.0
    ) -> Called:
        """Runs the model once on `content`. `deadline_s` 0: the node's default."""
        headers = {"Content-Type": content_type}
        if deadline_s:
            headers["X-Ingle-Deadline-Ms"] = str(max(1, round(deadline_s * 1000)))
        return self._ask("POST", _path(name, version), Called, body=content, headers=headers)

    def deploy(
        self,
        name: ModelName,
        upload: Iterable[bytes],
        *,
        version: str = "",
        trial: TrafficWish | None = None,
        require_signature: bool = False,
        replicas: int = 0,
        on: Sequence[str] = (),
    ) -> Deployed:
        """Streams an ONNX file or a bundle to the node, which validates it before it is there for anyone.

        With a trial's `canary_share` the default stays what it is and the version gets that share of the calls; with
        its limits alone the version is the default until it exceeds one of them. With `require_signature` the node
        refuses what is not signed by a key that it trusts. `replicas`: on how many nodes of the mesh the model is to
        lie; `on`: on which of them (names, `tag:WORD`). copies() tells how that goes on.
        """
        headers = {"Content-Type": "application/octet-stream"}
        asked = {"signature": "required"} if require_signature else {}
        asked |= {"replicas": str(replicas)} if replicas else {}
        asked |= {"on": ",".join(on)} if on else {}
        query = _query(trial)
        if asked:
            query += ("&" if query else "?") + urlencode(asked)
        return self._ask("PUT", _path(name, version) + query, Deployed, body=upload, headers=headers)

    def copies(self, name: ModelName | None = None) -> list[VersionCopies]:
        """Where in the mesh the copies of models are that were wished for, and those on their way; of all models, or
        of one."""
        query = "?" + urlencode({"model": str(name)}) if name else ""
        return self._ask("GET", "/v1/copies" + query, _Copies).copies

    def activity(self) -> Activity:
        """What the node does right now: its memory, its workers, and the models that are warm or called."""
        return self._ask("GET", "/v1/activity", Activity)

    def nodes(self) -> Nodes:
        """The nodes of the mesh as this node sees them, itself first."""
        return self._ask("GET", "/v1/nodes", Nodes)

    def fetch_program(self, node: str) -> ProgramFetch:
        """Has the node fetch the signed one file that a peer (its name or id) runs from; program() tells of it."""
        body = msgspec.json.encode({"node": node})
        return self._ask("POST", "/v1/program", ProgramFetch, body=body, headers=_JSON)

    def program(self) -> ProgramFetch:
        """How far the last such fetch is."""
        return self._ask("GET", "/v1/program", ProgramFetch)

    def statistics(self, name: ModelName, ordinal: int) -> Statistics:
        """What became of the calls of one version since the node started."""
        return self._ask("GET", f"/v2/models/{name}/versions/{ordinal}/stats", _Statistics).model_stats[0]

    def unload(self, name: ModelName) -> None:
        """Ends the model's workers once they have answered; the next call starts one again."""
        self._ask("POST", f"/v2/repository/models/{name}/unload", Any, body=b"{}", headers=_JSON)

    def set_scale(self, name: ModelName, scale: Scale) -> Scale:
        """Says how many replicas the model is to have, and how soon its calls are to be answered."""
        body = msgspec.json.encode(scale)
        return self._ask("PUT", f"{_path(name)}/scale", Scale, body=body, headers=_JSON)

    def traffic(self, name: ModelName) -> Traffic:
        """How the calls that name no version are spread, and how the versions fare."""
        return self._ask("GET", f"{_path(name)}/traffic", Traffic)

    def set_traffic(self, name: ModelName, wish: TrafficWish) -> Traffic:
        """Spreads the calls that name no version anew; what was wished before is gone."""
        asked = {word: getattr(wish, word) for word in TrafficWish.__struct_fields__}
        return self._ask("PUT", f"{_path(name)}/traffic", Traffic, body=msgspec.json.encode(asked), headers=_JSON)

    def delete_traffic(self, name: ModelName) -> Traffic:
        """Gives all calls that name no version to the default one."""
        return self._ask("DELETE", f"{_path(name)}/traffic", Traffic)

    def set_alias(self, name: ModelName, alias: str, version: str) -> Alias:
        """Makes the alias mean what `version` (`1.2.3`, `1.2`, `latest`, another alias) means now."""
        body = msgspec.json.encode({"version": version})
        return self._ask("PUT", f"{_path(name)}/aliases/{quote(alias, safe='')}", Alias, body=body, headers=_JSON)

    def delete_alias(self, name: ModelName, alias: str) -> None:
        """Takes the alias away; the version stays."""
        self._ask("DELETE", f"{_path(name)}/aliases/{quote(alias, safe='')}", Any)

    def rollback(self, name: ModelName) -> Alias:
        """Moves `default` back to what it was before."""
        return self._ask("POST", f"{_path(name)}/rollback", Alias)

    def delete(self, name: ModelName, version: str = "") -> Deleted:
        """Deletes one version, or without one the whole model."""
        return self._ask("DELETE", _path(name, version), Deleted)

    def logs(self, name: ModelName, version: str = "") -> list[str]:
        """The last lines that the model's workers wrote, oldest first."""
        return self._ask("GET", f"{_path(name, version)}/logs", _Lines).lines

    def call_record(self, call_id: str) -> CallRecord:
        """What became of a recent call that this node took, and why it ran where it did. Raises NotFoundError."""
        return self._ask("GET", f"/v1/calls/{quote(call_id, safe='')}", CallRecord)

    def keys(self) -> list[Key]:
        """All keys, without their secrets."""
        return self._ask("GET", "/v1/keys", _Keys).keys

    def create_key(self, label: str, scopes: Iterable[str], *, rate: str = "", burst: int = 0, quota: str = "") -> Key:
        """A new key; `key` in the answer is its secret, which nobody can read again. `rate` such as `50/s`, `quota`
        such as `100000/day`; empty: no limit."""
        limits = {name: value for name, value in (("rate", rate), ("burst", burst), ("quota", quota)) if value}
        body = msgspec.json.encode({"label": label, "scopes": list(scopes), **limits})
        return self._ask("POST", "/v1/keys", Key, body=body, headers=_JSON)

    def limit_key(
        self, key_id: str, *, rate: str | None = None, burst: int | None = None, quota: str | None = None
    ) -> Key:
        """Changes how often a key may call; None leaves a limit as it is, an empty one or 0 takes it away."""
        asked = (("rate", rate), ("burst", burst), ("quota", quota))
        body = msgspec.json.encode({name: value for name, value in asked if value is not None})
        return self._ask("PATCH", f"/v1/keys/{quote(key_id, safe='')}", Key, body=body, headers=_JSON)

    def revoke_key(self, key_id: str) -> Key:
        """Ends a key at once."""
        return self._ask("DELETE", f"/v1/keys/{quote(key_id, safe='')}", Key)

    def mesh(self) -> Mesh:
        """The mesh that the node belongs to."""
        return self._ask("GET", "/v1/mesh", Mesh)

    def invite(self) -> Invitation:
        """A code with which one new node may join."""
        return self._ask("POST", "/v1/mesh/invitations", Invitation)

    def invitations(self) -> list[Invitation]:
        """Those that are open or ended lately, without their codes."""
        return self._ask("GET", "/v1/mesh/invitations", _Invitations).invitations

    def withdraw_invitation(self, label: str) -> Invitation:
        """Ends an invitation."""
        return self._ask("DELETE", f"/v1/mesh/invitations/{quote(label, safe='')}", Invitation)

    def join_mesh(self, code: str, address: str = "", *, leave: bool = False) -> JoinedMesh:
        """Has the node join the mesh in which this code was made; `address`: the inviting node's HOST:PORT, where it
        is not found by itself."""
        return self._post("/v1/mesh/join", JoinedMesh, {"code": code, "address": address, "leave": leave})

    def import_mesh_key(self, key: str, *, leave: bool = False) -> Mesh:
        """Has the node join the mesh with this key, 64 hexadecimal digits."""
        return self._post("/v1/mesh/key", Mesh, {"key": key, "leave": leave})

    def leave_mesh(self) -> Mesh:
        """Has the node leave its mesh."""
        return self._ask("POST", "/v1/mesh/leave", Mesh)

    def rotate_mesh_key(self) -> Mesh:
        """Gives the mesh a new key, the first of the answer's; mesh() tells when all have it."""
        return self._ask("POST", "/v1/mesh/rotate", Mesh)

    def revoke_node(self, node: str, why: str = "") -> MeshMember:
        """Throws a node out of the mesh, for good."""
        return self._post("/v1/mesh/revocations", MeshMember, {"node": node, "why": why})

    def add_server(self, server: str, owner: str = "") -> MeshServer:
        """Has the mesh call a Triton server, `triton://HOST:PORT`, for its models, which are called `owner/NAME` here
        (`triton/NAME` unless told). Raises UnavailableError where none answers there."""
        return self._post("/v1/mesh/servers", MeshServer, {"server": server, "owner": owner})

    def remove_server(self, server: str) -> MeshServer:
        """Has the mesh call that Triton server no more."""
        address = quote(server.removeprefix("triton://").rstrip("/"), safe="")
        return self._ask("DELETE", f"/v1/mesh/servers/{address}", MeshServer)

    def backup(self, target: BinaryIO, on_bytes: Callable[[int, int], None] = lambda _piece, _whole: None) -> int:
        """Writes a backup of the node to `target`; how many bytes. `on_bytes` is told the size of each piece and of the
        whole. Raises UnavailableError where it breaks off: what was written is of no use then."""
        with self._faults():
            response = self._pool.request(
                "GET", f"{self.url}/v1/backup", headers=self._headers, redirect=False, preload_content=False
            )
            if response.status >= 300:
                raise http_fault(self.url, _answer(response))
        whole, written = int(response.headers.get("Content-Length", "0")), 0
        try:
            while piece := self._read(response):
                target.write(piece)
                written += len(piece)
                on_bytes(len(piece), whole)
        finally:
            response.close()
        if not whole or written != whole:
            raise UnavailableError(f"the backup from {self.url} broke off after {written} of {whole} bytes: try again")
        return written

    def _read(self, response: urllib3.BaseHTTPResponse) -> bytes:
        with self._faults():
            return response.read(_PIECE_BYTES)

    def restore(self, backup: Iterable[bytes]) -> Restored:
        """Puts a backup in the place of all that the node has. Keys become those of the backup, this one perhaps not
        among them."""
        return self._ask("POST", "/v1/restore", Restored, body=backup, headers={"Content-Type": "application/x-tar"})

    def send(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        """A POST of the caller's own making to a path behind the node's URL; what it answers, unread."""
        return self._exchange("POST", path, body=body, headers=headers)

    def _post(self, path: str, answer: type[Answer], asked: dict[str, Any]) -> Answer:
        return self._ask("POST", path, answer, body=msgspec.json.encode(asked), headers=_JSON)

    def _ask(
        self,
        method: str,
        path: str,
        answer: type[Answer],
        *,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
        fields: dict[str, str] | None = None,
    ) -> Answer:
        said = self._exchange(method, path, body=body, headers=headers, fields=fields)
        try:
            return msgspec.json.decode(said or b"null", type=answer)
        except msgspec.MsgspecError as error:
            raise IngleError(f"what answers at {self.url} does not speak as a node of Ingle does: {error}") from None

    def _exchange(
        self,
        method: str,
        path: str,
        *,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
        fields: dict[str, str] | None = None,
    ) -> bytes:
        with self._faults():
            response = self._pool.request(
                method,
                self.url + path,
                body=body,
                fields=fields,
                headers={**self._headers, **(headers or {})},
                redirect=False,
            )
        if response.status >= 300:
            raise http_fault(self.url, _answer(response))
        return response.data

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """What goes wrong with the connection, as the errors that methods raise."""
        if self.url.startswith("tcp://"):
            raise UnsupportedError(f"this is asked over HTTP alone, and {self.url} is a node's ZeroMQ port")
        try:
            yield
        except urllib3.exceptions.ReadTimeoutError:
            raise UnavailableError(f"the node at {self.url} took too long to answer: try again later") from None
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as error:
            raise NotReachedError(f"no node answers at {self.url} ({_reason(error)}): is it running there?") from None
        except urllib3.exceptions.LocationValueError:
            raise BadInputError(f"'{self.url}' is no URL: expected one such as http://HOST:8000") from None
        except urllib3.exceptions.SSLError as error:
            raise UnavailableError(_distrust(self.url, error)) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise BrokenError(f"the connection to {self.url} broke ({_reason(error)}): {_again(self.url)}") from None


_JSON = {"Content-Type": "application/json"}
_PIECE_BYTES = 1024 * 1024


def _trust(ca_file: Path | None, fingerprint: str) -> dict[str, Any]:
    """What urllib3 is to believe of a server's certificate."""
    digits = fingerprint.replace(":", "").lower()
    if digits:
        if not re.fullmatch("[0-9a-f]{64}", digits):
            raise BadInputError("the fingerprint must be the SHA-256 of a certificate: 64 hexadecimal digits")
        return {"cert_reqs": "CERT_NONE", "assert_fingerprint": digits}
    if ca_file is None:
        return {}
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise BadInputError(f"{ca_file} holds no certificates in PEM form that can be read: {error}") from None
    return {"ssl_context": context}


def _distrust(url: str, error: Exception) -> str:
    text = str(error)
    if "record layer failure" in text or "wrong version number" in text.lower():
        return f"what answers at {url} does not speak TLS: try http:// instead"
    if "Fingerprints did not match" in text:
        return f"{url} shows another certificate than the one whose fingerprint was given: do not trust it"
    return (
        f"the certificate of {url} is not to be trusted ({_reason(error)}): name its file with --ca, or its SHA-256 "
        "with --fingerprint"
    )


def _path(name: ModelName | str, version: str = "") -> str:
    return f"/v1/models/{name}" + (f":{quote(version, safe='')}" if version else "")


def _query(trial: TrafficWish | None) -> str:
    if trial is None:
        return ""
    words = ("canary_share", "max_error_share", "max_latency_ratio", "least_calls")
    return "?" + "&".join(f"{word}={getattr(trial, word)}" for word in words)


def _again(url: str) -> str:
    return "try again" + (", or with https:// if the node speaks TLS" if url.startswith("http://") else "")


def _reason(error: Exception) -> str:
    """The system's own words where there are any; urllib3 wraps them in its objects' names."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, http.client.RemoteDisconnected):
            return "it was closed without an answer"
        if isinstance(cause, http.client.BadStatusLine):
            return "what came back is no HTTP: gRPC and ZeroMQ have ports of their own"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error).rsplit(": ", 1)[-1]


def _answer(response: urllib3.BaseHTTPResponse) -> HttpAnswer:
    return HttpAnswer(response.status, {n.lower(): v for n, v in response.headers.items()}, response.data)
