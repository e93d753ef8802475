"""What comes into a Spark model's graph, and rows of it that reach all of the model.

In the process of a conversion alone.
"""

from collections.abc import Callable

import numpy as np

from appliance.core.errors import IngleError
from appliance.core.manifest import WordRule
from appliance.core.words import Words
from converters.converter import Array
from converters.rows import TEXTS
from converters.table_rows import rows_around


class Input:
    """A column that the model takes. `marks` are numbers worth trying, by element; `closed`: no others than the marks
    are taken; `missing`: NaN is; `low` and `high` bound what is."""

    def __init__(self, name: str, *, width: int, is_text: bool, is_vector: bool) -> None:
        self.name, self.width, self.is_text, self.is_vector = name, width, is_text, is_vector
        self.labels: list[str] = []
        self.marks: dict[int, set[float]] = {}
        self.closed = False
        self.missing = True
        self.low, self.high = -np.inf, np.inf
        self.counts = False  # whole numbers from zero on

    def rows(self, count: int, random: np.random.Generator) -> Array:
        """`count` rows of [width]."""
        if self.is_text:
            known = self.labels or ["a"]
            made = np.empty((count, 1), object)
            made[:, 0] = random.choice(np.array(known, object), count)
            if not self.closed:
                other = random.random(count) < 0.1
                made[other, 0] = random.choice(np.array([text for text in TEXTS if text], object), int(other.sum()))
            return made
        if self.counts:
            counted: Array = random.integers(0, 2 if self.high == 1 else 9, (count, self.width)).astype(np.float64)
            return counted
        if self.closed:
            columns = [random.choice(sorted(self.marks.get(at, {0.0})), count) for at in range(self.width)]
            return np.stack(columns, axis=1).astype(np.float64)
        made = rows_around(count, random, self.width, np.float64, thresholds=self.marks, missing=self.missing)
        return np.clip(made, self.low, self.high)


# Words that Java, Python and those who cut texts have each treated in their own way.
_WORDS = (
    "É", "naïve", "Straße", "ΟΔΟΣ", "İstanbul", "\u0131I", "\ufb01n", "🙂", "👩\u200d👩", "e\u0301te\u0301", "日本語",
    "don't", "x-ray", "3.14", "_a", "the", "The", "a\u00a0b", "\u2003",
)  # fmt: skip
_GAPS = (" ", "  ", "\t", "\n ", ", ", ",", ";", "|", ".", " - ", "\x0b")
_MOST_WORDS = 30


class WordsInput(Input):
    """A text that is cut into words. `vocabulary`: words worth trying. What is counted of its words has slots, of which
    `marks` are worth reaching."""

    def __init__(self, name: str, rule: WordRule) -> None:
        super().__init__(name, width=1, is_text=True, is_vector=False)
        self.rule, self.cut = rule, Words(rule)
        self.vocabulary: set[str] = set()
        self._slots = 0
        self._words: list[tuple[int, int, Callable[[int], str]]] = []

    def add(self, width: int, word: Callable[[int], str]) -> int:
        """The first of `width` slots; `word` gives one that is counted in a slot, counted from the first, or none."""
        first, self._slots = self._slots, self._slots + width
        self._words.append((first, width, word))
        return first

    def rows(self, count: int, random: np.random.Generator) -> Array:
        made = np.empty((count, 1), object)
        words = [sorted(self.vocabulary), sorted(self._reaching()), list(_WORDS), _letters(random, 200)]
        pools = [np.array(pool, object) for pool in words if pool]
        for row in range(count):
            made[row, 0] = self._text(pools, random)
        texts = [text for text in TEXTS if self._is_taken(text)]
        made[: len(texts), 0] = texts[:count]
        return made

    def _reaching(self) -> set[str]:
        found = set()
        for at in list(self.marks)[:2000]:
            first, _, word = next(one for one in self._words if one[0] <= at < one[0] + one[1])
            found.add(word(at - first))
        return found - {""}

    def _text(self, pools: list[Array], random: np.random.Generator) -> str:
        """Of words of each pool: some twice, some in capitals, with all kinds of gaps between."""
        while True:
            words = [
                str(random.choice(pools[random.integers(len(pools))])) for _ in range(random.integers(_MOST_WORDS))
            ]
            words += words[: random.integers(3)]
            words = [word.upper() if random.random() < 0.1 else word for word in words]
            text = "".join(word + _GAPS[random.integers(len(_GAPS)) if random.random() < 0.3 else 0] for word in words)
            if self._is_taken(text):
                return text

    def _is_taken(self, text: str) -> bool:
        try:
            self.cut.cut(text)
        except IngleError:
            return False
        return True


def _letters(random: np.random.Generator, count: int) -> list[str]:
    return ["".join(random.choice(list("abcdefghijklmnopqrstuvwxyz"), 5)) for _ in range(count)]
