"""Who is alive, and who counts as whom: tables, and two or three cores that are told what happened."""

import pytest

from federation.actions import Action, Cut, Dial, Fault, PeerChanged, Send
from federation.core import TICK_S, MeshCore
from federation.membership import MAX_PEERS, compare_incarnations, dial_again_s, standing_by_silence
from federation.messages import PROTOCOL, Drain, Head, Hello, Introduction, Probe, Probed, Program, StateAsked
from federation.peer import PeerStanding
from federation.settings import MeshSettings
from tests.unit.mesh_network import UNIX_S, hello_of, introduction_of


def with_program(**fields: object) -> Hello:
    """B's, with such a program."""
    given = {"digest": "d" * 64, "size_bytes": 10**7, "statement": b"{}", "signature": bytes(64), **fields}
    return Hello(PROTOCOL, "0.1", introduction_of(2), 1, program=Program(**given))  # type: ignore[arg-type]


A, B, C = (introduction_of(number).node_id for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("silent_s", "draining", "standing"),
    [
        (0.0, False, "alive"),
        (0.74, False, "alive"),
        (0.75, False, "suspect"),
        (2.24, False, "suspect"),
        (2.25, False, "dead"),
        (0.0, True, "draining"),
        (0.75, True, "suspect"),
        (2.25, True, "dead"),
    ],
)
def test_silence_makes_suspect_and_three_times_that_dead(
    silent_s: float, draining: bool, standing: PeerStanding
) -> None:
    assert standing_by_silence(silent_s, 0.75, draining=draining) == standing


@pytest.mark.parametrize(
    ("known", "told", "dead_s", "verdict"),
    [
        (0, 1, 0.0, "higher"),
        (5, 6, 0.0, "higher"),
        (5, 5, 9.0, "same"),
        (5, 4, 0.0, "lower"),
        (5, 4, 59.0, "lower"),
        pytest.param(5, 4, 60.0, "higher", id="a restored backup counts anew"),
    ],
)
def test_incarnations_grow(known: int, told: int, dead_s: float, verdict: str) -> None:
    assert compare_incarnations(known, told, dead_s=dead_s) == verdict


def test_dials_come_ever_more_rarely() -> None:
    assert [dial_again_s(dials, 1.0) for dials in range(7)] == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert dial_again_s(10**9, 1.0) == 5.0
    assert dial_again_s(3, 3600.0) == 60.0


class Alone:
    """One core, and all that it wanted."""

    def __init__(self, me: Hello | None = None, settings: MeshSettings | None = None) -> None:
        self.now_s = 100.0
        self.unix_s = UNIX_S
        settings = settings or MeshSettings()
        self.core = MeshCore(me or hello_of(1), settings, now_s=self.now_s, unix_s=lambda: self.unix_s, registers=())
        self.actions: list[Action] = []

    def link_up(self, node_id: str, hello: Hello) -> None:
        self.core.link_up(node_id, hello, self.now_s)
        self.actions = self.core.take_actions()

    def hear(self, node_id: str, head: Head) -> None:
        self.core.received(node_id, head, self.now_s, 100)
        self.actions = self.core.take_actions()

    def pass_time(self, seconds: float) -> None:
        """In ticks; `actions` are those of all."""
        self.actions = []
        for _ in range(round(seconds / TICK_S)):
            self.now_s += TICK_S
            self.core.tick(self.now_s)
            self.actions += self.core.take_actions()

    def standing(self, node_id: str = B) -> PeerStanding:
        return self.core.peers[node_id].standing

    def wanted(self, kind: type[Action]) -> list[Action]:
        return [action for action in self.actions if isinstance(action, kind)]

    def sent(self, kind: type[Head]) -> list[Send]:
        return [action for action in self.actions if isinstance(action, Send) and isinstance(action.head, kind)]

    @property
    def faults(self) -> list[str]:
        return [action.sentence for action in self.actions if isinstance(action, Fault)]


@pytest.fixture
def alone() -> Alone:
    return Alone()


