"""The manifest: what a model's owner says of it. TOML in a bundle, JSON in the catalogue.

Every field may be left out. What the ONNX file itself tells (names, dtypes, shapes) is not repeated here but where a
declaration narrows it: how a picture, a text, a row or a recording becomes the input's tensor.
"""

import difflib
import math
import re
import tomllib
from typing import Any, Literal, get_args

import msgspec

from appliance.core.errors import BadInputError
from appliance.core.sizes import LEAST_BYTES, parse_size

Sizes = tuple[int, ...]


class _Declaration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="as", kw_only=True):
    name: str
    description: str = ""
    dtype: str = ""
    shape: Sizes = ()


class TensorInput(_Declaration, frozen=True, tag="tensor"):
    """Numbers as they are: the declaration when a manifest says nothing else."""


class ImageInput(_Declaration, frozen=True, tag="image"):
    """A picture. Pixels become `(pixel * scale - mean) / std`, channel by channel, in `layout`.

    `size` is (height, width); left out, the model's own fixed shape tells. `resize`: `stretch` to the size, `crop`
    the middle after scaling the shorter side, `pad` with zeros after scaling the longer. `shorter` is the length to
    which a crop scales the shorter side; 0: so that nothing of that side is lost. `filter` is Pillow's.
    """

    size: Sizes = ()
    layout: Literal["NCHW", "NHWC", ""] = ""
    colour: Literal["RGB", "BGR", "L"] = "RGB"
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    shorter: int = 0
    filter: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = "bilinear"
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class WordRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a text becomes words: cut where `pattern`, a regular expression, matches (`gaps`), or into its matches; in
    lower case first (`lower`), and without those of fewer than `shortest` characters. As Java does all this."""

    pattern: str = r"\s+"
    gaps: bool = True
    lower: bool = True
    shortest: int = 1


class TextInput(_Declaration, frozen=True, tag="text"):
    """A text, given to a string input as one element.

    With `tokenizer`, a tokenizer.json of the bundle, `name` is no input of the model but what callers see in place of
    those that tokens fill: `ids`, and `mask` and `types` where the model has inputs of these names. Texts of more than
    `max_tokens` are cut (0: where the tokenizer says, else at 512), shorter ones filled up to the longest of their run.
    `prefix` goes before each text, as some models were trained. `pair` names a second text for callers to give with
    each. `offsets` names an output that the node adds: [rows, tokens, 2], from which to which character of its text
    each token goes; 0 and 0 for what stands for no text.

    With `words` in place of `tokenizer`, words themselves fill `ids`, a BYTES input, and 1 or, for filling, 0 fills
    `mask`. Nothing is cut off; `max_tokens`, `prefix`, `pair` and `offsets` are not for these.
    """

    tokenizer: str = ""
    max_tokens: int = 0
    prefix: str = ""
    pair: str = ""
    ids: str = "input_ids"
    mask: str = "attention_mask"
    types: str = "token_type_ids"
    offsets: str = ""
    words: WordRule | None = None

    @property
    def becomes_tokens(self) -> bool:
        return bool(self.tokenizer) or self.words is not None


class BytesInput(_Declaration, frozen=True, tag="bytes"):
    """A file's bytes as numbers 0-255.

    With `head` or `tail`: the first `head` and the last `tail` bytes of the content, each filled up with `padding`
    (after the head's bytes, before the tail's). `strip` drops leading white space from the head's block and trailing
    from the tail's, each block being `block` bytes at most, as Magika's models were trained.
    """

    head: int = 0
    tail: int = 0
    padding: int = 0
    strip: bool = False
    block: int = 4096


class AudioInput(_Declaration, frozen=True, tag="audio"):
    """A recording as samples in -1..1 at `rate` Hz. `channels` 1 mixes down; `layout` says where channels go."""

    rate: int = 16000
    channels: int = 1
    layout: Literal["samples", "channels_samples", "samples_channels"] = "samples"


class ColumnsInput(_Declaration, frozen=True, tag="columns"):
    """A table's row: the columns, in the order in which the input wants them. `missing` stands for an empty cell; NaN
    is kept as the word, as JSON, in which manifests are stored, has no number for it."""

    columns: tuple[str, ...]
    missing: float | Literal["nan"] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.missing, float) and math.isnan(self.missing):
            msgspec.structs.force_setattr(self, "missing", "nan")

    @property
    def empty_cell(self) -> float | None:
        """The number in the place of an empty cell; None where there must be none."""
        return math.nan if self.missing == "nan" else self.missing


InputDeclaration = TensorInput | ImageInput | TextInput | BytesInput | AudioInput | ColumnsInput


class OutputDeclaration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    description: str = ""
    dtype: str = ""
    shape: Sizes = ()
    labels: bool = False  # this is the output the manifest's labels belong to


class StateDeclaration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`output` is what the sequence's next call gets as `input`. It begins as zeros of `shape`; left out: of the
    input's own shape, with 1 for sizes that are free."""

    input: str
    output: str
    shape: Sizes = ()


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one worker of this model may use. 0: the node's default."""

    memory_bytes: int = 0
    run_s: float = 0.0
    batch: int = 0
    queue: int = 0
    sequences: int = 0
    sequence_idle_s: float = 0.0


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, weakref=True):
    name: str = ""
    version: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    licence: str = ""
    input: tuple[InputDeclaration, ...] = ()
    output: tuple[OutputDeclaration, ...] = ()
    state: tuple[StateDeclaration, ...] = ()
    labels: tuple[str, ...] = ()
    top_k: int = 5
    sample: dict[str, Any] | None = None  # input name to nested list, for a plain call and the check at deploy
    limits: Limits = Limits()
    permissions: dict[str, Any] = {}

    def declaration(self, input_name: str) -> InputDeclaration:
        """What is declared of this input; TensorInput where nothing is."""
        for declared in self.input:
            if declared.name == input_name:
                return declared
        return TensorInput(name=input_name)

    @property
    def tokenized(self) -> TextInput | None:
        """The text that becomes tokens or words, where there is one."""
        return next((one for one in self.input if isinstance(one, TextInput) and one.becomes_tokens), None)


