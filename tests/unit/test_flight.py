"""One call where several nodes may be asked: single histories as tables, and thousands at random."""

import random
from collections.abc import Collection

import pytest

from appliance.core.errors import (
    BadInputError,
    BusyError,
    DeadlineError,
    IngleError,
    UnavailableError,
    WorkerFailedError,
)
from appliance.routing.flight import (
    FIRST_PAUSE_S,
    PATIENCE_S,
    Action,
    Answer,
    Ask,
    Binding,
    Cancel,
    Choice,
    Fail,
    Flight,
    Wake,
)

DEADLINE_S = 100.0
HEDGE_S = 0.1


class Plan:
    """Names `nodes` in their order. `budget`: how many hedges there are."""

    def __init__(
        self, *nodes: str, budget: int = 9, suspects: Collection[str] = (), poor: Collection[str] = ()
    ) -> None:
        self.nodes = list(nodes)
        self.budget = budget
        self.suspects, self.poor = suspects, poor

    def choose(self, excluded: Collection[str], now_s: float) -> Choice | None:
        for node in self.nodes:
            if node not in excluded:
                return Choice(node, HEDGE_S, node in self.suspects, node in self.poor)
        return None

    def may_hedge(self) -> bool:
        self.budget -= 1
        return self.budget >= 0

    def flight(self, binding: Binding = "free") -> Flight:
        return Flight(choose=self.choose, may_hedge=self.may_hedge, deadline_s=DEADLINE_S, binding=binding)


def said(actions: list[Action]) -> list[str]:
    """Actions as words, without when to wake."""
    words = []
    for action in actions:
        if isinstance(action, Ask):
            words.append(f"{action.why} {action.node_id}")
        elif isinstance(action, Fail):
            words.append(action.error.code)
        elif not isinstance(action, Wake):
            words.append(f"{type(action).__name__.lower()} {action.node_id}")
    return words


def wakes_at_s(actions: list[Action]) -> float:
    (at_s,) = (action.at_s for action in actions if isinstance(action, Wake))
    return at_s


def tell(flight: Flight, event: str, now_s: float = 0.0) -> list[str]:
    """An event in words: `answered a`, `refused a`, `faulted a`, `bad a`, `busy a`, `lost a`, `suspect a`, `timer`,
    `cancelled`, each perhaps with `@` and a time."""
    event, _, at = event.partition("@")
    now_s = float(at) if at else now_s
    what, _, node = event.strip().partition(" ")
    if what == "answered":
        return said(flight.answered(node))
    if what == "lost":
        return said(flight.lost(node, now_s))
    if what == "suspect":
        return said(flight.suspect(node, now_s))
    if what == "timer":
        return said(flight.timer(now_s))
    if what == "cancelled":
        return said(flight.cancelled())
    error: IngleError = {
        "refused": UnavailableError("it drains"),
        "busy": BusyError("many wait"),
        "faulted": WorkerFailedError("its worker died"),
        "bad": BadInputError("the shape is wrong"),
    }[what]
    return said(flight.failed(node, error, now_s, elsewhere=what in ("refused", "busy")))


