"""CSV content: columns by the header's names or by position, and what a table can get wrong."""

import math

import msgspec
import pytest
from plain_cases import declares, one, takes

from appliance.core.errors import BadInputError, UnsupportedError
from appliance.core.manifest import ColumnsInput, Manifest
from appliance.workers.plain.content import tensors_from_content

CSV = "text/csv"
WIDE = takes(("x", "FP32", (-1, 2)))
TABLE = declares({"name": "x", "as": "columns", "columns": ["b", "a"]})
COLUMNS = takes(("age", "INT64", (-1, 1)), ("city", "BYTES", (-1, 1)), ("member", "BOOL", (-1, 1)))


@pytest.mark.parametrize(
    ("manifest", "table", "rows"),
    [
        (None, "1,2\n3,4\n", [[1, 2], [3, 4]]),
        (None, "1,2", [[1, 2]]),
        (None, "one,two\n1,2\n", [[1, 2]]),  # no number in the first row: a header
        (None, "1,2\r\n\r\n3,4\r\n\n", [[1, 2], [3, 4]]),
        (None, ' 1 ,"2"\n', [[1, 2]]),
        (None, "\ufeffone,two\n1e2,-.5\n", [[100, -0.5]]),
        (TABLE, "a,b\n1,2\n3,4\n", [[2, 1], [4, 3]]),
        (TABLE, "id,b, a ,note\n7,2,1,hello\n", [[2, 1]]),
        (TABLE, "2,1\n", [[2, 1]]),  # no header: in the declared order
    ],
)
def test_rows_come_by_name_or_by_position(manifest, table, rows):
    assert one(CSV, table.encode(), WIDE, manifest).tolist() == rows


def test_inputs_of_one_column_are_found_by_their_names():
    tensors = tensors_from_content(CSV, b'city,member,age\nOslo,TRUE,3\n"Rome, Italy",0,4.0\n', COLUMNS, Manifest())
    assert tensors["age"].tolist() == [[3], [4]]
    assert tensors["city"].tolist() == [["Oslo"], ["Rome, Italy"]]
    assert tensors["member"].tolist() == [[True], [False]]


def test_inputs_of_one_column_are_taken_by_position_without_a_header():
    tensors = tensors_from_content(CSV, b"3,Oslo,true\n", COLUMNS, Manifest())
    assert (tensors["age"].item(), tensors["city"].item(), tensors["member"].item()) == (3, "Oslo", True)


def test_several_inputs_share_a_table_by_declared_columns():
    signature = takes(("left", "FP32", (-1, 2)), ("right", "INT64", (-1, 1)))
    manifest = declares(
        {"name": "left", "as": "columns", "columns": ["a", "b"]}, {"name": "right", "as": "columns", "columns": ["c"]}
    )
    for table in (b"c,b,a\n3,2,1\n", b"1,2,3\n"):
        tensors = tensors_from_content(CSV, table, signature, manifest)
        assert (tensors["left"].tolist(), tensors["right"].tolist()) == ([[1, 2]], [[3]])


def test_missing_stands_for_an_empty_cell():
    manifest = declares({"name": "x", "as": "columns", "columns": ["a", "b"], "missing": math.nan})
    tensor = one(CSV, b"a,b\n1,\n,2\n", WIDE, manifest)
    assert math.isnan(tensor[0, 1])
    assert math.isnan(tensor[1, 0])


def test_a_missing_number_that_is_none_outlives_the_catalogue() -> None:
    declared = declares({"name": "x", "as": "columns", "columns": ["a", "b"], "missing": math.nan})
    stored = msgspec.json.decode(msgspec.json.encode(declared), type=Manifest)
    assert stored == declared
    (column,) = stored.input
    assert isinstance(column, ColumnsInput)
    assert column.empty_cell is not None
    assert math.isnan(column.empty_cell)


def test_cells_may_hold_what_is_no_number():
    tensor = one(CSV, b"NaN,-inf\nnan,Infinity\n", WIDE)
    assert math.isnan(tensor[0, 0])
    assert tensor[:, 1].tolist() == [-math.inf, math.inf]


@pytest.mark.parametrize(
    ("shape", "table"), [((-1,), b"1,2,3\n"), ((-1,), b"1\n2\n3\n"), ((3,), b"1,2,3\n"), ((-1,), b"v\n1\n2\n3\n")]
)
def test_an_input_of_rank_one_takes_a_row_or_a_column(shape, table):
    assert one(CSV, table, takes(("x", "FP32", shape))).tolist() == [1, 2, 3]


