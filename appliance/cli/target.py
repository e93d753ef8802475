"""Which node a verb talks to and with which key: what was said, else the node of this box and user.

A running node keeps `node.json` in its data folder, in the ready file's form, with the path of the admin key's file.
Whoever may read that file is the node's owner and needs to say nothing.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec
from click.shell_completion import CompletionItem

from appliance.cli.paths import EXISTING_FILE
from appliance.core.errors import IngleError, UnavailableError
from appliance.core.names import ModelName, parse_reference

if TYPE_CHECKING:
    from appliance.client import Client

NODE_FILE = "node.json"


class NodeFile(msgspec.Struct):
    """What the CLI needs of the ready file. A front that is off is None."""

    http: str | None = None
    grpc: str | None = None
    zmq: str | None = None
    mesh: str | None = None
    pid: int = 0
    name: str = ""
    admin_key_file: str = ""
    tls_fingerprint: str | None = None
    file: str = ""


class Target(NamedTuple):
    """A node as a verb was told of it, and whether the answer is for a program (`--json`)."""

    url: str
    key: str
    json: bool
    ca_file: Path | None = None
    fingerprint: str = ""

    @property
    def is_on_this_box(self) -> bool:
        """Whether the URL names the loopback."""
        from urllib.parse import urlsplit

        return (urlsplit(self.url).hostname or "") in ("localhost", "127.0.0.1", "::1")

    def client(self, *, timeout_s: float = 300.0) -> "Client":
        """A client of this node; `timeout_s` bounds each request's silence."""
        from appliance.client import Client

        return Client(self.url, self.key, timeout_s=timeout_s, ca_file=self.ca_file, fingerprint=self.fingerprint)


class Reference(NamedTuple):
    """`owner/name[:version]` as the user wrote it."""

    name: ModelName
    version: str


class ReferenceType(click.ParamType[Reference]):
    """A model on the command line; completion asks the node which there are."""

    name = "model"

    def __init__(self, *, versioned: bool = True) -> None:
        self._versioned = versioned

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Reference:
        if isinstance(value, Reference):
            return value
        try:
            reference = Reference(*parse_reference(value))
        except IngleError as error:
            self.fail(error.sentence, param, ctx)
        if reference.version and not self._versioned:
            self.fail(f"'{value}' names a version, and this is done to a whole model: leave ':{reference.version}' out")
        return reference

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            node, key, fingerprint = (ctx.params.get(word) or "" for word in ("node", "key", "fingerprint"))
            target = find(node, key, ca_file=ctx.params.get("ca_file"), fingerprint=fingerprint)
            with target.client(timeout_s=1.0) as client:
                names = [model.model for model in client.models()]
        except IngleError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


MODEL = ReferenceType()
WHOLE_MODEL = ReferenceType(versioned=False)


def read_node_file(data_dir: Path) -> NodeFile | None:
    """What the node of this data folder wrote, or None where no node of ours runs there."""
    try:
        return msgspec.json.decode((data_dir / NODE_FILE).read_bytes(), type=NodeFile)
    except (OSError, msgspec.MsgspecError):
        return None


def find(node: str, key: str, *, json: bool = False, ca_file: Path | None = None, fingerprint: str = "") -> Target:
    """The node to talk to. Raises UnavailableError where none was named and none is known on this box.

    The admin key is used only for the node it belongs to: never sent to one that `--node` names. This box's node
    says itself which certificate is its own.
    """
    if node:
        return Target(node, key, json, ca_file, fingerprint)
    from appliance.settings import load_settings

    data_dir = load_settings().data_dir
    found = read_node_file(data_dir)
    if found is None or not found.http:
        raise UnavailableError(
            f"no node is known on this box (looked for {data_dir / NODE_FILE}): start one with 'ingle serve', name one "
            "with --node http://HOST:8000, or set INGLE_DATA_DIR where one keeps its data elsewhere"
        )
    if not key and found.admin_key_file:
        try:
            key = Path(found.admin_key_file).read_text().strip()
        except OSError:
            key = ""  # another user's node: it says itself what a key is needed for
    if not found.tls_fingerprint:
        return Target(url_of(found.http), key, json)
    return Target(url_of(found.http, "https"), key, json, fingerprint=found.tls_fingerprint)


def url_of(address: str, scheme: str = "http") -> str:
    """The URL at which an address that a node listens on is reached from its own box."""
    host, _, port = address.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "::": "[::1]"}.get(host, host)
    return f"{scheme}://{host}:{port}"


def json_option(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--json` alone, for verbs that talk to no node."""
    return click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")(verb)


def talks_to_a_node(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--node`, `--key`, `--ca`, `--fingerprint` and `--json`, and gives the verb the Target they mean as its
    first argument."""
    return _told_of_a_node(verb, find)


def talks_to_a_node_or_its_folder(verb: Callable[..., Any]) -> Callable[..., Any]:
    """As talks_to_a_node(), for verbs that can do without: where none is named and this box's does not run, the
    Target's URL is empty."""
    return _told_of_a_node(verb, _find_or_stopped)


def _find_or_stopped(node: str, key: str, *, json: bool, ca_file: Path | None, fingerprint: str) -> Target:
    from appliance.core.data_lock import is_locked
    from appliance.settings import load_settings

    if not node and not is_locked(load_settings().data_dir):
        return Target("", "", json)
    return find(node, key, json=json, ca_file=ca_file, fingerprint=fingerprint)


def _told_of_a_node(verb: Callable[..., Any], finds: Callable[..., Target]) -> Callable[..., Any]:
    @click.option("--node", envvar="INGLE_NODE", default="", metavar="URL", help="The node (default: this box's).")
    @click.option("--key", envvar="INGLE_KEY", default="", metavar="KEY", help="The key (default: this box's own).")
    @click.option(
        "--ca",
        "ca_file",
        envvar="INGLE_CA",
        metavar="FILE",
        type=EXISTING_FILE,
        help="Certificates that the node's must be, or be signed by (default: the system's).",
    )
    @click.option(
        "--fingerprint",
        envvar="INGLE_FINGERPRINT",
        default="",
        metavar="HEX",
        help="SHA-256 of the node's certificate.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")
    @functools.wraps(verb)
    def wrapped(
        *args: Any, node: str, key: str, ca_file: Path | None, fingerprint: str, as_json: bool, **kwargs: Any
    ) -> Any:
        target = finds(node, key, json=as_json, ca_file=ca_file, fingerprint=fingerprint)
        return verb(target, *args, **kwargs)

    return wrapped
