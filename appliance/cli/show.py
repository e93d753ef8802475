"""`ingle show`: what one model wants and gives, and how it fares."""

import click

from appliance.cli.output import print_json, print_table, shape_words, size_words, time_words
from appliance.cli.quantities import duration_words, rate_words
from appliance.cli.scale import scale_words
from appliance.cli.target import MODEL, Reference, Target, talks_to_a_node
from appliance.client_answers import Measured, ModelDetails, Worker


@click.command("show", short_help="Say what a model wants and gives.")
@click.argument("model", type=MODEL)
@talks_to_a_node
def command(target: Target, model: Reference) -> None:
    """Say what MODEL (owner/name[:version]) wants and gives, how to call it, and which versions there are."""
    with target.client() as client:
        details = client.show(model.name, model.version)
    if target.json:
        print_json(details)
    else:
        _show(details, target)


def _worker_words(worker: Worker) -> str:
    words = f"pid {worker.pid} on {'/'.join(worker.providers) or '?'}"
    words += f", {size_words(worker.device_bytes)} of the GPU" if worker.device_bytes else ""
    return f"{words} ({worker.note})" if worker.note else words


def _show(details: ModelDetails, target: Target) -> None:
    rows = [
        ("model", f"{details.model}:{details.version}"),
        ("description", details.description),
        ("tags", ", ".join(details.tags)),
        ("licence", details.licence),
        ("digest", f"sha256:{details.digest}" if details.digest else ""),
        ("size", size_words(details.size_bytes)),
        ("state", f"{details.state}: {details.reason}" if details.reason else details.state),
        ("workers", "; ".join(_worker_words(worker) for worker in details.workers)),
        ("loads", f"from {details.loads_from}" if details.loads_from else ""),
        ("measured", measured_words(details.measured)),
        ("runs", runs_words(details.measured)),
        ("calls", calls_words(details)),
        ("scale", scale_words(details.scale)),
        ("batching", details.batch_reason or ("yes" if details.batchable else "no")),
        ("takes", ", ".join(details.accepts)),
        ("labels", f"{len(details.labels)}, the best {details.top_k} are answered" if details.labels else ""),
    ]
    for word, value in rows:
        if value:
            click.echo(f"{word:<12} {value}")
    click.echo()
    print_table(
        ("", "NAME", "TENSOR", "GIVEN AS", "DESCRIPTION"),
        [
            (
                direction + (", optional" if tensor.optional else ""),
                tensor.name,
                shape_words(tensor.dtype, tensor.shape),
                tensor.given_as,
                tensor.description,
            )
            for direction, tensors in (("input", details.inputs), ("output", details.outputs))
            for tensor in tensors
        ],
    )
    click.echo()
    print_table(
        ("VERSION", "ALIAS", "MADE", "BY", "SIZE", "STATE", "DIGEST"),
        [
            (
                f"{row.version} (default)" if row.version == details.default else row.version,
                ", ".join(sorted(alias for alias, version in details.aliases.items() if version == row.version)),
                time_words(row.created_s),
                row.source,
                size_words(row.size_bytes),
                row.state,
                row.digest[:12],
            )
            for row in details.versions
        ],
        right=("SIZE",),
    )
    if details.curl:
        where = "this box (from others: its address in the host's place)" if target.is_on_this_box else "anywhere"
        click.echo(f"\nCall it from {where} with")
        click.echo(f"    {details.curl.replace('{url}', target.url)}")


def measured_words(measured: Measured) -> str:
    """What one worker of the model costs on this box; empty before its first start."""
    words = []
    if measured.memory_bytes:
        words.append(f"{size_words(measured.memory_bytes)} of memory")
    if measured.gpu_bytes:
        words.append(f"{size_words(measured.gpu_bytes)} of the GPU's")
    if measured.cold_start_s:
        words.append(f"cold start {duration_words(measured.cold_start_s)}, {duration_words(measured.load_s)} to load")
    if measured.calls and measured.cpu_s:
        words.append(f"{duration_words(measured.cpu_s / measured.calls)} of a processor a call")
    return ", ".join(words)


def runs_words(measured: Measured) -> str:
    """How long one run takes by its rows, fewest rows first."""
    times = sorted((int(rows), seconds) for rows, seconds in measured.run_s.items())
    return ", ".join(f"{rows} row{'s' if rows > 1 else ''} {duration_words(seconds)}" for rows, seconds in times)


def calls_words(details: ModelDetails) -> str:
    """What comes in now, and how much staying warm is worth; empty where the model rests."""
    measured = details.measured
    rate = f"{rate_words(measured.arrivals_per_s)} a second" if measured.arrivals_per_s else ""
    waiting = f"{details.waiting} waiting" if details.waiting else ""
    worth = f"worth {measured.worth:.3g} s of cold start a gigabyte and hour" if measured.worth else ""
    return ", ".join(word for word in (rate, waiting, worth) if word)
