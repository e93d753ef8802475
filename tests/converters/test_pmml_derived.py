"""Fields that a PMML document derives of others are what the standard says, and the model answers by them.

The JPMML evaluator, asked once about each of these, gives the same answers; where it ends with an error because a value
is missing, the standard's missing result is taken.
"""

import math
from pathlib import Path

import numpy as np
import pytest

from appliance.core.errors import RefusedError
from converters import pmml_file
from tests.converters.test_pmml_documents import IS_A, LESS, NAN, answers, document, ensemble, tree

C_AS_IS = 'invalidValueTreatment="asIs"'
BY_D = '<NumericPredictor name="d" coefficient="1"/>'
BINS = (
    '<DiscretizeBin binValue="1"><Interval closure="openClosed" rightMargin="0"/></DiscretizeBin>'
    '<DiscretizeBin binValue="5"><Interval closure="openOpen" leftMargin="0" rightMargin="3"/></DiscretizeBin>'
)
TABLE = "<InlineTable><row><k>a</k><v>1.5</v></row><row><k>b</k><v>2.5</v></row></InlineTable>"
POINTS = '<LinearNorm orig="-1" norm="0"/><LinearNorm orig="1" norm="1"/><LinearNorm orig="3" norm="1.5"/>'


def apply(function: str, *arguments: str, more: str = "") -> str:
    return f'<Apply function="{function}" {more}>{"".join(map(argument, arguments))}</Apply>'


def argument(text: str) -> str:
    if text.startswith("<"):
        return text
    is_field = text in ("x", "z", "c", "d", "e", "p", "s")
    return f'<FieldRef field="{text}"/>' if is_field else f"<Constant>{text}</Constant>"


def derived(expression: str, name: str = "d", dtype: str = "double") -> str:
    return f'<DerivedField name="{name}" optype="continuous" dataType="{dtype}">{expression}</DerivedField>'


def defined(name: str, body: str) -> str:
    function = f'<DefineFunction name="{name}" dataType="double"><ParameterField name="p"/>{body}</DefineFunction>'
    return f"<TransformationDictionary>{function}</TransformationDictionary>"


