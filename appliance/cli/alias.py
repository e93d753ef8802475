"""`ingle alias`: words such as `prod` for a model's versions."""

import click

from appliance.cli.output import print_json, print_table
from appliance.cli.target import WHOLE_MODEL, Reference, Target, talks_to_a_node
from appliance.cli.trial_limits import limit_words, trial_limits
from appliance.client_answers import TrafficWish
from appliance.core.errors import ConflictError


@click.command("alias", short_help="Give a version a name such as prod.")
@click.argument("model", type=WHOLE_MODEL)
@click.argument("alias", required=False)
@click.argument("version", required=False)
@click.option("--remove", is_flag=True, help="Take the alias away; the version stays.")
@trial_limits("--return-if-errors", "--return-if-latency")
@talks_to_a_node
def command(
    target: Target, model: Reference, alias: str | None, version: str | None, remove: bool, trial: TrafficWish
) -> None:
    """Let ALIAS mean VERSION of MODEL; with neither, list the model's aliases.

    VERSION is 1.2.3, 1.2, latest or another alias, and is looked up once, now. The alias `default` is what a call
    without a version reaches; with --return-if-errors or --return-if-latency it goes back by itself to what it meant
    before, where the new version exceeds them.

    \b
    ingle alias me/iris default 1.1.0 --return-if-errors 2% --return-if-latency 1.5
    """
    if remove and (version or not alias):
        raise click.UsageError("--remove wants MODEL and ALIAS, and no version", click.get_current_context())
    if alias and not version and not remove:
        raise click.UsageError(f"which version shall '{alias}' mean? Say it, or --remove", click.get_current_context())
    judged = bool(trial.max_error_share or trial.max_latency_ratio)
    if judged and not (alias == "default" and version):
        raise click.UsageError(
            "--return-if-errors and --return-if-latency judge a new default: say MODEL default VERSION",
            click.get_current_context(),
        )
    with target.client() as client:
        if not alias:
            aliases = client.show(model.name).aliases
            if target.json:
                print_json(aliases)
            else:
                print_table(("ALIAS", "VERSION"), sorted(aliases.items()))
        elif remove:
            client.delete_alias(model.name, alias)
            if target.json:
                print_json({"model": str(model.name), "alias": alias})
            else:
                click.echo(f"'{alias}' of {model.name} is gone.")
        else:
            before = client.show(model.name).default if judged else ""
            made = client.set_alias(model.name, alias, version or "")
            if judged and before == made.version:
                raise ConflictError(f"{before} is the default of {model.name} already: there is nothing to return to")
            if judged:
                shadow = client.traffic(model.name)
                trial.shadow, trial.shadow_share, trial.return_to = shadow.shadow, shadow.shadow_share, before
                client.set_traffic(model.name, trial)
            if target.json:
                print_json(made)
            else:
                click.echo(f"'{made.alias}' of {made.model} means {made.version} now.")
            if judged:
                when = " or ".join(limit_words(trial, before))
                click.echo(f"It goes back to {before} if {when}; 'ingle traffic {model.name}' shows how it fares.")
