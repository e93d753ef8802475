"""scikit-learn's trees and what it makes of them answer as the original to the last bit: where two classes are as
likely, on a threshold, for missing values, and whatever threads sum them."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.frameworks.sklearn import CONVERTER
from converters.session import Session
from tests.converters.converting import compared, conversion

reason = "scikit-learn, skl2onnx or skops is not installed: 'make test-converters' has them"
pytest.importorskip("skl2onnx", reason=reason)
skops = pytest.importorskip("skops.io", reason=reason)
pytest.importorskip("sklearn", reason=reason)

import onnxruntime  # noqa: E402
from sklearn import datasets, ensemble, multioutput, preprocessing, tree  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


def grid(classes: int, seed: int = 0) -> tuple[Any, Any]:
    """Three rows at each point, of any classes: leaves have shares of thirds, whose sums no binary number holds."""
    points = np.array(list(itertools.product(range(6), repeat=2)), np.float64)
    return np.repeat(points, 3, axis=0), np.random.default_rng(seed).integers(0, classes, 3 * len(points))


# On the points, on the thresholds between them, on either side, and beyond.
STEPS = np.arange(-0.5, 6, 0.25)
ROWS = np.array(list(itertools.product(np.r_[STEPS, np.nextafter(STEPS.astype(np.float32), np.float32(9))], repeat=2)))


def made_of(model: Any, tmp_path: Path, family: str) -> Session:
    skops.dump(model, tmp_path / "model.skops")
    made = conversion(CONVERTER, tmp_path / "model.skops", "skops", tmp_path / "out")
    report = compared(made, CONVERTER, family)
    assert report.within, report
    return Session(made.model)


def fed(session: Session, rows: Any) -> dict[str, Any]:
    (spec,) = session.signature.inputs
    return {"input": rows.astype(np.float32 if spec.dtype == "FP32" else np.float64)}


SHALLOW = tree.DecisionTreeClassifier(max_depth=2, random_state=0)
ENSEMBLES: dict[str, Any] = {
    "a tree": SHALLOW,
    "a forest": ensemble.RandomForestClassifier(12, bootstrap=False, max_features=1, random_state=0),
    "a forest of extra trees": ensemble.ExtraTreesClassifier(10, random_state=0),
    "a forest of a hundred": ensemble.ExtraTreesClassifier(100, max_depth=5, random_state=0),
    "bagging": ensemble.BaggingClassifier(n_estimators=9, random_state=0),
    "bagging of some rows and columns": ensemble.BaggingClassifier(
        n_estimators=8, max_samples=5, max_features=1, random_state=0
    ),
    "AdaBoost": ensemble.AdaBoostClassifier(SHALLOW, n_estimators=6, random_state=0),
    "gradient boosting": ensemble.GradientBoostingClassifier(n_estimators=5, subsample=0.5, random_state=0),
}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("what", ENSEMBLES)
def test_labels_are_the_originals_where_classes_are_as_likely(what: str, classes: int, tmp_path: Path) -> None:
    model = ENSEMBLES[what].fit(*grid(classes))
    answer = (session := made_of(model, tmp_path, f"{what}, near ties of {classes} classes")).run(fed(session, ROWS))
    assert (answer["label"] == model.predict(ROWS)).all()
    assert np.abs(answer["probabilities"] - model.predict_proba(ROWS)).max() < 1e-15
    if what == "a forest of extra trees" and classes == 2:
        best = np.sort(model.predict_proba(ROWS), axis=1)
        near = best[:, -1] - best[:, -2]
        assert np.count_nonzero(near == 0) > 10
        assert np.count_nonzero((near > 0) & (near < 2e-7)) > 10  # which single precision would decide otherwise


def test_a_forests_sums_are_the_originals_whatever_threads_run_it(tmp_path: Path) -> None:
    model = ENSEMBLES["a forest of a hundred"].fit(*grid(2))
    session = made_of(model, tmp_path, "a forest of a hundred, near ties of 2 classes")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    threaded = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", options)
    for rows in (ROWS, ROWS[:1], ROWS[:50]):
        _, probabilities = threaded.run(None, fed(session, rows))
        assert (probabilities == model.predict_proba(rows)).all()


def test_the_label_of_two_classes_as_likely_is_the_originals_of_each_kind_of_boosting(tmp_path: Path) -> None:
    table, labels = np.repeat([[0.0], [1.0], [2.0]], 4, axis=0), np.array([0, 1] * 2 + [0] * 4 + [1] * 4)
    for kind, model in {
        "gradient": ensemble.GradientBoostingClassifier(n_estimators=1, max_depth=2),
        "histogram": ensemble.HistGradientBoostingClassifier(max_iter=1, min_samples_leaf=1),
        "exponential": ensemble.GradientBoostingClassifier(n_estimators=1, loss="exponential", init="zero"),
    }.items():
        (tmp_path / kind).mkdir()
        session = made_of(model.fit(table, labels), tmp_path / kind, f"{kind} boosting, a tie of two classes")
        assert (session.run(fed(session, table))["label"] == model.predict(table)).all()


@pytest.mark.parametrize(
    "model",
    [
        ensemble.AdaBoostRegressor(n_estimators=9, loss="square", random_state=0),
        ensemble.GradientBoostingRegressor(n_estimators=9, loss="quantile", alpha=0.3),
        ensemble.BaggingRegressor(n_estimators=9, max_features=0.5, random_state=0),
        ensemble.ExtraTreesRegressor(9, criterion="absolute_error", max_depth=4, random_state=0),
        tree.ExtraTreeRegressor(random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_regression_is_the_originals_to_the_last_bit(model: Any, tmp_path: Path) -> None:
    table, target = datasets.load_diabetes(return_X_y=True)
    session = made_of(model.fit(table, target), tmp_path, f"{type(model).__name__}, to the last bit")
    rows = table.astype(np.float32)
    assert (session.run(fed(session, rows))["variable"].ravel() == model.predict(rows)).all()


@pytest.mark.parametrize("model", [SHALLOW, ensemble.RandomForestClassifier(8, random_state=0)], ids=str)
def test_several_labels_of_one_model_answer_alike(model: Any, tmp_path: Path) -> None:
    table, labels = grid(3)
    words = np.c_[np.array(["ä", "b", "c"])[labels], np.array(["x", "y"])[grid(2, 1)[1]]]
    session = made_of(model.fit(table, words), tmp_path, f"{type(model).__name__}, several labels")
    answer = session.run(fed(session, ROWS))
    assert (answer["label"] == model.predict(ROWS)).all()
    for at, original in enumerate(model.predict_proba(ROWS)):
        assert (answer[f"probabilities_{at}"] == original).all()


def test_missing_values_go_where_a_forest_learned_to_send_them(tmp_path: Path) -> None:
    table, labels = datasets.load_breast_cancer(return_X_y=True)
    table[np.random.default_rng(0).random(table.shape) < 0.1] = np.nan
    model = ensemble.RandomForestClassifier(8, random_state=0).fit(table, labels)
    session = made_of(model, tmp_path, "RandomForestClassifier, missing values")
    assert (session.run(fed(session, table))["probabilities"] == model.predict_proba(table.astype(np.float32))).all()


def test_outliers_are_the_originals_where_some_columns_are_left_out(tmp_path: Path) -> None:
    table = datasets.load_iris().data
    model = ensemble.IsolationForest(n_estimators=20, max_features=0.5, contamination=0.2, random_state=0).fit(table)
    answer = (session := made_of(model, tmp_path, "IsolationForest, some columns")).run(fed(session, table))
    assert (answer["label"] == model.predict(table)).all()
    assert np.abs(answer["scores"].ravel() - model.decision_function(table)).max() < 1e-15


def test_trees_alone_take_single_precision_and_behind_other_steps_double(tmp_path: Path) -> None:
    table, labels = grid(2)
    for kind, model in {"alone": SHALLOW, "behind": make_pipeline(preprocessing.StandardScaler(), SHALLOW)}.items():
        (tmp_path / kind).mkdir()
        session = made_of(model.fit(table, labels), tmp_path / kind, f"a tree, {kind}")
        dtypes = {spec.name: spec.dtype for spec in (*session.signature.inputs, *session.signature.outputs)}
        assert dtypes == {"input": "FP32" if kind == "alone" else "FP64", "label": "INT64", "probabilities": "FP64"}


def test_a_forest_for_each_target_answers_alike(tmp_path: Path) -> None:
    table, target = datasets.load_diabetes(return_X_y=True)
    model = multioutput.MultiOutputRegressor(ensemble.RandomForestRegressor(4, random_state=0))
    session = made_of(model.fit(table, np.c_[target, -target]), tmp_path, "MultiOutputRegressor of forests")
    assert np.abs(session.run(fed(session, table))["variable"] - model.predict(table)).max() < 1e-9