@pytest.mark.parametrize(
    ("binding", "history"),
    [
        pytest.param("free", ["answered a: answer a"], id="the plain call"),
        pytest.param("free", ["answered a: answer a", "answered a:", "lost a:", "timer @1:"], id="after the end"),
        pytest.param("free", ["answered b:", "answered a: answer a"], id="who was not asked is not heard"),
        pytest.param("free", ["lost a: retry b", "answered b: answer b"], id="a loss"),
        pytest.param("free", ["lost a: retry b", "lost b: retry c", "answered c: answer c"], id="two losses"),
        pytest.param("free", ["refused a: retry b", "answered b: answer b"], id="a refusal"),
        pytest.param("free", ["faulted a: retry b", "answered b: answer b"], id="a fault"),
        pytest.param("free", ["faulted a: retry b", "faulted b: worker_failed"], id="two faults: it may be the call"),
        pytest.param("free", ["bad a: bad_input"], id="bad input is bad everywhere"),
        pytest.param("free", ["timer @0.1: hedge b", "bad b: bad_input cancel a"], id="so is a hedge's"),
        pytest.param("free", ["timer @0.1: hedge b", "answered b: answer b cancel a"], id="the hedge is first"),
        pytest.param("free", ["timer @0.1: hedge b", "answered a: answer a cancel b"], id="the hedge is second"),
        pytest.param("free", ["timer @0.1: hedge b", "timer @0.2:", "timer @9:"], id="one hedge"),
        pytest.param("free", ["timer @0.1: hedge b", "lost a:", "answered b: answer b"], id="the hedge remains"),
        pytest.param("free", ["timer @0.1: hedge b", "lost b: ", "timer @0.3: hedge c"], id="the hedge is lost"),
        pytest.param("free", ["timer @0.05:", "timer @0.1: hedge b"], id="a timer that comes early"),
        pytest.param("free", ["suspect a: hedge b", "answered a: answer a cancel b"], id="a suspect may yet answer"),
        pytest.param("free", ["suspect a: hedge b", "suspect a:"], id="one is suspected once"),
        pytest.param("free", ["suspect a: hedge b", "suspect b: hedge c", "lost a:"], id="all are suspect"),
        pytest.param("free", ["timer @0.1: hedge b", "suspect a:"], id="a suspect that was hedged"),
        pytest.param("free", ["timer @100: deadline cancel a"], id="the deadline"),
        pytest.param("free", ["cancelled: cancel a", "answered a:"], id="the caller goes"),
        pytest.param("free", ["timer @0.1: hedge b", "cancelled: cancel a cancel b"], id="the caller of two goes"),
        pytest.param("once", ["lost a: worker_failed"], id="once: a loss is the end"),
        pytest.param("once", ["faulted a: worker_failed"], id="once: so is a fault"),
        pytest.param("once", ["refused a: retry b", "answered b: answer b"], id="once: nothing was run"),
        pytest.param("once", ["timer @0.1:", "suspect a:", "answered a: answer a"], id="once: no hedge"),
        pytest.param("sequence", ["lost a: sequence_lost"], id="sequence: its state is lost"),
        pytest.param("sequence", ["timer @0.1:", "suspect a:", "answered a: answer a"], id="sequence: no hedge"),
        pytest.param("sequence", ["refused a: retry b"], id="sequence: it has not begun"),
    ],
)
def test_what_happens_and_what_follows(binding: Binding, history: list[str]) -> None:
    flight = Plan("a", "b", "c").flight(binding)
    assert said(flight.start(0.0)) == ["first a"]
    for line in history:
        event, _, expected = line.partition(":")
        assert " ".join(tell(flight, event)) == expected.strip(), line


def test_with_nobody_there_it_fails_at_once() -> None:
    assert said(Plan().flight().start(0.0)) == ["unavailable"]


def test_who_was_lost_a_moment_ago_is_waited_for_by_calls_that_come_now() -> None:
    plan = Plan()
    flight = Flight(
        choose=plan.choose, may_hedge=plan.may_hedge, may_return=lambda now_s: now_s < 1.0, deadline_s=DEADLINE_S
    )
    assert wakes_at_s(flight.start(0.5)) == 0.5 + FIRST_PAUSE_S
    plan.nodes = ["a"]
    assert said(flight.timer(0.5 + FIRST_PAUSE_S)) == ["retry a"]
    assert tell(flight, "answered a") == ["answer a"]


@pytest.mark.parametrize("may_return", [True, False])
def test_where_this_node_has_the_model_and_does_not_run_it_the_failure_says_why(may_return: bool) -> None:
    flight = Flight(
        choose=lambda _, __: None,
        may_hedge=lambda: False,
        may_return=lambda _: may_return,
        deadline_s=60.0,
        refused="it was set aside",
    )
    actions, now_s = flight.start(0.0), 0.0
    while not flight.over:
        now_s = wakes_at_s(actions)
        actions = flight.timer(now_s)
    [end] = actions
    assert isinstance(end, Fail)
    assert "this one, which has it too, does not run it: it was set aside" in str(end.error)


def test_where_a_caller_wanted_a_place_the_failure_names_it() -> None:
    flight = Flight(choose=lambda _, __: None, may_hedge=lambda: False, deadline_s=1.0, wanted="node:attic")
    [end] = flight.start(0.0)
    assert isinstance(end, Fail)
    assert "must run on node:attic" in end.error.sentence


