"""Object stores: paths that behave as files do, a real S3 server, and what becomes of work when it fails, slows or cuts short."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import meshes
import numpy as np
import pytest
import yaml
from commands import run
from pictures import write_dataset
from s3_server import KEYS, S3Server, upload, why_not

from outcrop.ingest import ahead as reading_ahead
from outcrop.schema import objects
from outcrop.schema.errors import InputError, ObjectsUnavailable, PlaceUnusable
from outcrop.schema.files import whole_file
from outcrop.schema.filters import Filter
from outcrop.schema.objects import ObjectPath, State
from outcrop.schema.places import below, is_remote, names_at, place, walk
from outcrop.schema.settings import Settings, read_settings
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

MODEL = ("--model", "efficientnet_lite0")


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    """A running S3 server."""
    if reason := why_not():
        pytest.skip(f"no S3 server: {reason}")
    running = S3Server()
    yield running
    running.stop()


@pytest.fixture
def s3(server: S3Server, monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[S3Server]:
    """The same without faults, and the environment that leads to it."""
    for variable, value in server.environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(objects, "PAUSE", 0.01)
    objects._file_system.cache_clear()
    server.mend()
    yield server
    server.mend()
    objects._file_system.cache_clear()


@pytest.fixture
def bucket(s3: S3Server, name: str) -> ObjectPath:
    """An empty bucket."""
    objects._files("s3:").mkdir(name.replace("_", "-"))
    made = place(f"s3://{name.replace('_', '-')}")
    assert isinstance(made, ObjectPath)
    return made


@pytest.fixture
def filled(bucket: ObjectPath, tmp_path: Path) -> ObjectPath:
    """A bucket with a few small objects."""
    for source in ("a/b/one.txt", "a/two.txt", "three.txt"):
        (tmp_path / "here").write_text(source)
        (bucket / source).put(tmp_path / "here")
    return bucket


# -- paths -------------------------------------------------------------------------------------------------------------


def test_an_address_is_a_path() -> None:
    path = place("s3://rocks/a/b.jpg")
    assert is_remote(path) and str(path) == "s3://rocks/a/b.jpg" and path.is_absolute() and path.absolute() is path
    assert (path.name, path.suffix, str(path.parent)) == ("b.jpg", ".jpg", "s3://rocks/a")
    assert str(path.parent / "c.jpg") == "s3://rocks/a/c.jpg" and str(path.with_suffix(".png")) == "s3://rocks/a/b.png"
    assert path.relative_to(place("s3://rocks")).as_posix() == "a/b.jpg"
    assert path.is_relative_to(place("s3://rocks/a")) and not path.is_relative_to(place("s3://rock"))
    for again in (
        pickle.loads(pickle.dumps(path)),
        copy.deepcopy(path),
        place(path),
        place(Path("s3://rocks/a/b.jpg")),
    ):
        assert again == path and str(again) == str(path) and is_remote(again)


def test_other_paths_stay_as_they_are() -> None:
    for text in ("photos/a.jpg", "/data/x", "C:/data", "a:b/c", "."):
        assert place(text) == Path(text) and not is_remote(place(text))
    assert place("file:///data/a%20b/x.jpg") == Path("/data/a b/x.jpg")
    assert below(Path("/base"), "x/y") == Path("/base/x/y")
    assert str(below(Path("/base"), "gs://rocks/x")) == "gs://rocks/x"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://", "names no bucket"), ("s3://key:secret@rocks/a", "holds a secret"), ("s3://rocks/../x", "without '..'"),
        ("s3://rocks/a.jpg?versionId=3", "versions of objects are not read"),
    ],
)  # fmt: skip
def test_addresses_that_are_refused(address: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        place(address)
    assert "secret@" not in str(caught.value) and ":secret" not in str(caught.value)


def test_settings_and_options_take_addresses(tmp_path: Path) -> None:
    Path("outcrop.yaml").write_text(yaml.safe_dump({"datasets": "s3://rocks/data", "exports": "az://rocks/exports"}))
    settings = read_settings(registry=Path("gs://rocks/data_key.json"))
    assert [str(each) for each in (settings.registry, settings.datasets_folder, settings.exports)] == [
        "gs://rocks/data_key.json",
        "s3://rocks/data",
        "az://rocks/exports",
    ]
    with pytest.raises(ValueError, match="state must be on a disk"):
        Settings(state=Path("s3://rocks/state"))


def test_the_time_of_an_object_changes_with_its_etag() -> None:
    first, second = (State.of({"size": 3, "ETag": tag, "LastModified": 1_700_000_000.0}) for tag in ("one", "two"))
    assert first.mtime_ns // 10**9 == second.mtime_ns // 10**9 == 1_700_000_000
    assert first != second and first == State.of({"size": 3, "ETag": "one", "LastModified": 1_700_000_000.0})


# -- objects -----------------------------------------------------------------------------------------------------------


def test_objects_are_listed_and_read_as_files_are(filled: ObjectPath) -> None:
    assert filled.is_dir() and (filled / "a").is_dir() and not (filled / "a").is_file()
    assert (filled / "a/two.txt").is_file() and not (filled / "absent").exists()
    assert sorted(str(path.relative_to(filled)) for path in filled.iterdir()) == ["a", "three.txt"]
    found = {str(at.relative_to(filled)): (sorted(folders), sorted(names)) for at, folders, names in walk(filled)}
    assert found == {".": (["a"], ["three.txt"]), "a": (["b"], ["two.txt"]), "a/b": ([], ["one.txt"])}
    assert [name.rpartition("/")[2] for name in names_at(filled, 2)] == ["two.txt"]
    assert sorted(path.name for path in filled.rglob("*.txt")) == ["one.txt", "three.txt", "two.txt"]
    assert [path.name for path in filled.glob("a/*.txt")] == ["two.txt"]
    path = filled / "a/two.txt"
    assert path.read_bytes() == b"a/two.txt" == path.open("rb").read() and path.read_text() == "a/two.txt"
    stat = path.stat()
    assert stat.st_size == 9 and stat.st_mtime_ns // 10**9 == stat.st_ctime_ns // 10**9 > 1_600_000_000
    with pytest.raises(FileNotFoundError):
        (filled / "absent").read_bytes()
    with pytest.raises(ObjectsUnavailable, match="written whole"):
        path.open("w")


def test_what_was_listed_is_not_asked_for_again(filled: ObjectPath, s3: S3Server) -> None:
    paths = [at / name for at, _, names in walk(filled) for name in names]
    s3.mend()
    assert sum(path.stat().st_size for path in paths) == 11 + 9 + 9 and all(path.is_file() for path in paths)
    assert not s3.asked
    assert [path.read_bytes().decode() for path in paths] == [str(path.relative_to(filled)) for path in paths]
    assert s3.asked == {"GET": 3}


def test_large_objects_are_read_in_pieces(bucket: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "IN_MEMORY", 1000)
    monkeypatch.setattr(objects, "PIECE", 700)
    (tmp_path / "here").write_bytes(bytes(range(250)) * 10)
    (bucket / "large").put(tmp_path / "here")
    with (bucket / "large").open("rb") as data:
        assert data.read() == bytes(range(250)) * 10


def test_a_large_object_that_is_replaced_between_its_pieces_is_read_again(
    bucket: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "IN_MEMORY", 10)
    monkeypatch.setattr(objects, "PIECE", 1000)
    here, large = tmp_path / "here", bucket / "large.bin"
    here.write_bytes(b"a" * 3000)
    large.put(here)
    here.write_bytes(b"b" * 3000)
    files = objects._files("s3:")
    piece, pieces = files.cat_file, []

    def replaced(*given: Any, **more: Any) -> bytes:
        found: bytes = piece(*given, **more)
        pieces.append(found)
        if len(pieces) == 1:
            large.put(here)
        return found

    monkeypatch.setattr(files, "cat_file", replaced)
    with large.open("rb") as opened:
        assert opened.read() == b"b" * 3000 and len(pieces) == 6


def test_keys_with_other_signs_are_themselves(bucket: ObjectPath, tmp_path: Path, caplog: Any) -> None:
    """Neither encoded twice nor taken for patterns or versions."""
    names = (
        "a b+c.jpg",
        "a%20b.jpg",
        "a?b#c.jpg",
        "[1]*.jpg",
        "cafe\u0301/caf\u00e9.jpg",
        "back\\slash.jpg",
        " x .jpg",
    )
    for name in names:
        (tmp_path / "here").write_text(name)
        (bucket / name).put(tmp_path / "here")
    objects._files("s3:").pipe_file(f"{bucket._key}/a", b"other")
    found = {str(path.relative_to(bucket)): path.read_text() for path in bucket.rglob("*.jpg")}
    assert found == {name: name for name in names}


def test_an_object_is_written_whole_or_not_at_all(filled: ObjectPath, s3: S3Server) -> None:
    path = filled / "three.txt"
    with whole_file(path) as file:
        file.write_text("new")
    assert path.read_text() == "new"
    with pytest.raises(RuntimeError), whole_file(path) as file:
        file.write_text("half")
        raise RuntimeError
    s3.lose = lambda method, key: method == "PUT" and key.endswith(".part")
    with pytest.raises(PlaceUnusable, match="of 5 bytes arrived"), whole_file(path) as file:
        file.write_text("lost!")
    s3.mend()
    s3.refuse = lambda method, key: method == "PUT"
    with pytest.raises(PlaceUnusable, match="cannot be written"), whole_file(path) as file:
        file.write_text("refused")
    s3.mend()
    assert path.read_text() == "new"
    assert sorted(each.name for each in filled.rglob("*")) == ["one.txt", "three.txt", "two.txt"]


def test_a_bucket_that_is_missing_is_named(filled: ObjectPath) -> None:
    with (
        pytest.raises(PlaceUnusable, match="there is no s3://absent-bucket"),
        whole_file(place("s3://absent-bucket/x")) as file,
    ):
        file.write_text("x")


def test_what_may_pass_is_tried_again(filled: ObjectPath, s3: S3Server) -> None:
    seen: list[str] = []

    def first(method: str, key: str) -> bool:
        seen.append(key)
        return len(seen) == 1

    s3.cut = first
    assert (filled / "three.txt").read_bytes() == b"three.txt" and len(seen) > 1
    s3.cut = lambda method, key: method == "GET"
    with pytest.raises(ObjectsUnavailable):
        (filled / "three.txt").read_bytes()


def test_a_store_that_is_away_is_said_in_one_line(s3: S3Server, monkeypatch: pytest.MonkeyPatch, lite: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(objects, "TRIES", 1)
    done = run("ingest", "images", "s3://rocks/photos", *MODEL)
    assert "127.0.0.1:1" in done.error(3) and KEYS["AWS_SECRET_ACCESS_KEY"] not in done.err


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def absent(scheme: str, **unused: Any) -> None:
        raise ImportError(scheme)

    objects._file_system.cache_clear()
    monkeypatch.setattr(fsspec, "filesystem", absent)
    with pytest.raises(InputError, match=r"az:// needs adlfs: pip install 'outcrop\[objects-az\]'"):
        place("az://rocks/x").exists()
    objects._file_system.cache_clear()


# -- reading ahead -----------------------------------------------------------------------------------------------------


def test_objects_are_read_ahead_side_by_side_within_bounds(
    bucket: ObjectPath, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").write_bytes(b"x" * 100)
    for number in range(12):
        (bucket / f"{number}").put(tmp_path / "here")
    monkeypatch.setattr(reading_ahead, "BYTES", 850)
    listed = [at / name for at, _, names in walk(bucket) for name in names]
    s3.mend()
    s3.slow = lambda method, key: s3.together(6) if method == "GET" else 0.0
    ahead = reading_ahead.Ahead()
    for path in listed:
        ahead.begin(path)
    assert sum(path.coming is not None for path in listed) == 8, "850 bytes have room for 8 objects of 100"
    assert all(path.read_bytes() == b"x" * 100 for path in listed)
    assert s3.asked["GET"] == 12
    ahead.begin(listed[0])
    assert listed[0].coming is not None, "what was taken makes room"
    ahead.close()


# -- an ingest ---------------------------------------------------------------------------------------------------------


def stored(uri: str) -> dict[str, tuple[dict[str, Any], Any]]:
    """Every row of a collection by key, without the vector, and the vector."""
    with Store.connect(uri) as store:
        collection = Collection.open(store, "outcrop")
        rows = [row for page in collection.scan_rows(Filter(), ["*"]) for row in page]
    return {row["key"]: (row, np.asarray(row.pop("vector"), dtype=np.float32)) for row in rows}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset on a disk, with its registry."""
    folder = tmp_path_factory.mktemp("photographs")
    write_dataset(folder, {"a_300": 4, "b_300": 3}, name="town", root="town")
    return folder


