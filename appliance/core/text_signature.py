"""What callers see of a model whose inputs are tokens: texts in their place. Pure."""

from appliance.core.errors import RefusedError
from appliance.core.manifest import Manifest, TextInput
from appliance.core.tensors import Signature, TensorSpec

TEXT_SHAPE = (-1, 1)  # as V2 clients of other servers give texts: one column


def texts_for_tokens(signature: Signature, manifest: Manifest) -> Signature:
    """The signature with a BYTES input for texts where the model has tokens; as it is where nothing is declared so.

    Raises RefusedError where the declaration does not fit the model.
    """
    declared = manifest.tokenized
    if declared is None:
        return signature
    _check(declared, manifest, signature)
    inputs: list[TensorSpec] = []
    for spec in signature.inputs:
        if spec.name == declared.ids:
            rows = (spec.shape[0], 1)
            names = tuple(filter(None, (declared.name, declared.pair)))
            inputs += [TensorSpec(name, "BYTES", rows) for name in names]
        elif spec.name not in (declared.mask, declared.types):
            inputs.append(spec)
    outputs = signature.outputs
    if declared.offsets:
        outputs = (*outputs, TensorSpec(declared.offsets, "INT64", (inputs[0].shape[0], -1, 2)))
    return Signature(tuple(inputs), outputs)


def _check(declared: TextInput, manifest: Manifest, signature: Signature) -> None:
    specs = {spec.name: spec for spec in signature.inputs}
    if sum(isinstance(one, TextInput) and one.becomes_tokens for one in manifest.input) > 1:
        raise RefusedError("the manifest declares several texts with a tokenizer or words: one is taken, with its pair")
    if declared.ids not in specs:
        raise RefusedError(
            f"the manifest gives a text's tokens to input '{declared.ids}', but the model has {', '.join(specs)}: "
            "say which with `ids`"
        )
    filled = [specs[name] for name in (declared.ids, declared.mask, declared.types) if name in specs]
    for spec in filled:
        is_words = declared.words is not None and spec.name == declared.ids
        if len(spec.shape) != 2 or (spec.dtype == "BYTES") != is_words:
            what = ("words", "BYTES") if is_words else ("tokens", "numbers")
            raise RefusedError(
                f"input '{spec.name}' is {spec.dtype} {list(spec.shape)}, which {what[0]} cannot fill: expected "
                f"{what[1]} of shape [rows, {what[0]}]"
            )
    if len({spec.shape for spec in filled}) > 1:
        raise RefusedError(f"the inputs {', '.join(spec.name for spec in filled)} must be of one shape")
    taken = [spec.name for spec in signature.inputs if spec not in filled]
    own = [name for name in (declared.name, declared.pair) if name]
    if len(set(own)) != len(own) or not set(own).isdisjoint(taken):
        raise RefusedError(f"the manifest's text needs a name of its own: {', '.join(own)} is taken")
    if declared.words is not None:
        _check_words(declared, specs)
    if declared.offsets and declared.prefix:
        raise RefusedError("offsets are of the text as it came: they do not go together with a prefix")
    if declared.offsets in [spec.name for spec in signature.outputs]:
        raise RefusedError(f"the manifest names the tokens' offsets as the model's output '{declared.offsets}'")


def _check_words(declared: TextInput, specs: dict[str, TensorSpec]) -> None:
    others = ("tokenizer", "max_tokens", "prefix", "pair", "offsets")
    if named := [name for name in others if getattr(declared, name)]:
        raise RefusedError(
            f"the manifest's text becomes words, and says `{named[0]}`, which is for tokens: leave it out"
        )
    if specs[declared.ids].shape[1] != -1 or declared.mask not in specs:
        raise RefusedError(
            f"words fill an input of any length with a mask beside it: '{declared.ids}' must be [rows, words], and the "
            f"model must have '{declared.mask}'"
        )
