"""How right a track is: the flights of sample worlds, half of whose pictures are out of focus or over water, against their truth.

Each world's flight is found by its orthophoto alone (`--by map`), or by its photographs with GPS (`--by photographs`). Reported
are the share of frames within 10 m, errors, the share of errors within two spreads, and each frame that is further off.

    python benchmarks/track.py --seed 7 [--seed 2 …] [--by map] [--folder FOLDER] [--json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from outcrop.query.tracks.track import Track

NEAR = 10.0
"""Metres within which a frame is right."""


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--by", choices=("map", "photographs"), default="map")
    parser.add_argument("--folder", type=Path, help="where worlds and collections are kept [a temporary folder]")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        found = [measure(folder / f"world{seed}", seed, arguments.by) for seed in arguments.seed or [7]]
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    for each in found:
        print("\n".join(f"{name:28} {value}" for name, value in each.items()), end="\n\n")


def measure(folder: Path, seed: int, by: str) -> dict[str, object]:
    """The figures of one world."""
    import outcrop
    from outcrop.ingest.requests import MapRequest
    from outcrop.sample.world import write_world

    world = write_world(folder, seed, maps=True, track=True)
    how = {"model": "efficientnet_lite0", "registry": str(world.registry), "state": str(folder / "state")}
    with outcrop.open_collection(folder / f"{by}.db", timeout=600, **how) as collection:
        if by == "map":
            collection.ingest(MapRequest(name="orthophoto", path=folder / "maps/orthophoto.tif"))
        else:
            outcrop.ingest_dataset(collection, "jamshill_image")
        track = outcrop.find_track(collection, folder / "track")
    truth = {Path(entry["path"]).name: entry for entry in json.loads((folder / "track.json").read_text())["frames"]}
    return {"seed": seed, "by": by, **figures(track, truth)}


def figures(track: Track, truth: dict[str, dict[str, object]]) -> dict[str, object]:
    """What a track is worth; frames without a place count as wrong."""
    from outcrop.query.ground import distances

    frames = track.frames
    off = np.full(len(frames), np.inf)
    for number, each in enumerate(frames):
        right = truth[each.frame.name]
        if each.place is not None:
            off[number] = float(distances(*each.place, right["latitude"], right["longitude"]))
    spreads = np.array([each.spread or np.nan for each in frames])
    shows = np.array([truth[each.frame.name]["shows"] for each in frames])
    alone = [each for each in frames if each.candidates]
    return {
        "frames": len(frames),
        **{status: track.count(status) for status in ("located", "outlier", "bridged", "unknown")},
        f"within {NEAR:g} m": _share(off <= NEAR),
        "error (m, median)": round(float(np.median(off)), 3),
        "error (m, most)": round(float(off.max()), 2),
        "spread (m, median)": round(float(np.nanmedian(spreads)), 2),
        "within two spreads": _share(off <= 2 * spreads),
        **{f"{kind}, within {NEAR:g} m": _share(off[shows == kind] <= NEAR) for kind in ("land", "blurred", "water")},
        "frames with candidates": len(alone),
        "further off": [f"{each.frame.name}: {o:.1f} m" for each, o in zip(frames, off, strict=True) if o > NEAR],
        "seconds": round(sum(track.timings.values()), 1),
    }


def _share(good: np.ndarray | Sequence[bool]) -> str:
    return f"{np.mean(good):.3f} ({int(np.sum(good))} of {len(good)})"


if __name__ == "__main__":
    main()
