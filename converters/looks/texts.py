"""Models that are text: JSON, XML, and the forms of LibSVM, LightGBM and Darknet."""

import re

from converters.content import HEAD_BYTES, Content, parsed_json
from converters.detected import Detected
from converters.looks.refusals import refused

_GRAPH, _LAYERS = "a TensorFlow.js graph model", "a TensorFlow.js layers model"
_SPACE = b"\xef\xbb\xbf \t\r\n"


def plain(content: Content) -> Detected | None:
    """What tells itself in its first line."""
    head = content.head.lstrip(_SPACE)
    if re.match(rb"tree\r?\nversion=", head):
        return Detected(format="lightgbm", what="a LightGBM model")
    if head.startswith(b"svm_type "):
        return Detected(format="libsvm", what="a LibSVM model")
    if head.startswith(b"solver_type "):
        return Detected(format="liblinear", what="a LIBLINEAR model")
    if re.match(rb"(#[^\n]*\n|\s)*\[net(work)?\]\s", head):
        return refused("darknet")
    if re.match(rb'(#[^\n]*\n|\s)*name:\s*"[^"\n]*"', head) and re.search(rb"\blayers?\s*\{", head):
        return refused("caffe-prototxt")
    if re.match(rb"booster\[\d+\]:?\n", head) or re.match(rb"0:\[f?\w+<", head):
        return refused("xgboost-dump")
    if re.match(rb"Version \d+\.\d+\.\d+\nId ", head):
        return refused("vowpal-wabbit")
    return None


def xml(content: Content) -> Detected | None:
    """By the first element's name."""
    head = content.head.lstrip(_SPACE)
    if not head.startswith(b"<"):
        return None
    root = re.search(rb"<(?![?!])(?:[\w.-]+:)?([\w.-]+)", head)
    name = root[1] if root else b""
    if name == b"PMML":
        return Detected(format="pmml", what="a PMML document")
    if name == b"net" and b"<layers>" in head:
        return refused("openvino")
    if name.lower() in (b"html", b"body", b"head") or head.lower().startswith(b"<!doctype html"):
        way = "it was perhaps a download that failed: get the model's file itself"
        return Detected(format="html", what="a web page", refusal=way)
    return None


def json_text(content: Content) -> Detected | None:
    """By the keys of the outermost object; of a large file by those near its beginning and end."""
    head = content.head.lstrip(_SPACE)
    if not head.startswith((b"{", b"[")):
        return None
    if re.match(rb'\{\s*"learner"\s*:', head) or (
        re.match(rb'\{\s*"version"\s*:', head) and content.holds(b'"learner"')
    ):
        return Detected(format="xgboost-json", what="an XGBoost model in JSON")
    tail = content.read(max(0, content.size_bytes - HEAD_BYTES), HEAD_BYTES)
    if b'"oblivious_trees"' in head + tail or (b'"model_info"' in head + tail and b'"features_info"' in head + tail):
        return Detected(format="catboost-json", what="a CatBoost model in JSON")
    if re.match(rb'\{\s*"name"\s*:\s*"tree"', head) and b'"tree_info"' in head + tail:
        return refused("lightgbm-json")
    if b'"base_code"' in head[:4096] and b'"pir"' in head[:4096]:
        return Detected(format="paddle-pir", what="a Paddle model")
    if re.match(rb'\[\s*\{\s*"nodeid"', head):
        return refused("xgboost-dump")
    if re.match(rb'\{\s*"nodes"\s*:', head) and b'"arg_nodes"' in head + tail:
        return refused("mxnet")
    return json_model(content.read(0, content.size_bytes)) if content.size_bytes <= 4 * 2**20 else _large(head)


def _large(head: bytes) -> Detected | None:
    if re.search(rb'"format"\s*:\s*"graph-model"', head):
        return Detected(format="tfjs", what=_GRAPH)
    if re.search(rb'"format"\s*:\s*"layers-model"', head):
        return Detected(format="tfjs-layers", what=_LAYERS)
    return None


def json_model(text: bytes) -> Detected | None:
    """What a whole small JSON text says it is."""
    table = parsed_json(text)
    if not isinstance(table, dict):
        return None
    if "modelTopology" in table or table.get("format") in ("graph-model", "layers-model"):
        topology = table.get("modelTopology")
        layers = table.get("format") == "layers-model" or (isinstance(topology, dict) and "model_config" in topology)
        return Detected(format="tfjs-layers", what=_LAYERS) if layers else Detected(format="tfjs", what=_GRAPH)
    if "coefficients" in table and ("family" in table or "link" in table):
        return Detected(format="glm", what="a generalised linear model's coefficients")
    if "learner" in table:
        return Detected(format="xgboost-json", what="an XGBoost model in JSON")
    return None


LOOKS = (plain, xml, json_text)
