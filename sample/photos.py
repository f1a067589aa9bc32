"""Large photographs of the sample land, as real cameras write them: for benchmarks."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from .flight import Camera, Pose, photograph, write_jpeg
from .land import make_land


def write_photos(
    folder: Path, count: int, size: tuple[int, int] = (4000, 3000), seed: int = 11, *, quality: int = 92
) -> list[Path]:
    """Writes `count` JPEGs of `size` (width, height) pixels, all of other places; returns their paths in order."""
    folder.mkdir(parents=True, exist_ok=True)
    camera = Camera(*size)
    land = make_land(seed, 700.0)
    rng = np.random.default_rng([seed, 8])
    paths = [folder / f"photo_{number:05d}.jpg" for number in range(1, count + 1)]
    poses = []
    for _ in paths:
        altitude = float(rng.uniform(180, 260))
        reach = land.half - np.hypot(*camera.ground(altitude)) / 2
        east, north = (float(v) for v in rng.uniform(-reach, reach, 2))
        poses.append(Pose(east, north, altitude, float(rng.uniform(0, 360))))

    def take(number: int) -> None:
        picture = photograph(land, poses[number], camera, np.random.default_rng([seed, 9, number]))
        moment = datetime(2025, 9, 18, 9) + timedelta(seconds=2 * number)
        write_jpeg(picture, paths[number], poses[number], moment, camera=camera, quality=quality)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(take, range(count)))
    return paths
