"""Short films for the tests: a flight of the sample world's drone over its land, as DJI's aircraft leave them on a card."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import av
import numpy as np
from PIL import Image

from outcrop.sample.flight import Camera, Pose, photograph
from outcrop.sample.land import Land, make_land

RATE = 5
"""Frames a second."""
SECONDS = 12
HOVER = (5.0, 8.0)
"""Seconds between which the drone stands still in the air."""
CAMERA = Camera(320, 240)
BEGIN = datetime(2025, 9, 18, 9, 0, 0)


@cache
def land() -> Land:
    return make_land(5, 170.0)


def pose(second: float) -> Pose:
    """Where the drone is: northward at 8 m/s, but for the time in which it hovers."""
    flown = min(second, HOVER[0]) + max(second - HOVER[1], 0)
    return Pose(-20.0, -40.0 + 8 * flown, 70.0, 0.0)


def seen(second: float, camera: Camera = CAMERA) -> Image.Image:
    """What the camera sees then: one exposure for the whole film."""
    return photograph(land(), pose(second), camera, np.random.default_rng(1))


def write_film(path: Path, codec: str = "libx264", seconds: float = SECONDS) -> Path:
    """Writes the flight as a film with a key frame each second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options={"crf": "18"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = CAMERA.width, CAMERA.height, "yuv420p", RATE
        for number in range(round(seconds * RATE)):
            frame = av.VideoFrame.from_image(seen(number / RATE))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def cue(number: int, body: str) -> str:
    """One cue of an SRT file, of a frame."""
    first, last = (timedelta(seconds=n / RATE) for n in (number, number + 1))
    stamps = (f"0{str(each)[:7]},{each.microseconds // 1000:03d}" for each in (first, last))
    return f"{number + 1}\n{' --> '.join(stamps)}\n{body}\n\n"


def write_srt(path: Path, seconds: float = SECONDS) -> Path:
    """Writes the telemetry of the flight as newer aircraft of DJI do."""
    cues = []
    for number in range(round(seconds * RATE)):
        at = pose(number / RATE)
        moment = BEGIN + timedelta(seconds=number / RATE)
        cues.append(
            cue(
                number,
                f'<font size="28">FrameCnt: {number + 1}, DiffTime: 200ms\n{moment:%Y-%m-%d %H:%M:%S}.000\n'
                f"[iso: 100] [shutter: 1/800.0] [fnum: 1.7] [ev: 0] [ct: 5300] [focal_len: 24.00] "
                f"[latitude: {at.place[0]:.6f}] [longitude: {at.place[1]:.6f}] "
                f"[rel_alt: {at.altitude:.3f} abs_alt: {at.altitude + 20:.3f}] "
                f"[gb_yaw: -10.0 gb_pitch: -90.0 gb_roll: 0.0] </font>",
            )
        )
    path.write_text("".join(cues), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Flight:
    """A film and its telemetry."""

    film: Path
    srt: Path


def write_flight(folder: Path, name: str = "DJI_0001") -> Flight:
    """Writes both, as they lie on a card."""
    return Flight(write_film(folder / f"{name}.MP4"), write_srt(folder / f"{name}.SRT"))


@dataclass(frozen=True)
class Damage:
    """Random bytes in place of a part of a film, given as shares of its size."""

    begin: float
    end: float

    def done_to(self, film: Path, path: Path) -> Path:
        """Writes the damaged film."""
        data = bytearray(film.read_bytes())
        first, last = (int(len(data) * share) for share in (self.begin, self.end))
        data[first:last] = np.random.default_rng(0).integers(0, 256, last - first, dtype=np.uint8).tobytes()
        path.write_bytes(data)
        return path
