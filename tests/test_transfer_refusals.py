"""Export and import of what is damaged, foreign or too much: it is refused, and nothing is ever half-written."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import Outcome
from moving import (
    DIM,
    FORMATS,
    OTHER,
    SPACE,
    collection,
    content,
    content_of,
    done,
    items,
    make,
    names,
    odd_items,
    unit,
)
from numpy.typing import NDArray

from outcrop.schema.errors import InputError
from outcrop.schema.files import whole_file
from outcrop.schema.item import image_key
from outcrop.store.collection import Collection
from outcrop.store.connection import Store
from outcrop.store.maintenance import drop
from outcrop.store.transfer import import_parquet

# -- what must not be written ------------------------------------------------------------------------------------------


def test_export_refuses(lite: str, name: str) -> None:
    make(lite, name, items(5))
    Path("there.parquet").write_text("mine")
    assert "--force" in collection("export", name, "there.parquet").error(3)
    assert Path("there.parquet").read_text() == "mine"
    assert done("export", name, "there.parquet", "--force")["rows"] == 5
    assert "one of .parquet" in collection("export", name, "x.xlsx").error(3)
    assert "does not exist" in collection("export", name, "no/x.parquet").error(3)
    Path("folder.parquet").mkdir()
    assert "folder" in collection("export", name, "folder.parquet", "--force").error(3)
    assert "did you mean 'altitude'" in collection("export", name, "y.parquet", "--where", "altitud=1").error(3)
    assert sorted(os.listdir()) == ["folder.parquet", "outcrop.db", "there.parquet"]


def nothing_written(uri: str, file: str, *more: object, code: int = 3) -> str:
    """Imports into a new collection, and says the error; there must be none afterwards."""
    before = names(uri)
    line = collection("import", file, "--to", "fresh", *more).error(code)
    assert names(uri) == before, "a collection was made for a file that cannot be read"
    assert file in line
    return line


@pytest.mark.slow
def test_import_of_a_damaged_parquet_file(lite: str, name: str) -> None:
    """Whatever byte is wrong: it is refused before anything is written, or it did no harm."""
    make(lite, name, odd_items(60))
    done("export", name, "x.parquet")
    good, stored = Path("x.parquet").read_bytes(), content(lite, name)
    rng = random.Random(1)
    for length in (0, 3, 4, 100, len(good) // 2, len(good) - 9, len(good) - 1):
        Path("bad.parquet").write_bytes(good[:length])
        nothing_written(lite, "bad.parquet")
    harmless = 0
    with Store.connect(lite) as store:
        for _ in range(80):
            bad = bytearray(good)
            place = rng.randrange(len(bad))
            bad[place] ^= 1 << rng.randrange(8)
            Path("bad.parquet").write_bytes(bad)
            try:
                import_parquet(store, Path("bad.parquet"), "fresh")
            except InputError as error:
                assert "bad.parquet" in str(error)
                assert len(store.client.list_collections()) == 1, f"byte {place} let something be written"
            else:
                harmless += 1
                fresh = Collection.open(store, "fresh")
                assert content_of(fresh) == stored, f"byte {place} changed what was imported"
                drop(fresh)
    assert harmless < 30, "hardly any damage is seen"
    assert content(lite, name) == stored


def test_import_of_a_foreign_parquet_file(lite: str, name: str) -> None:
    pq.write_table(pa.table({"id": [1, 2], "vector": [[0.1], [0.2]]}), "foreign.parquet")
    assert "not an export of Outcrop" in nothing_written(lite, "foreign.parquet")
    Path("text.parquet").write_text("no parquet at all, but long enough to be read as one PAR1")
    assert "not a readable Parquet file" in nothing_written(lite, "text.parquet")
    assert "no file" in nothing_written(lite, "nowhere.parquet")
    Path("folder.parquet").mkdir()
    nothing_written(lite, "folder.parquet")


def rewritten(table: pa.Table, file: str, **columns: pa.Array | None) -> str:
    """The file with other columns (None = left out), and the same promises in its metadata."""
    metadata = table.schema.metadata
    for column, values in columns.items():
        place = table.column_names.index(column)
        table = table.remove_column(place)
        if values is not None:
            table = table.add_column(place, column, values)
    pq.write_table(table.replace_schema_metadata(metadata), file)
    return file


def test_import_of_wrong_columns(lite: str, name: str) -> None:
    make(lite, name, items(3))
    done("export", name, "x.parquet")
    table = pq.read_table("x.parquet")
    texts = pa.array(["a", "b", "c"])
    assert "'frame' is missing" in nothing_written(lite, rewritten(table, "a.parquet", frame=None))
    assert "'frame' is missing or is not of type" in nothing_written(lite, rewritten(table, "b.parquet", frame=texts))
    short = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(24, np.float32)), 8)
    assert "'vector'" in nothing_written(lite, rewritten(table, "c.parquet", vector=short))
    zero = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(3 * DIM, np.float32)), DIM)
    assert "length 0" in nothing_written_plain(lite, rewritten(table, "d.parquet", vector=zero))
    assert "not a valid item" in nothing_written(lite, rewritten(table, "e.parquet", kind=texts))
    assert "not a valid item" in nothing_written(lite, rewritten(table, "f.parquet", extra=texts))
    assert "gaps" in nothing_written(lite, rewritten(table, "g.parquet", key=pa.array(["a", None, "c"])))
    long = pa.array(["x" * 2000] * 3)
    assert "longer than" in nothing_written_plain(lite, rewritten(table, "h.parquet", source=long))
    assert "declares 3" in nothing_written(lite, rewritten(table.slice(0, 2), "i.parquet"))


def nothing_written_plain(uri: str, file: str) -> str:
    """As `nothing_written`, where the message names the item instead of the file."""
    before = names(uri)
    line = collection("import", file, "--to", "fresh").error(3)
    assert names(uri) == before
    return line


def test_import_into_another_space(uri: str, name: str) -> None:
    make(uri, name, items(10))
    make(uri, f"{name}_other", items(3), OTHER)
    before = content(uri, f"{name}_other")
    for file in FORMATS:
        done("export", name, file, "--force")
        assert OTHER.fingerprint[:8] in collection("import", file, "--to", f"{name}_other").error(6)
    assert content(uri, f"{name}_other") == before
    assert "not a valid collection name" in collection("import", "x.parquet", "--to", "a b").error(3)
    assert "physical name" in collection("import", "x.parquet", "--to", "x__12345678").error(3)


def test_import_dry_run(lite: str, name: str) -> None:
    make(lite, name, items(10))
    done("export", name, "x.parquet")
    before = names(lite)
    report = done("import", "x.parquet", "--to", f"{name}_2", "--dry-run")
    assert report == {"rows": 10, "to": f"{name}_2", "space": SPACE.fingerprint, "dry_run": True}
    assert names(lite) == before


def test_import_into_the_collection_that_is_named_either_way(lite: str, name: str) -> None:
    make(lite, name, items(3))
    done("export", name, "x.parquet")
    table = pq.read_table("x.parquet")
    rewritten(table.append_column("surveyor", pa.array(["a", "b", "c"])), "y.parquet")
    said = collection("import", "y.parquet", "--collection", f"{name}_2")
    assert said.code == 0 and "column 'surveyor' is not read" in said.err
    assert len(content(lite, f"{name}_2")) == 3


# -- arrays from elsewhere ---------------------------------------------------------------------------------------------


def test_arrays_from_elsewhere(uri: str, name: str) -> None:
    """Vectors of another tool, not normalised, with nothing but their keys."""
    make(uri, name, items(3))
    vectors = (unit(8) * np.arange(1, 9)[:, None]).astype(np.float64)
    keys = [
        "image/far/c_200/0007",
        "reference/far/c/0001/rot030/crop02",
        "view/f/Mollusca/Gastropoda/s1/03",
        "specimen/f/Mollusca/s1",
    ]
    keys += [image_key("far %/away", "c", n) for n in range(4)]
    np.save("far.npy", vectors)
    Path("far.ids.txt").write_text("\n".join(keys) + "\n")
    assert "--space-of" in collection("import", "far.npy", "--to", f"{name}_far").error(3)
    assert done("import", "far.npy", "--to", f"{name}_far", "--space-of", name)["rows"] == 8
    found = {
        item.key: (item, np.frombuffer(vector, np.float32)) for item, vector in content(uri, f"{name}_far").values()
    }
    assert set(found) == set(keys)
    for key, vector in zip(keys, unit(8), strict=True):
        assert np.allclose(found[key][1], vector, atol=1e-6)
    view, reference = found[keys[2]][0], found[keys[1]][0]
    assert (view.category, view.capture_id, view.view) == ("Mollusca/Gastropoda", "s1", 3)
    assert (reference.rotation, reference.crop, reference.frame) == (30.0, 2, 1)
    assert found[keys[5]][0].dataset == "far %/away"


def test_arrays_that_do_not_fit(lite: str, name: str) -> None:
    make(lite, name, items(3))
    good = unit(4)
    keys = [image_key("far", "c", n) for n in range(4)]

    def attempt(vectors: NDArray[Any], lines: list[str], said: str) -> None:
        np.save("far.npy", vectors)
        Path("far.ids.txt").write_text("\n".join(lines) + "\n")
        before = names(lite)
        assert said in collection("import", "far.npy", "--to", "fresh", "--space-of", name).error(3)
        assert names(lite) == before

    attempt(good[:, :8], keys, "shape [4, 8]")
    attempt(good[0], keys, "shape [16]")
    attempt(good, keys[:3], "need [3, 16]")
    attempt(good, [keys[0], *keys[:3]], "twice")
    attempt(good, ["a/b/c", *keys[1:]], "is not a valid key")
    bad = good.copy()
    bad[2] = 0
    attempt(bad, keys, "zero or not finite")
    bad[2] = np.nan
    attempt(bad, keys, "zero or not finite")
    attempt(np.array([["x"] * DIM] * 4), keys, "cannot be read")

    np.save("far.npy", good)
    Path("far.ids.txt").write_text("\n".join(keys))
    whole = Path("far.npy").read_bytes()
    for part_of in (whole[:-3], whole[:50], b"", b"\x93NUMPY garbage"):
        Path("far.npy").write_bytes(part_of)
        nothing_written(lite, "far.npy", "--space-of", name)
    Path("far.faiss").write_bytes(b"IxFI" + os.urandom(60))
    nothing_written(lite, "far.faiss", "--space-of", name)
    Path("far.ids.txt").unlink()
    Path("far.npy").write_bytes(whole)
    assert "far.ids.txt" in collection("import", "far.npy", "--to", "fresh", "--space-of", name).error(3)
    assert "did you mean" in collection("import", "far.npy", "--space-of", name[:-1]).error(3)


def test_damaged_companions_of_arrays(lite: str, name: str) -> None:
    make(lite, name, items(4))
    done("export", name, "x.npy")
    lines = Path("x.items.jsonl").read_text().split("\n")
    Path("x.items.jsonl").write_text("\n".join([lines[1], lines[0], *lines[2:]]))
    assert "name different items" in collection("import", "x.npy", "--to", "fresh").error(3)
    Path("x.items.jsonl").write_text("\n".join(lines)[:-40])
    assert "x.items.jsonl" in collection("import", "x.npy", "--to", "fresh").error(3)
    Path("x.items.jsonl").write_text("\n".join(lines))
    Path("x.space.json").write_text('{"model": "x"}')
    assert "states no embedding space" in collection("import", "x.npy", "--to", "fresh").error(3)
    assert len(names(lite)) == 1


# -- a full disk -------------------------------------------------------------------------------------------------------

LIMITED = """
import resource, sys
from outcrop.operate.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), -1))
sys.argv = ["collection", *sys.argv[2:]]
main()
"""


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[bool]:
    """A file system of this size at `folder`, where this machine lets us have one."""
    folder.mkdir()
    mounted = False
    with contextlib.suppress(OSError):
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)


def test_export_to_a_full_disk(lite: str, name: str, tmp_path: Path) -> None:
    """No file under the final name, no temporary one beside it, and a line that says why; what was there stays."""
    make(lite, name, items(3000))
    with small_disk(tmp_path / "disk", "128k") as mounted:
        if not mounted:
            pytest.skip("no file system may be mounted here; the test with a limited file size stands in")
        for file in FORMATS:
            target = tmp_path / "disk" / file
            assert "No space left on device" in collection("export", name, target).error(3)
            assert os.listdir(tmp_path / "disk") == []
            target.write_text("the former export")
            assert "No space left on device" in collection("export", name, target, "--force").error(3)
            assert os.listdir(tmp_path / "disk") == [file]
            assert target.read_text() == "the former export"
            target.unlink()
    assert done("export", name, "x.npy")["rows"] == 3000


def test_export_past_a_limit_of_the_file_size(lite: str, name: str) -> None:
    make(lite, name, items(3000))
    Path("out").mkdir()
    for file in FORMATS:
        result = subprocess.run(
            [sys.executable, "-c", LIMITED, "100000", "export", name, f"out/{file}"],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        outcome = Outcome(result.returncode, result.stdout, result.stderr)
        assert "File too large" in outcome.error(3)
        assert os.listdir("out") == []


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "x"
    with pytest.raises(KeyboardInterrupt), whole_file(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []
    with whole_file(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert (os.listdir(tmp_path), target.read_text()) == (["x"], "whole")
