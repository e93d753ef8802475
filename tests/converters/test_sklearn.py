"""scikit-learn's models become ONNX that answers alike, in labels and numbers, or are refused with the reason."""

import functools
import os
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
from tests.converters.converting import compared, conversion, refused

reason = "scikit-learn, skl2onnx or skops is not installed: 'make test-converters' has them"
pytest.importorskip("skl2onnx", reason=reason)
skops = pytest.importorskip("skops.io", reason=reason)
pytest.importorskip("sklearn", reason=reason)

from sklearn import (  # noqa: E402
    calibration,
    cluster,
    compose,
    cross_decomposition,
    datasets,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_extraction,
    feature_selection,
    gaussian_process,
    impute,
    linear_model,
    mixture,
    model_selection,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    preprocessing,
    random_projection,
    svm,
    tree,
)
from sklearn.pipeline import make_pipeline, make_union  # noqa: E402

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
    names = [type(step).__name__ for step in steps]
    if type(model).__name__.startswith(("Stacking", "Voting")):
        names[0] += f" of {', '.join(type(part).__name__ for _, part in model.estimators)}"
    return " → ".join(names)


CLASSIFIERS = [
    linear_model.LogisticRegression(max_iter=3000), linear_model.SGDClassifier(random_state=0),
    linear_model.RidgeClassifier(), linear_model.Perceptron(), svm.LinearSVC(), svm.SVC(), svm.SVC(probability=True),
    neighbors.KNeighborsClassifier(), naive_bayes.GaussianNB(),
    neural_network.MLPClassifier((8,), max_iter=30, random_state=0), tree.DecisionTreeClassifier(random_state=0),
    ensemble.RandomForestClassifier(8, random_state=0), ensemble.ExtraTreesClassifier(8, random_state=0),
    ensemble.GradientBoostingClassifier(n_estimators=8), ensemble.HistGradientBoostingClassifier(max_iter=8),
    ensemble.AdaBoostClassifier(n_estimators=5), ensemble.BaggingClassifier(n_estimators=4, random_state=0),
    discriminant_analysis.LinearDiscriminantAnalysis(), calibration.CalibratedClassifierCV(svm.LinearSVC()),
    discriminant_analysis.QuadraticDiscriminantAnalysis(), svm.NuSVC(),
    naive_bayes.MultinomialNB(), naive_bayes.ComplementNB(), naive_bayes.BernoulliNB(),
    ensemble.VotingClassifier([("logistic", linear_model.LogisticRegression()), ("bayes", naive_bayes.GaussianNB())],
                              voting="soft"),
    ensemble.StackingClassifier([("logistic", linear_model.LogisticRegression()), ("bayes", naive_bayes.GaussianNB())]),
    model_selection.GridSearchCV(tree.DecisionTreeClassifier(random_state=0), {"max_depth": [2, 3]}),
    multiclass.OneVsRestClassifier(linear_model.LogisticRegression()),
    multiclass.OneVsOneClassifier(linear_model.LogisticRegression()),
    ensemble.StackingClassifier([("forest", ensemble.RandomForestClassifier(4, random_state=0)),
                                 ("neighbours", neighbors.KNeighborsClassifier())]),
    make_pipeline(feature_selection.SelectKBest(k=4), linear_model.LogisticRegression()),
    make_pipeline(preprocessing.KBinsDiscretizer(3), linear_model.LogisticRegression()),
    make_pipeline(decomposition.TruncatedSVD(3), tree.DecisionTreeClassifier(random_state=0)),
    make_pipeline(make_union(preprocessing.StandardScaler(), decomposition.PCA(2)), linear_model.LogisticRegression()),
]  # fmt: skip


@pytest.mark.parametrize("model", CLASSIFIERS, ids=family_of)
def test_a_classifier_of_three_wines_answers_alike(model: Any, tmp_path: Path) -> None:
    answers_alike(model.fit(*datasets.load_wine(return_X_y=True)), tmp_path, f"{family_of(model)}, three classes")


