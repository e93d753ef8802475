"""Texts into words as Java cuts and lowers them; tests/converters/test_spark.py compares with Spark itself."""

import pytest

from appliance.core.errors import BadInputError, RefusedError, TooLargeError
from appliance.core.manifest import WordRule
from appliance.core.tokenizer import MAX_TOKENS
from appliance.core.words import Words, lowered

EACH_SPACE = WordRule(pattern=r"\s", shortest=0)

# What Java 17 answered.
SPLIT = {
    "": [""],
    " ": [],
    " \n ": [],
    "a  b ": ["a", "", "b"],
    " a": ["", "a"],
    "a\u00a0b\u2003c\x0bd\x1ce\u0085f": ["a\u00a0b\u2003c", "d\x1ce\u0085f"],
    "İSTANBUL ΟΔΟΣ": ["i̇stanbul", "οδος"],
    "ΑΣ. Α ΑΣ' Α": ["ας.", "α", "ας'", "α"],
    "Füße 🙂 ÉTÉ": ["füße", "🙂", "été"],
}


@pytest.mark.parametrize("text", SPLIT)
def test_words_are_cut_at_each_space_as_java_does(text: str) -> None:
    assert Words(EACH_SPACE).cut(text) == SPLIT[text]


def test_a_words_length_is_counted_in_javas_characters() -> None:
    rule = WordRule(pattern=r"[^a-z🙂]+", shortest=2)
    assert Words(rule).cut("a bc 🙂, D") == ["bc", "🙂"]


def test_matches_are_words_where_the_pattern_is_no_gap() -> None:
    assert Words(WordRule(pattern=r"\w+|\$\d+", gaps=False, lower=False)).cut("É t $12 Zz_9") == ["t", "$12", "Zz_9"]


def test_a_group_of_the_pattern_is_no_word() -> None:
    assert Words(WordRule(pattern=r"(,|;)")).cut("a,b;c") == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["ΤΕΛΟΣ...ΑΡΧΗ", "Α-Σ", "ΑΣ-ΒΓ", "ΑΣ1", "Α中Σ", "'Σ"])
def test_a_sigma_that_java_may_lower_otherwise_is_an_error(text: str) -> None:
    with pytest.raises(BadInputError, match="capital sigma"):
        lowered(text)


@pytest.mark.parametrize(
    "pattern",
    [
        r".", r"\bx", r"\p{L}+", r"a*", r"", r"(a+)+", r"((a))", r"^a", r"[a&&b]", r"[[a]]", r"(?i)a", r"a||b", r"a++",
        r"x{9999}", r"\1", r"[z-a]", "a" * 501,
    ],
)  # fmt: skip
def test_a_pattern_that_python_and_java_may_read_otherwise_is_refused(pattern: str) -> None:
    with pytest.raises(RefusedError, match="the pattern"):
        Words(WordRule(pattern=pattern))


@pytest.mark.parametrize(
    "pattern", [r"\s+", r"\W", r"[^a-zA-Z0-9_-]+", r"\s*[,.;!?]\s*", r"[,|;(]+", r"(?:\s|,)", r"ü|ö{2}"]
)
def test_a_usual_pattern_is_taken(pattern: str) -> None:
    assert Words(WordRule(pattern=pattern)).cut("x") == ["x"]


def test_rows_are_filled_up_to_the_longest_and_an_empty_one_has_a_place() -> None:
    words = Words(WordRule())
    found = words.tokens(["a b", "", "c"])
    assert found.ids == [["a", "b"], ["", ""], ["c", ""]]
    assert found.mask == [[1, 1], [0, 0], [1, 0]]
    assert words.tokens([""]).ids == [[""]]
    assert words.tokens([""]).mask == [[0]]


def test_a_text_of_too_many_words_is_too_large() -> None:
    with pytest.raises(TooLargeError, match=f"at most {MAX_TOKENS}"):
        Words(EACH_SPACE).cut(" " * MAX_TOKENS + "a")
