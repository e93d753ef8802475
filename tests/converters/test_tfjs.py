"""TensorFlow.js' models become ONNX that answers as TensorFlow does, and as TensorFlow.js itself did.

`originals/tfjs.json` has what @tensorflow/tfjs 3.21 answered in Node.js: for the layers models in `originals/tfjs/`,
which it wrote, and for graph models of npm packages.
"""

import base64
import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.core.errors import RefusedError
from converters import isolation, tfjs_file
from converters.detection import detect
from converters.frameworks.tfjs import CONVERTER
from converters.isolation import Limits
from converters.job import Job
from converters.options import Options
from converters.registry import converter_of
from converters.session import Session
from tests.converters.converting import compared, conversion, refused

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed: 'make test-nets' has it")
pytest.importorskip("tf2onnx", reason="tf2onnx is not installed: 'make test-nets' has it")

pytestmark = pytest.mark.filterwarnings("ignore")

ORIGINALS = Path(__file__).with_name("originals")
ANSWERS = json.loads((ORIGINALS / "tfjs.json").read_text())


def made_up(shape: tuple[int, ...], step: int = 37, below: int = 101, divisor: float = 101.0) -> NDArray[np.float32]:
    """The numbers that TensorFlow.js was asked with."""
    numbers = np.arange(np.prod(shape)) * step % below
    return (numbers / divisor).astype(np.float32).reshape(shape)


LAYERS: dict[str, dict[str, NDArray[np.float32]]] = {
    "pictures": {"conv2d_Conv2D1_input": made_up((2, 12, 12, 3))},
    "words": {"ids": made_up((2, 6), 7, 20, 1.0), "x": made_up((2, 4))},
    "nested": {"input": made_up((2, 4))},
    "gru": {"gru_GRU1_input": made_up((2, 5, 3))},
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layers_model_that_tensorflow_js_wrote_answers_as_it_did_there(name: str, tmp_path: Path) -> None:
    folder = ORIGINALS / "tfjs" / name
    assert detect(folder).format == "tfjs-layers"
    made = conversion(CONVERTER, folder, "tfjs-layers", tmp_path / "to")
    assert compared(made, CONVERTER, f"layers model: {name}").within
    answers = Session(made.model).run(LAYERS[name])
    for found, told in zip(answers.values(), ANSWERS["layers"][name], strict=True):
        assert found.ravel() == pytest.approx(told, rel=1e-5, abs=1e-6)


# Of npm packages, whose code is not run. What the refusals' sentences say, or "" where it converts.
HUMAN = "vladmandic-human-3.3.6/models"
PACKAGES = {
    f"{HUMAN}/antispoof.json": "",
    f"{HUMAN}/blazeface.json": "",
    f"{HUMAN}/emotion.json": "",
    f"{HUMAN}/facemesh.json": "",
    f"{HUMAN}/faceres.json": "",
    f"{HUMAN}/handlandmark-lite.json": "",
    f"{HUMAN}/handtrack.json": "tf2onnx cannot convert|no translation",
    f"{HUMAN}/iris.json": "",
    f"{HUMAN}/liveness.json": "",
    f"{HUMAN}/movenet-lightning.json": "",
    "vscode-vscode-languagedetection-1.0.23/model/model.json": "fills tables|no translation|cannot",
}


def packaged(name: str) -> Path:
    path = Path(sys.prefix) / "npm" / name
    if not path.is_file():
        pytest.skip("the npm packages' models are not there: 'make test-nets' has them, where npm is installed")
    return path


def family(name: str) -> str:
    package, _, file = name.partition("/")
    return f"{package.rpartition('-')[0]}: {Path(file).stem if Path(file).stem != 'model' else 'its model'}"


@pytest.mark.parametrize("name", PACKAGES)
def test_a_model_of_an_npm_package_answers_as_before_or_is_refused_by_its_operators(name: str, tmp_path: Path) -> None:
    path = packaged(name)
    assert detect(path).format == "tfjs"
    if PACKAGES[name]:
        refused(CONVERTER, path, "tfjs", tmp_path / "to", family(name), PACKAGES[name])
    else:
        assert compared(conversion(CONVERTER, path, "tfjs", tmp_path / "to"), CONVERTER, family(name), rows=4).within


# Equals in another order; quiet parts of sounds, whose rounding a logarithm makes large.
OTHERWISE = (f"{HUMAN}/centernet.json", "spotify-basic-pitch-1.0.1/model/model.json")


@pytest.mark.parametrize("name", OTHERWISE)
def test_a_model_of_an_npm_package_that_comes_out_otherwise_is_seen_by_the_comparison(
    name: str, tmp_path: Path
) -> None:
    made = conversion(CONVERTER, packaged(name), "tfjs", tmp_path / "to")
    assert not compared(made, CONVERTER, family(name), rows=4).within


@pytest.mark.parametrize("name", ANSWERS["graphs"])
def test_a_graph_model_answers_as_tensorflow_js_itself_did(name: str, tmp_path: Path) -> None:
    made = conversion(CONVERTER, packaged(f"{HUMAN}/{name}.json"), "tfjs", tmp_path / "to")
    session = Session(made.model)
    (spec,) = session.signature.inputs
    shape = tuple(max(1, size) for size in spec.shape)
    whole = spec.dtype == "INT32"
    asked = made_up(shape, 37, 256, 1.0).astype(np.int32) if whole else made_up(shape)
    answers = [answer.ravel()[:8] for answer in session.run({spec.name: asked}).values()]
    for told in ANSWERS["graphs"][name].values():
        near = [np.allclose(answer, told, rtol=1e-4, atol=1e-4) for answer in answers if len(answer) == len(told)]
        assert any(near), told


class Net(tf.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        self.kernel = tf.Variable(tf.random.normal((3, 3, 3, 8), seed=1))
        self.bias = tf.Variable(tf.random.normal((8,), seed=3))
        self.out = tf.Variable(tf.random.normal((8, 4), seed=2))

    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), name="image")])
    def call(self, image: Any) -> dict[str, Any]:
        found = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(image, self.kernel, 2, "SAME"), self.bias))
        return {"classes": tf.nn.softmax(tf.reduce_mean(found, (1, 2)) @ self.out)}


