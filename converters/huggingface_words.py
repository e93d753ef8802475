"""Masked words: the numbers that a model answers with become words, by a table of texts within its graph.

In the process of a conversion alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

IDS, WORDS = "ids", "words"  # the output as the module gives it, and as callers see it


def vocabulary(tokenizer: Any, model: Any) -> list[str]:
    """The word of each number that the model can answer with."""
    return [tokenizer.decode([number]) for number in range(model.config.vocab_size)]


def name_words(target: Path, words: Sequence[str]) -> None:
    """The output of numbers becomes one of the words that they stand for."""
    model = onnx.load(str(target))
    graph = model.graph
    table = TensorProto(name="ingle_words", data_type=TensorProto.STRING, dims=[len(words)])
    table.string_data.extend(word.encode() for word in words)
    graph.initializer.append(table)
    graph.node.append(helper.make_node("Gather", ["ingle_words", IDS], [WORDS]))
    output = next(value for value in graph.output if value.name == IDS)
    output.name = WORDS
    output.type.tensor_type.elem_type = TensorProto.STRING
    onnx.save_model(model, str(target))
