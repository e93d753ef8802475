"""Models of neighbours, centres, kernels, lines and constants, and maps of columns, answer as scikit-learn's own: on
rows that are made and on others, far from what the models saw and equal to it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.frameworks.sklearn import CONVERTER
from converters.session import Session
from tests.converters.converting import compared, conversion, refused

reason = "scikit-learn, skl2onnx or skops is not installed: 'make test-converters' has them"
pytest.importorskip("skl2onnx", reason=reason)
skops = pytest.importorskip("skops.io", reason=reason)
joblib = pytest.importorskip("joblib", reason=reason)
pytest.importorskip("sklearn", reason=reason)

from sklearn import (  # noqa: E402
    calibration,
    cluster,
    compose,
    covariance,
    cross_decomposition,
    decomposition,
    discriminant_analysis,
    dummy,
    ensemble,
    feature_extraction,
    gaussian_process,
    isotonic,
    kernel_approximation,
    kernel_ridge,
    linear_model,
    multiclass,
    naive_bayes,
    neighbors,
    neural_network,
    preprocessing,
    random_projection,
    semi_supervised,
    svm,
    tree,
)
from sklearn.pipeline import make_pipeline, make_union  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

RANDOM = np.random.default_rng(3)
COUNT = 240
TABLE = RANDOM.normal(size=(COUNT, 4))
CLASSES = (TABLE[:, 0] + TABLE[:, 1] ** 2 > 0.8).astype(int) + (TABLE[:, 3] > 0.4)
NUMBERS = 3 * TABLE[:, 0] + np.sin(TABLE[:, 1])
TARGETS = {"two": CLASSES % 2, "three": CLASSES, "four": CLASSES + (TABLE[:, 2] > 1) * (3 - CLASSES),
           "words": np.array(["ja", "nein", "vielleicht"])[CLASSES], "number": NUMBERS, "none": None,
           "some": np.where(RANDOM.random(COUNT) < 0.3, -1, CLASSES), "positive": np.exp(NUMBERS / 4),
           "flags": np.c_[CLASSES > 0, CLASSES > 1, CLASSES > 5].astype(int),
           "numbers": np.c_[NUMBERS, np.exp(NUMBERS / 4)]}  # fmt: skip
ROWS = np.r_[TABLE[:120], RANDOM.normal(size=(40, 4)) * 4, np.zeros((1, 4)), np.full((1, 4), 2.0**24 + 1), -TABLE[:9]]
LOGISTIC = linear_model.LogisticRegression(max_iter=500)

MODELS: dict[str, tuple[Any, str]] = {
    "neighbours by distance": (neighbors.KNeighborsClassifier(7, weights="distance"), "words"),
    "neighbours by distance, Manhattan": (neighbors.KNeighborsClassifier(3, weights="distance", p=1), "three"),
    "a mean by distance": (neighbors.KNeighborsRegressor(5, weights="distance"), "numbers"),
    "neighbours in a sparse matrix": (
        make_pipeline(make_union(preprocessing.StandardScaler(), preprocessing.KBinsDiscretizer(4)),
                      neighbors.KNeighborsRegressor(3)), "number"),
    "a soft vote with weights": (
        ensemble.VotingClassifier([("a", LOGISTIC), ("b", naive_bayes.GaussianNB())], voting="soft", weights=[2, 1]),
        "words"),
    "one against one, lines": (multiclass.OneVsOneClassifier(LOGISTIC), "words"),
    "one against one, trees": (multiclass.OneVsOneClassifier(tree.DecisionTreeClassifier(max_depth=3)), "four"),
    "one against one, two classes": (multiclass.OneVsOneClassifier(naive_bayes.GaussianNB()), "two"),
    "a target, scaled twice": (
        compose.TransformedTargetRegressor(linear_model.Ridge(), transformer=make_pipeline(
            preprocessing.StandardScaler(), preprocessing.PowerTransformer())), "number"),
    "calibration by temperature": (calibration.CalibratedClassifierCV(LOGISTIC, method="temperature"), "two"),
    "the nearest centroid": (neighbors.NearestCentroid(), "words"),
    "mean shift": (cluster.MeanShift(bandwidth=2.0, bin_seeding=True), "none"),
    "affinity propagation": (cluster.AffinityPropagation(random_state=0), "none"),
    "Birch": (cluster.Birch(n_clusters=4), "none"),
    "kernel ridge": (kernel_ridge.KernelRidge(kernel="rbf"), "number"),
    "kernel ridge of polynomials": (kernel_ridge.KernelRidge(kernel="poly", degree=2), "numbers"),
    "linear discriminants, two classes": (discriminant_analysis.LinearDiscriminantAnalysis(), "two"),
    "linear discriminants, shrunk": (
        discriminant_analysis.LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"), "words"),
    "modified Huber": (linear_model.SGDClassifier(loss="modified_huber", random_state=0), "three"),
    "modified Huber, two classes": (linear_model.SGDClassifier(loss="modified_huber", random_state=0), "two"),
    "canonical correlation": (cross_decomposition.CCA(2), "numbers"),
    "canonical least squares": (cross_decomposition.PLSCanonical(2), "numbers"),
    "an elliptic envelope": (covariance.EllipticEnvelope(random_state=0), "none"),
    "the classes' shares": (dummy.DummyClassifier(), "words"),
    "a quantile": (dummy.DummyRegressor(strategy="quantile", quantile=0.3), "number"),
    "SVC, four classes": (svm.SVC(), "four"),
    "SVC, four classes in pairs": (svm.SVC(decision_function_shape="ovo"), "four"),
    "SVC that breaks ties": (svm.SVC(break_ties=True), "four"),
    "NuSVC, two classes": (svm.NuSVC(nu=0.1, kernel="sigmoid"), "two"),
    "OneClassSVM of polynomials": (svm.OneClassSVM(kernel="poly", nu=0.2), "none"),
    "codes": (multiclass.OutputCodeClassifier(LOGISTIC, code_size=2, random_state=0), "words"),
    "codes of trees": (
        multiclass.OutputCodeClassifier(tree.DecisionTreeClassifier(max_depth=4, random_state=0), random_state=0),
        "three"),
    "one against the rest, discriminants": (
        multiclass.OneVsRestClassifier(discriminant_analysis.LinearDiscriminantAnalysis()), "words"),
    "one against the rest, lines": (multiclass.OneVsRestClassifier(svm.LinearSVC()), "words"),
    "one against the rest, lines, two classes": (multiclass.OneVsRestClassifier(svm.LinearSVC()), "two"),
    "one against the rest, several labels": (multiclass.OneVsRestClassifier(LOGISTIC), "flags"),
    "one against the rest, several labels, forests": (
        multiclass.OneVsRestClassifier(ensemble.RandomForestClassifier(5, random_state=0)), "flags"),
    "a net of several labels": (
        neural_network.MLPClassifier((9,), activation="tanh", max_iter=60, random_state=0), "flags"),
    "distances to centres": (make_pipeline(cluster.KMeans(5, random_state=0), LOGISTIC), "three"),
    "self-training": (semi_supervised.SelfTrainingClassifier(LOGISTIC), "some"),
    "bagging of some columns": (
        ensemble.BaggingClassifier(svm.SVC(), n_estimators=4, max_features=0.6, random_state=0), "three"),
    "bagging of few rows": (
        ensemble.BaggingClassifier(LOGISTIC, n_estimators=5, max_samples=4, random_state=1), "three"),
    "bagging of lines": (
        ensemble.BaggingRegressor(linear_model.Ridge(), n_estimators=4, max_features=0.6, random_state=0), "number"),
    "calibration of machines": (calibration.CalibratedClassifierCV(svm.SVC(), method="isotonic", cv=3), "three"),
    "a target's powers": (
        compose.TransformedTargetRegressor(linear_model.Ridge(), transformer=preprocessing.PowerTransformer()),
        "number"),
    "a target's powers, Box-Cox": (
        compose.TransformedTargetRegressor(linear_model.Ridge(), transformer=preprocessing.PowerTransformer("box-cox")),
        "positive"),
    "a target's quantiles": (
        compose.TransformedTargetRegressor(linear_model.Ridge(), transformer=preprocessing.QuantileTransformer(
            n_quantiles=20)), "number"),
}  # fmt: skip


def made_of(model: Any, tmp_path: Path, family: str) -> Session:
    pickled = isinstance(model, cluster.Birch)  # which skops does not take
    (joblib if pickled else skops).dump(model, tmp_path / "model")
    made = conversion(
        CONVERTER, tmp_path / "model", "joblib" if pickled else "skops", tmp_path / "out", trusted=pickled
    )
    report = compared(made, CONVERTER, family)
    assert report.within, report
    return Session(made.model)


def answers_alike(model: Any, answer: dict[str, Any], rows: Any) -> None:
    for name, value in answer.items():
        if name == "label":
            assert (value == model.predict(rows)).all()
            continue
        if name == "probabilities":
            original = (getattr(model, "predict_proba", None) or model.decision_function)(rows)
            original = np.c_[-original, original] if np.ndim(original) == 1 else original
        elif name == "scores":
            original = model.decision_function(rows)
        else:
            original = model.predict(rows)
        tolerance = 1e-6 * np.abs(original).reshape(len(rows), -1).max(axis=1, keepdims=True) + 1e-7
        assert (np.abs(np.reshape(original, value.shape) - value) <= tolerance).all(), name


@pytest.mark.parametrize("what", MODELS)
def test_a_model_answers_alike_near_and_far(what: str, tmp_path: Path) -> None:
    model, kind = MODELS[what]
    model.fit(TABLE, TARGETS[kind])
    answers_alike(model, made_of(model, tmp_path, what).run({"input": ROWS}), ROWS)


MAPS = [
    decomposition.FastICA(3, random_state=0), decomposition.FactorAnalysis(3, random_state=0),
    decomposition.KernelPCA(3, kernel="cosine"), kernel_approximation.Nystroem(n_components=20, random_state=0),
    kernel_approximation.RBFSampler(n_components=20, random_state=0), cluster.FeatureAgglomeration(2),
    discriminant_analysis.LinearDiscriminantAnalysis(n_components=2),
    random_projection.SparseRandomProjection(3, random_state=0), preprocessing.Normalizer("max"),
    preprocessing.Normalizer("l1"),
]  # fmt: skip


@pytest.mark.parametrize("step", MAPS, ids=str)
def test_a_map_in_front_of_a_model_answers_alike(step: Any, tmp_path: Path) -> None:
    model = make_pipeline(step, LOGISTIC).fit(TABLE, CLASSES)
    answers_alike(model, made_of(model, tmp_path, f"{step} → LogisticRegression").run({"input": ROWS}), ROWS)


POSITIVE_MAPS = [
    kernel_approximation.AdditiveChi2Sampler(sample_steps=3), neural_network.BernoulliRBM(4, random_state=0),
    kernel_approximation.SkewedChi2Sampler(n_components=9, random_state=0),
]  # fmt: skip


@pytest.mark.parametrize("step", POSITIVE_MAPS, ids=str)
def test_a_map_of_positive_numbers_answers_alike(step: Any, tmp_path: Path) -> None:
    model = make_pipeline(preprocessing.MinMaxScaler(clip=True), step, LOGISTIC).fit(TABLE, CLASSES)
    answers_alike(model, made_of(model, tmp_path, f"{step} → LogisticRegression").run({"input": ROWS}), ROWS)


def test_an_isotonic_regression_answers_alike_within_and_beyond(tmp_path: Path) -> None:
    for beyond in ("clip", "nan"):
        model = isotonic.IsotonicRegression(out_of_bounds=beyond).fit(TABLE[:, 0], NUMBERS)
        (tmp_path / beyond).mkdir()
        session = made_of(model, tmp_path / beyond, f"IsotonicRegression, {beyond}")
        answer = session.run({"input": ROWS[:, :1]})["variable"].ravel()
        assert np.allclose(answer, model.predict(ROWS[:, 0]), rtol=1e-9, equal_nan=True)


WORDS = ["good", "bad", "café", "über", "fine", "Ωmega", "naïve"]
NOTES = [" ".join(RANDOM.choice(WORDS, 4)) for _ in range(COUNT)]


@pytest.mark.parametrize(
    "last",
    [svm.SVC(), neighbors.NearestCentroid(), make_pipeline(kernel_approximation.Nystroem(n_components=9), LOGISTIC)],
    ids=lambda model: type(model).__name__,
)  # fmt: skip
def test_a_model_that_keeps_a_sparse_matrix_answers_alike(last: Any, tmp_path: Path) -> None:
    model = make_pipeline(feature_extraction.text.TfidfVectorizer(), last).fit(NOTES, CLASSES)
    texts = [*NOTES[:30], "", "🙂", "CAFÉ ÜBER", "good-bad"]
    answer = made_of(model, tmp_path, f"TfidfVectorizer → {type(last).__name__}").run(
        {"text": np.array(texts, object).reshape(-1, 1)}
    )
    assert (answer["label"] == model.predict(texts)).all()


@pytest.mark.parametrize(
    ("model", "way_out"),
    [
        (gaussian_process.GaussianProcessClassifier(), "SVC"),
        (neighbors.RadiusNeighborsClassifier(9.0), "KNeighborsClassifier"),
        (dummy.DummyClassifier(strategy="stratified"), "prior"),
        (make_pipeline(decomposition.SparsePCA(2, max_iter=9), LOGISTIC), "PCA"),
        (neighbors.NearestCentroid(metric="manhattan"), "LinearDiscriminantAnalysis"),
        (make_pipeline(kernel_approximation.Nystroem("laplacian", n_components=9), LOGISTIC), "rbf"),
    ],
    ids=lambda model: type(model).__name__,
)
def test_what_has_no_form_is_refused_with_a_way_out(model: Any, way_out: str, tmp_path: Path) -> None:
    skops.dump(model.fit(TABLE[:60], CLASSES[:60]), tmp_path / "model")
    refused(CONVERTER, tmp_path / "model", "skops", tmp_path / "out", str(model), way_out)


def test_the_truth_values_of_a_pickled_booster_answer_alike(tmp_path: Path) -> None:
    catboost = pytest.importorskip("catboost", reason="catboost is not installed: 'make test-converters' has it")
    model = catboost.CatBoostClassifier(iterations=5, verbose=0, allow_writing_files=False).fit(TABLE, CLASSES > 0)
    joblib.dump(model, tmp_path / "model")
    made = conversion(CONVERTER, tmp_path / "model", "joblib", tmp_path / "out", trusted=True)
    assert compared(made, CONVERTER, "CatBoostClassifier, truth values").within
    (spec,) = (session := Session(made.model)).signature.inputs
    label = session.run({"input": ROWS.astype(np.float32 if spec.dtype == "FP32" else np.float64)})["label"]
    assert (label == model.predict(ROWS)).all()


def test_several_labels_of_a_pickled_booster_answer_alike(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed: 'make test-converters' has it")
    model = xgboost.XGBClassifier(n_estimators=4).fit(TABLE, TARGETS["flags"][:, :2])
    joblib.dump(model, tmp_path / "model")
    made = conversion(CONVERTER, tmp_path / "model", "joblib", tmp_path / "out", trusted=True)
    assert compared(made, CONVERTER, "XGBClassifier, several labels").within
    assert (Session(made.model).run({"input": ROWS})["label"] == model.predict(ROWS)).all()


def test_a_pickled_booster_is_refused_with_the_way_to_save_it(tmp_path: Path) -> None:
    module = pytest.importorskip("xgboost", reason="xgboost is not installed: 'make test-converters' has it")
    joblib.dump(module.train({}, module.DMatrix(TABLE, NUMBERS), 2), tmp_path / "model")
    with pytest.raises(Exception, match="save_model"):
        conversion(CONVERTER, tmp_path / "model", "joblib", tmp_path / "out", trusted=True)


def test_categories_of_a_data_frame_are_refused_with_the_file_that_is_taken(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: 'make test-converters' has it")
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed: 'make test-converters' has it")
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed: 'make test-converters' has it")
    table = pandas.DataFrame({"x": TABLE[:, 0], "word": pandas.Categorical(np.array(WORDS)[CLASSES])})
    for at, model in enumerate((xgboost.XGBClassifier(n_estimators=3, enable_categorical=True),
                                lightgbm.LGBMClassifier(n_estimators=3, verbose=-1))):  # fmt: skip
        joblib.dump(model.fit(table, CLASSES), tmp_path / f"model{at}")
        with pytest.raises(Exception, match="save_model"):
            conversion(CONVERTER, tmp_path / f"model{at}", "joblib", tmp_path / f"out{at}", trusted=True)
