"""JSON and YAML files that people write: read without silently lost keys, and with the lines on which things stand."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from outcrop.schema.errors import InputError, nearest

_NOT_A_FIELD = ("int", "constrained-int", "float", "str", "bool")
"""What pydantic adds to a place for the member of a union that it tried."""

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


@dataclass(frozen=True)
class Document:
    """A file as it was read: its plain values, and its text, from which line numbers are found."""

    path: Path
    values: Any
    text: str

    def line(self, place: Sequence[str | int]) -> int | None:
        """The line (from 1) of the key or list entry at a place such as ``("datasets", "town", "captures", 2)``.

        A place that is not there has the line of the innermost part that is; None where the text cannot be followed.
        """
        try:
            # JSON is YAML but for tabs, and between JSON's tokens a tab says no more than a space.
            text = self.text if _is_yaml(self.path) else self.text.replace("\t", " ")
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError:
            return None
        line = node.start_mark.line if node is not None else 0
        for part in place:
            if isinstance(node, yaml.MappingNode):
                pair = next(((k, v) for k, v in node.value if getattr(k, "value", None) == str(part)), None)
                if pair is None:
                    break
                line, node = pair[0].start_mark.line, pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line
            else:
                break
        return int(line) + 1


_SURROGATE = re.compile(r"\\(?:u|U0000)[dD][89a-fA-F]")
"""How half a character is spelt in JSON and YAML; two halves that belong together are one character."""
_SURROGATES = re.compile("[\ud800-\udfff]")


def read_document(path: Path, what: str, error: type[InputError], hint: str = "") -> Document:
    """Reads a JSON file (YAML by the endings ``.yaml`` and ``.yml``); `what` names it in messages, `hint` says where to look.

    Raises:
        InputError: as the class `error`: missing, unreadable, no JSON or YAML (with the line), or a key that stands twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise error(f"no {what} at {path}{hint and f'; {hint}'}") from None
    except (OSError, UnicodeDecodeError) as caught:
        reason = caught.strerror if isinstance(caught, OSError) else "it is not UTF-8 text"
        raise error(f"{what} {path} cannot be read: {reason}") from None
    try:
        values = yaml.load(text, Loader=UniqueKeys) if _is_yaml(path) else json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as caught:
        raise error(
            f"{what} {path} is not valid JSON: line {caught.lineno}, column {caught.colno}: {caught.msg}"
        ) from None
    except yaml.YAMLError as caught:
        mark = getattr(caught, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = " ".join(str(getattr(caught, "problem", None) or caught).split())
        raise error(f"{what} {path} is not valid YAML: {place}{problem}") from None
    except RecursionError:
        raise error(f"{what} {path}: nested too deeply") from None
    except ValueError as caught:
        raise error(f"{what} {path}: {caught}") from None
    if _SURROGATE.search(text) and _SURROGATES.search(json.dumps(values, ensure_ascii=False, default=str)):
        raise error(f"{what} {path} contains half a character (a lone surrogate such as \\ud800); correct the text")
    return Document(path, values, text)


def first_complaint(error: ValidationError) -> str:
    """The first complaint of a validation as ``field.path: what is wrong`` (and how many more there are)."""
    complaints = error.errors(include_url=False)
    where = ".".join(map(str, place_of(error)))
    more = f" (and {len(complaints) - 1} more)" if len(complaints) > 1 else ""
    message = complaints[0]["msg"].removeprefix("Value error, ")
    if complaints[0]["type"] == "literal_error":
        known = re.findall(r"'([^']+)'", complaints[0]["ctx"]["expected"])
        message += f", not {complaints[0]['input']!r}{nearest(str(complaints[0]['input']), known)}"
    return f"{where}: {message}{more}" if where else f"{message}{more}"


def place_of(error: ValidationError) -> tuple[str | int, ...]:
    """Where the first complaint of a validation stands: the keys and numbers that lead there."""
    place = error.errors(include_url=False)[0]["loc"]
    return tuple(
        p
        for p in place
        if p not in _NOT_A_FIELD and not str(p).startswith(("tuple[", "literal[", "dict[", "function-"))
    )


class UniqueKeys(yaml.SafeLoader):
    """YAML without silently overwritten keys; keys are taken as they are written, numbers as YAML 1.2 writes them.

    YAML 1.1 would read ``250918092555_300`` as the number 250918092555300, and the rotations ``10:50:20`` as 39020.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012  a class attribute of PyYAML's
        first: [(tag, pattern) for tag, pattern in pairs if tag not in _NUMBERS]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        own = {id(key) for key, _ in node.value}
        self.flatten_mapping(node)  # puts what ``<<`` merges before the node's own pairs, which win
        merged = {
            self._key(key): self.construct_object(value, deep=True) for key, value in node.value if id(key) not in own
        }
        return merged | _unique(
            [(self._key(key), self.construct_object(value, deep=True)) for key, value in node.value if id(key) in own]
        )

    def _key(self, node: yaml.Node) -> str:
        return str(node.value if isinstance(node, yaml.ScalarNode) else self.construct_object(node, deep=True))


UniqueKeys.add_implicit_resolver(_NUMBERS[0], re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z"), list("-+0123456789"))
UniqueKeys.add_implicit_resolver(
    _NUMBERS[1],
    re.compile(
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
    ),
    list("-+.0123456789"),
)


def _is_yaml(path: Path) -> bool:
    return path.suffix.lower() in (".yaml", ".yml")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"duplicate key {name!r}")
        found[name] = value
    return found
