"""Bundles and a real node: test vectors are run again, signatures are asked for, what is no ONNX is converted first."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.cli.main import run
from tests.conftest import RunningNode

Ingle = Callable[..., tuple[int, str]]


@pytest.fixture
def ingle(node: RunningNode, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ingle:
    monkeypatch.setenv("INGLE_DATA_DIR", str(node.data_dir))
    return said(capsys)


def said(capsys: pytest.CaptureFixture[str]) -> Ingle:
    def call(*arguments: object) -> tuple[int, str]:
        status = run([str(argument) for argument in arguments])
        return status, "".join(capsys.readouterr())

    return call


def plus(path: Path, add: float) -> Path:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 3]) for name in "xy")
    w = numpy_helper.from_array(np.full(3, add, dtype=np.float32), "w")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "plus", [x], [y], [w])
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def replaced(bundle: Path, target: Path, **files: bytes) -> Path:
    """The bundle with some of its members exchanged; `model_onnx` is model.onnx, `vectors` the test vectors."""
    names = {"model.onnx": "model_onnx", "vectors/parity.json": "vectors"}
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(target, "w") as made:
        for name in source.namelist():
            made.writestr(name, files.get(names.get(name, ""), source.read(name)))
    return target


@pytest.fixture
def bundle(tmp_path: Path, ingle: Ingle) -> Path:
    target = tmp_path / "plus.ingle"
    assert ingle("convert", plus(tmp_path / "plus.onnx", 1.0), "-o", target)[0] == 0
    return target


def test_a_model_that_answers_otherwise_than_its_vectors_is_refused(ingle: Ingle, bundle: Path, tmp_path: Path) -> None:
    assert ingle("deploy", bundle, "--name", "vectors/right")[0] == 0
    other = plus(tmp_path / "other.onnx", 1.5).read_bytes()
    status, words = ingle("deploy", replaced(bundle, tmp_path / "w.ingle", model_onnx=other), "--name", "vectors/wrong")
    assert status == 6
    assert "output 'y' of test vector 1 differs by 0.5 in row" in words
    assert ingle("show", "vectors/wrong")[0] == 3


def test_vectors_that_make_no_sense_are_refused_with_a_sentence(ingle: Ingle, bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        vectors = json.loads(archive.read("vectors/parity.json"))
    vectors["vectors"][0]["inputs"][0]["shape"] = [10**9, 10**9]
    huge = json.dumps(vectors).encode()
    for content in (b"{", b"[" * 100_000, b'{"vectors": 1}', huge):
        status, words = ingle(
            "deploy", replaced(bundle, tmp_path / "v.ingle", vectors=content), "--name", "vectors/odd"
        )
        assert status == 6
        assert "test vector" in words


def test_a_node_with_trusted_keys_takes_what_they_signed_and_nothing_else(
    nodes: Callable[..., RunningNode],
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trusted = tmp_path / "trusted"
    ingle = said(capsys)
    public = {}
    for name in ("owner", "stranger"):
        public[name] = ingle("pack", "--new-key", tmp_path / f"{name}.pem")[1].strip()
        assert ingle("pack", bundle, "-o", tmp_path / f"{name}.ingle", "--sign", tmp_path / f"{name}.pem")[0] == 0
    trusted.write_text(f"# who may\n{public['owner']}  the owner\n")
    node = nodes("--gateway-trusted-keys", str(trusted))
    monkeypatch.setenv("INGLE_DATA_DIR", str(node.data_dir))
    assert ingle("deploy", tmp_path / "owner.ingle", "--name", "signed/a", "--require-signature")[0] == 0
    other = plus(tmp_path / "other.onnx", 2.0).read_bytes()
    changed = replaced(tmp_path / "owner.ingle", tmp_path / "changed.ingle", model_onnx=other)
    for source, sentence in (
        (bundle, "not signed"),
        (tmp_path / "plus.onnx", "signed bundles alone"),
        (tmp_path / "stranger.ingle", "does not trust"),
        (changed, "changed after it was signed"),
    ):
        status, words = ingle("deploy", source, "--name", "signed/b")
        assert (status, sentence in words) == (6, True), words
    trusted.write_text("no key\n")
    assert ingle("deploy", tmp_path / "owner.ingle", "--name", "signed/b")[0] == 6


def test_a_signature_that_nobody_could_check_is_refused(ingle: Ingle, bundle: Path) -> None:
    status, words = ingle("deploy", bundle, "--name", "signed/c", "--require-signature")
    assert (status, "trusts no keys" in words) == (6, True)


def test_a_pickle_is_refused_before_it_is_sent(ingle: Ingle, tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04csklearn.svm._classes\nSVC\n.")
    status, words = ingle("deploy", tmp_path / "m.pkl")
    assert status == 6
    assert "sklearn.svm._classes.SVC" in words
    assert "skops" in words
