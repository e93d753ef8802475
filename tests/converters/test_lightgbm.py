"""LightGBM's text files become ONNX that answers as Booster.predict() does, in double precision."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.core.errors import RefusedError
from converters import lightgbm_text
from converters.frameworks.lightgbm import CONVERTER
from tests.converters.converting import compared, conversion

lightgbm = pytest.importorskip("lightgbm", reason="LightGBM is not installed: 'make test-converters' has it")
datasets = pytest.importorskip(
    "sklearn.datasets", reason="scikit-learn is not installed: 'make test-converters' has it"
)

pytestmark = pytest.mark.filterwarnings("ignore")
FOREST = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}


def cancer() -> tuple[Any, Any]:
    """With a tenth of the cells missing."""
    table, labels = datasets.load_breast_cancer(return_X_y=True)
    table[np.random.default_rng(0).random(table.shape) < 0.1] = np.nan
    return table, labels


def trained(parameters: dict[str, Any], table: Any, target: Any, **options: Any) -> Any:
    settings = {"verbosity": -1, "num_threads": 2, "num_leaves": 12, "min_data_in_leaf": 5, "seed": 1, **parameters}
    return lightgbm.train(settings, lightgbm.Dataset(table, target, **options), 15)


def answers_alike(booster: Any, tmp_path: Path, parameters: dict[str, Any], family: str = "") -> None:
    path = tmp_path / "model.txt"
    booster.save_model(path)
    made = conversion(CONVERTER, path, "lightgbm", tmp_path / "out")
    family = family or ", ".join(f"{name}={value}" for name, value in parameters.items())
    report = compared(made, CONVERTER, family)
    assert report.within, report
    assert report.largest_error < 1e-9


OBJECTIVES = ["regression", "regression_l1", "huber", "fair", "quantile", "mape", "poisson", "gamma", "tweedie"]


@pytest.mark.parametrize(
    "parameters",
    [
        *({"objective": objective} for objective in OBJECTIVES),
        {"objective": "regression", "reg_sqrt": True},
        {"objective": "regression", "data_sample_strategy": "goss"},
        {"objective": "regression", "boosting": "dart"},
        {"objective": "regression", "linear_tree": True},
        {"objective": "regression", "min_data_in_leaf": 1000},
        {"objective": "regression", **FOREST},
    ],
    ids=str,
)
def test_a_regression_answers_alike(parameters: dict[str, Any], tmp_path: Path) -> None:
    answers_alike(trained(parameters, *datasets.load_diabetes(return_X_y=True)), tmp_path, parameters)


@pytest.mark.parametrize(
    "parameters",
    [
        {"objective": "binary"},
        {"objective": "binary", "sigmoid": 2.5},
        {"objective": "cross_entropy"},
        {"objective": "cross_entropy_lambda"},
        {"objective": "binary", "use_missing": False},
        {"objective": "binary", "boosting": "dart"},
        {"objective": "binary", "linear_tree": True},
        {"objective": "binary", **FOREST},
    ],
    ids=str,
)
def test_a_binary_classifier_with_missing_values_answers_alike(parameters: dict[str, Any], tmp_path: Path) -> None:
    answers_alike(trained(parameters, *cancer()), tmp_path, parameters)


def test_zeros_that_count_as_missing_answer_alike(tmp_path: Path) -> None:
    table, labels = cancer()
    parameters = {"objective": "binary", "zero_as_missing": True}
    answers_alike(trained(parameters, np.nan_to_num(table), labels), tmp_path, parameters)


@pytest.mark.parametrize("objective", ["multiclass", "multiclassova"])
@pytest.mark.parametrize("boosting", [{}, {"boosting": "dart"}, {"linear_tree": True}, FOREST], ids=str)
def test_several_classes_answer_alike(objective: str, boosting: dict[str, Any], tmp_path: Path) -> None:
    parameters = {"objective": objective, "num_class": 3, **boosting}
    answers_alike(trained(parameters, *datasets.load_iris(return_X_y=True)), tmp_path, parameters)


@pytest.mark.parametrize("objective", ["lambdarank", "rank_xendcg"])
def test_a_ranking_answers_alike(objective: str, tmp_path: Path) -> None:
    table, target = datasets.load_diabetes(return_X_y=True)
    booster = trained({"objective": objective}, table, np.minimum(target // 50, 6), group=[42] * 10 + [22])
    answers_alike(booster, tmp_path, {"objective": objective})


@pytest.mark.parametrize("linear_tree", [False, True])
def test_categories_known_unknown_negative_and_missing_answer_alike(linear_tree: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    table, target = datasets.load_diabetes(return_X_y=True)
    table = np.c_[random.integers(0, 60, len(table)), table[:, :3], random.integers(0, 3, len(table))]
    table[random.random(table.shape) < 0.05] = np.nan
    target = target + np.nan_to_num(table[:, 0]) % 7 * 50
    parameters = {"min_data_per_group": 5, "cat_smooth": 1, "linear_tree": linear_tree}
    booster = trained(parameters, table, target, categorical_feature=[0, 4])
    answers_alike(booster, tmp_path, parameters, f"categories, linear_tree={linear_tree}")


def test_a_file_cut_off_anywhere_is_refused_with_a_sentence(tmp_path: Path) -> None:
    booster = trained({"linear_tree": True}, *datasets.load_diabetes(return_X_y=True))
    text = booster.model_to_string()
    end = text.index("end of trees")
    for stop in range(0, end, max(1, end // 40)):
        with pytest.raises(RefusedError):
            lightgbm_text.read(text[:stop])


@pytest.mark.parametrize(
    ("line", "damaged"),
    [
        ("left_child=", "left_child=0 "),
        ("split_feature=", "split_feature=99999 "),
        ("max_feature_idx=9", "max_feature_idx=99999999999"),
        ("num_tree_per_iteration=1", "num_tree_per_iteration=0"),
        ("objective=regression", "objective=unheard_of"),
    ],
)
def test_a_damaged_file_is_refused_with_a_sentence(line: str, damaged: str, tmp_path: Path) -> None:
    text = trained({}, *datasets.load_diabetes(return_X_y=True)).model_to_string()
    assert line in text
    path = tmp_path / "model.txt"
    path.write_text(_replaced(text, line, damaged))
    with pytest.raises(RefusedError):
        conversion(CONVERTER, path, "lightgbm", tmp_path / "out")


def _replaced(text: str, line: str, damaged: str) -> str:
    """Its first occurrence; where numbers follow, in place of the first of them."""
    before, _, after = text.partition(line)
    return before + damaged + (after.partition(" ")[2] if line.endswith("=") else after)
