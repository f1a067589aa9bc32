"""Fossil-like specimens of six genera: individuals that grew differently, were buried, broken and scanned differently.

::

    specimens/<group>/<genus>-like/<specimen>.<ply|obj|stl|off>

Of each genus' eight specimens five are whole, two are broken and one was scanned as a point cloud; every format comes up, as
text and as binary where it has both. What sets the genera apart is in `shells`, `trilobite` and `urchin`; the names say which
real genus lent its proportions.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import burial
from .meshes import Mesh
from .meshfiles import write_mesh
from .shells import dactylioceras, harpoceras, murex, turritella
from .trilobite import calymene
from .urchin import cidaris

FOLDER, STRANGERS = "specimens", "new_specimens"
CLOUD_POINTS = 9000


@dataclass(frozen=True)
class Genus:
    """A form: `category` is its folder below the specimens' root, `size` its length in millimetres."""

    category: str
    initials: str
    make: Callable[[np.random.Generator], Mesh]
    size: float


GENERA = (
    Genus("ammonites/dactylioceras-like", "dac", dactylioceras, 64),
    Genus("ammonites/harpoceras-like", "har", harpoceras, 120),
    Genus("gastropods/turritella-like", "tur", turritella, 52),
    Genus("gastropods/murex-like", "mur", murex, 75),
    Genus("trilobites/calymene-like", "cal", calymene, 45),
    Genus("echinoids/cidaris-like", "cid", cidaris, 38),
)
STATES = (
    ("whole", "ply"),
    ("whole", "obj"),
    ("whole", "stl"),
    ("whole", "off"),
    ("coloured", "ply"),
    ("broken", "ply-big-endian"),
    ("cloud", "ply"),
    ("broken", "ply"),
)
"""What becomes of a genus' specimens, in turn, and the form of their files."""
OTHERS = {
    ("dac", 6): "ply-text",
    ("har", 2): "off",
    ("har", 7): "obj",
    ("tur", 2): "ply",
    ("tur", 7): "stl-text",
    ("cal", 2): "ply-text",
    ("cid", 2): "obj",
    ("cid", 6): "off",
}
"""Other forms for some: (initials, number from 0) -> form."""
LOUD = {("mur", 2), ("cal", 1)}
"""Specimens whose files end in capitals."""


@dataclass(frozen=True)
class Specimen:
    """One specimen to be made: `name` is its id and its file's, `folder` where that lies in the world."""

    genus: Genus
    name: str
    folder: str
    state: str
    form: str
    seed: tuple[int, ...]
    loud: bool = False

    @property
    def path(self) -> str:
        """The file, relative to the world's folder."""
        ending = self.form.partition("-")[0]
        return f"{self.folder}/{self.name}.{ending.upper() if self.loud else ending}"

    def entry(self) -> dict[str, Any]:
        """What the truth file says of it."""
        return {
            "path": self.path,
            "specimen": self.name,
            "genus": self.genus.category.rpartition("/")[2],
            "state": self.state,
        }


def specimens(seed: int, each: int) -> list[Specimen]:
    """`each` specimens of every genus, in order."""
    found = []
    for kind, genus in enumerate(GENERA):
        for number in range(each):
            which = (genus.initials, number)
            state, form = STATES[number % len(STATES)]
            name, folder = f"{genus.initials}_{number + 1:02d}", f"{FOLDER}/{genus.category}"
            seeds = (seed, 8, kind, number)
            found.append(Specimen(genus, name, folder, state, OTHERS.get(which, form), seeds, which in LOUD))
    return found


def strangers(seed: int) -> list[Specimen]:
    """One more specimen of every genus, which is to be recognised: its name and folder tell nothing."""
    return [
        Specimen(genus, f"new_{kind + 1}", STRANGERS, "whole", "ply", (seed, 9, kind))
        for kind, genus in enumerate(GENERA)
    ]


def make_specimen(specimen: Specimen) -> Mesh:
    """The specimen's mesh, or point cloud, in millimetres, y up."""
    rng = np.random.default_rng(specimen.seed)
    mesh = burial.compacted(specimen.genus.make(rng), rng)
    if specimen.state == "broken":
        mesh = burial.broken(mesh, rng, rng.uniform(0.12, 0.3))
    mesh = burial.scaled(burial.posed(burial.worn(mesh, rng), rng), specimen.genus.size * rng.uniform(0.7, 1.3))
    if specimen.form == "stl-text":
        mesh = burial.coarser(mesh, 70)  # the largest of all forms
    if specimen.state == "coloured":
        mesh = burial.coloured(mesh, rng)
    return burial.scanned(mesh, rng, CLOUD_POINTS) if specimen.state == "cloud" else mesh


def write_specimens(folder: Path, wanted: list[Specimen]) -> None:
    """Writes the files of all of them below `folder`."""
    for parent in {(folder / specimen.path).parent for specimen in wanted}:
        parent.mkdir(parents=True, exist_ok=True)

    def write(specimen: Specimen) -> None:
        write_mesh(make_specimen(specimen), folder / specimen.path, specimen.form)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(write, wanted))
