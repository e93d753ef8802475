"""What the tests of plain calls share: signatures in a line, and one way to call."""

from collections.abc import Callable
from typing import Any

from appliance.core.errors import IngleError
from appliance.core.manifest import Manifest, manifest_from_table
from appliance.core.tensors import Signature, TensorSpec
from appliance.workers.plain.content import tensors_from_content


def takes(*inputs: tuple[str, str, tuple[int, ...]], optional: str = "") -> Signature:
    """A signature of these inputs: name, dtype, shape."""
    return Signature(tuple(TensorSpec(*one, optional=one[0] == optional) for one in inputs), ())


def declares(*inputs: dict[str, Any], **rest: Any) -> Manifest:
    """A manifest as its TOML would be read."""
    return manifest_from_table({"input": list(inputs), **rest})


def one(content_type: str, body: bytes, signature: Signature, manifest: Manifest | None = None) -> Any:
    """The only tensor that a content becomes."""
    (tensor,) = tensors_from_content(content_type, body, signature, manifest or Manifest()).values()
    return tensor


def outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returns, or the IngleError it raises; anything else that it raises is a fault and fails the test."""
    try:
        return call(*arguments)
    except IngleError as error:
        return error
