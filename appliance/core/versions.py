"""Semantic versions and how a caller's words for one are resolved. Pure; used by the catalogue and the CLI."""

import re
from collections.abc import Iterable, Mapping
from functools import total_ordering
from typing import NamedTuple

from appliance.core.errors import BadInputError

_SEMANTIC = re.compile(
    r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})"
    r"(?:-([0-9A-Za-z-]{1,32}(?:\.[0-9A-Za-z-]{1,32}){0,8}))?",
    re.ASCII,
)
_PARTIAL = re.compile(r"(0|[1-9]\d{0,8})(?:\.(0|[1-9]\d{0,8}))?(?:\.\*)?", re.ASCII)
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")


@total_ordering
class Version(NamedTuple):
    """`major.minor.patch[-pre]`, ordered as semver.org clause 11 says. Build metadata is not taken."""

    major: int
    minor: int
    patch: int
    pre: str = ""

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}" + (f"-{self.pre}" if self.pre else "")

    def _key(self) -> tuple[object, ...]:
        # A release sorts after its pre-releases; numeric identifiers sort before words.
        words = tuple((0, int(w), "") if w.isdigit() else (1, 0, w) for w in self.pre.split(".")) if self.pre else ()
        return (self.major, self.minor, self.patch, not self.pre, words)

    def __lt__(self, other: object) -> bool:
        return self._key() < other._key() if isinstance(other, Version) else NotImplemented

    def __le__(self, other: object) -> bool:
        return self._key() <= other._key() if isinstance(other, Version) else NotImplemented

    def __gt__(self, other: object) -> bool:
        return self._key() > other._key() if isinstance(other, Version) else NotImplemented

    def __ge__(self, other: object) -> bool:
        return self._key() >= other._key() if isinstance(other, Version) else NotImplemented


def parse_version(text: str) -> Version:
    """A whole version, `1.2.3` or `1.2.3-rc.1`. Raises BadInputError."""
    match = _SEMANTIC.fullmatch(text)
    if match is None:
        raise BadInputError(f"'{text[:80]}' is no version: expected three numbers such as 1.2.3, or 1.2.3-rc.1")
    return Version(int(match[1]), int(match[2]), int(match[3]), match[4] or "")


def next_version(existing: Iterable[Version]) -> Version:
    """What a deploy without a version gets: the next minor after the highest; first 1.0.0."""
    highest = max(existing, default=None)
    return Version(1, 0, 0) if highest is None else Version(highest.major, highest.minor + 1, 0)


def check_alias(alias: str) -> str:
    """The alias as it is, if it can be one: a word that no version looks like. Raises BadInputError."""
    if alias == "latest" or not _ALIAS.fullmatch(alias):
        raise BadInputError(
            f"'{alias[:80]}' cannot be an alias: expected a word such as prod, beginning with a letter "
            "(letters, digits, '.', '_', '-'; at most 64), and not 'latest'"
        )
    return alias


def resolve(asked: str, ordinals: Mapping[int, Version], aliases: Mapping[str, Version]) -> Version | None:
    """The version that `asked` means among those that exist, or None.

    Empty: the alias `default`, else `latest`. `latest`: the highest that is no pre-release, else the highest.
    `1.2.3`: that one. `1.2`, `1`, `1.2.*`: the highest release within. Else an alias. `ordinals` is used for its
    values alone here; resolve_ordinal() reads the keys.
    """
    versions = ordinals.values()
    if not asked:
        return aliases.get("default") or resolve("latest", ordinals, aliases)
    if asked in ("latest", "latestPrivate"):
        return max((v for v in versions if not v.pre), default=None) or max(versions, default=None)
    if _SEMANTIC.fullmatch(asked):
        wanted = parse_version(asked)
        return wanted if wanted in versions else None
    if partial := _PARTIAL.fullmatch(asked):
        major, minor = int(partial[1]), partial[2]
        inside = (v for v in versions if v.major == major and (minor is None or v.minor == int(minor)))
        return max((v for v in inside if not v.pre), default=None)
    return aliases.get(asked)


def resolve_ordinal(asked: str, ordinals: Mapping[int, Version], aliases: Mapping[str, Version]) -> Version | None:
    """As resolve(), but a bare integer is the ordinal that V2 clients know, not a major version."""
    if asked.isascii() and asked.isdigit() and len(asked) < 10:
        return ordinals.get(int(asked))
    return resolve(asked, ordinals, aliases)
