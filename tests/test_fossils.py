"""Fossil-like specimens: sound meshes in every format, individuals of one genus alike and not the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from outcrop.sample import burial
from outcrop.sample.coiling import Coil, coil
from outcrop.sample.fossils import GENERA, Genus, Specimen, make_specimen, specimens, strangers, write_specimens
from outcrop.sample.meshes import Mesh, outward
from outcrop.sample.meshfiles import FORMS, write_mesh


@pytest.mark.parametrize("genus", GENERA, ids=lambda genus: genus.initials)
def test_a_form_is_sound(genus: Genus) -> None:
    mesh = genus.make(np.random.default_rng(1))
    assert np.isfinite(mesh.points).all() and 4000 < len(mesh.points) < 20_000
    assert mesh.faces.min() == 0 and mesh.faces.max() < len(mesh.points)
    a, b, c = (mesh.points[mesh.faces[:, i]] for i in range(3))
    assert np.einsum("ij,ij->", a, np.cross(b, c)) > 0, "the faces look inward"
    other = genus.make(np.random.default_rng(2))
    assert other.points.shape != mesh.points.shape or not np.allclose(other.points, mesh.points)


def test_whorls_expand_as_raup_says() -> None:
    """One turn on, a shell is W times as large, and it has moved along its axis by T times what it moved outward."""
    shell = Coil(expansion=1.8, distance=0.4, translation=2.0, turns=3, steps=40, around=16)
    mesh = coil(shell, lambda before, angle: 0 * before * angle)
    rings = mesh.points[: 120 * 16].reshape(120, 16, 3)
    centres = rings.mean(axis=1)
    radius = np.hypot(centres[:, 0], centres[:, 2])
    turn = 119 / 3  # rings to a turn
    growth = np.exp(np.polyfit(np.arange(120) / turn, np.log(radius), 1)[0])
    assert growth == pytest.approx(1.8, rel=1e-3)
    assert np.allclose(centres[:, 1], 2.0 * (1 - radius), atol=1e-6)
    # The inner edge of the section is D of the outer edge away from the axis.
    reach = np.hypot(rings[-1, :, 0], rings[-1, :, 2])
    assert reach.min() / reach.max() == pytest.approx(0.4, abs=1e-6)


def test_every_format_comes_up_and_reads_as_it_was_written(tmp_path: Path) -> None:
    """Each form of file, read by libraries, holds the points and faces that were written."""
    import trimesh

    assert {specimen.form for specimen in specimens(7, 8)} == set(FORMS)
    mesh = burial.coloured(burial.coarser(GENERA[5].make(np.random.default_rng(3)), 24), np.random.default_rng(4))
    for form in FORMS:
        path = tmp_path / f"{form}.{form.partition('-')[0]}"
        write_mesh(mesh, path, form)
        read = trimesh.load(path, process=False)
        corners, theirs = mesh.points[mesh.faces], np.asarray(read.vertices)[read.faces]
        assert theirs.shape == corners.shape, form
        assert np.allclose(theirs, corners, rtol=1e-4, atol=1e-4), form
        if form.startswith("ply"):
            assert np.array_equal(np.asarray(read.visual.vertex_colors)[:, :3], mesh.colours)
    cloud = burial.scanned(mesh, np.random.default_rng(5), 300)
    for form in ("ply", "ply-big-endian", "ply-text", "off", "obj"):
        path = tmp_path / f"cloud-{form}.{form.partition('-')[0]}"
        write_mesh(cloud, path, form)
        if form.startswith("ply"):
            assert np.allclose(trimesh.load(path).vertices, cloud.points, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="no point clouds"):
        write_mesh(cloud, tmp_path / "cloud.stl", "stl")


def test_specimens_are_laid_out_by_category(tmp_path: Path) -> None:
    wanted = specimens(3, 8)[:16:5]
    write_specimens(tmp_path, wanted)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")) == sorted(s.path for s in wanted)
    assert wanted[0].path == "specimens/ammonites/dactylioceras-like/dac_01.ply"
    assert wanted[0].entry()["genus"] == "dactylioceras-like"
    everyone = specimens(3, 8)
    assert len(everyone) == 48 and len({s.name for s in everyone}) == 48
    assert any(s.path.endswith((".STL", ".OBJ")) for s in everyone)
    assert all("like" not in s.path for s in strangers(3)) and len(strangers(3)) == len(GENERA)


def test_what_the_ground_does() -> None:
    rng = np.random.default_rng(6)
    mesh = GENERA[5].make(rng)

    def volume(mesh: Mesh) -> float:
        a, b, c = (mesh.points[mesh.faces[:, i]] for i in range(3))
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)

    broken = burial.broken(mesh, rng, 0.3)
    assert 0.5 * volume(mesh) < volume(broken) < 0.85 * volume(mesh)
    moved = np.linalg.norm(broken.points - mesh.points, axis=1) > 1e-9
    assert 0.15 < moved.mean() < 0.45, "other than about the share that was to be lost has moved"
    worn = burial.worn(mesh, rng)
    extent = np.ptp(mesh.points, axis=0).max()
    assert 0 < np.linalg.norm(worn.points - mesh.points, axis=1).max() < 0.06 * extent
    cloud = burial.scanned(mesh, rng, 2000)
    assert len(cloud.points) == 2000 and not len(cloud.faces)
    assert np.ptp(burial.scaled(mesh, 40).points, axis=0).max() == pytest.approx(40)
    flipped = Mesh(mesh.points, mesh.faces[:, ::-1])
    assert np.array_equal(outward(flipped).faces, mesh.faces)


def test_no_surface_tears_at_an_edge_that_stays_sharp() -> None:
    """Points at the same place are still at the same place after wear."""
    mesh = GENERA[5].make(np.random.default_rng(8))
    _, group = np.unique(mesh.points.round(9), axis=0, return_inverse=True)
    worn = burial.worn(mesh, np.random.default_rng(9)).points
    spread = [np.ptp(worn[group == place], axis=0).max() for place in np.flatnonzero(np.bincount(group) > 1)]
    assert len(spread) > 100 and max(spread) < 1e-9


def test_same_seed_same_specimen() -> None:
    one, again = (make_specimen(specimens(11, 2)[5]) for _ in range(2))
    assert np.array_equal(one.points, again.points)
    assert isinstance(specimens(11, 1)[0], Specimen)
