"""What is odd about pictures reaches the run: each kind once on the screen, all by file in its folder, nothing as it was said."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile
from commands import start
from pictures import write_dataset
from PIL import ExifTags, Image
from scenes import saved, scene

CAPTURE = "250918092555_300"


def twice_oriented() -> bytes:
    """A JPEG whose EXIF has two values for the orientation, of which Pillow warns."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 1
    data = saved(scene(96, 64), "JPEG", exif=exif.tobytes())
    entry = b"\x12\x01\x03\x00\x01\x00\x00\x00"
    other = b"\x01\x12\x00\x03\x00\x00\x00\x01"
    assert entry in data or other in data
    return data.replace(entry, entry[:4] + b"\x02" + entry[5:]).replace(other, other[:7] + b"\x02")


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    made = write_dataset(tmp_path, {CAPTURE: 5})
    folder = tmp_path / "images" / CAPTURE
    for number in (2, 3):
        (folder / f"{CAPTURE}_{number:04d}.jpg").write_bytes(twice_oriented())
    floats = (np.random.default_rng(0).random((64, 96, 5)) * 65535).astype(np.uint16)
    tifffile.imwrite(
        folder / f"{CAPTURE}_0004.jpg", floats, planarconfig="contig", photometric="minisblack", metadata=None
    )
    return made


def ingest(*more: str) -> subprocess.CompletedProcess[str]:
    options = ("--model", "efficientnet_lite0", "--uri", "outcrop.db", "--json", *more)
    process = start("ingest", "dataset", "jamshill_image", *options, PYTHONWARNINGS="always")
    out, err = process.communicate(timeout=240)
    return subprocess.CompletedProcess([], process.returncode, out, err)


@pytest.mark.slow
def test_each_kind_is_said_once_and_kept_by_file(registry: Path) -> None:
    loud = ingest()
    assert loud.returncode == 0, loud.stderr
    said = [line for line in loud.stderr.splitlines() if "tag 274" in line or "5 bands" in line]
    assert len(said) == 2
    assert any("and 1 more: Metadata Warning, tag 274" in line for line in said)
    assert any(line.startswith(f"{CAPTURE}_0004.jpg: it has 5 bands") for line in said)
    assert "Warning: " not in loud.stderr and "site-packages" not in loud.stderr
    record = json.loads(loud.stdout)
    kept = [json.loads(line) for line in (Path(record["failures"]).parent / "remarks.jsonl").read_text().splitlines()]
    assert sorted(Path(one["path"]).name for one in kept) == [f"{CAPTURE}_{n:04d}.jpg" for n in (2, 3, 4)]
    assert all(one["key"].startswith("image/jamshill_image/") and one["remarks"] for one in kept)
    quiet = ingest("--quiet", "--force")
    assert (quiet.returncode, quiet.stderr) == (0, "")
