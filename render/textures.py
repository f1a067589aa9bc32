"""Materials and textures that mesh files name: from below the file's own folder only, and no larger than a picture may be."""

from __future__ import annotations

import io
import logging
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from trimesh.resolvers import Resolver

MAX_BYTES = 256 * 2**20
MAX_PIXELS = 64_000_000
SIDE = 1024
"""Textures are reduced to this many pixels a side: finer ones than the pixels of a view would flicker."""
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM")

log = logging.getLogger(__name__)


class Folder(Resolver):  # type: ignore[misc]  # untyped
    """Gives trimesh the material and texture files that a mesh names.

    A name that leads out of the mesh's folder (``../``, an absolute path, a link) is never opened: the file of that name in
    the folder itself is taken where there is one, as after a move from another machine. What cannot be had is logged, and the
    specimen is drawn without it.
    """

    def __init__(self, mesh: Path) -> None:
        self.mesh = mesh
        self.root = mesh.parent.resolve()
        self.file_name = mesh.name

    def get(self, key: str) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: it is not there, not below the folder, or unfit.
        """
        path = self.find(str(key))
        if path is None:
            raise self._without(key, "it is not in the mesh's folder")
        if path.stat().st_size > MAX_BYTES:
            raise self._without(key, "it is too large")
        data = path.read_bytes()
        if path.suffix.lower() != ".mtl":
            try:
                with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                    pixels = image.width * image.height
            except Exception as error:  # noqa: BLE001  Pillow raises whatever its parsers trip over
                raise self._without(key, f"it is no picture that can be read ({error})") from None
            if pixels > MAX_PIXELS:
                raise self._without(key, f"it has {pixels:,} pixels")
        return data

    def pixels(self, key: str) -> NDArray[np.uint8] | None:
        """A texture as `texture_pixels` gives it; None where it cannot be had."""
        try:
            with Image.open(io.BytesIO(self.get(key)), formats=FORMATS) as image:
                return texture_pixels(image)
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001  Pillow raises whatever its parsers trip over
            self._without(key, f"it is damaged ({error})")
            return None

    def find(self, key: str) -> Path | None:
        """The file of that name below the folder, or None."""
        written = PureWindowsPath(key.strip().strip('"'))  # takes both kinds of slashes
        for candidate in (Path(*written.parts) if not written.anchor else None, Path(written.name)):
            if candidate is None or not candidate.name or "\0" in str(candidate):
                continue
            path = (self.root / candidate).resolve()
            if path.is_relative_to(self.root) and path.is_file():
                return path
        return None

    def keys(self) -> list[str]:
        """The files of the folder itself."""
        return [path.name for path in self.root.iterdir()]

    def namespaced(self, namespace: str) -> Folder:
        """A folder below is reached by its files' names; this gives the folder itself."""
        return self

    def write(self, name: str, data: Any) -> None:
        """Nothing is ever written."""
        raise PermissionError(name)

    def _without(self, key: str, why: str) -> FileNotFoundError:
        log.warning("%s: is drawn without %r: %s", self.mesh, str(key)[:120], why)
        return FileNotFoundError(key)


def texture_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """A texture as sRGB, [h, w, 3], reduced to at most `SIDE` pixels a side."""
    image.draft("RGB", (SIDE, SIDE))
    rgb = image.convert("RGB")
    rgb.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    return np.array(rgb, np.uint8)
