"""Texts into tokens, by the library `tokenizers` and the tokenizer.json that came with a model.

Runs where a model runs: in a worker, in the child that looks at a model, in the process of a conversion; all of them
confined and bounded, since the file and the texts are of anyone. The library is imported when the first tokenizer is
opened, after the fork. Knows no numpy and no model.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from appliance.core.errors import BadInputError, IngleError, RefusedError, TooLargeError
from appliance.core.manifest import TextInput

MAX_FILE_BYTES = 64 * 2**20  # the largest vocabularies in use, of 260,000 words, take half of it
MAX_TOKENS = 2**17
DEFAULT_TOKENS = 512
# Of one text. A text is read to its end before it is cut: this much takes two seconds and 50 MB, and is 30 times what
# any model for texts can take in.
MAX_CHARACTERS = 2**18
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
_PADDING = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>")


class Row(NamedTuple):
    """Of one text, as long as it is. `offsets` are (first, after the last) characters of the text itself."""

    ids: list[Any]  # numbers; texts where these are words
    types: list[int]
    offsets: list[tuple[int, int]]


class Tokens(NamedTuple):
    """Of several texts, all filled up to one length."""

    ids: list[list[Any]]
    mask: list[list[int]]
    types: list[list[int]]
    offsets: list[list[tuple[int, int]]]


class Tokenizer:
    def __init__(self, folder: Path, declared: TextInput, *, length: int = 0) -> None:
        """`length` above 0: every text gets as many tokens, for models that take no other number.

        Raises RefusedError where the file or the library is not there, or the file is no tokenizer.
        """
        self._name = declared.tokenizer
        self._inner = self._opened(folder)
        self._length = length
        self._padding = self._found_padding()
        self._limit(declared, length)
        self._shown = bool(declared.offsets)
        self._prefix = declared.prefix

    def tokens(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Tokens:
        """The texts' tokens, filled up to the longest. Raises BadInputError, TooLargeError."""
        return self.filled(self.rows(texts, pairs))

    def rows(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Row]:
        """Each text's own tokens. Raises BadInputError, TooLargeError."""
        for text in (*texts, *(pairs or ())):
            check_text(text)
        second = [None] * len(texts) if pairs is None else pairs
        return [self._row(self._prefix + text, pair) for text, pair in zip(texts, second, strict=True)]

    def filled(self, rows: Sequence[Row]) -> Tokens:
        """The rows, filled up to the longest of them."""
        longest = max(self._length, max((len(row.ids) for row in rows), default=0))
        left, pad_id, pad_type = self._padding
        ids, mask, types, offsets = [], [], [], []
        for row in rows:
            missing = longest - len(row.ids)
            ids.append(_filled(row.ids, [pad_id] * missing, left))
            mask.append(_filled([1] * len(row.ids), [0] * missing, left))
            types.append(_filled(row.types, [pad_type] * missing, left))
            if self._shown:
                offsets.append(_filled(row.offsets, [(0, 0)] * missing, left))
        return Tokens(ids, mask, types, offsets)

    def _row(self, text: str, pair: str | None) -> Row:
        """One at a time: of several long texts the library would hold all, with what it cuts off."""
        try:
            encoding = self._inner.encode(text) if pair is None else self._inner.encode(text, pair)
            row = Row(encoding.ids, encoding.type_ids, encoding.offsets if self._shown else [])
        except BaseException as error:
            raise _reported(error, BadInputError, "the tokenizer fails on this text") from None
        if not row.ids:
            raise BadInputError("the text is empty, and this model's tokenizer makes no token of nothing")
        return row

    def _opened(self, folder: Path) -> Any:
        name = self._name
        if Path(name).name != name or not (file := folder / name).is_file():
            raise RefusedError(f"the manifest names the tokenizer {name[:120]!a}, which is not in the bundle")
        if file.stat().st_size > MAX_FILE_BYTES:
            raise RefusedError(f"{name} is too large for a tokenizer: at most {MAX_FILE_BYTES} bytes are taken")
        # A worker's threads are the node's to give, and where the library panicked is no help in a node's log.
        os.environ.update(TOKENIZERS_PARALLELISM="false", RUST_BACKTRACE="0")
        try:
            import tokenizers
        except ImportError:
            raise RefusedError(
                "this model takes texts, for which the library `tokenizers` is needed, and it is not installed here: "
                "pip install 'ingle[text]'"
            ) from None
        try:
            return tokenizers.Tokenizer.from_file(str(file))
        except BaseException as error:
            raise _reported(error, RefusedError, f"{name} is no tokenizer.json that can be read") from None

    def _found_padding(self) -> tuple[bool, int, int]:
        """Whether it goes to the left, and with what: as the file says, else by the word that stands for it."""
        own = self._inner.padding
        self._inner.no_padding()  # a file may say a length of its own; rows are filled up here
        if own:
            return own["direction"] == "left", own["pad_id"], own["pad_type_id"]
        known = (self._inner.token_to_id(word) for word in _PADDING)
        return False, next((number for number in known if number is not None), 0), 0

    def _limit(self, declared: TextInput, length: int) -> None:
        own: dict[str, Any] = self._inner.truncation or {}
        most = declared.max_tokens or own.get("max_length") or DEFAULT_TOKENS
        most = min(most, length) if length else most
        added = self._inner.num_special_tokens_to_add(bool(declared.pair))
        if not added < most <= MAX_TOKENS:
            raise RefusedError(
                f"texts are cut at {most} tokens: expected {added + 1} to {MAX_TOKENS}, of which {added} are the "
                "tokenizer's own; say `max_tokens` in the manifest"
            )
        self._inner.enable_truncation(
            most,
            strategy=own.get("strategy", "longest_first"),
            direction=own.get("direction", "right"),
        )


def check_text(text: str) -> None:
    """Raises TooLargeError, BadInputError for what no text of a call may be."""
    if len(text) > MAX_CHARACTERS:
        raise TooLargeError(
            f"the text has {len(text)} characters: at most {MAX_CHARACTERS} are taken; send it in parts"
        )
    if not text.isascii() and _HALF_A_PAIR.search(text):
        raise BadInputError("the text holds half of a UTF-16 pair, which is no text")


def _filled(row: list[Any], filling: list[Any], left: bool) -> list[Any]:
    return filling + row if left else row + filling


def _reported(error: BaseException, kind: type[IngleError], what: str) -> BaseException:
    """The error as a sentence. A panic in the library is no Exception; what ends processes is passed on."""
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | MemoryError):
        return error
    return kind(f"{what}: {' '.join(str(error).split())[:300]}")
