"""What nodes have that are out of reach, as they told it last. Pure; part of the view of the mesh.

For a moment such a node is awaited: it may only have been silent, or starts again. Later what it has is remembered
still, so that callers are told where it lies.
"""

from collections.abc import Iterator

from federation.messages import Record


class LostHoldings:
    """`key` is record_key()'s."""

    def __init__(self) -> None:
        self._records: dict[str, dict[str, dict[str, Record]]] = {}  # by node id, by name, by key
        self._given_up: set[str] = set()

    def put(self, node_id: str, key: str, record: Record) -> None:
        """Its node was lost just now."""
        self._records.setdefault(node_id, {}).setdefault(record.name, {})[key] = record
        self._given_up.discard(node_id)

    def found(self, node_id: str, key: str, name: str) -> None:
        """The node is back, and has it still."""
        self._records.get(node_id, {}).get(name, {}).pop(key, None)

    def give_up(self, node_id: str) -> None:
        """The node is awaited no longer."""
        if node_id in self._records:
            self._given_up.add(node_id)

    def forget(self, node_id: str) -> None:
        """What the node had and was not found() is there no more."""
        self._records.pop(node_id, None)
        self._given_up.discard(node_id)

    def names(self, node_id: str) -> list[str]:
        """The models of which the node had something that was not found()."""
        return [name for name, records in self._records.get(node_id, {}).items() if records]

    def awaited(self, name: str) -> Iterator[Record]:
        """What awaited nodes have of a model."""
        return (record for node_id, record in self.of(name) if node_id not in self._given_up)

    def of(self, name: str) -> Iterator[tuple[str, Record]]:
        """What any of them has of a model, with the nodes' ids."""
        for node_id, names in self._records.items():
            for record in names.get(name, {}).values():
                yield node_id, record
