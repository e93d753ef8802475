"""Text models of Transformers: their tokenizer as a file, their task as outputs, and texts to compare on.

In the process of a conversion alone. The original is asked from the text on, through Transformers' own tokenizer, so
that a tokenizer that was written wrongly shows as any other fault does.
"""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import RefusedError
from appliance.core.tensors import TensorSpec
from converters.converter import Conversion, Feed, Say, require
from converters.huggingface_export import ask, export
from converters.huggingface_folder import Folder
from converters.huggingface_heads import Head, Masked, Plain, class_head, labels_of, sentence_head
from converters.huggingface_words import IDS, WORDS, name_words, vocabulary
from converters.options import Options
from converters.rows import TEXTS
from converters.torch_inputs import line, quiet

TOKENIZER = "tokenizer.json"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_VOCABULARIES = (
    TOKENIZER, "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "spm.model",
    "source.spm", "tekken.json",
)  # fmt: skip
DEFAULT_TOKENS = 512
LONG_TOKENS = 1024  # above this a text that is cut is not among those that are compared: it would take minutes
TASKS = (
    "sequence classification, token classification, question answering, masked words, and models without a head "
    "(embeddings with sentence-transformers' folder)"
)
# Scripts, quotes and invisible characters, which tokenizers treat each in their own way, and words special to some.
_MORE = (
    "Zürich übergrößte Straße, naïve façade \u2014 \u201cquoted\u201d\u2026", "I loved it!",
    "This was a complete waste of time and money.", "Angela Merkel visited New York City in July.",
    "\u4e0d\u9519\u7684\u4ea7\u54c1\uff0c\u6211\u5f88\u559c\u6b22", "https://example.org/a?b=c#d x_y@z.com",
    "\u200bzero\u200dwidth\ufeff", "\U0001d518\U0001d52b\U0001d526 \ufb01 \u00bd \u2460", "नमस्ते दुनिया",
    "a\u0000b", "...",
)  # fmt: skip


_SPECIAL = "[MASK] [SEP] <s> </s> <pad>"
_LOWERED = (
    "a text that spells a special token, such as [MASK], is taken for it, where sentence-transformers lowers it first"
)


class Pair(NamedTuple):
    """The names under which callers give one text, or two."""

    first: str
    second: str = ""


def converted_texts(model: Any, found: Folder, folder: Path, options: Options, say: Say) -> Conversion:
    say("reading the tokenizer")
    tokenizer, notes = _tokenizer(found, model)
    most = _most_tokens(tokenizer, model, found)
    inputs = _inputs(tokenizer, model)
    head, names, offsets, manifest = _task(model, tokenizer, found, inputs)
    written = _written(tokenizer, found, folder, most)
    original = _Original(head, inputs, tokenizer, most, names, found, offsets)
    lowered = bool(found.modules and found.sentence.get("do_lower_case"))
    notes += [_LOWERED] if lowered else []
    texts = _texts(tokenizer, most, *([] if lowered or not original.takes(_SPECIAL) else [_SPECIAL]))
    if IDS in head.outputs:
        texts = [f"{text} {tokenizer.mask_token} {text[::-1]}" for text in texts[:-1]] + texts[:1]
    say("translating it")
    trials = [original.tokens(texts[:4], texts[1:5]), original.tokens(texts[4:5], texts[:1])]
    specs = [TensorSpec(name, "INT64", (-1, -1)) for name in inputs]
    note = export(head.module, specs, head.outputs, folder / "model.onnx", options.opset, trials)
    if IDS in head.outputs:
        name_words(folder / "model.onnx", vocabulary(tokenizer, model))
    text = {"name": names.first, "as": "text", "tokenizer": written, "max_tokens": most}
    text |= {"pair": names.second} if names.second else {}
    text |= {"prefix": found.prompt} if found.prompt else {}
    text |= {"offsets": offsets} if offsets else {}
    return Conversion(
        folder / "model.onnx",
        original.answer,
        lambda count, _: _rows(texts, names, count),
        manifest={"input": [text], **manifest},
        notes=tuple(filter(None, (*notes, note))),
    )


