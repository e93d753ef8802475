"""What `ingle deploy` sends: what belongs to a model is found, and packed so that any ZIP reader can read it."""

import io
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.catalogue.packing import find_package, stream
from appliance.core.errors import BadInputError, RefusedError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """`y = x + w` with `w` in the file."""
    return write_model(tmp_path / "plus.onnx")


def write_model(path: Path, external: str = "") -> Path:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1024]) for name in "xy")
    w = numpy_helper.from_array(np.arange(1024, dtype=np.float32), "w")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "plus", [x], [y], [w])
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save_model(whole, path, save_as_external_data=bool(external), location=external or None, size_threshold=0)
    return path


def sent(source: Path, manifest: Path | None = None, labels: Path | None = None) -> bytes:
    return b"".join(stream(find_package(source, manifest, labels)))


def members(upload: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(upload)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_file_that_needs_nothing_is_sent_as_it_is(model: Path) -> None:
    assert sent(model) == model.read_bytes()


def test_external_data_comes_along(tmp_path: Path) -> None:
    model = write_model(tmp_path / "plus.onnx", external="plus.weights")
    assert members(sent(model)) == {
        "model.onnx": model.read_bytes(),
        "plus.weights": (tmp_path / "plus.weights").read_bytes(),
    }


def test_missing_external_data_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    model = write_model(tmp_path / "plus.onnx", external="plus.weights")
    (tmp_path / "plus.weights").unlink()
    with pytest.raises(RefusedError, match=r"plus\.weights"):
        find_package(model)


def test_manifest_and_labels_make_a_bundle(model: Path, tmp_path: Path) -> None:
    manifest, labels = tmp_path / "some.toml", tmp_path / "words"
    manifest.write_text('name = "me/plus"\nversion = "2.0.0"\n')
    labels.write_text("cat\ndog\n")
    package = find_package(model, manifest, labels)
    assert members(b"".join(stream(package))) == {
        "model.onnx": model.read_bytes(),
        "manifest.toml": manifest.read_bytes(),
        "labels.txt": b"cat\ndog\n",
    }
    assert (package.manifest.name, package.manifest.version) == ("me/plus", "2.0.0")
    assert package.manifest.labels == ("cat", "dog")


def test_a_labels_file_that_the_manifest_names_comes_along_under_that_name(model: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "some.toml"
    manifest.write_text('labels = "words.txt"\n')
    with pytest.raises(RefusedError, match=r"words\.txt"):
        find_package(model, manifest)
    (tmp_path / "words.txt").write_text("cat\n")
    assert members(sent(model, manifest))["words.txt"] == b"cat\n"


def test_labels_said_twice_are_refused(model: Path, tmp_path: Path) -> None:
    manifest, labels = tmp_path / "some.toml", tmp_path / "words.txt"
    manifest.write_text('labels = ["cat"]\n')
    labels.write_text("dog\n")
    with pytest.raises(BadInputError, match="keep one"):
        find_package(model, manifest, labels)


def test_a_folder_is_sent_with_what_belongs_to_its_model_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "plus"
    (folder / "vectors").mkdir(parents=True)
    write_model(folder / "plus.onnx")
    (folder / "manifest.toml").write_text('description = "adds"\n')
    (folder / "labels.txt").write_text("cat\n")
    (folder / "vectors" / "parity.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    package = find_package(folder)
    assert set(members(b"".join(stream(package)))) == {
        "model.onnx",
        "manifest.toml",
        "labels.txt",
        "vectors/parity.json",
    }
    assert package.stem == "plus"


@pytest.mark.parametrize("names", [[], ["a.onnx", "b.onnx"]])
def test_a_folder_without_one_clear_model_is_refused(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        write_model(tmp_path / name)
    with pytest.raises(BadInputError, match=r"model\.onnx"):
        find_package(tmp_path)


def test_a_bundle_is_sent_as_it_is_and_named_by_its_manifest(model: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "some.toml"
    manifest.write_text('name = "me/plus"\nlabels = "words.txt"\n')
    (tmp_path / "words.txt").write_text("cat\n")
    bundle = tmp_path / "plus.ingle"
    bundle.write_bytes(sent(model, manifest))
    package = find_package(bundle)
    assert b"".join(stream(package)) == bundle.read_bytes()
    assert package.manifest.name == "me/plus"
    with pytest.raises(BadInputError, match="unpack it"):
        find_package(bundle, manifest)


def test_the_same_files_make_the_same_bundle(model: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "some.toml"
    manifest.write_text('name = "me/plus"\n')
    assert sent(model, manifest) == sent(model, manifest)


def test_progress_ends_at_the_size_that_was_announced(model: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "some.toml"
    manifest.write_text('name = "me/plus"\n')
    package, steps = find_package(model, manifest), list[int]()
    for _ in stream(package, steps.append):
        pass
    assert sum(steps) == package.size_bytes


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("this is not toml", "is no TOML"),
        ("nmae = 'x'", "nmae"),
        ("version = 'new'", "is no version"),
        ("name = 'a b'", "is no model name"),
    ],
)
def test_a_wrong_manifest_is_refused_before_anything_is_sent(
    model: Path, tmp_path: Path, text: str, sentence: str
) -> None:
    manifest = tmp_path / "some.toml"
    manifest.write_text(text)
    with pytest.raises(RefusedError, match=sentence):
        find_package(model, manifest)
