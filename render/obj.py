"""Reads OBJ files (Wavefront): `read_obj`.

Lines are ``v X Y Z [R G B]``, ``vt U V``, ``f A[/T][/N] B… C…``, ``p A B…``; indices count from 1, or backwards from -1. A line
may go on after a backslash, tabs may separate words, and ``#`` begins a comment. Every line is either read, known to say nothing
about the surface, or an error: a vertex that is overlooked would shift all that follow it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from outcrop.render.colours import UNKNOWN, colour_bytes
from outcrop.render.materials import Material, named, read_materials
from outcrop.render.polygons import NO_FACES, Bytes, Doubles, Integers, Polygons, starts_of
from outcrop.render.preflight import check_size, check_text
from outcrop.render.text import not_finite, numbers, readable, text_of, unfolded
from outcrop.render.textures import Folder
from outcrop.schema.errors import MeshError


@dataclass
class _Lines:
    """The lines of a file by keyword, without it. `before` is how many ``v`` and ``vt`` lines stand before each face."""

    v: list[str] = field(default_factory=list)
    vt: list[str] = field(default_factory=list)
    vn: list[str] = field(default_factory=list)
    f: list[str] = field(default_factory=list)
    p: list[str] = field(default_factory=list)
    before: list[tuple[int, int]] = field(default_factory=list)
    before_points: list[tuple[int, int]] = field(default_factory=list)
    materials: list[tuple[int, str]] = field(default_factory=list)
    libraries: list[str] = field(default_factory=list)


def read_obj(path: Path, data: bytes) -> Polygons:
    """The contents of an OBJ file, with the colours and textures of its materials.

    Raises:
        MeshError: it is not one, or a line of it cannot be read.
    """
    name = str(path)
    check_text(data, name)
    text = text_of(data)
    if "\0" in text[:4096]:
        raise MeshError(f"{name}: holds binary data, not OBJ text; export it again")
    lines = _sorted(unfolded(not_finite(text)), name)
    if not lines.v:
        raise MeshError(f"{name}: holds no line of an OBJ file with a vertex; is it one?")
    check_size(len(lines.v), len(lines.f), name)
    places, colours, remarks = _vertices(lines.v, name)
    if not lines.f:
        return _cloud(lines, places, colours, remarks, name)
    indices, lengths = _corners(lines.f, lines.before, name)
    polygons = Polygons(places, lengths, indices[:, 0], colours, remarks=remarks)
    return _with_materials(polygons, lines, indices[:, 1], path) if lines.materials else polygons


def _sorted(text: str, name: str) -> _Lines:
    """The lines by keyword.

    Raises:
        MeshError: a line that may be about the surface has no keyword that is known.
    """
    lines = _Lines()
    for line in text.split("\n"):
        keyword, *rest = line.split(None, 1)[:2] or ("",)
        said = rest[0] if rest else ""
        keyword = keyword.lower()
        match keyword:
            case "v" | "vt" | "vn":
                getattr(lines, keyword).append(said.partition("#")[0])
            case "f" | "fo":
                lines.f.append(said.partition("#")[0])
                lines.before.append((len(lines.v), len(lines.vt)))
            case "p":
                lines.p.append(said.partition("#")[0])
                lines.before_points.append((len(lines.v), len(lines.vt)))
            case "usemtl":
                lines.materials.append((len(lines.f), said.strip()))
            case "mtllib":
                lines.libraries.append(said.strip())
            case "vp" | "":
                pass
            case _ if keyword[0] in "vf-+.0123456789":
                raise MeshError(f"{name}: the line {_shown(line)!r} cannot be read; it is damaged")
    return lines


def _vertices(lines: list[str], name: str) -> tuple[Doubles, Bytes | None, tuple[str, ...]]:
    """Places, and colours where some vertices have one (behind the place, and perhaps a weight)."""
    widths = np.array([len(line.split()) for line in lines])
    if widths.min() < 3:
        shown = _shown(f"v {lines[int(widths.argmin())]}")
        raise MeshError(f"{name}: the line {shown!r} has fewer than three coordinates; it is damaged")
    values, starts = numbers(lines, name), starts_of(widths)
    places = values[starts[:, None] + np.arange(3)]
    coloured = np.flatnonzero(widths >= 6)
    if not len(coloured):
        return places, None, ()
    found, remarks = colour_bytes(values[starts[coloured, None] + 3 + np.arange(3)])
    colours = np.full((len(lines), 3), UNKNOWN, np.uint8)
    colours[coloured] = found
    return places, colours, remarks


def _cloud(lines: _Lines, places: Doubles, colours: Bytes | None, remarks: tuple[str, ...], name: str) -> Polygons:
    """A file without faces: the points that its ``p`` lines name, or all its vertices."""
    normals = None
    if len(lines.vn) == len(places):
        values = numbers(lines.vn, name)
        normals = values.reshape(-1, 3) if values.size == 3 * len(places) else None
    cloud = Polygons(places, *NO_FACES, colours, normals=normals, remarks=remarks)
    if not lines.p:
        return cloud
    chosen = np.unique(_corners(lines.p, lines.before_points, name, least=1)[0][:, 0])
    if chosen[-1] >= len(places):
        raise MeshError(f"{name}: its points name vertices that are not there (it has {len(places):,}); it is damaged")
    return replace(
        cloud,
        vertices=places[chosen],
        colours=colours[chosen] if colours is not None else None,
        normals=normals[chosen] if normals is not None else None,
    )


def _corners(lines: list[str], before: list[tuple[int, int]], name: str, least: int = 3) -> tuple[Integers, Integers]:
    """What faces name: vertex and texture coordinate of each corner, counted from 0, -1 = none, [C, 2]; and their lengths [P].

    Raises:
        MeshError: a face has too few corners, or names vertex 0 or one before the first.
    """
    words = [line.split() for line in lines]
    lengths = np.array([len(face) for face in words], np.int64)
    if lengths.min() < least:
        shown = _shown(f"f {lines[int(lengths.argmin())]}")
        raise MeshError(f"{name}: the line {shown!r} has fewer than three corners; it is damaged")
    flat = [word for face in words for word in face]
    return _from_zero(_stated(flat, name), lengths, np.array(before, np.int64), lines, name), lengths


def _stated(words: list[str], name: str) -> Doubles:
    """Corners such as ``3``, ``3/2``, ``3/2/7`` and ``3//7`` as written: vertex and texture coordinate (0 = none), [C, 2].

    Raises:
        MeshError: one is something else.
    """
    slashes = {word.count("/") for word in words}
    if max(slashes) > 2:
        wrong = next(word for word in words if word.count("/") > 2)
        raise MeshError(f"{name}: the corner {_shown(wrong)!r} cannot be read; it is damaged")
    text = " ".join(words)
    if slashes == {0}:
        vertices = numbers(text, name)
        return np.stack([vertices, np.zeros(len(vertices))], axis=1)
    twice = text.count("//")
    if len(slashes) == 1 and twice in (0, len(words)) and "/ " not in f"{text} " and " /" not in f" {text}":
        width = 1 + slashes.pop()
        return numbers(text.replace("//", " 0 ").replace("/", " "), name).reshape(-1, width)[:, :2]
    split = [f"{word}//".replace("//", "/0/", 1).split("/", 2)[:2] for word in words]
    wrong = next((word for word, (vertex, _) in zip(words, split, strict=True) if not vertex), "")
    if wrong:
        raise MeshError(f"{name}: the corner {_shown(wrong)!r} cannot be read; it is damaged")
    return numbers((f"{vertex} {coordinate or 0}" for vertex, coordinate in split), name).reshape(-1, 2)


def _from_zero(stated: Doubles, lengths: Integers, before: Integers, lines: list[str], name: str) -> Integers:
    """Indices as they are written, [C, 2], counted from 0."""
    face = np.repeat(np.arange(len(lengths)), lengths)
    whole = np.isfinite(stated).all(axis=1) & (stated == np.rint(stated)).all(axis=1)
    if not whole.all():
        shown = _shown(lines[face[int(whole.argmin())]])
        raise MeshError(f"{name}: the line {shown!r} names vertices by numbers that are not whole; it is damaged")
    indices = np.clip(stated, -(2**31), 2**31).astype(np.int64)
    if (zero := indices[:, 0] == 0).any():
        shown = _shown(lines[face[int(zero.argmax())]])
        raise MeshError(f"{name}: the line {shown!r} names vertex 0, but they count from 1; it is damaged")
    back = indices < 0
    indices = np.where(back, indices + before[face], indices - 1)
    if (beyond := (back & (indices < 0)).any(axis=1)).any():
        shown = _shown(lines[face[int(beyond.argmax())]])
        raise MeshError(f"{name}: the line {shown!r} counts back beyond the first vertex; it is damaged")
    return indices


def _with_materials(polygons: Polygons, lines: _Lines, coordinates: Integers, path: Path) -> Polygons:
    """The polygons with their materials: textures, and the colours of faces without one.

    Colours of vertices say more than a material's. One untextured material for all says nothing of the specimen and is ignored.
    """
    folder = Folder(path)
    known = read_materials(lines.libraries, folder)
    begin, names = zip(*lines.materials, strict=True)
    material = (
        np.searchsorted(begin, np.arange(len(polygons.lengths)), side="right") - 1
    )  # of each face, -1 before the first
    used = [named(known, name) or Material() for name in names]
    polygons = _textured(polygons, used, material, lines, coordinates, folder)
    remarks = (*polygons.remarks, *folder.remarks)
    colours = [
        (204, 204, 204) if m.colour is None else tuple(round(255 * min(max(c, 0), 1)) for c in m.colour) for m in used
    ]
    plain = polygons.texture_of < 0 if polygons.texture_of is not None else np.ones(len(material), bool)
    shown = {colours[n] if n >= 0 else None for n in np.unique(material[plain]).tolist()}
    if polygons.colours is not None or not (len(shown) > 1 or (shown and polygons.textures)):
        return replace(polygons, remarks=remarks)
    palette = np.array([*colours, (UNKNOWN,) * 3], np.uint8)  # the last one is for -1
    return replace(polygons, face_colours=palette[material], remarks=remarks)


def _textured(
    polygons: Polygons, used: list[Material], material: Integers, lines: _Lines, coordinates: Integers, folder: Folder
) -> Polygons:
    """The polygons with the textures that can be had, and the coordinates on them of their corners."""
    pictures = {name: folder.pixels(name) for name in dict.fromkeys(m.texture for m in used if m.texture)}
    there = [name for name, picture in pictures.items() if picture is not None]
    if not there or not lines.vt:
        return polygons
    number = np.array([there.index(m.texture) if m.texture in there else -1 for m in used] + [-1])
    widths = np.array([len(line.split()) for line in lines.vt])
    values = np.append(numbers(lines.vt, str(folder.mesh)), [np.nan, np.nan])
    starts = starts_of(widths)
    known = (coordinates >= 0) & (coordinates < len(starts))
    first = np.where(known, starts[np.where(known, coordinates, 0)], len(values) - 2)
    second = np.where(known & (widths[np.where(known, coordinates, 0)] < 2), len(values) - 1, first + 1)
    of_corner = np.repeat(material, polygons.lengths)
    scale = np.array([*(m.scale for m in used), (1.0, 1.0)])[of_corner]
    offset = np.array([*(m.offset for m in used), (0.0, 0.0)])[of_corner]
    uv = np.stack([values[first], values[second]], axis=1) * scale + offset
    return replace(
        polygons,
        uv=uv,
        texture_of=number[material],
        textures=tuple(picture for picture in pictures.values() if picture is not None),
    )


def _shown(line: str) -> str:
    return readable(" ".join(line.split()))[:60]
