"""What a file is, is found out from its bytes: whatever it is called, and nothing of it is run."""

import os
import pickle
import random
import zlib
from pathlib import Path

import onnx
import pytest
from formats import FILES, FOLDERS, Planted, write_folder, zipped
from onnx import TensorProto, helper

from appliance.core.errors import NotFoundError, RefusedError
from converters.detected import Detected
from converters.detection import detect
from converters.looks.code import code
from converters.looks.pickles import classes_of
from converters.looks.refusals import _WAYS
from converters.registry import converter_of, converters

REFUSED = {"saved-model-file", "npz", "html", "torch-checkpoint", "torch-legacy", "pickle", "joblib", *_WAYS}


@pytest.mark.parametrize("word", FILES)
def test_a_file_is_known_by_its_bytes_alone(word: str, tmp_path: Path) -> None:
    for name in ("model", "model.onnx", "model.txt"):
        (tmp_path / name).write_bytes(FILES[word])
        detected = detect(tmp_path / name)
        assert detected.format == word
        assert bool(detected.refusal) == (word in REFUSED), detected


@pytest.mark.parametrize("word", FOLDERS)
def test_a_folder_is_known_by_what_lies_in_it(word: str, tmp_path: Path) -> None:
    assert detect(write_folder(tmp_path, FOLDERS[word])).format == word


def test_an_onnx_model_is_known_however_its_fields_lie(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [x])
    model = helper.make_model(graph, producer_name="pytorch", doc_string="d", domain="here", model_version=3)
    path = tmp_path / "frozen.pb"
    onnx.save_model(model, path)
    assert detect(path).format == "onnx"
    model.graph.node[0].doc_string = "long " * 50_000
    onnx.save_model(model, path)
    assert detect(path).format == "onnx"


