"""The page of `ingle mesh` and `ingle top --mesh`: the nodes, and what is warm where. Pure, but for rich's texts.

All is as the asked node sees it; links are its own. Where the terminal is low, the last models go first.
"""

from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from appliance.cli.fitted_table import Column, table
from appliance.cli.output import size_words
from appliance.cli.quantities import duration_words
from appliance.cli.top_screen import uptime_words
from appliance.cli.update_choice import behind
from appliance.client_answers import MeshNode, NodeLoad, Nodes, WarmModel

_STANDING_STYLES = {
    "alive": "green",
    "joining": "yellow",
    "draining": "yellow",
    "suspect": "yellow",
    "dead": "bold red",
}
_MAX_OTHERS = 5


class WarmLine:
    """A version and where it is warm."""

    def __init__(self, model: WarmModel) -> None:
        self.name = f"{model.model}:{model.version}"
        self.replicas: Counter[str] = Counter()
        self.backlog_s = 0.0
        self.run_s = 0.0


def _standing(node: MeshNode) -> str:
    told = f" {uptime_words(node.standing_for_s)}" if node.standing not in ("alive", "draining") else ""
    return node.standing + told


def _known_load(node: MeshNode) -> NodeLoad | None:
    """What a dead node said last is true no more."""
    return None if node.standing == "dead" else node.load


def _load(node: MeshNode) -> NodeLoad:
    return _known_load(node) or NodeLoad()


def _bandwidth(node: MeshNode) -> str:
    return f"{size_words(node.link.bytes_per_s)}/s" if node.link and node.link.bytes_per_s else ""


def _free_gpu(node: MeshNode) -> str:
    free_bytes = _load(node).device_free_bytes
    return "" if free_bytes is None else size_words(free_bytes)


def _known(value: float | None, unit: str) -> str:
    return f"{value:.0f} {unit}" if value is not None else ""


NODES = (
    Column[MeshNode]("NODE", 99, lambda node: node.name + (" (this)" if node.this else ""), right=False),
    Column[MeshNode]("STANDING", 95, _standing, right=False),
    Column[MeshNode]("ADDRESS", 40, lambda node: node.mesh or node.grpc, right=False),
    Column[MeshNode]("RTT", 90, lambda node: duration_words(node.link.rtt_s) if node.link else ""),
    Column[MeshNode]("BANDWIDTH", 60, _bandwidth),
    Column[MeshNode]("MODELS", 70, lambda node: str(node.models)),
    Column[MeshNode]("WARM", 80, lambda node: str(node.warm_models or "")),
    Column[MeshNode]("BACKLOG", 85, lambda node: duration_words(_load(node).backlog_s)),
    Column[MeshNode]("IN FLIGHT", 75, lambda node: str(_load(node).in_flight or "")),
    Column[MeshNode]("CPU", 65, lambda node: f"{_load(node).cpu_share:.0%}" if _known_load(node) else ""),
    Column[MeshNode]("FREE", 55, lambda node: size_words(_load(node).memory_free_bytes) if _known_load(node) else ""),
    Column[MeshNode]("FREE GPU", 50, _free_gpu, optional=True),
    Column[MeshNode]("POWER", 30, lambda node: _known(_load(node).power_w, "W"), optional=True),
    Column[MeshNode]("HEAT", 25, lambda node: _known(_load(node).temperature_c, "°C"), optional=True),
    Column[MeshNode]("TAGS", 35, lambda node: " ".join(node.tags), right=False, optional=True),
    Column[MeshNode]("INGLE", 20, lambda node: node.version, right=False),
)
WARM = (
    Column[WarmLine]("WARM MODEL", 99, lambda line: line.name, right=False),
    Column[WarmLine]("RUN", 80, lambda line: duration_words(line.run_s)),
    Column[WarmLine]("BACKLOG", 70, lambda line: duration_words(line.backlog_s)),
    Column[WarmLine](
        "WHERE",
        90,
        lambda line: ", ".join(f"{node} ({n})" if n > 1 else node for node, n in sorted(line.replicas.items())),
        right=False,
    ),
)


def page(told: Nodes, *, width: int, height: int | None) -> list[Text]:
    """The lines of the page, none wider than `width`, and no more than `height` where that is given."""
    warm = warm_lines(told.nodes)
    foot = [*_behind(told.nodes), *_others(told)]
    lines = [_head(told), Text(), *table(NODES, told.nodes, width, lambda node: {"STANDING": _style(node)})]
    room = len(warm) if height is None else height - len(lines) - len(foot) - 3
    if warm and room > 0:
        lines += [Text(), *table(WARM, warm if len(warm) <= room else warm[: room - 1], width, lambda _: {})]
        if len(warm) > room:
            lines.append(Text(f"and {len(warm) - room + 1} more", style="dim"))
    lines += foot
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines if height is None else lines[: max(1, height)]


def warm_lines(nodes: Sequence[MeshNode]) -> list[WarmLine]:
    """Each version that is warm somewhere, the busiest first; nodes that are dead count no more."""
    lines: dict[str, WarmLine] = {}
    for node in nodes:
        for model in node.warm if node.standing != "dead" else ():
            line = lines.setdefault(f"{model.model}:{model.version}", WarmLine(model))
            line.replicas[node.name] += model.replicas
            line.backlog_s += model.backlog_s
            line.run_s = min(filter(None, (line.run_s, model.run_s)), default=0.0)
    return sorted(lines.values(), key=lambda line: (-line.backlog_s, -line.replicas.total(), line.name))


def _head(told: Nodes) -> Text:
    if not told.key_id:
        return Text("the mesh is off on this node: start it without --mesh off", style="yellow")
    nodes = [node for node in told.nodes if not node.outside]
    standings = Counter(node.standing for node in nodes)
    alive = standings.pop("alive", 0)
    words = [f"{alive} of {len(nodes)} nodes alive"] if len(nodes) > 1 else ["this node alone"]
    words += [f"{count} {standing}" for standing, count in sorted(standings.items())]
    if outside := len(told.nodes) - len(nodes):
        words.append(f"{outside} Triton server{'s' if outside > 1 else ''}")
    head = Text.assemble(("mesh ", "bold"), (told.key_id, "bold"), f"  {', '.join(words)}")
    if told.provisional:
        head.append("  provisional: its key was made here, and no other node has joined", style="yellow")
    return head


def _behind(nodes: Sequence[MeshNode]) -> list[Text]:
    """Which nodes could have a newer program of a peer."""
    lines = [
        Text(f"{', '.join(names)}: older than {version}, which {name} runs; there: ingle update --from-mesh", "yellow")
        for version, name, names in behind(nodes)
    ]
    return [Text(), *lines] if lines else []


def _others(told: Nodes) -> list[Text]:
    """Which other meshes are in sight, for whoever wonders why a node is not in the table."""
    lines = [
        Text(
            f"another mesh is in sight, of key {mesh.key_id}: "
            + ", ".join(f"{node.name} ({node.address})" for node in mesh.nodes[:_MAX_OTHERS])
            + (f" and {len(mesh.nodes) - _MAX_OTHERS} more" if len(mesh.nodes) > _MAX_OTHERS else ""),
            style="dim",
        )
        for mesh in told.others[:_MAX_OTHERS]
    ]
    if len(told.others) > _MAX_OTHERS:
        lines.append(Text(f"and {len(told.others) - _MAX_OTHERS} more meshes", style="dim"))
    return [Text(), *lines] if lines else []


def _style(node: MeshNode) -> str:
    return _STANDING_STYLES.get(node.standing, "yellow")
