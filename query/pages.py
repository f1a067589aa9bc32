"""Self-contained HTML pages: templates of this room, pictures inlined, written whole."""

from __future__ import annotations

import base64
from datetime import datetime
from pathlib import Path
from typing import Any

from outcrop.embed.thumbnails import media_type
from outcrop.schema.files import whole_file


def render(template: str, **values: Any) -> str:
    """The page that a template of this room makes of `values` (escaped) and of `made`, the time."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return environment.get_template(template).render(made=made, **values)


def write_whole(path: Path, page: str) -> Path:
    """Writes a page so that a reader sees the old one or the new one, never a part; returns `path`.

    Raises:
        InputError: the file cannot be written.
    """
    with whole_file(path, what=f"the report {path}", fix="give another --report FILE", durable=False) as file:
        file.write_text(page, encoding="utf-8", errors="backslashreplace")  # names of files may be any bytes
    return path


def inline(data: bytes | None) -> str:
    """A thumbnail as a data URI, '' for None."""
    return f"data:{media_type(data)};base64,{base64.b64encode(data).decode()}" if data else ""
