"""Where a caller wants its call to run: X-Ingle-Pin. Pure; runs in the gateway."""

from collections.abc import Collection
from typing import Literal, NamedTuple

from appliance.core.errors import BadInputError

_MAX_CHARACTERS = 128


class Pin(NamedTuple):
    """`word` is empty for `local`; else a node's name or id, or a tag."""

    kind: Literal["local", "node", "tag"]
    word: str = ""

    def admits(self, *, node_id: str, name: str, tags: Collection[str], local: bool) -> bool:
        """Whether the call may run on that node."""
        if self.kind == "local":
            return local
        if self.kind == "node":
            return self.word in (name, node_id)
        return self.word in tags

    def __str__(self) -> str:
        return f"{self.kind}:{self.word}" if self.word else self.kind


def parse_pin(text: str) -> Pin | None:
    """`local`, `node:NAME` or `tag:WORD`; None for an empty text. Raises BadInputError."""
    text = text.strip()
    if not text:
        return None
    kind, _, word = text.partition(":")
    word = word.strip()
    if kind == "local" and not word:
        return Pin("local")
    if kind in ("node", "tag") and 0 < len(word) <= _MAX_CHARACTERS:
        return Pin("node" if kind == "node" else "tag", word)
    raise BadInputError(f"'{text[:100]}' is no place to run a call at: expected local, node:NAME or tag:WORD")
