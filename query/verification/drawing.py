"""Two pictures side by side, with the lines of their matches and the query's outline on the candidate."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from outcrop.embed.images import decode
from outcrop.query.verification.features import read_picture
from outcrop.query.verification.match import PairMatch
from outcrop.schema.angles import angle_text
from outcrop.schema.files import whole_file

HEIGHT = 720
"""Pixels of both pictures in the drawing; smaller ones are enlarged to it."""
MAX_WIDTH = 1280
"""Pixels across of one picture in the drawing."""
GAP, CAPTION = 12, 26
MAX_LINES = 150
"""Lines drawn at most: taken evenly from all matches, by their place in the query."""
OUTLINE = (255, 94, 26)
"""The colour of the query's outline."""
_BACKGROUND, _INK = (24, 28, 26), (235, 238, 232)


def draw_match(found: PairMatch) -> Image.Image:
    """The drawing: the query at the left, the candidate at the right, one coloured line a match, the footprint, a caption.

    Raises:
        PictureError: one of the files cannot be read any more.
    """
    left, left_scale = _loaded(found.query)
    right, right_scale = _loaded(found.candidate)
    offset = left.width + GAP
    canvas = Image.new("RGB", (offset + right.width, max(left.height, right.height) + CAPTION), _BACKGROUND)
    canvas.paste(left, (0, CAPTION))
    canvas.paste(right, (offset, CAPTION))
    draw = ImageDraw.Draw(canvas, "RGB")
    pairs = found.match.pairs
    order = np.lexsort((pairs[:, 0], pairs[:, 1])) if len(pairs) else np.zeros(0, int)
    chosen = order[np.linspace(0, len(order) - 1, min(MAX_LINES, len(order))).astype(int)] if len(order) else order
    for number, (x0, y0, x1, y1) in enumerate(pairs[chosen]):
        hue = colorsys.hsv_to_rgb(number / max(1, len(chosen)), 0.65, 1.0)
        colour = tuple(int(255 * part) for part in hue)
        here = ((x0 + 0.5) * left_scale, (y0 + 0.5) * left_scale + CAPTION)
        there = ((x1 + 0.5) * right_scale + offset, (y1 + 0.5) * right_scale + CAPTION)
        draw.line((*here, *there), fill=colour, width=1)
        for x, y in (here, there):
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), outline=colour)
    if found.match.footprint is not None:
        outline = [
            ((x + 0.5) * right_scale + offset, (y + 0.5) * right_scale + CAPTION) for x, y in found.match.footprint
        ]
        # An outline that leaves the candidate must not run over the query.
        layer = canvas.crop((offset, CAPTION, offset + right.width, CAPTION + right.height))
        inner = [(x - offset, y - CAPTION) for x, y in outline]
        ImageDraw.Draw(layer).line([*inner, inner[0]], fill=OUTLINE, width=4, joint="curve")
        canvas.paste(layer, (offset, CAPTION))
    draw.text((8, 6), _caption(found), fill=_INK)
    return canvas


def write_drawing(found: PairMatch, path: Path) -> Path:
    """Writes the drawing as PNG, replacing the file whole; returns the path.

    Raises:
        InputError: it cannot be written.
    """
    picture = draw_match(found)
    with whole_file(path, what=f"--output {path}", fix="give another", durable=False) as file:
        picture.save(file, "PNG", compress_level=4)
    return path


def _loaded(path: Path) -> tuple[Image.Image, float]:
    """A picture at the drawing's height, and by how much full-size pixels were scaled."""
    decoded = decode(read_picture(path), name=str(path), at_least=(HEIGHT // 2, HEIGHT // 2))
    scale = min(HEIGHT / decoded.height, MAX_WIDTH / decoded.width)
    size = (max(1, round(decoded.width * scale)), max(1, round(decoded.height * scale)))
    return decoded.image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0), scale


def _caption(found: PairMatch) -> str:
    match = found.match
    text = f"{found.query.name}  -  {found.candidate.name}:  "
    if match.homography is None:
        return text + f"no match ({match.reason})"
    answer = "match" if found.verified else "no match"
    return (
        text
        + f"{answer}, {match.inliers} inliers of {match.tentative}, "
        + f"turned {angle_text(match.rotation or 0.0, 1)}, scale {match.scale:.3f}"
    )
