"""Four genera of shells as families of coiling parameters: two ammonites and two gastropods, "-like" each.

Every function makes one individual: what `rng` draws are the differences between individuals of one genus, small against the
differences between the genera.
"""

from __future__ import annotations

import numpy as np

from .coiling import Coil, coil, on_coil
from .meshes import Mesh, Points, bump, spine, together, tube, turned

FACE = np.array([1.0, 0.0, 0.0])


def dactylioceras(rng: np.random.Generator) -> Mesh:
    """A serpent-like ammonite: slowly growing round whorls that hardly overlap, and strong ribs that fork on the venter."""
    ribs = int(rng.integers(30, 35))
    shell = Coil(
        expansion=rng.normal(1.62, 0.03),
        distance=rng.normal(0.545, 0.01),
        translation=0.0,
        turns=rng.uniform(4.1, 4.7),
        aspect=rng.normal(1.0, 0.04),
        squareness=2.15,
        steps=ribs * 4,
        around=17,
    )
    strength = rng.normal(0.11, 0.01)
    slant = rng.normal(0.12, 0.03)

    def relief(before: Points, angle: Points) -> Points:
        outer = np.cos(angle)  # 1 on the venter, -1 where the whorl touches the one before
        phase = 2 * np.pi * ribs * before + slant * ribs * 0.2 * outer
        ridge = np.maximum(np.cos(phase), -0.35) + 0.35
        forked = np.maximum(np.cos(2 * phase), -0.35) + 0.35
        venter = np.clip(outer * 2.2 - 1, 0, 1)
        fading = np.clip((outer + 0.75) * 2.5, 0, 1)
        return strength * fading * (ridge * (1 - 0.75 * venter) + 0.4 * forked * venter) / 1.35

    return standing(together([coil(shell, relief), first_chamber(shell)]))


def harpoceras(rng: np.random.Generator) -> Mesh:
    """A disc-like ammonite: fast growing, flat, overlapping whorls with a keel, sickle ribs, and suture lines within."""
    ribs = int(rng.integers(24, 28))
    shell = Coil(
        expansion=rng.normal(2.35, 0.06),
        distance=rng.normal(0.27, 0.012),
        translation=0.0,
        turns=rng.uniform(2.5, 2.9),
        aspect=rng.normal(0.42, 0.02),
        squareness=2.35,
        steps=ribs * 5,
        around=28,
        crowding=0.55,
    )
    strength = rng.normal(0.055, 0.006)
    chamber = rng.uniform(0.35, 0.5)
    """Turns of the living chamber: no sutures there."""

    def relief(before: Points, angle: Points) -> Points:
        outer = np.cos(angle)
        flank = np.clip(np.abs(np.sin(angle)) * 1.6 - 0.25, 0, 1)
        sickle = 0.55 * np.sin(np.pi * (outer * 0.9 + 0.1)) + 0.5 * outer
        ridge = np.cos(2 * np.pi * ribs * before + 2.6 * sickle)
        keel = bump(np.angle(np.exp(1j * angle)), 0.0, 0.13)
        groove = bump(np.abs(np.angle(np.exp(1j * angle))), 0.36, 0.13)
        folded = 0.16 * np.sin(5 * np.pi * outer) + 0.05 * np.sin(13 * np.pi * outer)
        suture = np.maximum(np.cos(2 * np.pi * (ribs * 0.6 * before + folded)), 0.86) - 0.86
        old = np.clip((before - chamber) * 12, 0, 1)
        return strength * flank * ridge + 0.13 * keel - 0.05 * groove - 0.22 * old * flank * suture

    return standing(together([coil(shell, relief), first_chamber(shell)]))


def turritella(rng: np.random.Generator) -> Mesh:
    """A tower of many whorls, each with spiral cords."""
    cords = int(rng.integers(4, 6))
    shell = Coil(
        expansion=rng.normal(1.22, 0.01),
        distance=rng.normal(0.06, 0.015),
        translation=rng.normal(8.0, 0.35),
        turns=rng.uniform(11, 13),
        aspect=rng.normal(0.98, 0.04),
        squareness=2.6,
        tilt=rng.normal(-8, 3),
        steps=28,
        around=27,
    )
    strength = rng.normal(0.05, 0.007)

    def relief(before: Points, angle: Points) -> Points:
        turned_in = np.angle(np.exp(1j * angle))
        outside = np.clip(np.cos(turned_in) * 3 + 0.6, 0, 1)
        lines = np.cos(cords * 2.0 * turned_in + 0.6)
        growth = np.cos(2 * np.pi * 11 * before + 1.2 * np.cos(angle)) * 0.012
        height: Points = strength * outside * np.maximum(lines, -0.5) + growth * outside
        return height

    return coil(shell, relief)


def murex(rng: np.random.Generator) -> Mesh:
    """A stout spiral with a long canal, swollen varices three to a turn, and rows of spines on them."""
    shell = Coil(
        expansion=rng.normal(2.05, 0.05),
        distance=rng.normal(0.10, 0.015),
        translation=rng.normal(2.15, 0.12),
        turns=rng.uniform(3.6, 4.2),
        aspect=rng.normal(1.25, 0.05),
        squareness=2.0,
        tilt=rng.normal(-14, 3),
        canal=rng.normal(2.1, 0.2),
        steps=66,
        around=27,
    )
    varices = 3
    swelling = rng.normal(0.26, 0.02)
    first = rng.uniform(0.0, 0.06)

    def relief(before: Points, angle: Points) -> Points:
        turned_in = np.angle(np.exp(1j * angle))
        outside = np.clip(np.cos(turned_in) * 2 + 0.8, 0, 1)
        near = (before - first + 0.5 / varices) % (1 / varices) - 0.5 / varices
        cords = 0.03 * np.cos(9 * turned_in) * outside
        nodes = 0.05 * np.maximum(np.cos(2 * np.pi * varices * 3 * (before - first)), 0) * bump(turned_in, 0.55, 0.4)
        height: Points = swelling * outside * bump(near, 0.0, 0.035) + cords + nodes
        return height

    parts = [coil(shell, relief)]
    length = rng.normal(1.15, 0.12)
    number = 0
    while (before := first + number / varices) < 2.1:
        size = shell.section * shell.expansion**-before
        for angle, share in ((0.75, 1.0), (0.2, 0.75), (-0.35, 0.6), (-0.8, 0.45), (-1.25, 0.4)):
            root = on_coil(shell, before, angle, 0.02)
            tip = on_coil(shell, before - 0.02, angle, 0.02 + length * share * rng.uniform(0.75, 1.2))
            lift = np.array([0.0, 0.25 * size * share * np.sign(angle + 0.4), 0.0])
            parts.append(spine(root, tip, 0.17 * size * (0.6 + 0.4 * share), lift, around=5, along=4))
        number += 1
    return together(parts)


def first_chamber(shell: Coil) -> Mesh:
    """The ball with which an ammonite begins, in the middle of its coil."""
    size = 1.3 * shell.expansion**-shell.turns
    up, around = np.linspace(-np.pi / 2, np.pi / 2, 8)[:, None], np.linspace(0, 2 * np.pi, 13)[None, :-1]
    ball = [
        np.cos(up) * np.cos(around),
        np.sin(up) * shell.aspect * shell.section + 0 * around,
        np.cos(up) * np.sin(around),
    ]
    return tube(np.stack(ball, axis=-1) * size)


def standing(mesh: Mesh) -> Mesh:
    """An ammonite stood upright: its axis along z, so that a walk round it shows both flanks and the venter."""
    return mesh.moved(turned(mesh.points, FACE, 90.0))
