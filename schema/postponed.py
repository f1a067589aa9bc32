"""Imports a library without the modules that it imports too, but that nothing we ask of it ever uses.

torchvision takes torch's compiler along for one question of one function, and pymilvus pandas for tables that nobody gives it:
seconds of every command. In their place are stand-ins while the library is imported; whatever is asked of a stand-in later is
answered by the real module, imported then. Other threads that import such a module meanwhile get the real one: the stand-ins are
for the thread that made them, until the library is imported.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from outcrop.schema.starting import importing

Names = tuple[str, ...]

_OF_MODULES = frozenset(("__class__", "__dict__", "__name__", "__spec__"))
"""What Python asks of any module that it finds imported."""
_one_at_a_time = threading.RLock()


class _Later(type):
    """The type of classes that are taken from the real module once it is imported."""

    home: str

    def __instancecheck__(cls, instance: object) -> bool:
        """Nothing is of a class whose module was never imported."""
        real = sys.modules.get(cls.home)
        return real is not None and not isinstance(real, _StandIn) and isinstance(instance, getattr(real, cls.__name__))


class _StandIn(ModuleType):
    """A module in place of another of the same name; the names in `postponed` do not import it until they are called.

    Those that begin with a capital letter are classes, which `isinstance` may ask for; those with ``@`` are decorators, which
    decorate once the function is called.
    """

    def __init__(self, name: str, postponed: Names) -> None:
        super().__init__(name)
        for each in postponed:
            if each[0] == "@":
                setattr(self, each[1:], _decorator(name, each[1:]))
            else:
                setattr(self, each, _class(name, each) if each[0].isupper() else _function(name, each))

        self.maker: int | None = threading.get_ident()

    def __getattribute__(self, name: str) -> Any:
        maker = super().__getattribute__("__dict__").get("maker")
        if maker in (None, threading.get_ident()) or name in _OF_MODULES:
            return super().__getattribute__(name)
        return getattr(_real(super().__getattribute__("__name__")), name)

    def __getattr__(self, name: str) -> Any:
        # Python asks a module for these while it imports names from it.
        if name in ("__path__", "__file__"):
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


def import_without(name: str, modules: Mapping[str, Names]) -> Any:
    """The module `name`, imported without `modules`: these are mapped to the names that the import itself takes from them.

    Where the library wants more of them than that, or is laid out differently, it is imported as usual.

    Raises:
        ImportError: as `import` raises it.
    """
    if name not in sys.modules:
        try:
            with importing(), _in_place_of(modules):
                return importlib.import_module(name)
        except (ImportError, AttributeError, TypeError):
            pass
    return importlib.import_module(name)


@contextmanager
def _in_place_of(modules: Mapping[str, Names]) -> Iterator[None]:
    with _one_at_a_time:
        standing = {name: _StandIn(name, names) for name, names in modules.items() if name not in sys.modules}
        sys.modules.update(standing)
        try:
            yield
        finally:
            _remove(standing)
            for each in standing.values():
                each.maker = None


def _remove(names: Mapping[str, Any]) -> None:
    for name in names:
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]


def _real(name: str) -> Any:
    """The real module, imported now if it has not been."""
    _remove({each: None for each, module in list(sys.modules.items()) if isinstance(module, _StandIn)})
    return importlib.import_module(name)


def _function(module: str, name: str) -> Callable[..., Any]:
    def later(*arguments: Any, **named: Any) -> Any:
        return getattr(_real(module), name)(*arguments, **named)

    later.__name__ = later.__qualname__ = name
    return later


def _decorator(module: str, name: str) -> Callable[..., Any]:
    def later(function: Callable[..., Any], *arguments: Any, **named: Any) -> Callable[..., Any]:
        @functools.cache
        def decorated() -> Callable[..., Any]:
            made: Callable[..., Any] = getattr(_real(module), name)(function, *arguments, **named)
            return made

        @functools.wraps(function)
        def call(*values: Any, **options: Any) -> Any:
            return decorated()(*values, **options)

        return call

    return later


def _class(module: str, name: str) -> type:
    made = _Later(name, (), {})
    made.home = module
    return made
