"""What `ingle bench` found: a step's figures from its calls and the node's own statistics, and how they are told."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
import msgspec

from appliance.cli.output import print_json, print_table, size_words
from appliance.cli.quantities import duration_words
from appliance.client_answers import Statistics

if TYPE_CHECKING:
    from appliance.cli.closed_loop import Answers


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


def tell_first(report: Report) -> None:
    sent = f"{size_words(report.request_bytes)} ({report.input}, {report.protocol})"
    click.echo(f"{report.model}:{report.version} on {report.node}; each call sends {sent}.")
    if report.cold:
        said = f"Cold start: {duration_words(report.first_call_s)} from the call to its answer"
        said += f" (a worker is ready after {duration_words(report.cold_start_s)}, as measured so far)"
    else:
        known = duration_words(report.cold_start_s)
        said = f"The model was warm; a worker was ready after {known}" if known else "The model was warm"
    click.echo(f"{said}.")


def show(report: Report, *, as_json: bool) -> None:
    if as_json:
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