NET = Net()


def written(folder: Path, *, quantised: str = "", shards: int = 1, old: bool = False) -> Path:
    """A graph model as TensorFlow.js' converter writes one: constants without values, these in shards beside it."""
    from google.protobuf import json_format
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = convert_variables_to_constants_v2(NET.call.get_concrete_function())
    graph = function.graph.as_graph_def()
    data, entries = b"", []
    for node in graph.node:
        if node.op == "Const":
            array = tf.make_ndarray(node.attr["value"].tensor)
            entry: dict[str, Any] = {"name": node.name, "shape": list(array.shape), "dtype": str(array.dtype)}
            if quantised and array.dtype == np.float32:
                array, entry["quantization"] = quantise(array, quantised)
            data += array.tobytes()
            entries.append(entry)
            node.attr["value"].tensor.ClearField("tensor_content")
            node.attr["value"].tensor.ClearField("float_val")
            node.attr["value"].tensor.ClearField("int_val")
    topology = json_format.MessageToDict(graph)
    if old:
        for node in topology["node"]:
            for value in node["attr"].values():
                if "s" in value:
                    value["s"] = list(base64.b64decode(value["s"]))
    names = [f"group1-shard{index + 1}of{shards}.bin" for index in range(shards)]
    folder.mkdir()
    size = -(-len(data) // shards)
    for index, name in enumerate(names):
        (folder / name).write_bytes(data[index * size : (index + 1) * size])
    signature = {
        "inputs": {"image": {"name": function.inputs[0].name}},
        "outputs": {"classes": {"name": function.outputs[0].name}},
    }
    table = {
        "format": "graph-model",
        "signature": signature,
        "modelTopology": topology,
        "weightsManifest": [{"paths": names, "weights": entries}],
    }
    (folder / "model.json").write_text(json.dumps(table))
    return folder


def quantise(array: NDArray[Any], word: str) -> tuple[NDArray[Any], dict[str, Any]]:
    if word == "float16":
        return array.astype(np.float16), {"dtype": "float16", "original_dtype": "float32"}
    scale = float(array.max() - array.min()) / np.iinfo(word).max
    least = float(array.min())
    return np.round((array - least) / scale).astype(word), {"dtype": word, "scale": scale, "min": least}


@pytest.mark.parametrize("quantised", ["", "float16", "uint8", "uint16"])
def test_a_graph_model_answers_as_tensorflow_with_its_weights_however_they_are_stored(
    quantised: str, tmp_path: Path
) -> None:
    folder = written(tmp_path / "model", quantised=quantised, shards=3, old=quantised == "uint8")
    assert detect(folder).format == detect(folder / "model.json").format == "tfjs"
    made = conversion(CONVERTER, folder, "tfjs", tmp_path / "to")
    report = compared(made, CONVERTER, f"graph model: convolutions{quantised and ', ' + quantised}", rows=24)
    assert report.within
    assert [output.name for output in report.outputs] == ["classes"]
    image = made_up((1, 16, 16, 3))
    answer = Session(made.model).run({"image": image})["classes"]
    assert answer == pytest.approx(NET.call(image)["classes"].numpy(), abs=0.05 if quantised else 1e-6)


FUSED: dict[str, dict[str, Any]] = {
    "Prelu": {"op": "_FusedConv2D", "steps": ["BiasAdd", "Prelu"], "more": ["bias", "alpha"]},
    "LeakyRelu": {"op": "_FusedConv2D", "steps": ["BiasAdd", "LeakyRelu"], "more": ["bias"]},
    "Relu6": {"op": "FusedDepthwiseConv2dNative", "steps": ["BiasAdd", "Relu6"], "more": ["bias"]},
    "no bias": {"op": "FusedDepthwiseConv2dNative", "steps": ["NoOp", "Relu6"], "more": []},
}


@pytest.mark.parametrize("name", FUSED)
def test_what_tensorflow_js_fuses_is_taken_apart_into_the_same(name: str, tmp_path: Path) -> None:
    case, depthwise = FUSED[name], FUSED[name]["op"].startswith("FusedDepthwise")
    random = np.random.default_rng(0)
    kernel = random.normal(size=(3, 3, 4, 1) if depthwise else (3, 3, 4, 4)).astype(np.float32)
    weights = {"kernel": kernel, "bias": made_up((4,)), "alpha": made_up((4,)) - 0.3}
    weights = {key: weights[key] for key in ("kernel", *case["more"])}
    nodes: list[dict[str, Any]] = [
        {"name": "x", "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"}, "shape": {"shape": {"dim": [
            {"size": "-1"}, {"size": "8"}, {"size": "8"}, {"size": "4"}]}}}},
        *({"name": key, "op": "Const", "attr": {"dtype": {"type": "DT_FLOAT"}, "value": {"tensor": {}}}}
          for key in weights),
        {"name": "y", "op": case["op"], "input": ["x", *weights], "attr": {
            "T": {"type": "DT_FLOAT"}, "strides": {"list": {"i": ["1", "1", "1", "1"]}},
            "padding": {"s": base64.b64encode(b"SAME").decode()}, "leakyrelu_alpha": {"f": 0.3},
            "fused_ops": {"list": {"s": [base64.b64encode(step.encode()).decode() for step in case["steps"]]}}}},
    ]  # fmt: skip
    entries = [{"name": key, "shape": list(array.shape), "dtype": "float32"} for key, array in weights.items()]
    table = {"modelTopology": {"node": nodes}, "weightsManifest": [{"paths": ["w.bin"], "weights": entries}]}
    (tmp_path / "w.bin").write_bytes(b"".join(array.tobytes() for array in weights.values()))
    (tmp_path / "model.json").write_text(json.dumps(table))
    made = conversion(CONVERTER, tmp_path / "model.json", "tfjs", tmp_path / "to")
    assert compared(made, CONVERTER, f"graph model: {case['op']} with {name}", rows=24).within
    x = (random.normal(size=(2, 8, 8, 4)) * 4).astype(np.float32)
    raw = tf.nn.depthwise_conv2d(x, kernel, [1] * 4, "SAME") if depthwise else tf.nn.conv2d(x, kernel, 1, "SAME")
    raw = raw.numpy() + weights.get("bias", 0)
    wanted = {
        "Prelu": lambda: np.where(raw > 0, raw, raw * weights["alpha"]),
        "LeakyRelu": lambda: np.where(raw > 0, raw, raw * np.float32(0.3)),
        "Relu6": lambda: np.clip(raw, 0, 6),
        "no bias": lambda: np.clip(raw, 0, 6),
    }[name]()
    assert Session(made.model).run({"x": x})["y"] == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def changed(table: dict[str, Any], what: str) -> dict[str, Any]:
    table = copy.deepcopy(table)
    (group,) = table["weightsManifest"]
    if what == "renamed":
        group["weights"][0]["name"] = "another"
    elif what == "too large":
        group["weights"][0]["shape"] = [2**40, 2**40]
    elif what == "negative":
        group["weights"][0]["shape"] = [-4, -4]
    elif what == "too few":
        del group["weights"][-1]
    elif what == "unknown dtype":
        group["weights"][0]["dtype"] = "object"
    elif what == "unknown operator":
        table["modelTopology"]["node"][-1]["op"] = "MatrixOfLies"
    elif what == "no graph":
        table["modelTopology"] = {"node": "none"}
    elif what == "signature":
        table["signature"]["outputs"] = {"y": {"name": "nowhere:0"}}
    else:
        group["paths"] = [what]
    return table


