"""Pages drawn by templates."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse

from outcrop.query.service.languages import LANGUAGE, environment_for, told
from outcrop.query.service.speaking import switch

TEMPLATES = Path(__file__).parent / "templates"


def drawn(template: str, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any) -> HTMLResponse:
    """A page of a template with values, in the language of the request; every page is drawn anew."""
    text = _templates(LANGUAGE.get()).get_template(template).render(language=LANGUAGE.get(), switch=switch(), **values)
    return HTMLResponse(text, status, dict(headers or {}) | {"cache-control": "no-store"})


def wants_json(request: Request) -> bool:
    """Whether a request asks for plain values, not for a page."""
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "text/html" not in accepted


@cache
def _templates(language: str) -> Environment:
    environment = environment_for(
        language, loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["told"] = told
    return environment
