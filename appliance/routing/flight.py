"""One call on its way to nodes and back, where several may be asked: retries, hedges, the first answer. No I/O.

Runs in the gateway, one for each call that may leave it. It is told what happens and says what to do; router.py does
it. Knows neither costs nor peers: `choose` names the next node. All times are seconds of one monotonic clock.

Whatever happens, in whatever order: the caller is answered or told an error exactly once; whoever was asked and has
not spoken when that happens is told to cancel; and no error is told for the loss of nodes while `choose` still has one
and the deadline allows.
"""

from collections.abc import Callable, Collection
from typing import Literal

import msgspec

from appliance.core.errors import (
    BusyError,
    DeadlineError,
    IngleError,
    SequenceLostError,
    UnavailableError,
    WorkerFailedError,
)
from federation.peer import AWAITED_S

# free: it may run anywhere, and twice. once: it must not run twice (`no_retry`), so it is neither repeated nor hedged.
# sequence: the same, and its state is where it runs.
Binding = Literal["free", "once", "sequence"]

MAX_FAULTS = 2  # runs of one call that may fail, each on another node: it may be the call that kills its workers
FIRST_PAUSE_S = 0.05  # when nobody is left to ask, before those are asked again that may have come back
MAX_PAUSE_S = 0.5
PATIENCE_S = AWAITED_S  # so long is waited for anybody to come back: a node starts again in less

# Faults of a node rather than of the call: another node may fare better.
RETRYABLE = frozenset((IngleError.code, WorkerFailedError.code, UnavailableError.code, BusyError.code))


class Choice(msgspec.Struct, frozen=True, gc=False):
    """The node to ask. `hedge_after_s`: how long its answer is waited for before another node is asked too. `poor`: it
    is asked where nobody else is there, and not for the sake of a faster answer alone."""

    node_id: str
    hedge_after_s: float
    suspect: bool = False
    poor: bool = False


class Ask(msgspec.Struct, frozen=True, gc=False):
    node_id: str
    why: Literal["first", "retry", "hedge"]


class Cancel(msgspec.Struct, frozen=True, gc=False):
    """Nobody waits for what this node was asked."""

    node_id: str


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The caller gets what this node has just answered."""

    node_id: str


class Fail(msgspec.Struct, frozen=True):
    """The caller is told this. An error's traceback may lead back here, so the collector must see it."""

    error: IngleError


class Wake(msgspec.Struct, frozen=True, gc=False):
    """Call timer() then; it takes the place of an earlier Wake."""

    at_s: float


Action = Ask | Cancel | Answer | Fail | Wake


def _nobody(_excluded: Collection[str], _now_s: float) -> Choice | None:
    return None


def _never(_now_s: float) -> bool:
    return False


