"""What the mesh has, from who holds what and the registers: one pure function for one model, which gives the same
answer on every node that knows the same, and MeshView, which asks it when somebody wants to know.

A removal kills each holding of its digest that is not younger than it; `Record.created_s` is when a version was first
deployed, and a copy keeps it. To deploy anew what was removed, write the removal with an empty value.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from federation.lost_holdings import LostHoldings
from federation.messages import Record, Register, removal_key

_WISHES = ("scale", "traffic", "copies", "earlier")


class MeshVersion(msgspec.Struct, frozen=True):
    """One version with one digest. `record` is the one that its first holder tells, with the mesh's ordinal;
    `holders` are ids, sorted."""

    record: Record
    holders: tuple[str, ...]


class MeshConflict(msgspec.Struct, frozen=True):
    """One version with several digests: `holders` by digest. It is refused to callers until one is left.
    `record` is the one that its first holder tells."""

    version: str
    ordinal: int
    holders: dict[str, tuple[str, ...]]
    record: Record


class MeshModel(msgspec.Struct, frozen=True):
    """One model of the mesh. `aliases`: an empty one takes away what a node has of its own. `dead`: what nodes hold
    still and a removal killed, by node id: each is to delete its own. `wishes`: `scale`, `traffic`, `copies`, `earlier`
    (JSON; empty: withdrawn). `lost`: versions that nobody in reach has, but a peer that was lost a moment ago: nobody
    answers them now, and may soon."""

    name: str
    versions: dict[str, MeshVersion] = {}
    conflicts: dict[str, MeshConflict] = {}
    aliases: dict[str, str] = {}
    dead: dict[str, tuple[Record, ...]] = {}
    wishes: dict[str, str] = {}
    lost: dict[str, Record] = {}


def model_of(
    name: str, holdings: Mapping[str, Iterable[Record]], registers: Iterable[Register], lost: Iterable[Record] = ()
) -> MeshModel | None:
    """The model as all nodes see it that know the same. `holdings`: what lies on each node's disk of it, by node id;
    `registers`: those about it, of any kind; `lost`: what lies on nodes that were lost a moment ago. None where there
    is nothing to say of it."""
    aliases: dict[str, str] = {}
    wishes: dict[str, str] = {}
    registers = tuple(registers)
    removals = _removals(registers)
    for register in registers:
        if register.kind == "alias":
            aliases[register.key] = register.value
        elif register.kind in _WISHES and not register.key:
            wishes[register.kind] = register.value
    held: dict[str, dict[str, list[tuple[str, Record]]]] = {}  # by version, by digest
    dead: dict[str, list[Record]] = {}
    for node_id in sorted(holdings):
        for record in holdings[node_id]:
            if _is_removed(record, removals):
                dead.setdefault(node_id, []).append(record)
            else:
                held.setdefault(record.version, {}).setdefault(record.digest, []).append((node_id, record))
    missing = {
        record.version: record
        for record in _oldest_last(lost)
        if record.version not in held and not _is_removed(record, removals)
    }
    if not (held or dead or aliases or wishes or missing):
        return None
    firsts = {
        version: min((first for copies in digests.values() for first in copies), key=_age)[1]
        for version, digests in held.items()
    }
    ordinals = dealt_ordinals((*firsts.values(), *missing.values()))
    versions: dict[str, MeshVersion] = {}
    conflicts: dict[str, MeshConflict] = {}
    for version in sorted(held):
        holders = {digest: tuple(node_id for node_id, _ in copies) for digest, copies in sorted(held[version].items())}
        if len(holders) == 1:
            record = _with_ordinal(firsts[version], ordinals[version])
            versions[version] = MeshVersion(record, holders[record.digest])
        else:
            conflicts[version] = MeshConflict(version, ordinals[version], holders, firsts[version])
    dead_by_node = {node_id: tuple(records) for node_id, records in dead.items()}
    missing = {version: _with_ordinal(record, ordinals[version]) for version, record in missing.items()}
    return MeshModel(name, versions, conflicts, aliases, dead_by_node, wishes, missing)


def _with_ordinal(record: Record, ordinal: int) -> Record:
    return record if record.ordinal == ordinal else msgspec.structs.replace(record, ordinal=ordinal)


def dealt_ordinals(firsts: Iterable[Record]) -> dict[str, int]:
    """An ordinal for each version of one model, from the record that its first holder tells. Of those that want one
    ordinal the oldest has it; the others get the next above all, the oldest first."""
    wanting = sorted(firsts, key=lambda record: (record.created_s, record.version, record.digest))
    dealt: dict[str, int] = {}
    taken: set[int] = set()
    for record in wanting:
        if record.ordinal not in taken:
            taken.add(record.ordinal)
            dealt[record.version] = record.ordinal
    following = max(taken, default=0) + 1
    for record in wanting:
        if record.version not in dealt:
            dealt[record.version] = following
            following += 1
    return dealt


def _age(copy: tuple[str, Record]) -> tuple[float, int, str, str]:
    node_id, record = copy
    return (record.created_s, record.ordinal, record.digest, node_id)


def _oldest_last(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: _age(("", record)), reverse=True)


def _removals(registers: Iterable[Register]) -> dict[str, Register]:
    return {register.key: register for register in registers if register.kind == "removed" and register.value}


def _is_removed(record: Record, removals: Mapping[str, Register]) -> bool:
    removal = removals.get(removal_key(record.version, record.digest))
    return removal is not None and removal.value == record.digest and record.created_s * 1000 <= removal.stamp.ms


class MeshView:
    """What the mesh has now. It follows what the core hears: one object serves for good. What it gives are immutable
    structs, made when they are asked for and kept until something about their model changes. `lost`: what nodes out of
    reach have."""

    def __init__(self, registers_of: Callable[[str], Iterable[Register]]) -> None:
        self._registers_of = registers_of
        self._held: dict[str, dict[str, dict[str, Record]]] = {}  # by name, by node id, by key
        self._made: dict[str, MeshModel | None] = {}
        self.lost = LostHoldings()

    def names(self) -> list[str]:
        """Of all models that some node holds, sorted."""
        return sorted(self._held)

    def model(self, name: str) -> MeshModel | None:
        """None where nobody holds it and no register is about it."""
        if name not in self._made:
            holdings = {node_id: records.values() for node_id, records in self._held.get(name, {}).items()}
            made = model_of(name, holdings, self._registers_of(name), self.lost.awaited(name))
            if made is None:
                return None
            self._made[name] = made
        return self._made[name]

    def models(self) -> Iterator[MeshModel]:
        """All that some node holds, by name."""
        return (model for name in self.names() if (model := self.model(name)) is not None)

    def records(self, name: str) -> Iterator[Record]:
        """Every node's of this model, removed or not."""
        return (record for records in self._held.get(name, {}).values() for record in records.values())

    def holders(self, name: str) -> frozenset[str]:
        """The nodes that hold something of this model."""
        return frozenset(self._held.get(name, ()))

    def out_of_reach(self, name: str) -> Iterator[tuple[str, Record]]:
        """What nodes out of reach have of this model, as they told it last, and nobody removed; with the nodes' ids."""
        removals = _removals(self._registers_of(name))
        return ((node_id, record) for node_id, record in self.lost.of(name) if not _is_removed(record, removals))

    # The core alone calls what follows.

    def hold(self, node_id: str, key: str, record: Record) -> None:
        self._held.setdefault(record.name, {}).setdefault(node_id, {})[key] = record
        self.lost.found(node_id, key, record.name)
        self.forget_made(record.name)

    def let_go(self, node_id: str, key: str, record: Record) -> None:
        by_node = self._held.get(record.name, {})
        if by_node.get(node_id, {}).pop(key, None) is None:
            return
        if not by_node[node_id]:
            del by_node[node_id]
        if not by_node:
            del self._held[record.name]
        self.forget_made(record.name)

    def lose(self, node_id: str, key: str, record: Record) -> None:
        """Its node is out of reach."""
        self.let_go(node_id, key, record)
        self.lost.put(node_id, key, record)
        self.forget_made(record.name)

    def give_up(self, node_id: str, *, forget: bool) -> list[str]:
        """A node that was lost is awaited no longer; with `forget`, what it has not told again is gone for good. Gives
        the names of the models of which something else is to be said now."""
        names = [name for name in self.lost.names(node_id) if (model := self.model(name)) is not None and model.lost]
        (self.lost.forget if forget else self.lost.give_up)(node_id)
        for name in names:
            self.forget_made(name)
        return names

    def forget_made(self, name: str) -> None:
        self._made.pop(name, None)

    def same_record(self, key: str, record: Record) -> Record:
        """An equal record that another node told, so that it lies in memory once."""
        for records in self._held.get(record.name, {}).values():
            if (known := records.get(key)) is not None and known == record:
                return known
        return record
