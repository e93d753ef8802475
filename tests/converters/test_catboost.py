"""CatBoost's files become ONNX that answers as CatBoost's own classes do; what hashes its features is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.core.errors import RefusedError
from converters import isolation
from converters.detected import Detected
from converters.frameworks.catboost import CONVERTER
from converters.isolation import Limits
from converters.job import Job
from converters.options import Options
from converters.session import Session
from tests.converters.converting import compared, conversion, refused

catboost = pytest.importorskip("catboost", reason="CatBoost is not installed: 'make test-converters' has it")
datasets = pytest.importorskip(
    "sklearn.datasets", reason="scikit-learn is not installed: 'make test-converters' has it"
)

pytestmark = pytest.mark.filterwarnings("ignore")


def cancer() -> tuple[Any, Any]:
    """With a tenth of the cells missing."""
    table, labels = datasets.load_breast_cancer(return_X_y=True)
    table[np.random.default_rng(0).random(table.shape) < 0.1] = np.nan
    return table, labels


def trained(parameters: dict[str, Any], table: Any, target: Any, **options: Any) -> Any:
    settings = {"iterations": 12, "depth": 4, "verbose": 0, "thread_count": 2, "allow_writing_files": False}
    booster = catboost.CatBoost({**settings, **parameters})
    booster.fit(catboost.Pool(table, target, **options))
    return booster


def answers_alike(booster: Any, tmp_path: Path, family: str, word: str = "catboost") -> None:
    path = tmp_path / "model"
    booster.save_model(str(path), format="cbm" if word == "catboost" else "json")
    report = compared(conversion(CONVERTER, path, word, tmp_path / "out"), CONVERTER, family)
    assert report.within, report
    assert max(output.max_relative for output in report.outputs) < 1e-9


@pytest.mark.parametrize(
    "loss",
    ["RMSE", "MAE", "Quantile:alpha=0.3", "MAPE", "Poisson", "Tweedie:variance_power=1.5", "Huber:delta=2",
     "LogLinQuantile", "Lq:q=3", "Expectile:alpha=0.3", "LogCosh", "RMSEWithUncertainty", "Cox"],
)  # fmt: skip
def test_a_regression_answers_alike(loss: str, tmp_path: Path) -> None:
    booster = trained({"loss_function": loss}, *datasets.load_diabetes(return_X_y=True))
    answers_alike(booster, tmp_path, loss)


@pytest.mark.parametrize("loss", ["MultiRMSE", "MultiQuantile:alpha=0.1,0.5"])
def test_several_numbers_answer_alike(loss: str, tmp_path: Path) -> None:
    table, target = datasets.load_diabetes(return_X_y=True)
    target = np.c_[target, -target] if loss == "MultiRMSE" else target
    answers_alike(trained({"loss_function": loss}, table, target), tmp_path, loss)


@pytest.mark.parametrize("labels", ["int", "text", "bool", "float"])
def test_a_binary_classifier_with_missing_values_answers_alike_in_labels_and_probabilities(
    labels: str, tmp_path: Path
) -> None:
    table, target = cancer()
    kinds = {"int": target, "text": np.where(target, "yes", "nö"), "bool": target.astype(bool), "float": target + 0.5}
    answers_alike(trained({"loss_function": "Logloss"}, table, kinds[labels]), tmp_path, f"Logloss, {labels} labels")


def test_a_focal_loss_gives_labels_and_probabilities(tmp_path: Path) -> None:
    booster = trained({"loss_function": "Focal:focal_alpha=0.5;focal_gamma=2"}, *cancer())
    answers_alike(booster, tmp_path, "Focal")
    outputs = Session(tmp_path / "out" / "model.onnx").signature.outputs
    assert [spec.name for spec in outputs] == ["label", "probabilities"]


@pytest.mark.parametrize("nan_mode", ["Min", "Max"])
@pytest.mark.parametrize("word", ["catboost", "catboost-json"])
def test_missing_values_go_where_the_model_was_told(nan_mode: str, word: str, tmp_path: Path) -> None:
    booster = trained({"loss_function": "CrossEntropy", "nan_mode": nan_mode}, *cancer())
    answers_alike(booster, tmp_path, f"CrossEntropy, nan_mode={nan_mode}", word)


@pytest.mark.parametrize("grow_policy", ["SymmetricTree", "Lossguide", "Depthwise"])
@pytest.mark.parametrize("loss", ["MultiClass", "MultiClassOneVsAll"])
def test_several_classes_answer_alike(loss: str, grow_policy: str, tmp_path: Path) -> None:
    table, target = datasets.load_iris(return_X_y=True)
    booster = trained({"loss_function": loss, "grow_policy": grow_policy}, table, np.array(list("abc"))[target])
    answers_alike(booster, tmp_path, f"{loss}, {grow_policy}")


def test_several_labels_at_once_answer_alike(tmp_path: Path) -> None:
    table, target = datasets.load_iris(return_X_y=True)
    booster = trained({"loss_function": "MultiLogloss"}, table, np.c_[target > 0, target > 1].astype(int))
    answers_alike(booster, tmp_path, "MultiLogloss")


@pytest.mark.parametrize("loss", ["YetiRank", "PairLogit", "QueryRMSE"])
def test_a_ranking_answers_alike(loss: str, tmp_path: Path) -> None:
    table, target = datasets.load_diabetes(return_X_y=True)
    grades = np.minimum(target // 50, 6) / 6
    booster = trained({"loss_function": loss}, table, grades, group_id=np.arange(len(table)) // 42)
    answers_alike(booster, tmp_path, loss)


def test_a_threshold_that_was_set_decides_the_label(tmp_path: Path) -> None:
    model = catboost.CatBoostClassifier(iterations=5, verbose=0, allow_writing_files=False).fit(*cancer())
    model.set_probability_threshold(0.3)
    answers_alike(model, tmp_path, "Logloss, a threshold of 0.3")


def test_categories_are_refused_with_the_way_out(tmp_path: Path) -> None:
    table = [[index % 7, f"c{index % 3}"] for index in range(60)]
    booster = trained({"loss_function": "Logloss"}, table, [index % 2 for index in range(60)], cat_features=[1])
    booster.save_model(str(tmp_path / "model"))
    refused(CONVERTER, tmp_path / "model", "catboost", tmp_path / "out", "Logloss, categories", "keeps only hashes")


def test_texts_are_refused_with_the_way_out(tmp_path: Path) -> None:
    texts = [[f"good film {index % 7}"] if index % 2 else [f"bad play {index % 5}"] for index in range(60)]
    model = catboost.CatBoostClassifier(iterations=3, verbose=0, allow_writing_files=False)
    model.fit(texts, [0, 1] * 30, text_features=[0]).save_model(str(tmp_path / "model"))
    refused(CONVERTER, tmp_path / "model", "catboost", tmp_path / "out", "Logloss, texts", "takes texts.*encode them")


def test_damaged_files_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    booster = trained({"loss_function": "RMSE"}, *datasets.load_diabetes(return_X_y=True))
    booster.save_model(str(tmp_path / "model"))
    whole = (tmp_path / "model").read_bytes()
    for content in (whole[: len(whole) // 2], b"CBM1" + b"\xff" * 400):
        source = tmp_path / "damaged"
        source.write_bytes(content)
        detected = Detected(format="catboost", what="a CatBoost model")
        with isolation.workplace() as work, pytest.raises(RefusedError):
            isolation.run(
                Job(
                    source=str(source),
                    framework="catboost",
                    detected=detected,
                    folder=str(work / "bundle"),
                    options=Options(),
                ),
                Limits(seconds=60),
            )
