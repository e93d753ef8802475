"""Spark's saved models become ONNX that answers as Spark does, row by row and in the sandbox; what Spark alone can do
is refused by name."""

import random
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from appliance.core.errors import BadInputError, RefusedError
from appliance.core.manifest import manifest_from_table
from converters import isolation
from converters.converter import Conversion
from converters.detection import detect
from converters.frameworks.spark import CONVERTER
from converters.isolation import Limits
from converters.job import Done, Job
from converters.options import Options
from converters.session import Session
from tests.converters.converting import compared, conversion, refused

pytestmark = pytest.mark.filterwarnings("ignore")
ml = pytest.importorskip("pyspark.ml", reason="Spark is not installed: 'make test-nets' has it")
if shutil.which("java") is None:
    pytest.skip("Spark needs Java, which is not there: 'make test-nets' installs it", allow_module_level=True)

classify, cluster, features, regress, linalg = (
    import_module(f"pyspark.ml.{name}") for name in ("classification", "clustering", "feature", "regression", "linalg")
)
Pipeline = ml.Pipeline

NUMBERS = ["a", "b", "c", "d"]
TWO, THREE, SIZE = {"labelCol": "two"}, {"labelCol": "three"}, {"labelCol": "size"}


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The session that the converter takes, too. Snappy's library does not load on every box."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]")
    for key, value in {
        "spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": "1", "spark.ui.showConsoleProgress": "false", "spark.log.level": "OFF",
        "spark.sql.parquet.compression.codec": "gzip", "spark.default.parallelism": "1",
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
    }.items():  # fmt: skip
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.fixture(scope="module")
def rows(spark: Any) -> Any:
    chance = random.Random(0)
    made = []
    for _ in range(150):
        x = [chance.gauss(0, 1) for _ in range(4)]
        kind, code = chance.choice(["üb", "b", "c 🙂"]), float(chance.randrange(5))
        two = float(x[0] + x[1] / 2 + (kind == "b") + chance.gauss(0, 0.3) > 0)
        three = float(chance.randrange(3)) if chance.random() < 0.2 else 0.0 if x[0] < 0 else 1.0 if x[1] > 0 else 2.0
        made.append((*x, kind, "yes" if two else "no", two, three, abs(2 * x[0] + x[2]) + 0.1 + code, code))
    names = [*NUMBERS, "kind", "word", "two", "three", "size", "code"]
    table = spark.createDataFrame(made, names)
    wide = features.VectorAssembler(inputCols=NUMBERS, outputCol="features").transform(table)
    return features.VectorAssembler(inputCols=["code", "two"], outputCol="counts").transform(wide).cache()


def tabular(*, invalid: str = "keep", last: Any = None) -> Any:
    """What people build: indexers, an encoder, a scaler, a model, and the answer as a word."""
    return Pipeline(
        stages=[
            features.StringIndexer(inputCol="word", outputCol="label"),
            features.StringIndexer(inputCol="kind", outputCol="index", handleInvalid=invalid),
            features.OneHotEncoder(inputCol="index", outputCol="ones"),
            features.VectorAssembler(inputCols=["a", "b", "ones"], outputCol="raw"),
            features.StandardScaler(inputCol="raw", outputCol="scaled", withMean=True),
            last or classify.LogisticRegression(maxIter=5, featuresCol="scaled"),
            features.IndexToString(inputCol="prediction", outputCol="answer", labels=["no", "yes"]),
        ]
    )


