"""What a program is made of, as its packages' metadata tell it. Used by the command line and the one file's build.

Knows Python's packages alone; what the build adds to them is its own.
"""

import re
from collections.abc import Iterable, Iterator
from importlib import metadata

import msgspec

OWN = "ingle"
# What is installed for the node itself; tests, builds and converters bring more.
_EXTRAS = ("cpu", "gpu", "text")
_TEXT = re.compile(r"(^|/)(licen[cs]e|copying|notice|third.?party)[^/]*$", re.IGNORECASE)
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


class Component(msgspec.Struct, frozen=True):
    """A part: `licence` as its makers call it, `texts` what they ask to be passed on."""

    name: str
    version: str
    licence: str
    home: str
    texts: tuple[str, ...] = ()


def installed_components() -> list[Component]:
    """This product and all that it needs of what is installed here, by name."""
    return components_of(_needed(OWN, _EXTRAS, set()))


def components_of(names: Iterable[str]) -> list[Component]:
    """These installed packages, by name. One that is not installed is left out."""
    found: dict[str, Component] = {}
    for name in names:
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        component = _component(distribution)
        found[component.name.lower()] = component
    return [found[name] for name in sorted(found)]


def _needed(name: str, extras: tuple[str, ...], seen: set[str]) -> set[str]:
    try:
        requirements = metadata.requires(name) or ()
    except metadata.PackageNotFoundError:
        return seen
    seen.add(name)
    for requirement in requirements:
        extra = _EXTRA.search(requirement)
        match = _NAME.match(requirement)
        if match and (extra is None or extra[1] in extras) and match[0].lower() not in seen:
            _needed(match[0].lower(), (), seen)
    return seen


def _component(distribution: metadata.Distribution) -> Component:
    about = distribution.metadata
    licence = _first(about, "License-Expression") or _classified(about) or _first(about, "License").split("\n")[0]
    pages = dict(page.split(", ", 1) for page in about.get_all("Project-URL") or () if ", " in page)
    home = _first(about, "Home-page") or next(iter(pages.values()), "")
    return Component(about["Name"], distribution.version, licence or "unknown", home, tuple(_texts(distribution)))


def _first(about: "metadata.PackageMetadata", field: str) -> str:
    return next(iter(about.get_all(field) or ()), "")


def _classified(about: "metadata.PackageMetadata") -> str:
    lines = (line for line in about.get_all("Classifier") or () if line.startswith("License :: "))
    return ", ".join(line.rsplit(" :: ", 1)[1] for line in lines)


def _texts(distribution: metadata.Distribution) -> Iterator[str]:
    for file in distribution.files or ():
        if ".dist-info/" in file.as_posix() and _TEXT.search(file.as_posix()):
            yield file.read_text(encoding="utf-8")
