"""Which copies there are, which lack, and how those on their way fare: what is shown of them. Pure."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from appliance.core.copy_wish import NO_WISH, CopyWish
from appliance.core.models import ModelVersion
from appliance.gateway.copying import Copying, CopyStep
from appliance.routing.copies_due import Due
from federation.messages import Have


class Making(NamedTuple):
    """A copy on its way to a node, by the node's name. Of other nodes only what is fetched is known."""

    node: str
    step: CopyStep
    done_bytes: int
    bytes_per_s: float
    sources: tuple[str, ...]
    reason: str


class CopyState(NamedTuple):
    """A version of which copies are wished or made. `nodes`: the names of those that hold it; `lacking`: how many
    copies are wished besides."""

    model: ModelVersion
    wish: CopyWish
    nodes: tuple[str, ...]
    lacking: int
    making: list[Making]


class Wished(NamedTuple):
    """A version with a wish, the ids of the nodes that hold it, and how it fares against the wish."""

    model: ModelVersion
    wish: CopyWish
    holders: tuple[str, ...]
    due: Due


def copy_states(
    wished: Iterable[Wished],
    making: Iterable[tuple[Copying, tuple[str, ...]]],
    heard: Iterable[tuple[str, Have]],
    names: Mapping[str, str],
    own_id: str,
) -> list[CopyState]:
    """By name and version. `making`: copies that this node makes, and who else holds each; `heard`: what other nodes
    fetch; `names`: of all nodes, by id."""
    states: dict[tuple[object, ...], CopyState] = {}
    for model, wish, holders, due in wished:
        lacking = max(0, due.wanted - len(due.counted))
        states[model.key] = CopyState(model, wish, _named(holders, names), lacking, [])
    for copying, holders in making:
        model = copying.model
        state = states.setdefault(model.key, CopyState(model, NO_WISH, _named(holders, names), 0, []))
        progress = copying.progress
        sources = tuple(sorted(_named(progress.sources, names)))
        own_name = names.get(own_id, own_id)
        state.making.append(
            Making(own_name, copying.step, progress.done_bytes, progress.bytes_per_s, sources, copying.reason)
        )
    for node_id, have in heard:
        for state in states.values():
            if state.model.digest == have.digest:
                name = names.get(node_id, node_id)
                state.making.append(Making(name, "fetching", have.done_bytes, have.bytes_per_s, (), ""))
    return sorted(states.values(), key=lambda state: (state.model.name, state.model.version))


def _named(node_ids: Iterable[str], names: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(names.get(node_id, node_id) for node_id in node_ids)