def prepared() -> Any:
    """Features alone, one after the other."""
    along = [
        features.MinMaxScaler(min=-1, max=2), features.MaxAbsScaler(), features.RobustScaler(withCentering=True),
        features.ElementwiseProduct(scalingVec=linalg.Vectors.dense([1.0, -2.0, 0.5])),
        features.VarianceThresholdSelector(), features.PCA(k=2), features.Normalizer(p=1.0),
        features.VectorSlicer(indices=[1, 0]),
    ]  # fmt: skip
    for index, stage in enumerate(along):
        name = "featuresCol" if stage.hasParam("featuresCol") else "inputCol"
        stage.set(stage.getParam(name), f"v{index}")
        stage.set(stage.getParam("outputCol"), f"v{index + 1}")
    return Pipeline(
        stages=[
            features.Imputer(inputCols=["a", "b"], outputCols=["a2", "b2"]),
            features.QuantileDiscretizer(numBuckets=3, inputCol="c", outputCol="c2", handleInvalid="keep"),
            features.VectorAssembler(inputCols=["a2", "b2", "c2"], outputCol="v0", handleInvalid="keep"),
            *along,
            features.Binarizer(threshold=0.2, inputCol="d", outputCol="sign"),
        ]
    )


def expanded() -> Any:
    return Pipeline(
        stages=[
            features.VectorAssembler(inputCols=["a", "b", "c"], outputCol="v"),
            features.VectorSizeHint(inputCol="v", size=3),
            features.PolynomialExpansion(degree=3, inputCol="v", outputCol="powers"),
            features.DCT(inputCol="powers", outputCol="cosines"),
            features.DCT(inverse=True, inputCol="v", outputCol="back"),
            features.StringIndexer(inputCol="kind", outputCol="index"),
            features.OneHotEncoder(inputCol="index", outputCol="ones"),
            features.Interaction(inputCols=["d", "ones", "index", "v"], outputCol="products"),
        ]
    )


def several() -> Any:
    """Stages that take several columns, and the selectors by what is to be told."""
    bounds = [[-float("inf"), 0.0, 1.0, float("inf")], [-9.0, -1.0, 0.5, 9.0]]
    return Pipeline(
        stages=[
            features.StringIndexer(
                inputCols=["kind", "word"], outputCols=["i", "j"], handleInvalid="keep", stringOrderType="alphabetDesc"
            ),
            features.OneHotEncoder(inputCols=["i", "j"], outputCols=["k", "l"], dropLast=False, handleInvalid="keep"),
            features.Bucketizer(splitsArray=bounds, inputCols=["a", "b"], outputCols=["m", "n"], handleInvalid="keep"),
            features.Binarizer(inputCols=["c", "d"], outputCols=["o", "p"], thresholds=[0.0, 0.3]),
            features.Imputer(inputCols=["code", "size"], outputCols=["q", "r"], strategy="mode", missingValue=2.0),
            features.VectorAssembler(inputCols=["k", "l", "m", "n", "o", "p", "q", "r"], outputCol="s"),
            features.ChiSqSelector(
                numTopFeatures=9, featuresCol="s", outputCol="t", labelCol="two", selectorType="numTopFeatures"
            ),
            features.UnivariateFeatureSelector(featuresCol="t", outputCol="u", labelCol="two")
            .setFeatureType("continuous")
            .setLabelType("categorical")
            .setSelectionThreshold(6),
        ]
    )


def crossed() -> Any:
    """The best of two pipelines."""
    tuning, evaluation = import_module("pyspark.ml.tuning"), import_module("pyspark.ml.evaluation")
    model = classify.LinearSVC(maxIter=3, featuresCol="v", **TWO)
    grid = tuning.ParamGridBuilder().addGrid(model.regParam, [0.0, 0.1]).build()
    stages = [features.VectorAssembler(inputCols=["a", "b"], outputCol="v"), model]
    judge = evaluation.BinaryClassificationEvaluator(**TWO)
    return tuning.CrossValidator(
        estimator=Pipeline(stages=stages), estimatorParamMaps=grid, evaluator=judge, numFolds=2, seed=1
    )


def formula(text: str) -> Any:
    made = {"featuresCol": "f", "labelCol": "label"}
    return Pipeline(
        stages=[features.RFormula(formula=text, **made), classify.LogisticRegression(maxIter=4, featuresCol="f")]
    )


