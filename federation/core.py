"""The mesh's mind, without I/O: events with a time go in, actions come out in order (actions.py). It has no clock,
socket or task of its own, so the same code runs in the gateway process under mesh.py and in a network in memory.

The shell's part of the bargain: `now_s` is one monotonic clock's and never runs backwards; tick() comes every TICK_S;
take_actions() after each event; HELLO (hello()) goes first on each new link, and link_up() is called when the peer's
came. Nothing that a peer says raises here.
"""

import math
import random
from collections.abc import Callable, Iterable, Mapping

import msgspec

from federation.actions import Action, Cut, Dial
from federation.catalogue import MeshCatalogue
from federation.credible import credible_hello, credible_introduction
from federation.estimates import PAD_BYTES
from federation.faults import clocks_apart, other_protocol, own_twin, twins
from federation.membership import Member, Membership
from federation.messages import (
    PROTOCOL,
    Catalogue,
    CatalogueAsked,
    Drain,
    Head,
    Hello,
    Introduction,
    Load,
    ModelState,
    Probe,
    Probed,
    Record,
    Records,
    Register,
    Registers,
    State,
    StateAsked,
)
from federation.outbox import Outbox
from federation.peer import Peer, PeerStanding
from federation.settings import MeshSettings
from federation.state import OwnState
from federation.talk import Talk
from federation.view import MeshView

TICK_S = 0.1
HINT_S = 30.0
MAX_HINTS = 32
ROUND_TRIP_S = 5.0  # how often a probe is sent to a peer that is heard all the time
WIDTH_S = 3600.0
WIDTH_PROBES = 3  # one alone may have met others on its way
WIDTH_APART_S = 1.0  # so that many new peers are not measured at once
_STATE_ASKED_S = 0.5
_STEADY_S = 1.0  # a link that ends sooner is sought at the next tick: so often at most, whatever ends it
_WHOLE_STATE_S = 0.1


