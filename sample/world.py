"""The sample world on disk: drone captures, query photographs, fossil-like specimens, and the truth about all of them.

::

    <folder>/data_key.json                                        the registry: dataset jamshill_image
    <folder>/01_02_jamshill_data_image/250918092555_300/*.jpg     captures at two altitudes
    <folder>/queries/*.jpg                                        photographs that are not in the dataset
    <folder>/specimens/<group>/<genus>/*.ply|obj|stl|off          meshes and point clouds, in a tree of categories
    <folder>/new_specimens/*.ply                                  one more of each genus, in no category
    <folder>/maps/                                                the land as maps, where that is asked for
    <folder>/track/*.jpg, track.json                              a flight without GPS and its truth, where asked for
    <folder>/truth.json                                           where every picture was taken, which genus every
                                                                  specimen is (written last)
"""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from .flight import Camera, Corners, Pose, footprint, photograph, survey, to_degrees, write_jpeg
from .fossils import FOLDER, STRANGERS, specimens, strangers, write_specimens
from .land import Land, make_land
from .maps import FOLDER as MAPS
from .maps import write_maps
from .track import FOLDER as TRACK
from .track import TRUTH as TRACK_TRUTH
from .track import write_track

VERSION = 4
"""Version of what is written: a world of a different version is made anew."""
DATASET, ROOT = "jamshill_image", "01_02_jamshill_data_image"
FLIGHTS = (("250918092555", 300.0), ("250918101210", 150.0))
QUERIES = 16
SPECIMENS = 8
"""Of each genus."""
WRITTEN = (ROOT, "queries", FOLDER, STRANGERS, MAPS, TRACK)
"""The folders of a world."""
UNFINISHED = ".unfinished-sample"
"""A file that is there while a world is being written."""
SIDE = 1100.0
"""Metres of the land."""


@dataclass(frozen=True)
class World:
    """What was written: `pictures` counts the dataset's; `made` is False where a finished world was found.

    `specimens` is the root of the specimens' category tree, `meshes` how many lie there; `strangers` the folder of new ones.
    """

    folder: Path
    registry: Path
    truth: Path
    queries: Path
    pictures: int
    query_pictures: int
    specimens: Path
    strangers: Path
    meshes: int
    made: bool


@dataclass(frozen=True)
class _Shot:
    path: str
    pose: Pose
    moment: datetime
    key: str
    seed: tuple[int, ...]


def write_world(
    folder: Path,
    seed: int = 7,
    *,
    side: float = SIDE,
    camera: Camera = Camera(),
    queries: int = QUERIES,
    resolution: float = 0.2,
    fossils: int = SPECIMENS,
    maps: bool = False,
    track: bool = False,
    force: bool = False,
) -> World:
    """Writes the world of a seed, or finds it finished (same seed, version and measures) and does nothing.

    `side` is the land's, in metres, drawn at `resolution` metres a pixel; `fossils` says how many specimens of
    each genus; with `maps` the land is written as maps too (`outcrop.sample.maps`), and with `track` a flight over it
    (`outcrop.sample.track`), if they are not there yet. The same arguments give the same bytes on one machine. A world left
    unfinished, one of an older version and one that lost pictures are made again; what is another world's or nobody's is only
    replaced by `force`.

    Raises:
        FileExistsError: `folder` holds a different world, or something else.
    """
    measures = {
        "version": VERSION,
        "seed": seed,
        "side": side,
        "camera": [camera.width, camera.height],
        "queries": queries,
        "resolution": resolution,
        "fossils": fossils,
    }
    truth, unfinished = folder / "truth.json", folder / UNFINISHED
    known = _known(truth)
    if known is not None and known["measures"] == measures and not force and _complete(folder, known):
        maps = maps and not (folder / MAPS / "orthophoto.tif").exists()
        track = track and not (folder / TRACK_TRUTH).exists()
        if maps or track:
            _write_more(folder, make_land(seed, side, resolution), camera, maps=maps, track=track)
        return _world(folder, known, made=False)
    # Versions add measures, so an older world names only some of today's.
    ours = known is not None and measures | known["measures"] == measures | {"version": known["measures"]["version"]}
    if not (ours or force or unfinished.exists()):
        for name in (*WRITTEN, "data_key.json", "truth.json"):
            if (folder / name).exists():
                what = "a sample world of other measures" if known else f"{name}, which no sample world wrote"
                raise FileExistsError(f"{folder} holds {what}; choose another folder, or --force")
    folder.mkdir(parents=True, exist_ok=True)
    unfinished.touch()
    truth.unlink(missing_ok=True)
    (folder / TRACK_TRUTH).unlink(missing_ok=True)
    for name in WRITTEN:
        shutil.rmtree(folder / name, ignore_errors=True)
    land = make_land(seed, side, resolution)
    shots = _survey_shots(land, camera, seed)
    asked = _query_shots(land, camera, seed, queries)
    for parent in {(folder / shot.path).parent for shot in (*shots, *asked)}:
        parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(lambda shot: _take(folder, land, camera, shot), (*shots, *asked)))
    _write_more(folder, land, camera, maps=maps, track=track)
    laid, new = specimens(seed, fossils), strangers(seed) if fossils else []
    write_specimens(folder, [*laid, *new])
    counts = {f"{moment}_{altitude:.0f}": 0 for moment, altitude in FLIGHTS}
    for shot in shots:
        counts[Path(shot.path).parent.name] += 1
    registry = {
        "datasets": {
            DATASET: {
                "root": ROOT,
                "folder_template": "{capture_id}",
                "filename_template": "{capture_id}_{frame:04d}.jpg",
                "images": counts,
            }
        },
        "weights": {"dinov3_weights": {}},
    }
    _write_json(folder / "data_key.json", registry)
    known = {
        "measures": measures,
        "dataset": [_entry(shot, camera) for shot in shots],
        "queries": [_entry(shot, camera) for shot in asked],
        "specimens": [specimen.entry() for specimen in laid],
        "new_specimens": [specimen.entry() for specimen in new],
    }
    _write_json(truth, known)
    unfinished.unlink()
    return _world(folder, known, made=True)