@pytest.fixture
def linked(alone: Alone) -> Alone:
    alone.link_up(B, hello_of(2, 7))
    return alone


def test_one_who_is_introduced_is_dialled_until_a_link_is_up(alone: Alone) -> None:
    alone.core.introduced(introduction_of(2), alone.now_s)
    alone.actions = alone.core.take_actions()
    assert alone.wanted(Dial) == [Dial(introduction_of(2))]
    assert alone.standing() == "joining"
    alone.pass_time(60)
    assert 10 < len(alone.wanted(Dial)) < 20
    assert alone.standing() == "dead"
    alone.link_up(B, hello_of(2))
    assert alone.standing() == "alive"
    alone.hear(B, Probed(1))
    alone.pass_time(0.5)
    assert not alone.wanted(Dial)


def test_a_new_sign_of_life_is_dialled_at_once(alone: Alone) -> None:
    alone.core.introduced(introduction_of(2), alone.now_s)
    alone.pass_time(3600)
    moved = Introduction(B, "moved", introduction_of(2).public_key, "k2", bytes(32), ["10.9.9.9"], 9000, 9001)
    alone.core.introduced(moved, alone.now_s)
    assert Dial(moved) in alone.core.take_actions()


def test_a_silent_peer_is_probed_then_suspect_then_cut_and_dialled_again(linked: Alone) -> None:
    linked.pass_time(0.5)
    assert linked.sent(Probe)
    assert linked.standing() == "alive"
    linked.pass_time(0.4)
    assert linked.standing() == "suspect"
    assert PeerChanged(B) in linked.actions
    linked.pass_time(1.2)
    assert linked.standing() == "suspect"
    linked.pass_time(0.6)
    assert linked.standing() == "dead"
    assert isinstance(linked.wanted(Cut)[0], Cut)
    assert Dial(introduction_of(2)) in linked.actions


def rest(linked: Alone, seconds: float) -> int:
    """No call goes on the link for so long, and the peer answers what it is asked; how often it was asked."""
    asked = 0
    for _ in range(round(seconds / TICK_S)):
        linked.pass_time(TICK_S)
        for sent in linked.sent(Probe):
            assert isinstance(sent.head, Probe)
            asked += not sent.pad_bytes
            linked.hear(B, Probed(sent.head.number))
    return asked


def test_a_peer_with_which_no_calls_are_exchanged_is_asked_every_two_seconds(linked: Alone) -> None:
    rest(linked, 60.0)
    assert rest(linked, 20.0) in (9, 10)
    assert linked.standing() == "alive"


def test_one_that_rests_and_does_not_answer_is_suspect_soon_after_it_was_asked(linked: Alone) -> None:
    rest(linked, 60.0)
    linked.core.heard(B, linked.now_s)
    linked.pass_time(1.9)
    assert not linked.sent(Probe)
    linked.pass_time(0.2)
    assert linked.sent(Probe)
    assert linked.standing() == "alive"
    linked.pass_time(0.4)
    assert linked.standing() == "suspect"
    linked.pass_time(1.6)
    assert linked.standing() == "dead"


def test_one_that_rests_is_asked_as_soon_as_a_call_goes_to_it(linked: Alone) -> None:
    rest(linked, 60.0)
    linked.core.heard(B, linked.now_s)
    linked.pass_time(1.0)
    linked.core.called(B, linked.now_s)
    linked.pass_time(0.1)
    assert linked.sent(Probe)
    assert linked.standing() == "alive"
    linked.pass_time(0.4)
    assert linked.standing() == "suspect"


def test_a_suspect_that_says_anything_is_alive(linked: Alone) -> None:
    linked.pass_time(1.0)
    assert linked.standing() == "suspect"
    linked.core.heard(B, linked.now_s)
    assert linked.standing() == "alive"


def test_who_is_heard_all_the_time_is_probed_for_the_round_trip_alone(linked: Alone) -> None:
    probes = 0
    for _ in range(200):
        linked.core.heard(B, linked.now_s)
        linked.pass_time(0.1)
        probes += len([sent for sent in linked.sent(Probe) if not sent.pad_bytes])
    assert probes == 3


