"""Pictures and meshes that people asked with: kept for a while, so that the address of an answer can be sent to a colleague."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path, PurePath

from outcrop.embed.images import decode
from outcrop.render.preflight import ending_of, is_mesh
from outcrop.schema.digests import digest_of
from outcrop.schema.errors import InputError
from outcrop.schema.files import whole_file

MAX_BYTES = 256 * 2**20
"""Of one upload: more than any photograph takes; a mesh is held to it too."""
KEPT_BYTES = 2 * 2**30
"""Of all uploads together; the oldest are forgotten."""
QUALITY = 95
_DIGEST = re.compile(r"[0-9a-f]{32}\Z")

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of an upright picture, as shares of its sides."""


@dataclass(frozen=True)
class Upload:
    """A picture or a mesh that was uploaded: the digest of its bytes, the name it came with, and the file that it is kept in."""

    digest: str
    name: str
    path: Path


class Uploads:
    """The uploaded files in a folder, by the digest of their bytes; any thread may use it. A mesh keeps its ending, which says
    how it is read."""

    def __init__(self, folder: Path, limit: int = KEPT_BYTES) -> None:
        self.folder, self.limit = folder, limit
        self._lock = threading.Lock()

    def keep(self, data: bytes, name: str) -> Upload:
        """Keeps a picture or a mesh (what its name ends in says which) under the last component of the name it came with.

        Raises:
            InputError: it is empty or too large, or cannot be written.
        """
        name = _last_component(name)
        ending = mesh_ending(name)
        what = "mesh" if ending else "picture"
        if not data:
            raise InputError(f"the {what} is empty; choose a file")
        if len(data) > MAX_BYTES:
            raise InputError(f"the {what} has {len(data):,} bytes; it must have at most {MAX_BYTES:,}")
        digest = digest_of(data)
        upload = Upload(digest, name, self.folder / f"{digest}{ending}")
        with self._lock:
            self._write(upload.path, data)
            self._write(self._facts(digest), json.dumps({"name": upload.name}).encode())
            self._forget()
        return upload

    def find(self, digest: str) -> Upload:
        """The picture with this digest.

        Raises:
            InputError: it is not there (any more).
        """
        name = self._name(digest) if _DIGEST.match(digest) else ""
        return self._found(digest, name or "picture", "")

    def mesh(self, digest: str) -> Upload:
        """The mesh with this digest.

        Raises:
            InputError: it is not there (any more).
        """
        name = self._name(digest) if _DIGEST.match(digest) else ""
        return self._found(digest, name, mesh_ending(name) or ".mesh")

    def _found(self, digest: str, name: str, ending: str) -> Upload:
        path = self.folder / f"{digest}{ending}"
        if not _DIGEST.match(digest) or not path.is_file():
            what = "mesh" if ending else "picture"
            raise InputError(f"this {what} is not kept here any more; upload it again")
        with contextlib.suppress(OSError):
            os.utime(path)
        return Upload(digest, name, path)

    def _name(self, digest: str) -> str:
        """The name that an upload came with; '' where that is not known (any more)."""
        try:
            return str(json.loads(self._facts(digest).read_text(encoding="utf-8"))["name"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return ""

    def part(self, upload: Upload, box: Box) -> Upload:
        """A part of an uploaded picture as an upload of its own.

        Raises:
            PictureError: the picture cannot be read. InputError: the part is too small.
        """
        image = decode(upload.path.read_bytes(), name=upload.name).image
        left, top, right, bottom = (
            round(share * side) for share, side in zip(box, (image.width, image.height) * 2, strict=True)
        )
        if right - left < 16 or bottom - top < 16:
            raise InputError(f"the box is {right - left} x {bottom - top} pixels; it must have at least 16 a side")
        made = io.BytesIO()
        image.crop((left, top, right, bottom)).save(made, "JPEG", quality=QUALITY, subsampling=0)
        return self.keep(made.getvalue(), upload.name)

    def _facts(self, digest: str) -> Path:
        return self.folder / f"{digest}.json"

    def _write(self, path: Path, data: bytes) -> None:
        with whole_file(path, durable=False, parents=True) as file:
            file.write_bytes(data)

    def _forget(self) -> None:
        """Removes the uploads that were not used for longest, until the rest is within the limit."""
        found = []
        for path in self.folder.iterdir():
            if path.suffix != ".json" and _DIGEST.match(path.name.partition(".")[0]):
                with contextlib.suppress(OSError):
                    stat = path.stat()
                    found.append((stat.st_mtime_ns, stat.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found)[:-1]:  # never the newest
            if total <= self.limit:
                return
            for each in (path, self._facts(path.name.partition(".")[0])):
                each.unlink(missing_ok=True)
            total -= size


def mesh_ending(name: str) -> str:
    """The ending of a mesh's file name in lower case (``.ply``, ``.obj.gz``, ``.zip``); '' of any other name."""
    path = PurePath(name)
    return ending_of(path) if is_mesh(path) else ""


def _last_component(name: str) -> str:
    """A file's name as browsers send it, without folders and of bounded length."""
    return re.split(r"[/\\]", name)[-1][:200].strip() or "picture"
