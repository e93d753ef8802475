"""XGBoost's models become ONNX that answers as Booster.predict(): objectives, boosters, base scores, categories."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.core.errors import RefusedError
from converters import isolation
from converters.detected import Detected
from converters.frameworks.xgboost import CONVERTER
from converters.isolation import Limits
from converters.job import Job
from converters.options import Options
from converters.session import Session
from tests.converters.converting import compared, conversion, refused

xgboost = pytest.importorskip("xgboost", reason="XGBoost is not installed: 'make test-converters' has it")
datasets = pytest.importorskip(
    "sklearn.datasets", reason="scikit-learn is not installed: 'make test-converters' has it"
)

pytestmark = pytest.mark.filterwarnings("ignore")


def diabetes() -> tuple[Any, Any]:
    return datasets.load_diabetes(return_X_y=True)


def cancer() -> tuple[Any, Any]:
    """With a tenth of the cells missing."""
    table, labels = datasets.load_breast_cancer(return_X_y=True)
    table[np.random.default_rng(0).random(table.shape) < 0.1] = np.nan
    return table, labels


def trained(parameters: dict[str, Any], matrix: Any, rounds: int = 15) -> Any:
    return xgboost.train({"verbosity": 0, "nthread": 2, "max_depth": 4, "seed": 1, **parameters}, matrix, rounds)


def answers_alike(booster: Any, tmp_path: Path, family: str, suffix: str = "json") -> Any:
    path = tmp_path / f"model.{suffix}"
    booster.save_model(path)
    made = conversion(CONVERTER, path, "xgboost-ubjson" if suffix == "ubj" else "xgboost-json", tmp_path / "out")
    report = compared(made, CONVERTER, family)
    assert report.within, report
    return made


@pytest.mark.parametrize(
    "parameters",
    [
        {"objective": "reg:squarederror"},
        {"objective": "reg:squarederror", "base_score": 7.5},
        {"objective": "reg:squaredlogerror"},
        {"objective": "reg:pseudohubererror"},
        {"objective": "reg:absoluteerror"},
        {"objective": "reg:gamma"},
        {"objective": "reg:tweedie"},
        {"objective": "count:poisson"},
        {"objective": "count:poisson", "base_score": 3.0},
        {"objective": "survival:cox"},
        {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]},
        {"objective": "reg:squarederror", "booster": "dart", "rate_drop": 0.3},
        {"objective": "reg:squarederror", "booster": "gblinear"},
        {"objective": "reg:squarederror", "num_parallel_tree": 4, "subsample": 0.6},
    ],
    ids=str,
)
def test_a_regression_answers_alike(parameters: dict[str, Any], tmp_path: Path) -> None:
    table, target = diabetes()
    answers_alike(trained(parameters, xgboost.DMatrix(table, target)), tmp_path, _family(parameters))


@pytest.mark.parametrize(
    "parameters",
    [
        {"objective": "binary:logistic"},
        {"objective": "binary:logistic", "base_score": 0.03},
        {"objective": "binary:logitraw"},
        {"objective": "binary:logitraw", "base_score": 0.1},
        {"objective": "binary:hinge"},
        {"objective": "reg:logistic"},
        {"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.3},
    ],
    ids=str,
)
def test_a_binary_classifier_with_missing_values_in_ubjson_answers_alike(
    parameters: dict[str, Any], tmp_path: Path
) -> None:
    answers_alike(trained(parameters, xgboost.DMatrix(*cancer())), tmp_path, _family(parameters), "ubj")


@pytest.mark.parametrize("objective", ["multi:softprob", "multi:softmax"])
@pytest.mark.parametrize("booster", ["gbtree", "dart", "gblinear"])
def test_several_classes_answer_alike(objective: str, booster: str, tmp_path: Path) -> None:
    parameters = {"objective": objective, "num_class": 3, "booster": booster}
    matrix = xgboost.DMatrix(*datasets.load_iris(return_X_y=True))
    answers_alike(trained(parameters, matrix), tmp_path, _family(parameters))


def test_several_classes_of_unlike_shares_answer_alike_in_a_linear_model(tmp_path: Path) -> None:
    table, target = (part[:115] for part in datasets.load_iris(return_X_y=True))
    parameters = {"objective": "multi:softprob", "num_class": 3, "booster": "gblinear"}
    answers_alike(
        trained(parameters, xgboost.DMatrix(table, target)), tmp_path, f"{_family(parameters)}, unlike shares"
    )


@pytest.mark.parametrize("objective", ["rank:ndcg", "rank:pairwise", "rank:map"])
def test_a_ranking_answers_alike(objective: str, tmp_path: Path) -> None:
    table, target = diabetes()
    grades = target > 150 if objective == "rank:map" else np.minimum(target // 50, 6)
    matrix = xgboost.DMatrix(table, grades.astype(int))
    matrix.set_group([42] * 10 + [22])
    answers_alike(trained({"objective": objective}, matrix), tmp_path, objective)


def test_survival_times_with_bounds_answer_alike(tmp_path: Path) -> None:
    table, target = diabetes()
    matrix = xgboost.DMatrix(table)
    matrix.set_float_info("label_lower_bound", target)
    matrix.set_float_info("label_upper_bound", target)
    answers_alike(trained({"objective": "survival:aft"}, matrix), tmp_path, "survival:aft")


@pytest.mark.parametrize("max_cat_to_onehot", [1, 100])
def test_categories_known_unknown_negative_and_missing_answer_alike(max_cat_to_onehot: int, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    table, target = diabetes()
    table = np.c_[random.integers(0, 60, len(table)), table[:, :3], random.integers(0, 3, len(table))]
    table[random.random(table.shape) < 0.05] = np.nan
    target = target + np.nan_to_num(table[:, 0]) % 7 * 50
    matrix = xgboost.DMatrix(table, target, feature_types=["c", "q", "q", "q", "c"], enable_categorical=True)
    parameters = {"max_cat_to_onehot": max_cat_to_onehot, "tree_method": "hist"}
    answers_alike(trained(parameters, matrix), tmp_path, f"categories, max_cat_to_onehot={max_cat_to_onehot}")


def test_a_file_of_the_classes_stops_at_the_best_iteration_as_they_do(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: 'make test-converters' has it")
    table, label = cancer()
    model = xgboost.XGBClassifier(n_estimators=60, learning_rate=1.0, early_stopping_rounds=3)
    model.fit(table, label, eval_set=[(table[:100], 1 - label[:100])], verbose=False)
    assert model.get_booster().num_boosted_rounds() > model.best_iteration + 1
    made = answers_alike(model, tmp_path, "XGBClassifier, stopped early")
    answer = Session(made.model).run({"input": table.astype(np.float32)})["prediction"]
    assert answer == pytest.approx(model.predict_proba(table)[:, 1], abs=1e-5)
    assert "best iteration" in made.notes[0]


def test_feature_names_become_the_table_columns(tmp_path: Path) -> None:
    table, labels = datasets.load_iris(return_X_y=True)
    names = ["sepal length (cm)", "größe", "f0", "x y"]
    matrix = xgboost.DMatrix(table, labels, feature_names=names)
    made = answers_alike(trained({"objective": "reg:squarederror"}, matrix), tmp_path, "feature names of any kind")
    assert made.manifest["input"][0]["columns"] == names


def test_a_model_of_several_targets_and_one_without_trees_answer_alike(tmp_path: Path) -> None:
    table, target = diabetes()
    answers_alike(trained({}, xgboost.DMatrix(table, np.c_[target, -target])), tmp_path, "two targets")
    (tmp_path / "none").mkdir()
    answers_alike(trained({}, xgboost.DMatrix(table, target), rounds=0), tmp_path / "none", "no trees")


def test_trees_with_vectors_in_their_leaves_are_refused_with_the_way_out(tmp_path: Path) -> None:
    table, target = diabetes()
    booster = trained({"multi_strategy": "multi_output_tree"}, xgboost.DMatrix(table, np.c_[target, -target]))
    booster.save_model(tmp_path / "model.json")
    family = "multi_strategy=multi_output_tree"
    refused(CONVERTER, tmp_path / "model.json", "xgboost-json", tmp_path / "out", family, "one_output_per_tree")


def test_damaged_files_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    whole = trained({}, xgboost.DMatrix(*diabetes()), rounds=4).save_raw("json")
    looping = json.loads(bytes(whole))
    tree = looping["learner"]["gradient_booster"]["model"]["trees"][0]
    tree["left_children"][1] = 0
    for content in (bytes(whole[: len(whole) // 2]), json.dumps(looping).encode(), b'{"learner":{}}', b"{L"):
        source = tmp_path / "model.json"
        source.write_bytes(content)
        detected = Detected(format="xgboost-json", what="an XGBoost model in JSON")
        with isolation.workplace() as work, pytest.raises(RefusedError):
            isolation.run(
                Job(
                    source=str(source),
                    framework="xgboost",
                    detected=detected,
                    folder=str(work / "bundle"),
                    options=Options(),
                ),
                Limits(seconds=60),
            )


def test_a_whole_conversion_in_its_own_process_is_published_within_tolerance(tmp_path: Path) -> None:
    source = tmp_path / "model.ubj"
    trained({"objective": "rank:ndcg"}, _ranked()).save_model(source)
    detected = Detected(format="xgboost-ubjson", what="an XGBoost model in UBJSON")
    with isolation.workplace() as work:
        job = Job(
            source=str(source), framework="xgboost", detected=detected, folder=str(work / "bundle"), options=Options()
        )
        done = isolation.run(job, Limits(seconds=60))
    assert done.record.parity.within
    assert done.record.framework == "xgboost"


def _ranked() -> Any:
    table, target = diabetes()
    matrix = xgboost.DMatrix(table, np.minimum(target // 50, 6).astype(int))
    matrix.set_group([42] * 10 + [22])
    return matrix


def _family(parameters: dict[str, Any]) -> str:
    return ", ".join([parameters["objective"], *(f"{k}={v}" for k, v in parameters.items() if k != "objective")])
