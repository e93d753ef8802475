"""Where the core's parts put what they want done, in order, until the shell takes it. Pure."""

from federation.actions import Action, CatalogueChanged, Fault, PeerChanged, Send
from federation.messages import Head

FAULT_AGAIN_S = 600.0
_MAX_FAULTS = 2000


class Outbox:
    """Changes of peers and of the catalogue are told once for each time that actions are taken, after the rest."""

    def __init__(self) -> None:
        self._actions: list[Action] = []
        self._peers: dict[str, None] = {}
        self._names: set[str] = set()
        self._told_s: dict[tuple[str, str], float] = {}  # by whom a fault is about, and its topic

    def put(self, action: Action) -> None:
        self._actions.append(action)

    def send(self, node_id: str, head: Head, pad_bytes: int = 0) -> None:
        self._actions.append(Send((node_id,), head, pad_bytes))

    def send_all(self, node_ids: tuple[str, ...], head: Head) -> None:
        if node_ids:
            self._actions.append(Send(node_ids, head))

    def fault(self, node_id: str, topic: str, sentence: str, now_s: float) -> None:
        """Of one topic about one node one sentence in FAULT_AGAIN_S: what goes on is tried for ever."""
        if now_s - self._told_s.get((node_id, topic), -FAULT_AGAIN_S) < FAULT_AGAIN_S:
            return
        if len(self._told_s) >= _MAX_FAULTS:
            self._told_s.clear()
        self._told_s[node_id, topic] = now_s
        self._actions.append(Fault(node_id, sentence))

    def peer_changed(self, node_id: str) -> None:
        self._peers[node_id] = None

    def names_changed(self, name: str) -> None:
        self._names.add(name)

    def take(self) -> list[Action]:
        if not (self._actions or self._peers or self._names):
            return []
        actions = self._actions
        actions += map(PeerChanged, self._peers)
        if self._names:
            actions.append(CatalogueChanged(frozenset(self._names)))
        self._actions, self._peers, self._names = [], {}, set()
        return actions