def _write_more(folder: Path, land: Land, camera: Camera, *, maps: bool, track: bool) -> None:
    if maps:
        write_maps(folder, land)
    if track:
        write_track(folder, land, land.seed, camera)


def overlap(a: Corners, b: Corners) -> float:
    """The share of polygon `a`'s area (corners in metres, convex, either sense) that lies in polygon `b`: 0 to 1."""
    subject, clip = _counterclockwise(a), _counterclockwise(b)
    whole = _area(subject)
    for (x0, y0), (x1, y1) in zip(clip, clip[1:] + clip[:1], strict=True):
        inside = [(x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) for x, y in subject]
        kept: list[tuple[float, float]] = []
        for i, (x, y) in enumerate(subject):
            (px, py), side, before = subject[i - 1], inside[i], inside[i - 1]
            if (side >= 0) != (before >= 0):
                t = before / (before - side)
                kept.append((px + t * (x - px), py + t * (y - py)))
            if side >= 0:
                kept.append((x, y))
        subject = kept
        if not subject:
            return 0.0
    return min(1.0, _area(subject) / whole) if whole else 0.0


def _survey_shots(land: Land, camera: Camera, seed: int) -> list[_Shot]:
    shots = []
    for flight, (name, altitude) in enumerate(FLIGHTS):
        capture = f"{name}_{altitude:.0f}"
        start = datetime.strptime(name, "%y%m%d%H%M%S")
        poses = survey(land.half, altitude, camera, np.random.default_rng([seed, 4, flight]))
        for frame, pose in enumerate(poses, 1):
            path = f"{ROOT}/{capture}/{capture}_{frame:04d}.jpg"
            key = f"image/{DATASET}/{capture}/{frame:04d}"
            shots.append(_Shot(path, pose, start + timedelta(seconds=3 * frame), key, (seed, 5, flight, frame)))
    return shots


def _query_shots(land: Land, camera: Camera, seed: int, count: int) -> list[_Shot]:
    """Photographs of a different day: positions of their own, headings all round the compass, altitudes a little off."""
    rng = np.random.default_rng([seed, 6])
    shots = []
    for number in range(1, count + 1):
        altitude = float(FLIGHTS[number % len(FLIGHTS)][1] * rng.uniform(0.9, 1.1))
        reach = land.half - np.hypot(*camera.ground(altitude)) / 2 - 4
        east, north = (float(v) for v in rng.uniform(-reach, reach, 2))
        heading = float(360 * (number - 1) / count + rng.uniform(5, 18)) % 360
        moment = datetime(2025, 9, 20, 14, 5) + timedelta(seconds=41 * number)
        shots.append(
            _Shot(
                f"queries/query_{number:02d}.jpg", Pose(east, north, altitude, heading), moment, "", (seed, 7, number)
            )
        )
    return shots


def _take(folder: Path, land: Land, camera: Camera, shot: _Shot) -> None:
    picture = photograph(land, shot.pose, camera, np.random.default_rng(shot.seed))
    write_jpeg(picture, folder / shot.path, shot.pose, shot.moment, camera=camera)


def _entry(shot: _Shot, camera: Camera) -> dict[str, Any]:
    pose, corners = shot.pose, footprint(shot.pose, camera)
    latitude, longitude = pose.place
    return {
        "path": shot.path,
        **({"key": shot.key} if shot.key else {}),
        "centre": [round(pose.east, 3), round(pose.north, 3)],
        "latitude": round(latitude, 8),
        "longitude": round(longitude, 8),
        "altitude": round(pose.altitude, 2),
        "heading": round(pose.heading, 2),
        "footprint": [[round(x, 3), round(y, 3)] for x, y in corners],
        "footprint_degrees": [[round(v, 8) for v in reversed(to_degrees(x, y))] for x, y in corners],
    }


def _known(truth: Path) -> dict[str, Any] | None:
    """The truth file of a sample world; None where the folder has none, or it belongs to something else."""
    try:
        known = json.loads(truth.read_text(encoding="utf-8"))
        return known if {"measures", "dataset", "queries"} <= set(known) and "version" in known["measures"] else None
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _complete(folder: Path, known: dict[str, Any]) -> bool:
    written = (entry for kind in ("dataset", "queries", "specimens", "new_specimens") for entry in known.get(kind, ()))
    return (folder / "data_key.json").exists() and all((folder / entry["path"]).exists() for entry in written)


def _world(folder: Path, known: dict[str, Any], made: bool) -> World:
    return World(
        folder,
        folder / "data_key.json",
        folder / "truth.json",
        folder / "queries",
        len(known["dataset"]),
        len(known["queries"]),
        folder / FOLDER,
        folder / STRANGERS,
        len(known["specimens"]),
        made,
    )


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    temporary.replace(path)


def _counterclockwise(corners: Corners) -> list[tuple[float, float]]:
    points = [(float(x), float(y)) for x, y in corners]
    return points if _signed(points) >= 0 else points[::-1]


def _area(points: list[tuple[float, float]]) -> float:
    return abs(_signed(points))


def _signed(points: list[tuple[float, float]]) -> float:
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True)) / 2
