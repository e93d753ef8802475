"""Which calls are traced and where to: settings of the whole node, and of models that differ. Pure.

Source of the words: Triton's trace extension. A value is a text, or a list of texts for `trace_level`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from appliance.core.errors import BadInputError

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_LARGEST = 2**31 - 1
_CONSTANT = {"log_frequency": ("0", "files are not split"), "trace_mode": ("triton", "traces are written in that form")}


class TraceSettings(msgspec.Struct, frozen=True):
    """One call of `rate` is traced while `count` lasts (-1: for ever), into the file of this name."""

    on: bool = False
    rate: int = 1000
    count: int = -1
    file: str = "trace.json"

    def words(self) -> dict[str, Any]:
        """In the extension's words."""
        return {
            "trace_level": ["TIMESTAMPS"] if self.on else ["OFF"],
            "trace_rate": str(self.rate),
            "trace_count": str(self.count),
            "log_frequency": "0",
            "trace_file": self.file,
            "trace_mode": "triton",
        }


# Of which setting each word is the value.
_FIELDS = {"trace_level": "on", "trace_rate": "rate", "trace_count": "count", "trace_file": "file"}


def read_changes(asked: Mapping[str, object]) -> dict[str, Any]:
    """TraceSettings' fields that a request changes, None for those that it clears. Raises BadInputError."""
    changes: dict[str, Any] = {}
    for name, value in asked.items():
        if name not in _FIELDS and name not in _CONSTANT:
            raise BadInputError(
                f"there is no trace setting '{name[:100]}': expected {', '.join((*_FIELDS, *_CONSTANT))}"
            )
        texts = _texts(name, value)
        if name in _CONSTANT:
            only, why = _CONSTANT[name]
            if texts not in ([], [only]):
                raise BadInputError(f"{name} can only be '{only}' on this node: {why}")
        else:
            changes[_FIELDS[name]] = _value(name, texts) if texts else None
    return changes


def _texts(name: str, value: object) -> list[str]:
    """What was sent, in one form; empty where it is to be cleared."""
    if value is None:
        return []
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not all(isinstance(item, str) or (isinstance(item, int) and not isinstance(item, bool)) for item in items):
        raise BadInputError(f"the trace setting {name} is {value!r:.60}: expected a text")
    return [str(item) for item in items]


def _value(name: str, texts: list[str]) -> Any:
    if name == "trace_level":
        if not set(texts) <= {"OFF", "TIMESTAMPS"} or len(set(texts)) > 1:
            raise BadInputError(
                f"trace_level is {texts!r:.60}: expected TIMESTAMPS or OFF; tensors are not traced here"
            )
        return texts[0] == "TIMESTAMPS"
    if len(texts) != 1:
        raise BadInputError(f"the trace setting {name} has {len(texts)} values: expected one")
    if name == "trace_file":
        if not FILE_NAME.fullmatch(texts[0]):
            raise BadInputError(
                f"trace_file is {texts[0]!r:.60}: expected a file's name alone, of letters, digits, '.', '_' and '-'; "
                "it lies in the folder `traces` of the node's data"
            )
        return texts[0]
    least = 1 if name == "trace_rate" else -1
    number = int(texts[0]) if re.fullmatch(r"-?[0-9]{1,10}", texts[0], re.ASCII) else least - 1
    if not least <= number <= _LARGEST:
        raise BadInputError(f"{name} is {texts[0]!r:.60}: expected a whole number from {least} to {_LARGEST}")
    return number
