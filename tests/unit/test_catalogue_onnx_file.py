"""What is read from an ONNX file, and which files it may make anyone open."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from appliance.catalogue.onnx_file import check_external, read_onnx
from appliance.core.errors import RefusedError

Adjust = Callable[[onnx.ModelProto], None]


def external_tensor(name: str, location: str, **said: object) -> onnx.TensorProto:
    """Six floats that lie in another file."""
    tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **said}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def model(*nodes: onnx.NodeProto, initialisers: tuple[onnx.TensorProto, ...] = ()) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    body = list(nodes) or [helper.make_node("Relu", ["x"], ["y"])]
    graph = helper.make_graph(body, "graph", [x], [y], initializer=list(initialisers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="test")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[onnx.ModelProto], Path]:
    def write(made: onnx.ModelProto) -> Path:
        path = tmp_path / "model.onnx"
        path.write_bytes(made.SerializeToString())
        return path

    return write


Write = Callable[[onnx.ModelProto], Path]


def test_a_model_says_its_versions_and_its_producer(write: Write) -> None:
    made = model()
    made.producer_version = "2.1"
    made.opset_import.add(domain="ai.onnx.ml", version=3)
    facts = read_onnx(write(made))
    assert (facts.ir_version, facts.producer, facts.node_count) == (8, "test 2.1", 1)
    assert facts.opsets == {"": 17, "ai.onnx.ml": 3}
    assert (facts.external, facts.custom_operators) == ((), ())


def in_initialiser(made: onnx.ModelProto) -> None:
    made.graph.initializer.append(external_tensor("w", "data.bin"))


def in_attribute(made: onnx.ModelProto) -> None:
    made.graph.node.append(helper.make_node("Constant", [], ["c"], value=external_tensor("w", "data.bin")))


def in_attribute_list(made: onnx.ModelProto) -> None:
    made.graph.node.append(helper.make_node("Odd", [], ["c"], values=[external_tensor("w", "data.bin")]))


def in_subgraph(made: onnx.ModelProto) -> None:
    inner = helper.make_graph([helper.make_node("Identity", ["w"], ["o"])], "inner", [], [])
    inner.initializer.append(external_tensor("w", "data.bin"))
    outer = helper.make_graph([helper.make_node("If", ["i"], ["o"], then_branch=inner, else_branch=inner)], "o", [], [])
    made.graph.node.append(helper.make_node("If", ["i"], ["o"], then_branch=outer))


def in_subgraph_list(made: onnx.ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [], initializer=[external_tensor("w", "data.bin")])
    made.graph.node.append(helper.make_node("Odd", [], ["c"], graphs=[inner]))


def in_function(made: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=external_tensor("w", "data.bin"))
    made.functions.append(helper.make_function("own", "F", [], ["c"], [node], [helper.make_opsetid("", 17)]))


def in_function_default(made: onnx.ModelProto) -> None:
    default = helper.make_attribute("value", external_tensor("w", "data.bin"))
    made.functions.append(onnx.FunctionProto(name="F", domain="own", attribute_proto=[default]))


def in_sparse_values(made: onnx.ModelProto) -> None:
    made.graph.sparse_initializer.append(onnx.SparseTensorProto(values=external_tensor("w", "data.bin"), dims=[9]))


def in_sparse_attribute(made: onnx.ModelProto) -> None:
    sparse = onnx.SparseTensorProto(indices=external_tensor("w", "data.bin"), dims=[9])
    node = onnx.NodeProto(op_type="Constant", output=["c"])
    node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR).sparse_tensor.CopyFrom(sparse)
    made.graph.node.append(node)


def in_training(made: onnx.ModelProto) -> None:
    made.training_info.add().algorithm.initializer.append(external_tensor("w", "data.bin"))


@pytest.mark.parametrize(
    "hide",
    [
        in_initialiser,
        in_attribute,
        in_attribute_list,
        in_subgraph,
        in_subgraph_list,
        in_function,
        in_function_default,
        in_sparse_values,
        in_sparse_attribute,
        in_training,
    ],
)
def test_external_data_is_found_wherever_it_is_named(write: Write, hide: Adjust) -> None:
    made = model()
    hide(made)
    facts = read_onnx(write(made))
    assert facts.external_files == ("data.bin",)
    assert {(t.name, t.offset, t.size_bytes) for t in facts.external} == {("w", 0, 24)}


def test_the_last_word_on_where_data_lies_counts_as_in_protobuf(tmp_path: Path) -> None:
    tensor = external_tensor("w", "data.bin")
    path = tmp_path / "model.onnx"
    for last, files in ((0, ()), (1, ("data.bin",))):
        # Field 14, data_location, once more.
        content = tensor.SerializeToString() + bytes((14 << 3, last))
        graph = bytes((5 << 3 | 2, len(content))) + content
        path.write_bytes(b"\x08\x08" + bytes((7 << 3 | 2, len(graph))) + graph)
        assert read_onnx(path).external_files == files


def test_operators_of_unknown_domains_are_named_unless_the_file_defines_them(write: Write) -> None:
    made = model(
        helper.make_node("Mine", ["x"], ["a"], domain="acme"),
        helper.make_node("F", ["a"], ["b"], domain="own"),
        helper.make_node("FusedMatMul", ["b", "b"], ["y"], domain="com.microsoft"),
    )
    made.functions.append(helper.make_function("own", "F", ["i"], ["o"], [], [helper.make_opsetid("", 17)]))
    assert read_onnx(write(made)).custom_operators == ("acme:Mine",)


def test_long_runs_of_numbers_hide_nothing_behind_them(write: Write) -> None:
    node = helper.make_node("Tree", ["x"], ["y"], ids=list(range(-500, 5000)), values=[0.5] * 5000, domain="ai.onnx.ml")
    node.attribute.append(helper.make_attribute("late", external_tensor("w", "data.bin")))
    node.attribute[0].t.CopyFrom(external_tensor("v", "more.bin"))
    assert read_onnx(write(model(node))).external_files == ("data.bin", "more.bin")


@pytest.mark.parametrize("dims", [[], [0], [2, 3, 4], [5] * 7])
def test_a_tensors_size_follows_from_its_shape_where_it_is_not_said(write: Write, dims: list[int]) -> None:
    tensor = external_tensor("w", "data.bin")
    del tensor.dims[:]
    tensor.dims.extend(dims)
    tensor.data_type = TensorProto.INT4
    count = 1
    for size in dims:
        count *= size
    facts = read_onnx(write(model(initialisers=(tensor,))))
    assert facts.external[0].size_bytes == (count + 1) // 2


@pytest.mark.parametrize(
    ("location", "said", "sentence"),
    [
        ("/etc/passwd", {}, "outside its folder"),
        ("../secret", {}, "outside its folder"),
        ("a/../../secret", {}, "outside its folder"),
        ("..\\secret", {}, "outside its folder"),
        (".", {}, "outside its folder"),
        ("*/_ORT_MEM_ADDR_/*", {"offset": 4096, "length": 24}, "names no file"),
        ("data\0.bin", {}, "names no file"),
        ("link.bin", {}, "link to outside"),
        ("linked/secret", {}, "link to outside"),
        ("nowhere.bin", {}, "missing"),
        ("folder", {}, "missing"),
        ("x" * 5000, {}, "missing"),
        ("loop", {}, "missing"),
        ("data.bin", {"offset": 10**9}, "cut short"),
        ("data.bin", {"length": 25}, "cut short"),
        ("data.bin", {"offset": 1}, "cut short"),
    ],
)
def test_data_that_may_not_or_cannot_be_opened_is_refused(
    write: Write, tmp_path: Path, location: str, said: dict[str, int], sentence: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(100))
    (folder / "data.bin").write_bytes(bytes(24))
    (folder / "folder").mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "loop").symlink_to("loop")
    facts = read_onnx(write(model(initialisers=(external_tensor("w", location, **said),))))
    with pytest.raises(RefusedError, match=sentence):
        check_external(folder, facts)


def test_data_that_is_there_is_accepted(write: Write, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/data.bin").write_bytes(bytes(48))
    tensors = (
        external_tensor("v", "sub/data.bin"),
        external_tensor("w", "./sub/data.bin", offset=24, length=24, checksum="00"),
    )
    check_external(tmp_path, read_onnx(write(model(initialisers=tensors))))


@pytest.mark.parametrize(
    "said", [{"offset": "-1"}, {"offset": "x"}, {"length": "1e3"}, {"offset": "9" * 30}, {"length": "٣"}]
)
def test_a_place_that_is_no_number_is_refused(write: Write, said: dict[str, str]) -> None:
    with pytest.raises(RefusedError, match="no number"):
        read_onnx(write(model(initialisers=(external_tensor("w", "data.bin", **said),))))


def test_external_data_without_a_file_is_refused(write: Write) -> None:
    with pytest.raises(RefusedError, match="does not say in which"):
        read_onnx(write(model(initialisers=(external_tensor("w", ""),))))


def test_every_cut_of_a_model_is_refused_or_read_as_less(write: Write) -> None:
    made = model()
    in_subgraph(made)
    path = write(made)
    whole = path.read_bytes()
    refused = 0
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        try:
            read_onnx(path)
        except RefusedError:
            refused += 1
    # A cut between two fields at the top leaves a shorter message that is whole.
    assert refused > 0.95 * len(whole)


def test_changed_bytes_are_read_or_refused_and_nothing_else(write: Write) -> None:
    made = model()
    in_subgraph(made)
    in_function(made)
    path = write(made)
    whole = path.read_bytes()
    chance = random.Random(7)
    outcomes = set()
    for _ in range(1000):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            read_onnx(path)
            outcomes.add("read")
        except RefusedError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\x08\x07", "no graph"),
        (b"\x08\x07:\xff\xff\xff\xff\x0f", "cut short"),
        (b"\x08\x07\x3b", "damaged"),
        (b"\x08" + b"\xff" * 20, "damaged"),
        (b"\x08\x07\x00\x00", "damaged"),
    ],
)
def test_what_is_no_model_is_refused_with_a_reason(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(RefusedError, match=sentence):
        read_onnx(path)


def test_graphs_within_graphs_end_somewhere(tmp_path: Path) -> None:
    def field(number: int, content: bytes) -> bytes:
        size, written = len(content), b""
        while size > 0x7F:
            written += bytes((size & 0x7F | 0x80,))
            size >>= 7
        return bytes((number << 3 | 2,)) + written + bytes((size,)) + content

    graph = b""
    for _ in range(3000):
        graph = field(1, field(5, field(6, graph)))  # node, attribute, graph
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x07" + field(7, graph))
    with pytest.raises(RefusedError, match="graphs within graphs"):
        read_onnx(path)


def test_a_file_beyond_four_gigabytes_is_walked_where_it_lies(tmp_path: Path) -> None:
    # raw_data of 4 GiB + 1 bytes, a hole on the disk, and behind it a tensor that lies elsewhere.
    weights = 2**32 + 1
    raw = bytes((9 << 3 | 2,)) + bytes((0x81, 0x80, 0x80, 0x80, 0x10))
    size = len(raw) + weights
    late = external_tensor("w", "data.bin").SerializeToString()

    def varint(value: int) -> bytes:
        written = b""
        while value > 0x7F:
            written += bytes((value & 0x7F | 0x80,))
            value >>= 7
        return written + bytes((value,))

    first = bytes((5 << 3 | 2,)) + varint(size) + raw
    second = bytes((5 << 3 | 2, len(late))) + late
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.write(b"\x08\x07" + bytes((7 << 3 | 2,)) + varint(len(first) + weights + len(second)) + first)
        file.seek(weights, os.SEEK_CUR)
        file.write(second)
    assert read_onnx(path).external_files == ("data.bin",)
