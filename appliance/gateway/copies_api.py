"""Copies of models in the mesh, over HTTP: what is wished of them, where they are, and how those on their way fare.

Runs in the gateway. What is wished is said with a deploy; what is made is copies.py's. A key sees the models that it
may call.
"""

import re

from aiohttp import web

from appliance.core.copy_wish import MAX_REPLICAS, CopyWish, parse_places
from appliance.core.errors import BadInputError
from appliance.core.names import parse_name
from appliance.gateway.answers import CopyList, CopyProgress, VersionCopies
from appliance.gateway.asked import who
from appliance.gateway.copy_states import CopyState
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.operations import Operation, Parameter, Reply
from appliance.gateway.patterns import NAME, WORD, whole
from appliance.gateway.replies import json_reply

_PLACE = f"(tag:)?{WORD}"

PARAMETERS = (
    Parameter(
        "replicas",
        "query",
        {"type": "integer", "minimum": 0, "maximum": MAX_REPLICAS},
        "on how many nodes of the mesh each of the model's versions is to lie (0: nothing is wished, or one on each "
        "node that `on` means)",
    ),
    Parameter(
        "on",
        "query",
        {"type": "string", "pattern": whole(f"({_PLACE}(,{_PLACE}){{0,63}})?")},
        "which nodes are to have copies: names, ids and `tag:WORD`, separated by commas",
    ),
)

_MODEL = Parameter(
    "model", "query", {"type": "string", "pattern": whole(f"{NAME}(/{NAME})?")}, "only this model's: `owner/name`"
)
OPERATIONS = (
    Operation(
        "list_copies",
        "GET",
        "/v1/copies",
        "models",
        "Show which copies of models are wished in the mesh, where they are, and those on their way",
        {200: Reply("By model and version.", CopyList)},
        parameters=(
            Parameter(
                "model",
                "query",
                {"type": "string", "pattern": whole(f"{NAME}(/{NAME})?")},
                "only this model's: `owner/name`",
            ),
        ),
    ),
)
_COUNT = re.compile(r"(0|[1-9]\d{0,6})(\.0)?", re.ASCII)  # 2.0 is whole in JSON Schema


def asked_wish(request: web.Request) -> CopyWish:
    """What the query asks for. Raises BadInputError."""
    text = request.query.get("replicas", "0")
    count = int(text.removesuffix(".0")) if _COUNT.fullmatch(text) else -1
    if not 0 <= count <= MAX_REPLICAS:
        raise BadInputError(f"replicas is '{text[:40]}': expected a whole number from 0 to {MAX_REPLICAS}")
    return CopyWish(count, parse_places(request.query.get("on", "")))


class CopiesApi:
    """The handler, over one data plane."""

    def __init__(self, dataplane: DataPlane) -> None:
        self._dataplane = dataplane

    async def list_copies(self, request: web.Request) -> web.Response:
        principal = who(request, self._dataplane)
        only = request.query.get("model")
        name = None if only is None else parse_name(only)
        copies = self._dataplane.deployer.copies
        states = copies.states(lambda model: principal.allows("call", model)) if copies else []
        return json_reply(CopyList([_described(state) for state in states if name in (None, state.model.name)]))


def _described(state: CopyState) -> VersionCopies:
    model = state.model
    return VersionCopies(
        model=str(model.name),
        version=str(model.version),
        digest=model.digest,
        size_bytes=model.size_bytes,
        replicas=state.wish.replicas,
        on=list(state.wish.on),
        nodes=sorted(state.nodes),
        lacking=state.lacking,
        making=[
            CopyProgress(m.node, m.step, m.done_bytes, m.bytes_per_s, list(m.sources), m.reason) for m in state.making
        ],
    )
