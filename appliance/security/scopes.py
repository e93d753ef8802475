"""What a caller may do: scopes such as `call:acme/*`, and the principal that has some. Pure; knows no key.

The actions are ordered: who may `admin` may `deploy`, who may `deploy` may `call`, for the same models.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from appliance.core.errors import BadInputError, ForbiddenError, UnauthenticatedError
from appliance.core.names import ModelName, parse_name
from appliance.security.limits import Meter

ACTIONS = ("call", "deploy", "admin")  # each allows those before it
_RANK = {action: rank for rank, action in enumerate(ACTIONS)}


class Scope(NamedTuple):
    """An action for all models, for an owner's (`name` empty), or for one. `str()` gives `action:pattern`."""

    action: str
    owner: str = ""
    name: str = ""

    def __str__(self) -> str:
        return f"{self.action}:" + (f"{self.owner}/{self.name or '*'}" if self.owner else "*")

    def covers(self, action: str, model: ModelName | None) -> bool:
        """Whether it allows `action` on `model`; None: on the node as a whole, for which only `*` will do."""
        if _RANK[self.action] < _RANK[action]:
            return False
        if not self.owner:
            return True
        return model is not None and model.owner == self.owner and self.name in ("", model.name)


def parse_scope(text: str) -> Scope:
    """`call`, `deploy` or `admin`, alone or with `:*`, `:owner/*` or `:owner/name`. Raises BadInputError."""
    action, colon, pattern = text.partition(":")
    # A bare `call:acme` could mean an owner or a model: a permission must not be a guess.
    if action not in _RANK or (colon and pattern != "*" and "/" not in pattern):
        raise BadInputError(
            f"'{text[:200]}' is no scope: expected call, deploy or admin, alone for all models, or with ':owner/*' or "
            "':owner/name' behind it"
        )
    if pattern in ("", "*"):
        return Scope(action)
    if pattern.endswith("/*"):
        return Scope(action, parse_name(f"{pattern[:-2]}/any").owner)
    return Scope(action, *parse_name(pattern))


class Principal(msgspec.Struct, frozen=True):
    """Who calls, what they may and how often. `key_id` is empty for one who gave no key; `meter` is None where nothing
    limits the calls."""

    key_id: str
    label: str
    scopes: tuple[Scope, ...]
    meter: Meter | None = None

    def allows(self, action: str, model: ModelName | None) -> bool:
        """Whether `action` is allowed on `model`; None: on the node as a whole."""
        return any(scope.covers(action, model) for scope in self.scopes)

    def allows_somewhere(self, action: str) -> bool:
        """Whether there could be a model for which `action` is allowed: for answers filtered model by model."""
        return any(_RANK[scope.action] >= _RANK[action] for scope in self.scopes)

    def require(self, action: str, model: ModelName | None) -> None:
        """Raises ForbiddenError where it is not allowed, UnauthenticatedError where a key might make it so."""
        if self.allows(action, model):
            return
        what = f"{action} {model}" if model else f"{action} on the whole node"
        if not self.key_id:
            raise UnauthenticatedError(f"this needs a key that may {what}: {KEY_HINT}")
        has = ", ".join(map(str, self.scopes)) or "nothing"
        raise ForbiddenError(f"the key '{self.label}' may not {what}: it may {has}; an admin can make another key")


KEY_HINT = "send the header `Authorization: Bearer KEY`; `ingle keys create` on the node makes one"
ANONYMOUS = Principal("", "anonymous", (Scope("call"),))  # anyone at all, where the node was started with --open


def parse_scopes(texts: Iterable[str]) -> tuple[Scope, ...]:
    """Several scopes, each once, at least one. Raises BadInputError."""
    scopes = tuple(dict.fromkeys(map(parse_scope, texts)))
    if not scopes:
        raise BadInputError("a key needs a scope: call, deploy or admin, such as call:acme/*")
    return scopes