@pytest.mark.parametrize("protocol", range(6))
def test_what_a_pickle_would_load_is_said_and_not_loaded(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(pickle.dumps({"model": Planted()}, protocol))
    detected = detect(path)
    assert (detected.format, detected.runs_code) == ("pickle", True)
    assert any(name.startswith("pathlib.") for name in detected.classes)
    assert "--trust" in detected.refusal
    assert not Path("/tmp/ingle-was-unpickled").exists()


def test_the_way_out_of_a_pickle_goes_with_its_framework(tmp_path: Path) -> None:
    for module, way in (("sklearn.svm._classes", "skops.io.dump"), ("xgboost.sklearn", "save_model('model.json')")):
        for content in (f"c{module}\nSVC\n.".encode(), zlib.compress(b"\x80\x04c" + f"{module}\nSVC\n.".encode())):
            (tmp_path / "m").write_bytes(content)
            detected = detect(tmp_path / "m")
            assert way in detected.refusal
            assert detected.classes == (f"{module}.SVC",)


def test_classes_behind_an_array_within_the_stream_are_found_too() -> None:
    first = pickle.dumps([Planted], 4)[:-1]
    after = b"\x8c\x0csklearn.tree\x94\x8c\x16DecisionTreeClassifier\x94\x93"
    assert "sklearn.tree.DecisionTreeClassifier" in classes_of(first + b"\xff\x00\xff" * 50 + after)


def test_a_pickled_module_in_a_checkpoint_takes_trust_and_plain_weights_do_not_help(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(zipped({"m/data.pkl": b"\x80\x02cmine.net\nNet\n)\x81.", "m/data/0": b""}))
    assert (detect(path).runs_code, detect(path).classes) == (True, ("mine.net.Net",))
    path.write_bytes(FILES["torch-checkpoint"])
    assert not detect(path).runs_code
    assert "torch.export" in detect(path).refusal


def test_a_lambda_layer_takes_trust(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(zipped({"metadata.json": b"{}", "config.json": b'{"layers": [{"class_name": "Lambda"}]}'}))
    assert detect(path).runs_code


def test_every_way_out_is_a_sentence_with_something_to_do() -> None:
    for word, (what, way) in _WAYS.items():
        assert what.startswith(("a ", "an ", "Paddle ")), word
        assert len(way) > 20, word


@pytest.mark.parametrize("word", [*FILES])
def test_files_that_are_cut_short_or_changed_are_no_fault_of_ours(word: str, tmp_path: Path) -> None:
    random_ = random.Random(word)
    content, path = FILES[word], tmp_path / "m"
    cuts = [content[:size] for size in {1, 2, 4, 8, len(content) // 2, len(content) - 1}]
    changed = []
    for _ in range(20):
        data = bytearray(content)
        data[random_.randrange(len(data))] = random_.randrange(256)
        changed.append(bytes(data))
    for data in (*cuts, *changed):
        path.write_bytes(data)
        try:
            assert detect(path).format
        except RefusedError as error:
            assert "known here" in error.sentence or "empty" in error.sentence  # noqa: PT017


def test_hostile_files_get_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "m"
    hostile = {
        "deep JSON": b"[" * 3_000_000,
        "JSON that never closes": b'{"a":' * 500_000,
        "a bomb": zlib.compress(bytes(50_000_000)),
        "a ZIP without its list": zipped({"a": b"x" * 1000})[:-30],
        "a field that says it is endless": b"\x08\x08\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        "a varint without end": b"\x08" + b"\xff" * 1000,
        "noise": random.Random(3).randbytes(100_000),
    }
    for name, content in hostile.items():
        path.write_bytes(content)
        try:
            detected = detect(path)
        except RefusedError:
            continue
        assert detected.refusal, name


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is not there"):
        detect(tmp_path / "nothing")
    (tmp_path / "empty").touch()
    with pytest.raises(RefusedError, match="empty"):
        detect(tmp_path / "empty")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RefusedError, match="neither a file nor a folder"):
        detect(tmp_path / "pipe")


def test_a_link_out_of_a_folder_is_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_bytes(FOLDERS["hugging-face"]["config.json"])
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").symlink_to(secret)
    (folder / "model.safetensors").touch()
    found = detect(folder)
    assert (found.format, found.facts) == ("hugging-face-cache", {})
    assert "--local-dir" in found.refusal
    (folder / "config.json").unlink()
    (folder / "model.json").symlink_to(secret)
    with pytest.raises(RefusedError):
        detect(folder)


CODE = {
    "import torch\nfrom torch import nn": "torch",
    "import numpy\nfrom flax import nnx\nimport jax.numpy as jnp": "jax",
    "def make():\n    import equinox": "jax",
    "import torch, jax": "",
    "from . import jax": "",
    "import numpy": "",
    "def broken(:": "",
    "(" * 5000: "",
}


@pytest.mark.parametrize("source", CODE)
def test_whose_a_model_given_as_code_is_its_imports_say_and_nothing_of_it_is_run(source: str, tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    for file in (tmp_path / "net.py", tmp_path / "nets" / "__init__.py"):
        file.write_text(f"{source}\nopen({str(tmp_path / 'planted')!r}, 'w')\n")
    for module in ("net", "nets"):
        found = code(module, "make", tmp_path)
        assert (found.format, found.framework) == ("code", CODE[source])
    assert not (tmp_path / "planted").exists()
    assert code("elsewhere", "make", tmp_path).framework == ""


def test_code_of_no_seen_framework_is_for_the_one_that_is_installed_or_is_asked_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unknown = Detected(format="code", what="a model given as code")
    torch, jax = converters()["torch"], converters()["jax"]
    monkeypatch.setattr(type(torch), "missing", lambda self: ("torch",))
    monkeypatch.setattr(type(jax), "missing", lambda self: ())
    assert converter_of(unknown) is jax
    assert converter_of(unknown, name="torch") is torch
    assert converter_of(Detected(format="code", what="code", framework="torch")) is torch
    monkeypatch.setattr(type(jax), "missing", lambda self: ("jax",))
    with pytest.raises(RefusedError, match="--framework jax or --framework torch"):
        converter_of(unknown)