def regression(fields: str, terms: str = BY_D, functions: str = "") -> str:
    text = document(
        f'<RegressionModel functionName="regression">SCHEMA<LocalTransformations>{fields}</LocalTransformations>'
        f'<RegressionTable intercept="0">{terms}</RegressionTable></RegressionModel>', c_more=C_AS_IS,
    )  # fmt: skip
    return text.replace("</DataDictionary>", f"</DataDictionary>{functions}")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # x: -2, 0, 2, missing; c: a, b, q, missing; z: 1
        (apply("/", apply("-", "x", "1.5"), "0.5"), [-7, -3, 1, NAN]),
        (apply("+", "x", "z", more='mapMissingTo="9"'), [-1, 1, 3, 9]),
        (apply("*", "x", "2.0", more='defaultValue="8"'), [-4, 0, 4, 8]),
        (apply("/", "z", "x"), [-0.5, math.inf, 0.5, NAN]),
        (apply("sum", "x", "z"), [-1, 1, 3, 1]),
        (apply("avg", "x", "z"), [-0.5, 0.5, 1.5, 1]),
        (apply("min", "x", "0.5"), [-2, 0, 0.5, 0.5]),
        (apply("sqrt", "x"), [NAN, 0, math.sqrt(2), NAN]),
        (apply("pow", "x", "0.0"), [1, 1, 1, NAN]),
        (apply("threshold", "x", "0.0"), [0, 0, 1, NAN]),
        (apply("round", apply("*", "x", "0.75")), [-1, 0, 2, NAN]),
        (apply("if", apply("greaterOrEqual", "x", "0.0"), apply("sqrt", "x"), "x"), [-2, 0, math.sqrt(2), NAN]),
        (apply("if", apply("isMissing", "x"), "4", "x"), [-2, 0, 2, 4]),
        (apply("if", apply("lessThan", "x", "1"), "7"), [7, 7, NAN, NAN]),
        (apply("if", apply("and", apply("lessThan", "x", "1"), apply("equal", "c", "a")), "1", "2"), [1, 2, 2, NAN]),
        (apply("if", apply("isIn", "c", "a", "q"), "1", "2"), [1, 2, 1, 2]),
        (apply("twice", "x"), [-3, 1, 5, NAN]),
        ('<FieldRef field="x" mapMissingTo="4"/>', [-2, 0, 2, 4]),
        ('<NormDiscrete field="c" value="a"/>', [1, 0, 0, NAN]),
        ('<NormDiscrete field="c" value="a" mapMissingTo="0.5"/>', [1, 0, 0, 0.5]),
        (f'<NormContinuous field="x">{POINTS}</NormContinuous>', [-0.5, 0.5, 1.25, NAN]),
        (f'<NormContinuous field="x" outliers="asExtremeValues">{POINTS}</NormContinuous>', [0, 0.5, 1.25, NAN]),
        (f'<NormContinuous field="x" outliers="asMissingValues" mapMissingTo="3">{POINTS}</NormContinuous>',
         [NAN, 0.5, 1.25, 3]),
        (f'<Discretize field="x" mapMissingTo="9">{BINS}</Discretize>', [1, 1, 5, 9]),
        (f'<Discretize field="x" defaultValue="8">{BINS.replace("3", "1")}</Discretize>', [1, 1, 8, NAN]),
        (f'<MapValues outputColumn="v" defaultValue="8"><FieldColumnPair field="c" column="k"/>{TABLE}</MapValues>',
         [1.5, 2.5, 8, NAN]),
        (f'<MapValues outputColumn="t:v" mapMissingTo="7"><FieldColumnPair field="c" column="t:k"/>{TABLE}</MapValues>',
         [1.5, 2.5, NAN, 7]),
    ],
)  # fmt: skip
def test_a_derived_field_is_what_its_expression_says(expression: str, expected: list[float], tmp_path: Path) -> None:
    twice = defined("twice", apply("+", apply("*", "p", "2.0"), "1.0"))
    text = regression(derived(expression), functions=twice)
    found = answers(text, tmp_path, [-2, 0, 2, NAN], ["a", "b", "q", ""], z=1.0)
    assert found["value"].tolist() == pytest.approx(expected, nan_ok=True)


def test_bins_and_truths_are_compared_as_the_texts_or_numbers_that_they_are(tmp_path: Path) -> None:
    fields = (
        derived(f'<Discretize field="x">{BINS}</Discretize>')
        + derived(apply("equal", "c", "a"), "e", "boolean")
        + derived(apply("+", "d", "d"), "twice")
    )
    terms = "".join(
        f'<CategoricalPredictor name="{name}" value="{value}" coefficient="{weight}"/>'
        for name, value, weight in (("d", "1", 2), ("d", "5.0", 3), ("e", "true", 10), ("e", "false", 20))
    )
    found = answers(
        regression(fields, terms + BY_D.replace('"d"', '"twice"')), tmp_path, [-1.0, 1.0, 1.0], ["a", "b", ""]
    )
    assert found["value"].tolist() == [14.0, 33.0, 13.0]


def test_products_of_fields_are_terms_and_a_missing_factor_leaves_no_answer(tmp_path: Path) -> None:
    term = '<PredictorTerm coefficient="0.5"><FieldRef field="x"/><FieldRef field="d"/></PredictorTerm>'
    found = answers(regression(derived('<NormDiscrete field="c" value="a"/>'), term), tmp_path,
                    [4, 4, NAN, 4], ["a", "b", "a", ""])  # fmt: skip
    assert found["value"].tolist() == pytest.approx([2, 0, NAN, NAN], nan_ok=True)