@pytest.mark.parametrize("heartbeat_s", [0.25, 10.0])
@pytest.mark.parametrize("stood_s", [0.2, 0.5, 1.0, 5.0])
def test_a_pause_of_this_node_suspects_nobody_who_was_just_asked(stood_s: float, heartbeat_s: float) -> None:
    linked = Alone(settings=MeshSettings(heartbeat_s=heartbeat_s))
    linked.link_up(B, hello_of(2, 7))
    linked.pass_time(0.3)  # the probe of the link's first moment is unanswered
    linked.now_s += stood_s
    linked.core.tick(linked.now_s)
    assert linked.standing() == "alive"


def test_when_this_node_stood_still_nobody_was_silent(linked: Alone) -> None:
    linked.now_s += 30.0
    linked.pass_time(0.1)
    assert linked.standing() == "alive"
    linked.pass_time(1.0)
    assert linked.standing() == "suspect"


def test_a_links_end_is_death_at_once(linked: Alone) -> None:
    linked.core.link_down(B, "reset", linked.now_s)
    assert linked.standing() == "dead"
    assert PeerChanged(B) in linked.core.take_actions()


@pytest.mark.parametrize(("lived_s", "at_once"), [(5.0, True), (0.5, False)])
def test_a_link_that_lived_is_sought_again_at_once(linked: Alone, lived_s: float, at_once: bool) -> None:
    """What the peer alone has is not to be had meanwhile; a link that ends again and again is sought no more often."""
    for _ in range(round(lived_s / 0.1)):
        linked.pass_time(0.1)
        linked.hear(B, StateAsked())
    linked.core.link_down(B, "reset", linked.now_s)
    assert any(isinstance(action, Dial) for action in linked.core.take_actions()) == at_once


def test_a_draining_peer_is_told_so_and_forgotten_if_it_leaves(linked: Alone) -> None:
    linked.hear(B, Drain())
    assert linked.standing() == "draining"
    linked.pass_time(1.0)
    assert linked.standing() == "suspect"
    linked.hear(B, Drain(leaving=True))
    assert linked.standing() == "draining"
    linked.core.link_down(B, "closed", linked.now_s)
    assert B not in linked.core.peers
    assert PeerChanged(B) in linked.core.take_actions()


def test_one_that_drained_and_started_anew_is_alive(linked: Alone) -> None:
    linked.hear(B, Drain())
    linked.link_up(B, hello_of(2, 8))
    assert linked.standing() == "alive"


def test_a_drain_is_told_to_all_and_in_each_hello_after_it(linked: Alone) -> None:
    linked.core.drain(linked.now_s, leaving=True)
    linked.actions = linked.core.take_actions()
    assert [sent.head for sent in linked.sent(Drain)] == [Drain(leaving=True)]
    assert linked.core.hello().draining


def test_a_lower_incarnation_is_passed_over_and_told_of(linked: Alone) -> None:
    linked.link_up(B, hello_of(2, 6))
    assert linked.core.peers[B].hello.incarnation == 7
    assert linked.standing() == "alive"
    assert "two nodes have the id of node-2" in linked.faults[0]
    linked.core.link_down(B, "reset", linked.now_s)
    linked.link_up(B, hello_of(2, 6))
    assert isinstance(linked.wanted(Cut)[0], Cut)
    assert linked.standing() == "dead"


def test_one_incarnation_in_two_places_is_a_copied_data_folder(linked: Alone) -> None:
    copied = hello_of(2, 7)
    copied.introduction = Introduction(B, "node-2", introduction_of(2).public_key, "k1", bytes(32), ["10.0.0.9"], 9, 9)
    linked.link_up(B, copied)
    assert "10.0.0.3:8004 and at 10.0.0.9:9" in linked.faults[0]


