"""PMML documents answer as the standard says of missing, invalid and far values, ties, joined predicates and targets.

The JPMML evaluator, asked once about documents of these shapes, gives the same answers; it is not run here.
"""

import math
from pathlib import Path

import numpy as np
import pytest

from appliance.core.errors import RefusedError
from converters import pmml_file
from converters.frameworks.pmml import CONVERTER
from converters.session import Session
from tests.converters.converting import compared, conversion

NAN = math.nan
X = '<DataField name="x" optype="continuous" dataType="double"/>'
Z = '<DataField name="z" optype="continuous" dataType="double"/>'
C = '<DataField name="c" optype="categorical" dataType="string"><Value value="a"/><Value value="b"/></DataField>'
NUMBER = '<DataField name="y" optype="continuous" dataType="double"/>'
CLASSES = NUMBER.replace("continuous", "categorical").replace("double", "string").replace(
    "/>", '><Value value="u"/><Value value="v"/></DataField>'
)  # fmt: skip
SUM = '<CategoricalPredictor name="c" value="a" coefficient="0.5"/><NumericPredictor name="x" coefficient="2"/>'


def document(body: str, *, y: str = NUMBER, x: str = X, x_more: str = "", c_more: str = "") -> str:
    schema = (
        '<MiningSchema><MiningField name="y" usageType="target"/>'
        f'<MiningField name="x" {x_more}/><MiningField name="z"/><MiningField name="c" {c_more}/></MiningSchema>'
    )
    plain = schema.replace(x_more, "").replace(c_more, "") if x_more or c_more else schema
    body = body.replace("SCHEMA", schema, 1).replace("SCHEMA", plain)
    return (
        '<PMML version="4.4" xmlns="http://www.dmg.org/PMML-4_4"><Header/>'
        f"<DataDictionary>{y}{x}{Z}{C}</DataDictionary>{body}</PMML>"
    )


def regression(more: str = "", tables: str = "", function: str = "regression", **fields: str) -> str:
    tables = tables or f'<RegressionTable intercept="1">{SUM}</RegressionTable>'
    return document(f'<RegressionModel functionName="{function}" {more}>SCHEMA{tables}</RegressionModel>', **fields)


def tree(
    first: str, second: str = "<True/>", *, more: str = "", function: str = "regression", scores: str = "12"
) -> str:
    nodes = f'<Node score="{scores[0]}">{first}</Node><Node score="{scores[1]}">{second}</Node>'
    return (
        f'<TreeModel functionName="{function}" {more}>SCHEMA<Node score="{scores[0]}"><True/>{nodes}</Node></TreeModel>'
    )


def ensemble(method: str, *members: str, function: str = "regression") -> str:
    segments = "".join(f"<Segment><True/>{member}</Segment>" for member in members)
    return (
        f'<MiningModel functionName="{function}">SCHEMA<Segmentation multipleModelMethod="{method}">{segments}'
        "</Segmentation></MiningModel>"
    )


