"""What a person who deploys is shown of copies: until they are there, or nothing moves."""

from typing import Any

from appliance.cli.copies_progress import LOOK_S, QUIET_S, follow_copies, outcome_words, progress_words
from appliance.client_answers import CopyProgress, VersionCopies
from appliance.core.names import parse_name

NAME = parse_name("acme/x")


class Told:
    """A node that tells these states one after another, the last one for ever."""

    def __init__(self, *states: VersionCopies) -> None:
        self.states = list(states)
        self.slept_s = 0.0

    def copies(self, _name: object) -> list[VersionCopies]:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return [state] if state.version else []

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds


def _state(nodes: str, lacking: int, *making: CopyProgress) -> VersionCopies:
    return VersionCopies("acme/x", "1.0.0", size_bytes=1000, nodes=list(nodes), lacking=lacking, making=list(making))


def _followed(told: Any) -> VersionCopies:
    return follow_copies(told, NAME, "1.0.0", sleep=told.sleep)


def test_the_wait_ends_with_the_last_copy() -> None:
    told = Told(_state("a", 2), _state("a", 2, CopyProgress("b", "fetching", 500)), _state("abc", 0))
    assert _followed(told).nodes == ["a", "b", "c"]
    assert told.slept_s == 2 * LOOK_S


def test_a_node_that_has_not_heard_of_it_yet_is_asked_again() -> None:
    told = Told(VersionCopies("acme/x", ""), _state("ab", 0))
    assert _followed(told).nodes == ["a", "b"]


def test_the_wait_ends_where_nothing_moves() -> None:
    told = Told(_state("a", 1))
    assert _followed(told).lacking == 1
    assert told.slept_s <= QUIET_S + LOOK_S


def test_words_say_who_has_it_and_how_far_the_others_are() -> None:
    fetching = CopyProgress("b", "fetching", 250, 2e6)
    assert progress_words(_state("a", 1, fetching)).startswith("Copies: 1 there, 1 to come; b 25% at ")
    assert outcome_words(_state("ab", 0)) == "It lies on a, b."
    failed = CopyProgress("b", "failed", reason="it gives other answers here")
    assert outcome_words(_state("a", 1, failed)).endswith("b: it gives other answers here")
