"""scikit-learn's models become ONNX that answers alike, in labels and numbers, or are refused with the reason."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.core.errors import RefusedError
from converters import isolation
from converters.detected import Detected
from converters.frameworks.sklearn import CONVERTER
from converters.isolation import Limits
from converters.job import Job
from converters.options import Options
from tests.converters.converting import compared, conversion

reason = "scikit-learn, skl2onnx or skops is not installed: 'make test-converters' has them"
pytest.importorskip("skl2onnx", reason=reason)
skops = pytest.importorskip("skops.io", reason=reason)
pytest.importorskip("sklearn", reason=reason)

from sklearn import (  # noqa: E402
    calibration,
    cluster,
    compose,
    datasets,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_extraction,
    impute,
    linear_model,
    mixture,
    naive_bayes,
    neighbors,
    neural_network,
    preprocessing,
    svm,
    tree,
)
from sklearn.pipeline import make_pipeline  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


def cancer(missing: bool = False) -> tuple[Any, Any]:
    table, labels = datasets.load_breast_cancer(return_X_y=True)
    if missing:
        table[np.random.default_rng(0).random(table.shape) < 0.1] = np.nan
    return table, labels


def answers_alike(model: Any, tmp_path: Path, family: str) -> None:
    skops.dump(model, tmp_path / "model.skops")
    made = conversion(CONVERTER, tmp_path / "model.skops", "skops", tmp_path / "out")
    report = compared(made, CONVERTER, family)
    assert report.within, report


def family_of(model: Any) -> str:
    steps = [step for _, step in getattr(model, "steps", [("", model)])]
    return " → ".join(type(step).__name__ for step in steps)


CLASSIFIERS = [
    linear_model.LogisticRegression(max_iter=3000), linear_model.SGDClassifier(random_state=0),
    linear_model.RidgeClassifier(), linear_model.Perceptron(), svm.LinearSVC(), svm.SVC(), svm.SVC(probability=True),
    neighbors.KNeighborsClassifier(), naive_bayes.GaussianNB(),
    neural_network.MLPClassifier((8,), max_iter=30, random_state=0), tree.DecisionTreeClassifier(random_state=0),
    ensemble.RandomForestClassifier(8, random_state=0), ensemble.ExtraTreesClassifier(8, random_state=0),
    ensemble.GradientBoostingClassifier(n_estimators=8), ensemble.HistGradientBoostingClassifier(max_iter=8),
    ensemble.AdaBoostClassifier(n_estimators=5), ensemble.BaggingClassifier(n_estimators=4, random_state=0),
    discriminant_analysis.LinearDiscriminantAnalysis(), calibration.CalibratedClassifierCV(svm.LinearSVC()),
]  # fmt: skip


@pytest.mark.parametrize("model", CLASSIFIERS, ids=family_of)
def test_a_classifier_of_three_wines_answers_alike(model: Any, tmp_path: Path) -> None:
    answers_alike(model.fit(*datasets.load_wine(return_X_y=True)), tmp_path, f"{family_of(model)}, three classes")


PIPELINES = [
    make_pipeline(preprocessing.StandardScaler(), ensemble.RandomForestClassifier(8, random_state=0)),
    make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()),
    make_pipeline(preprocessing.StandardScaler(), decomposition.PCA(3), svm.SVC()),
    make_pipeline(preprocessing.RobustScaler(), svm.SVC(probability=True)),
]


@pytest.mark.parametrize("model", PIPELINES, ids=family_of)
def test_a_pipeline_of_two_classes_answers_alike(model: Any, tmp_path: Path) -> None:
    answers_alike(model.fit(*cancer()), tmp_path, f"{family_of(model)}, two classes")


@pytest.mark.parametrize(
    "model",
    [
        ensemble.HistGradientBoostingClassifier(max_iter=8),
        make_pipeline(impute.SimpleImputer(), ensemble.GradientBoostingClassifier(n_estimators=8)),
    ],
    ids=family_of,
)
def test_missing_values_answer_alike(model: Any, tmp_path: Path) -> None:
    answers_alike(model.fit(*cancer(missing=True)), tmp_path, f"{family_of(model)}, missing values")


REGRESSIONS = [
    linear_model.LinearRegression(), linear_model.Ridge(), linear_model.Lasso(), linear_model.PoissonRegressor(),
    svm.SVR(), neighbors.KNeighborsRegressor(), ensemble.RandomForestRegressor(8, random_state=0),
    ensemble.GradientBoostingRegressor(n_estimators=8), ensemble.HistGradientBoostingRegressor(max_iter=8),
    make_pipeline(preprocessing.PolynomialFeatures(2), linear_model.Ridge()),
]  # fmt: skip


@pytest.mark.parametrize("model", REGRESSIONS, ids=family_of)
def test_a_regression_answers_alike(model: Any, tmp_path: Path) -> None:
    answers_alike(model.fit(*datasets.load_diabetes(return_X_y=True)), tmp_path, family_of(model))


@pytest.mark.parametrize(
    "model",
    [
        cluster.KMeans(3, random_state=0),
        cluster.MiniBatchKMeans(3, random_state=0),
        ensemble.IsolationForest(n_estimators=15, random_state=0),
        mixture.GaussianMixture(2, random_state=0),
        decomposition.PCA(2),
        preprocessing.StandardScaler(),
    ],
    ids=family_of,
)
def test_clusters_outliers_and_transformers_answer_alike(model: Any, tmp_path: Path) -> None:
    answers_alike(model.fit(datasets.load_iris().data), tmp_path, family_of(model))


TEXTS = ["Füße naïve café", "the quick brown fox", "ÜBER Änderung über", "señor čeština fox", "Привет мир", "ζωή fox"]


@pytest.mark.parametrize(
    "vectorizer",
    [
        feature_extraction.text.TfidfVectorizer(),
        feature_extraction.text.TfidfVectorizer(lowercase=False),
        feature_extraction.text.CountVectorizer(ngram_range=(1, 2)),
    ],
    ids=str,
)
def test_texts_with_accents_in_each_case_answer_alike(vectorizer: Any, tmp_path: Path) -> None:
    model = make_pipeline(vectorizer, linear_model.LogisticRegression())
    answers_alike(model.fit(TEXTS * 4, [0, 1] * 12), tmp_path, f"{vectorizer} → LogisticRegression")


def test_a_table_of_numbers_and_categories_by_name_answers_alike(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: 'make test-converters' has it")
    table = pandas.DataFrame(
        {"age": [20.0, 30, np.nan, 50] * 15, "city": ["a", "b", "ç", "d"] * 15, "sex": ["m", "f"] * 30}
    )
    columns = compose.ColumnTransformer(
        [
            ("numbers", make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler()), ["age"]),
            ("words", preprocessing.OneHotEncoder(handle_unknown="ignore"), ["city", "sex"]),
        ]
    )
    model = make_pipeline(columns, linear_model.LogisticRegression())
    answers_alike(model.fit(table, [0, 1, 1, 0] * 15), tmp_path, "ColumnTransformer → LogisticRegression")


@pytest.mark.parametrize(
    ("part", "word"),
    [
        (feature_extraction.text.TfidfVectorizer(analyzer="char_wb"), "char_wb"),
        (feature_extraction.text.TfidfVectorizer(strip_accents="unicode"), "strip_accents"),
        (feature_extraction.text.CountVectorizer(token_pattern=r"\w+"), "token_pattern"),
        (feature_extraction.text.HashingVectorizer(n_features=64), "HashingVectorizer"),
    ],
    ids=str,
)
def test_what_would_split_texts_otherwise_is_refused(part: Any, word: str, tmp_path: Path) -> None:
    model = make_pipeline(part, linear_model.LogisticRegression()).fit(TEXTS, [0, 1] * 3)
    with pytest.raises(RefusedError, match=word):
        answers_alike(model, tmp_path, "refused")


def test_an_imputer_with_indicators_is_refused(tmp_path: Path) -> None:
    model = make_pipeline(impute.SimpleImputer(add_indicator=True), linear_model.LogisticRegression(max_iter=3000))
    with pytest.raises(RefusedError, match="add_indicator"):
        answers_alike(model.fit(*cancer(missing=True)), tmp_path, "refused")


def in_its_own_process(source: Path, word: str, trusted: bool = False) -> Any:
    # As detection says of a pickle: it runs code, so it takes trust.
    detected = Detected(format=word, what=word, refusal="it runs code" if word != "skops" else "", runs_code=True)
    with isolation.workplace() as work:
        options = Options(trusted=trusted)
        job = Job(
            source=str(source), framework="sklearn", detected=detected, folder=str(work / "bundle"), options=options
        )
        return isolation.run(job, Limits(seconds=90))


def test_a_pickle_is_converted_in_the_sandbox_with_trust_alone(tmp_path: Path) -> None:
    source = tmp_path / "model.pkl"
    source.write_bytes(pickle.dumps(linear_model.LogisticRegression().fit(*datasets.load_iris(return_X_y=True))))
    with pytest.raises(RefusedError, match="runs code"):
        in_its_own_process(source, "pickle")
    assert in_its_own_process(source, "pickle", trusted=True).record.parity.within


class Writes:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "was here"))


def test_a_trusted_pickle_that_writes_elsewhere_is_stopped_by_the_sandbox(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    source = tmp_path / "model.pkl"
    source.write_bytes(pickle.dumps(Writes(mark)))
    with pytest.raises(RefusedError):
        in_its_own_process(source, "pickle", trusted=True)
    assert not mark.exists()


def test_truncated_skops_files_are_refused(tmp_path: Path) -> None:
    skops.dump(tree.DecisionTreeClassifier().fit(*datasets.load_iris(return_X_y=True)), tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for size in (0, 1000, len(whole) // 2):
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(RefusedError):
            in_its_own_process(tmp_path / "cut", "skops")
