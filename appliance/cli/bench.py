"""`ingle bench`: how fast this node answers with this model, and where the time goes."""

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from appliance.cli.output import print_json, print_table, size_words
from appliance.cli.quantities import duration_words
from appliance.cli.target import MODEL, Reference, Target, talks_to_a_node
from appliance.client_answers import ModelDetails, Statistics
from appliance.core.errors import BadInputError, UnavailableError
from appliance.core.names import parse_name

if TYPE_CHECKING:
    from appliance.cli.bench_request import Request
    from appliance.cli.closed_loop import Answers, Endpoint
    from appliance.client import Client

_MOST_STEPS, _MOST_CALLERS = 12, 1000
_WARM_SHARE, _MOST_WARM_S = 0.2, 1.0  # of each step's time, and beside it: calls that do not count
_PATIENCE_S = 10.0  # for what is in flight at a step's end, and for workers to end
_POLL_S = 0.05


class Spent(msgspec.Struct):
    """Where a call's time went, on average, in seconds. `wire`: between caller and node; `front`: in the node, but for
    waiting (`queue`), taking tensors apart and putting them together (`codec`), and the model (`run`)."""

    wire: float
    front: float
    queue: float
    codec: float
    run: float


class Step(msgspec.Struct):
    """So many callers at once, each waiting for its answer. `rows_per_run` tells how well calls were batched."""

    callers: int
    seconds: float
    answered: int
    failed: int
    calls_per_s: float
    mean_s: float
    p50_s: float
    p90_s: float
    p99_s: float
    rows_per_run: float
    spent: Spent | None
    first_error: str


class Report(msgspec.Struct):
    """`cold`: the first call found no worker. `cold_start_s`: what the node measured from the wish for a worker to its
    being ready, at its last starts."""

    model: str
    version: str
    node: str
    protocol: str
    request_bytes: int
    input: str
    cold: bool
    first_call_s: float
    cold_start_s: float
    load_s: float
    steps: list[Step]


