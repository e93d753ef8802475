"""V2's REST addresses as rows of the OpenAPI document; their handlers are in v2_rest.py.

Sources: the Open Inference Protocol's REST specification; Triton's extensions for the model repository, configuration
and statistics. Only what this node serves is here.
"""

from typing import Annotated, Any

import msgspec

from appliance.core.tensors import DTYPES, MAX_DIMENSION
from appliance.gateway import patterns
from appliance.gateway.asked import DEADLINE, EXPLAIN, PIN
from appliance.gateway.operations import Body, Method, Operation, Parameter, Reply
from appliance.gateway.patterns import whole
from appliance.gateway.states import IndexRow
from appliance.gateway.v2_rest import IndexRequest, RepositoryRequest

MODEL = Parameter(
    "model",
    "path",
    {"type": "string", "pattern": whole(patterns.NAME)},
    "the model's name; `owner/name` is taken too, with its slash as it is",
)
VERSION = Parameter(
    "version",
    "path",
    {"type": "string", "pattern": whole(patterns.ANY_VERSION)},
    "V2's ordinal (1, 2, 3 ...), a version or an alias",
)

_PLACED = (DEADLINE, PIN, EXPLAIN)
_ANSWERED = ("X-Ingle-Call", "X-Ingle-Node", "X-Ingle-Route")

Datatype = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(DTYPES)})]
Size = Annotated[int, msgspec.Meta(ge=0, le=MAX_DIMENSION)]


class ServerMetadata(msgspec.Struct):
    name: str
    version: str
    extensions: list[str]


class TensorMetadata(msgspec.Struct):
    """-1 in `shape`: any size."""

    name: str
    datatype: Datatype
    shape: list[int]


