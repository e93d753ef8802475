"""What jax2onnx 0.17 does not take of Flax, set right: pooling whose window stands in its place and not by its name, or
whose padding is numbers; and of JAX: shapes as numbers and not as an array, steps that nothing reads, free axes of
whole numbers' remainders.

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

    _keep_shapes()
    _leave_unread_out()
    _name_free_axes()


def _keep_shapes() -> None:
    shape: Any = importlib.import_module("jax2onnx.plugins.jax.numpy.shape")
    shape.JnpShapePlugin.binding_specs = classmethod(lambda _: [])  # of an array, Flax' scans cannot make a carry


def _leave_unread_out() -> None:
    """Such as the keys with which Flax' recurrent cells would draw the state that they begin with as zeros."""
    from jax.interpreters import partial_eval

    api: Any = importlib.import_module("jax2onnx.converter.conversion_api")
    lower = api._lower_jaxpr_equations

    def lower_read(context: Any, jaxpr: Any) -> None:
        read, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), instantiate=True)
        lower(context, read)

    api._lower_jaxpr_equations = lower_read


def _name_free_axes() -> None:
    """For onnx_ir, which takes a symbolic size for a number as it has a way to become one."""
    from jax.export import is_symbolic_dim

    core: Any = importlib.import_module("onnx_ir._core")
    own = core._maybe_convert_to_symbolic_dim
    core._maybe_convert_to_symbolic_dim = lambda size: (
        core.SymbolicDim(str(size)) if is_symbolic_dim(size) else own(size)
    )


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
