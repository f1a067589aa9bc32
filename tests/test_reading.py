"""Reading creates nothing, and what can be checked without the model is checked before it is opened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from commands import run
from operations import SPACE, items, unit
from pictures import picture, write_dataset

from outcrop.store.collection import Collection
from outcrop.store.connection import Store

MISSING = "no Milvus Lite directory at ./outcrop.db; ingest something first, or set OUTCROP_URI"


@pytest.mark.parametrize(
    "command",
    [
        ("query", "item", "image/town/c_100/1"),
        ("query", "dataset", "town"),
        ("query", "cluster", "-o", "clusters"),
        ("collection", "describe"),
        ("collection", "stats"),
        ("collection", "verify"),
        ("collection", "export", "outcrop", "-o", "out.parquet"),
        ("collection", "drop", "outcrop", "--yes"),
        ("collection", "rollback"),
    ],
)
def test_reading_creates_nothing(command: tuple[str, ...]) -> None:
    outcome = run(*command)
    assert outcome.code in (2, 3) and not Path("outcrop.db").exists(), outcome.err
    if outcome.code == 3:
        assert MISSING in outcome.error(3)


def test_every_reader_got_that_far() -> None:
    assert MISSING in run("query", "item", "image/town/c_100/1").error(3)
    assert MISSING in run("collection", "describe").error(3)


def test_a_list_of_nothing_is_empty() -> None:
    outcome = run("collection", "list", "--json")
    assert outcome.code == 0 and outcome.json["rows"] == [] and MISSING in outcome.err
    assert not Path("outcrop.db").exists()


def test_a_dry_run_creates_nothing(tmp_path: Path) -> None:
    write_dataset(tmp_path, {"a_300": 2}, name="town")
    outcome = run("ingest", "dataset", "town", "--model", "efficientnet_lite0", "--dry-run", "--json")
    assert outcome.code == 0 and outcome.json["to_embed"] == 2
    assert run("collection", "create", "town", "--model", "efficientnet_lite0", "--dry-run").code == 0
    assert not Path("outcrop.db").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("image", "nothere.jpg"), "no picture at nothere.jpg"),
        (("image", "q.jpg", "--where", "altitud=3"), "did you mean 'altitude'"),
        (("image", "q.jpg", "--where", "dataset=twon"), "did you mean 'town'"),
        (("image", "q.jpg", "--turns", "1000"), "--turns must be between"),
        (("image", "q.jpg", "--report", "no/such/folder/x.html"), "does not exist; create it"),
        (("image", "q.jpg", "--group", "parnt"), "did you mean 'parent'"),
        (("item", "image/town/c_100/99"), "no item 'image/town/c_100/99'"),
        (("match", "q.jpg", "nothere.jpg", "--local-features", "patch"), "no picture at nothere.jpg"),
        (("evaluate", "--pictures", "nothere", "--truth", "gps"), "no picture at nothere"),
    ],
)
def test_checks_come_before_the_model(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    picture(1).save("q.jpg")
    with Store.connect("outcrop.db") as store:
        Collection.create(store, "outcrop", SPACE).upsert(items(3, mixed=False), unit(3))
    poison = tmp_path / "poison"
    poison.mkdir()
    (poison / "torch.py").write_text("raise SystemExit('torch was imported')\n")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(poison)!r}); sys.argv[0] = 'query'\n"
         "from outcrop.query.cli import main; main()", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3 and said in done.stderr and "torch was imported" not in done.stderr, done.stderr