class MeshCore:
    def __init__(
        self,
        me: Hello,
        settings: MeshSettings,
        *,
        now_s: float,
        unix_s: Callable[[], float],
        registers: Iterable[Register] = (),
    ) -> None:
        """`registers`: those that StoreRegisters told to keep. `unix_s`: the wall clock, which may jump."""
        self._me = me
        self._settings = settings
        self._unix_s = unix_s
        self._outbox = Outbox()
        self._membership = Membership(settings.suspect_s)
        self._talks: dict[str, Talk] = {}
        self._state = OwnState(me.incarnation)
        self._catalogue = MeshCatalogue(self.node_id, unix_s, registers, self._outbox, now_s)
        self._random = random.Random(f"{self.node_id} {me.incarnation}")  # noqa: S311 - chooses whom to tell of whom
        self._ticked_s = now_s
        self._hint_s = now_s + HINT_S
        self._width_s = now_s

    # What others read.

    @property
    def node_id(self) -> str:
        return self._me.introduction.node_id

    @property
    def peers(self) -> Mapping[str, Peer]:
        """All other nodes that are known, by id: one object, always current."""
        return self._membership.peers

    def view(self) -> MeshView:
        """One object, always current."""
        return self._catalogue.view

    def hello(self) -> Hello:
        """What to say first on a new link."""
        linked = [member.introduction for member in self._membership.linked()]
        hints = self._random.sample(linked, min(MAX_HINTS, len(linked)))
        return msgspec.structs.replace(self._me, peers=hints, unix_s=self._unix_s())

    def register(self, kind: str, name: str, key: str) -> Register | None:
        return self._catalogue.register(kind, name, key)

    def take_actions(self) -> list[Action]:
        return self._outbox.take()

    # Events: peers come and go.

    def introduced(self, introduction: Introduction, now_s: float) -> None:
        """Somebody says how a node is reached: mDNS, a datagram, the peers that were remembered."""
        if not credible_introduction(introduction):
            return
        if introduction.node_id == self.node_id:
            self._heard_of_myself(introduction, now_s)
            return
        self._meet(introduction, now_s, dial=True)

    def link_up(self, node_id: str, hello: Hello, now_s: float) -> None:
        """A link is there and its HELLO was heard; another link with this node is void."""
        if refusal := self._refusal(node_id, hello, now_s):
            self._outbox.put(Cut(node_id, refusal))
            return
        member = self._meet(hello.introduction, now_s, dial=False)
        if member is None:
            self._outbox.put(Cut(node_id, "this node knows as many peers as it can"))
            return
        self._look_for_a_twin(member, hello, now_s)
        was_linked = member.linked
        if self._membership.link_up(member, hello, now_s) == "lower":
            if not was_linked:
                self._outbox.put(Cut(node_id, "its incarnation is lower than one that was seen"))
            return
        if apart := clocks_apart(hello, self._unix_s()):
            self._outbox.fault(node_id, "clock", apart, now_s)
        self._outbox.peer_changed(node_id)
        talk = self._talks[node_id]
        talk.start(now_s)
        talk.show(member.peer)
        self._outbox.send(node_id, self._state.whole())
        self._catalogue.link_up(node_id, now_s)
        self._probe(member, talk, now_s)
        self._hear_hints(hello.peers, now_s)

    def link_down(self, node_id: str, reason: str, now_s: float) -> None:
        """The link ended, whoever ended it."""
        member = self._membership.get(node_id)
        if member is not None and member.linked:
            was_steady = now_s - member.linked_s >= _STEADY_S
            self._lose(member, now_s)
            if was_steady and not member.leaving:
                self._seek(member, now_s)  # it may live: callers of what it alone has wait for no tick

    # Events: messages.

    def heard(self, node_id: str, now_s: float) -> None:
        """A message of a kind that is not the core's came from this node."""
        member = self._membership.get(node_id)
        if member is not None and self._membership.heard(member, now_s):
            self._outbox.peer_changed(node_id)

    def called(self, node_id: str, now_s: float) -> None:
        """A call goes to this node, or came from it: whether it lives matters again."""
        if (member := self._membership.get(node_id)) is not None:
            member.called_s = now_s

    def heard_load(
        self, node_id: str, key: str, model_state: ModelState | None, load: Load | None, now_s: float
    ) -> None:
        """What came with an answer. `key` is model_key()'s."""
        member = self._membership.get(node_id)
        if member is not None and member.linked:
            talk = self._talks[node_id]
            talk.heard.reply_said(key, model_state, load, now_s)
            talk.show(member.peer)

    def moved(self, node_id: str, size_bytes: int, took_s: float) -> None:
        """A message and its answer, of so many bytes together, took so long on the way: one round trip and what the
        bytes needed; the time at the other node is not in it."""
        member = self._membership.get(node_id)
        if member is not None and took_s > 0:
            talk = self._talks[node_id]
            talk.way.moved(size_bytes, took_s)
            talk.show(member.peer)

    def received(self, node_id: str, head: Head, now_s: float, size_bytes: int = 0) -> None:
        """A message came on this node's link; `size_bytes`: all of it. Kinds that are not the core's only show that
        the peer lives."""
        member = self._membership.get(node_id)
        if member is None or not member.linked:
            return
        self.heard(node_id, now_s)
        talk = self._talks[node_id]
        match head:
            case Probe():
                load = None if self._state.load_is_told else self._state.load
                self._outbox.send(node_id, Probed(head.number, size_bytes, load))
            case Probed():
                talk.way.came_back(head.number, now_s)
                talk.heard.reply_said("", None, head.load, now_s)
                talk.show(member.peer)
            case State():
                self._hear_state(member, talk, head, now_s)
            case StateAsked():
                if now_s - talk.state_given_s >= _WHOLE_STATE_S:
                    talk.state_given_s = now_s
                    self._outbox.send(node_id, self._state.whole())
            case Hello():
                self._hear_hello(member, head, now_s)
            case Drain():
                member.draining, member.leaving = True, head.leaving
                self._restand(member, now_s)
            case Catalogue() | CatalogueAsked() | Records() | Registers():
                self._catalogue.heard(node_id, head, size_bytes, now_s)
                if isinstance(head, Registers) and any(register.kind == "node" for register in head.registers):
                    self._cut_revoked(now_s)

    # Events: this node.

    def publish(self, load: Load, models: Mapping[str, ModelState], now_s: float) -> None:
        """How this node fares; all its models by model_key()."""
        self._state.publish(load, models)
        self._send_state(now_s)

    def set_holdings(self, records: Iterable[Record], now_s: float) -> None:
        """All that lies on this node's disk. A record that stays the same costs least if it is the same object."""
        self._catalogue.set_holdings(records)

    def set_outside(self, server_id: str, records: Iterable[Record]) -> None:
        """All that a server has which is no node, and which this node calls by its address."""
        self._catalogue.set_outside(server_id, records)

    def write_register(self, kind: str, name: str, key: str, value: str, now_s: float) -> Register:
        """Writes over what is known of this register, and tells all. Raises BadInputError where it cannot be kept."""
        register = self._catalogue.write(kind, name, key, value)
        if kind == "node":
            self._cut_revoked(now_s)
        return register

    def drain(self, now_s: float, leaving: bool = False) -> None:
        """This node takes no new calls from now on; with `leaving` it is not to be waited for when it is gone."""
        self._me = msgspec.structs.replace(self._me, draining=True)
        self._outbox.send_all(self._linked_ids(), Drain(leaving))

    def greet(self, me: Hello, now_s: float) -> None:
        """What HELLO says of this node changed: all are told. The incarnation and the id stay what they were."""
        kept = msgspec.structs.replace(me, incarnation=self._me.incarnation)
        if me.introduction.node_id == self.node_id and kept != self._me:
            self._me = kept
            self._outbox.send_all(self._linked_ids(), msgspec.structs.replace(kept, peers=[], unix_s=self._unix_s()))

    def forget_peers(self, now_s: float) -> None:
        """This node left its mesh: whoever was in it is cut off, and nobody is known any more."""
        for member in self._membership.all():
            self._outbox.put(Cut(member.node_id, "this node left the mesh"))
            self._forget(member, now_s)
        self._catalogue.forget_revoked()

    def tick(self, now_s: float) -> None:
        """Time passed."""
        if (slept_s := now_s - self._ticked_s - TICK_S) >= TICK_S:  # a tick was left out
            self._membership.slept(slept_s, now_s)
        self._ticked_s = now_s
        for member in self._membership.all():
            if member.linked:
                self._watch(member, now_s)
            else:
                self._seek(member, now_s)
        self._send_state(now_s)
        self._catalogue.tick(now_s)
        if now_s >= self._hint_s:
            self._hint_s = now_s + HINT_S
            if linked := self._linked_ids():
                self._outbox.send(self._random.choice(linked), self.hello())

    # Peers.

    def _meet(self, introduction: Introduction, now_s: float, *, dial: bool) -> Member | None:
        if self._is_revoked(introduction):
            return None
        is_new = self._membership.get(introduction.node_id) is None
        member = self._membership.meet(introduction, now_s)
        if member is None:
            return None
        node_id = member.node_id
        if is_new:
            for gone in self._talks.keys() - self._membership.peers.keys():
                self._drop(gone, now_s)
            self._talks[node_id] = talk = Talk()
            member.peer.models = talk.heard.models
            member.peer.holdings = self._catalogue.holdings_of(node_id).records
            self._outbox.peer_changed(node_id)
        if dial and not member.linked:
            member.introduction = introduction
            member.dials, member.dial_s = 0, now_s
            self._seek(member, now_s)
        return member

    def _hear_hints(self, hints: Iterable[Introduction], now_s: float) -> None:
        """A peer's word counts where nothing else is known, or where what is known leads nowhere."""
        for hint in list(hints)[:MAX_HINTS]:
            member = self._membership.get(hint.node_id)
            is_news = member is None or (not member.linked and member.introduction != hint and member.dials > 1)
            if is_news and hint.node_id != self.node_id and credible_introduction(hint):
                self._meet(hint, now_s, dial=True)

    def _hear_hello(self, member: Member, hello: Hello, now_s: float) -> None:
        if hello.incarnation > member.incarnation:
            self.link_up(member.node_id, hello, now_s)
        elif hello.incarnation == member.incarnation and not self._refusal(member.node_id, hello, now_s):
            before = member.peer.hello
            self._membership.greeted(member, hello)
            if msgspec.structs.replace(hello, peers=before.peers, unix_s=before.unix_s) != before:
                self._outbox.peer_changed(member.node_id)
            self._restand(member, now_s)
            self._hear_hints(hello.peers, now_s)

    def _refusal(self, node_id: str, hello: Hello, now_s: float) -> str:
        """Why this HELLO opens no link; empty where it does."""
        introduction = hello.introduction
        if node_id == self.node_id:
            if hello.incarnation != self._me.incarnation:
                self._heard_of_myself(introduction, now_s)
            return "it is this node"
        if introduction.node_id != node_id or not credible_hello(hello):
            return "its HELLO says another id than its key, or cannot be meant"
        if hello.protocol != PROTOCOL:
            sentence = other_protocol(hello)
            self._outbox.fault(node_id, "protocol", sentence, now_s)
            return sentence
        return "its key was revoked" if self._is_revoked(introduction) else ""

    def _lose(self, member: Member, now_s: float) -> None:
        self._membership.link_down(member, now_s)
        self._talks[member.node_id].start(now_s)
        self._talks[member.node_id].show(member.peer)
        self._catalogue.link_down(member.node_id, now_s)
        self._outbox.peer_changed(member.node_id)
        if member.leaving:
            self._forget(member, now_s)

    def _cut(self, member: Member, reason: str, now_s: float) -> None:
        self._outbox.put(Cut(member.node_id, reason))
        self._lose(member, now_s)

    def _forget(self, member: Member, now_s: float) -> None:
        self._membership.forget(member)
        self._drop(member.node_id, now_s)

    def _drop(self, node_id: str, now_s: float) -> None:
        del self._talks[node_id]
        self._catalogue.forget(node_id, now_s)
        self._outbox.peer_changed(node_id)

    def _is_revoked(self, introduction: Introduction) -> bool:
        register = self._catalogue.register("node", introduction.public_key.hex(), "revoked")
        return register is not None and register.value != ""

    def _cut_revoked(self, now_s: float) -> None:
        for member in self._membership.all():
            if self._is_revoked(member.introduction):
                member.leaving = True
                if member.linked:
                    self._cut(member, "its key was revoked", now_s)
                else:
                    self._forget(member, now_s)

    # Time.

    def _watch(self, member: Member, now_s: float) -> None:
        """A peer with a link: does it speak?"""
        if self._restand(member, now_s) == "dead":
            self._cut(member, f"it said nothing for {now_s - member.heard_s:.1f} s", now_s)
            return
        talk = self._talks[member.node_id]
        talk.heard.pass_time(now_s)
        talk.show(member.peer)
        if now_s >= talk.hint_s:
            talk.hint_s = math.inf
            self._outbox.send(member.node_id, self.hello())
        probed_s, heartbeat_s = now_s - talk.probed_s, self._settings.heartbeat_s
        is_silent = self._membership.is_to_be_asked(member, now_s, heartbeat_s)
        if probed_s >= ROUND_TRIP_S or (is_silent and probed_s >= heartbeat_s):
            self._probe(member, talk, now_s)
        if talk.way.rtt_s:
            self._measure_width(member, talk, now_s)

    def _measure_width(self, member: Member, talk: Talk, now_s: float) -> None:
        if talk.width_probes == 0 and now_s >= max(talk.width_s, self._width_s):
            talk.width_s, self._width_s = now_s + WIDTH_S, now_s + WIDTH_APART_S
            talk.width_probes = WIDTH_PROBES
        if talk.width_probes > 0:
            talk.width_probes -= 1
            self._outbox.send(member.node_id, Probe(talk.way.probe(now_s, PAD_BYTES)), PAD_BYTES)

    def _seek(self, member: Member, now_s: float) -> None:
        """A peer without a link: is it to be dialled?"""
        if self._membership.is_to_be_forgotten(member, now_s):
            self._forget(member, now_s)
            return
        self._restand(member, now_s)
        if self._membership.is_to_be_dialled(member, now_s):
            self._outbox.put(Dial(member.introduction))

    def _restand(self, member: Member, now_s: float) -> PeerStanding:
        standing = self._membership.judge(member, now_s)
        is_lost = standing == "dead" and member.linked  # its link is cut first
        if not is_lost and member.stand(standing, now_s):
            self._outbox.peer_changed(member.node_id)
        return standing

    def _probe(self, member: Member, talk: Talk, now_s: float) -> None:
        talk.probed_s = now_s
        self._membership.asked(member, now_s)
        self._outbox.send(member.node_id, Probe(talk.way.probe(now_s)))

    # State.

    def _send_state(self, now_s: float) -> None:
        if (state := self._state.due(now_s)) is not None:
            self._outbox.send_all(self._linked_ids(), state)

    def _hear_state(self, member: Member, talk: Talk, state: State, now_s: float) -> None:
        if talk.heard.hear(state, member.incarnation, now_s):
            talk.show(member.peer)
        elif now_s - talk.state_asked_s >= _STATE_ASKED_S:
            talk.state_asked_s = now_s
            self._outbox.send(member.node_id, StateAsked())

    def _linked_ids(self) -> tuple[str, ...]:
        return tuple(member.node_id for member in self._membership.linked())

    # What the owner should know.

    def _heard_of_myself(self, introduction: Introduction, now_s: float) -> None:
        mine = self._me.introduction
        is_elsewhere = bool(mine.addresses) and set(mine.addresses).isdisjoint(introduction.addresses)
        if is_elsewhere or mine.mesh_port != introduction.mesh_port:
            self._outbox.fault("", "twin", own_twin(introduction), now_s)

    def _look_for_a_twin(self, member: Member, hello: Hello, now_s: float) -> None:
        """Of one that has a link: a link from elsewhere in the same incarnation, or of a lower one, is of another."""
        known, told = member.introduction, hello.introduction
        elsewhere = hello.incarnation == member.incarnation and known.mesh_port != told.mesh_port
        if member.linked and (elsewhere or hello.incarnation < member.incarnation):
            self._outbox.fault(member.node_id, "twin", twins(known, told), now_s)
