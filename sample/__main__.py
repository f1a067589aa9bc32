"""`python -m outcrop.sample FOLDER`: writes the sample world; with `--photos N`, large photographs for benchmarks instead."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path


def main() -> int:
    """Writes what is asked for, says on stdout what it is, and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m outcrop.sample", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--force", action="store_true", help="replace a world of other measures")
    parser.add_argument(
        "--maps", action="store_true", help="also write the land as maps: orthophoto, terrain model, XYZ tiles"
    )
    parser.add_argument("--track", action="store_true", help="also write a flight whose photographs have no GPS")
    parser.add_argument("--photos", type=int, help="write this many large photographs instead of a world")
    parser.add_argument("--size", default="4000x3000", help="their size in pixels")
    arguments = parser.parse_args()
    size = re.fullmatch(r"(\d{2,5})x(\d{2,5})", arguments.size)
    if not size:
        parser.error(f"--size must be WIDTHxHEIGHT, got {arguments.size}")
    begun = time.perf_counter()
    if arguments.photos is not None:
        from .photos import write_photos

        paths = write_photos(arguments.folder, arguments.photos, (int(size[1]), int(size[2])), arguments.seed)
        print(f"{len(paths)} photographs in {arguments.folder} ({time.perf_counter() - begun:.0f} s)")
        return 0
    from .world import write_world

    try:
        world = write_world(
            arguments.folder, arguments.seed, maps=arguments.maps, track=arguments.track, force=arguments.force
        )
    except FileExistsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 6
    how = f"written in {time.perf_counter() - begun:.0f} s" if world.made else "there already"
    print(
        f"sample world in {world.folder}: {world.pictures} captures, {world.query_pictures} query photographs, "
        f"{world.meshes} specimens of fossils, truth.json ({how})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
