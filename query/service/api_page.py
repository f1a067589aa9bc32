"""The page that describes the service to programmers: the OpenAPI document in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import HTMLResponse

from outcrop.query.service.drawn import drawn
from outcrop.query.service.openapi import description, rows, words


def api_page() -> HTMLResponse:
    """The page."""
    document = description()
    operations = [
        (method.upper(), path, one, _parameters(one), _answers(one))
        for path, methods in document["paths"].items()
        for method, one in methods.items()
    ]
    schemas = document["components"]["schemas"]
    shapes = [(name, schema.get("description", ""), rows(schema)) for name, schema in schemas.items()]
    return drawn("api.html.j2", operations=operations, shapes=shapes, collection="")


def _parameters(operation: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What is sent: name, type and meaning."""
    form = operation.get("requestBody", {}).get("content", {}).get("multipart/form-data", {}).get("schema", {})
    given = [(one["name"], words(one["schema"]), one["description"]) for one in operation.get("parameters", ())]
    return [*given, *rows(form)]


def _answers(operation: Mapping[str, Any]) -> str:
    """What comes back: the name of a shape, or the type of a file."""
    ((kind, content),) = operation["responses"]["200"]["content"].items()
    return words(content["schema"]) if kind == "application/json" else str(kind)