def answers(text: str, folder: Path, x: list[float], c: list[str], z: float = 0.0) -> dict[str, np.ndarray]:
    (folder / "model.pmml").write_text(text)
    made = conversion(CONVERTER, folder / "model.pmml", "pmml", folder / "to")
    assert compared(made, CONVERTER, "as the standard says").within
    feed = {
        "x": np.array(x)[:, None],
        **dict.fromkeys(("z", "v0"), np.full((len(x), 1), z)),
        "c": np.array(c, object)[:, None],
    }
    session = Session(made.model)
    return session.run({spec.name: feed[spec.name] for spec in session.signature.inputs})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [1.5, NAN, NAN, 7.0]),
        ({"c_more": 'invalidValueTreatment="asIs"'}, [1.5, NAN, 3.0, 7.0]),
        ({"c_more": 'invalidValueTreatment="asMissing" missingValueReplacement="a"'}, [1.5, NAN, 3.5, 7.5]),
        ({"c_more": 'invalidValueTreatment="asValue" invalidValueReplacement="a"'}, [1.5, NAN, 3.5, 7.0]),
        ({"x_more": 'missingValueReplacement="2"'}, [1.5, 5.0, NAN, 7.0]),
        ({"x_more": 'outliers="asExtremeValues" lowValue="0.5" highValue="2"'}, [2.5, NAN, NAN, 5.0]),
        ({"x_more": 'outliers="asMissingValues" lowValue="-1" highValue="2"'}, [1.5, NAN, NAN, NAN]),
        ({"x": X.replace("/>", '><Interval closure="closedOpen" leftMargin="0" rightMargin="3"/></DataField>')},
         [1.5, NAN, NAN, NAN]),
        ({"x": X.replace("/>", '><Value value="3" property="missing"/></DataField>')}, [1.5, NAN, NAN, NAN]),
    ],
)  # fmt: skip
def test_a_value_is_treated_as_its_field_says(fields: dict[str, str], expected: list[float], tmp_path: Path) -> None:
    found = answers(regression(**fields), tmp_path, [0.0, NAN, 1.0, 3.0], ["a", "b", "q", ""])
    assert found["value"].tolist() == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ('rescaleFactor="2" rescaleConstant="1"', [4.0, 8.6, NAN]),
        ('castInteger="round"', [2.0, 4.0, NAN]),
        ('min="2" max="3" rescaleFactor="3" castInteger="floor"', [6.0, 9.0, NAN]),
        ('><TargetValue defaultValue="7"/', [1.5, 3.8, 7.0]),
    ],
)
def test_a_number_is_rescaled_as_its_target_says(target: str, expected: list[float], tmp_path: Path) -> None:
    end = "></Target>" if target.startswith(">") else "/>"
    targets = f'<Targets><Target field="y" {target}{end}</Targets>'
    text = regression().replace("<RegressionTable", f"{targets}<RegressionTable")
    found = answers(text, tmp_path, [0.0, 1.4, NAN], ["a", "b", "b"])
    assert found["value"].tolist() == pytest.approx(expected, nan_ok=True)


LESS = '<SimplePredicate field="x" operator="lessThan" value="1"/>'
IS_A = '<SimplePredicate field="c" operator="equal" value="a"/>'
IS_ONE = (
    '<SimpleSetPredicate field="x" booleanOperator="isIn"><Array type="real" n="1">1.0</Array></SimpleSetPredicate>'
)


@pytest.mark.parametrize(
    ("first", "more", "expected"),
    [
        # rows: both hold; x alone; c alone; none; x missing and c holds; c missing and x holds; x missing, c does not
        ("and", "", [1, 2, 2, 2, 2, 2, 2]),
        ("or", "", [1, 1, 1, 2, 1, 1, 2]),
        ("xor", "", [2, 1, 1, 2, 2, 2, 2]),
        ("surrogate", "", [1, 1, 2, 2, 1, 1, 2]),
        ("or", 'missingValueStrategy="nullPrediction"', [1, 1, 1, 2, 1, 1, NAN]),
        ("and", 'missingValueStrategy="nullPrediction"', [1, 2, 2, 2, NAN, NAN, 2]),
    ],
)
def test_joined_predicates_hold_as_the_standard_says(
    first: str, more: str, expected: list[float], tmp_path: Path
) -> None:
    joined = f'<CompoundPredicate booleanOperator="{first}">{LESS}{IS_A}</CompoundPredicate>'
    found = answers(
        document(tree(joined, more=more)), tmp_path, [0, 0, 2, 2, NAN, 0, NAN], ["a", "b", "a", "b", "a", "", "b"]
    )
    assert found["value"].tolist() == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        ('<SimplePredicate field="x" operator="notEqual" value="1"/>', [1, 2, 2]),
        (IS_ONE, [2, 1, 2]),
    ],
)
def test_a_missing_number_is_neither_unequal_nor_of_a_set(
    predicate: str, expected: list[float], tmp_path: Path
) -> None:
    found = answers(document(tree(predicate)), tmp_path, [0.0, 1.0, NAN], ["a"] * 3)
    assert found["value"].tolist() == expected


SHARES = '<ScoreDistribution value="u" recordCount="{}"{}/><ScoreDistribution value="v" recordCount="{}"{}/>'


def classifying(score: str, shares: str) -> str:
    plain = tree(LESS, function="classification", scores=f"{score}u")
    return plain.replace(f"{LESS}</Node>", f"{LESS}{shares}</Node>")