def with_categories(model: Any) -> Any:
    return Pipeline(
        stages=[
            features.StringIndexer(inputCol="kind", outputCol="index"),
            features.VectorAssembler(inputCols=["a", "index", "code"], outputCol="raw"),
            features.VectorIndexer(inputCol="raw", outputCol="indexed", maxCategories=6, handleInvalid="keep"),
            model,
        ]
    )


FAMILIES: dict[str, Callable[[], Any]] = {
    "LogisticRegression, two classes": lambda: classify.LogisticRegression(maxIter=5, **TWO),
    "LogisticRegression, a threshold": lambda: classify.LogisticRegression(maxIter=5, threshold=0.8, **TWO),
    "LogisticRegression, two classes, multinomial": lambda: classify.LogisticRegression(
        maxIter=5, family="multinomial", **TWO
    ),
    "LogisticRegression, three classes": lambda: classify.LogisticRegression(maxIter=5, **THREE),
    "LogisticRegression, thresholds": lambda: classify.LogisticRegression(
        maxIter=5, thresholds=[0.2, 0.0, 0.7], **THREE
    ),
    "LinearSVC": lambda: classify.LinearSVC(maxIter=5, threshold=0.1, **TWO),
    "NaiveBayes, multinomial": lambda: classify.NaiveBayes(featuresCol="counts", **THREE),
    "NaiveBayes, complement": lambda: classify.NaiveBayes(featuresCol="counts", modelType="complement", **THREE),
    "NaiveBayes, Gaussian": lambda: classify.NaiveBayes(modelType="gaussian", **THREE),
    "perceptron": lambda: classify.MultilayerPerceptronClassifier(layers=[4, 5, 6, 3], maxIter=5, **THREE),
    "FMClassifier": lambda: classify.FMClassifier(maxIter=5, factorSize=3, **TWO),
    "DecisionTreeClassifier": lambda: classify.DecisionTreeClassifier(maxDepth=4, **THREE),
    "RandomForestClassifier": lambda: classify.RandomForestClassifier(numTrees=5, maxDepth=4, **THREE),
    "RandomForestClassifier, categories": lambda: with_categories(
        classify.RandomForestClassifier(numTrees=5, featuresCol="indexed", seed=1, **THREE)
    ),
    "GBTClassifier": lambda: classify.GBTClassifier(maxIter=4, maxDepth=3, **TWO),
    "OneVsRest, LogisticRegression": lambda: classify.OneVsRest(
        classifier=classify.LogisticRegression(maxIter=4), **THREE
    ),
    "OneVsRest, trees": lambda: classify.OneVsRest(
        classifier=classify.RandomForestClassifier(numTrees=2, maxDepth=3), **THREE
    ),
    "CrossValidator, a pipeline": crossed,
    "RFormula": lambda: formula("three ~ a + kind + b:d + kind:code"),
    "RFormula, all but some": lambda: formula("word ~ . - two - three - features - counts"),
    "LinearRegression": lambda: regress.LinearRegression(**SIZE),
    "GeneralizedLinearRegression, gamma, log": lambda: regress.GeneralizedLinearRegression(
        family="gamma", link="log", linkPredictionCol="eta", **SIZE
    ),
    "GeneralizedLinearRegression, binomial, cloglog": lambda: regress.GeneralizedLinearRegression(
        family="binomial", link="cloglog", **TWO
    ),
    "GeneralizedLinearRegression, tweedie": lambda: regress.GeneralizedLinearRegression(
        family="tweedie", variancePower=1.5, linkPower=0.0, **SIZE
    ),
    "GeneralizedLinearRegression, poisson, an offset": lambda: regress.GeneralizedLinearRegression(
        family="poisson", offsetCol="code", **SIZE
    ),
    "AFTSurvivalRegression": lambda: regress.AFTSurvivalRegression(
        censorCol="two", maxIter=5, quantilesCol="quantiles", quantileProbabilities=[0.1, 0.5, 0.95], **SIZE
    ),
    "FMRegressor": lambda: regress.FMRegressor(maxIter=5, **SIZE),
    "IsotonicRegression": lambda: regress.IsotonicRegression(featuresCol="a", **SIZE),
    "DecisionTreeRegressor": lambda: regress.DecisionTreeRegressor(maxDepth=4, **SIZE),
    "RandomForestRegressor": lambda: regress.RandomForestRegressor(numTrees=5, maxDepth=4, **SIZE),
    "GBTRegressor, categories": lambda: with_categories(regress.GBTRegressor(maxIter=4, featuresCol="indexed", **SIZE)),
    "KMeans": lambda: cluster.KMeans(k=3, seed=1),
    "KMeans, cosine": lambda: cluster.KMeans(k=3, seed=1, distanceMeasure="cosine"),
    "GaussianMixture": lambda: cluster.GaussianMixture(k=2, seed=1, maxIter=3),
    "a table's pipeline": tabular,
    "a table's pipeline, boosted": lambda: tabular(last=classify.GBTClassifier(maxIter=3, featuresCol="scaled")),
    "BisectingKMeans": lambda: cluster.BisectingKMeans(k=6, seed=1),
    "features alone": prepared,
    "products, powers and cosines": expanded,
    "several columns at once": several,
}


