"""`ingest all`: every dataset in one table, the worst exit code, the folders that the collection remembers."""

from __future__ import annotations

import json
from pathlib import Path

from commands import run
from pictures import picture, write_dataset

MODEL = ("--model", "efficientnet_lite0", "--quiet")


def test_every_dataset_and_every_folder() -> None:
    write_dataset(Path(), {"a_100": 2}, name="town", root="town")
    write_dataset(Path(), {"b_200": 1}, name="hill", root="hill", seed=1)
    Path("loose").mkdir()
    picture(9).save("loose/one.jpg")
    looked = run("ingest", "all", *MODEL, "--dry-run", "--json").json
    assert [(row["dataset"], row["to_embed"]) for row in looked["datasets"]] == [("town", 2), ("hill", 1)]
    assert run("ingest", "images", "loose", *MODEL).code == 0
    made = run("ingest", "all", *MODEL, "--json")
    assert made.code == 0, made.err
    rows = {row["dataset"]: (row["embedded"], row["unchanged"], row["result"]) for row in made.json["datasets"]}
    assert rows == {"town": (2, 0, "done"), "hill": (1, 0, "done"), "loose": (0, 1, "done")}
    table = run("ingest", "all", *MODEL)
    assert table.code == 0 and table.out.count("┏") == 1 and all(name in table.out for name in rows)


def test_one_that_fails_does_not_keep_the_others_back() -> None:
    registry = write_dataset(Path(), {"a_100": 2}, name="town", root="town")
    known = json.loads(registry.read_text())
    known["datasets"] = {"gone": {"root": "nowhere", "images": {}}, **known["datasets"]}
    registry.write_text(json.dumps(known))
    Path("town/a_100/a_100_0002.jpg").write_bytes(b"no picture")
    said = run("ingest", "all", *MODEL, "--json")
    rows = {row["dataset"]: row for row in said.json["datasets"]}
    assert "nowhere is not a folder" in rows["gone"]["result"] and rows["gone"]["exit_code"] == 3
    assert (rows["town"]["embedded"], rows["town"]["exit_code"]) == (1, 4)
    assert "2 of 2 datasets are not in order (gone, town)" in said.error(4)
    known["datasets"].pop("town")
    registry.write_text(json.dumps(known))
    assert "1 of 1 datasets" in run("ingest", "all", *MODEL).error(3)


def test_nothing_to_ingest() -> None:
    assert "begin with `ingest images DIR`" in run("ingest", "all").error(3)
