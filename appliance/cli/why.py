"""`ingle why`: what became of a call, and why it ran where it did."""

from typing import Any

import click

from appliance.cli.output import print_json, print_table
from appliance.cli.target import Target, talks_to_a_node
from appliance.client_answers import CallRecord

_TERMS = (
    ("rtt_s", "ROUND TRIP"),
    ("transfer_s", "TRANSFER"),
    ("backlog_s", "BACKLOG"),
    ("own_s", "SENT BY US"),
    ("run_s", "RUN"),
    ("cold_start_s", "COLD START"),
    ("total_s", "TOTAL"),
)


@click.command("why", short_help="Say why a call ran where it did.")
@click.argument("call_id", metavar="CALL")
@talks_to_a_node
def command(target: Target, call_id: str) -> None:
    """Show what became of CALL, the id that an answer's X-Ingle-Call says, and why it ran where it did: what each node
    was reckoned to take for it, in milliseconds. Only the node that took the call knows, and only of the last calls."""
    with target.client() as client:
        record = client.call_record(call_id)
        candidates = record.route.get("candidates", [])
        is_alone = not target.json and not candidates and len(client.nodes().nodes) == 1
    if target.json:
        print_json(record)
        return
    outcome = "was answered" if record.status == "ok" else f"ended in an error ({record.status}): {record.error}"
    took = _ms(record.seconds.total)
    click.echo(f"{record.model}:{record.version} {outcome} on node '{record.node}' after {took} ms.")
    if not candidates:
        click.echo(f"No node was chosen here: {why_none_was_chosen(record, is_alone=is_alone)}.")
        return
    shown = [term for term in _TERMS if any(term[0] in candidate for candidate in candidates)]
    columns = ["NODE", *(f"{word} ms" for _, word in shown), "CORRECTED BY", "STANDING"]
    print_table(columns, [_row(candidate, [key for key, _ in shown]) for candidate in candidates], right=columns[1:-1])
    for asked in record.route.get("asked", []):
        click.echo(f"{_ms(asked['after_s'])} ms: asked '{asked['node']}' ({asked['why']})")


def why_none_was_chosen(record: CallRecord, *, is_alone: bool) -> str:
    """What is so of a call whose record has no candidates. `is_alone`: the node knows no other."""
    if is_alone:
        return f"'{record.node}' is alone, it knows no other node"
    if record.status != "ok":
        return "who was weighed is remembered of answered calls alone"
    return (
        "another node asked this one to, and knows why, or no other was in question, as none has the model, the caller "
        "pinned it here, or this one was certain to be the quickest"
    )


def _row(candidate: dict[str, Any], terms: list[str]) -> list[str]:
    times = [_ms(candidate.get(term, 0.0)) for term in terms]
    return [candidate["node"], *times, f"{candidate.get('correction', 1.0):.2f}", candidate.get("standing", "alive")]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f}"
