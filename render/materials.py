"""Materials of OBJ files (MTL, Alias|Wavefront): a colour, or a texture and how it is laid on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from outcrop.render.text import readable, text_of, unfolded
from outcrop.render.textures import Folder

OPTIONS = {
    **dict.fromkeys(("-blendu", "-blendv", "-bm", "-boost", "-cc", "-clamp", "-imfchan", "-texres", "-type"), 1),
    "-colorspace": 1,
    "-mm": 2,
}
"""Options before the file name of a map, and how many words each takes; `PLACED` take up to three numbers."""
PLACED = ("-o", "-s", "-t")
_COMMENT = re.compile(r"\s+#.*")


@dataclass(frozen=True)
class Material:
    """`colour` is sRGB from 0 to 1, or None; `texture` the name of a file, or ''. Texture coordinates are scaled, then moved."""

    colour: tuple[float, float, float] | None = None
    texture: str = ""
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)


def read_materials(libraries: list[str], folder: Folder) -> dict[str, Material]:
    """The materials of all ``mtllib`` lines, by name; a library that cannot be had is noted in the folder's remarks."""
    materials: dict[str, Material] = {}
    for line in dict.fromkeys(libraries):
        line = _said(line, folder)
        names = [line] if folder.find(line) is not None or len(line.split()) < 2 else line.split()
        for name in names:
            data = folder.read(name)
            if data is not None:
                materials |= dict(_materials(text_of(data), name, folder))
    return materials


def _materials(text: str, library: str, folder: Folder) -> Iterator[tuple[str, Material]]:
    name, material = "", Material()
    for line in unfolded(text).split("\n"):
        keyword, _, rest = line.strip().replace("\t", " ").partition(" ")
        rest = rest.strip()
        match keyword.lower():
            case "newmtl":
                if name:
                    yield name, material
                name, material = rest, Material()
            case "kd" if (colour := _floats(rest)) is not None and len(colour) >= 3:
                material = replace(material, colour=(colour[0], colour[1], colour[2]))
            case "map_kd" if rest:
                material = _mapped(material, rest, folder)
                if folder.find(material.texture) is None and folder.find(beside := _beside(library, material.texture)):
                    material = replace(material, texture=beside)
    if name:
        yield name, material


def _beside(library: str, name: str) -> str:
    """The name of a file beside a library that lies in a folder below the mesh's."""
    folder, slash, _ = library.replace("\\", "/").rpartition("/")
    return f"{folder}{slash}{name}"


def _said(words: str, folder: Folder) -> str:
    """What a line says after its keyword, without a comment, unless there is a file of that whole name (``skin #2.png``)."""
    return words if folder.find(words) is not None else _COMMENT.sub("", words)


def _mapped(material: Material, rest: str, folder: Folder) -> Material:
    """A material with the texture of a ``map_Kd`` line."""
    rest = _said(rest, folder)
    if folder.find(rest) is not None:
        return replace(material, texture=rest)
    words = rest.split(" ")
    placed: dict[str, list[float]] = {}
    at = 0
    while at < len(words) - 1 and (words[at].lower() in OPTIONS or words[at].lower() in PLACED or not words[at]):
        option = words[at].lower()
        at += 1 + OPTIONS.get(option, 0)
        while option in PLACED and len(placed.setdefault(option, [])) < 3 and at < len(words) - 1:
            number = _floats(words[at])
            if not words[at]:
                at += 1
                continue
            if number is None:
                break
            placed[option] += number
            at += 1
    scale, offset = placed.get("-s", []), placed.get("-o", [])
    return replace(
        material,
        texture=" ".join(words[min(at, len(words) - 1) :]).strip(),
        scale=(scale[0] if scale else 1.0, scale[1] if len(scale) > 1 else 1.0),
        offset=(offset[0] if offset else 0.0, offset[1] if len(offset) > 1 else 0.0),
    )


def _floats(text: str) -> list[float] | None:
    try:
        return [float(word) for word in text.split("#")[0].split()] or None
    except ValueError:
        return None


def named(materials: dict[str, Material], name: str) -> Material | None:
    """The material of a ``usemtl`` line, perhaps with a comment behind it; None where there is none of that name."""
    for spelling in (name, name.split(" #")[0].strip()):
        if spelling in materials:
            return materials[spelling]
    alike = [
        material for known, material in materials.items() if readable(known).casefold() == readable(name).casefold()
    ]
    return alike[0] if len(alike) == 1 else None