@pytest.fixture
def far(photographs: Path, bucket: ObjectPath) -> ObjectPath:
    """The same in a bucket."""
    assert upload(photographs, bucket) == 8
    return bucket


def ingest(far: ObjectPath, *more: object) -> Any:
    return run("ingest", "dataset", "town", "--registry", far / "data_key.json", *MODEL, "--json", *more)


def test_a_dataset_in_a_bucket_makes_the_rows_of_one_on_a_disk(
    far: ObjectPath, photographs: Path, lite: str, tmp_path: Path, s3: S3Server
) -> None:
    s3.mend()
    s3.slow = lambda method, key: s3.together(2) if method == "GET" and key.endswith(".jpg") else 0.0
    done = ingest(far)
    assert (done.code, done.json["embedded"]) == (0, 7)
    here = str(tmp_path / "here.db")
    assert ingest(photographs, "--uri", here).json["embedded"] == 7
    ours, theirs = stored(lite), stored(here)
    assert set(ours) == set(theirs)
    for key, (row, vector) in ours.items():
        assert row.pop("uri") == str(far / "town" / row["source"])
        different = {name for name in row if row[name] != theirs[key][0].get(name)}
        assert different <= {"ingested_at", "source_mtime_ns", "checksum"} and np.array_equal(vector, theirs[key][1])
    s3.mend()
    again = ingest(far).json
    assert (again["embedded"], again["unchanged"]) == (0, 7)
    assert "PUT" not in s3.asked and not [path for path in s3.read if path.endswith(".jpg")], "none was read again"


