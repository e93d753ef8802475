"""Keras' LSTM, GRU and SimpleRNN over series of any length, masked or not, for torch.export: a scan in the place of
Keras' own loop, which would be written out for as many steps as it ran. In the process of a conversion alone.

Goes by the inside of Keras as it is pinned. The comparison is with Keras' own loop.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._higher_order_ops.scan import scan_op
from torch.nn import functional

Function = Callable[[Any], Any]
# Of a step's projected input, states and weights to its output, and its new states.
Step = Callable[[Any, tuple[Any, ...], tuple[Any, ...]], tuple[Any, tuple[Any, ...]]]
Made = tuple[Any, Step, tuple[Any, ...]]  # the projected series, a step, and its weights

# As Keras' torch backend computes them: inside a scan its own functions cannot be followed.
_ACTIVATIONS: dict[str, Function] = {
    "linear": lambda x: x,
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.2),
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu, "relu6": functional.relu6,
    "hard_sigmoid": functional.hardsigmoid, "hard_tanh": functional.hardtanh, "softsign": functional.softsign,
    "softplus": functional.softplus, "elu": functional.elu, "selu": functional.selu, "silu": functional.silu,
    "hard_silu": functional.hardswish,
}  # fmt: skip


@contextmanager
def scanned() -> Iterator[None]:
    """While a model is followed."""
    layers: Any = importlib.import_module("keras").layers
    steps: dict[Any, Callable[..., Made]] = {layers.LSTM: _lstm, layers.GRU: _gru, layers.SimpleRNN: _simple}
    own = {kind: kind.inner_loop for kind in steps}
    for kind, made in steps.items():
        kind.inner_loop = _looped(made, own[kind])
    try:
        yield
    finally:
        for kind, loop in own.items():
            kind.inner_loop = loop


def _looped(made: Callable[..., Made], own: Any) -> Any:
    def inner_loop(layer: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        mask = mask[0] if isinstance(mask, list | tuple) else mask
        functions = _activations(layer.cell)
        if functions is None or (mask is None and _is_native(layer.cell)):
            return own(layer, sequences, initial_state, mask=mask, training=training)
        states = initial_state if isinstance(initial_state, list | tuple) else [initial_state]
        return _scan(layer, made(layer.cell, sequences, *functions), tuple(states), mask)

    return inner_loop


def _scan(layer: Any, made: Made, states: tuple[Any, ...], mask: Any) -> tuple[Any, Any, list[Any]]:
    """The last output, all of them, and the last states. Where the mask is false, states and output stay."""
    count, zeroed = len(states), layer.zero_output_for_mask
    series, step, weights = made
    series = series.transpose(0, 1)
    kept = torch.ones_like(series[..., :1], dtype=torch.bool)
    if mask is not None:
        kept = mask.to(torch.bool).reshape(mask.shape[0], mask.shape[1], 1).transpose(0, 1)
    if layer.go_backwards:
        series, kept = series.flip(0), kept.flip(0)

    def advanced(*taken: Any) -> Any:
        old, (before, given, alive) = taken[:count], taken[count : count + 3]
        output, new = step(given, old, taken[count + 3 :])
        if mask is not None:
            new = tuple(torch.where(alive, state, was) for state, was in zip(new, old, strict=True))
            output = torch.where(alive, output, torch.zeros_like(output) if zeroed else before)
        # A scan must not give the same tensor twice, nor copies of one that are optimised away.
        return [*new, output + 0.0, output * 1.0]

    begun = [*(state.clone() for state in states), torch.zeros_like(states[0])]
    copies = tuple(weight.clone() for weight in weights)  # a parameter itself cannot be followed into it
    *ended, last, outputs = scan_op(advanced, begun, [series.contiguous(), kept.contiguous()], copies)
    return last, outputs.transpose(0, 1) if layer.return_sequences else last.unsqueeze(1), ended


def _is_native(cell: Any) -> bool:
    """Whether torch has it as one operator, which the caller has Keras take: the quickest there is."""
    return _words(cell) == ["tanh", "sigmoid"] and cell.use_bias and getattr(cell, "reset_after", True)


def _words(cell: Any) -> list[str]:
    """The names of the cell's functions: the activation's, and the gates' where it has any."""
    names = (name for name in ("activation", "recurrent_activation") if hasattr(cell, name))
    return [getattr(getattr(cell, name), "__name__", "") for name in names]


def _activations(cell: Any) -> list[Function] | None:
    """None where one of them is not known here."""
    words = _words(cell)
    return [_ACTIVATIONS[word] for word in words] if all(word in _ACTIVATIONS for word in words) else None


def _weights(cell: Any) -> tuple[Any, Any, Any]:
    kernel, recurrent = cell.kernel.value, cell.recurrent_kernel.value
    return kernel, recurrent, cell.bias.value if cell.use_bias else torch.zeros_like(recurrent[0])


def _lstm(cell: Any, series: Any, activation: Function, gate: Function) -> Made:
    kernel, recurrent, bias = _weights(cell)

    def step(given: Any, states: tuple[Any, ...], weights: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        hidden, memory = states
        entry, forget, new, out = torch.chunk(given + hidden @ weights[0], 4, dim=1)
        memory = gate(forget) * memory + gate(entry) * activation(new)
        hidden = gate(out) * activation(memory)
        return hidden, (hidden, memory)

    return series @ kernel + bias, step, (recurrent,)


def _gru(cell: Any, series: Any, activation: Function, gate: Function) -> Made:
    kernel, recurrent, bias = _weights(cell)
    before, after = (bias[0], bias[1]) if bias.ndim == 2 else (bias, torch.zeros_like(bias))
    reset_after = cell.reset_after

    def step(given: Any, states: tuple[Any, ...], weights: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        (hidden,) = states
        of_update, of_reset, of_new, *biases = weights
        update, reset, new = torch.chunk(given, 3, dim=1)
        update = gate(update + hidden @ of_update + biases[0])
        reset = gate(reset + hidden @ of_reset + biases[1])
        recurrence = reset * (hidden @ of_new + biases[2]) if reset_after else (reset * hidden) @ of_new
        hidden = update * hidden + (1 - update) * activation(new + recurrence)
        return hidden, (hidden,)

    return series @ kernel + before, step, (*recurrent.chunk(3, dim=1), *after.chunk(3))


def _simple(cell: Any, series: Any, activation: Function) -> Made:
    kernel, recurrent, bias = _weights(cell)

    def step(given: Any, states: tuple[Any, ...], weights: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        hidden = activation(given + states[0] @ weights[0])
        return hidden, (hidden,)

    return series @ kernel + bias, step, (recurrent,)
