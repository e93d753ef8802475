"""What a GET on a model says: content types that are true, an example that works."""

import shlex
import subprocess
import sys

import pytest
from plain_cases import declares, takes

from appliance.core.manifest import Manifest
from appliance.workers.plain.content import tensors_from_content
from appliance.workers.plain.example import usage

PICTURES = ["image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif"]
ROWS = takes(("x", "FP32", (-1, 4)))
TABLE = declares({"name": "x", "as": "columns", "columns": ["it's a", 'b,"c"', "d\\n", "e"]})
COLUMNS = takes(("age", "INT64", (-1, 1)), ("city", "BYTES", (-1, 1)), ("member", "BOOL", (-1, 1)))

ACCEPTED = [
    (ROWS, Manifest(), ["application/json", "text/csv"]),
    (ROWS, TABLE, ["text/csv", "application/json"]),
    (COLUMNS, Manifest(), ["application/json", "text/csv"]),
    (takes(("x", "FP32", (-1, 3, 8, 8))), Manifest(), [*PICTURES, "application/json"]),
    (
        takes(("x", "FP32", (-1, -1, -1, -1))),
        declares({"name": "x", "as": "image", "layout": "NCHW"}),
        [*PICTURES, "application/json"],
    ),
    (takes(("x", "FP32", (-1, -1))), declares({"name": "x", "as": "audio"}), ["audio/wav", "application/json"]),
    (takes(("x", "BYTES", (-1,))), Manifest(), ["text/plain", "application/json"]),
    (
        takes(("x", "INT32", (-1, 8))),
        declares({"name": "x", "as": "bytes"}),
        ["application/octet-stream", "application/json"],
    ),
    (takes(("x", "FP32", (-1, 2)), ("y", "FP32", (-1, 2))), Manifest(), ["application/json"]),
    (
        takes(("x", "FP32", (-1, 3, 8, 8)), ("y", "FP32", (-1, 1))),
        declares({"name": "x", "as": "image"}),
        ["application/json"],
    ),
    (takes(("x", "FP32", (-1, 2, 2))), Manifest(), ["application/json"]),
]


@pytest.mark.parametrize(("signature", "manifest", "accepts"), ACCEPTED)
def test_the_content_types_are_those_the_model_takes(signature, manifest, accepts):
    assert usage(signature, manifest)["accepts"] == accepts


@pytest.mark.parametrize(
    ("signature", "manifest"),
    [
        *(row[:2] for row in ACCEPTED[:3]),
        (takes(("x", "BYTES", (-1,))), Manifest()),
        (takes(("x", "FP32", (-1, 2)), ("y", "UINT8", (3, 2))), Manifest()),
        (takes(("x", "BOOL", ())), Manifest()),
        (takes(("x", "BF16", (-1, -1))), Manifest()),
        (ROWS, Manifest(sample={"x": [[1, 2, 3, 4]]})),
        (ROWS, declares({"name": "x", "as": "columns", "columns": ["a", "b", "c", "d"]}, sample={"x": [[1, 2, 3, 4]]})),
    ],
)
def test_the_example_is_taken_by_the_model_itself(signature, manifest):
    shown = usage(signature, manifest)
    example = shown["example"]
    tensors = tensors_from_content(example["content_type"], example["body"].encode(), signature, manifest)
    assert set(tensors) == {spec.name for spec in signature.inputs}
    # The line is what a shell would read: the same body.
    words = subprocess.run(
        ["bash", "-c", "printf '%s\\0' " + shown["curl"].replace("{url}", "http://127.0.0.1/v1/models/a/b")],
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split("\0")
    assert words[words.index("--data-binary") + 1] == example["body"]
    assert words[:2] == ["curl", "http://127.0.0.1/v1/models/a/b"]


def test_files_are_sent_from_disk():
    shown = usage(takes(("x", "FP32", (-1, 3, 8, 8))), Manifest())
    assert shlex.split(shown["curl"])[-2:] == ["--data-binary", "@picture.jpg"]
    assert "Content-Type: image/jpeg" in shown["curl"]


def test_large_inputs_are_described_and_not_spelled_out():
    shown = usage(takes(("x", "FP32", (-1, 1000, 1000))), Manifest())
    assert len(shown["example"]["body"]) < 200
    assert shown["curl"].endswith("@values.json")


def test_a_sample_is_the_example():
    assert usage(ROWS, Manifest(sample={"x": [[1, 2, 3, 4]]}))["example"]["body"] == '{"x": [[1, 2, 3, 4]]}'


def test_usage_is_told_without_numpy():
    """The gateway asks for it, and runs without numpy."""
    code = "import sys, appliance.workers.plain.example; sys.exit('numpy' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
