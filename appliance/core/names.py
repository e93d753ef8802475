"""How models are named: `owner/name`, and `owner/name:version` where a version is asked for.

Used by every process. Knows the grammar of names and nothing of what exists.
"""

import re
from typing import NamedTuple

from appliance.core.errors import BadInputError

DEFAULT_OWNER = "local"

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# Words that the V2 protocol puts after a model's name in a path; a model so called could not be addressed.
RESERVED = frozenset(
    ("ready", "config", "stats", "infer", "versions", "load", "unload", "index", "generate", "generate_stream", "trace")
)


class ModelName(NamedTuple):
    """A model's full name. `str()` gives `owner/name`."""

    owner: str
    name: str

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def v2(self) -> str:
        """The name in V2's answers: bare for the default owner, as a V2 client that loaded it would say it."""
        return self.name if self.owner == DEFAULT_OWNER else f"{self.owner}/{self.name}"


def parse_name(text: str) -> ModelName:
    """`owner/name` or `name` (owner `local`). Raises BadInputError with the rule that was broken."""
    owner, slash, name = text.partition("/")
    if not slash:
        owner, name = DEFAULT_OWNER, text
    for word in (owner, name):
        if not _WORD.fullmatch(word):
            raise BadInputError(
                f"'{text[:200]}' is no model name: expected owner/name, each of letters, digits, '.', '_' or '-', "
                "beginning with a letter or digit, at most 128 characters"
            )
        if word in RESERVED:
            raise BadInputError(f"'{word}' cannot be used in a model's name: the V2 protocol's paths use that word")
    return ModelName(owner, name)


def parse_reference(text: str) -> tuple[ModelName, str]:
    """`owner/name[:version]`: the name and the version as asked for, empty where none was."""
    name, _, version = text.partition(":")
    return parse_name(name), version


def name_from_stem(stem: str) -> str:
    """A legal bare name made from a file's stem: what the grammar forbids becomes `-`."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:128] or "model"
    return f"{cleaned}-model" if cleaned in RESERVED else cleaned
