"""What is printed: columns that fit the terminal, cells that no spreadsheet runs, names that steer no terminal, closed pipes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run
from pictures import write_dataset

from outcrop.screen.tables import cell, print_csv, print_json, print_table
from outcrop.screen.texts import harmless, harmless_lines

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
