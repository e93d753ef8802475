"""`ingle keys`: who may do what."""

from collections.abc import Callable
from typing import Any

import click

from appliance.cli.output import print_json, print_table, time_words
from appliance.cli.quantities import WholeNumber
from appliance.cli.target import Target, talks_to_a_node
from appliance.client_answers import Key
from appliance.core.errors import BadInputError
from appliance.security.limits import Limits
from appliance.security.scopes import parse_scopes


@click.group("keys", short_help="List, create, limit and revoke keys.")
def command() -> None:
    """List, create, limit and revoke the keys of a node. Needs an admin key."""


def _limits(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--rate`, `--burst` and `--quota`."""

    def none_is_empty(_ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        if value is None or value == "none":
            return None if value is None else ""
        try:
            (Limits(rate=value) if parameter.name == "rate" else Limits(quota=value)).check()
        except BadInputError as error:
            raise click.BadParameter(error.sentence) from None
        return value

    for option in (
        click.option("--quota", callback=none_is_empty, metavar="N/PERIOD", help="Calls a day, say: 100000/day (UTC)."),
        click.option("--burst", type=WholeNumber(min=0), metavar="N", help="Calls at once within the rate."),
        click.option("--rate", callback=none_is_empty, metavar="N/UNIT", help="How often the key may call: 50/s."),
    ):
        verb = option(verb)
    return verb


def _scopes(_ctx: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(map(str, parse_scopes(value)))
    except BadInputError as error:
        raise click.BadParameter(error.sentence) from None


@command.command("list")
@talks_to_a_node
def list_keys(target: Target) -> None:
    """List the keys, revoked ones too. Their secrets are not kept anywhere."""
    with target.client() as client:
        keys = client.keys()
    if target.json:
        print_json(keys)
    else:
        print_table(
            ("ID", "LABEL", "SCOPES", "RATE", "QUOTA", "MADE", "REVOKED"),
            [
                (
                    key.id,
                    key.label,
                    " ".join(key.scopes),
                    rate_words(key),
                    f"{key.used_calls} of {key.quota}" if key.quota else "",
                    time_words(key.created_s),
                    "" if key.revoked_s is None else time_words(key.revoked_s),
                )
                for key in keys
            ],
        )


@command.command("create")
@click.argument("label")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=("call",),
    callback=_scopes,
    metavar="SCOPE",
    help="call, deploy or admin, for all models or as call:owner/* or call:owner/name; may be given again. [call]",
)
@_limits
@talks_to_a_node
def create_key(
    target: Target, label: str, scopes: tuple[str, ...], rate: str | None, burst: int | None, quota: str | None
) -> None:
    """Make a key and show it, this once. LABEL says who or what it is for."""
    with target.client() as client:
        made = client.create_key(label, scopes, rate=rate or "", burst=burst or 0, quota=quota or "")
    if target.json:
        print_json(made)
    else:
        click.echo(made.key)
        click.echo(f"Key {made.id} for '{made.label}' ({' '.join(made.scopes)}): it is not shown again.", err=True)


@command.command("limit")
@click.argument("key_id", metavar="ID")
@_limits
@talks_to_a_node
def limit_key(target: Target, key_id: str, rate: str | None, burst: int | None, quota: str | None) -> None:
    """Change how often the key with this ID may call. What is not given stays; 'none' takes a limit away."""
    if rate is None and burst is None and quota is None:
        raise click.UsageError("nothing to change: give --rate, --burst or --quota", click.get_current_context())
    with target.client() as client:
        key = client.limit_key(key_id, rate=rate, burst=burst, quota=quota)
    if target.json:
        print_json(key)
    else:
        click.echo(
            f"Key {key.id} ('{key.label}') may call: {rate_words(key) or 'at any rate'}, {key.quota or 'no quota'}."
        )


def rate_words(key: Key) -> str:
    """`50/s, 100 at once`."""
    return key.rate + (f", {key.burst} at once" if key.rate and key.burst else "")


@command.command("revoke")
@click.argument("key_id", metavar="ID")
@talks_to_a_node
def revoke_key(target: Target, key_id: str) -> None:
    """End the key with this ID at once."""
    with target.client() as client:
        gone = client.revoke_key(key_id)
    if target.json:
        print_json(gone)
    else:
        click.echo(f"Key {gone.id} ('{gone.label}') is revoked.")
