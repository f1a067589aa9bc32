"""``gs://`` and ``az://`` against emulators of Google's and Azure's stores: paths, a dataset, an export, a missing bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from other_stores import KEY, emulator, why_not
from pictures import write_dataset
from s3_server import upload

from outcrop.schema import objects
from outcrop.schema.errors import PlaceUnusable
from outcrop.schema.files import whole_file
from outcrop.schema.filters import Filter
from outcrop.schema.objects import ObjectPath
from outcrop.schema.places import place, walk
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

MODEL = ("--model", "efficientnet_lite0")


@pytest.fixture(scope="module", params=["gs", "az"])
def store(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, str]]]:
    """The scheme of a running emulator, and the environment that leads to it."""
    if reason := why_not(request.param):
        pytest.skip(f"no emulator of {request.param}://: {reason}")
    with emulator(request.param) as environment:
        yield request.param, dict(environment)


@pytest.fixture
def bucket(store: tuple[str, dict[str, str]], name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectPath]:
    """An empty bucket."""
    scheme, environment = store
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(objects, "PAUSE", 0.01)
    objects._file_system.cache_clear()
    objects._files(f"{scheme}:").mkdir(name.replace("_", "-"))
    made = place(f"{scheme}://{name.replace('_', '-')}")
    assert isinstance(made, ObjectPath)
    yield made
    objects._file_system.cache_clear()


def test_objects_are_listed_read_written_and_removed_as_files_are(bucket: ObjectPath, tmp_path: Path) -> None:
    for source in ("a/b/one.txt", "a/two.txt", "three.txt"):
        (tmp_path / "here").write_text(source)
        (bucket / source).put(tmp_path / "here")
    assert bucket.is_dir() and (bucket / "a").is_dir() and not (bucket / "a").is_file()
    assert (bucket / "a/two.txt").is_file() and not (bucket / "absent").exists()
    found = {str(at.relative_to(bucket)): (sorted(folders), sorted(names)) for at, folders, names in walk(bucket)}
    assert found == {".": (["a"], ["three.txt"]), "a": (["b"], ["two.txt"]), "a/b": ([], ["one.txt"])}
    path = bucket / "a/two.txt"
    assert path.read_text() == "a/two.txt" == path.open().read() and path.stat().st_size == 9
    listed = next(at / name for at, _, names in walk(bucket) for name in names if name == "two.txt")
    before = listed.stat().st_mtime_ns
    assert before == path.stat().st_mtime_ns, "an object has one state, listed or asked for"
    with whole_file(path) as file:
        file.write_text("other-txt")
    assert path.read_text() == "other-txt" and path.stat().st_mtime_ns != before
    with pytest.raises(RuntimeError), whole_file(path) as file:
        file.write_text("half")
        raise RuntimeError
    path.unlink()
    assert sorted(each.name for each in bucket.rglob("*")) == ["one.txt", "three.txt"], "nothing half-written is left"
    with pytest.raises(FileNotFoundError):
        path.read_bytes()


def test_a_dataset_and_an_export_in_a_bucket(
    bucket: ObjectPath, tmp_path: Path, lite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "photographs"
    here.mkdir()
    write_dataset(here, {"a_300": 3}, name="town", root="town")
    upload(here, bucket)
    assert ingest(bucket).json["embedded"] == 3
    ours, theirs = stored(lite), {}
    assert ingest(here, "--uri", tmp_path / "here.db").json["embedded"] == 3
    theirs = stored(str(tmp_path / "here.db"))
    assert ours.keys() == theirs.keys()
    for key, (row, vector) in ours.items():
        assert row["uri"] == str(bucket / "town" / row["source"]) and np.array_equal(vector, theirs[key][1])
    first, second, _ = sorted(bucket.rglob("*.jpg"))
    with whole_file(first) as file:
        file.write_bytes(second.read_bytes())
    again = ingest(bucket).json
    assert (again["embedded"], again["unchanged"]) == (1, 2)
    exported = run("collection", "export", "outcrop", bucket / "exports/rows.parquet", "--json")
    assert (exported.code, exported.json["rows"]) == (0, 3), exported.err
    back = run("collection", "import", bucket / "exports/rows.parquet", "--to", "back", "--json")
    assert (back.code, back.json["rows"]) == (0, 3), back.err
    assert not [each for each in bucket.rglob("*") if each.name.endswith(".part")]


def ingest(root: Path, *more: object) -> Any:
    done = run("ingest", "dataset", "town", "--registry", root / "data_key.json", *MODEL, "--json", *more)
    assert done.code == 0, done.err
    return done


def stored(uri: str) -> dict[str, tuple[dict[str, Any], Any]]:
    with Store.connect(uri) as opened:
        pages = Collection.open(opened, "outcrop").scan_rows(Filter(), ["*"])
        rows = [row for page in pages for row in page]
    return {row["key"]: (row, np.asarray(row.pop("vector"), dtype=np.float32)) for row in rows}


def test_what_cannot_be_written_is_said_without_the_key(bucket: ObjectPath, tmp_path: Path) -> None:
    absent = place(f"{bucket.parts[0]}//no-such-bucket-here/x.txt")
    with pytest.raises(PlaceUnusable, match=r"there is no .*no-such-bucket-here") as raised, whole_file(absent) as file:
        file.write_text("x")
    assert KEY not in str(raised.value)
