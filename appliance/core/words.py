"""Texts into words by a rule in the manifest, cut as Java cuts them: for models of Spark ML, whose vocabularies and
hashes hold what Java made of a text.

Runs where a model runs, as tokenizer.py, with the same bounds. A rule is taken where Python's `re` is known to do what
java.util.regex does; what is lowered otherwise by Python than by Java is an error and no answer.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from appliance.core.errors import BadInputError, RefusedError, TooLargeError
from appliance.core.manifest import TextInput, WordRule
from appliance.core.tensors import TensorSpec
from appliance.core.tokenizer import MAX_TOKENS, Row, Tokenizer, Tokens, check_text

_MAX_PATTERN = 500
# What both read alike: characters, classes of them, each perhaps repeated, one after the other, with `|` between. No
# dot, `\b`, `\p`, anchors, flags and groups within groups, and nothing that is repeated twice over.
_ESCAPE = r"\\(?:[sSwWdDtnrf]|[!-/:-@\[-`{-~])"
_PLAIN = r"[^\\\[\](){}.*+?^$|]"
_IN_CLASS = rf"(?:[0-9A-Za-z]-[0-9A-Za-z]|{_ESCAPE}|[^\\\[\]^&~|-]|\|(?!\|))"
_ITEM = rf"(?:{_ESCAPE}|{_PLAIN}|\[\^?{_IN_CLASS}+-?\])(?:[+*?]|\{{\d{{1,3}}(?:,\d{{0,3}})?\}})?"
_SEQUENCE = rf"(?:{_ITEM})+(?:\|(?:{_ITEM})+)*"
_TAKEN = re.compile(rf"(?:{_ITEM}|\|(?!\||$)|\((?:\?:)?{_SEQUENCE}\))+")

# Java looks for the word around a capital sigma by rules of its own, to tell whether it is the last of its word. Where
# letters, white space or these are beside it, Python says the same; a full stop and its like where the word ends there.
_APART = frozenset(",;!?()[]{}<>/\\|=+*&%@#$€…«»“”")
_STOPS = frozenset(".:'\u2019")


class Words:
    def __init__(self, rule: WordRule) -> None:
        """Raises RefusedError where the rule's pattern is none that Python and Java read alike."""
        self._rule = rule
        self._pattern = _compiled(rule.pattern)

    def tokens(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Tokens:
        return self.filled(self.rows(texts, pairs))

    def rows(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Row]:
        """Each text's own words, as `ids`. Raises BadInputError, TooLargeError."""
        return [Row(self.cut(text), [], []) for text in texts]

    def filled(self, rows: Sequence[Row]) -> Tokens:
        """The rows, filled up with empty words to the longest of them, which has one at least."""
        longest = max(1, max((len(row.ids) for row in rows), default=0))
        words = [[*row.ids, *[""] * (longest - len(row.ids))] for row in rows]
        present = [[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in rows]
        return Tokens(words, present, [], [])

    def cut(self, text: str) -> list[str]:
        """The words of one text. Raises BadInputError, TooLargeError."""
        check_text(text)
        if self._rule.lower:
            text = lowered(text)
        found = _split(self._pattern, text) if self._rule.gaps else [one[0] for one in self._pattern.finditer(text)]
        if self._rule.shortest:
            found = [word for word in found if _length(word) >= self._rule.shortest]
        if len(found) > MAX_TOKENS:
            raise TooLargeError(f"the text has {len(found)} words: at most {MAX_TOKENS} are taken; send it in parts")
        return found


def tokenizer_of(declared: TextInput, folder: Path, ids: TensorSpec) -> Tokenizer | Words:
    """What makes tokens or words of the declared text, for the model's input `ids`. Raises RefusedError."""
    if declared.words is not None:
        return Words(declared.words)
    return Tokenizer(folder, declared, length=max(0, ids.shape[1]))


def lowered(text: str) -> str:
    """As Java's String.toLowerCase(Locale.ROOT). Raises BadInputError for a capital sigma of which it is not known that
    Python lowers it to the same."""
    at = text.find("Σ")
    while at >= 0:
        before, after = text[at - 1 : at] if at else "", text[at + 1 : at + 2]
        ends = after in _STOPS and (text[at + 2 : at + 3] or " ").isspace()
        if not (_is_clear(before) and (_is_clear(after) or ends)):
            raise BadInputError(
                f"the text has a capital sigma in {text[max(0, at - 5) : at + 6]!r}, which Java lowers by rules of its "
                "own: lower the text before the call"
            )
        at = text.find("Σ", at + 1)
    return text.lower()


def _is_clear(beside: str) -> bool:
    return not beside or beside.isspace() or beside in _APART or (beside.isalpha() and beside.upper() != beside.lower())


def _split(pattern: re.Pattern[str], text: str) -> list[str]:
    """As java.util.regex.Pattern.split: empty words at the end are left out, a text without a match is one word."""
    found, end = [], 0
    for gap in pattern.finditer(text):
        found.append(text[end : gap.start()])
        end = gap.end()
    found.append(text[end:])
    while len(found) > 1 and not found[-1]:
        found.pop()
    return found if found[0] or not end or len(found) > 1 else []


def _length(word: str) -> int:
    """In Java's characters, of which those beyond the basic plane are two."""
    return len(word) if word.isascii() else len(word) + sum(letter > "\uffff" for letter in word)


def _compiled(pattern: str) -> re.Pattern[str]:
    if len(pattern) <= _MAX_PATTERN and _TAKEN.fullmatch(pattern):
        try:
            found = re.compile(pattern, re.ASCII)  # as Java's classes are
        except (re.error, OverflowError):
            found = None
        if found is not None and found.fullmatch("") is None:
            return found
    raise RefusedError(
        f"the pattern {pattern[:60]!r} is none that Python is known to cut by as Java does: expected characters, "
        r"classes such as \s, \W or [^a-z], perhaps repeated, with | between, that do not match an empty text"
    )
