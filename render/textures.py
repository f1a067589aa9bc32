"""Textures that mesh files name: from below the file's own folder only, and no larger than a picture may be."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path, PureWindowsPath

import numpy as np
from PIL import Image

from outcrop.render.polygons import Bytes
from outcrop.render.text import readable, spellings
from outcrop.schema.errors import MeshError
from outcrop.schema.pngs import PNG_START, png_damage

MAX_BYTES = 256 * 2**20
MAX_PIXELS = 64_000_000
SIDE = 1024
"""Textures are reduced to this many pixels a side: finer ones than the pixels of a view would flicker."""
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "TGA")


class _Unfit(Exception):
    """Why a file cannot be had."""


class Folder:
    """The material and texture files beside a mesh. Names are those of `outcrop.render.text.text_of`, in any encoding.

    A name that leads out of the mesh's folder (``../``, an absolute path, a link) is never opened: the file of that name in
    the folder itself is taken where there is one, as after a move from another machine. Upper and lower case count as the same
    where exactly one file fits. What cannot be had is noted in `remarks`, and the specimen is drawn without it.
    """

    def __init__(self, mesh: Path) -> None:
        self.mesh, self.root = mesh, mesh.parent.resolve()
        self.remarks: list[str] = []

    def read(self, key: str) -> bytes | None:
        """The bytes of a file; None, with a remark, where it cannot be had."""
        try:
            return self._bytes(key)
        except _Unfit as unfit:
            self.note(key, str(unfit))
        return None

    def pixels(self, key: str) -> Bytes | None:
        """A texture as sRGB, [h, w, 3], reduced to at most `SIDE` pixels a side; None, with a remark, where it cannot be had."""
        try:
            return _decoded(self._bytes(key))
        except _Unfit as unfit:
            self.note(key, str(unfit))
        return None

    def decoded(self, data: bytes, name: str) -> Bytes | None:
        """A texture inside of the mesh file as `pixels` gives it; `name` is what a remark calls it."""
        try:
            return _decoded(data)
        except _Unfit as unfit:
            self.note(name, str(unfit))
        return None

    def required(self, key: str) -> bytes:
        """The bytes of a file without which there is no mesh.

        Raises:
            MeshError: it cannot be had.
        """
        try:
            return self._bytes(key)
        except _Unfit as unfit:
            raise MeshError(
                f"{self.mesh}: needs the file {readable(key)[:120]!r}: {unfit}; put it beside the mesh"
            ) from None

    def _bytes(self, key: str) -> bytes:
        path = self.find(key)
        if path is None:
            raise _Unfit("it is not in the mesh's folder")
        try:
            if path.stat().st_size > MAX_BYTES:
                raise _Unfit("it is too large")
            return path.read_bytes()
        except OSError as error:
            raise _Unfit(f"it cannot be read ({error.strerror})") from None

    def find(self, key: str) -> Path | None:
        """The file of that name below the folder, or None."""
        for spelling in spellings(key.strip().strip("\"'")):
            written = PureWindowsPath(spelling)  # takes both kinds of slashes
            for parts in (() if written.anchor else written.parts, (written.name,)):
                path = self._below(parts)
                if path is not None and path.is_relative_to(self.root) and path.is_file():
                    return path
        return None

    def _below(self, parts: tuple[str, ...]) -> Path | None:
        """The path with these parts, each as the disk spells it; links are followed."""
        if not parts or any("\0" in part for part in parts):
            return None
        path = self.root
        for part in parts:
            if part == "..":
                path = path.parent
                continue
            exact = path / part
            try:
                alike = [] if exact.exists() else [p for p in path.iterdir() if _folded(p.name) == _folded(part)]
            except (OSError, ValueError):
                return None
            if not alike:
                path = exact
            elif len(alike) == 1:
                path = alike[0]
            else:
                return None
        return path.resolve()

    def note(self, key: str, why: str) -> None:
        """Notes that the specimen is drawn without a file, and why."""
        self.remarks.append(f"is drawn without {readable(key)[:120]!r}: {why}")


def _decoded(data: bytes) -> Bytes:
    """A texture's pixels, of no more than can be read."""
    if data.startswith(PNG_START) and (damage := png_damage(data)):
        raise _Unfit(f"it is damaged ({damage})")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # Pillow raises whatever its parsers trip over
        raise _Unfit(f"it is not a picture that can be read ({error})") from error
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise _Unfit(f"it has {image.width * image.height:,} pixels")
        try:
            return texture_pixels(image)
        except Exception as error:
            raise _Unfit(f"it is damaged ({error})") from error


def _folded(name: str) -> str:
    """A name without its case and its form of Unicode."""
    return unicodedata.normalize("NFC", name).casefold()


def texture_pixels(image: Image.Image) -> Bytes:
    """A picture as sRGB, [h, w, 3], reduced to at most `SIDE` pixels a side; 16 bits and floating point are scaled to 8."""
    image.draft("RGB", (SIDE, SIDE))
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bits(np.asarray(image), image.mode))
    rgb = image.convert("RGB")
    rgb.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    return np.array(rgb, np.uint8)


def _eight_bits(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]], mode: str) -> Bytes:
    numbers = np.nan_to_num(values.astype(np.float64))
    top = float(numbers.max(initial=0))
    levels = 65535 if mode.startswith("I;16") else next((most for most in (1, 255, 65535) if top <= most), top)
    if mode == "I" and levels == 1:
        levels = 255
    return np.rint(np.clip(numbers * (255 / levels), 0, 255)).astype(np.uint8)
