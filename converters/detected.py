"""What was found out about a file or folder that may be a model. Plain data, for every process that converts."""

import msgspec


class Detected(msgspec.Struct, frozen=True, kw_only=True):
    """`format` is a word (`xgboost-json`) that converters say they take; `what` names it to people.

    `refusal`: it is recognised and cannot be converted, and this sentence names the way out. `classes`: what loading it
    would import, by full name. `runs_code`: loading it runs what it brings, so it takes `--trust`, and `refusal` says
    the safe way. `facts`: what a converter or a person may want to know of it. `framework`: the converter's name, where
    several take the format and it is known which is meant.
    """

    format: str
    what: str
    refusal: str = ""
    classes: tuple[str, ...] = ()
    runs_code: bool = False
    facts: dict[str, str] = {}
    framework: str = ""