def test_this_nodes_own_id_elsewhere_is_told_of_and_not_dialled(alone: Alone) -> None:
    mine = introduction_of(1)
    alone.core.introduced(mine, alone.now_s)
    assert alone.core.take_actions() == []
    elsewhere = Introduction(A, mine.name, mine.public_key, mine.key_id, mine.credential, ["10.7.7.7"], 8004, 8005)
    alone.core.introduced(elsewhere, alone.now_s)
    (fault,) = alone.core.take_actions()
    assert isinstance(fault, Fault)
    assert "10.7.7.7:8004" in fault.sentence
    alone.link_up(A, hello_of(1, 9))
    assert alone.wanted(Cut) == [Cut(A, "it is this node")]
    assert not alone.core.peers


@pytest.mark.parametrize(
    ("node_id", "hello"),
    [
        pytest.param(C, hello_of(2), id="another's HELLO"),
        pytest.param(B, Hello(PROTOCOL, "0.1", introduction_of(3), 1), id="another's introduction"),
        pytest.param(B, Hello(PROTOCOL + 1, "9.0", introduction_of(2), 1), id="another protocol"),
        pytest.param(
            B, Hello(PROTOCOL, "0.1", Introduction(B, "x", bytes(32), "k", b"", ["h"], 1, 1), 1), id="another's key"
        ),
        pytest.param(B, Hello(PROTOCOL, "0.1", introduction_of(2), -1), id="an incarnation below all"),
        pytest.param(B, Hello(PROTOCOL, "x" * 999, introduction_of(2), 1), id="an endless release"),
        pytest.param(B, Hello(PROTOCOL, "0.1", introduction_of(2), 1, tags=["gpu"] * 999), id="too many tags"),
        pytest.param(B, Hello(PROTOCOL, "0.1", introduction_of(2), 1, http=-1), id="no port"),
        pytest.param(B, with_program(digest="../x"), id="a program of no digest"),
        pytest.param(B, with_program(size_bytes=2**40), id="an endless program"),
        pytest.param(B, with_program(statement=bytes(10**5)), id="an endless statement"),
        pytest.param(B, with_program(signature=b""), id="a program without a signature"),
        pytest.param(B, Hello(PROTOCOL, "0.1", introduction_of(2), 1, unix_s=float("nan")), id="no time"),
        pytest.param(B, Hello(PROTOCOL, "0.1", introduction_of(2), 1, engine_kind="k" * 999), id="an endless kind"),
    ],
)
def test_a_hello_that_cannot_be_meant_opens_no_link(alone: Alone, node_id: str, hello: Hello) -> None:
    alone.link_up(node_id, hello)
    assert [action.node_id for action in alone.wanted(Cut) if isinstance(action, Cut)] == [node_id]
    assert not alone.core.peers


def test_a_hello_may_tell_of_a_program(alone: Alone) -> None:
    alone.link_up(B, with_program())
    assert alone.core.peers[B].hello.program == with_program().program


def test_another_protocol_is_told_of_with_what_to_do(alone: Alone) -> None:
    alone.link_up(B, Hello(PROTOCOL + 1, "9.0", introduction_of(2), 1))
    assert f"speaks version {PROTOCOL + 1}" in alone.faults[0]
    assert "run releases that go together" in alone.faults[0]


@pytest.mark.parametrize(
    ("ahead_s", "words"), [(0.0, ""), (59.0, ""), (7200.0, "7200 s ahead"), (-61.0, "61 s behind")]
)
def test_a_clock_that_goes_wrong_is_told_of(alone: Alone, ahead_s: float, words: str) -> None:
    hello = hello_of(2)
    hello.unix_s = UNIX_S + ahead_s
    alone.link_up(B, hello)
    assert bool(alone.faults) == bool(words)
    assert words in "".join(alone.faults)


def test_a_fault_that_goes_on_is_told_every_ten_minutes(alone: Alone) -> None:
    other = Hello(PROTOCOL + 1, "9.0", introduction_of(2), 1)
    told = 0
    for _ in range(300):
        alone.link_up(B, other)
        told += len(alone.faults)
        alone.now_s += 5.0
    assert told == 3


