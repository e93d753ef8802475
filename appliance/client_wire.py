"""What a client asks of a node, as HTTP requests and as ZeroMQ messages, and the answers of both. Pure: no I/O.

Runs in whatever program uses the client. Both ways give the same answers and raise the same errors.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from appliance.client_tensors import Tensor, array_of
from appliance.core import client_frames as frames
from appliance.core.errors import IngleError, UnavailableError, error_from_code
from appliance.core.requests import Buffer


class Infer(NamedTuple):
    """Run a model once."""

    model: str
    version: str
    inputs: Mapping[str, Tensor]
    outputs: Sequence[str] | None
    deadline_s: float
    priority: int


class Operation(NamedTuple):
    """One of V2's operations besides inference, by the name that a QUERY has for it."""

    operation: str
    model: str = ""
    version: str = ""
    ready_only: bool = False


Asked = Infer | Operation


class Inference(NamedTuple):
    """The outputs by name, where they were made, and by which call and version (V2's ordinal) of the model."""

    outputs: dict[str, Any]
    model: str
    version: str
    node: str
    call: str


class NotReachedError(UnavailableError):
    """No node could be reached, so that nothing was asked of it: another may be."""


class BrokenError(UnavailableError):
    """The connection ended while an answer was waited for: it is not known what of it was done."""


class HttpRequest(NamedTuple):
    method: str
    path: str
    body: bytes
    headers: dict[str, str]


class HttpAnswer(NamedTuple):
    """`headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


# What is ready or not is told by the status alone.
_NOT_READY = {"ready": (200, 503), "model_ready": (200, 400, 404)}
_HEADER_LENGTH = "Inference-Header-Content-Length"


def to_http(asked: Asked) -> HttpRequest:
    """The request to V2's REST front."""
    model = f"/v2/models/{quote(asked.model)}" + (f"/versions/{quote(asked.version, safe='')}" if asked.version else "")
    if isinstance(asked, Operation):
        paths = {"ready": "/v2/health/ready", "model_ready": f"{model}/ready", "model_metadata": model}
        if asked.operation == "index":
            body = msgspec.json.encode({"ready": asked.ready_only})
            return HttpRequest("POST", "/v2/repository/index", body, {"Content-Type": "application/json"})
        return HttpRequest("GET", paths[asked.operation], b"", {})
    parameters: dict[str, Any] = {"binary_data_output": True}
    if asked.deadline_s:
        parameters["timeout"] = max(1, round(asked.deadline_s * 1e6))
    if asked.priority:
        parameters["priority"] = asked.priority
    head: dict[str, Any] = {
        "inputs": [
            {
                "name": name,
                "datatype": tensor.dtype,
                "shape": list(tensor.shape),
                "parameters": {"binary_data_size": len(tensor.data)},
            }
            for name, tensor in asked.inputs.items()
        ],
        "parameters": parameters,
    }
    if asked.outputs is not None:
        head["outputs"] = [{"name": name} for name in asked.outputs]
    text = msgspec.json.encode(head)
    headers = {"Content-Type": "application/octet-stream", _HEADER_LENGTH: str(len(text))}
    return HttpRequest(
        "POST", f"{model}/infer", b"".join((text, *(one.data for one in asked.inputs.values()))), headers
    )


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}


class _Outputs(msgspec.Struct):
    model_name: str
    model_version: str
    outputs: list[_Output]


class _Fault(msgspec.Struct):
    error: str
    code: str


def from_http(asked: Asked, url: str, answer: HttpAnswer) -> Any:
    """An Inference, or what an operation's JSON says. Raises the error that the node named."""
    if isinstance(asked, Operation) and answer.status in _NOT_READY.get(asked.operation, ()):
        return {"ready": answer.status == 200}
    if answer.status >= 300:
        raise http_fault(url, answer)
    try:
        if isinstance(asked, Operation):
            return msgspec.json.decode(answer.body)
        return _inference(asked, answer)
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError) as error:
        raise IngleError(f"what answers at {url} does not speak as a node of Ingle does: {error}") from None


