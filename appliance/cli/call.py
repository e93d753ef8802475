"""`ingle call`: one call with what the command line, a file or stdin gives; the content's type is guessed from it."""

import sys
from pathlib import PurePath

import click
import orjson

from appliance.cli.output import print_json, print_table
from appliance.cli.quantities import Seconds
from appliance.cli.target import MODEL, Reference, Target, talks_to_a_node
from appliance.client import Client
from appliance.client_answers import Called
from appliance.core.errors import BadInputError, ForbiddenError, NotFoundError

OCTETS = "application/octet-stream"
_TYPE_BY_SUFFIX = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".json": "application/json",
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".wav": "audio/wav",
}
_TERMINAL_CHARACTERS = 2000
_DEADLINE = Seconds(1e6, least_s=0.001)


@click.command("call", short_help="Call a model once.")
@click.argument("model", type=MODEL)
@click.argument("data", required=False)
@click.option("--type", "content_type", default="", metavar="TYPE", help="The content's type, such as image/jpeg.")
@click.option("--deadline", "deadline_s", type=_DEADLINE, default=None, metavar="SECONDS", help="5, 500ms.")
@talks_to_a_node
def command(target: Target, model: Reference, data: str | None, content_type: str, deadline_s: float | None) -> None:
    """Call MODEL once and show its answer.

    DATA is JSON or a text, or @FILE; without it, or as '-', it is read from stdin.

    \b
    ingle call me/iris '[5.1, 3.5, 1.4, 0.2]'
    ingle call me/resnet @cat.jpg
    """
    content, guessed = _content(data)
    with target.client() as client:
        if not content_type:
            accepted = _accepted(client, model)
            content_type = as_accepted(guessed, accepted)
            if content_type == "text/plain" and accepted and content_type not in accepted:
                refuse_broken_json(content)
        answer = client.call(model.name, content, content_type, version=model.version, deadline_s=deadline_s or 0.0)
    if target.json:
        print_json(answer)
    else:
        _show(answer)


def _content(data: str | None) -> tuple[bytes, str]:
    if data is None or data == "-":
        if data is None and sys.stdin.isatty():
            raise click.UsageError("DATA is missing: JSON, a text, @FILE, or - for stdin", click.get_current_context())
        content = sys.stdin.buffer.read()
        return content, guess_type(content)
    if data.startswith("@"):
        try:
            with open(data[1:], "rb") as file:  # noqa: PTH123 - a path as the user typed it, named so in the error
                content = file.read()
        except FileNotFoundError:
            raise NotFoundError(f"{data[1:]} is not there: expected a file") from None
        except OSError as error:
            sentence = f"{data[1:]} cannot be read: {error.strerror or error}"
            raise click.UsageError(sentence, click.get_current_context()) from None
        return content, guess_type(content, PurePath(data[1:]).suffix)
    return data.encode(), guess_type(data.encode())


def guess_type(content: bytes, suffix: str = "") -> str:
    """The content type of a file by its suffix, else by how it begins, else by whether it is JSON or a text."""
    if known := _TYPE_BY_SUFFIX.get(suffix.lower()):
        return known
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        return "audio/wav"
    if suffix:
        return OCTETS
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    else:
        return "application/json"
    try:
        content.decode()
    except UnicodeDecodeError:
        return OCTETS
    return "text/plain"


def as_accepted(guessed: str, accepts: list[str]) -> str:
    """The guess, or raw bytes where the model takes those and not what was guessed (a model of files takes any)."""
    return OCTETS if guessed not in accepts and OCTETS in accepts else guessed


def refuse_broken_json(content: bytes) -> None:
    """Raises BadInputError where a content that is no JSON begins as JSON does: who gave it meant it to be."""
    if content.lstrip()[:1] not in (b"{", b"["):
        return
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise BadInputError(f"DATA begins as JSON, but is none: {error}") from None


def _accepted(client: Client, model: Reference) -> list[str]:
    try:
        return client.show(model.name, model.version).accepts
    except ForbiddenError:  # a key may be for calls of this model and for nothing else
        return []


def _show(answer: Called) -> None:
    if answer.labels:
        rows = [
            (str(number) if len(answer.labels) > 1 else "", label.label, f"{label.score:.4f}")
            for number, row in enumerate(answer.labels)
            for label in row
        ]
        print_table(("ROW" if len(answer.labels) > 1 else "", "LABEL", "SCORE"), rows, right=("SCORE",))
    else:
        for name, value in answer.outputs.items():
            text = orjson.dumps(value).decode()
            if sys.stdout.isatty() and len(text) > _TERMINAL_CHARACTERS:
                text = f"{text[:_TERMINAL_CHARACTERS]} ... (all of it: --json)"
            click.echo(f"{name}: {text}")
    seconds = answer.seconds
    load = f", {seconds.load * 1000:.0f} ms of it waking the model" if seconds.load else ""
    took = f"{seconds.total * 1000:.1f} ms{load}"
    click.echo(f"{answer.model}:{answer.version} on {answer.node}, {took} (call {answer.call})", err=True)
