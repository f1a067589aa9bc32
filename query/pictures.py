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
from outcrop.schema.ground import Footing, positive, query_crops, scaled

MAX_TURNS = 360
NOTHING_ASSUMED = Footing()


@dataclass(frozen=True)
class QueryPicture:
    """A query picture as it was read: `pixels` uint8 [T, H, W, 3], and by how many degrees each is turned; None where `error`
    says why not. Without a ground scale there is one for each turn, with one there are several windows."""

    query: Query
    pixels: NDArray[np.uint8] | None
    error: str = ""
    angles: tuple[float, ...] = (0.0,)


def turn_angles(turns: int) -> tuple[float, ...]:
    """So many rotations in degrees, spread evenly over the circle from 0.

    Raises:
        InputError: fewer than 1 or more than `MAX_TURNS`.
    """
    if not 1 <= turns <= MAX_TURNS:
        raise InputError(f"--turns must be between 1 and {MAX_TURNS}, got {turns}")
    return tuple(360.0 * number / turns for number in range(turns))


def read_query(path: Path, encoder: PictureEncoder, turns: int = 0, assumed: Footing = NOTHING_ASSUMED) -> QueryPicture:
    """Reads a query picture and prepares it: as it is, or (with `turns`) turned evenly over the circle, each time cut to the
    largest crop without empty corners.

    In a space with a ground scale it is cut into windows of that scale, at each angle. Where the picture does not say its height
    above ground or its focal length, they are as `assumed`; without them it is prepared whole, and the query says so."""
    query = Query(str(path))
    try:
        data = read_picture(path)
        needed = encoder.space.size
        specs, remark = _specs(data, path, encoder.space.window, turns, assumed)
        if specs:
            width, height, _ = inspect(data, name=str(path))
            windows = [spec.window(width, height) for spec in specs]
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
            remark=remark,
        )
        if not specs:
            return QueryPicture(query, prepare(decoded, encoder.space)[None])
        pixels = crop_sampler(decoded, encoder.space, encoder.device).pixels(windows)
        return QueryPicture(query, pixels, angles=tuple(spec.rotation for spec in specs))
    except PictureError as error:
        return QueryPicture(query, None, str(error))


def _specs(
    data: bytes, path: Path, window: tuple[float, float] | None, turns: int, assumed: Footing
) -> tuple[list[CropSpec], str]:
    """What is cut out of a query picture (nothing: it is taken whole, as it is), and why it is not to the ground scale."""
    angles = turn_angles(turns) if turns else ()
    if window is None:
        return [CropSpec(angle, WHOLE) for angle in angles], ""
    width, height, facts = inspect(data, name=str(path))
    known = Footing(
        positive(facts.relative_altitude, assumed.altitude),
        facts.focal_length_35mm or assumed.focal_length,
        facts.pitch,
    )
    found = scaled(known, width, height, window)
    crops = query_crops(found.share, width, height, window)
    if crops == (WHOLE,) and not turns:
        return [], found.remark
    return [CropSpec(angle, crop) for angle in angles or (0.0,) for crop in crops], found.remark