def test_an_object_that_was_replaced_is_embedded_again(far: ObjectPath, lite: str) -> None:
    assert ingest(far).json["embedded"] == 7
    pictures = sorted(far.rglob("*.jpg"))
    first, second = pictures[0].read_bytes(), pictures[1].read_bytes()
    with whole_file(pictures[0]) as file:
        file.write_bytes(second)
    with whole_file(pictures[1]) as file:
        file.write_bytes(second)  # the same bytes, written anew
    assert first != second
    again = ingest(far).json
    assert (again["embedded"], again["unchanged"]) == (1, 6)


def test_what_a_bucket_refuses_is_in_the_ledger_and_can_be_retried(far: ObjectPath, lite: str, s3: S3Server) -> None:
    s3.refuse = lambda method, key: method == "GET" and key.endswith("a_300_0002.jpg")
    s3.cut = lambda method, key: method == "GET" and key.endswith("b_300_0003.jpg")
    s3.slow = lambda method, key: 0.2 if method == "GET" and key.endswith("b_300_0001.jpg") else 0.0
    done = ingest(far)
    assert (done.code, done.json["embedded"], done.json["failed"]) == (4, 5, 2)
    ledger = Path(done.json["failures"]).read_text()
    assert "s3://" in ledger and "a_300_0002.jpg" in ledger and "b_300_0003.jpg" in ledger
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in ledger + done.out + done.err
    s3.mend()
    retried = run("ingest", "retry", "last", "--json")
    assert (retried.code, retried.json["embedded"]) == (0, 2)
    assert len(stored(lite)) == 7


