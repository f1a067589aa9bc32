"""Specimens that are hard to tell apart, for measurements of how they are drawn, pooled and compared.

    python benchmarks/specimens.py FOLDER [--seed 101] [--species 4] [--each 3]
    python benchmarks/specimens.py FOLDER --of MESHES [--seed 11] [--each 6] [--half 0]

The first writes species of the sample world's six genera, in a folder each: what sets the individuals of a genus apart there is
drawn once for a species, and individuals differ by less. They are compacted, worn, some broken, decimated to a third to nine
tenths of their triangles, and turned at random. Hardly any two lie alike, and the species of a genus resemble each other.

The second writes individuals of each mesh below a folder, in a folder each: grown unevenly along all axes and warped smoothly
(about a tenth of their extent), roughened, with other vertices, turned at random, every second one mirrored. `--half` takes every
second mesh, from the first (0) or the second (1): what is tuned on one half is reported of the other.

    ingest specimens FOLDER --name hard --model efficientnet_lite0
    query evaluate hard --query-kind specimen --where kind=specimen --truth category --by views
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.render.geometry import load
from outcrop.render.libraries import import_open3d
from outcrop.render.preflight import is_mesh
from outcrop.sample import burial
from outcrop.sample.fossils import GENERA, Genus
from outcrop.sample.meshes import Mesh
from outcrop.sample.meshfiles import write_mesh

SPECIES, OWN = 1.5, 0.45
"""How much species of a genus, and individuals of a species, differ, in standard deviations of the genus in the sample world."""
BROKEN = 0.25
WARP = 0.12
"""How much individuals of one mesh differ, as a part of its extent."""
Doubles = NDArray[np.float64]


class Inherited:
    """Random numbers of an individual: most of each is its species'. Stands for a generator where a form is made."""

    def __init__(self, species: list[int], own: list[int]) -> None:
        self._species, self._own = np.random.default_rng(species), np.random.default_rng(own)

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: Any = None) -> Any:
        """As of a generator."""
        if size is not None:
            return self._own.normal(loc, scale, size)
        return loc + scale * (SPECIES * self._species.normal() + OWN * self._own.normal())

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """As of a generator."""
        return low + (high - low) * (0.8 * self._species.random() + 0.2 * self._own.random())

    def integers(self, low: int, high: int) -> int:
        """As of a generator: the species'."""
        return int(self._species.integers(low, high))


def main() -> None:
    """Writes the meshes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--of", type=Path, help="a folder of meshes of which individuals are made")
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--species", type=int, default=4, help="of each genus")
    parser.add_argument("--each", type=int, default=3, help="individuals")
    parser.add_argument("--half", type=int, choices=(0, 1), default=0)
    asked = parser.parse_args()
    if asked.of is None:
        made = species(asked.seed, asked.species, asked.each)
    else:
        files = sorted(path for path in asked.of.rglob("*") if is_mesh(path))
        made = individuals(list(enumerate(files))[asked.half :: 2], asked.seed, asked.each)
    for category, number, mesh in made:
        place = asked.folder / category
        place.mkdir(parents=True, exist_ok=True)
        write_mesh(mesh, place / f"{category}-{number}.ply", "ply")


def species(seed: int, count: int, each: int) -> Iterator[tuple[str, int, Mesh]]:
    """Category, number and mesh of the individuals of `count` species of every genus."""
    for kind, genus in enumerate(GENERA):
        for one in range(count):
            for number in range(each):
                numbers = Inherited([seed, 7, kind, one], [seed, 8, kind, one, number])
                rng = np.random.default_rng([seed, 77, kind, one, number])
                yield f"{genus.initials}{one}", number, _found(genus, numbers, rng)


def _found(genus: Genus, numbers: Inherited, rng: np.random.Generator) -> Mesh:
    mesh = burial.compacted(genus.make(numbers), rng, 0.1)  # type: ignore[arg-type]  # the three methods that forms use
    if rng.random() < BROKEN:
        mesh = burial.broken(mesh, rng, rng.uniform(0.05, 0.2))
    mesh = burial.worn(mesh, rng)
    triangles = _triangles(mesh.points, mesh.faces)
    return _turned(triangles.simplify_quadric_decimation(int(len(mesh.faces) * rng.uniform(0.35, 0.9))), rng)


def individuals(files: list[tuple[int, Path]], seed: int, each: int) -> Iterator[tuple[str, int, Mesh]]:
    """Category, number and mesh of the individuals of every file; with them comes the file's number."""
    for place, path in files:
        shape = load(path)
        for number in range(each):
            rng = np.random.default_rng([seed, 5, place, number])
            points = _warped(shape.vertices.astype(np.float64), rng)
            triangles = _remeshed(points, shape.faces, int(rng.uniform(2500, 7000)), rng)
            yield f"{path.stem}-{place}", number, _turned(triangles, rng, mirrored=number % 2 == 1)


def _warped(points: Doubles, rng: np.random.Generator) -> Doubles:
    """Sheared and stretched, and bent by six waves of at most a length of the specimen."""
    points = (points - points.mean(axis=0)) / float(np.ptp(points, axis=0).max())
    warped: Doubles = points @ (np.eye(3) + 0.6 * WARP * rng.normal(size=(3, 3))).T
    for _ in range(6):
        wave = rng.normal(size=3)
        waves = rng.uniform(0.8, 2.5)
        wave *= 2 * np.pi * waves / np.linalg.norm(wave)
        aside = rng.normal(size=3)
        aside *= 0.35 * WARP / waves / np.linalg.norm(aside)
        warped += np.outer(np.sin(points @ wave + rng.uniform(0, 2 * np.pi)), aside)
    return warped


def _remeshed(points: Doubles, faces: NDArray[np.int32], count: int, rng: np.random.Generator) -> Any:
    """Other vertices: divided until there are many, roughened by a scanner's noise, and reduced to `count` triangles."""
    triangles = _triangles(points, faces)
    while len(triangles.triangles) < 2.2 * count:
        triangles = triangles.subdivide_midpoint(1)
    places = np.asarray(triangles.vertices)
    places += 0.0008 * float(np.ptp(places, axis=0).max()) * rng.normal(size=places.shape)
    return triangles.simplify_quadric_decimation(count)


def _triangles(points: Doubles, faces: NDArray[np.int32]) -> Any:
    o3d = import_open3d()
    vector, corners = o3d.utility.Vector3dVector(points), o3d.utility.Vector3iVector(faces)
    return o3d.geometry.TriangleMesh(vector, corners).remove_duplicated_vertices()


def _turned(triangles: Any, rng: np.random.Generator, *, mirrored: bool = False) -> Mesh:
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn[0] *= np.sign(np.linalg.det(turn)) * (-1 if mirrored else 1)
    faces = np.asarray(triangles.triangles)
    return Mesh(np.asarray(triangles.vertices) @ turn.T, (faces[:, ::-1] if mirrored else faces).astype(np.int32))


if __name__ == "__main__":
    main()