def http_fault(url: str, answer: HttpAnswer) -> IngleError:
    """The error that an HTTP answer tells, with when to try again and which call it was."""
    try:
        fault = msgspec.json.decode(answer.body, type=_Fault)
    except msgspec.MsgspecError:
        return IngleError(
            f"what answers at {url} said {answer.status} and not as a node of Ingle would: is the URL right?"
        )
    error = error_from_code(fault.code, fault.error)
    again = answer.headers.get("retry-after", "")
    error.retry_after_s = float(again) if again.isdigit() else None
    error.call = answer.headers.get("x-ingle-call", "")
    return error


def _inference(asked: Infer, answer: HttpAnswer) -> Inference:
    size = int(answer.headers.get(_HEADER_LENGTH.lower(), len(answer.body)))
    view = memoryview(answer.body)
    told = msgspec.json.decode(view[:size], type=_Outputs)
    outputs, position = {}, size
    for output in told.outputs:
        end = position + int(output.parameters["binary_data_size"])
        outputs[output.name] = array_of(Tensor(output.datatype, output.shape, view[position:end]))
        position = end
    node, call = answer.headers.get("x-ingle-node", ""), answer.headers.get("x-ingle-call", "")
    return Inference(outputs, full_name(asked.model), told.model_version, node, call)


def full_name(model: str) -> str:
    """`owner/name`, also for a bare name."""
    return model if "/" in model else f"local/{model}"


def to_zmq(asked: Asked, number: int, key: str) -> list[Buffer]:
    """The message to the ZeroMQ front."""
    if isinstance(asked, Operation):
        return frames.message_parts(
            frames.Query(number, asked.operation, asked.model, asked.version, key, asked.ready_only)
        )
    head = frames.Call(
        number,
        asked.model,
        asked.version,
        [
            frames.Tensor(name, tensor.dtype, list(tensor.shape), 0, len(tensor.data))
            for name, tensor in asked.inputs.items()
        ],
        None if asked.outputs is None else [frames.WantedOutput(name) for name in asked.outputs],
        key,
        asked.deadline_s * 1000,
        parameters={"priority": asked.priority} if asked.priority else {},
    )
    return frames.message_parts(head, [tensor.data for tensor in asked.inputs.values()])


def from_zmq(url: str, head: frames.Head, bodies: Sequence[Buffer]) -> Any:
    """As from_http()."""
    if isinstance(head, frames.Fault):
        error = error_from_code(head.code, head.sentence)
        error.call, error.retry_after_s = head.id, head.retry_after_s or None
        raise error
    if isinstance(head, frames.Reply):
        return msgspec.json.decode(bodies[0])
    if isinstance(head, frames.Result):
        outputs = {
            one.name: array_of(Tensor(one.dtype, one.shape, body))
            for one, body in zip(head.tensors, bodies, strict=True)
        }
        return Inference(outputs, head.model, str(head.ordinal), head.node, head.id)
    raise IngleError(f"what answers at {url} does not speak as a node of Ingle does")


def retry_wait_s(error: IngleError, now_s: float, ends_s: float | None) -> float | None:
    """How long to wait before the same is asked again, or None where it is not: only what was not run may be, and only
    where a deadline says until when."""
    again_s = error.retry_after_s
    if again_s is None or error.code not in ("busy", "unavailable") or ends_s is None or now_s + again_s >= ends_s:
        return None
    return again_s


def is_asked_elsewhere(error: IngleError) -> bool:
    """Whether another node may be asked the same at once: this one is gone, or takes no calls. What the gone one had
    begun is done twice then, which changes no answer: all that is Asked only reads or computes."""
    if isinstance(error, NotReachedError | BrokenError):
        return True
    return error.code == "unavailable" and error.retry_after_s is not None


def what_is_left(asked: Asked, now_s: float, ends_s: float | None) -> Asked:
    """The same with what is left of its deadline, for whoever is asked after others were."""
    if ends_s is None or not isinstance(asked, Infer):
        return asked
    return asked._replace(deadline_s=max(0.001, ends_s - now_s))
