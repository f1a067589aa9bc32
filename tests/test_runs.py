"""What runs leave behind: damaged records, wrong clocks, places that cannot be written; and two interrupts."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import meshes
import pytest
from commands import Outcome, run, start
from pictures import write_dataset
from waiting import SLOWLY, records, until

from outcrop.ingest import runs
from outcrop.ingest.records import find_run, list_runs
from outcrop.ingest.requests import DatasetRequest
from outcrop.ingest.runs import Failure, Run
from outcrop.schema.errors import InputError
from outcrop.schema.settings import Settings

CAPTURE = "250918092555_300"
MODEL = ("--model", "efficientnet_lite0")
STATE = Path("state")


def begin(name: str = "town") -> Run:
    return Run.begin(STATE, "dataset", DatasetRequest.of(Settings(), name))


def done() -> Run:
    made = begin()
    made.end("done")
    return made


def status(*more: object) -> Outcome:
    return run("ingest", "status", *more, "--state", STATE)


def not_readable(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:80]),
    "empty": lambda file: file.write_bytes(b""),
    "zeroes": lambda file: file.write_bytes(bytes(700)),
    "not UTF-8": lambda file: file.write_bytes(b'{"run": "\xff\xfe"}'),
    "a list": lambda file: file.write_text("[]"),
    "a number": lambda file: file.write_text("5"),
    "an empty object": lambda file: file.write_text("{}"),
    "a count that is text": lambda file: file.write_text(file.read_text().replace('"failed": 0', '"failed": "many"')),
    "an unknown kind": lambda file: file.write_text(file.read_text().replace('"kind": "dataset"', '"kind": "film"')),
    "no name": lambda file: file.write_text(file.read_text().replace('"name": "town"', '"nom": "town"')),
    "nested deeply": lambda file: file.write_text("[" * 100_000),
    "a folder": not_readable,
}


def test_runs_of_one_second_that_draw_the_same_name_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["aaaa", "aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr(runs.secrets, "token_hex", lambda count: next(drawn))
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    made = [runs._new_folder(STATE / "runs", now) for _ in range(2)]
    assert [folder.name for folder in made] == ["20260102-030405-aaaa", "20260102-030405-bbbb"]
    assert all(folder.is_dir() for folder in made)


@pytest.mark.parametrize("damage", DAMAGE)
def test_one_damaged_record_hides_no_other(damage: str) -> None:
    whole, bad = done(), done()
    DAMAGE[damage](bad.folder / "run.json")
    listed = status("--json").json["runs"]
    assert [(row["run"], row["state"]) for row in listed] == [
        (whole.record.run, "done"),
        (bad.record.run, "damaged"),
    ]
    shown = status()
    assert shown.code == 0 and "damaged" in shown.out and "cannot be read" in shown.err
    assert status("last", "--json").json["run"] == whole.record.run
    one = status(bad.record.run)
    assert one.code == 0 and "cannot be read" in one.out
    assert "cannot be read" in run("ingest", "retry", bad.record.run, "--state", STATE).error(3)
    assert whole.record.run in run("ingest", "retry", "last", "--state", STATE).error(3)
    assert Run.begin(STATE, "dataset").record.number > whole.record.number


def test_a_folder_without_a_record_is_not_a_run() -> None:
    made = done()
    (STATE / "runs" / "20260101-000000-aaaa").mkdir()
    assert [record.run for record in list_runs(STATE)] == [made.record.run]


def test_lines_of_a_ledger_that_cannot_be_read_are_left_out() -> None:
    made = begin()
    made.fail(Failure("image/town/a/0001", "a.jpg", "decode", "broken"))
    with made.ledger.open("ab") as ledger:
        ledger.write(b'[1, 2]\n{"key": 5}\n\xff\xff\n{"key": "half\n')
    made.fail(Failure("image/town/a/0002", "b.jpg", "decode", "broken"))
    assert [failure.key for failure in find_run(STATE, "last")[1]] == ["image/town/a/0001", "image/town/a/0002"]
    made.ledger.unlink()
    assert find_run(STATE, "last")[1] == []


def test_the_last_run_is_the_one_that_started_last_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import UTC, datetime

    names = []
    for year in (2026, 2031, 2026, 2020, 2027):

        class Clock(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:
                return datetime(year, 5, 4, 3, 2, 1, len(names), tzinfo=UTC)  # noqa: B023  called within the round

        monkeypatch.setattr(runs, "datetime", Clock)
        names.append(begin().record.run)
        assert find_run(STATE, "last")[0].run == names[-1]
    assert [record.run for record in list_runs(STATE)] == names[::-1]


@pytest.mark.parametrize("text", ["", "x", "-", "1" * 5000])
def test_a_damaged_counter_is_made_again(text: str) -> None:
    made = [begin().record.run for _ in range(3)]
    (STATE / "runs" / runs.COUNTER).write_text(text)
    made.append(begin().record.run)
    assert [record.run for record in list_runs(STATE)] == made[::-1]


def in_the_way(place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("in the way")


@pytest.mark.parametrize("place", ["state", "state/runs", "state/thumbnails"])
def test_a_state_folder_that_cannot_be_written(place: str, tmp_path: Path) -> None:
    """One line with the path and the way out; the next run heals."""
    write_dataset(tmp_path, {CAPTURE: 3})
    in_the_way(tmp_path / place)
    options = ("jamshill_image", *MODEL, "--state", "state")
    said = run("ingest", "dataset", *options).error(3)
    assert "state" in said and "cannot be written" in said and "--" in said
    (tmp_path / place).unlink()
    healed = run("ingest", "dataset", *options, "--json").json
    assert (healed["state"], healed["failed"], healed["embedded"] + healed["unchanged"]) == ("done", 0, 3)


@pytest.mark.parametrize("name", ["failures.jsonl", "remarks.jsonl"])
def test_a_full_disk_is_named_with_the_way_out(name: str) -> None:
    made = begin()
    (made.folder / name).unlink(missing_ok=True)
    (made.folder / name).symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"state cannot be written \(No space left on device\); make room"):
        made.fail(Failure("k", "p", "decode", "r")) if name == "failures.jsonl" else made.remark("k", Path("p"), ["r"])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_interrupt_ends_at_once(number: int, tmp_path: Path) -> None:
    write_dataset(tmp_path, {CAPTURE: 300})
    process = start("ingest", "dataset", "jamshill_image", *MODEL, "--batch", 150, "--json", cwd=tmp_path, **SLOWLY)
    until(lambda: any(each["stages"].get("decode") for each in records(tmp_path / ".outcrop")), "decoding", process)
    interrupted_twice(process, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    # Without the report that ends a run whose batch was waited for: however long a busy machine takes, that was at once.
    assert out == "" and err.endswith("interrupted\n") and "Traceback" not in err
    shown = run("ingest", "status", "last", "--json").json
    assert shown["state"] in ("interrupted", "died")
    again = run("ingest", "dataset", "jamshill_image", *MODEL, "--json").json
    assert (again["embedded"] + again["unchanged"], again["failed"]) == (300, 0)


@pytest.mark.slow
def test_the_second_interrupt_leaves_no_drawing_process(tmp_path: Path) -> None:
    for number in range(12):
        meshes.write(tmp_path / f"bones/{number:02d}.ply", *meshes.ball(6, (1, 0.5 + number / 30, 0.7)))
    options = ("--views", 36, "--size", 518, "--renderer", "raycast", "--workers", 2)
    process = start("ingest", "specimens", "bones", *options, *MODEL, cwd=tmp_path)
    drawing: list[int] = []

    def both() -> bool:
        drawing[:] = [pid for pid in children_of(process.pid) if b"render.workers" in command_of(pid)]
        return len(drawing) == 2

    until(both, "two drawing processes", process)
    interrupted_twice(process, signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    until(lambda: not any(b"render.workers" in command_of(pid) for pid in drawing), "the end of the drawing processes")


def interrupted_twice(process: subprocess.Popen[str], number: int) -> None:
    """Sends a signal, and once more as soon as the first was taken."""
    process.send_signal(number)
    assert process.stderr is not None
    while "once more" not in (line := process.stderr.readline()):
        assert line, "it ended before it said that it stops"
    process.send_signal(number)


def children_of(pid: int) -> list[int]:
    """The processes that a process started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for children in tasks for child in children.read_text().split()]


def command_of(pid: int) -> bytes:
    """The command line of a process; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    "made, said",
    [
        ("meshes/snails/a.ply", "ingest specimens meshes"),
        ("meshes/a.jpg", "ingest images meshes"),
        ("meshes/town/Global/c/a.npy", "ingest features meshes --layout imgmatching"),
        ("meshes/features/a.npy", "ingest features meshes --layout fossilvit"),
        ("meshes", "ingest manifest meshes"),
    ],
)
def test_a_path_in_place_of_a_command(made: str, said: str) -> None:
    Path(made).parent.mkdir(parents=True, exist_ok=True)
    if made == "meshes":
        Path("m.json").write_text("{}")
        word, said = "m.json", "ingest manifest m.json"
    else:
        Path(made).touch()
        word = "meshes"
    outcome = run("ingest", word)
    assert outcome.code == 2
    assert said in " ".join(outcome.err.replace("│", " ").split())


def test_other_words_are_unknown_commands() -> None:
    assert "No such command" in run("ingest", "datasett").err
    assert "no such file or folder" in " ".join(run("ingest", "photos/a.jpg").err.replace("│", " ").split())