def of_words(*stages: Any, cut: Any = None) -> Any:
    """A text's words, and what follows: each takes what the one before it made."""
    column = "text"
    along = [cut or features.Tokenizer(), *stages]
    for index, stage in enumerate(along):
        name = "inputCol" if stage.hasParam("inputCol") else "featuresCol"
        stage.set(stage.getParam(name), column)
        if stage.hasParam("outputCol"):
            column = f"made{index}"
            stage.set(stage.getParam("outputCol"), column)
    return Pipeline(stages=along)


def two_texts() -> Any:
    stages = []
    for column in ("text", "other"):
        stages.append(features.Tokenizer(inputCol=column, outputCol=f"{column} words"))
        stages.append(features.HashingTF(inputCol=f"{column} words", outputCol=f"{column} counts", numFeatures=8))
    return ml.PipelineModel(stages)


def with_numbers() -> Any:
    """A text beside a column of numbers and one of words that are known."""
    return Pipeline(
        stages=[
            features.Tokenizer(inputCol="text", outputCol="words"),
            features.CountVectorizer(inputCol="words", outputCol="counts", vocabSize=20),
            features.NGram(inputCol="words", outputCol="pairs"),
            features.HashingTF(inputCol="pairs", outputCol="hashed", numFeatures=64),
            features.StringIndexer(inputCol="kind", outputCol="index", handleInvalid="keep"),
            features.VectorAssembler(inputCols=["counts", "hashed", "a", "index"], outputCol="features"),
            classify.LogisticRegression(maxIter=5, **TWO),
        ]
    )


TEXT_FAMILIES: dict[str, Callable[[], Any]] = {
    "Tokenizer, HashingTF, IDF, LogisticRegression": lambda: of_words(
        features.HashingTF(), features.IDF(), classify.LogisticRegression(maxIter=5, **TWO)
    ),
    "Tokenizer, HashingTF, trees": lambda: of_words(
        features.HashingTF(numFeatures=1000), classify.RandomForestClassifier(numTrees=4, **TWO)
    ),
    "StopWordsRemover, CountVectorizer, IDF, NaiveBayes": lambda: of_words(
        features.StopWordsRemover(), features.CountVectorizer(), features.IDF(minDocFreq=2), classify.NaiveBayes(**TWO)
    ),
    "RegexTokenizer, StopWordsRemover, NGram, HashingTF, binary": lambda: of_words(
        features.StopWordsRemover(stopWords=["the", "É", "a"]), features.NGram(n=3),
        features.HashingTF(numFeatures=256, binary=True),
        cut=features.RegexTokenizer(pattern=r"\W+|_", minTokenLength=2),
    ),
    "RegexTokenizer of matches, CountVectorizer, a share": lambda: of_words(
        features.CountVectorizer(minTF=0.1),
        cut=features.RegexTokenizer(pattern=r"[\w-]+", gaps=False, toLowercase=False),
    ),
    "CountVectorizer, binary, a least count": lambda: of_words(features.CountVectorizer(minTF=2.0, binary=True)),
    "Tokenizer, NGram of pairs, CountVectorizer": lambda: of_words(features.NGram(), features.CountVectorizer()),
    "Word2Vec, KMeans": lambda: of_words(
        features.Word2Vec(vectorSize=5, minCount=1, seed=1), cluster.KMeans(k=3, seed=1), cut=features.RegexTokenizer()
    ),
    "a text beside numbers and words": with_numbers,
}  # fmt: skip


