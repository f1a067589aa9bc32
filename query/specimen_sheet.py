"""A contact sheet: all views of one specimen as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from PIL import Image, ImageDraw

from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.query.hit_sheet import font_of, shortened
from outcrop.query.keys import full_keys
from outcrop.query.specimen import stored_look
from outcrop.query.view_sets import specimen_views
from outcrop.render.preflight import is_mesh
from outcrop.render.views import ViewSpec
from outcrop.render.workers import Workers
from outcrop.schema.errors import InputError
from outcrop.schema.files import whole_file
from outcrop.schema.frames import on_disk
from outcrop.schema.item import Kind, item_id, parent_of
from outcrop.schema.places import place
from outcrop.store.collection import Collection

GAP, CAPTION, TITLE = 10, 18, 30
"""Pixels: between two views, below one, and above all."""
INK, PALE, PAPER = (28, 32, 38), (120, 128, 138), (255, 255, 255)
DRAWN = 256
"""Pixels a side of the views that are drawn for a sheet."""


def specimen_sheet(
    name: str, collection: Collection | None, thumbnails: ThumbnailStore, look: ViewSpec | None = None
) -> bytes:
    """The views of a specimen as the bytes of a PNG: of a stored one (by its key) the thumbnails that were kept; of a mesh
    file, or where no thumbnails were kept but the file is still there, the views drawn anew.

    Raises:
        InputError: no such specimen, or there is nothing to show of it. MeshError: the mesh cannot be drawn.
    """
    path = place(name)
    if is_mesh(path) and path.is_file():
        if look is None:
            look = stored_look(collection)[0] if collection is not None else ViewSpec()
        return _sheet(path.name, _drawn(path, replace(look, cuts=0)))
    if collection is None:
        raise InputError(f"no mesh at {name}; give a mesh file, or the key of a stored specimen")
    (key,) = full_keys([parent_of(name)], collection, (Kind.SPECIMEN,))
    found = collection.items([item_id(key)])
    item = found[item_id(key)][0]
    views, _ = specimen_views(collection, [item])[0]
    small = [(f"{view.view:02d}", thumbnails.read(view.id)) for view in views]
    pictures = [(label, _opened(data)) for label, data in small if data is not None]
    if len(pictures) < len(views) or not pictures:
        root = place(str(item.extra.get("root", "")))
        source = on_disk(root, PurePosixPath(item.source).parts) or root / item.source
        stored = ViewSpec.of_extra(item.extra)
        if stored is None or not source.is_file():
            raise InputError(f"no thumbnails of {key} were kept, and its file is not at {source}; give the mesh file")
        pictures = _drawn(source, stored, str(item.extra.get("part", "")))
    return _sheet(key, pictures)


def write_sheet(path: Path, picture: bytes) -> Path:
    """Writes a sheet so that a reader sees the old one or the new one, never a part; returns `path`.

    Raises:
        InputError: the file cannot be written.
    """
    with whole_file(path, what=f"the sheet {path}", fix="give another --output FILE", durable=False) as file:
        file.write_bytes(picture)
    return path


def _drawn(path: Path, look: ViewSpec, part: str = "") -> list[tuple[str, Image.Image]]:
    larger = look.sized_for((DRAWN, DRAWN))
    with Workers(1) as workers:
        return [
            (f"{number:02d}", Image.fromarray(view))
            for number, view in enumerate(workers.views(path, larger, part=part))
        ]


def _opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def _sheet(title: str, pictures: Sequence[tuple[str, Image.Image]]) -> bytes:
    cell = max(max(picture.size) for _, picture in pictures)
    columns = min(len(pictures), 6 if len(pictures) > 8 else 4)
    rows = -(-len(pictures) // columns)
    size = (GAP + columns * (cell + GAP), TITLE + rows * (cell + CAPTION + GAP))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 8), shortened(title, size[0] - 2 * GAP, font_of(14)), INK, font=font_of(14))
    for number, (label, picture) in enumerate(pictures):
        left = GAP + number % columns * (cell + GAP)
        top = TITLE + number // columns * (cell + CAPTION + GAP)
        sheet.paste(picture, (left + (cell - picture.width) // 2, top + (cell - picture.height) // 2))
        draw.text((left + cell // 2, top + cell + 2), label, PALE, font=font_of(12), anchor="ma")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