def test_a_scalar_takes_one_cell():
    assert one(CSV, b"7\n", takes(("x", "INT64", ()))).tolist() == 7


def test_strings_come_from_a_table_with_the_input_s_name_or_none():
    strings = takes(("text", "BYTES", (-1,)))
    assert one(CSV, b'text\nhello\n"""quoted"""\n', strings).tolist() == ["hello", '"quoted"']
    assert one(CSV, b"hello\n", strings).tolist() == ["hello"]


def test_the_type_says_charset_header_and_tabs():
    assert (
        one('text/csv; charset="latin-1"', "stad\nk\xf8\n".encode("latin-1"), takes(("stad", "BYTES", (-1,)))).item()
        == "kø"
    )
    assert one("text/csv; header=present", b"1,2\n3,4\n", WIDE).tolist() == [[3, 4]]
    assert one("text/csv; Header=absent", b"1,2\n", WIDE).tolist() == [[1, 2]]
    assert one("text/tab-separated-values", b"1\t2\n", WIDE).tolist() == [[1, 2]]


def test_a_table_is_a_file_where_the_manifest_wants_bytes_and_a_text_where_it_wants_text():
    assert one(CSV, b"a,b", takes(("x", "INT32", (-1, 3))), declares({"name": "x", "as": "bytes"})).tolist() == [
        [97, 44, 98]
    ]
    assert one(CSV, b"a,b", takes(("x", "BYTES", (-1,))), declares({"name": "x", "as": "text"})).item() == "a,b"


@pytest.mark.parametrize(
    ("table", "manifest", "says"),
    [
        (b"", None, "empty"),
        (b"\n\n", None, "empty"),
        (b"a,b\n", None, "no rows"),
        (b"1,2\n3\n", None, "line 2 of the table has 1 cells, but the first row has 2"),
        (b"a,b\n1,2,3\n", TABLE, "line 2 of the table has 3 cells, but the header has 2"),
        (b"1,2,3\n", None, "the data has shape [1, 3]"),
        (b"1,2,3\n", TABLE, "3 columns and no header, but the model takes 2: b, a"),
        (b"a,c\n1,2\n", TABLE, "no column b"),
        (b"c,d\n1,2\n", TABLE, "no column b, a"),
        (b"a,b,a\n1,2,3\n", TABLE, "more than once"),
        (b"1,\n", None, "empty cell"),
        (b"1,two\n", None, "holds 'two'"),
        (b"1,0x10\n", None, "holds '0x10'"),
        (b"1,1_0\n", None, "holds '1_0'"),
        (b"1,1e39\n", None, "1e+39"),
        (b"1,true\n", None, "holds 'true'"),
        (b'1,"2\n', None, "cannot be read"),
        (b'1,"2"x\n', None, "cannot be read"),
        (b"1," + b"2" * 200_000, None, "cannot be read"),
        (b"1,\xff\n", None, "no utf-8"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_with_a_sentence(table, manifest, says):
    with pytest.raises(BadInputError) as refused:
        one(CSV, table, WIDE, manifest)
    assert says in refused.value.sentence


@pytest.mark.parametrize(
    ("cell", "says"), [("2.5", "holds 2.5"), ("nan", "holds nan"), ("1e30", "1e+30"), ("-9223372036854775809", "whole")]
)
def test_whole_numbers_are_not_made_of_others(cell, says):
    with pytest.raises(BadInputError, match="whole numbers") as refused:
        one(CSV, cell.encode(), takes(("x", "INT64", (-1, 1))))
    assert says in refused.value.sentence


def test_a_table_cannot_be_shared_out_without_a_declaration():
    signature = takes(("left", "FP32", (-1, 2)), ("right", "FP32", (-1, 2)))
    with pytest.raises(BadInputError, match="declare them in the manifest"):
        tensors_from_content(CSV, b"1,2,3,4\n", signature, Manifest())


@pytest.mark.parametrize("charset", ["no-such", "zip", "hex", "rot13"])
def test_a_charset_that_is_none_is_refused(charset):
    with pytest.raises(UnsupportedError, match="not known"):
        one(f"text/csv; charset={charset}", b"1,2\n", WIDE)
