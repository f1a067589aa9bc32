"""A contact sheet: one query and its hits as a picture."""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING

from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.query.answers import Result
from outcrop.query.report_facts import headline

if TYPE_CHECKING:
    from PIL import Image, ImageFont

CELL, GAP, CAPTION = 240, 12, 66
"""Pixels: side of a thumbnail, distance between two, height of the text below one."""
COLUMNS = 5
INK, PALE, PAPER, FRAME = (28, 32, 38), (110, 118, 128), (255, 255, 255), (214, 219, 225)
_FONTS = ("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf")
"""Fonts that know more scripts than Pillow's own; the first one that is installed is taken."""


def hit_sheet(result: Result, thumbnails: ThumbnailStore) -> bytes:
    """The query and its hits, best first, with rank, score and place, as the bytes of a PNG."""
    from PIL import Image, ImageDraw

    rows = max(1, -(-len(result.hits) // COLUMNS))
    width = GAP + (COLUMNS + 1) * (CELL + GAP) + GAP
    height = GAP + 26 + rows * (CELL + CAPTION + GAP)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP - 2), shortened(result.query.name, width - 2 * GAP, font_of(15)), INK, font=font_of(15))
    top = GAP + 26
    query = result.query
    data = query.thumbnail or (thumbnails.read(query.item.id) if query.item is not None else None)
    _place(sheet, data, GAP, top)
    draw.text((GAP, top + CELL + 4), (result.error and "unreadable") or "query", PALE, font=font_of(14))
    for number, hit in enumerate(result.hits):
        left = 2 * GAP + (1 + number % COLUMNS) * (CELL + GAP)
        y = top + number // COLUMNS * (CELL + CAPTION + GAP)
        _place(sheet, thumbnails.read(hit.item.id), left, y)
        draw.text(
            (left, y + CELL + 4), f"{hit.rank}   {headline(hit, result.verification(hit))}", INK, font=font_of(16)
        )
        dataset, _, place = hit.item.key.split("/", 1)[-1].partition("/")
        for line, text in enumerate((dataset, place)):
            draw.text((left, y + CELL + 26 + 17 * line), shortened(text, CELL, font_of(13)), PALE, font=font_of(13))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=False, compress_level=6)
    return buffer.getvalue()


def _place(sheet: Image.Image, data: bytes | None, left: int, top: int) -> None:
    """A thumbnail in its cell, centred; an empty frame where there is none."""
    from PIL import Image, ImageDraw

    ImageDraw.Draw(sheet).rectangle((left, top, left + CELL - 1, top + CELL - 1), outline=FRAME)
    if data is None:
        ImageDraw.Draw(sheet).text((left + 8, top + CELL // 2 - 8), "no thumbnail", PALE, font=font_of(12))
        return
    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((CELL, CELL))
    sheet.paste(picture, (left + (CELL - picture.width) // 2, top + (CELL - picture.height) // 2))


@cache
def font_of(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font of a size in pixels."""
    from PIL import ImageFont

    for name in _FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def shortened(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """A text of at most `width` pixels: the end of one that is longer, after an ellipsis."""
    if font.getlength(text) <= width:
        return text
    low, high = 0, len(text)  # of the end that fits
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength("…" + text[-middle:]) <= width else (low, middle - 1)
    return "…" + text[len(text) - low :]
