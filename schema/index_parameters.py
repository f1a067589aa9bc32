"""Parameters of indexes: their defaults, the values that they may take, and the version of Milvus that first knew each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from outcrop.schema.errors import InputError

Version = tuple[int, int, int]
"""Of a Milvus server: major, minor, patch."""
NEWEST: Version = (99, 0, 0)
"""A server that knows everything: parameters are judged by their values alone."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of an index: its default (None = not sent) and the values it may take (both ends included).

    `choices` are texts, from the coarsest to the finest; a `flag` is true or false; numbers are
    `whole` mostly. `since` is the oldest server that knows the
    parameter (None = every one that knows the index), `choices_since` that of single choices; `lite` says whether Milvus Lite
    heeds it, `lite_choices` which of the choices (all where there are none).
    """

    default: Any
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    flag: bool = False
    whole: bool = True
    since: Version | None = None
    choices_since: Mapping[str, Version] = field(default_factory=dict)
    lite: bool = True
    lite_choices: tuple[str, ...] = ()

    def check(self, index: str, name: str, value: Any) -> Any:
        """The value, or an InputError that names the range."""
        if self.flag:
            if not isinstance(value, bool) and value not in ("true", "false"):
                raise InputError(f"{index}: {name} must be true or false, got {value!r}")
            return value in (True, "true")
        if self.choices:
            if value not in self.choices:
                raise InputError(f"{index}: {name} must be one of {', '.join(self.choices)}, got {value!r}")
        elif not isinstance(value, (int, float)) or isinstance(value, bool):
            raise InputError(f"{index}: {name} must be a number, got {value!r}")
        elif self.whole and value != int(value) if math.isfinite(value) else True:
            raise InputError(f"{index}: {name} must be a {'whole' if self.whole else 'finite'} number, got {value}")
        elif (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            raise InputError(f"{index}: {name} must be {self.limits()}, got {value}")
        return int(value) if self.whole and not self.choices else value

    def check_server(self, index: str, name: str, value: Any, server: Version | None) -> None:
        """Refuses what this server (None = Milvus Lite) does not know.

        Raises:
            InputError: naming the version that does.
        """
        if server is None:
            if not self.lite or (self.lite_choices and value not in self.lite_choices):
                known = f"; it knows {', '.join(self.lite_choices)}" if self.lite_choices else ""
                raise InputError(f"{index}: Milvus Lite has no {name} = {value}{known}; leave it out, or use a server")
            return
        needed = max(self.since or (0, 0, 0), self.choices_since.get(str(value), (0, 0, 0)))
        if server < needed:
            raise InputError(
                f"{index}: {name} = {value} needs Milvus {dotted(needed)} or newer, this server is {dotted(server)}"
            )

    def limits(self) -> str:
        """What it may be, in words: "between 2 and 2048"."""
        if self.flag:
            return "true or false"
        if self.choices:
            return "one of " + ", ".join(
                f"{each} ({dotted(self.choices_since[each])})" if each in self.choices_since else each
                for each in self.choices
            )
        if self.high is None:
            return f"at least {self.low:g}"
        return f"between {self.low:g} and {self.high:g}"


def dotted(version: Version) -> str:
    """``2.6.20``."""
    return ".".join(map(str, version))
