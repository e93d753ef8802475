"""What the command line's process and that of a conversion tell each other: one JSON text on stdin, JSON lines back.

Imported by both: no numpy, no framework.
"""

import msgspec

from converters.detected import Detected
from converters.options import Options
from converters.report import ConversionRecord


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One conversion. `folder` is empty and becomes the bundle's content; `sample` is the user's file of rows or "";
    `code_folder` is where modules are looked for, of a model given as code. `processes`: the framework starts programs.
    `data_bytes` and `file_bytes` are what the process may use, which isolation.run() fills in."""

    source: str
    detected: Detected
    framework: str
    folder: str
    options: Options
    sample: str = ""
    code_folder: str = ""
    processes: bool = False
    rows: int = 64
    seed: int = 0
    data_bytes: int = 0
    file_bytes: int = 0


class Step(msgspec.Struct, frozen=True, tag="step"):
    """A step begins."""

    name: str


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The folder holds the model, vectors and parity.json; whether it is within tolerance the record says."""

    record: ConversionRecord
    layers: tuple[tuple[str, bool, str], ...] = ()  # of the sandbox: name, active, detail


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The model cannot be converted, and why."""

    sentence: str


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The framework, or its converter, failed on the model."""

    sentence: str


Word = Step | Done | Refused | Failed

decode_word = msgspec.json.Decoder(Word).decode
encode = msgspec.json.Encoder().encode
