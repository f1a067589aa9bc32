"""Small aerial datasets for the tests: colourful pictures that are cheap to make and easy to tell apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, width: int = 320, height: int = 240, *, edges: bool = False) -> Image.Image:
    """A patchwork of smooth colours: the same for the same seed, different for another.

    With `edges` it is sharp. A grid of edges is what EfficientNet-Lite0 sees of every such picture, and a copy with another JPEG
    quality is then less alike than another picture, whatever the fit.
    """
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    fine = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    size = (width, height)
    patches = fine.resize(size, Image.Resampling.NEAREST if edges else Image.Resampling.BICUBIC)
    return Image.blend(coarse.resize(size, Image.Resampling.BICUBIC), patches, 0.35)


def write_dataset(
    folder: Path, captures: dict[str, int], *, name: str = "jamshill_image", root: str = "images", seed: int = 0
) -> Path:
    """Writes pictures and a registry laid out as aerial teams keep them; returns the registry's path."""
    number = seed * 10_000
    for capture, frames in captures.items():
        (folder / root / capture).mkdir(parents=True, exist_ok=True)
        for frame in range(1, frames + 1):
            number += 1
            picture(number).save(folder / root / capture / f"{capture}_{frame:04d}.jpg", quality=90)
    registry = folder / "data_key.json"
    known = json.loads(registry.read_text()) if registry.exists() else {"datasets": {}}
    known["datasets"][name] = {
        "root": root,
        "folder_template": "{capture_id}",
        "filename_template": "{capture_id}_{frame:04d}.jpg",
        "images": captures,
    }
    registry.write_text(json.dumps(known, ensure_ascii=False), encoding="utf-8")
    return registry