def test_a_peer_tells_of_its_peers_and_they_are_dialled(alone: Alone) -> None:
    hello = hello_of(2)
    hello.peers = [introduction_of(1), introduction_of(3), Introduction(C, "x", bytes(32), "", b"", [], 0, 0)]
    alone.link_up(B, hello)
    assert alone.wanted(Dial) == [Dial(introduction_of(3))]


def test_a_peers_word_of_another_counts_only_while_what_is_known_leads_nowhere(alone: Alone) -> None:
    alone.core.introduced(introduction_of(3), alone.now_s)
    alone.link_up(B, hello_of(2))
    told = Introduction(C, "c", introduction_of(3).public_key, "k1", b"", ["10.3.3.3"], 1, 1)
    hint = hello_of(2)
    hint.peers = [told]
    alone.hear(B, hint)
    assert not alone.wanted(Dial)
    alone.pass_time(5)
    alone.link_up(B, hint)
    assert Dial(told) in alone.actions


def test_hints_are_of_those_that_have_links_and_are_few(alone: Alone) -> None:
    for number in range(2, 102):
        alone.core.introduced(introduction_of(number), alone.now_s)
        alone.link_up(introduction_of(number).node_id, hello_of(number))
    alone.core.link_down(B, "reset", alone.now_s)
    hints = alone.core.hello().peers
    assert len(hints) == 32
    assert introduction_of(2) not in hints


def test_there_is_a_bound_on_peers_and_the_dead_give_way(alone: Alone) -> None:
    for number in range(2, MAX_PEERS + 2):
        alone.core.link_up(introduction_of(number).node_id, hello_of(number), alone.now_s)
    alone.core.take_actions()
    one_more = introduction_of(5000).node_id
    alone.link_up(one_more, hello_of(5000))
    assert isinstance(alone.wanted(Cut)[0], Cut)
    alone.core.link_down(C, "reset", alone.now_s)
    alone.link_up(one_more, hello_of(5000))
    assert alone.standing(one_more) == "alive"
    assert C not in alone.core.peers
    assert len(alone.core.peers) == MAX_PEERS


def test_a_revoked_node_is_cut_and_stays_out(linked: Alone) -> None:
    linked.core.write_register("node", introduction_of(2).public_key.hex(), "revoked", "stolen", linked.now_s)
    linked.actions = linked.core.take_actions()
    assert linked.wanted(Cut) == [Cut(B, "its key was revoked")]
    assert B not in linked.core.peers
    linked.core.introduced(introduction_of(2), linked.now_s)
    assert not linked.core.take_actions()
    linked.link_up(B, hello_of(2, 8))
    assert linked.wanted(Cut) == [Cut(B, "its key was revoked")]
    assert B not in linked.core.peers


def test_a_hello_on_a_link_changes_what_is_known(linked: Alone) -> None:
    renamed = hello_of(2, 7)
    renamed.tags = ["gpu"]
    linked.hear(B, renamed)
    assert linked.core.peers[B].hello.tags == ["gpu"]
    assert PeerChanged(B) in linked.actions
    linked.hear(B, renamed)
    assert not linked.actions


def test_what_changes_in_this_nodes_hello_is_told_to_all(linked: Alone) -> None:
    changed = hello_of(1)
    changed.tags = ["gpu"]
    linked.core.greet(changed, linked.now_s)
    linked.actions = linked.core.take_actions()
    assert [sent.head.tags for sent in linked.sent(Hello) if isinstance(sent.head, Hello)] == [["gpu"]]
    linked.core.greet(changed, linked.now_s)
    assert not linked.core.take_actions()


def test_those_who_have_no_link_are_not_listened_to(alone: Alone) -> None:
    alone.core.introduced(introduction_of(2), alone.now_s)
    alone.core.take_actions()
    for head in (Drain(leaving=True), Probe(1), hello_of(2)):
        alone.hear(B, head)
        alone.hear(C, head)
        assert not alone.actions