def test_trees_test_derived_fields_in_single_precision_where_they_are_so(tmp_path: Path) -> None:
    """As forests after a scaler are written."""
    third = np.float32(1 / 3)
    scaled = derived(apply("/", apply("-", "x", "1.0"), "3.0"), dtype="float")
    split = f'<SimplePredicate field="d" operator="lessOrEqual" value="{third!s}"/>'
    trees = ensemble("average", tree(split), tree(IS_A)).replace(
        "<Segmentation", f"<LocalTransformations>{scaled}</LocalTransformations><Segmentation"
    )
    found = answers(document(trees), tmp_path, [2.0, 2.00000001, 2.5], ["a", "a", "b"])
    assert found["value"].tolist() == [1.0, 1.0, 2.0]


def test_a_field_may_be_derived_of_what_a_model_of_the_chain_gives(tmp_path: Path) -> None:
    first = tree(LESS).replace("SCHEMA", 'SCHEMA<Output><OutputField name="s" feature="predictedValue"/></Output>')
    logarithm = f"<LocalTransformations>{derived(apply('ln', 's'))}</LocalTransformations>"
    last = (
        '<RegressionModel functionName="regression"><MiningSchema><MiningField name="s"/></MiningSchema>'
        f'{logarithm}<RegressionTable intercept="1">{BY_D}</RegressionTable></RegressionModel>'
    )
    found = answers(document(ensemble("modelChain", first, last)), tmp_path, [0.0, 2.0], ["a", "b"])
    assert found["value"].tolist() == pytest.approx([1.0, 1.0 + math.log(2)])


TREATED = '<MiningSchema><MiningField name="d" outliers="asMissingValues"/></MiningSchema>'


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (regression(derived(apply("lgamma", "x"))), "the function 'lgamma' is not converted"),
        (regression(derived(apply("+", "x", "c"))), "takes a text or a truth for a number"),
        (regression(derived(apply("/", "1", "2"))), "as evaluators differ"),
        (regression(derived(apply("+", "x"))), "'\\+' has 1 arguments"),
        (regression(derived(apply("+", "x", "e"))), "'e', which is not in the MiningSchema nor derived before"),
        (regression(derived(apply("+", "x", "z"), dtype="integer")), "cast to 'integer'"),
        (regression(derived(apply("if", apply("lessThan", "x", "z"), "x", more='mapMissingTo="1"'))), "with isMissing"),
        (regression(derived(f'<Discretize field="x">{BINS.replace("openO", "closedO")}</Discretize>')), "overlap"),
        (regression(derived('<TextIndex textField="c"/>')), "TextIndex is not converted"),
        (regression(derived('<NormContinuous field="x"><LinearNorm orig="1" norm="0"/></NormContinuous>')), "rising"),
        (regression(derived(apply("+", "x", "z"), "x")), "two fields have the name 'x'"),
        (regression(derived(apply("+", "x", "z")) + derived(apply("-", "x", "z"))), "two fields have the name 'd'"),
        (regression("", '<PredictorTerm coefficient="1"/>'), "PredictorTerm needs fields"),
        (document(ensemble("sum", tree(LESS.replace('"x"', '"d"')).replace("SCHEMA", TREATED))), "outliers of its own"),
    ],
)  # fmt: skip
def test_what_would_change_a_derived_field_is_refused(text: str, match: str) -> None:
    with pytest.raises(RefusedError, match=match):
        pmml_file.read_pmml(text.encode())


def test_functions_that_grow_without_end_are_refused() -> None:
    for body in (apply("f", "p"), apply("+", apply("f", "p"), apply("f", "p"))):
        text = regression(derived(apply("f", "x")), functions=defined("f", body))
        with pytest.raises(RefusedError, match="deep are not converted"):
            pmml_file.read_pmml(text.encode())
    doubled = "x"
    for _ in range(50):
        doubled = apply("f", doubled)
    with pytest.raises(RefusedError, match="parts are not converted"):
        pmml_file.read_pmml(regression(derived(doubled), functions=defined("f", apply("+", "p", "p"))).encode())
