"""What jax2onnx 0.17 does not take of Flax, set right: pooling whose window stands in its place and not by its name, or
whose padding is numbers.

In the process of a conversion alone. Where Flax's functions are, jax2onnx puts its own, with arguments by name.
"""

import importlib
import inspect
from collections.abc import Callable
from functools import cache, partial
from typing import Any

_POOLS = ("nnx.max_pool", "nnx.avg_pool", "linen.max_pool", "linen.avg_pool", "linen.min_pool", "linen.pool")
_MAKERS = ("_make_patch", "get_monkey_patch")


@cache
def repair() -> None:
    """Once, before the first translation."""
    from jax2onnx.plugins.plugin_system import import_all_plugins

    import_all_plugins()
    for name in _POOLS:
        module = importlib.import_module(f"jax2onnx.plugins.flax.{name}")
        for plugin in [kind for kind in vars(module).values() if isinstance(kind, type)]:
            if plugin.__module__ != module.__name__:
                continue
            for maker in _MAKERS:
                if maker in vars(plugin):
                    setattr(plugin, maker, staticmethod(partial(_as_flax_takes_it, getattr(plugin, maker))))


def _as_flax_takes_it(make: Callable[[Any], Any], original: Any) -> Any:
    patched = make(original)
    if original is None:
        return patched
    signature = inspect.signature(original)

    def call(*arguments: Any, **keywords: Any) -> Any:
        bound = signature.bind(*arguments, **keywords).arguments
        if not isinstance(bound.get("padding", ""), str):
            return original(*arguments, **keywords)
        (_, first), *rest = bound.items()
        return patched(first, **dict(rest))

    return call
