"""Pages drawn by templates."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse

if TYPE_CHECKING:
    import jinja2


def drawn(template: str, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any) -> HTMLResponse:
    """A page of a template with values; every page is drawn anew."""
    text = _templates().get_template(template).render(**values)
    return HTMLResponse(text, status, dict(headers or {}) | {"cache-control": "no-store"})


def wants_json(request: Request) -> bool:
    """Whether a request asks for plain values, not for a page."""
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "text/html" not in accepted


@cache
def _templates() -> jinja2.Environment:
    import jinja2

    folder = Path(__file__).parent / "templates"
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
