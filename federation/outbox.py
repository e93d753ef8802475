"""Where the core's parts put what they want done, in order, until the shell takes it. Pure."""

from federation.actions import Action, CatalogueChanged, PeerChanged, Send
from federation.messages import Head


class Outbox:
    """Changes of peers and of the catalogue are told once for each time that actions are taken, after the rest."""

    def __init__(self) -> None:
        self._actions: list[Action] = []
        self._peers: dict[str, None] = {}
        self._names: set[str] = set()

    def put(self, action: Action) -> None:
        self._actions.append(action)

    def send(self, node_id: str, head: Head, pad_bytes: int = 0) -> None:
        self._actions.append(Send((node_id,), head, pad_bytes))

    def send_all(self, node_ids: tuple[str, ...], head: Head) -> None:
        if node_ids:
            self._actions.append(Send(node_ids, head))

    def peer_changed(self, node_id: str) -> None:
        self._peers[node_id] = None

    def names_changed(self, name: str) -> None:
        self._names.add(name)

    def take(self) -> list[Action]:
        actions = self._actions
        actions += map(PeerChanged, self._peers)
        if self._names:
            actions.append(CatalogueChanged(frozenset(self._names)))
        self._actions, self._peers, self._names = [], {}, set()
        return actions
