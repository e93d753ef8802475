"""A peer that has the mesh key and says whatever can be said: nothing raises, and nobody else is harmed."""

import random
import types
import typing
from enum import Enum
from functools import cache
from typing import Any

import msgspec

from federation.actions import Send
from federation.core import TICK_S, MeshCore
from federation.frames import BrokenMessageError, message_parts, read_message
from federation.messages import KIND_OF, Head, Hello, Load, ModelState, State
from federation.settings import MeshSettings
from tests.unit.mesh_network import UNIX_S, hello_of, introduction_of

HONEST, HOSTILE = (introduction_of(number).node_id for number in (2, 3))
INTEGERS = (-(2**63), -1, 0, 1, 2, 7, 255, 256, 65535, 2**31, 2**63 - 1)
FLOATS = (float("nan"), float("inf"), float("-inf"), -1.0, 0.0, 1e-300, 1.0, 1e300)
TEXTS = (
    "",
    "acme/m",
    "acme/m:1.0.0@0",
    "1.0.0",
    "../..",
    "x" * 3000,
    HONEST,
    HOSTILE,
    "a" * 64,
    "alias",
    "removed",
    "node",
)


PLAIN: dict[Any, tuple[object, ...]] = {
    int: INTEGERS,
    float: FLOATS,
    bool: (True, False),
    str: TEXTS,
    bytes: (b"", b"x", bytes(32), introduction_of(3).public_key),
    Any: (None, 1, "x"),
}
fields_of = cache(msgspec.structs.fields)


class Babble:
    """Values of a type, drawn from what breaks programs."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def head(self) -> Head:
        kinds: list[Any] = list(KIND_OF)
        return typing.cast(Head, self.value(self.dice.choice(kinds)))

    def value(self, kind: Any) -> Any:
        dice = self.dice
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (types.UnionType, typing.Union):
            return self.value(dice.choice(arguments))
        if origin is list:
            return [self.value(arguments[0]) for _ in range(dice.choice((0, 0, 1, 2, 40)))]
        if origin is tuple:
            return tuple(self.value(arguments[0]) for _ in range(dice.randrange(3)))
        if origin is dict:
            return {self.value(arguments[0]): self.value(arguments[1]) for _ in range(dice.choice((0, 1, 5)))}
        if origin is typing.Literal:
            return dice.choice(arguments)
        if origin is typing.Annotated:
            return self.value(arguments[0])
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            fields = fields_of(kind)
            return kind(
                **{field.name: self.value(field.type) for field in fields if field.required or dice.random() < 0.5}
            )
        return self._plain(kind)

    def _plain(self, kind: Any) -> Any:
        dice = self.dice
        if kind is type(None):
            return None
        if isinstance(kind, type) and issubclass(kind, Enum):
            return dice.choice(list(kind))
        return dice.choice(PLAIN[kind])


def test_whatever_a_peer_says_the_node_and_its_view_of_others_stand() -> None:
    core = MeshCore(hello_of(1), MeshSettings(), now_s=0.0, unix_s=lambda: UNIX_S)
    babble, now_s, read_count = Babble(7), 0.0, 0
    core.link_up(HONEST, hello_of(2), now_s)
    core.received(HONEST, State(1, 2, 0, Load(1.0), {"acme/m:1.0.0@0": ModelState(1)}), now_s)
    for number in range(3000):
        if core.peers.get(HOSTILE) is None or core.peers[HOSTILE].standing == "dead":
            core.link_up(HOSTILE, hello_of(3, 1 + number), now_s)
        head = babble.head()
        try:
            read = read_message(message_parts(head))
        except (BrokenMessageError, OverflowError):
            continue  # it does not come through the door
        if read is None:
            continue
        read_count += 1
        core.received(HOSTILE, read[0], now_s, 100)
        if isinstance(head, Hello):
            core.link_up(HOSTILE, head, now_s)
        if number % 20 == 0:
            now_s += TICK_S
            core.heard(HONEST, now_s)
            core.tick(now_s)
        for action in core.take_actions():
            if isinstance(action, Send):
                message_parts(action.head, [bytes(action.pad_bytes)] if action.pad_bytes else ())
    assert read_count > 1500
    honest = core.peers[HONEST]
    assert (honest.standing, honest.load, honest.models) == (
        "alive",
        Load(1.0),
        {"acme/m:1.0.0@0": ModelState(1)},
    )
    assert not core.view().holders("acme/m") - {HOSTILE}
    assert len(core.peers) < 100