@pytest.mark.parametrize(
    ("shares", "likely"),
    [
        (SHARES.format(3, "", 1, ""), 0.75),
        (SHARES.format(2, "", 2, ""), 0.5),
        (SHARES.format(3, ' probability="0.9"', 1, ' probability="0.1"'), 0.9),
    ],
)
def test_a_leaf_says_its_score_whatever_its_distribution(shares: str, likely: float, tmp_path: Path) -> None:
    found = answers(document(classifying("v", shares), y=CLASSES), tmp_path, [0.0, 2.0], ["a", "a"])
    assert found["label"].tolist() == ["v", "u"]
    assert found["probabilities"][0] == pytest.approx([likely, 1 - likely])


def test_trees_vote_by_their_scores_and_without_a_vote_there_is_no_answer(tmp_path: Path) -> None:
    voter = classifying("v", SHARES.format(3, "", 1, "")).replace("<True/></Node></Node>", f"{MORE}</Node></Node>")
    text = document(ensemble("majorityVote", voter, voter, function="classification"), y=CLASSES)
    found = answers(text, tmp_path, [0.0, NAN], ["a", "a"])
    assert found["label"].tolist() == ["v", ""]
    assert found["probabilities"].tolist()[0] == [0.0, 1.0]
    assert np.isnan(found["probabilities"][1]).all()


MORE = '<SimplePredicate field="x" operator="greaterOrEqual" value="1"/>'
TABLES = (
    '<RegressionTable targetCategory="v" intercept="1"><NumericPredictor name="x" coefficient="2"/></RegressionTable>'
    '<RegressionTable targetCategory="u" intercept="0"/>'
)


@pytest.mark.parametrize(
    ("link", "likely"),
    [
        ("none", lambda y: min(max(y, 0), 1)),
        ("cloglog", lambda y: 1 - math.exp(-math.exp(y))),
        ("loglog", lambda y: math.exp(-math.exp(-y))),
    ],
)
def test_of_two_classes_the_probability_is_what_the_link_makes_of_it(link: str, likely: object, tmp_path: Path) -> None:
    text = regression(f'normalizationMethod="{link}"', TABLES, "classification", y=CLASSES)
    x = [-2.0, -0.3, 1.0]
    found = answers(text, tmp_path, x, ["a"] * 3)
    assert found["probabilities"][:, 1] == pytest.approx([likely(1 + 2 * v) for v in x])  # type: ignore[operator]


def test_one_against_the_rest_is_shared_out_among_the_classes(tmp_path: Path) -> None:
    y = CLASSES.replace("</DataField>", '<Value value="w"/></DataField>')
    tables = TABLES + '<RegressionTable targetCategory="w" intercept="-1"/>'
    text = regression('normalizationMethod="logit"', tables, "classification", y=y)
    found = answers(text, tmp_path, [0.0], ["a"])
    shares = 1 / (1 + np.exp([0.0, -1.0, 1.0]))
    assert found["probabilities"][0] == pytest.approx(shares / shares.sum())


CENTERS = (
    '<ClusteringModel functionName="clustering" modelClass="centerBased">SCHEMA<ComparisonMeasure kind="distance">'
    '<squaredEuclidean/></ComparisonMeasure><ClusteringField field="x"/><ClusteringField field="z"/>'
    '<Cluster id="near"><Array type="real" n="2">0 0</Array></Cluster>'
    '<Cluster id="far"><Array type="real" n="2">3 1</Array></Cluster></ClusteringModel>'
)


def test_a_cluster_is_the_nearest_by_what_is_known_of_the_row(tmp_path: Path) -> None:
    found = answers(document(CENTERS), tmp_path, [2.0, NAN], ["a", "a"], z=NAN)
    assert found["label"].tolist() == ["far", ""]
    assert found["distances"][0] == pytest.approx([8.0, 2.0])


def test_what_a_document_makes_of_the_answer_is_said_to_be_left_out(tmp_path: Path) -> None:
    output = '<Output><OutputField name="price" feature="transformedValue"/></Output>'
    (tmp_path / "model.pmml").write_text(regression().replace("<RegressionTable", f"{output}<RegressionTable"))
    made = conversion(CONVERTER, tmp_path / "model.pmml", "pmml", tmp_path / "to")
    assert "left out: price" in made.notes[0]


def handing_on(member: str, name: str, feature: str, more: str = "") -> str:
    return member.replace("SCHEMA", f'SCHEMA<Output><OutputField name="{name}" feature="{feature}"/></Output>{more}', 1)