def _tokenizer(found: Folder, model: Any) -> tuple[Any, list[str]]:
    """Transformers' own, of the kind that the library `tokenizers` runs."""
    from transformers import AutoTokenizer

    there = {path.name for path in found.model_folder.iterdir()}
    require(  # without any, Transformers makes an empty one
        not there.isdisjoint(_VOCABULARIES),
        f"the folder has no tokenizer: expected {_VOCABULARIES[0]} or another of its files",
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(found.model_folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # of json, sentencepiece, Transformers
        raise RefusedError(f"Transformers cannot load the folder's tokenizer: {line(error)}") from None
    require(
        getattr(tokenizer, "backend_tokenizer", None) is not None,
        "its tokenizer is written in Python: save it as tokenizer.json with AutoTokenizer(...).save_pretrained()",
    )
    if tokenizer.pad_token_id is not None:
        return tokenizer, []
    own = getattr(model.config, "pad_token_id", None)
    number = tokenizer.eos_token_id if own is None else own
    require(number is not None, "its tokenizer has no token to fill up shorter texts with: set `pad_token`")
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(number)
    model.config.pad_token_id = number
    return tokenizer, [f"its tokenizer has no padding: shorter texts are filled up with {tokenizer.pad_token}"]


def _most_tokens(tokenizer: Any, model: Any, found: Folder) -> int:
    """Where texts are cut: as the folder says, and no more than the model has positions for."""
    config = model.config
    limits = [found.sentence.get("max_seq_length"), tokenizer.model_max_length]
    positions = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
    # RoBERTa and its kin count positions from behind the padding's number.
    before = max((table.padding_idx + 1 for table in _position_tables(model)), default=0)
    limits += [size - before for size in positions if isinstance(size, int) and size > 0]
    known = [limit for limit in limits if isinstance(limit, int) and 2 < limit < 10**6]
    return min(known, default=DEFAULT_TOKENS)


def _position_tables(model: Any) -> list[Any]:
    named = model.named_modules()
    return [
        m for name, m in named if name.endswith("position_embeddings") and getattr(m, "padding_idx", None) is not None
    ]


def _inputs(tokenizer: Any, model: Any) -> tuple[str, ...]:
    taken = inspect.signature(model.forward).parameters
    names = tuple(name for name in INPUTS if name in taken and name in (*tokenizer.model_input_names, *INPUTS[:2]))
    require("attention_mask" in names, "the model takes no attention_mask, so shorter texts cannot be filled up")
    return names


def _task(model: Any, tokenizer: Any, found: Folder, inputs: Sequence[str]) -> tuple[Head, Pair, str, dict[str, Any]]:
    """What it gives, how texts are called, the name of the offsets' output, and the rest of the manifest."""
    architecture, one = found.architecture, Pair("text")
    if found.modules:
        return sentence_head(model, inputs, found), one, "", {}
    if architecture.endswith("ForSequenceClassification"):
        head = class_head(model, inputs)
        names = Pair("text", "text_pair") if _is_of_pairs(found) else one
        return head, names, "", _labelled(model.config, head)
    if architecture.endswith("ForTokenClassification"):
        head = class_head(model, inputs)
        return head, one, "offsets", _labelled(model.config, head)
    if architecture.endswith("ForQuestionAnswering"):
        head = Head(Plain(model, inputs, ("start_logits", "end_logits")), ("start_logits", "end_logits"))
        return head, Pair("question", "context"), "offsets", {}
    if architecture.endswith("ForMaskedLM"):
        return Head(Masked(model, inputs, tokenizer.mask_token_id), ("scores", IDS)), one, "", {}
    if architecture.endswith("WithProjection"):
        return Head(Plain(model, inputs, ("text_embeds",)), ("text_embeds",)), one, "", {}
    if architecture.endswith(("Model", "Encoder")):
        outputs = ["last_hidden_state"]
        if _gives_pooler(model, inputs):
            outputs.append("pooler_output")
        return Head(Plain(model, inputs, outputs), tuple(outputs)), one, "", {}
    raise RefusedError(f"this is a {architecture}: of text models, those for {TASKS} are taken")


def _gives_pooler(model: Any, inputs: Sequence[str]) -> bool:
    import torch

    ones = torch.ones((1, 3), dtype=torch.int64)
    with quiet():
        found = model(**dict.fromkeys(inputs, ones), return_dict=True)
    return found.get("pooler_output") is not None


def _is_of_pairs(found: Folder) -> bool:
    """Whether it was trained on two texts at once: rerankers say so, models of entailment by their labels."""
    named = " ".join(map(str, (found.config.get("id2label") or {}).values())).lower()
    reranks = any(key in found.config for key in ("sentence_transformers", "sbert_ce_default_activation_function"))
    return reranks or "entail" in named or "contradict" in named


def _labelled(config: Any, head: Head) -> dict[str, Any]:
    if not head.scores:
        return {}
    labels = labels_of(config)
    return {"labels": labels, "output": [{"name": head.scores, "labels": True}]}


def _written(tokenizer: Any, found: Folder, folder: Path, most: int) -> str:
    """The tokenizer's file, with what Transformers would tell it at each call written into it."""
    from tokenizers import Tokenizer, normalizers

    inner = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    inner.enable_truncation(most, direction=tokenizer.truncation_side)
    inner.enable_padding(
        direction=tokenizer.padding_side,
        pad_id=tokenizer.pad_token_id,
        pad_type_id=tokenizer.pad_token_type_id,
        pad_token=tokenizer.pad_token,
    )
    if found.modules:  # sentence-transformers does this itself, before the tokenizer
        steps = [normalizers.Strip(), *([normalizers.Lowercase()] if found.sentence.get("do_lower_case") else [])]
        steps += [inner.normalizer] if inner.normalizer is not None else []
        inner.normalizer = normalizers.Sequence(steps)
    inner.save(str(folder / TOKENIZER), pretty=False)
    return TOKENIZER


class _Original:
    """The model as Transformers would be asked, from the text on."""

    def __init__(
        self, head: Head, inputs: Sequence[str], tokenizer: Any, most: int, names: Pair, found: Folder, offsets: str
    ) -> None:
        self._head, self._inputs, self._tokenizer, self._most = head, inputs, tokenizer, most
        self._names, self._found, self._offsets = names, found, offsets

    def tokens(self, texts: Sequence[str], pairs: Sequence[str]) -> Feed:
        if self._found.modules:
            texts = [(self._found.prompt + text).strip() for text in texts]
            texts = [text.lower() for text in texts] if self._found.sentence.get("do_lower_case") else texts
        second = (list(pairs),) if self._names.second else ()
        encoded = self._tokenizer(
            list(texts), *second, padding=True, truncation=True, max_length=self._most, return_tensors="np",
            return_offsets_mapping=bool(self._offsets),
        )  # fmt: skip
        named = {name: np.asarray(encoded[name], np.int64) for name in self._inputs if name in encoded}
        if self._offsets:
            named[self._offsets] = np.asarray(encoded["offset_mapping"], np.int64)
        return named

    def takes(self, text: str) -> bool:
        """Whether it answers to it beside another text, as it does to any but to some with special tokens in them."""
        try:
            self.answer(_feed([text, "A text."], self._names))
        except Exception:  # whatever the model raises
            return False
        return True

    def answer(self, feed: Feed) -> Feed:
        texts = feed[self._names.first].ravel().tolist()
        pairs = feed[self._names.second].ravel().tolist() if self._names.second else []
        tokens = self.tokens(texts, pairs)
        answers = ask(self._head.module, self._inputs, self._head.outputs, tokens)
        if IDS in answers:
            numbers = answers.pop(IDS)
            words = [self._tokenizer.decode([number]) for number in numbers.ravel().tolist()]
            answers[WORDS] = np.array(words, object).reshape(numbers.shape)
        return answers | ({self._offsets: tokens[self._offsets]} if self._offsets else {})


def _texts(tokenizer: Any, most: int, *more: str) -> list[str]:
    """Those of which the tokenizer makes something: one without tokens of its own makes nothing of an empty text."""
    offered = ["A text of some words.", *_MORE, *more, *TEXTS]
    if most <= LONG_TOKENS:
        offered.append("Words, numbers (3.14) and names like Łódź follow each other. " * (most // 8 + 1))
    return [text for text in offered if tokenizer(text)["input_ids"]]


def _rows(texts: Sequence[str], names: Pair, count: int) -> list[Feed]:
    """Short texts of unlike lengths together, and the longest, which is cut, with two others."""
    short = sorted(texts, key=len)[:-1][: max(8, count)]
    mixed = [short[(7 * index) % len(short)] for index in range(len(short))] if len(short) % 7 else short
    longest = max(texts, key=len)
    return [_feed(mixed, names), _feed([short[-1], longest, short[0]], names)]


def _feed(texts: Sequence[str], names: Pair) -> Feed:
    feed = {names.first: _column(texts)}
    if names.second:
        feed[names.second] = _column([texts[-1 - index] for index in range(len(texts))])
    return feed


def _column(texts: Sequence[str]) -> NDArray[Any]:
    column = np.empty((len(texts), 1), object)
    column[:, 0] = texts
    return column
