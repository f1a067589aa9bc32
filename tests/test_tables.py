"""What is printed: columns that fit the terminal, cells that no spreadsheet runs, names that steer no terminal, closed pipes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import run
from pictures import write_dataset
from rich.cells import cell_len
from rich.text import Text

from outcrop.query.keys import shorter_keys
from outcrop.screen.progress import Meter
from outcrop.screen.tables import cell, column_texts, print_csv, print_json, print_table
from outcrop.screen.texts import harmless, harmless_lines
from outcrop.screen.width import remark

KEY = "reference/jamshill_image/250918092555_300/0002/rot030/crop00"
ROW = {
    "rank": 1,
    "score": "0.9876",
    "key": KEY,
    "altitude": 300.0,
    "source": "250918092555_300/250918092555_300_0002.JPG",
}
COLUMNS = ("rank", "score", "key", "altitude", "source")
WHOLE = ("rank", "score", "key")


@pytest.mark.parametrize("width", [80, 100, 140, 200])
def test_rank_score_and_key_are_whole(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_table([ROW], COLUMNS, whole=WHOLE)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert [line for line in lines if KEY in line and "0.9876" in line]
    assert ("altitude" in lines[1]) == (width > 80) and ("source" in lines[1]) == (width >= 140)


KEYS = tuple(f"reference/jamshill_image/250918092555_300/{frame:04d}/rot030/crop00" for frame in (2, 3, 12))
PARENTS = tuple(key.replace("reference", "image").rsplit("/", 2)[0] for key in KEYS)
GROUPS = [
    {
        "rank": rank,
        "score": f"0.98{rank}1",
        "margin": 0.01,
        "parent": parent,
        "votes": 3,
        "key": key,
        "source": "DJI.JPG",
    }
    for rank, (key, parent) in enumerate(zip(KEYS, PARENTS, strict=True), 1)
]


@pytest.mark.parametrize("width", range(60, 201, 10))
def test_every_width_shows_which_item_it_is(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At any width, rank, score and photograph are there in one line and tell the rows apart; nothing vanishes in silence."""
    monkeypatch.setenv("COLUMNS", str(width))
    forms = {"key": shorter_keys(KEYS), "parent": shorter_keys(PARENTS)}
    print_table(GROUPS, tuple(GROUPS[0]), "3 hits", ("rank", "score", "parent", "key"), forms)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= width
    head = [cell.strip() for cell in lines[2].strip("┃").split("┃")]
    for row, line in zip(GROUPS, lines[4:7], strict=True):
        cells = dict(zip(head, (cell.strip() for cell in line.strip("│").split("│")), strict=True))
        assert (cells["rank"], cells["score"]) == (str(row["rank"]), row["score"])
        assert row["parent"].endswith(f"250918092555_300/{row['parent'][-4:]}") and row["parent"].endswith(
            cells["parent"]
        )
        assert "key" not in cells or row["key"].endswith(cells["key"])
    missing = " ".join(lines[8:]).removeprefix("no room here for: ").replace(",", "").split()
    assert set(head) | set(missing) == set(GROUPS[0]) and not set(head) & set(missing)
    assert ("key" in head) == (width >= 80) and (not missing) == (width >= 150)


def test_long_texts_are_folded_and_wide_letters_take_two_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    advice = "벡터를 다시 만들려면 다음 명령을 실행하십시오 " * 3
    print_table([{"check": "store", "verdict": "wrong", "advice": advice}], ("check", "verdict", "advice"))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= 60 and "store │ wrong" in lines[3]
    assert "".join(line.strip("│").split("│")[2].strip() for line in lines[3:-1]).replace(" ", "") == advice.replace(
        " ", ""
    )