BROKEN = {
    "renamed": "has no value: no weight",
    "too large": "ends beyond its shards",
    "negative": "no shape of whole numbers",
    "too few": "have .* bytes, and model.json tells of",
    "unknown dtype": "is of 'object'",
    "unknown operator": "MatrixOfLies",
    "no graph": "no graph in it",
    "signature": "which it lacks",
    "gone.bin": "is not there",
    "../secret.bin": "outside the model's folder",
    "/etc/passwd": "outside the model's folder",
    "linked.bin": "outside the model's folder",
    "https://example.org/group1": "expected a file's name",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_model_that_lies_is_refused_with_what_is_wrong(what: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "model")
    (tmp_path / "secret.bin").write_bytes((folder / "group1-shard1of1.bin").read_bytes())
    (folder / "linked.bin").symlink_to(tmp_path / "secret.bin")
    table = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(changed(table, what)))
    with pytest.raises(RefusedError, match=BROKEN[what]):
        conversion(CONVERTER, folder, "tfjs", tmp_path / "to")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_files_that_were_cut_short_are_refused(share: float, tmp_path: Path) -> None:
    folder = written(tmp_path / "model")
    for name, match in (("group1-shard1of1.bin", "ends beyond its shards"), ("model.json", "no whole JSON")):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(RefusedError, match=match):
            tfjs_file.read(folder)
        (folder / name).write_bytes(whole)