@pytest.fixture(scope="module")
def texts(spark: Any, rows: Any) -> Any:
    """With a column of texts, of words in several scripts with all kinds of gaps."""
    chance = random.Random(3)
    words = ["the", "The", "good", "bad", "Été", "straße", "ΟΔΟΣ", "🙂", "x-ray", "don't", "and", "日本語", "w1", "w2"]
    made = []
    for _ in range(120):
        chosen = [chance.choice(words) for _ in range(chance.randrange(12))]
        text = "".join(word + chance.choice([" ", " ", "  ", "\t", ", "]) for word in chosen)
        two = float("good" in chosen) if chance.random() < 0.9 else 1.0
        made.append((text, two, chance.gauss(0, 1), chance.choice(["üb", "b"])))
    return spark.createDataFrame(made, ["text", "two", "a", "kind"]).cache()


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_a_text_is_answered_as_spark_answers_it_in_any_batch(family: str, texts: Any, tmp_path: Path) -> None:
    folder = saved(TEXT_FAMILIES[family]().fit(texts), tmp_path / "model")
    made = conversion(CONVERTER, folder, "spark", tmp_path / "to")
    report = compared(made, CONVERTER, family, rows=96)
    assert report.within
    assert not report.not_compared


def saved(model: Any, folder: Path) -> Path:
    model.write().overwrite().save(str(folder))
    return folder


def test_a_path_with_a_space_is_taken_or_told(rows: Any, tmp_path: Path) -> None:
    """Spark writes a BisectingKMeansModel's data there to a folder with %20 in its name, and looks for it by that."""
    model = FAMILIES["BisectingKMeans"]().fit(rows)
    shutil.copytree(saved(model, tmp_path / "model"), tmp_path / "co py")
    made = conversion(CONVERTER, tmp_path / "co py", "spark", tmp_path / "to")
    assert compared(made, CONVERTER, "BisectingKMeans, a space in its path", rows=32).within
    with pytest.raises(RefusedError, match="plain path"):
        conversion(CONVERTER, saved(model, tmp_path / "sa ved"), "spark", tmp_path / "to2")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_answers_as_spark_in_any_batch(family: str, rows: Any, tmp_path: Path) -> None:
    folder = saved(FAMILIES[family]().fit(rows), tmp_path / "model")
    assert detect(folder).format == "spark"
    report = compared(conversion(CONVERTER, folder, "spark", tmp_path / "to"), CONVERTER, family, rows=96)
    assert report.within
    assert report.batch_sizes[:2] == (1, 3)
    assert not report.not_compared


def answers(made: Conversion, **columns: list[Any]) -> dict[str, Any]:
    """Of the converted model, its columns given by name."""
    session = Session(made.model)
    feed = {}
    for spec in session.signature.inputs:
        cells = np.array(columns[spec.name], object)
        feed[spec.name] = (cells if spec.dtype == "BYTES" else cells.astype(np.float64)).reshape(-1, 1)
    return session.run(feed)


