"""timm, imported without torch's compiler, which a part of torchvision that no network here uses asks a question of.

Whoever needs timm imports it from here: ``from outcrop.embed.lean_timm import timm``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from outcrop.schema.postponed import import_without

timm: Any = import_without("timm", {"torch._dynamo": ("@disable",), "torch._dynamo.utils": ("is_compile_supported",)})

_RANDOM = frozenset(("normal_", "uniform_", "bernoulli_", "random_", "exponential_", "log_normal_"))


class _Unfilled(TorchFunctionMode):
    """Leaves tensors as they are where they would be filled with first values, which on the meta device imports the compiler."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in _RANDOM:
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def bare_network(name: str, **options: Any) -> Any:
    """timm's architecture of that name without weights, on torch's meta device; `options` are those of `timm.create_model`."""
    with torch.device("meta"), _Unfilled():
        return timm.create_model(name, pretrained=False, **options)
