"""A client's CALL as a core call, and a core answer as its RESULT. Pure; runs in the gateway per call."""

from collections.abc import Sequence

from appliance.core.client_frames import Call, Result, Tensor, message_parts
from appliance.core.errors import BadInputError
from appliance.core.frames import AnswerForm, Encoding, OutputWish, TensorHead
from appliance.core.requests import Buffer, CallAnswer, CallRequest
from appliance.gateway.asked import MAX_DEADLINE_MS
from appliance.gateway.pin import read_pin
from appliance.gateway.v2_parameters import NONE, read_parameters

_TAKEN = (Encoding.RAW, Encoding.JSON)


def to_call(asked: Call, bodies: Sequence[Buffer]) -> CallRequest:
    """The call that is asked for. Raises BadInputError; whether tensors fit the model is the data plane's to say."""
    about = read_parameters(asked.parameters) if asked.parameters else NONE
    return CallRequest(
        asked.model,
        asked.version,
        AnswerForm.TENSORS,
        [_head(tensor) for tensor in asked.tensors],
        bodies,
        None if asked.outputs is None else [_wish(output.name, output.class_count) for output in asked.outputs],
        binary=True,
        by_ordinal=True,
        deadline_s=_deadline_s(asked.deadline_ms) or about.deadline_s,
        priority=about.priority,
        sequence=about.sequence,
        pin=read_pin(asked.pin) if asked.pin else "",
        explain=asked.explain,
    )


def _head(tensor: Tensor) -> TensorHead:
    if tensor.encoding not in _TAKEN:
        raise BadInputError(
            f"tensor '{tensor.name[:100]}' has encoding {tensor.encoding}: expected {Encoding.RAW:d} (raw) or "
            f"{Encoding.JSON:d} (JSON)"
        )
    return TensorHead(tensor.name, tensor.dtype, tensor.shape, tensor.encoding, tensor.size_bytes)


def _wish(name: str, class_count: int) -> OutputWish:
    if class_count < 0:
        raise BadInputError(f"output '{name[:100]}' asks for {class_count} classes: expected 1 or more, or 0 for none")
    return OutputWish(name, True, class_count)


def _deadline_s(milliseconds: float) -> float:
    if not milliseconds:
        return 0.0
    if not 0 < milliseconds <= MAX_DEADLINE_MS:
        raise BadInputError(
            f"deadline_ms is {milliseconds}: expected milliseconds above 0, at most {MAX_DEADLINE_MS}, or 0 for none"
        )
    return max(milliseconds / 1000, 1e-6)


def result_parts(number: int, answer: CallAnswer) -> list[Buffer]:
    """The message that answers call `number`."""
    seconds = answer.seconds
    head = Result(
        number,
        [Tensor(one.name, one.dtype, one.shape, one.encoding, one.size_bytes) for one in answer.tensors],
        answer.call,
        answer.node,
        answer.model,
        answer.version,
        answer.ordinal,
        (seconds.queue, seconds.load, seconds.run, seconds.total),
        answer.route,
    )
    return message_parts(head, (answer.body,))
