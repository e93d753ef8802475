"""What a V2 request's parameters say of the call, alike from REST and gRPC."""

import json

import pytest
from tritonclient.grpc import service_pb2 as pb

from appliance.core.errors import BadInputError
from appliance.gateway.grpc_codec import plain_parameters, to_call
from appliance.gateway.peers import NOBODY
from appliance.gateway.shared_memory import SharedMemory
from appliance.gateway.v2_infer import read_infer
from appliance.gateway.v2_parameters import MAX_PRIORITY, CallParameters, read_parameters
from appliance.security.scopes import ANONYMOUS

NO_MEMORY = SharedMemory(allowed=False, max_bytes=0).of(ANONYMOUS, NOBODY)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, CallParameters(0.0, 0)),
        ({"timeout": 1_500_000}, CallParameters(1.5, 0)),
        ({"timeout": 0, "priority": 0}, CallParameters(0.0, 0)),
        ({"priority": 1}, CallParameters(0.0, 1)),
        ({"priority": MAX_PRIORITY, "custom": "word"}, CallParameters(0.0, MAX_PRIORITY)),
    ],
)
def test_timeout_and_priority_are_read(given: dict[str, object], found: CallParameters) -> None:
    assert read_parameters(given) == found


@pytest.mark.parametrize("name", ["timeout", "priority"])
@pytest.mark.parametrize("value", [-1, 1.5, True, "soon", None, [1], 2**63])
def test_what_is_no_whole_number_is_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(BadInputError, match=f"the parameter {name} is"):
        read_parameters({name: value})


def test_rest_and_grpc_fill_the_call_alike() -> None:
    asked = {"inputs": [], "parameters": {"priority": 3, "timeout": 20_000}}
    by_rest = read_infer(json.dumps(asked).encode(), None, "m", "", NO_MEMORY).call
    message = pb.ModelInferRequest(model_name="m")
    message.parameters["priority"].uint64_param = 3
    message.parameters["timeout"].int64_param = 20_000
    by_grpc = to_call(message, NO_MEMORY)
    assert (by_rest.priority, by_rest.deadline_s) == (by_grpc.priority, by_grpc.deadline_s) == (3, 0.02)


def test_a_parameter_without_a_value_counts_as_not_given() -> None:
    assert plain_parameters({"priority": pb.InferParameter()}) == {}
