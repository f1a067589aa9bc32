"""XML inside of mesh files: parsed without document type definitions, which no mesh format needs and which can name
other files or grow without end."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any
from xml.parsers import expat

from outcrop.render.preflight import check_text
from outcrop.schema.errors import MeshError

Element = ElementTree.Element
MAX_DEPTH = 200


class _Refused(Exception):
    pass


def stream(data: bytes, name: str, begun: Callable[[str, dict[str, str]], None], ended: Callable[[str], None]) -> None:
    """Calls `begun` with the local name and the attributes (by local name) of each element, and `ended` behind it.

    Raises:
        MeshError: it is not well-formed, has a document type, or is nested too deeply. Whatever the two raise.
    """
    check_text(data, name)
    parser, depth = expat.ParserCreate(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise _Refused(f"its XML is nested more than {MAX_DEPTH} deep")
        begun(tag.rpartition(":")[2], {key.rpartition(":")[2]: value for key, value in attributes.items()})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        ended(tag.rpartition(":")[2])

    parser.StartDoctypeDeclHandler = _refuse
    parser.StartElementHandler, parser.EndElementHandler = start, end
    _parsed(parser, data, name)


def tree_of(data: bytes, name: str) -> Element:
    """The root element, names without their namespaces.

    Raises:
        MeshError: as `stream` does.
    """
    builder = ElementTree.TreeBuilder()
    check_text(data, name)
    parser, depth = expat.ParserCreate(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise _Refused(f"its XML is nested more than {MAX_DEPTH} deep")
        builder.start(tag.rpartition(":")[2], attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag.rpartition(":")[2])

    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    _parsed(parser, data, name)
    return builder.close()


def _parsed(parser: Any, data: bytes, name: str) -> None:
    try:
        parser.Parse(data, True)
    except _Refused as refused:
        raise MeshError(f"{name}: {refused}; export it again") from None
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise MeshError(f"{name}: its XML cannot be read ({str(error)[:80]}); it is cut short or damaged") from None


def _refuse(*unused: object) -> None:
    raise _Refused("its XML has a document type (DOCTYPE), which mesh files do not need")
