"""`ingle bench`: how fast this node answers with this model, and where the time goes."""

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.cli.bench_report import Report, Step, show, summed, tell_first
from appliance.cli.bench_way import OverHttp, OverZmq, Way
from appliance.cli.output import size_words
from appliance.cli.paths import EXISTING_FILE
from appliance.cli.quantities import Number
from appliance.cli.target import MODEL, Reference, Target, talks_to_a_node
from appliance.client_answers import ModelDetails, Statistics
from appliance.core.errors import BadInputError, UnavailableError
from appliance.core.names import parse_name

if TYPE_CHECKING:
    from appliance.cli.bench_request import Request
    from appliance.client import Client

_MOST_STEPS, _MOST_CALLERS = 12, 1000
_WARM_SHARE, _MOST_WARM_S = 0.2, 1.0  # of each step's time, and beside it: calls that do not count
_PATIENCE_S = 10.0  # for what is in flight at a step's end, and for workers to end
_POLL_S = 0.05


class Callers(click.ParamType[list[int]]):
    """`1,8,32`."""

    name = "callers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        words = value.split(",")
        counts = [int(word) for word in words if word.strip().isascii() and word.strip().isdigit()]
        if len(counts) != len(words) or not all(1 <= count <= _MOST_CALLERS for count in counts):
            self.fail(f"'{value}' is no list of numbers from 1 to {_MOST_CALLERS}: expected 1,8,32", param, ctx)
        if len(counts) > _MOST_STEPS:
            self.fail(f"{len(counts)} steps are more than the {_MOST_STEPS} that this runs", param, ctx)
        return counts


@click.command("bench", short_help="Measure this node with a model.")
@click.argument("model", type=MODEL)
@click.option("-c", "--callers", type=Callers(), default="1,8,32", help="How many at once, step by step. [1,8,32]")
@click.option("--seconds", type=Number(0.1, 60), default=3.0, help="How long each step counts. [3]")
@click.option(
    "--http",
    "protocol",
    type=click.Choice(("json", "binary", "plain")),
    help="V2 in JSON or binary, or a plain call. [json]",
)
@click.option("--zmq", "zmq_url", metavar="tcp://HOST:8003", help="Over ZeroMQ, through one connection.")
@click.option(
    "--input",
    "file",
    type=EXISTING_FILE,
    help="Send this file's content: a picture, a text, JSON (V2's or plain).",
)
@click.option("--type", "content_type", default="", metavar="TYPE", help="The file's type, such as image/jpeg.")
@click.option("--cold", is_flag=True, help="Put the model to sleep first: its other callers wait for it too.")
@talks_to_a_node
def command(
    target: Target,
    model: Reference,
    callers: list[int],
    seconds: float,
    protocol: str | None,
    zmq_url: str | None,
    file: Path | None,
    content_type: str,
    cold: bool,
) -> None:
    """Call MODEL as fast as so many callers can, each waiting for its answer, and show what came of it.

    What is sent is --input, else the example of the model's manifest, else made up from what the model takes. The load
    is real: others who use the node feel it.

    \b
    ingle bench me/iris
    ingle bench me/resnet --input cat.jpg -c 1,4 --seconds 10
    """
    if zmq_url and (file or protocol or not zmq_url.startswith("tcp://")):
        raise click.UsageError(
            "--zmq is a URL such as tcp://HOST:8003, with neither --input nor --http", click.get_current_context()
        )
    if file and protocol not in (None, "plain"):
        raise click.UsageError("--input is sent as it is: leave --http out", click.get_current_context())
    if content_type and not file:
        raise click.UsageError("--type is the type of --input: name the file", click.get_current_context())
    with target.client() as client:
        details = client.show(model.name, model.version)
        way: Way
        if zmq_url:
            way = OverZmq(zmq_url, target.key, details)
        else:
            way = OverHttp(client, target, _request(details, protocol or "json", file, content_type))
        if cold:
            details = _put_to_sleep(client, model)
        report = _first_call(client, details, way)
        if not target.json:
            tell_first(report)
        runner = _Runner(client, details, way, quiet=target.json)
        try:
            for count in callers:
                report.steps.append(runner.step(count, seconds))
        finally:  # also where the node goes, or at Ctrl-C: what was measured until then is told
            show(report, as_json=target.json)


def _request(details: ModelDetails, protocol: str, file: Path | None, content_type: str) -> "Request":
    from appliance.cli import bench_request
    from appliance.cli.call import as_accepted, guess_type

    if file is None:
        make = {
            "json": bench_request.json_request,
            "binary": bench_request.binary_request,
            "plain": bench_request.plain_request,
        }[protocol]
        return make(details)
    try:
        with file.open("rb") as opened:
            content = opened.read(bench_request.MAX_BYTES + 1)
    except OSError as error:
        sentence = f"{file} cannot be read: {error.strerror or error}"
        raise click.UsageError(sentence, click.get_current_context()) from None
    if len(content) > bench_request.MAX_BYTES:
        raise BadInputError(f"{file} is larger than the {size_words(bench_request.MAX_BYTES)} that this sends")
    guessed = guess_type(content, file.suffix)
    return bench_request.file_request(details, content, content_type or as_accepted(guessed, details.accepts))


def _put_to_sleep(client: "Client", model: Reference) -> ModelDetails:
    """Has the model's workers end. Raises UnavailableError where they do not, others keeping them busy."""
    client.unload(model.name)
    ends_s = time.monotonic() + _PATIENCE_S
    while (details := client.show(model.name, model.version)).workers:
        if time.monotonic() > ends_s:
            raise UnavailableError(f"{details.model} does not come to rest: it has other callers; leave --cold out")
        time.sleep(_POLL_S)
    return details


def _first_call(client: "Client", details: ModelDetails, way: Way) -> Report:
    """One call alone: whether the model takes this at all, and how long it takes to wake."""
    began_s = time.perf_counter()
    way.call_once()
    took_s = time.perf_counter() - began_s
    measured = client.show(parse_name(details.model), details.version).measured
    return Report(
        model=details.model,
        version=details.version,
        node=client.activity().node,
        protocol=way.protocol,
        request_bytes=way.request_bytes,
        input=way.about,
        cold=not details.workers,
        first_call_s=took_s,
        cold_start_s=measured.cold_start_s,
        load_s=measured.load_s,
        steps=[],
    )


class _Runner:
    """Runs the steps one after the other."""

    def __init__(self, client: "Client", details: ModelDetails, way: Way, *, quiet: bool) -> None:
        self._client = client
        self._details = details
        self._way = way
        self._quiet = quiet or not sys.stderr.isatty()

    def step(self, callers: int, seconds: float) -> Step:
        """So many callers for so long, and a little longer before that counts."""
        import uvloop

        from appliance.cli.closed_loop import Timing

        warm_s = min(_MOST_WARM_S, seconds * _WARM_SHARE)
        looks: list[Statistics] = []

        def look(_begins: bool) -> None:
            with contextlib.suppress(UnavailableError):  # the callers' own figures are there all the same
                looks.append(self._client.statistics(parse_name(self._details.model), self._details.ordinal))

        with click.progressbar(
            length=round((warm_s + seconds) * 1000), label=f"{callers:>4} at once", file=sys.stderr, hidden=self._quiet
        ) as bar:
            timing = Timing(warm_s, seconds, _PATIENCE_S, look, lambda passed_s: bar.update(round(passed_s * 1000)))
            answers = uvloop.run(self._way.run(callers, timing))
        return summed(callers, answers, looks)