PIPELINES = [
    make_pipeline(preprocessing.StandardScaler(), ensemble.RandomForestClassifier(8, random_state=0)),
    make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()),
    make_pipeline(preprocessing.StandardScaler(), decomposition.PCA(3), svm.SVC()),
    make_pipeline(preprocessing.RobustScaler(), svm.SVC(probability=True)),
    make_pipeline(preprocessing.StandardScaler(), svm.LinearSVC()),
    make_pipeline(preprocessing.MinMaxScaler(), neighbors.KNeighborsClassifier()),
    make_pipeline(preprocessing.StandardScaler(), neural_network.MLPClassifier((8,), max_iter=30, random_state=0)),
    calibration.CalibratedClassifierCV(ensemble.RandomForestClassifier(4, random_state=0), method="isotonic"),
    svm.LinearSVC(), ensemble.AdaBoostClassifier(n_estimators=5, random_state=0),
]  # fmt: skip


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
    make_pipeline(preprocessing.PolynomialFeatures(2), linear_model.Ridge()), svm.NuSVR(), svm.LinearSVR(),
    linear_model.HuberRegressor(), linear_model.BayesianRidge(), linear_model.RANSACRegressor(random_state=0),
    linear_model.TweedieRegressor(power=1.5), linear_model.GammaRegressor(), linear_model.QuantileRegressor(),
    cross_decomposition.PLSRegression(2), gaussian_process.GaussianProcessRegressor(),
    ensemble.AdaBoostRegressor(n_estimators=5, random_state=0), ensemble.ExtraTreesRegressor(8, random_state=0),
    ensemble.BaggingRegressor(n_estimators=4, random_state=0), neighbors.RadiusNeighborsRegressor(3.0),
    neural_network.MLPRegressor(hidden_layer_sizes=(8,), max_iter=30, random_state=0),
    ensemble.VotingRegressor([("ridge", linear_model.Ridge()), ("tree", tree.DecisionTreeRegressor(max_depth=3))]),
    ensemble.StackingRegressor([("ridge", linear_model.Ridge()), ("tree", tree.DecisionTreeRegressor(max_depth=3))]),
]  # fmt: skip


@pytest.mark.parametrize("model", REGRESSIONS, ids=family_of)
def test_a_regression_answers_alike(model: Any, tmp_path: Path) -> None:
    answers_alike(model.fit(*datasets.load_diabetes(return_X_y=True)), tmp_path, family_of(model))


@pytest.mark.parametrize("loss", ["poisson", "gamma", "absolute_error", "quantile"])
def test_boosting_of_each_loss_answers_alike(loss: str, tmp_path: Path) -> None:
    model = ensemble.HistGradientBoostingRegressor(loss=loss, max_iter=8, quantile=0.3)
    answers_alike(model.fit(*datasets.load_diabetes(return_X_y=True)), tmp_path, f"{family_of(model)}, {loss}")
    (tmp_path / "behind").mkdir()
    pipeline = make_pipeline(preprocessing.MinMaxScaler(), model).fit(*datasets.load_diabetes(return_X_y=True))
    answers_alike(pipeline, tmp_path / "behind", f"{family_of(pipeline)}, {loss}")


def categories() -> tuple[Any, Any]:
    """Two columns of codes with gaps between them, two of numbers, some cells missing; the codes matter."""
    random = np.random.default_rng(1)
    table, target = datasets.load_diabetes(return_X_y=True)
    codes = random.choice([0, 1, 3, 7, 20, 21, 40, 64, 90], len(table))
    table = np.c_[table[:, 2], codes, random.integers(0, 3, len(table)), table[:, 8]]
    table[random.random(table.shape) < 0.05] = np.nan
    return table, target + np.nan_to_num(codes) % 5 * 60