def test_a_pipeline_takes_its_columns_by_name_and_says_its_labels(rows: Any, tmp_path: Path) -> None:
    made = conversion(CONVERTER, saved(tabular().fit(rows), tmp_path / "model"), "spark", tmp_path / "to")
    signature = Session(made.model).signature
    assert {spec.name: spec.dtype for spec in signature.inputs} == {"a": "FP64", "b": "FP64", "kind": "BYTES"}
    assert sorted(made.manifest["labels"]) == ["no", "yes"]
    given = answers(made, a=[0.1, 3.0], b=[0.0, 2.0], kind=["b", "never seen"])
    assert set(given["answer"]) <= {"yes", "no"}
    assert not np.isnan(given["probability"]).any()


def test_numbers_alone_are_one_input_that_names_its_columns(rows: Any, tmp_path: Path) -> None:
    stages = [
        features.VectorAssembler(inputCols=["d", "a"], outputCol="x"),
        regress.LinearRegression(featuresCol="x", **SIZE),
    ]
    folder = saved(Pipeline(stages=stages).fit(rows), tmp_path / "model")
    made = conversion(CONVERTER, folder, "spark", tmp_path / "to")
    assert made.manifest["input"] == [{"name": "input", "as": "columns", "columns": ["d", "a"]}]


def test_a_column_that_is_a_vector_is_declared_or_asked_for(rows: Any, tmp_path: Path) -> None:
    stages = [
        features.VectorAssembler(inputCols=["features", "code"], outputCol="x"),
        regress.DecisionTreeRegressor(featuresCol="x", **SIZE),
    ]
    folder = saved(Pipeline(stages=stages).fit(rows), tmp_path / "model")
    refused(CONVERTER, folder, "spark", tmp_path / "no", "refused: a vector not declared", "takes a vector of 5")
    made = conversion(CONVERTER, folder, "spark", tmp_path / "to", inputs=("features=FP64[n,4]",))
    assert compared(made, CONVERTER, "a vector among the columns").within


def test_a_row_that_spark_has_an_error_for_answers_nan_and_the_row_beside_it_answers(rows: Any, tmp_path: Path) -> None:
    folder = saved(tabular(invalid="error").fit(rows), tmp_path / "model")
    made = conversion(CONVERTER, folder, "spark", tmp_path / "to")
    given = answers(made, a=[0.1, 0.1, np.nan], b=[0.0] * 3, kind=["b", "never seen", "b"])
    assert np.isnan(given["prediction"]).tolist() == [False, True, True]
    assert np.isnan(given["probability"]).any(axis=1).tolist() == [False, True, True]
    assert given["answer"][1:].tolist() == ["", ""]


def test_a_hash_of_spark_2_is_refused(texts: Any, tmp_path: Path) -> None:
    folder = saved(of_words(features.HashingTF(), classify.LinearSVC(maxIter=2, **TWO)).fit(texts), tmp_path / "model")
    metadata = next(folder.glob("stages/1_*/metadata/part-*"))
    metadata.write_text(metadata.read_text().replace('"sparkVersion":"4', '"sparkVersion":"2'))
    for checksum in metadata.parent.glob(".*.crc"):
        checksum.unlink()
    refused(CONVERTER, folder, "spark", tmp_path / "to", "refused: HashingTF of Spark 2", "hashed otherwise")


def test_a_text_that_java_may_lower_otherwise_is_an_error_and_no_answer(texts: Any, tmp_path: Path) -> None:
    folder = saved(of_words(features.CountVectorizer()).fit(texts), tmp_path / "model")
    made = conversion(CONVERTER, folder, "spark", tmp_path / "to")
    session = Session(made.model, manifest_from_table(made.manifest))
    assert session.run({"text": np.array([["ΟΔΟΣ, the"]], object)})["made1"].sum() == 2
    with pytest.raises(BadInputError, match="capital sigma"):
        session.run({"text": np.array([["the ΟΔΟΣ-ΟΔΟΣ"]], object)})


