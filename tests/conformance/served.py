"""Models of a few operators, and how they come onto a node: for tests of what the fronts answer."""

import io
import zipfile
from typing import Any

import requests
from graphs import HEAD
from onnx import parser

# Adds one to each row; the rows of calls may share a run.
ADD_ONE = "g (float[N,3] x) => (float[N,3] y) <float[1] one = {1}> {y = Add(x, one)}"
ECHO_TEXT = "g (string[N] s) => (string[N] t) {t = Identity(s)}"
# Takes as long as `turns` says: each one is a product of two matrices of 64 x 64, some tens of microseconds.
SLOW = """g (int64 turns, float[64,64] x) => (float[64,64] y) <bool go = {1}> { y = Loop (turns, go, x)
<body = b (int64 i, bool c, float[64,64] v) => (bool d, float[64,64] w)
{d = Identity(c) \n p = MatMul(v, v) \n w = Tanh(p)}>}"""


def onnx_bytes(text: str) -> bytes:
    """The model file of a graph in ONNX's text form."""
    return bytes(parser.parse_model(HEAD + text).SerializeToString())


def bundle(model: bytes, **files: str) -> bytes:
    """A bundle of the model and text files, `labels_txt` for labels.txt and so on."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model.onnx", model)
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)
    return out.getvalue()


def deploy(node: Any, name: str, upload: bytes) -> None:
    """Deploys under `owner/name`; fails where the node refuses."""
    answer = requests.put(f"{node.url}/v1/models/{name}", upload, headers=node.headers, timeout=60)
    assert answer.ok, answer.text


def make_key(node: Any, *scopes: str) -> str:
    """A key of its own, with these scopes."""
    asked = {"label": "test", "scopes": scopes}
    answer = requests.post(f"{node.url}/v1/keys", json=asked, headers=node.headers, timeout=60)
    assert answer.ok, answer.text
    return str(answer.json()["key"])
