"""A call on its way through the node: what every front makes and the data plane answers. No protocol in it."""

from collections.abc import Mapping, Sequence

import msgspec

from appliance.core.client_memory import MemorySpan
from appliance.core.frames import AnswerForm, OutputWish, TensorHead

Buffer = bytes | bytearray | memoryview
Part = Buffer | MemorySpan


class SequenceStep(msgspec.Struct, frozen=True):
    """A call's place in a sequence, for models that keep a state: `id` is its caller's own."""

    id: int | str
    start: bool = False
    end: bool = False


class CallRequest(msgspec.Struct):
    """One call. `parts[i]` is the body of `tensors[i]`; a plain call has one part, its content. `memory_outputs` says
    where outputs go whose callers want them in memory that they share, by name: each is a wish with `shared` too.

    `version` is as asked for; with `by_ordinal` a bare integer is V2's ordinal. `deadline_s` counts from now; 0: the
    node's default. `priority`: 1 is the highest, 0 the model's default. `patience_turns`: how many turns of the event
    loop it may wait for others to leave with it. `pin`: where it must run, `local`, `node:NAME` or `tag:WORD`; empty:
    wherever it is answered soonest. `explain`: the answer is to say why it ran where it did.
    """

    model: str
    version: str
    form: AnswerForm
    tensors: list[TensorHead]
    parts: Sequence[Part]
    outputs: list[OutputWish] | None = None
    binary: bool = False
    content_type: str = ""
    by_ordinal: bool = False
    patience_turns: int = 1
    deadline_s: float = 0.0
    priority: int = 0
    memory_outputs: Mapping[str, MemorySpan] | None = None
    sequence: SequenceStep | None = None
    pin: str = ""
    explain: bool = False


class Seconds(msgspec.Struct):
    """Where a call's time went. `load` is 0 where the model was warm."""

    queue: float
    load: float
    run: float
    total: float


class CallAnswer(msgspec.Struct):
    """What came back. `body` holds, by form: every tensor of `tensors` RAW in order; the text of V2's outputs array
    (its first `text_size` bytes) and then binary outputs; the text of a plain answer's members."""

    call: str
    node: str
    model: str  # owner/name
    version: str
    ordinal: int
    tensors: list[TensorHead]
    body: Buffer
    text_size: int
    seconds: Seconds
    route: str = ""  # JSON: why it ran where it did, where that was asked for
