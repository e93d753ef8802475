"""The one interface between a framework and the rest: what a converter says of itself, and what it makes.

A framework is one file in `converters/frameworks/` with a `CONVERTER` of this class in it; nothing else names it.
That file is imported in the command line's process too, so it imports its framework inside functions; `convert()` is
called only in the process of the conversion (child.py), and so are the functions it returns.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from converters.content import Content
from converters.detected import Detected
from converters.options import Options

Array = NDArray[Any]
# The ONNX model's inputs, or its outputs, by their names: of the dtypes and shapes that the model declares.
Feed = dict[str, Array]
Say = Callable[[str], None]


class Conversion(NamedTuple):
    """A model that was converted, and the original beside it to compare with.

    `model` lies in the folder that convert() was given, its external data beside it.
    `answer` is the original's own: it takes what the ONNX model takes and gives the outputs by the ONNX model's
    names, in its dtypes. An output that the original has no word for is left out; one at least must be there.
    `rows(count, random)` makes rows from the model's own schema that reach all of it: ranges, edge values, missing
    values where it knows them, its categories, texts with accents and emoji. One feed, whose first axes are the batch
    and which is then run in parts too, or a list of feeds, each run as it is. None: they are made from the declared
    inputs, which reaches little of a tree and nothing of a vocabulary.
    Where the manifest puts texts in the place of tokens, rows and `answer` have texts, too: the tokenizer is compared.
    `manifest` is a table as in manifest.toml: declarations of inputs (`as`, `columns`), `labels`, limits.
    `notes` are sentences for the report: what was repaired, what is approximate.
    `continuous`: a small change of what it is given changes its answers little, as of a net and not of trees. Made rows
    of which that is not true may then be left out of the comparison.
    `undecided` says which rows of a feed the original gives a label by so little that it hangs on how a sum was
    rounded. Where labels alone differ, made rows of that kind may be left out likewise.
    `precision`: `float16` or `bfloat16` where the original computes in it, whatever it answers in.
    """

    model: Path
    answer: Callable[[Feed], Feed]
    rows: Callable[[int, np.random.Generator], Feed | list[Feed]] | None = None
    manifest: dict[str, Any] = {}  # noqa: RUF012
    notes: tuple[str, ...] = ()
    continuous: bool = False
    undecided: Callable[[Feed], NDArray[np.bool_]] | None = None
    precision: str = ""


class Converter(ABC):
    """One framework. The class variables are what `ingle convert --list` shows."""

    name: ClassVar[str]
    extra: ClassVar[str]  # in pyproject.toml, where the pins are
    title: ClassVar[str]  # `XGBoost`
    takes: ClassVar[str]  # `native models as JSON or UBJSON`
    formats: ClassVar[tuple[str, ...]]  # the words of detection.py (or of detect() here) that it converts
    modules: ClassVar[tuple[str, ...]] = ()  # top-level modules that must be importable
    needs_processes: ClassVar[bool] = False  # it starts programs of its own (a JVM), so they may be started

    def detect(self, content: Content) -> Detected | None:
        """For a format that detection.py does not know. Must neither import the framework nor load the model."""
        return None

    def missing(self) -> tuple[str, ...]:
        """The modules that are not there; nothing is imported for it."""
        return tuple(module for module in self.modules if find_spec(module) is None)

    @abstractmethod
    def convert(self, source: Path, detected: Detected, folder: Path, options: Options, say: Say) -> Conversion:
        """Converts `source` to `folder / "model.onnx"`. `say` takes the name of each step as it begins.

        `folder` is empty and the only place that may be written to; there is no network. Raises RefusedError with a
        sentence where the model cannot be converted; whatever else is raised is told as the framework's fault.
        """


def require(condition: bool, sentence: str) -> None:
    """Raises RefusedError with the sentence unless the condition holds."""
    from appliance.core.errors import RefusedError

    if not condition:
        raise RefusedError(sentence)


def first_rows(feed: Feed, start: int, stop: int) -> Feed:
    """Rows `start` to `stop` of every input."""
    return {name: array[start:stop] for name, array in feed.items()}


def row_count(feed: Feed) -> int:
    """How many rows every input has; -1 where they do not agree or one has no first axis."""
    counts: Sequence[int] = [len(array) if array.ndim else -1 for array in feed.values()]
    return counts[0] if counts and min(counts) == max(counts) else -1