@pytest.mark.parametrize("kind", ["regression", "poisson", "two classes", "three classes of text"])
def test_boosting_with_categories_known_unknown_and_missing_answers_alike(kind: str, tmp_path: Path) -> None:
    table, target = categories()
    settings = {"max_iter": 12, "categorical_features": [1, 2], "random_state": 0}
    if kind in ("regression", "poisson"):
        loss = "poisson" if kind == "poisson" else "squared_error"
        model = ensemble.HistGradientBoostingRegressor(loss=loss, **settings)
    else:
        model = ensemble.HistGradientBoostingClassifier(**settings)
        target = (
            target > 250 if kind == "two classes" else np.array(["low", "mittel", "höh"])[target.astype(int) // 250]
        )
    answers_alike(model.fit(table, target), tmp_path, f"{family_of(model)}, categories, {kind}")


def test_boosting_with_categories_of_text_and_within_a_pipeline_answers_alike(tmp_path: Path) -> None:
    table, target = passengers()
    texts = ensemble.HistGradientBoostingClassifier(max_iter=2, categorical_features=["city"])
    answers_alike(texts.fit(table[["age", "city"]], target), tmp_path, f"{family_of(texts)}, categories of text")
    within = make_pipeline(
        preprocessing.MinMaxScaler(), ensemble.HistGradientBoostingRegressor(max_iter=2, categorical_features=[2])
    )
    (tmp_path / "within").mkdir()
    answers_alike(within.fit(*categories()), tmp_path / "within", f"{family_of(within)}, categories")


@pytest.mark.parametrize(
    "model",
    [multioutput.MultiOutputRegressor(linear_model.Ridge()), ensemble.RandomForestRegressor(4, random_state=0)],
    ids=family_of,
)
def test_two_targets_answer_alike(model: Any, tmp_path: Path) -> None:
    table, target = datasets.load_diabetes(return_X_y=True)
    answers_alike(model.fit(table, np.c_[target, -target]), tmp_path, f"{family_of(model)}, two targets")


@pytest.mark.parametrize(
    "model",
    [
        cluster.KMeans(3, random_state=0),
        cluster.MiniBatchKMeans(3, random_state=0),
        ensemble.IsolationForest(n_estimators=15, random_state=0),
        mixture.GaussianMixture(2, random_state=0),
        decomposition.PCA(2),
        preprocessing.StandardScaler(),
        mixture.BayesianGaussianMixture(n_components=2, random_state=0),
        neighbors.LocalOutlierFactor(novelty=True),
        make_pipeline(preprocessing.StandardScaler(), cluster.KMeans(3, random_state=0)),
        make_pipeline(preprocessing.StandardScaler(), ensemble.IsolationForest(n_estimators=15, random_state=0)),
        decomposition.KernelPCA(2), preprocessing.MinMaxScaler(), preprocessing.Normalizer(),
        preprocessing.QuantileTransformer(n_quantiles=50), preprocessing.KBinsDiscretizer(3, encode="ordinal"),
        random_projection.GaussianRandomProjection(2, random_state=0), feature_selection.VarianceThreshold(0.2),
    ],
    ids=family_of,
)  # fmt: skip
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


@pytest.mark.parametrize(
    "last",
    [naive_bayes.MultinomialNB(), linear_model.SGDClassifier(random_state=0), linear_model.Ridge(),
     ensemble.RandomForestClassifier(5, random_state=0)],
    ids=family_of,
)  # fmt: skip
def test_texts_before_other_models_answer_alike(last: Any, tmp_path: Path) -> None:
    model = make_pipeline(feature_extraction.text.TfidfVectorizer(sublinear_tf=True), last)
    answers_alike(model.fit(TEXTS * 4, [0, 1] * 12), tmp_path, f"{family_of(model)}, sublinear")


def test_texts_whose_words_weigh_alike_for_both_sides_say_nothing_of_the_label(tmp_path: Path) -> None:
    good, bad = ["good", "great", "nice", "fine"], ["bad", "poor", "awful", "sad"]
    texts = [f"{word} {about}" for word in (*good, *bad) for about in ("film", "story", "work")]
    model = make_pipeline(feature_extraction.text.TfidfVectorizer(), linear_model.LogisticRegression())
    skops.dump(model.fit(texts, [1] * 12 + [0] * 12), tmp_path / "model.skops")
    made = conversion(CONVERTER, tmp_path / "model.skops", "skops", tmp_path / "out")
    assert made.undecided is not None
    feed = {"text": np.array(["good bad film", "good film", "bad story"], object)}
    assert made.undecided(feed).tolist() == [True, False, False]
    report = compared(made, CONVERTER, f"{family_of(model)}, balanced")
    assert report.within, report


def test_two_vectorizers_of_one_text_answer_alike(tmp_path: Path) -> None:
    words = feature_extraction.text
    union = make_union(words.TfidfVectorizer(), words.CountVectorizer(ngram_range=(2, 2)))
    model = make_pipeline(union, decomposition.TruncatedSVD(3, random_state=0), linear_model.LogisticRegression())
    answers_alike(model.fit(TEXTS * 4, [0, 1] * 12), tmp_path, family_of(model))


def passengers() -> tuple[Any, list[int]]:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: 'make test-converters' has it")
    columns = {
        "age": [20.0, 30, np.nan, 50] * 15, "fare": np.arange(60) * 1.5, "city": ["a", "b", "ç", "d"] * 15,
        "sex": ["m", "f"] * 30, "note": TEXTS * 10,
    }  # fmt: skip
    return pandas.DataFrame(columns), [0, 1, 1, 0] * 15


def by_type() -> list[Any]:
    numbers, words = compose.make_column_selector(dtype_include="number"), ["city", "sex"]
    return [
        ("numbers", make_pipeline(impute.SimpleImputer(strategy="median"), preprocessing.StandardScaler()), numbers),
        ("words", preprocessing.OneHotEncoder(handle_unknown="ignore"), words),
    ]


TABLES: dict[str, tuple[list[str], Any, Any]] = {
    "numbers by name, the rest as it is": (
        ["age", "fare"],
        compose.ColumnTransformer([("scaled", preprocessing.StandardScaler(), ["fare"])], remainder="passthrough"),
        ensemble.HistGradientBoostingClassifier(max_iter=5),
    ),
    "columns by their type": (
        ["age", "fare", "city", "sex"],
        compose.ColumnTransformer(by_type()),
        ensemble.RandomForestClassifier(8, random_state=0),
    ),
    "categories as numbers": (
        ["fare", "city"],
        compose.ColumnTransformer(
            [("words", preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["city"])],
            remainder="passthrough",
        ),
        ensemble.GradientBoostingClassifier(n_estimators=8),
    ),
    "categories as their targets": (
        ["city", "sex"],
        compose.ColumnTransformer([("words", preprocessing.TargetEncoder(random_state=0), ["city", "sex"])]),
        linear_model.LogisticRegression(),
    ),
    "a text and a number": (
        ["note", "fare"],
        compose.ColumnTransformer(
            [
                ("text", feature_extraction.text.TfidfVectorizer(), "note"),
                ("number", preprocessing.StandardScaler(), ["fare"]),
            ]
        ),
        linear_model.LogisticRegression(),
    ),
}


@pytest.mark.parametrize("what", TABLES)
def test_a_table_of_named_columns_answers_alike(what: str, tmp_path: Path) -> None:
    names, columns, last = TABLES[what]
    table, target = passengers()
    model = make_pipeline(columns, last).fit(table[names], target)
    answers_alike(model, tmp_path, f"{family_of(model)}, {what}")


@pytest.mark.parametrize("model", [svm.NuSVC(probability=True)], ids=str)
def test_what_comes_out_otherwise_is_not_published(model: Any, tmp_path: Path) -> None:
    model.fit(*datasets.load_wine(return_X_y=True))
    skops.dump(model, tmp_path / "model.skops")
    made = conversion(CONVERTER, tmp_path / "model.skops", "skops", tmp_path / "out")
    assert not compared(made, CONVERTER, f"{model}, three classes").within


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
    skops.dump(model, tmp_path / "model.skops")
    refused(CONVERTER, tmp_path / "model.skops", "skops", tmp_path / "out", f"{part} → LogisticRegression", word)


def test_an_imputer_with_indicators_answers_alike(tmp_path: Path) -> None:
    steps = [impute.SimpleImputer(add_indicator=True), preprocessing.StandardScaler()]
    model = make_pipeline(*steps, linear_model.LogisticRegression())
    answers_alike(model.fit(*cancer(missing=True)), tmp_path, f"{family_of(model)}, add_indicator")


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


def test_a_partial_of_what_is_not_scikit_learns_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    step = preprocessing.FunctionTransformer(functools.partial(os.mkdir, tmp_path / "made"))
    skops.dump(make_pipeline(step, linear_model.Ridge()), tmp_path / "model.skops")
    refused(CONVERTER, tmp_path / "model.skops", "skops", tmp_path / "out", "a partial of os.mkdir", r"mkdir")


def test_truncated_skops_files_are_refused(tmp_path: Path) -> None:
    skops.dump(tree.DecisionTreeClassifier().fit(*datasets.load_iris(return_X_y=True)), tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for size in (0, 1000, len(whole) // 2):
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(RefusedError):
            in_its_own_process(tmp_path / "cut", "skops")
