"""What becomes of a model's tokens, by its task: PyTorch modules that give tensors in a fixed order, for export.

In the process of a conversion alone. Sources: Transformers' pipelines (which scores belong to which task), and
sentence-transformers' Pooling, Dense and Normalize.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from appliance.core.errors import RefusedError
from converters.huggingface_folder import Folder, Module
from converters.torch_inputs import line

MASK_WORDS = 5
_ACTIVATIONS = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU, "Sigmoid": nn.Sigmoid}
# In the order in which sentence-transformers joins them.
_POOLING = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


class Head(NamedTuple):
    """`module` takes the model's inputs in order and gives the outputs in order. `scores` is the output that labels
    belong to."""

    module: nn.Module
    outputs: tuple[str, ...]
    scores: str = ""


class _Named(nn.Module):  # type: ignore[misc]
    def __init__(self, model: Any, inputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.inputs = model, tuple(inputs)

    def answer(self, tensors: Sequence[Any]) -> Any:
        return self.model(**dict(zip(self.inputs, tensors, strict=True)), return_dict=True)


class Plain(_Named):
    """The model's own outputs of these names."""

    def __init__(self, model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__(model, inputs)
        self.outputs = tuple(outputs)

    def forward(self, *tensors: Any) -> tuple[Any, ...]:
        found = self.answer(tensors)
        return tuple(found[name] for name in self.outputs)


class Classes(_Named):
    """The logits, and the scores that the task's pipeline makes of them."""

    def __init__(self, model: Any, inputs: Sequence[str], activation: nn.Module) -> None:
        super().__init__(model, inputs)
        self.activation = activation

    def forward(self, *tensors: Any) -> tuple[Any, Any]:
        logits = self.answer(tensors).logits
        return logits, self.activation(logits)


class Masked(_Named):
    """The likeliest words for the first mask of each text, as numbers, best first, with their probabilities; these are
    not a number where a text has no mask."""

    def __init__(self, model: Any, inputs: Sequence[str], mask_id: int) -> None:
        super().__init__(model, inputs)
        self.mask_id = mask_id

    def forward(self, *tensors: Any) -> tuple[Any, Any]:
        logits = self.answer(tensors).logits
        masks = (tensors[self.inputs.index("input_ids")] == self.mask_id).to(torch.int64)
        place = masks.argmax(1)[:, None, None].expand(-1, 1, logits.shape[-1])
        best = logits.gather(1, place).squeeze(1).softmax(-1).topk(MASK_WORDS)
        return torch.where(masks.sum(1, keepdim=True) > 0, best.values, float("nan")), best.indices


class Sentence(_Named):
    """One vector for each text: tokens pooled, then what follows."""

    def __init__(self, model: Any, inputs: Sequence[str], ways: Sequence[str], after: Sequence[nn.Module]) -> None:
        super().__init__(model, inputs)
        self.ways, self.after = tuple(ways), nn.Sequential(*after)

    def forward(self, *tensors: Any) -> Any:
        tokens = self.answer(tensors).last_hidden_state
        mask = tensors[self.inputs.index("attention_mask")]
        return self.after(torch.cat([pooled(way, tokens, mask) for way in self.ways], 1))


class Normalize(nn.Module):  # type: ignore[misc]
    def forward(self, vectors: Any) -> Any:
        return nn.functional.normalize(vectors, p=2, dim=1)


def pooled(way: str, tokens: Any, mask: Any) -> Any:
    """[rows, tokens, width] as [rows, width]."""
    wide = mask.unsqueeze(-1).to(tokens.dtype)
    if way == "cls":
        first = mask.argmax(1)
        return tokens.gather(1, first[:, None, None].expand(-1, 1, tokens.shape[-1])).squeeze(1)
    if way == "lasttoken":
        places = torch.arange(mask.shape[1], device=mask.device)
        last = (mask * (places + 1)).argmax(1)
        return tokens.gather(1, last[:, None, None].expand(-1, 1, tokens.shape[-1])).squeeze(1)
    if way == "max":
        return tokens.masked_fill(wide == 0, -1e9).max(1).values
    if way == "weightedmean":
        wide = wide * torch.arange(1, mask.shape[1] + 1, device=mask.device, dtype=tokens.dtype)[None, :, None]
    count = wide.sum(1).clamp(min=1e-9)
    total = (tokens * wide).sum(1)
    return total / (count.sqrt() if way == "mean_sqrt_len" else count)


def sentence_head(model: Any, inputs: Sequence[str], folder: Folder) -> Head:
    """Raises RefusedError for steps that are not known."""
    pooling, *rest = folder.modules or (Module("", {}, folder.model_folder),)
    if pooling.kind != "Pooling" or "attention_mask" not in inputs:
        raise RefusedError("its tokens are not pooled into one vector, which is what a sentence's embedding is")
    config = pooling.config
    ways = [way for way, key in _POOLING.items() if config.get(key)]
    if named := config.get("pooling_mode"):  # as its newer versions write it: one, or a list
        ways = [way for way in _POOLING if way in ([named] if isinstance(named, str) else named)]
    if not ways or (folder.prompt and config.get("include_prompt") is False):
        raise RefusedError("its pooling is of a kind that is not known here (1_Pooling/config.json)")
    return Head(Sentence(model, inputs, ways, [_step(module) for module in rest]), ("embedding",))


def _step(module: Module) -> nn.Module:
    if module.kind == "Normalize":
        return Normalize()
    if module.kind == "Dense":
        return _dense(module)
    raise RefusedError(f"its module {module.kind} is not known here: Pooling, Dense and Normalize are")


def _dense(module: Module) -> nn.Module:
    config = module.config
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2].rstrip("()")
    if activation not in _ACTIVATIONS:
        raise RefusedError(f"its Dense module ends in {activation}, which is not known here")
    try:
        linear = nn.Linear(int(config["in_features"]), int(config["out_features"]), bias=bool(config.get("bias", True)))
        weights = module.folder / "model.safetensors"
        if weights.is_file():
            from safetensors.torch import load_file

            state = load_file(str(weights))
        else:
            state = torch.load(module.folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
        linear.load_state_dict({name.removeprefix("linear."): tensor.float() for name, tensor in state.items()})
    except Exception as error:  # of json's values, files and torch
        raise RefusedError(f"its Dense module cannot be read: {line(error)}") from None
    return nn.Sequential(linear, _ACTIVATIONS[activation]())


def activation_of(config: Any) -> nn.Module | None:
    """What makes scores of logits, as the pipeline does; None for a regression, which has none."""
    kind = getattr(config, "problem_type", None)
    if kind == "regression":
        return None
    if kind == "multi_label_classification" or config.num_labels == 1:
        return nn.Sigmoid()
    return nn.Softmax(-1)


def class_head(model: Any, inputs: Sequence[str]) -> Head:
    activation = activation_of(model.config)
    if activation is None:
        return Head(Plain(model, inputs, ("logits",)), ("logits",))
    return Head(Classes(model, inputs, activation), ("logits", "scores"), "scores")


def labels_of(config: Any) -> list[str]:
    """In the order of the logits."""
    named = getattr(config, "id2label", None) or {}
    return [str(named.get(number, f"LABEL_{number}")) for number in range(config.num_labels)]
