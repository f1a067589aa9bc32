"""Full, read-only and unwritable places, missing memory and texts that are not UTF-8: one line with what helps, never "a bug"."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import meshes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import Outcome, run
from operations import SPACE, items, unit
from pictures import write_dataset

from outcrop.schema.errors import InputError
from outcrop.screen.guard import OF_THE_PLACE, OUT_OF_MEMORY, fault_of_machine, run_guarded
from outcrop.store.collection import Collection
from outcrop.store.connection import Store
from outcrop.store.transfer import read_parquet_facts

MODEL = ("--model", "efficientnet_lite0")
KEY = "image/town/c_100/0001"


@pytest.fixture
def filled() -> None:
    with Store.connect("outcrop.db") as store:
        Collection.create(store, "outcrop", SPACE).upsert(items(3, mixed=False), unit(3))


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own."""
    folder = tmp_path / "full"
    folder.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], check=False).returncode
    ):
        pytest.skip("only root mounts a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def no_room(folder: Path) -> Iterator[None]:
    """Within the block the disk is full."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    yield
    ballast.unlink()


def stop(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as left:
        run_guarded(command)
    return left.value.code, capsys.readouterr().err


@pytest.mark.parametrize("number", sorted(OF_THE_PLACE))
def test_a_fault_of_a_place_names_it_and_what_helps(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = stop(OSError(number, os.strerror(number), "some/place"), capsys)
    assert code == 3 and said.startswith("error: some/place cannot be used (") and OF_THE_PLACE[number] in said
    assert "Traceback" not in said and "bug" not in said


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
    ],
)
def test_missing_memory_says_what_to_lower(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert stop(error, capsys) == (3, f"error: {OUT_OF_MEMORY}\n")


def test_a_bug_stays_a_bug() -> None:
    assert fault_of_machine(OSError(errno.EBADF, "Bad file descriptor")) is None
    assert fault_of_machine(RuntimeError("shapes differ")) is None
    with pytest.raises(ZeroDivisionError):
        run_guarded(lambda: 1 // 0)


def test_a_full_screen(filled: None) -> None:
    with Path("/dev/full").open("w") as stdout:
        done = subprocess.run(
            [sys.executable, "-m", "outcrop.operate.cli", "list", "--json"],
            stdout=stdout, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 3 and "the output cannot be used (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


@pytest.mark.parametrize("option", ["--report", "--output"])
def test_answers_on_a_full_disk(filled: None, full: Path, option: str) -> None:
    with no_room(full):
        line = run("query", "item", KEY, option, full / "answer").error(3)
    assert str(full / "answer") in line and "No space left" in line
    assert run("query", "item", KEY, option, full / "answer").code == 0


def test_an_export_on_a_full_disk(filled: None, full: Path) -> None:
    with no_room(full):
        line = run("collection", "export", "outcrop", full / "out.parquet").error(3)
    assert "out.parquet" in line and "No space left" in line
    assert not [each for each in full.iterdir() if each.name.startswith(".")]


def test_a_collection_on_a_full_disk(full: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path, {"a_300": 2}, name="town")
    place = ("--uri", full / "x.db", "--state", tmp_path / "state", "--json")
    with no_room(full):
        outcome = run("ingest", "dataset", "town", *MODEL, *place)
    assert outcome.code in (3, 5) and "Traceback" not in outcome.err and str(full) in outcome.err, outcome.err
    assert run("ingest", "dataset", "town", *MODEL, *place).code == 0


def test_a_file_where_the_state_should_be(tmp_path: Path) -> None:
    write_dataset(tmp_path, {"a_300": 2}, name="town")
    Path("state").write_text("")
    outcome = run("ingest", "dataset", "town", *MODEL, "--state", "state/inner", "--json")
    assert outcome.code == 3 and "state" in outcome.error(3)
    Path("state").unlink()
    assert run("ingest", "dataset", "town", *MODEL, "--state", "state/inner", "--json").code == 0


@pytest.mark.parametrize("argument", [b"--where=dataset=\xff", b"--against=\xff", b"--collection=\xff"])
def test_an_argument_that_is_not_utf8(filled: None, argument: bytes) -> None:
    line = run("query", "dataset", "town", os.fsdecode(argument)).error(3)
    assert "\\udcff" in line


def test_a_path_that_is_not_utf8(filled: None) -> None:
    assert "nothere" in run("query", "image", os.fsdecode(b"nothere\xff.jpg")).error(3)


@pytest.mark.parametrize("name", ["data_key.json", "data_key.yaml"])
def test_half_a_character_in_a_registry(tmp_path: Path, name: str) -> None:
    registry = write_dataset(tmp_path, {"a_300": 1}, name="town")
    text = json.dumps(json.loads((registry / "data_key.json" if registry.is_dir() else registry).read_text()))
    Path(name).write_text(text.replace('"town"', '"to\\ud800wn"'))
    assert "half a character" in run("ingest", "dataset", "town", "--registry", name, *MODEL).error(3)
    if name.endswith(".json"):  # in YAML, an escape is a character by itself
        Path(name).write_text(text.replace('"town"', '"\\ud83d\\ude00"'))
        assert "half" not in run("ingest", "dataset", "town", "--registry", name, *MODEL).error(3)


@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_json_nested_deeply(ending: str) -> None:
    Path(f"deep.{ending}").write_text("[" * 20_000 + "]" * 20_000)
    assert "nested too deeply" in run("ingest", "manifest", f"deep.{ending}", *MODEL).error(3)
    assert "deep" in run("ingest", "dataset", "town", "--registry", f"deep.{ending}", *MODEL).error(3)


def test_damaged_names_of_parquet_columns() -> None:
    pq.write_table(pa.table({"category": ["a"] * 3}), "x.parquet")
    Path("x.parquet").write_bytes(Path("x.parquet").read_bytes().replace(b"category", b"categ\xffry"))
    with pytest.raises(InputError, match=r"x\.parquet"):
        read_parquet_facts(Path("x.parquet"))


def limited(mebibytes: int, *command: object) -> subprocess.CompletedProcess[str]:
    """Runs a command that may use so much address space; it must end."""
    code = (
        "import resource, runpy, sys; limit = int(sys.argv[1]) << 20; resource.setrlimit(resource.RLIMIT_AS, (limit, limit)); "
        "module, *sys.argv = sys.argv[2:]; sys.argv.insert(0, module); runpy.run_module(module, run_name='__main__')"
    )
    given = [sys.executable, "-c", code, str(mebibytes), *map(str, command)]
    return subprocess.run(given, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux")
@pytest.mark.parametrize(
    ("mebibytes", "command"),
    [
        (500, ("outcrop.operate.cli", "list")),
        (1000, ("outcrop.query.cli", "item", KEY)),
        (1500, ("outcrop.ingest.cli", "dataset", "town", *MODEL, "--collection", "other")),
    ],
)
def test_too_little_address_space(filled: None, tmp_path: Path, mebibytes: int, command: tuple[str, ...]) -> None:
    write_dataset(tmp_path, {"a_300": 1}, name="town")
    done = limited(mebibytes, *command)
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert done.returncode == 3 and "out of memory" in line and "OMP_NUM_THREADS" in line and "--batch" in line
    assert "Traceback" not in done.stderr and "ImportError" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux")
def test_little_address_space_is_enough_for_a_stored_item(filled: None) -> None:
    done = limited(1800, "outcrop.query.cli", "item", KEY, "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["queries"][0]["hits"]) == 3


def test_a_thread_that_dies_of_missing_memory_ends_the_process() -> None:
    code = (
        "import threading, time; from outcrop.screen.guard import main_guard\n"
        'def broken(): raise RuntimeError("can\'t start new thread")\n'
        "def app():\n    threading.Thread(target=broken).start(); time.sleep(250)\n"
        "main_guard(app)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (3, f"error: {OUT_OF_MEMORY}\n")


@pytest.fixture
def read_only(full: Path) -> Path:
    """A disk that cannot be written to; `mended` makes it writable."""
    subprocess.run(["mount", "-o", "remount,ro", full], check=True)
    return full


def mended(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)


def references(*more: object) -> Outcome:
    crops = ("--angles", "0,180", "--crops", "0.6")
    return run("ingest", "references", "town", *crops, *MODEL, "--json", *more)


def test_written_references_on_a_full_disk_end_the_run(full: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path, {"a_300": 2}, name="town")
    with no_room(full):
        line = references("--write-images", full / "w").error(3)
    assert str(full / "w") in line and "No space left" in line and "--write-images" in line
    again = references("--write-images", full / "w")
    assert again.code == 0 and again.json["failed"] == 0 and len(list(full.rglob("*.jpg"))) == 4


def test_read_only_places_are_named_before_the_model(read_only: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path, {"a_300": 2}, name="town")
    Path("bones").mkdir()
    meshes.write(Path("bones/a.ply"), *meshes.ball(1, (1, 0.5, 0.7)))
    specimens = ("ingest", "specimens", "bones", *MODEL)
    kept = ("--features", "dense", "--features-folder", read_only / "f")
    asked = [
        (("ingest", "references", "town", *MODEL, "--write-images", read_only / "w"), "--write-images"),
        ((*specimens, "--save-renders", read_only / "r"), "--save-renders"),
        ((*specimens, "--export-features", read_only / "e"), "--export-features"),
        (("ingest", "dataset", "town", *MODEL, *kept), "--features-folder"),
        (("ingest", "dataset", "town", *MODEL, "--state", read_only / "s"), "--state"),
    ]
    for command, option in asked:
        outcome = run(*command)
        line = outcome.error(3)
        assert str(read_only) in line and "Read-only file system" in line and option in line
        assert "opening" not in outcome.err and not Path("outcrop.db").exists()
    mended(read_only)
    assert references("--write-images", read_only / "w").code == 0


def test_thumbnails_on_a_full_disk(full: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path, {"a_300": 2}, name="town")
    Path(".outcrop").mkdir()
    Path(".outcrop/thumbnails").symlink_to(full)
    with no_room(full):
        line = run("ingest", "dataset", "town", *MODEL, "--json").error(3)
    assert "thumbnails" in line and "No space left" in line
    outcome = run("ingest", "dataset", "town", *MODEL, "--json")
    assert outcome.code == 0 and len(list(full.rglob("*.jpg"))) == 2


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    code = (
        "import resource, pathlib; from outcrop.schema.files import whole_file\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with whole_file(pathlib.Path('x'), fix='make room') as file: file.write_bytes(bytes(2000))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "PlaceUnusable: x cannot be written (File too large); make room" in done.stderr
    assert not list(tmp_path.iterdir())


def test_query_pictures_whose_names_are_not_utf8(tmp_path: Path) -> None:
    write_dataset(tmp_path, {"a_300": 2}, name="town")
    assert run("ingest", "dataset", "town", *MODEL).code == 0
    picture = Path(os.fsdecode(b"q\xff.jpg"))
    picture.write_bytes(next(tmp_path.rglob("*.jpg")).read_bytes())
    outcome = run("query", "image", picture, "--output", "answer", "--report", "report.html", "--csv")
    assert outcome.code == 0, outcome.err
    assert json.loads(Path("answer/answer.json").read_bytes())["queries"][0]["query"] == str(picture)
    assert Path("answer/queries.txt").read_text() == "q\\udcff.jpg\n"
    assert "q\\udcff.jpg" in Path("report.html").read_text() and outcome.out.splitlines()[1].startswith("q\\udcff.jpg,")


def test_an_interrupt_within_a_finaliser_is_not_lost() -> None:
    code = (
        "import os, signal, time; from outcrop.screen.guard import main_guard, run_guarded\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # shells ignore it in what they start in the background
        "class Made:\n    def __del__(self): os.kill(os.getpid(), signal.SIGINT); time.sleep(0.01)\n"
        "def work():\n    made = Made(); del made\n    for _ in range(2500): time.sleep(0.1)\n"
        "main_guard(lambda: run_guarded(work))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