class _Error(msgspec.Struct):
    error: str


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
@click.option("--seconds", type=click.FloatRange(0.1, 60), default=3.0, help="How long each step counts. [3]")
@click.option(
    "--http",
    "protocol",
    type=click.Choice(("json", "binary", "plain")),
    help="V2 in JSON or binary, or a plain call. [json]",
)
@click.option(
    "--input",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
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
    if file and protocol not in (None, "plain"):
        raise click.UsageError("--input is sent as it is: leave --http out", click.get_current_context())
    if content_type and not file:
        raise click.UsageError("--type is the type of --input: name the file", click.get_current_context())
    from appliance.cli.closed_loop import endpoint

    with target.client() as client:
        place = endpoint(client.url, target.ca_file, target.fingerprint)
        details = client.show(model.name, model.version)
        request = _request(details, protocol or "json", file, content_type)
        if cold:
            details = _put_to_sleep(client, model)
        report = _first_call(client, details, request, model)
        report.protocol = "plain" if request.path.startswith("/v1/") else protocol or "json"
        if not target.json:
            _tell_first(report)
        if target.key:
            request.headers["Authorization"] = f"Bearer {target.key}"
        runner = _Runner(client, details, place, request, quiet=target.json)
        try:
            for count in callers:
                report.steps.append(runner.step(count, seconds))
        finally:  # also where the node goes, or at Ctrl-C: what was measured until then is told
            _show(report, target)


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
        raise click.FileError(str(file), error.strerror or str(error)) from None
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


def _first_call(client: "Client", details: ModelDetails, request: "Request", model: Reference) -> Report:
    """One call alone: whether the model takes this at all, and how long it takes to wake."""
    began_s = time.perf_counter()
    client.send(request.path, request.body, request.headers)
    took_s = time.perf_counter() - began_s
    measured = client.show(model.name, details.version).measured
    return Report(
        model=details.model,
        version=details.version,
        node=client.activity().node,
        protocol="",
        request_bytes=len(request.body),
        input=request.about,
        cold=not details.workers,
        first_call_s=took_s,
        cold_start_s=measured.cold_start_s,
        load_s=measured.load_s,
        steps=[],
    )


class _Runner:
    """Runs the steps one after the other."""

    def __init__(
        self, client: "Client", details: ModelDetails, place: "Endpoint", request: "Request", *, quiet: bool
    ) -> None:
        from appliance.cli.closed_loop import request_bytes

        self._client = client
        self._details = details
        self._place = place
        self._request = request_bytes(place, request.path, request.headers, request.body)
        self._quiet = quiet or not sys.stderr.isatty()

    def step(self, callers: int, seconds: float) -> Step:
        """So many callers for so long, and a little longer before that counts."""
        import uvloop

        from appliance.cli.closed_loop import run_step

        warm_s = min(_MOST_WARM_S, seconds * _WARM_SHARE)
        looks: list[Statistics] = []

        def look(_begins: bool) -> None:
            with contextlib.suppress(UnavailableError):  # the callers' own figures are there all the same
                looks.append(self._client.statistics(parse_name(self._details.model), self._details.ordinal))

        with click.progressbar(
            length=round((warm_s + seconds) * 1000), label=f"{callers:>4} at once", file=sys.stderr, hidden=self._quiet
        ) as bar:
            answers = uvloop.run(
                run_step(
                    self._place,
                    self._request,
                    callers,
                    warm_s=warm_s,
                    seconds=seconds,
                    patience_s=_PATIENCE_S,
                    counting=look,
                    on_time=lambda passed_s: bar.update(round(passed_s * 1000)),
                )
            )
        return summed(callers, answers, looks)


def summed(callers: int, answers: "Answers", looks: Sequence[Statistics]) -> Step:
    """A step's figures. Where the time went is the node's own mean over all calls that it answered between two looks;
    with fewer looks it is not known."""
    count = len(answers.answered_ns)
    mean_s = sum(answers.answered_ns) / count / 1e9 if count else 0.0
    before, after = looks if len(looks) == 2 else (Statistics(), Statistics())
    runs = after.execution_count - before.execution_count
    return Step(
        callers=callers,
        seconds=answers.seconds,
        answered=count,
        failed=answers.failed,
        calls_per_s=count / answers.seconds,
        mean_s=mean_s,
        p50_s=answers.centile_s(50),
        p90_s=answers.centile_s(90),
        p99_s=answers.centile_s(99),
        rows_per_run=(after.inference_count - before.inference_count) / runs if runs else 0.0,
        spent=_spent(mean_s, before, after) if count else None,
        first_error=sentence_of(answers.first_error),
    )


def sentence_of(answer: str) -> str:
    """The sentence of an error's JSON, or what there is."""
    try:
        return msgspec.json.decode(answer, type=_Error).error
    except msgspec.MsgspecError:
        return answer


def _spent(mean_s: float, before: Statistics, after: Statistics) -> Spent | None:
    calls = after.inference_stats.success.count - before.inference_stats.success.count
    if calls <= 0:
        return None

    def mean(part: str) -> float:
        grown_ns: int = getattr(after.inference_stats, part).ns - getattr(before.inference_stats, part).ns
        return grown_ns / calls / 1e9

    whole, queue, run = mean("success"), mean("queue"), mean("compute_infer")
    codec = mean("compute_input") + mean("compute_output")
    return Spent(
        wire=max(0.0, mean_s - whole), front=max(0.0, whole - queue - codec - run), queue=queue, codec=codec, run=run
    )


def _tell_first(report: Report) -> None:
    sent = f"{size_words(report.request_bytes)} ({report.input}, {report.protocol})"
    click.echo(f"{report.model}:{report.version} on {report.node}; each call sends {sent}.")
    if report.cold:
        said = f"Cold start: {duration_words(report.first_call_s)} from the call to its answer"
        said += f" (a worker is ready after {duration_words(report.cold_start_s)}, as measured so far)"
    else:
        known = duration_words(report.cold_start_s)
        said = f"The model was warm; a worker was ready after {known}" if known else "The model was warm"
    click.echo(f"{said}.")


def _show(report: Report, target: Target) -> None:
    if target.json:
        print_json(report)
    elif report.steps:
        _show_steps(report)


def _show_steps(report: Report) -> None:
    click.echo()
    print_table(
        ("CALLERS", "CALLS/S", "MEAN", "P50", "P90", "P99", "FAILED", "ROWS/RUN"),
        [
            (
                step.callers,
                f"{step.calls_per_s:,.0f}" if step.calls_per_s >= 100 else f"{step.calls_per_s:.3g}",
                *(duration_words(value) for value in (step.mean_s, step.p50_s, step.p90_s, step.p99_s)),
                step.failed,
                f"{step.rows_per_run:.3g}" if step.rows_per_run else "",
            )
            for step in report.steps
        ],
        right=("CALLERS", "CALLS/S", "MEAN", "P50", "P90", "P99", "FAILED", "ROWS/RUN"),
    )
    if any(step.spent for step in report.steps):
        click.echo("\nWhere a call's time goes, on average:")
        print_table(
            ("CALLERS", "QUEUE", "RUN", "CODEC", "FRONT", "WIRE"),
            [
                (
                    step.callers,
                    *(duration_words(getattr(step.spent, word)) for word in ("queue", "run", "codec", "front", "wire")),
                )
                for step in report.steps
                if step.spent
            ],
            right=("CALLERS", "QUEUE", "RUN", "CODEC", "FRONT", "WIRE"),
        )
    for step in report.steps:
        if step.first_error:
            click.echo(f"With {step.callers} at once, the first that failed was told: {step.first_error}", err=True)
