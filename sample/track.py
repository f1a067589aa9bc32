"""A flight over the sample land whose photographs say when they were taken and not where: for `query track`.

::

    <folder>/track/frame_0001.jpg …   60 photographs, 3 s apart; half of them out of focus, or over open water
    <folder>/track.json               when and where each was taken, and what it shows

The aircraft flies at 6 to 10 m/s and turns by 12 degrees a second at most; the top of a picture points where it flies. The land
has no lake that fills a picture, so open water is drawn in its place, four frames in a row, three times.
"""

from __future__ import annotations

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from .flight import Camera, Pose, develop, footprint, photograph, write_jpeg
from .land import Land
from .noise import fractal

FOLDER, TRUTH = "track", "track.json"
FRAMES, EVERY = 60, 3.0
"""Photographs, and seconds between two of them."""
BLURRED, WATER_RUNS, WATER_FRAMES = 18, 3, 4
ALTITUDE = 150.0
SPEED, TURN = (6.0, 10.0), 12.0
"""Metres a second (least, most), and degrees a second at most."""
STEP = 0.25
"""Seconds of a step of the simulated flight."""
START = datetime(2025, 9, 21, 10, 30)
Shows = Literal["land", "blurred", "water"]


@dataclass(frozen=True)
class _Frame:
    number: int
    pose: Pose
    shows: Shows

    @property
    def path(self) -> str:
        return f"{FOLDER}/frame_{self.number:04d}.jpg"

    @property
    def moment(self) -> datetime:
        return START + timedelta(seconds=EVERY * (self.number - 1))


def write_track(folder: Path, land: Land, seed: int, camera: Camera = Camera()) -> Path:
    """Writes the flight of a seed and its truth below `folder`; returns the folder of its photographs.

    The truth is written last. The same arguments give the same bytes on one machine.

    Raises:
        ValueError: the land is too small to fly over.
    """
    rng = np.random.default_rng([seed, 20])
    frames = [
        _Frame(number, pose, shows)
        for number, (pose, shows) in enumerate(zip(fly(land.half, camera, rng), _shown(rng), strict=True), 1)
    ]
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(lambda frame: _take(folder, land, camera, frame, seed), frames))
    truth = {"seed": seed, "frames": [_entry(frame, camera) for frame in frames]}
    temporary = folder / f"{TRUTH}.new"
    temporary.write_text(json.dumps(truth, indent=1), encoding="utf-8")
    temporary.replace(folder / TRUTH)
    return folder / FOLDER


def fly(half: float, camera: Camera, rng: np.random.Generator) -> list[Pose]:
    """Where the camera is at each frame: a winding flight that turns back before a picture leaves a land of half side `half`.

    Raises:
        ValueError: the land is too small.
    """
    reach = half - math.hypot(*camera.ground(ALTITUDE * 1.04)) / 2 - 8
    if reach < 60:
        raise ValueError(f"a land of {2 * half:.0f} m is too small for a flight at {ALTITUDE:.0f} m")
    place = complex(*rng.uniform(-0.5, 0.5, 2)) * reach
    course, turning = float(rng.uniform(0, 360)), 0.0
    phase = rng.uniform(0, 2 * math.pi, 2)
    poses = []
    steps = round(EVERY / STEP)
    for step in range((FRAMES - 1) * steps + 1):
        seconds = step * STEP
        if step % steps == 0:
            wobble = np.clip(rng.normal(0, (1.2, 0.8)), -3, 3)
            altitude = ALTITUDE * (1 + 0.03 * math.sin(seconds / 40 + phase[0])) + float(wobble[1])
            poses.append(Pose(place.real, place.imag, altitude, (course + float(wobble[0])) % 360))
        speed = (SPEED[0] + SPEED[1]) / 2 + (SPEED[1] - SPEED[0]) / 2 * math.sin(seconds / 25 + phase[1])
        ahead = place + 75 * _course(course)
        turning += float(rng.normal(0, 1.2)) - 0.1 * turning
        if max(abs(ahead.real), abs(ahead.imag)) > reach:
            back = math.degrees(math.atan2(-place.real, -place.imag))
            turning = math.copysign(TURN, (back - course + 180) % 360 - 180)
        turning = float(np.clip(turning, -TURN, TURN))
        course += turning * STEP
        place += speed * STEP * _course(course)
        place = complex(np.clip(place.real, -reach, reach), np.clip(place.imag, -reach, reach))
    return poses


def _course(degrees: float) -> complex:
    """A metre in a direction, as east + north·j."""
    return complex(math.sin(math.radians(degrees)), math.cos(math.radians(degrees)))


def _shown(rng: np.random.Generator) -> list[Shows]:
    """What each frame shows: open water some frames in a row, blurred ones anywhere among the rest; first and last are sharp."""
    shown: list[Shows] = ["land"] * FRAMES
    part = (FRAMES - 2) // WATER_RUNS
    for run in range(WATER_RUNS):
        first = 1 + run * part + int(rng.integers(1, part - WATER_FRAMES))
        shown[first : first + WATER_FRAMES] = ["water"] * WATER_FRAMES
    left = [number for number in range(1, FRAMES - 1) if shown[number] == "land"]
    for number in rng.choice(left, BLURRED, replace=False):
        shown[int(number)] = "blurred"
    return shown


def _take(folder: Path, land: Land, camera: Camera, frame: _Frame, seed: int) -> None:
    rng = np.random.default_rng([seed, 21, frame.number])
    over_water = frame.shows == "water"
    picture = develop(water(camera, rng), rng) if over_water else photograph(land, frame.pose, camera, rng)
    if frame.shows == "blurred":
        # Out of focus, by 0.4 to 1.2 % of the picture's width.
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.004, 0.012)) * camera.width))
    write_jpeg(picture, folder / frame.path, None, frame.moment, camera=camera)


def water(camera: Camera, rng: np.random.Generator) -> Image.Image:
    """Open water as it looks from far above: darker and lighter drifts, ripples, no shore."""
    side = max(camera.width, camera.height)
    light: NDArray[np.float32] = 1 + 0.05 * fractal(rng, side, side / 3, 3) + 0.03 * fractal(rng, side, side / 150, 2)
    colour = np.array((52, 76, 82), np.float32) * light[: camera.height, : camera.width, None]
    return Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8))


def _entry(frame: _Frame, camera: Camera) -> dict[str, Any]:
    pose = frame.pose
    latitude, longitude = pose.place
    return {
        "path": frame.path,
        "captured_at": frame.moment.isoformat(),
        "shows": frame.shows,
        "centre": [round(pose.east, 3), round(pose.north, 3)],
        "latitude": round(latitude, 8),
        "longitude": round(longitude, 8),
        "altitude": round(pose.altitude, 2),
        "heading": round(pose.heading, 2),
        "footprint": [[round(x, 3), round(y, 3)] for x, y in footprint(pose, camera)],
    }