def test_without_a_budget_nobody_is_asked_twice_but_for_suspicion() -> None:
    flight = Plan("a", "b", budget=0).flight()
    flight.start(0.0)
    assert tell(flight, "timer @0.1") == []
    assert tell(flight, "suspect a @0.2") == ["hedge b"]


def test_a_hedge_that_was_not_granted_is_asked_for_again_ever_later() -> None:
    plan = Plan("a", "b", budget=0)
    flight = plan.flight()
    flight.start(0.0)
    assert wakes_at_s(flight.timer(0.1)) == pytest.approx(0.3)
    plan.budget = 1
    assert said(flight.timer(0.301)) == ["hedge b"]


def test_no_hedge_is_spent_where_there_is_nobody_for_it() -> None:
    plan = Plan("a", budget=1)
    flight = plan.flight()
    flight.start(0.0)
    assert wakes_at_s(flight.timer(0.1)) == DEADLINE_S
    assert plan.budget == 1


def test_a_poor_node_is_not_asked_for_speed_but_is_for_suspicion() -> None:
    flight = Plan("a", "b", poor="b").flight()
    flight.start(0.0)
    assert tell(flight, "timer @0.1") == []
    assert tell(flight, "suspect a @0.2") == ["hedge b"]


def test_a_call_at_a_suspect_is_hedged_outside_the_budget() -> None:
    flight = Plan("a", "b", budget=0, suspects="ab").flight()
    flight.start(0.0)
    assert tell(flight, "timer @0.1") == ["hedge b"]


def test_who_was_lost_is_asked_again_when_it_is_back() -> None:
    plan = Plan("a")
    flight = plan.flight()
    flight.start(0.0)
    plan.nodes = []
    assert wakes_at_s(flight.lost("a", 1.0)) == 1.0 + FIRST_PAUSE_S
    assert wakes_at_s(flight.timer(1.0 + FIRST_PAUSE_S)) == pytest.approx(1.0 + 3 * FIRST_PAUSE_S)
    plan.nodes = ["a"]
    assert said(flight.timer(1.001 + 3 * FIRST_PAUSE_S)) == ["retry a"]
    assert tell(flight, "answered a") == ["answer a"]


def test_patience_has_an_end() -> None:
    plan = Plan("a")
    flight = plan.flight()
    flight.start(0.0)
    plan.nodes = []
    actions, turns = flight.lost("a", 0.0), 0
    while not flight.over:
        at_s = wakes_at_s(actions)
        assert at_s <= PATIENCE_S + 0.5
        actions, turns = flight.timer(at_s), turns + 1
    assert said(actions) == ["unavailable"]
    assert turns < 20


def test_who_is_too_busy_is_not_waited_for() -> None:
    flight = Plan("a", "b").flight()
    flight.start(0.0)
    assert tell(flight, "busy a") == ["retry b"]
    assert tell(flight, "busy b") == ["busy"]


def test_errors_say_what_became_of_the_call() -> None:
    flight = Plan("a").flight("once")
    flight.start(0.0)
    (fail,) = flight.lost("a", 1.0)
    assert isinstance(fail, Fail)
    assert "may not be run again" in fail.error.sentence