def test_a_layers_model_with_other_weights_or_layers_is_refused(tmp_path: Path) -> None:
    whole = json.loads((ORIGINALS / "tfjs" / "nested" / "model.json").read_text())
    data = b"".join(path.read_bytes() for path in sorted((ORIGINALS / "tfjs" / "nested").glob("*.bin")))
    for number, (old, new, match) in enumerate(
        [
            ('"class_name": "Dense"', '"class_name": "Lambda"', "Lambda"),
            ('"class_name": "Dense"', '"class_name": "Mine"', "Keras cannot build"),
            ('"units": 5', '"units": 6', "no weight for"),
            ('"units": 5', '"units": 5, "axis": [1, 2]', "goes along 2 axes"),
            ('"use_bias": true', '"use_bias": false', "weights that no layer takes"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        whole["weightsManifest"][0]["paths"] = ["all.bin"]
        (folder / "all.bin").write_bytes(data)
        text = json.dumps(whole)
        assert old in text
        (folder / "model.json").write_text(text.replace(old, new))
        with pytest.raises(RefusedError, match=match):
            conversion(CONVERTER, folder, "tfjs-layers", folder / "to")


def test_a_model_is_converted_in_its_confined_process_with_its_shards_beside_it(tmp_path: Path) -> None:
    folder = written(tmp_path / "model", shards=2)
    detected = detect(folder / "model.json")
    assert converter_of(detected) is CONVERTER
    with isolation.workplace() as work:
        job = Job(
            source=str(folder / "model.json"), detected=detected, framework="tfjs", folder=str(work / "bundle"),
            options=Options(),
        )  # fmt: skip
        assert isolation.run(job, Limits(seconds=240)).record.parity.within
