"""A deploy's wish for its version: read from the query, made into traffic."""

import pytest
from aiohttp.test_utils import make_mocked_request

from appliance.core.errors import BadInputError, ConflictError
from appliance.core.manifest import Manifest
from appliance.core.models import ModelVersion
from appliance.core.names import parse_name
from appliance.core.tensors import Signature
from appliance.core.traffic import TO_THE_DEFAULT, Traffic
from appliance.core.versions import parse_version
from appliance.gateway.trial import NONE, Trial, asked_trial


def version(text: str, ordinal: int) -> ModelVersion:
    return ModelVersion(
        name=parse_name("me/m"),
        version=parse_version(text),
        ordinal=ordinal,
        digest="0" * 64,
        folder="",
        size_bytes=1,
        signature=Signature((), ()),
        manifest=Manifest(),
        batchable=False,
        batch_reason="",
        created_s=0.0,
        source="deploy",
    )


OLD, NEW = version("1.0.0", 1), version("1.1.0", 2)


@pytest.mark.parametrize(
    ("query", "trial"),
    [
        ("", NONE),
        ("canary_share=0.05", Trial(0.05)),
        ("canary_share=5e-2&max_error_share=0.02&max_latency_ratio=1.5&least_calls=10", Trial(0.05, 0.02, 1.5, 10)),
        ("canary_share=1", Trial(1.0)),
    ],
)
def test_a_trial_is_read_from_the_query(query: str, trial: Trial) -> None:
    assert asked_trial(make_mocked_request("PUT", f"/v1/models/m?{query}")) == trial


@pytest.mark.parametrize(
    "query",
    [
        "canary_share=",
        "canary_share=5%25",
        "canary_share=-1",
        "canary_share=1.1",
        "canary_share=nan",
        "least_calls=1.5",
        "max_latency_ratio=1e99",
        "canary_share=%D9%A1",
        "max_error_share=inf",
    ],
)
def test_what_is_no_such_number_is_refused_with_what_would_be(query: str) -> None:
    with pytest.raises(BadInputError, match="expected a"):
        asked_trial(make_mocked_request("PUT", f"/v1/models/m?{query}"))


@pytest.mark.parametrize(
    ("trial", "present", "traffic"),
    [
        (Trial(0.05), TO_THE_DEFAULT, Traffic(canary="1.1.0", canary_share=0.05)),
        (Trial(0.05, 0.02, 1.5, 10), TO_THE_DEFAULT, Traffic("1.1.0", 0.05, "", 1.0, "", 0.02, 1.5, 10)),
        (Trial(0.0, 0.02), TO_THE_DEFAULT, Traffic(return_to="1.0.0", max_error_share=0.02)),
        (Trial(0.05), Traffic(canary="0.9.0", canary_share=0.5, ended="it failed"), Traffic("1.1.0", 0.05)),
        (Trial(0.05), Traffic(shadow="2.0.0", shadow_share=0.1), Traffic("1.1.0", 0.05, "2.0.0", 0.1)),
        (Trial(0.05), Traffic(shadow="1.1.0", shadow_share=0.1), Traffic("1.1.0", 0.05)),
    ],
)
def test_a_trial_takes_the_place_of_another_and_leaves_a_shadow(
    trial: Trial, present: Traffic, traffic: Traffic
) -> None:
    assert trial.traffic(present, NEW, OLD) == traffic


def test_a_version_is_not_tried_against_itself() -> None:
    with pytest.raises(ConflictError, match="already"):
        Trial(0.05).traffic(TO_THE_DEFAULT, OLD, OLD)