def test_a_chain_answers_by_what_its_models_hand_on(tmp_path: Path) -> None:
    """As boosted classifiers are written: trees, their target, and a regression of what they say."""
    rescaled = '<Targets><Target rescaleFactor="2" rescaleConstant="-3"/></Targets>'
    margin = handing_on(ensemble("sum", tree(LESS, MORE), tree(IS_A)), "s", "predictedValue", rescaled)
    last = (
        '<RegressionModel functionName="classification" normalizationMethod="logit"><MiningSchema>'
        '<MiningField name="y" usageType="target"/><MiningField name="s"/></MiningSchema>'
        + TABLES.replace('name="x"', 'name="s"')
        + "</RegressionModel>"
    )
    text = document(ensemble("modelChain", margin, last, function="classification"), y=CLASSES)
    found = answers(text, tmp_path, [0.0, 2.0, NAN], ["a", "b", "a"])
    likely = 1 / (1 + np.exp(-(1 + 2 * (2 * np.array([2.0, 4.0]) - 3))))
    assert found["probabilities"][:2, 1] == pytest.approx(likely, rel=1e-6)
    assert np.isnan(found["probabilities"][2]).all()


INNER, PLAIN = tree(LESS), '<MiningField name="x" />'


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (document(ensemble("sum", INNER.replace("SCHEMA", 'SCHEMA<Targets><Target rescaleFactor="2"/></Targets>'))),
         "rescales its own target"),
        (document(ensemble("sum", INNER)).replace(PLAIN, PLAIN.replace(" />", "/>"), 1).replace(
            PLAIN, '<MiningField name="x" missingValueReplacement="1"/>'), "of its own for field 'x'"),
        (document(ensemble("average", INNER, function="classification"), y=CLASSES), "another functionName"),
        (document(ensemble("modelChain", handing_on(INNER, "x", "predictedValue"), INNER)), "name that is taken"),
        (document(ensemble("modelChain", handing_on(INNER, "s", "entityId"), INNER)), r"'s' \(entityId\)"),
        (document(ensemble("average", ensemble("modelChain", INNER))), "within another model"),
        (document(ensemble("average", INNER).replace("average\"", 'average" missingPredictionTreatment="skipSegment"')),
         "skipSegment"),
        (document(tree(LESS), x=X.replace("double", "date")), "of the type 'date'"),
        (document(tree(IS_A.replace("equal", "lessThan"))), "by their order"),
        (document(tree(LESS, scores="1u")), "'u' of field 'score' is no number"),
        (regression('normalizationMethod="probit"'), "'probit' is not converted"),
        (regression('normalizationMethod="simplemax"'), "'simplemax' is not converted"),
        (regression('normalizationMethod="exp"', TABLES, "classification", y=CLASSES), "'exp' is not converted"),
        (regression('normalizationMethod="softmax"', TABLES, "classification",
                    y=CLASSES.replace("</DataField>", '<Value value="w"/></DataField>')), "one table for each class"),
        (regression(tables='<RegressionTable intercept="much"/>'), "'much' of field 'intercept' is no number"),
        (regression().replace('<MiningField name="z"/>', '<MiningField name="x"/>'), "two fields of one name"),
        (regression().replace("<PMML", '<?xml version="1.0" encoding="no-such"?><PMML'), "no sound XML"),
        (document(CENTERS.replace('field="x"', 'field="x" compareFunction="gaussSim"')), "another way"),
        (document(CENTERS.replace('field="x"', 'field="x" isCenterField="false"')), "not of their centres"),
    ],
)  # fmt: skip
def test_what_would_change_an_answer_is_refused(text: str, match: str) -> None:
    with pytest.raises(RefusedError, match=match):
        pmml_file.read_pmml(text.encode())


def test_a_field_may_have_a_name_that_a_graph_makes_up_but_not_the_answers(tmp_path: Path) -> None:
    found = answers(regression().replace('"z"', '"v0"'), tmp_path, [1.0], ["a"])
    assert found["value"].tolist() == [3.5]
    (tmp_path / "model.pmml").write_text(regression().replace('"z"', '"value"'))
    with pytest.raises(RefusedError, match="a column is called 'value'"):
        conversion(CONVERTER, tmp_path / "model.pmml", "pmml", tmp_path / "again")
