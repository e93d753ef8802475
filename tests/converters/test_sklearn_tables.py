"""Tables as they are kept (names, texts, seconds, cells without a value) go through scikit-learn's steps and its models
of models as in the original, on rows that are made and on the table itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.frameworks.sklearn import CONVERTER
from converters.session import Session
from tests.converters.converting import compared, conversion, refused

reason = "scikit-learn, skl2onnx, skops or pandas is not installed: 'make test-converters' has them"
pytest.importorskip("skl2onnx", reason=reason)
skops = pytest.importorskip("skops.io", reason=reason)
pandas = pytest.importorskip("pandas", reason=reason)
joblib = pytest.importorskip("joblib", reason=reason)

from sklearn import (  # noqa: E402
    calibration,
    compose,
    decomposition,
    ensemble,
    feature_extraction,
    feature_selection,
    frozen,
    impute,
    linear_model,
    model_selection,
    multioutput,
    preprocessing,
    svm,
    tree,
)
from sklearn.experimental import enable_iterative_imputer  # noqa: E402, F401
from sklearn.pipeline import make_pipeline, make_union  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

COUNT = 240


def customers() -> Any:
    random = np.random.default_rng(7)
    table = pandas.DataFrame(
        {
            "age": random.integers(18, 90, COUNT).astype(float),
            "spent": random.lognormal(3, 1, COUNT).round(2),
            "since": 1.7e9 + random.integers(0, 10**7, COUNT),
            "plan": random.choice(["basic", "plus", "pro"], COUNT),
            "city": random.choice(["Köln", "Łódź", "Zürich", "Nice", "Bath"], COUNT, p=[0.5, 0.3, 0.1, 0.06, 0.04]),
            "rooms": random.integers(1, 4, COUNT),
            "note": [" ".join(random.choice(WORDS, 5)) for _ in range(COUNT)],
            "never looked at": "x",
        }
    )
    table.loc[random.random(COUNT) < 0.2, "age"] = np.nan
    table["city"] = table["city"].astype(object).where(random.random(COUNT) > 0.15, np.nan)
    return table


WORDS = ["the", "a", "not", "good", "bad", "café", "naïve", "very", "delivery", "slow", "was"]


def targets(table: Any) -> tuple[Any, Any]:
    value = table.spent + 3 * (table.plan == "pro") + (table.since - 1.705e9) / 1e6 + table.rooms
    return value.to_numpy(), (value > value.median()).to_numpy().astype(int)


NUMBERS = make_pipeline(impute.SimpleImputer(strategy="median"), preprocessing.StandardScaler())
ONE_HOT = preprocessing.OneHotEncoder(handle_unknown="ignore")


def columns(numbers: Any = NUMBERS, texts: Any = ONE_HOT, **more: Any) -> Any:
    parts = [("numbers", numbers, ["age", "spent"]), ("texts", texts, ["plan", "city"])]
    return compose.ColumnTransformer(parts, **more)


def answers_its_table_alike(model: Any, table: Any, tmp_path: Path, family: str, *, pickled: bool = False) -> None:
    source = tmp_path / "model"
    joblib.dump(model, source) if pickled else skops.dump(model, source)
    made = conversion(CONVERTER, source, "joblib" if pickled else "skops", tmp_path / "out", trusted=pickled)
    report = compared(made, CONVERTER, family)
    assert report.within, report
    session = Session(made.model)
    outputs = session.run({spec.name: cells(table, spec) for spec in session.signature.inputs})
    for name, answer in outputs.items():
        if name.startswith("probabilities"):
            original = model.predict_proba(table)
            original = original[int(name.split("_")[1])] if "_" in name else original
        else:
            original = model.predict(table) if hasattr(model, "predict") else model.transform(table)
        original = np.asarray(original).reshape(answer.shape)
        if answer.dtype == object or name == "label":
            assert (original.astype(answer.dtype) == answer).all(), name
        else:
            tolerance = 1e-4 if answer.dtype == np.float32 else 1e-6
            assert np.allclose(original, answer, rtol=tolerance, atol=tolerance, equal_nan=True), name


def cells(table: Any, spec: Any) -> Any:
    if spec.name == "input":
        return table.to_numpy(np.float64 if spec.dtype == "FP64" else np.float32)
    column = table[spec.name].to_numpy()
    if spec.dtype == "BYTES":
        column = np.array(["" if cell is None or cell != cell else cell for cell in column], object)
    return (column if spec.dtype == "BYTES" else column.astype(np.float64)).reshape(-1, 1)


STEPS = {
    "categories with unknown and missing ones": columns(),
    "missing texts filled with the most frequent": columns(
        texts=make_pipeline(impute.SimpleImputer(strategy="most_frequent"), ONE_HOT)
    ),
    "missing texts filled with a word": columns(
        texts=make_pipeline(impute.SimpleImputer(strategy="constant", fill_value="none"), ONE_HOT)
    ),
    "missing values flagged": columns(make_pipeline(impute.SimpleImputer(add_indicator=True))),
    "missing values guessed": columns(make_pipeline(impute.IterativeImputer(random_state=0))),
    "rare categories together": columns(
        texts=preprocessing.OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.1)
    ),
    "a category dropped": columns(texts=preprocessing.OneHotEncoder(drop="first", handle_unknown="ignore")),
    "codes": columns(
        texts=preprocessing.OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=-2, encoded_missing_value=-1
        )
    ),
    "means of the target": columns(texts=preprocessing.TargetEncoder(random_state=0)),
    "numbers as categories": compose.ColumnTransformer(
        [("rooms", ONE_HOT, ["rooms"]), ("spent", preprocessing.StandardScaler(), ["spent"])]
    ),
    "bins": columns(make_pipeline(impute.SimpleImputer(), preprocessing.KBinsDiscretizer(5))),
    "splines": columns(make_pipeline(impute.SimpleImputer(), preprocessing.SplineTransformer(n_knots=4))),
    "splines, straight on": columns(
        make_pipeline(impute.SimpleImputer(), preprocessing.SplineTransformer(extrapolation="linear"))
    ),
    "splines, again and again": columns(
        make_pipeline(impute.SimpleImputer(), preprocessing.SplineTransformer(extrapolation="periodic"))
    ),
    "missing values of neighbours": compose.ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(preprocessing.StandardScaler(), impute.KNNImputer(n_neighbors=3, add_indicator=True)),
                ["age", "spent", "since"],
            )
        ]
    ),
    "missing values of neighbours by distance": compose.ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(preprocessing.StandardScaler(), impute.KNNImputer(weights="distance")),
                ["age", "spent", "since"],
            )
        ]
    ),
    "frozen": frozen.FrozenEstimator(columns().fit(customers())),
    "products": columns(make_pipeline(NUMBERS, preprocessing.PolynomialFeatures(3))),
    "logarithms": columns(make_pipeline(impute.SimpleImputer(), preprocessing.FunctionTransformer(np.log1p))),
    "powers": columns(make_pipeline(impute.SimpleImputer(), preprocessing.PowerTransformer())),
    "powers of positive numbers": columns(
        make_pipeline(impute.SimpleImputer(), preprocessing.PowerTransformer(method="box-cox"))
    ),
    "quantiles": columns(make_pipeline(impute.SimpleImputer(), preprocessing.QuantileTransformer(n_quantiles=30))),
    "normal quantiles": columns(
        make_pipeline(
            impute.SimpleImputer(),
            preprocessing.QuantileTransformer(n_quantiles=30, output_distribution="normal"),
        )
    ),
    "within each other": compose.ColumnTransformer(
        [("inner", make_pipeline(columns()), ["spent", "city", "age", "plan"])], remainder="drop"
    ),
    "two of the same columns": make_union(columns(), columns(texts=preprocessing.OneHotEncoder())),
    "chosen by importance": make_pipeline(
        columns(), feature_selection.SelectFromModel(ensemble.RandomForestClassifier(8, random_state=0))
    ),
    "a text beside numbers": compose.ColumnTransformer(
        [("words", feature_extraction.text.TfidfVectorizer(), "note"), ("numbers", NUMBERS, ["age", "spent"])]
    ),
    "a date in seconds": compose.ColumnTransformer(
        [("since", preprocessing.StandardScaler(), ["since"])], remainder="drop"
    ),
}


@pytest.mark.parametrize("what", STEPS)
def test_columns_go_through_each_step_alike(what: str, tmp_path: Path) -> None:
    table = customers()
    if what == "two of the same columns":  # which knows no category but its own
        table["city"] = table["city"].fillna("Nice")
    model = make_pipeline(STEPS[what], linear_model.LogisticRegression(max_iter=2000))
    answers_its_table_alike(model.fit(table, targets(table)[1]), table, tmp_path, f"columns: {what}")


FOREST = ensemble.RandomForestClassifier(15, random_state=0)
LOGISTIC = linear_model.LogisticRegression(max_iter=2000)

OF_MODELS: dict[str, tuple[Any, str]] = {
    "a search": (
        model_selection.GridSearchCV(make_pipeline(columns(), LOGISTIC), {"logisticregression__C": [0.1, 1]}, cv=2),
        "class",
    ),
    "a soft vote of pipelines": (
        ensemble.VotingClassifier(
            [("a", make_pipeline(columns(), LOGISTIC)), ("b", make_pipeline(columns(), FOREST))], voting="soft",
            weights=[2, 1],
        ),
        "words",
    ),
    "a hard vote of pipelines": (
        ensemble.VotingClassifier(
            [("a", make_pipeline(columns(), LOGISTIC)), ("b", make_pipeline(columns(), FOREST)),
                           ("c", make_pipeline(columns(), tree.DecisionTreeClassifier(max_depth=3)))]
        ),
        "class",
    ),
    "a mean of pipelines": (
        ensemble.VotingRegressor([("a", make_pipeline(columns(), linear_model.Ridge())),
                                  ("b", make_pipeline(columns(), tree.DecisionTreeRegressor(max_depth=3)))]),
        "number",
    ),
    "a stack of pipelines": (
        ensemble.StackingClassifier([("a", make_pipeline(columns(), svm.LinearSVC())),
                                     ("b", make_pipeline(columns(), FOREST))]),
        "words",
    ),
    "calibration, sigmoid": (
        calibration.CalibratedClassifierCV(make_pipeline(columns(), svm.LinearSVC()), cv=2), "class"
    ),
    "calibration, isotonic": (
        calibration.CalibratedClassifierCV(make_pipeline(columns(), FOREST), method="isotonic", cv=2), "words"
    ),
    "calibration, temperature": (
        calibration.CalibratedClassifierCV(make_pipeline(columns(), svm.LinearSVC()), method="temperature", cv=2),
        "words",
    ),
    "calibration, temperature of a forest": (
        calibration.CalibratedClassifierCV(make_pipeline(columns(), FOREST), method="temperature", cv=2), "class"
    ),
    "a threshold that was tuned": (
        model_selection.TunedThresholdClassifierCV(make_pipeline(columns(), LOGISTIC), cv=2), "class"
    ),
    "a threshold that was set": (
        model_selection.FixedThresholdClassifier(make_pipeline(columns(), LOGISTIC), threshold=0.3), "class"
    ),
    "a target's logarithm": (
        compose.TransformedTargetRegressor(make_pipeline(columns(), linear_model.Ridge()), func=np.log1p,
                                           inverse_func=np.expm1),
        "number",
    ),
    "a target, scaled": (
        compose.TransformedTargetRegressor(make_pipeline(columns(), linear_model.Ridge()),
                                           transformer=preprocessing.StandardScaler()),
        "number",
    ),
    "two targets, a model each": (
        make_pipeline(columns(), multioutput.MultiOutputClassifier(linear_model.LogisticRegression())), "two classes"
    ),
    "a chain": (
        make_pipeline(columns(), multioutput.ClassifierChain(linear_model.LogisticRegression())), "two classes"
    ),
    "histogram boosting of texts": (
        make_pipeline(
            columns("passthrough", preprocessing.OrdinalEncoder(
                handle_unknown="use_encoded_value", unknown_value=np.nan)),
            ensemble.HistGradientBoostingClassifier(max_iter=10, categorical_features=[2, 3]),
        ),
        "words",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", OF_MODELS)
def test_models_of_models_over_columns_answer_alike(what: str, tmp_path: Path) -> None:
    table = customers()
    model, kind = OF_MODELS[what]
    value, label = targets(table)
    wanted = {
        "class": label,
        "number": value,
        "words": np.array(["nein", "ja"])[label],
        "two classes": np.c_[label, 1 - label],
    }
    answers_its_table_alike(model.fit(table, wanted[kind]), table, tmp_path, f"over columns: {what}")


def test_histogram_boosting_splits_doubles_where_single_precision_would_not(tmp_path: Path) -> None:
    table = customers()[["spent", "since"]]  # cents, and seconds since 1970
    model = ensemble.HistGradientBoostingRegressor(max_iter=20).fit(table, targets(customers())[0])
    answers_its_table_alike(model, table, tmp_path, "HistGradientBoostingRegressor, cents and seconds")


def test_a_linear_model_of_seconds_since_1970_answers_alike(tmp_path: Path) -> None:
    table = customers()[["spent", "since", "rooms"]]
    model = linear_model.LinearRegression().fit(table, targets(customers())[0])
    answers_its_table_alike(model, table, tmp_path, "LinearRegression, seconds")


@pytest.mark.parametrize("last", [svm.LinearSVC(), FOREST], ids=lambda model: type(model).__name__)
def test_stop_words_are_gone_before_words_are_paired(last: Any, tmp_path: Path) -> None:
    words = feature_extraction.text.TfidfVectorizer(stop_words=["the", "a", "was"], ngram_range=(1, 2), min_df=2)
    table = customers()
    model = make_pipeline(words, last).fit(table["note"], targets(table)[1])
    skops.dump(model, tmp_path / "model")
    made = conversion(CONVERTER, tmp_path / "model", "skops", tmp_path / "out")
    assert compared(made, CONVERTER, f"TfidfVectorizer, stop words and pairs → {type(last).__name__}").within
    answer = Session(made.model).run({"text": table["note"].to_numpy(object).reshape(-1, 1)})
    assert (answer["label"] == model.predict(table["note"])).all()


def test_texts_within_a_calibration_answer_alike(tmp_path: Path) -> None:
    table = customers()
    words = make_pipeline(feature_extraction.text.TfidfVectorizer(sublinear_tf=True), svm.LinearSVC())
    model = calibration.CalibratedClassifierCV(words, cv=2).fit(table["note"], targets(table)[1])
    skops.dump(model, tmp_path / "model")
    made = conversion(CONVERTER, tmp_path / "model", "skops", tmp_path / "out")
    assert compared(made, CONVERTER, "CalibratedClassifierCV of texts").within


def boosters() -> list[Any]:
    made = []
    for library, name, settings in (
        ("xgboost", "XGBClassifier", {"n_estimators": 8}),
        ("xgboost", "XGBRegressor", {"n_estimators": 8}),
        ("lightgbm", "LGBMClassifier", {"n_estimators": 8, "verbose": -1}),
        ("lightgbm", "LGBMRegressor", {"n_estimators": 8, "verbose": -1}),
        ("catboost", "CatBoostClassifier", {"iterations": 8, "verbose": 0, "allow_writing_files": False}),
        ("catboost", "CatBoostRegressor", {"iterations": 8, "verbose": 0, "allow_writing_files": False}),
    ):
        made.append(pytest.param(library, name, settings, id=name))
    return made


@pytest.mark.parametrize(("library", "name", "settings"), boosters())
def test_a_pipeline_with_a_booster_at_its_end_answers_alike(
    library: str, name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    module = pytest.importorskip(library, reason=f"{library} is not installed: 'make test-converters' has it")
    table = customers()
    value, label = targets(table)
    model = make_pipeline(columns(), getattr(module, name)(**settings))
    model.fit(table, value if "Regressor" in name else label)
    answers_its_table_alike(model, table, tmp_path, f"columns → {name}", pickled=True)


COUNTS, FREQUENCIES = feature_extraction.text.CountVectorizer(), feature_extraction.text.TfidfTransformer()


@pytest.mark.parametrize(
    "words",
    [
        (feature_extraction.text.TfidfVectorizer(),), (COUNTS, FREQUENCIES), (COUNTS, preprocessing.Binarizer()),
        (COUNTS, preprocessing.FunctionTransformer(np.log1p), feature_selection.SelectKBest(k=6)),
        (make_union(feature_extraction.text.TfidfVectorizer(), make_pipeline(COUNTS, FREQUENCIES)),),
    ],
    ids=lambda steps: " ".join(type(step).__name__ for step in steps),
)  # fmt: skip
def test_xgboost_takes_the_words_that_are_not_in_a_text_for_missing(words: tuple[Any, ...], tmp_path: Path) -> None:
    module = pytest.importorskip("xgboost", reason="xgboost is not installed: 'make test-converters' has it")
    table = customers()
    model = make_pipeline(*words, module.XGBClassifier(n_estimators=8)).fit(table["note"], targets(table)[1])
    joblib.dump(model, tmp_path / "model")
    made = conversion(CONVERTER, tmp_path / "model", "joblib", tmp_path / "out", trusted=True)
    names = [type(step).__name__ for step in words]
    assert compared(made, CONVERTER, " → ".join([*names, "XGBClassifier"])).within
    answer = Session(made.model).run({"text": table["note"].to_numpy(object).reshape(-1, 1)})
    assert (answer["label"] == model.predict(table["note"])).all()


def test_trees_of_two_libraries_go_into_one_vote(tmp_path: Path) -> None:
    module = pytest.importorskip("xgboost", reason="xgboost is not installed: 'make test-converters' has it")
    table = customers()
    vote = ensemble.VotingClassifier([("x", module.XGBClassifier(n_estimators=8)), ("f", FOREST)], voting="soft")
    model = make_pipeline(columns(), vote).fit(table, targets(table)[1])
    answers_its_table_alike(model, table, tmp_path, "a vote of XGBClassifier and a forest", pickled=True)


def test_a_column_that_no_step_looks_at_is_no_input(tmp_path: Path) -> None:
    table = customers()
    skops.dump(make_pipeline(columns(), LOGISTIC).fit(table, targets(table)[1]), tmp_path / "model")
    made = conversion(CONVERTER, tmp_path / "model", "skops", tmp_path / "out")
    assert [spec.name for spec in Session(made.model).signature.inputs] == ["age", "spent", "plan", "city"]


def test_the_manifest_says_which_numbers_may_be_missing(tmp_path: Path) -> None:
    table = customers()
    parts = [("filled", NUMBERS, ["age"]), ("as it is", preprocessing.StandardScaler(), ["spent"])]
    model = make_pipeline(compose.ColumnTransformer(parts), LOGISTIC).fit(table, targets(table)[1])
    skops.dump(model, tmp_path / "model")
    made = conversion(CONVERTER, tmp_path / "model", "skops", tmp_path / "out")
    (declared,) = made.manifest["input"]
    assert declared["columns"] == ["age"]
    assert declared["missing"] == "nan"
    boosted = ensemble.HistGradientBoostingRegressor(max_iter=3).fit(table[["age", "spent"]], targets(table)[0])
    skops.dump(boosted, tmp_path / "boosted")
    made = conversion(CONVERTER, tmp_path / "boosted", "skops", tmp_path / "out2")
    assert made.manifest["input"][0]["missing"] == "nan"


def test_quantiles_of_a_sparse_matrix_are_refused_with_a_way_out(tmp_path: Path) -> None:
    table = customers()
    quantiles = preprocessing.QuantileTransformer(n_quantiles=9, ignore_implicit_zeros=True)
    model = make_pipeline(COUNTS, quantiles, LOGISTIC).fit(table["note"], targets(table)[1])
    skops.dump(model, tmp_path / "model")
    refused(CONVERTER, tmp_path / "model", "skops", tmp_path / "out", "quantiles of words", "MaxAbsScaler")


@pytest.mark.parametrize(
    ("step", "way_out"),
    [
        (decomposition.NMF(2), "TruncatedSVD"),
        (decomposition.LatentDirichletAllocation(2), "TruncatedSVD"),
        (feature_extraction.FeatureHasher(4), "OneHotEncoder"),
        (preprocessing.FunctionTransformer(np.deg2rad), "log1p"),
    ],
    ids=lambda part: type(part).__name__,
)
def test_a_step_without_a_form_in_onnx_is_refused_with_a_way_out(step: Any, way_out: str, tmp_path: Path) -> None:
    model = make_pipeline(columns(make_pipeline(impute.SimpleImputer())), LOGISTIC)
    table = customers()
    model.fit(table, targets(table)[1])
    model.steps.insert(1, ("step", step))
    skops.dump(model, tmp_path / "model")
    refused(CONVERTER, tmp_path / "model", "skops", tmp_path / "out", f"a step: {type(step).__name__}", way_out)