_KINDS = tuple(str(kind.__struct_config__.tag) for kind in get_args(InputDeclaration))
_FIELDS = sorted(
    {
        field
        for struct in (Manifest, Limits, OutputDeclaration, StateDeclaration, WordRule, *get_args(InputDeclaration))
        for field in struct.__struct_fields__
    }
    | {"memory", "run_seconds"}
)


def manifest_from_table(table: dict[str, Any]) -> Manifest:
    """A manifest from a parsed TOML or JSON table. Raises BadInputError naming the field that is wrong.

    Accepted besides the fields' own names: `limits.memory` (a size with its unit) and `limits.run_seconds`.
    """
    table = dict(table)
    limits = table.get("limits")
    if isinstance(limits, dict):
        limits = dict(limits)
        if "memory" in limits:
            limits["memory_bytes"] = parse_size(limits.pop("memory"), least_bytes=LEAST_BYTES)
        if "run_seconds" in limits:
            limits["run_s"] = limits.pop("run_seconds")
        table["limits"] = limits
    inputs = table.get("input")
    if isinstance(inputs, list):
        table["input"] = [{"as": "tensor", **row} if isinstance(row, dict) else row for row in inputs]
    try:
        manifest = msgspec.convert(table, Manifest)
    except msgspec.ValidationError as error:
        raise BadInputError(f"the manifest is wrong: {_readable(str(error))}") from None
    if manifest.top_k < 1 or min(msgspec.structs.astuple(manifest.limits)) < 0:
        raise BadInputError("the manifest is wrong: top_k must be 1 or more, and limits must not be negative")
    return manifest


def _readable(fault: str) -> str:
    """msgspec's words, with what was expected where they leave that out."""
    if unknown := re.match(r"Object contains unknown field `([^`]{1,80})`", fault):
        near = difflib.get_close_matches(unknown[1], _FIELDS, n=1, cutoff=0.5)
        # One of that name may be a field of another table.
        nearest = f"; the nearest is '{near[0]}'" if near and near[0] != unknown[1] else ""
        return f"'{unknown[1]}' is no field of it{fault[unknown.end() :]}{nearest}"
    if fault.endswith(".as`"):
        return f"{fault}: expected one of {', '.join(_KINDS)}"
    return fault


def parse_manifest(text: str) -> Manifest:
    """A manifest from TOML. Raises BadInputError with the line that cannot be read."""
    try:
        return manifest_from_table(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"the manifest is no TOML: {error}") from None
