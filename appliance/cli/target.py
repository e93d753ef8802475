"""Which node a verb talks to and with which key: what was said, else the node of this box and user.

A running node keeps `node.json` in its data folder, in the ready file's form, with the path of the admin key's file.
Whoever may read that file is the node's owner and needs to say nothing.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
from click.shell_completion import CompletionItem

from appliance.core.errors import IngleError, UnavailableError
from appliance.core.names import ModelName, parse_reference

NODE_FILE = "node.json"


class NodeFile(msgspec.Struct):
    """What the CLI needs of the ready file. `http` is None where that front is off."""

    http: str | None = None
    pid: int = 0
    name: str = ""
    admin_key_file: str = ""


class Target(NamedTuple):
    """A node as a verb was told of it, and whether the answer is for a program (`--json`)."""

    url: str
    key: str
    json: bool


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
        from appliance.client import Client

        try:
            target = find(ctx.params.get("node") or "", ctx.params.get("key") or "")
            with Client(target.url, target.key, timeout_s=1.0) as client:
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


def find(node: str, key: str, *, json: bool = False) -> Target:
    """The node to talk to. Raises UnavailableError where none was named and none is known on this box.

    The admin key is used only for the node it belongs to: never sent to one that `--node` names.
    """
    if node:
        return Target(node, key, json)
    from appliance.settings import load_settings

    data_dir = load_settings().data_dir
    found = read_node_file(data_dir)
    if found is None or not found.http:
        raise UnavailableError(
            f"no node is known on this box (looked for {data_dir / NODE_FILE}): start one with 'ingle serve', "
            "or name one with --node http://HOST:8000"
        )
    if not key and found.admin_key_file:
        try:
            key = Path(found.admin_key_file).read_text().strip()
        except OSError:
            key = ""  # another user's node: it says itself what a key is needed for
    return Target(url_of(found.http), key, json)


def url_of(address: str) -> str:
    """The URL at which an address that a node listens on is reached from its own box."""
    host, _, port = address.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "::": "[::1]"}.get(host, host)
    return f"http://{host}:{port}"


def json_option(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--json` alone, for verbs that talk to no node."""
    return click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")(verb)


def talks_to_a_node(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--node`, `--key` and `--json`, and gives the verb the Target they mean as its first argument."""

    @click.option("--node", envvar="INGLE_NODE", default="", metavar="URL", help="The node (default: this box's).")
    @click.option("--key", envvar="INGLE_KEY", default="", metavar="KEY", help="The key (default: this box's own).")
    @click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")
    @functools.wraps(verb)
    def wrapped(*args: Any, node: str, key: str, as_json: bool, **kwargs: Any) -> Any:
        return verb(find(node, key, json=as_json), *args, **kwargs)

    return wrapped
