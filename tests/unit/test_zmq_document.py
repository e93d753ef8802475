"""docs/zeromq.md says what the code does: its example is decoded, and its tables name what the structs have."""

import re
import struct
from pathlib import Path

import msgspec
import pytest

from appliance.core.client_frames import Call, ClientKind, Fault, Query, Result, Tensor, read_message
from appliance.core.errors import ERRORS

TEXT = (Path(__file__).parents[2] / "docs" / "zeromq.md").read_text()


def example(name: str) -> bytes:
    found = re.search(rf"```{name}\n(.*?)```", TEXT, re.DOTALL)
    assert found, name
    return bytes.fromhex(found[1])


def fields_of(section: str) -> list[str]:
    return re.findall(r"^\| \d+ \| (\w+) \|", section, re.MULTILINE)


def test_the_example_is_the_call_that_the_document_says() -> None:
    head, (body,) = read_message([example("call")])
    assert head == Call(7, "me/double", "", [Tensor("x", "FP32", [1, 2], 0, 8)], None, "simKEY")
    assert struct.unpack("<2f", body) == (1.0, 2.0)


def test_the_examples_table_is_the_example() -> None:
    table = TEXT[TEXT.index("| bytes | what |") : TEXT.index("And a FAULT to it")]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert bytes.fromhex(" ".join(re.findall(r"`([0-9a-f ]+)`", " ".join(rows)))) == example("call")


def test_the_fault_is_one() -> None:
    assert read_message([example("fault")])[0] == Fault(7, "busy", "try later")


@pytest.mark.parametrize(
    ("heading", "head"), [("CALL", Call), ("RESULT", Result), ("QUERY, REPLY", Query), ("FAULT", Fault)]
)
def test_every_field_is_documented_in_its_place(heading: str, head: type[msgspec.Struct]) -> None:
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    documented = fields_of(section)
    expected = list(head.__struct_fields__)
    assert documented[: len(expected)] == expected
    if head is Call:
        assert documented[len(expected) :] == list(Tensor.__struct_fields__)


def test_every_kind_and_every_code_is_documented() -> None:
    for kind in ClientKind:
        assert f"| {kind.value} | {kind.name} |" in TEXT
    for code in ERRORS:
        assert f"`{code}`" in TEXT
