"""Which frameworks there are: every module in `converters/frameworks/` with a `CONVERTER` in it.

Runs in the command line's process and in that of a conversion. Imports the converters' files, never a framework.
"""

import importlib
import pkgutil
from functools import cache
from importlib import metadata
from typing import NamedTuple

from appliance.core.errors import RefusedError, UnsupportedError
from converters import frameworks
from converters.converter import Converter
from converters.detected import Detected


class Listed(NamedTuple):
    """A row of `ingle convert --list`. `missing` modules are none where it is installed."""

    name: str
    title: str
    takes: str
    extra: str
    missing: tuple[str, ...]


@cache
def converters() -> dict[str, Converter]:
    """All of them by their name, in its order."""
    found: dict[str, Converter] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(frameworks.__path__)):
        made = importlib.import_module(f"{frameworks.__name__}.{module}").CONVERTER
        assert isinstance(made, Converter)
        found[made.name] = made
    return dict(sorted(found.items()))


def listed() -> list[Listed]:
    return [Listed(c.name, c.title, c.takes, c.extra, c.missing()) for c in converters().values()]


def converter_of(detected: Detected, *, trusted: bool = False, name: str = "") -> Converter:
    """Who converts what was found, of several the one of this name. Raises RefusedError with the way out where nobody
    does, or where it takes trust."""
    if name and name not in converters():
        raise RefusedError(f"there is no converter '{name[:40]}': there are {', '.join(converters())}")
    if detected.refusal and not (trusted and detected.runs_code):
        raise RefusedError(f"this is {detected.what}: {detected.refusal}")
    name = name or detected.framework
    found = [c for c in converters().values() if detected.format in c.formats and name in ("", c.name)]
    if len(found) > 1:  # code that does not say whose it is: who is here, if that is one alone
        found = [converter for converter in found if not converter.missing()] or found
    if len(found) == 1:
        return found[0]
    if found:
        names = " or ".join(f"--framework {converter.name}" for converter in found)
        raise RefusedError(f"this is {detected.what}, and of which framework is not to be seen: say {names}")
    raise RefusedError(f"this is {detected.what}, which no converter here takes: export it to ONNX where it was made")


def check_installed(converter: Converter) -> None:
    """Raises UnsupportedError naming the extra where the framework's libraries are not there."""
    if missing := converter.missing():
        raise UnsupportedError(
            f"{converter.title} is not installed here ({', '.join(missing)} cannot be imported): "
            f"pip install 'ingle[{converter.extra}]', or let --isolate make an environment for this one conversion"
        )


def pins(extra: str) -> tuple[str, ...]:
    """The requirements that the extra names, as pip takes them; none where the package says nothing of it."""
    try:
        requirements = metadata.requires("ingle") or []
    except metadata.PackageNotFoundError:
        return ()
    mark = f"extra == '{extra}'"
    found = [text.partition(";") for text in requirements]
    return tuple(req.strip() for req, _, marker in found if mark in marker.replace('"', "'"))
