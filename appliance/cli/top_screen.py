"""The page that `ingle top` draws: lines of styled text that fit a terminal. Pure, but for rich's texts.

Where the terminal is low, the last models go, and the last line says how many.
"""

from rich.text import Text

from appliance.cli.fitted_table import Column, table
from appliance.cli.interval import Line, Shown
from appliance.cli.output import size_words
from appliance.cli.quantities import duration_words, rate_words

_STATE_STYLES = {
    "warm": "green",
    "starting": "yellow",
    "set_aside": "bold red",
    "unreachable": "bold red",
    "unloaded": "dim",
    "asleep": "dim",
}
_BAR_CELLS = 20

COLUMNS = (
    Column[Line]("MODEL", 99, lambda line: f"{line.model}:{line.version}", right=False),
    Column[Line]("STATE", 90, lambda line: line.state, right=False),
    Column[Line]("REPLICAS", 70, lambda line: str(line.replicas or "")),
    Column[Line]("CALLS/S", 95, lambda line: rate_words(line.calls_per_s)),
    Column[Line]("FAILED/S", 60, lambda line: rate_words(line.failed_per_s), optional=True),
    Column[Line]("IN FLIGHT", 40, lambda line: str(line.in_flight or "")),
    Column[Line]("WAITING", 65, lambda line: str(line.waiting or "")),
    Column[Line]("P50", 75, lambda line: duration_words(line.p50_s)),
    Column[Line]("P99", 85, lambda line: duration_words(line.p99_s)),
    Column[Line]("MEMORY", 80, lambda line: size_words(line.memory_bytes) if line.memory_bytes else ""),
    Column[Line]("CPU", 50, lambda line: f"{line.cpu:.0%}" if line.cpu >= 0.005 else ""),
    Column[Line]("COLD START", 30, lambda line: duration_words(line.cold_start_s)),
    Column[Line]("WORTH", 35, lambda line: f"{line.worth:.3g}" if line.worth else ""),
    Column[Line]("DEVICE", 20, lambda line: line.device, right=False),
    Column[Line]("REASON", 10, lambda line: line.reason, right=False, optional=True),
)


def page(shown: Shown, *, width: int, height: int | None) -> list[Text]:
    """The lines of the page, none wider than `width`, and no more than `height` where that is given."""
    lines = [*_head(shown), Text()]
    room = len(shown.models) if height is None else height - len(lines) - 1
    models = shown.models
    if len(models) > room:
        models = models[: max(0, room - 1)]
    lines += table(COLUMNS, models, width, _styles)
    missing = len(shown.models) - len(models)
    if missing:
        lines.append(Text(f"and {missing} more", style="dim"))
    elif not shown.models:
        none = "no model is warm or called" if not shown.hidden else f"none of {shown.hidden} models is called so"
        lines.append(Text(none, style="dim"))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines if height is None else lines[: max(1, height)]


def _head(shown: Shown) -> list[Text]:
    memory, workers = shown.memory, shown.workers
    used = memory.used_bytes / memory.budget_bytes if memory.budget_bytes else 0.0
    filled = min(_BAR_CELLS, max(memory.used_bytes > 0, round(used * _BAR_CELLS)))
    first = Text.assemble(
        (shown.node, "bold"),
        f"  up {uptime_words(shown.uptime_s)}  ingle {shown.release}  {shown.cores} cores  ",
        (f"{rate_words(shown.calls_per_s) or '0'} calls/s", "bold"),
    )
    if shown.failed_per_s:
        first.append(f"  {rate_words(shown.failed_per_s)} failed/s", style="bold red")
    bar_style = "red" if used > 0.95 else "yellow" if used > 0.8 else "green"
    second = Text.assemble(
        "memory ",
        ("█" * filled, bar_style),
        ("░" * (_BAR_CELLS - filled), "dim"),
        f" {size_words(memory.used_bytes)} of {size_words(memory.budget_bytes)} for models  "
        f"gateway {size_words(memory.gateway_bytes)}",
    )
    third = Text(
        f"workers {shown.replicas}  started {workers.started} "
        f"({workers.started_ahead} ahead)  evicted {workers.evicted}  ended idle {workers.ended_idle}  "
        f"waiting for memory {workers.waiting_for_memory}"
    )
    return [first, second, third]


def _styles(line: Line) -> dict[str, str]:
    return {"STATE": _STATE_STYLES.get(line.state, ""), "FAILED/S": "bold red", "REASON": "dim"}


def uptime_words(seconds: float) -> str:
    """`3d 4h`, `2h 5min`, `40 s`: the two largest units."""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days:.0f}d {hours % 24:.0f}h"
    if hours:
        return f"{hours:.0f}h {minutes % 60:.0f}min"
    return f"{minutes:.0f}min" if minutes else f"{seconds:.0f}s"
