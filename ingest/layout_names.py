"""The layouts by name."""

from __future__ import annotations

from pathlib import Path

from outcrop.ingest.fossilvit import FossilVit
from outcrop.ingest.imgmatching import ImgMatching
from outcrop.ingest.layouts import Layout
from outcrop.schema.errors import InputError, nearest

NAMES = ("fossilvit", "imgmatching")


def layout_named(name: str, features: Path | None = None) -> Layout:
    """The layout of a name; `features` is the folder in which features beside the vectors are kept.

    Raises:
        InputError: the name is not that of a layout.
    """
    if name == "fossilvit":
        return FossilVit()
    if name == "imgmatching":
        return ImgMatching(features)
    raise InputError(f"--layout must be {' or '.join(NAMES)}, got {name!r}{nearest(name, NAMES)}")
