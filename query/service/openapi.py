"""The description of the service in OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0), made from the models of its answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from outcrop.query.service import described

PLACE = "#/components/schemas/{model}"


@dataclass(frozen=True)
class Operation:
    """One address and method: what it does, the model of its parameters, and that of its answer or the type of its file.

    `in_form` says that parameters and files come as a form.
    """

    path: str
    method: str
    summary: str
    answer: type[BaseModel] | str
    parameters: type[BaseModel] | None = None
    in_form: bool = False
    status: int = 200


OPERATIONS = (
    Operation(
        "/api/search", "post", "Ask with a picture or a mesh", described.Answer, described.Question, in_form=True
    ),
    Operation(
        "/api/search", "get", "Ask with stored items, or with what was uploaded", described.Answer, described.Question
    ),
    Operation("/api/facets", "get", "What can be chosen under conditions", described.Facets, described.Listing),
    Operation(
        "/items", "get", "Items under conditions (with Accept: application/json)", described.Items, described.Listing
    ),
    Operation("/items/{key}", "get", "All that is stored of one item (with Accept: application/json)", described.Item),
    Operation("/duplicates", "get", "Groups of near-duplicates", described.DuplicateGroups, described.AskingDuplicates),
    Operation("/clusters", "get", "Clusterings and reports of evaluations", described.Clusterings),
    Operation("/clusters/{name}", "get", "One clustering", described.Clustering, described.Choosing),
    Operation("/clusters/{name}/items", "get", "Items of a clustering", described.ClusterItems, described.Choosing),
    Operation("/evaluations/{name}", "get", "A report of an evaluation", "text/html"),
    Operation("/thumbnails/{id}.jpg", "get", "An item's thumbnail", "image/jpeg"),
    Operation("/pictures/{id}", "get", "An item's photograph, from its dataset's folder", "image/jpeg"),
    Operation("/uploads/{digest}", "get", "A picture that was asked with", "image/jpeg"),
    Operation("/tiles/{zoom}/{column}/{row}.webp", "get", "A tile of the map behind places", "image/webp"),
    Operation("/healthz", "get", "Whether questions are answered; needs no token", described.Health),
    Operation("/metrics", "get", "Figures for Prometheus", "text/plain"),
)
FILES = ("picture", "mesh")
"""Parameters that are files in a form."""
ERRORS = {
    400: "Something does not fit; the error says what.",
    401: "A token is needed.",
    404: "It is not there.",
    413: "The request is too large.",
    503: "Too many questions wait; Retry-After says when to come back.",
}
PLAIN = (401, 413)
"""Errors that may come as plain text: they are refused before anything is read."""
_IN_PATH = {
    "key": "The item's key, or the end of it.",
    "name": "The name of the clustering or the report.",
    "id": "The item's id: 32 hexadecimal digits.",
    "zoom": "The zoom of a tile in Web Mercator, 0 to 24.",
    "column": "The column of a tile, from the west.",
    "row": "The row of a tile, from the north.",
    "digest": "The digest of an upload: 32 hexadecimal digits.",
}


@cache
def description() -> dict[str, Any]:
    """The OpenAPI document as plain values."""
    from importlib.metadata import version

    models: set[type[BaseModel]] = {described.Error, described.Collection}
    models |= {one.answer for one in OPERATIONS if not isinstance(one.answer, str)}
    models |= {one.parameters for one in OPERATIONS if one.parameters is not None}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "validation") for model in ordered], ref_template=PLACE)
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method] = _operation(one, schemas["$defs"])
    questions = {one.parameters.__name__ for one in OPERATIONS if one.parameters is not None}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Outcrop",
            "version": version("outcrop"),
            "description": "Which stored photographs and specimens look like this one. Described in docs/serve.md.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in schemas["$defs"].items() if name not in questions},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(one: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"summary": one.summary, "operationId": _name(one)}
    fields = schemas[one.parameters.__name__]["properties"] if one.parameters is not None else {}
    parameters = [] if one.in_form else [_parameter(name, schema) for name, schema in fields.items()]
    parameters += [_in_path(name, text) for name, text in _IN_PATH.items() if f"{{{name}}}" in one.path]
    if parameters:
        made["parameters"] = parameters
    if one.in_form:
        made["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": _form(fields)}}}
    codes = ERRORS if one.path != "/healthz" else {}
    made["responses"] = {
        "200": {"description": one.summary, "content": _content(one.answer)},
        **{str(code): _error(code, text) for code, text in codes.items()},
    }
    return made


def _name(one: Operation) -> str:
    words = one.path.replace("{", "").replace("}", "").replace(".", "/").split("/")
    return "_".join([one.method, *(word for word in words if word)])


def _content(answer: type[BaseModel] | str) -> dict[str, Any]:
    if isinstance(answer, str):
        text = answer.startswith("text/")
        return {answer: {"schema": {"type": "string"} if text else {"type": "string", "contentMediaType": answer}}}
    return {"application/json": {"schema": {"$ref": PLACE.format(model=answer.__name__)}}}


def _error(code: int, text: str) -> dict[str, Any]:
    content = _content(described.Error) | ({"text/plain": {"schema": {"type": "string"}}} if code in PLAIN else {})
    return {"description": text, "content": content}


def _parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    kind, text = _given(schema)
    return {"name": name, "in": "query", "description": text, "schema": kind, "style": "form", "explode": True}


def _in_path(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": text, "schema": {"type": "string"}}


def _form(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a form; what may be a file is one here."""
    properties = {}
    for name, schema in fields.items():
        kind, text = _given(schema)
        file = {"type": "string", "contentMediaType": "application/octet-stream"}
        properties[name] = {**(file if name in FILES else kind), "description": text}
    return {"type": "object", "properties": properties}


def _given(schema: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The type of a parameter where it is given (pydantic says that it may be null: left out), and what it means."""
    (kind,) = [each for each in schema["anyOf"] if each.get("type") != "null"]
    return kind, schema.get("description", "")


def rows(schema: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The members of an object's schema for a page: name, type in words, meaning."""
    return [(name, words(each), each.get("description", "")) for name, each in schema.get("properties", {}).items()]


def words(schema: dict[str, Any]) -> str:
    """A schema's type in a few words: ``integer``, ``list of Hit``, ``number or null``."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(words(each) for each in schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {words(schema.get('items', {}))}"
    if "contentMediaType" in schema:
        return "file"
    return str(schema.get("type", "any"))