def test_folders_references_exports_and_reports_in_a_bucket(
    far: ObjectPath, lite: str, tmp_path: Path, photographs: Path
) -> None:
    done = run("ingest", "images", far / "town", *MODEL, "--json")
    assert (done.code, done.json["embedded"]) == (0, 7), done.err
    written = ("--angles", "0,90", "--crops", "0.6", "--write-images", far / "references")
    registered = ("--registry", far / "data_key.json")
    done = run("ingest", "references", "town", *registered, "--collection", "refs", *MODEL, *written, "--json")
    assert done.code == 0 and done.json["embedded"] == len(list((far / "references").rglob("*.jpg"))) == 14, done.err
    read = ("--from", far / "references", "--collection", "read", "--json")
    assert run("ingest", "references", "town", *registered, *MODEL, *read).json["embedded"] == 14
    report = far / "reports/found.html"
    picture = next(far.rglob("a_300_0001.jpg"))
    asked = run("query", "image", picture, "--report", report, "--rerank", "geometric", "-k", 3, "--json")
    assert asked.code == 0, asked.err
    assert asked.json["queries"][0]["hits"][0]["source"].endswith("a_300_0001.jpg")
    assert str(far / "town/a_300/a_300_0001.jpg") in report.read_text()
    for file in ("rows.parquet", "rows.npy"):
        exported = run("collection", "export", "outcrop", far / "exports" / file, "--json")
        assert (exported.code, exported.json["rows"]) == (0, 7), exported.err
        assert "exists" in run("collection", "export", "outcrop", far / "exports" / file).error(3)
        place = ("--to", f"back_{file[-3:]}", "--json")
        imported = run("collection", "import", far / "exports" / file, *place)
        assert (imported.code, imported.json["rows"]) == (0, 7), imported.err
    damaged = tmp_path / "rows.parquet"
    damaged.write_bytes((far / "exports/rows.parquet").read_bytes()[:-100])
    (far / "exports/damaged.parquet").put(damaged)
    assert str(far / "exports/damaged.parquet") in run("collection", "import", far / "exports/damaged.parquet").error(3)