def isolated(source: Path) -> Done:
    with isolation.workplace() as work:
        job = Job(
            source=str(source), detected=detect(source), framework="spark", folder=str(work / "bundle"),
            options=Options(), processes=True, rows=16,
        )  # fmt: skip
        return isolation.run(job, Limits(seconds=300))


def test_all_of_it_runs_without_a_network_and_within_the_files_of_the_conversion(rows: Any, tmp_path: Path) -> None:
    done = isolated(saved(tabular().fit(rows), tmp_path / "model"))
    assert done.record.parity.within
    assert {name for name, active, _ in done.layers if active} >= {"network namespace", "Landlock"}


def test_a_conversion_that_is_given_up_leaves_no_java_behind(rows: Any, tmp_path: Path) -> None:
    folder = saved(classify.LinearSVC(maxIter=2, **TWO).fit(rows), tmp_path / "model")
    with isolation.workplace() as work:
        job = Job(
            source=str(folder), detected=detect(folder), framework="spark", folder=str(work / "bundle"),
            options=Options(), processes=True,
        )  # fmt: skip
        steps: list[str] = []
        with pytest.raises(RefusedError, match="given up"):
            isolation.run(job, Limits(seconds=6), on_step=steps.append)
        left = [one.info for one in psutil.process_iter(["cmdline"]) if str(work) in str(one.info["cmdline"])]
    assert steps
    assert not left


def test_a_saved_model_that_was_damaged_is_refused(rows: Any, tmp_path: Path) -> None:
    folder = saved(classify.DecisionTreeClassifier(**THREE).fit(rows), tmp_path / "model")
    data = next((folder / "data").glob("part-*.parquet"))
    data.write_bytes(data.read_bytes()[:300])
    for checksum in (folder / "data").glob(".*.crc"):
        checksum.unlink()
    with pytest.raises(RefusedError, match="Spark cannot"):
        conversion(CONVERTER, folder, "spark", tmp_path / "to")


def test_stages_that_leave_rows_out_or_have_no_onnx_are_refused_by_name(rows: Any, tmp_path: Path) -> None:
    ways = {
        "skip": (tabular(invalid="skip"), "handleInvalid='skip'"),
        "lists of words": (
            features.HashingTF(inputCol="words", outputCol="hashed"),
            "HashingTF takes lists of words: save it with",
        ),
        "words alone": (features.Tokenizer(inputCol="text", outputCol="words"), "'words' are lists of words"),
        "a pattern": (
            of_words(features.HashingTF(), cut=features.RegexTokenizer(pattern=r"\p{L}+", gaps=False)),
            "the pattern",
        ),
        "words lowered late": (
            of_words(features.StopWordsRemover(), features.HashingTF(), cut=features.RegexTokenizer(toLowercase=False)),
            "make it caseSensitive=True",
        ),
        "two texts": (two_texts(), "cuts the texts other, text into words, and one is taken"),
        "nested": (Pipeline(stages=[features.SQLTransformer(statement="SELECT * FROM __THIS__")]), "SQLTransformer"),
        "topics": (cluster.LDA(k=2, maxIter=1, featuresCol="counts"), "the topics of a text are found by trying"),
        "hashes for joins": (features.MinHashLSH(inputCol="counts", outputCol="hashes"), "MinHashLSHModel is not conv"),
        # No space in the name: Spark's BisectingKMeans writes its data to a folder with %20 in its place.
        "cosine": (cluster.BisectingKMeans(k=2, distanceMeasure="cosine"), "BisectingKMeans with the cosine"),
    }
    for name, (stage, sentence) in ways.items():
        if isinstance(stage, Pipeline) and not any(hasattr(one, "fit") for one in stage.getStages()):
            stage = ml.PipelineModel(stage.getStages())
        folder = saved(stage.fit(rows) if hasattr(stage, "fit") else stage, tmp_path / name)
        refused(CONVERTER, folder, "spark", tmp_path / f"to-{name}", f"refused: {name}", sentence)