class Screen(io.StringIO):
    """A terminal that keeps what is written."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_remarks_and_bars_stay_within_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = "the collection was made by another model; " * 6 + "/a/path/that/is/" + "long" * 20  # 96 characters
    lines = remark(text, Screen()).split("\n")
    assert all(len(line) <= width for line in lines if "long" not in line)
    assert all(len(line) <= max(width, 100) for line in lines) and text.split()[-1] in lines[-1]
    assert " ".join(" ".join(lines).split()) == " ".join(text.split()) and remark(text, io.StringIO()) == text
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with Meter("photographs of a dataset with a long name", 1_234_567, "photographs") as meter:
        meter.update(123_456, "3 failed, and 12 were left out because of their size")
    drawn = Text.from_ansi(screen.getvalue().replace("\r", "\n")).plain.splitlines()
    assert max(map(len, drawn)) <= width and any("123456/1234567" in line for line in drawn), drawn


def test_without_a_terminal_rows_stay_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table([ROW], COLUMNS, whole=WHOLE)
    assert all(str(ROW[name]) in capsys.readouterr().out.replace("300 ", "300.0 ") for name in ("key",))


@pytest.mark.parametrize(
    "value, written",
    [
        ("=1+2", "'=1+2"),
        ("+cmd", "'+cmd"),
        ("-x", "'-x"),
        ("@x", "'@x"),
        ("-33.5", "-33.5"),
        (-1, -1),
        ("a=b", "a=b"),
        ("\t=1", "\\t=1"),
        ("x\x1b[31m", "x\\x1b[31m"),
        (None, None),
    ],
)
def test_cells_are_harmless(value: object, written: object) -> None:
    assert cell(value) == written


def test_csv_is_read_back_as_it_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    print_csv([{"a": "=SUM(A1)", "b": -1, "c": 'x,"y"'}], ("a", "b", "c"))
    assert list(csv.reader(io.StringIO(capsys.readouterr().out)))[1] == ["'=SUM(A1)", "-1", 'x,"y"']


@pytest.mark.parametrize("text", ["a\x1b]0;x\x07", "\x9b31m", "a\nb", "\u202egpj.exe", "\udcff"])
def test_control_characters_reach_no_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"name": text}], ("name",), title=text)
    said = capsys.readouterr().out
    assert harmless(text) in said and not set(said) & {"\x1b", "\x9b", "\x07", "\u202e", "\udcff"}
    assert harmless_lines("one\ntwo\x1b") == "one\ntwo\\x1b"
    print_json({"name": text})
    said = capsys.readouterr().out
    assert json.loads(said) == {"name": text} and not set(said) & {"\x1b", "\x9b", "\x07", "\udcff"}


def test_remarks_and_errors_steer_no_terminal() -> None:
    outcome = run("query", "image", "nowhere\x1b[31m.jpg", "--uri", "no\x1b[31mwhere.db")
    assert outcome.code == 3 and "\x1b" not in outcome.err and "\\x1b" in outcome.err


@pytest.mark.parametrize("shape", ["--json", "--csv", "--explain"])
def test_a_closed_pipe_loses_nothing(shape: str, tmp_path: Path) -> None:
    """The reader goes away before the first byte: the report and the files are there all the same, and the exit code is 0."""
    write_dataset(tmp_path, {"a_300": 12}, name="d", root="one")
    place = ("--registry", tmp_path / "data_key.json", "--uri", tmp_path / "outcrop.db")
    assert run("ingest", "dataset", "d", "--model", "efficientnet_lite0", *place).code == 0
    words = ["dataset", "d", "-k", 12, *place, "--report", tmp_path / "r.html", "--output", tmp_path / "out", shape]
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "outcrop.query.cli", *map(str, words)],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=tmp_path,
        )
    finally:
        os.close(write)
    assert done.returncode == 0 and "Traceback" not in done.stderr and "Broken" not in done.stderr, done.stderr
    assert (tmp_path / "r.html").stat().st_size > 1000 and (tmp_path / "out/answer.json").exists()


@pytest.mark.parametrize("uri", ["root:hunter2@127.0.0.1:1", "http://root:hunter2@127.0.0.1:1"])
@pytest.mark.parametrize("words", [("doctor",), ("list",), ("describe",)])
def test_a_password_in_the_address_is_not_printed(
    uri: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTCROP_URI", uri)
    for more in ((), ("--json",)):
        outcome = run("collection", *words, "--timeout", 1, *more)
        assert outcome.code in (3, 5) and "hunter2" not in outcome.out + outcome.err


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([3.5], ["3.5"]),
        ([0.9, 0.8731], ["0.9000", "0.8731"]),
        ([0.5, 2, None, 40.1], ["0.5", "2", "", "40.1"]),
        ([1 / 3], ["0.3333"]),
        ([0.00001, -0.25], ["0.00", "-0.25"]),
        ([0.00001], ["0.0000"]),
        ([1e9, float("nan")], ["1e+09", "nan"]),
    ],
)
def test_digits_that_mean_something(values: list[Any], texts: list[str]) -> None:
    assert column_texts(values) == texts
