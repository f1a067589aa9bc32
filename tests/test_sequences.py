"""Long sequences whose members are made when they are asked for, and listings of many files that are such sequences."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from outcrop.ingest import dataset as datasets
from outcrop.ingest.sharding import share
from outcrop.ingest.sources import Alike, Listing, count_of
from outcrop.schema import any_files, frames
from outcrop.schema.naming import Naming
from outcrop.schema.registry import Dataset
from outcrop.schema.sequences import Chosen, Joined, Made
from outcrop.schema.shards import Shard

MANY = 20_000
BYTES = {"template": 24, "any": 160}
"""What a file may take until its source is made; a name as text is 60 bytes."""


def test_members_are_made_when_they_are_asked_for() -> None:
    asked: list[int] = []

    def made(number: int) -> str:
        asked.append(number)
        return str(number)

    three = Made(range(3), made)
    joined = Joined(three, [], ["x"], three)
    assert len(joined) == 7 and asked == []
    assert (joined[0], joined[3], joined[-1], joined[4]) == ("0", "x", "2", "0") and asked == [0, 2, 0]
    assert list(joined) == ["0", "1", "2", "x", "0", "1", "2"] == list(joined[:])
    assert list(joined[2:5][1:]) == ["x", "0"] and len(joined[9:]) == 0
    assert list(Chosen(joined, [6, 3])) == ["2", "x"] and not Joined() and "x" in joined
    for place in (7, -8):
        with pytest.raises(IndexError):
            joined[place]


@pytest.mark.parametrize(
    "template, names",
    [
        ("{capture_id}_{frame:04d}.jpg", {"a_300_0012.jpg": 12, "a_300_12.jpg": None, "a_300_12345.jpg": 12345}),
        ("{frame}/{label}.{frame:03d}.JPG", {"7/x.007.JPG": None, "100/x.100.JPG": 100, "100/x.100.jpg": None}),
        ("R{frame:2}x.tif", {"R 7x.tif": None, "R17x.tif": 17, "R٣x.tif": None}),
    ],
)
def test_names_of_a_template(template: str, names: dict[str, int | None]) -> None:
    known = Dataset(root=".", filename_template=template, images={"a_300": {"label": "x"}})  # type: ignore[dict-item]
    naming = Naming.of(known, "a_300")
    assert {name: naming.number(name) for name in names} == names
    for number in (0, 7, 12345):
        assert naming.name(number) == known.filename("a_300", number).as_posix()
        assert naming.alike(naming.name(number).upper()) in (number, None)


def template(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Listing]:
    """A capture of the registry with many files."""
    (folder / "d/a_300").mkdir(parents=True)
    monkeypatch.setattr(frames, "names_at", lambda folder, depth: [f"a_300_{n:04d}.jpg" for n in range(MANY)])
    registry = folder / "data_key.json"
    registry.write_text('{"datasets": {"d": {"root": "d", "images": {"a_300": "all"}}}}')
    return lambda: datasets.list_dataset(registry, "d", folder)


def anything(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Listing]:
    """A folder as it stands, with many files."""
    monkeypatch.setattr(
        any_files, "walk", lambda root, onerror: iter([(root, [], [f"DJI_{n:05d}.JPG" for n in range(MANY)])])
    )
    return lambda: datasets.list_folder(folder, "d")


KINDS = {"template": template, "any": anything}


def bytes_held(kind: str, folder: Path) -> int:
    """What a listing of many files and one share of it take; for a process without other threads, whose memory would count."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        listed = KINDS[kind](folder, monkeypatch)
        share(listed(), Shard(1, 4))  # Python's table of names grows once
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        listing = listed()
        kept = listing, share(listing, Shard(1, 4))
        assert kept[0].expected == MANY
        return tracemalloc.get_traced_memory()[0] - before


@pytest.mark.parametrize("kind", ["template", "any"])
def test_a_listing_of_many_files_holds_little(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys, pathlib, test_sequences as t; print(t.bytes_held(sys.argv[1], pathlib.Path(sys.argv[2])))"
    (tmp_path / "apart").mkdir()
    held = int(
        subprocess.check_output(
            [sys.executable, "-c", code, kind, tmp_path / "apart"],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        )
    )
    assert held < BYTES[kind] * MANY, f"{held / MANY:.0f} bytes a file"
    listing = KINDS[kind](tmp_path, monkeypatch)()
    part = share(listing, Shard(1, 4))
    assert listing.expected == MANY
    assert isinstance(listing.sources, Alike) and 0.2 * MANY < part.expected == count_of(part.sources) < 0.3 * MANY
    keys = {source.wanted[0].item.key for source in (*listing.sources[:2], listing.sources[-1])}
    capture = "a_300" if kind == "template" else "d"
    assert keys == {f"image/d/{capture}/{number:04d}" for number in (0, 1, MANY - 1)}