class ModelMetadata(msgspec.Struct):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class InputTensor(msgspec.Struct):
    """`data` is nested or flat; with the parameter `binary_data_size` it is left out and lies behind the JSON."""

    name: str
    shape: list[Size]
    datatype: Datatype
    data: list[Any]
    parameters: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class OutputWanted(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class InferenceRequest(msgspec.Struct):
    inputs: list[InputTensor]
    id: str | msgspec.UnsetType = msgspec.UNSET
    outputs: list[OutputWanted] | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class OutputTensor(msgspec.Struct):
    name: str
    shape: list[Size]
    datatype: Datatype
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class InferenceAnswer(msgspec.Struct):
    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class ModelStatistics(msgspec.Struct):
    """The statistics of each version; see Triton's statistics extension for what is counted."""

    model_stats: list[dict[str, Any]]


_INFERRED = Reply(
    "The outputs; binary ones lie behind the JSON, whose length `Inference-Header-Content-Length` then gives.",
    {
        "application/json": InferenceAnswer,
        "application/octet-stream": {"type": "string", "format": "binary"},
    },
    _ANSWERED,
)


def _of_model(
    id: str,  # noqa: A002
    method: Method,
    suffix: str,
    summary: str,
    reply: Reply,
    errors: tuple[int, ...],
    body: Body | None = None,
    headers: tuple[Parameter, ...] = (),
) -> tuple[Operation, Operation]:
    """The operation on a model, and the same on one of its versions."""
    path = "/v2/models/{model}"
    versioned = path + "/versions/{version}"
    of_version = f"{summary}, of one version"
    return (
        Operation(id, method, path + suffix, "v2", summary, {200: reply}, errors, (MODEL, *headers), body),
        Operation(
            f"{id}_version",
            method,
            versioned + suffix,
            "v2",
            of_version,
            {200: reply},
            errors,
            (MODEL, VERSION, *headers),
            body,
        ),
    )


_REPOSITORY = Parameter(
    "repository", "path", {"type": "string", "minLength": 1}, "any name; this node has one repository"
)
_EMPTY = Reply("Done.", None)
_SOME_OBJECT = Reply("What Triton's extension says of it.", {"application/json": {"type": "object"}})
_LOADING = Body(
    {"application/json": RepositoryRequest},
    "parameters: `config`, a string of JSON, and files as `file:1/model.onnx` in base64",
    required=False,
)
_UNLOADING = Body({"application/json": RepositoryRequest}, required=False)
_INDEX = Body({"application/json": IndexRequest}, "`ready` true leaves out what is not", required=False)
_ROWS = Reply("A row for each version.", {"application/json": list[IndexRow]})
_INFER = Body(
    {"application/json": InferenceRequest},
    "the JSON, and behind it binary tensors where the header Inference-Header-Content-Length gives the JSON's length; "
    "the whole may be gzip or deflate",
)
_GENERATE = Body(
    {"application/json": {"type": "object"}},
    "a member for each input: a value or a list; `id` and `parameters` are the request's",
)
_GENERATED = Reply(
    "A member for each output, besides `model_name`, `model_version` and `id`.",
    {"application/json": {"type": "object"}},
    _ANSWERED,
)
_CALLED = (404, 410, 413, 415, 429, 503, 504)
_LOADED = (404, 409, 413, 415, 422, 503, 504)
_UNLOADED = (404, 413, 415)


def _in_repository(
    id: str,  # noqa: A002
    path: str,
    summary: str,
    reply: Reply,
    errors: tuple[int, ...],
    parameters: tuple[Parameter, ...],
    body: Body,
) -> tuple[Operation, Operation]:
    """The operation, and the same with the repository's name in its path."""
    return (
        Operation(id, "POST", "/v2/repository" + path, "v2", summary, {200: reply}, errors, parameters, body),
        Operation(
            f"{id}_in",
            "POST",
            "/v2/repository/{repository}" + path,
            "v2",
            f"{summary}, in a repository",
            {200: reply},
            errors,
            (_REPOSITORY, *parameters),
            body,
        ),
    )


OPERATIONS = (
    Operation("v2_metadata", "GET", "/v2", "v2", "Say what this server is", {200: Reply("It.", ServerMetadata)}),
    Operation(
        "v2_live",
        "GET",
        "/v2/health/live",
        "v2",
        "Whether the node lives",
        {200: Reply("It does.", None)},
        open=True,
    ),
    Operation(
        "v2_ready",
        "GET",
        "/v2/health/ready",
        "v2",
        "Whether the node takes calls",
        {200: Reply("It does.", None), 503: Reply("It does not: it starts or drains.", None)},
        open=True,
    ),
    *_of_model("v2_model", "GET", "", "Describe a model", Reply("Its inputs and outputs.", ModelMetadata), (404,)),
    *_of_model("v2_model_ready", "GET", "/ready", "Whether a model can be called", Reply("It can.", None), (404,)),
    *_of_model("v2_config", "GET", "/config", "Show a model's configuration", _SOME_OBJECT, (404,)),
    *_of_model("v2_stats", "GET", "/stats", "Show a model's statistics", Reply("They.", ModelStatistics), (404,)),
    *_of_model("v2_infer", "POST", "/infer", "Infer", _INFERRED, _CALLED, _INFER, _PLACED),
    *_of_model("v2_generate", "POST", "/generate", "Infer, flat", _GENERATED, _CALLED, _GENERATE, _PLACED),
    *_of_model(
        "v2_generate_stream",
        "POST",
        "/generate_stream",
        "Infer, flat, as one server-sent event",
        Reply("The event.", {"text/event-stream": {"type": "string"}}, _ANSWERED),
        _CALLED,
        _GENERATE,
        _PLACED,
    ),
    Operation(
        "v2_model_tracing",
        "GET",
        "/v2/models/{model}/trace/setting",
        "v2",
        "Show a model's trace settings",
        {200: _SOME_OBJECT},
        (404,),
        (MODEL,),
    ),
    Operation(
        "v2_set_model_tracing",
        "POST",
        "/v2/models/{model}/trace/setting",
        "v2",
        "Change a model's trace settings",
        {200: _SOME_OBJECT},
        (404, 413, 415, 429),
        (MODEL,),
        Body({"application/json": {"type": "object"}}, "the settings to change; null clears one", required=False),
    ),
    Operation(
        "v2_all_stats",
        "GET",
        "/v2/models/stats",
        "v2",
        "Show every model's statistics",
        {200: Reply("They.", ModelStatistics)},
    ),
    *_in_repository("v2_index", "/index", "List what can be loaded", _ROWS, (413, 415), (), _INDEX),
    *_in_repository("v2_load", "/models/{model}/load", "Load a model", _EMPTY, _LOADED, (MODEL,), _LOADING),
    *_in_repository(
        "v2_unload", "/models/{model}/unload", "Unload a model", _EMPTY, (404, 413, 415), (MODEL,), _UNLOADING
    ),
)