class History:
    """Random events on one flight, and what must hold whatever they are."""

    def __init__(self, seed: int) -> None:
        self.dice = dice = random.Random(seed)
        self.nodes = "abcd"[: dice.randint(1, 4)]
        self.up = {node: dice.random() < 0.8 for node in self.nodes}
        self.binding: Binding = dice.choice(("free", "free", "once", "sequence"))
        self.now_s = 0.0
        self.deadline_s = dice.choice((0.05, 1.0, 30.0))
        self.flight = Flight(
            choose=self.choose,
            may_hedge=lambda: dice.random() < 0.7,
            deadline_s=self.deadline_s,
            binding=self.binding,
        )
        self.asked: set[str] = set()
        self.runs = 0  # of the call, as far as anyone can know
        self.ends: list[Answer | Fail] = []
        self.wakes_at_s = 0.0

    def choose(self, excluded: Collection[str], now_s: float) -> Choice | None:
        able = [node for node in self.nodes if self.up[node] and node not in excluded]
        return Choice(self.dice.choice(able), self.dice.uniform(0.01, 1), self.dice.random() < 0.1) if able else None

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Ask):
                assert action.node_id not in self.asked, "asked of one who has not spoken yet"
                assert not self.ends, "asked after the end"
                self.asked.add(action.node_id)
                self.runs += 1
            elif isinstance(action, Cancel):
                self.asked.remove(action.node_id)
            elif isinstance(action, Wake):
                self.wakes_at_s = action.at_s
            else:
                self.ends.append(action)

    def step(self) -> None:
        dice, flight = self.dice, self.flight
        node = dice.choice(self.nodes)
        what = dice.choice(("answer", "refuse", "fault", "busy", "bad", "lose", "suspect", "back", "wait", "wait"))
        asked = node in self.asked
        if what == "answer":
            self.asked.discard(node)
            self.perform(flight.answered(node))
            assert not asked or isinstance(self.ends[-1], Answer)
        elif what in ("refuse", "fault", "busy", "bad"):
            self.asked.discard(node)
            elsewhere = what in ("refuse", "busy")
            self.runs -= asked and elsewhere
            error = {"fault": WorkerFailedError, "busy": BusyError, "bad": BadInputError}.get(what, UnavailableError)
            self.perform(flight.failed(node, error("no"), self.now_s, elsewhere=elsewhere))
            assert not asked or what != "bad" or self.ends
        elif what == "lose":
            self.up[node] = False
            self.asked.discard(node)
            self.perform(flight.lost(node, self.now_s))
        elif what == "suspect":
            self.perform(flight.suspect(node, self.now_s))
        elif what == "back":
            self.up[node] = True
        elif dice.random() < 0.2:
            self.perform(flight.timer(self.now_s))  # for no reason
        else:
            self.wake()

    def wake(self) -> None:
        self.now_s = max(self.now_s, self.wakes_at_s)
        self.perform(self.flight.timer(self.now_s))


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_there_is_one_end_and_nobody_is_left_asked(seed: int) -> None:
    for number in range(1500):
        history = History(seed * 100_000 + number)
        history.perform(history.flight.start(0.0))
        for _ in range(history.dice.randint(0, 15)):
            history.step()
        turns = 0
        while not history.flight.over:
            history.wake()
            turns += 1
            assert turns < 200
        assert len(history.ends) == 1
        assert history.asked == set()
        if history.binding != "free":
            assert history.runs <= 1
        end = history.ends[0]
        assert (
            not isinstance(end, Fail) or not isinstance(end.error, DeadlineError) or history.now_s >= history.deadline_s
        )
        for node in history.nodes:
            assert history.flight.answered(node) == history.flight.lost(node, history.now_s) == []
        assert history.flight.timer(history.now_s) == history.flight.cancelled() == []


@pytest.mark.parametrize("seed", range(2))
def test_no_call_is_lost_while_somebody_is_there(seed: int) -> None:
    """Losses, refusals and suspicion in any order, then one node that lives: it answers."""
    for number in range(1000):
        history = History(seed * 100_000 + number)
        history.binding = "free"
        history.deadline_s = 30.0
        history.flight = Flight(choose=history.choose, may_hedge=lambda: False, deadline_s=30.0)
        history.up = dict.fromkeys(history.nodes, True)
        history.perform(history.flight.start(0.0))
        for _ in range(history.dice.randint(0, 12)):
            if history.now_s > PATIENCE_S / 2:
                break
            node = history.dice.choice(history.nodes)
            if history.dice.random() < 0.5:
                history.up[node] = False
                history.asked.discard(node)
                history.perform(history.flight.lost(node, history.now_s))
            elif history.dice.random() < 0.5:
                history.asked.discard(node)
                refusal = UnavailableError("it drains")
                history.perform(history.flight.failed(node, refusal, history.now_s, elsewhere=True))
            else:
                history.up[node] = True
                if not history.asked:
                    history.wake()
        survivor = history.dice.choice(history.nodes)
        history.up = {node: node == survivor for node in history.nodes}
        for node in history.asked - {survivor}:
            history.asked.discard(node)
            history.perform(history.flight.lost(node, history.now_s))
        while survivor not in history.asked and not history.ends:
            history.wake()
        history.asked.discard(survivor)
        history.perform(history.flight.answered(survivor))
        assert history.ends == [Answer(survivor)]
