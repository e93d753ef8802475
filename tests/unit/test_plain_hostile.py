"""Whatever comes, under whatever type, is a tensor that fits the model or a sentence: nothing else gets out."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_cases import declares, outcome, takes

from appliance.core.errors import IngleError
from appliance.core.manifest import Manifest
from appliance.core.tensors import DTYPES, shape_fits
from appliance.workers.plain.content import tensors_from_content

TYPES = [
    "application/json",
    "text/csv",
    "text/plain",
    "text/plain; charset=utf-16",
    "image/png",
    "audio/wav",
    "",
    'a/b; =;;"',
    "é",
]
MODELS = [
    (takes(("x", "FP32", (-1, 3))), Manifest()),
    (takes(("x", "INT8", (-1,))), Manifest()),
    (takes(("x", "BYTES", ())), Manifest()),
    (takes(("x", "BOOL", (2, -1, 1))), Manifest()),
    (takes(("x", "FP16", (-1, 3, 2, 2))), Manifest()),
    (takes(("x", "BF16", (-1, 1)), ("y", "UINT64", (-1, 1))), Manifest()),
    (takes(("x", "FP64", (-1, 2))), declares({"name": "x", "as": "columns", "columns": ["a", "b"], "missing": 0})),
    (
        takes(("x", "INT32", (-1, 6))),
        declares({"name": "x", "as": "bytes", "head": 4, "tail": 2, "padding": 256, "strip": True}),
    ),
    (takes(("x", "FP32", (-1, -1))), declares({"name": "x", "as": "audio"})),
    (takes(("x", "BYTES", (-1,))), declares({"name": "x", "as": "text"})),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x", "y", "a", "b", "z"]), inner, max_size=3)
    ),
    max_leaves=12,
)
BODIES = st.one_of(
    st.binary(max_size=60),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.text(alphabet='ab12.,;-"\n\r\t eE[]{}', max_size=40).map(str.encode),
    st.binary(max_size=40).map(lambda rest: b"RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00" + rest),
    st.binary(max_size=40).map(lambda rest: b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + rest),
)


@pytest.mark.parametrize(("signature", "manifest"), MODELS)
@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(content_type=st.sampled_from(TYPES), body=BODIES)
def test_content_is_a_tensor_or_a_sentence(signature, manifest, content_type, body):
    tensors = outcome(tensors_from_content, content_type, memoryview(body), signature, manifest)
    if isinstance(tensors, IngleError):
        assert tensors.status in (400, 413, 415)
        assert len(tensors.sentence) < 2000
        return
    for spec in signature.inputs:
        tensor = tensors[spec.name]
        assert tensor.dtype == np.dtype(DTYPES[spec.dtype].numpy)
        assert shape_fits(spec.shape, tensor.shape)