class Flight:
    """`choose(excluded, now_s)`: the node to ask next, none of those, or None. `may_return(now_s)`: whether one that
    it might name was lost a moment ago, and the call may wait for it. `refused`: why this node, which has the model,
    does not run it now. `may_hedge()` takes a hedge from the budget. Each event gives what to do, in
    order; after the end all give nothing."""

    __slots__ = (
        "_asked",
        "_binding",
        "_choose",
        "_deadline_s",
        "_error",
        "_faults",
        "_hedge_after_s",
        "_hedge_at_s",
        "_may_hedge",
        "_may_return",
        "_passed_over",
        "_patient_until_s",
        "_pause_s",
        "_refused",
        "_resume_at_s",
        "_wanted",
        "over",
    )

    def __init__(
        self,
        *,
        choose: Callable[[Collection[str], float], Choice | None],
        may_hedge: Callable[[], bool],
        may_return: Callable[[float], bool] = _never,
        deadline_s: float,
        binding: Binding = "free",
        wanted: str = "",
        refused: str = "",
    ) -> None:
        self.over = False
        self._choose = choose
        self._may_hedge = may_hedge
        self._may_return = may_return
        self._deadline_s = deadline_s
        self._binding = binding
        self._wanted = wanted
        self._refused = refused
        self._asked: dict[str, bool] = {}  # who has not spoken yet; True: is suspect
        self._passed_over: list[str] = []  # who refused, failed or was lost
        self._error: IngleError | None = None  # the last one
        self._faults = 0
        self._hedge_after_s = 0.0
        self._hedge_at_s = 0.0  # 0: no hedge is due
        self._resume_at_s = 0.0  # 0: no pause
        self._pause_s = FIRST_PAUSE_S
        self._patient_until_s = 0.0

    # Events.

    def start(self, now_s: float) -> list[Action]:
        """The first node is asked. Where there is none the call fails at once, unless one may be back soon; of a
        sequence, whose calls must keep their order, none waits."""
        choice = self._choose((), now_s)
        if choice is not None:
            return [self._ask(choice, "first", now_s), self._wake()]
        if self._binding == "sequence" or not self._may_return(now_s):
            return self._end(Fail(UnavailableError(self._nobody() + self._here(), retry_after_s=1.0)))
        sentence = "the node that has the model was lost, and did not come back"
        self._error = UnavailableError(sentence + self._here(), retry_after_s=1.0)
        return self._go_on(now_s)

    def _here(self) -> str:
        return f"; this one, which has it too, does not run it: {self._refused}" if self._refused else ""

    def _nobody(self) -> str:
        if not self._wanted:
            return "no node that may run the call has the model now"
        return (
            f"the call must run on {self._wanted}, and no node in reach that this means has the model: `ingle mesh` "
            "says which nodes there are, `ingle show` where the model lies"
        )

    def answered(self, node_id: str) -> list[Action]:
        """The node answered."""
        if self.over or node_id not in self._asked:
            return []
        del self._asked[node_id]
        return self._end(Answer(node_id))

    def failed(self, node_id: str, error: IngleError, now_s: float, *, elsewhere: bool) -> list[Action]:
        """The node says that it has no answer. `elsewhere`: nothing was run, and another may take the call."""
        if self.over or node_id not in self._asked:
            return []
        del self._asked[node_id]
        self._passed_over.append(node_id)
        self._error = error
        if not elsewhere:
            self._faults += 1
            if error.code not in RETRYABLE or self._binding != "free":
                return self._end(Fail(error))
        return self._go_on(now_s)

    def lost(self, node_id: str, now_s: float) -> list[Action]:
        """The node, or the link to it, is no more; nobody knows whether the call was run."""
        if self.over or node_id not in self._asked:
            return []
        del self._asked[node_id]
        self._passed_over.append(node_id)
        if self._binding == "sequence":
            return self._end(
                Fail(SequenceLostError("the node that kept the sequence's state was lost: start the sequence anew"))
            )
        if self._binding == "once":
            return self._end(
                Fail(WorkerFailedError("the node was lost while it ran the call, and the model may not be run again"))
            )
        self._error = UnavailableError("the node that ran the call was lost, and no other that has the model is there")
        return self._go_on(now_s)

    def suspect(self, node_id: str, now_s: float) -> list[Action]:
        """The node is silent. Another is asked at once, outside the budget; its own answer still counts."""
        if self.over or self._asked.get(node_id) is not False:
            return []
        self._asked[node_id] = True
        return self._go_on(now_s)

    def timer(self, now_s: float) -> list[Action]:
        """A Wake's time has come; earlier or later does no harm."""
        if self.over:
            return []
        if now_s >= self._deadline_s:
            return self._end(Fail(DeadlineError("the call was not answered within its deadline")))
        if self._resume_at_s and now_s >= self._resume_at_s:
            self._resume_at_s = 0.0
            self._passed_over.clear()  # who was lost may be back, who drained may have started again
            return self._go_on(now_s)
        if self._hedge_at_s and now_s >= self._hedge_at_s:
            return self._hedge(now_s)
        return [self._wake()]

    def cancelled(self) -> list[Action]:
        """Nobody waits for the call any more."""
        return [] if self.over else self._end(None)

    # What follows.

    def _go_on(self, now_s: float) -> list[Action]:
        """Somebody else is asked, unless an answer is still expected of one who is not suspect."""
        if not all(self._asked.values()):
            if self._binding == "free" and not self._hedge_at_s:
                self._hedge_at_s = now_s + self._hedge_after_s
            return [self._wake()]
        if self._faults >= MAX_FAULTS or (self._asked and self._binding != "free"):
            return [] if self._asked else self._end(Fail(self._error or IngleError("the call failed")))
        choice = self._choose((*self._asked, *self._passed_over), now_s)
        if choice is not None:
            return [self._ask(choice, "hedge" if self._asked else "retry", now_s), self._wake()]
        if not self._asked and self._is_hopeless(now_s):
            return self._end(Fail(self._error or UnavailableError("no node that has the model is there")))
        if not self._asked:
            self._hedge_at_s = 0.0
        self._resume_at_s = now_s + self._pause_s
        self._pause_s = min(MAX_PAUSE_S, self._pause_s * 2)
        return [self._wake()]

    def _is_hopeless(self, now_s: float) -> bool:
        """Whether to wait for somebody to come back makes no sense: the others are busy, or patience is at an end."""
        if not self._patient_until_s:
            self._patient_until_s = now_s + PATIENCE_S
        return self._binding == "sequence" or isinstance(self._error, BusyError) or now_s >= self._patient_until_s

    def _hedge(self, now_s: float) -> list[Action]:
        """The answer is late: a second node is asked, where the budget or suspicion allows and there is one."""
        self._hedge_at_s = 0.0
        choice = self._choose((*self._asked, *self._passed_over), now_s)
        if choice is not None:
            if all(self._asked.values()) or (not choice.poor and self._may_hedge()):
                return [self._ask(choice, "hedge", now_s), self._wake()]
            self._hedge_after_s *= 2
            self._hedge_at_s = now_s + self._hedge_after_s
        return [self._wake()]

    def _ask(self, choice: Choice, why: Literal["first", "retry", "hedge"], now_s: float) -> Ask:
        self._asked[choice.node_id] = choice.suspect
        self._hedge_after_s = choice.hedge_after_s
        may_hedge = self._binding == "free" and len(self._asked) == 1
        self._hedge_at_s = now_s + choice.hedge_after_s if may_hedge else 0.0
        return Ask(choice.node_id, why)

    def _wake(self) -> Wake:
        at_s = self._deadline_s
        if self._hedge_at_s and self._hedge_at_s < at_s:
            at_s = self._hedge_at_s
        if self._resume_at_s and self._resume_at_s < at_s:
            at_s = self._resume_at_s
        return Wake(at_s)

    def _end(self, last: Answer | Fail | None) -> list[Action]:
        """The end comes before the cancelling, so that a cancelled node's word finds the flight over."""
        self.over = True
        self._choose, self._may_return = _nobody, _never  # they hold whoever made this flight
        actions: list[Action] = [Cancel(node_id) for node_id in self._asked]
        self._asked.clear()
        return actions if last is None else [last, *actions]
