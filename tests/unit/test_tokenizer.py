"""Texts into tokens by a file that came with a model: cut, filled up, and hostile in either."""

import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Library

from appliance.core.errors import BadInputError, RefusedError, TooLargeError
from appliance.core.manifest import TextInput
from appliance.core.tokenizer import MAX_CHARACTERS, MAX_FILE_BYTES, Tokenizer
from tests.text_models import WORDS, changed, tokenizer


def opened(folder: Path, file: str = "", length: int = 0, **declared: object) -> Tokenizer:
    (folder / "tokenizer.json").write_text(file or tokenizer().to_str())
    text = TextInput(name="text", tokenizer="tokenizer.json", **declared)  # type: ignore[arg-type]
    return Tokenizer(folder, text, length=length)


def words(rows: list[list[int]]) -> list[str]:
    return [" ".join(WORDS[number] for number in row) for row in rows]


def test_texts_of_unlike_lengths_are_filled_up_to_the_longest_and_masked(tmp_path: Path) -> None:
    found = opened(tmp_path).tokens(["Café", "a good DAYS 🙂 Paris!", ""])
    assert words(found.ids) == [
        "[CLS] cafe [SEP] [PAD] [PAD] [PAD] [PAD] [PAD] [PAD]",
        "[CLS] a good day ##s 🙂 paris [UNK] [SEP]",
        "[CLS] [SEP] [PAD] [PAD] [PAD] [PAD] [PAD] [PAD] [PAD]",
    ]
    assert [sum(row) for row in found.mask] == [3, 9, 2]
    assert found.offsets == []


def test_a_text_alone_is_filled_up_with_nothing(tmp_path: Path) -> None:
    assert words(opened(tmp_path).tokens(["good day"]).ids) == ["[CLS] good day [SEP]"]


def test_a_long_text_is_cut_at_the_declared_length_and_else_at_the_files(tmp_path: Path) -> None:
    long = "good day " * 600
    cut = {"max_length": 6, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
    assert len(opened(tmp_path).tokens([long]).ids[0]) == 512
    assert len(opened(tmp_path, changed(truncation=cut)).tokens([long]).ids[0]) == 6
    found = opened(tmp_path, changed(truncation=cut), max_tokens=4).tokens([long])
    assert words(found.ids) == ["[CLS] good day [SEP]"]


def test_filling_goes_where_the_file_says_but_never_to_its_fixed_length(tmp_path: Path) -> None:
    filling = {"strategy": {"Fixed": 128}, "direction": "Left", "pad_to_multiple_of": None}
    filling |= {"pad_id": 1, "pad_type_id": 3, "pad_token": "[UNK]"}
    found = opened(tmp_path, changed(padding=filling)).tokens(["good", "good day"])
    assert words(found.ids) == ["[UNK] [CLS] good [SEP]", "[CLS] good day [SEP]"]
    assert (found.mask[0], found.types[0]) == ([0, 1, 1, 1], [3, 0, 0, 0])


def test_a_model_of_one_length_gets_that_length(tmp_path: Path) -> None:
    found = opened(tmp_path, length=4).tokens(["", "good day good day"])
    assert words(found.ids) == ["[CLS] [SEP] [PAD] [PAD]", "[CLS] good day [SEP]"]


def test_a_pair_is_told_apart_by_its_types(tmp_path: Path) -> None:
    found = opened(tmp_path, pair="other").tokens(["good", "bad"], ["day", "a day"])
    assert words(found.ids)[0] == "[CLS] good [SEP] day [SEP] [PAD]"
    assert found.types == [[0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1]]


def test_offsets_are_characters_of_the_text(tmp_path: Path) -> None:
    found = opened(tmp_path, offsets="offsets").tokens(["🙂 Café", "a"])
    assert found.offsets == [[(0, 0), (0, 1), (2, 6), (0, 0)], [(0, 0), (0, 1), (0, 0), (0, 0)]]


def test_a_text_beyond_the_bound_is_too_large(tmp_path: Path) -> None:
    opened(tmp_path).tokens(["a" * MAX_CHARACTERS])
    with pytest.raises(TooLargeError, match=f"at most {MAX_CHARACTERS} are taken"):
        opened(tmp_path).tokens(["good", "a" * (MAX_CHARACTERS + 1)])


def test_half_a_pair_of_utf16_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="UTF-16"):
        opened(tmp_path).tokens(["good", "\ud800"])


def test_a_text_without_any_token_is_refused(tmp_path: Path) -> None:
    bare = opened(tmp_path, changed(post_processor=None))
    assert words(bare.tokens(["good"]).ids) == ["good"]
    with pytest.raises(BadInputError, match="no token of nothing"):
        bare.tokens(["good", ""])


def test_what_panics_on_a_text_is_a_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    with pytest.raises(BadInputError, match=r"the tokenizer fails on this text: .*retry-limit"):
        opened(tmp_path, changed(pre_tokenizer=split)).tokens(["a" * 40 + "!"])
    capfd.readouterr()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    whole = tokenizer().to_str()
    with pytest.raises(RefusedError, match=r"tokenizer.json is no tokenizer.json that can be read"):
        opened(tmp_path, whole[: int(len(whole) * share)] or "{")


@pytest.mark.parametrize(
    "file",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "{}",
        "null",
        changed(model={"type": "Other"}),
        changed(model={"type": "WordPiece", "vocab": {}, "unk_token": "[UNK]"}),
        changed(normalizer={"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"Regex": "(("}}]}),
        changed(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(("}, "behavior": "Isolated", "invert": False}),
    ],
    ids=["lists", "objects", "empty", "null", "model", "vocabulary", "pattern", "regex"],
)
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, file: str) -> None:
    with pytest.raises(RefusedError, match=r"tokenizer.json is no tokenizer.json that can be read"):
        opened(tmp_path, file)


def test_a_file_beyond_the_bound_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(RefusedError, match="too large for a tokenizer"):
        Tokenizer(tmp_path, TextInput(name="text", tokenizer="large.json"))


@pytest.mark.parametrize("name", ["other.json", "../tokenizer.json", "/etc/passwd", ".", "a/b.json"])
def test_a_file_that_is_not_in_the_bundle_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "tokenizer.json").write_text(tokenizer().to_str())
    with pytest.raises(RefusedError, match="which is not in the bundle"):
        Tokenizer(tmp_path / "inner", TextInput(name="text", tokenizer=name))


@pytest.mark.parametrize("most", [-1, 1, 2, 2**17 + 1])
def test_a_length_without_room_for_a_token_is_refused(tmp_path: Path, most: int) -> None:
    with pytest.raises(RefusedError, match=r"expected 3 to 131072, of which 2 are the tokenizer's own"):
        opened(tmp_path, max_tokens=most)


def test_where_the_library_is_missing_the_sentence_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(RefusedError, match=r"pip install 'ingle\[text\]'"):
        opened(tmp_path)


def test_the_tokens_are_the_librarys_own(tmp_path: Path) -> None:
    texts = ["Ångström café", "日本 good", "bad\tday\n", "x" * 300, "[SEP] good [MASK]", "e\u0301", "🙂🙂"]
    library: Library = tokenizer()
    for text in texts:
        assert opened(tmp_path).tokens([text]).ids[0] == library.encode(text).ids