def test_weights_come_from_a_bucket_once(far: ObjectPath, lite: str, s3: S3Server) -> None:
    from outcrop.embed.models import find_model
    from outcrop.embed.presets import PRESETS
    from outcrop.embed.weights import locate

    packaged = locate(PRESETS["efficientnet_lite0"])
    weights = far / "weights/mine.pth"
    weights.put(packaged)
    model = find_model("efficientnet_lite0", weights, memory=Path("state/weights.json"))
    assert model.space == find_model("efficientnet_lite0").space and model.hint == str(weights)
    assert model.weights.read_bytes() == packaged.read_bytes() and not is_remote(model.weights)
    s3.mend()
    assert find_model("efficientnet_lite0", weights, memory=Path("state/weights.json")) == model
    assert "GET" not in s3.asked


def test_specimens_in_a_bucket(bucket: ObjectPath, lite: str, tmp_path: Path) -> None:
    folder = tmp_path / "meshes"
    (folder / "shells").mkdir(parents=True)
    meshes.write(folder / "shells/round.ply", *meshes.ball())
    (folder / "shells/long.obj").write_bytes(meshes.obj(*meshes.ball(stretched=(1, 2, 1))))
    count = upload(folder, bucket / "meshes")
    options = ("--views", 2, "--size", 96, "--name", "shells", "--json")
    done = run("ingest", "specimens", bucket / "meshes", *MODEL, *options)
    assert (done.code, done.json["embedded"]) == (0, 3 * count), done.err
    rows = stored(lite)
    assert all(row["uri"].startswith(f"{bucket}/meshes/shells/") for row, _ in rows.values())
    assert run("ingest", "specimens", bucket / "meshes", *MODEL, *options).json["embedded"] == 0


@pytest.mark.parametrize(
    "command",
    [
        ("ingest", "video", "s3://rocks/films"),
        ("ingest", "map", "s3://rocks/map.tif"),
        ("ingest", "watch", "s3://rocks/photos"),
        ("query", "cluster", "--output", "s3://rocks/clusters"),
        ("collection", "export", "outcrop", "s3://rocks/tree", "--layout", "imgmatching"),
    ],
)
def test_what_needs_a_disk_says_so(command: tuple[str, ...], lite: str) -> None:
    assert "must be on a disk, not in an object store" in run(*command).error(3)
