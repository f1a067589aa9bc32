"""Query pictures: the files that are meant, and each as pixels for the encoder, turned or not."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.crops import crop_sampler, prepare, require_pixels
from outcrop.embed.images import decode, inspect, thumbnail
from outcrop.embed.protocol import PictureEncoder
from outcrop.query.answers import Query
from outcrop.query.picture_files import SUFFIXES as SUFFIXES
from outcrop.query.picture_files import expand as expand
from outcrop.query.verification.features import read_picture
from outcrop.schema.crops import WHOLE, CropSpec
from outcrop.schema.digests import digest_of
from outcrop.schema.errors import InputError, PictureError

MAX_TURNS = 360


@dataclass(frozen=True)
class QueryPicture:
    """A query picture as it was read: `pixels` uint8 [T, H, W, 3], one for each turn; None where `error` says why not."""

    query: Query
    pixels: NDArray[np.uint8] | None
    error: str = ""


def turn_angles(turns: int) -> tuple[float, ...]:
    """So many rotations in degrees, spread evenly over the circle from 0.

    Raises:
        InputError: fewer than 1 or more than `MAX_TURNS`.
    """
    if not 1 <= turns <= MAX_TURNS:
        raise InputError(f"--turns must be between 1 and {MAX_TURNS}, got {turns}")
    return tuple(360.0 * number / turns for number in range(turns))


def read_query(path: Path, encoder: PictureEncoder, turns: int = 0) -> QueryPicture:
    """Reads a query picture and prepares it: as it is, or (with `turns`) turned evenly over the circle, each time cut to the
    largest crop without empty corners."""
    query = Query(str(path))
    try:
        data = read_picture(path)
        needed = encoder.space.size
        if turns:
            width, height, _ = inspect(data, name=str(path))
            windows = [CropSpec(angle, WHOLE).window(width, height) for angle in turn_angles(turns)]
            for window in windows:
                require_pixels(window, width, height, str(path))
            needed = (
                math.ceil(needed[0] / min(window.height for window in windows)),
                math.ceil(needed[1] / min(window.width for window in windows)),
            )
        decoded = decode(data, name=str(path), at_least=needed)
        query = replace(
            query,
            digest=digest_of(data),
            thumbnail=thumbnail(decoded.image),
            metadata=decoded.metadata,
        )
        if turns:
            pixels = crop_sampler(decoded, encoder.space, encoder.device).pixels(windows)
        else:
            pixels = prepare(decoded, encoder.space)[None]
        return QueryPicture(query, pixels)
    except PictureError as error:
        return QueryPicture(query, None, str(error))
