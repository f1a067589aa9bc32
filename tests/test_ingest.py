"""`ingest dataset`: idempotent, resumable, honest about what failed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from commands import run, start
from pictures import picture, write_dataset
from waiting import SLOWLY, records, until

from outcrop.ingest.records import find_run, list_runs
from outcrop.ingest.runs import Run
from outcrop.schema.filters import Filter
from outcrop.schema.item import image_key, item_id
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

LITE = ("--model", "efficientnet_lite0")


def ingest(name: str = "jamshill_image", *more: object):
    return run("ingest", "dataset", name, *LITE, "--json", *more)


def rows(*fields: str) -> dict[str, dict]:
    with Store.connect("outcrop.db") as store:
        collection = Collection.open(store, "outcrop")
        return {row["key"]: row for page in collection.scan_rows(Filter(), ["id", "key", *fields]) for row in page}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path, {"250918092555_300": 5, "250918101210_150": 4})


def test_second_run_embeds_nothing(dataset: Path) -> None:
    first = ingest().json
    assert (first["expected"], first["embedded"], first["upserted"], first["unchanged"]) == (9, 9, 9, 0)
    stored = rows("ingested_at")
    assert set(stored) == {
        image_key("jamshill_image", c, f)
        for c, n in (("250918092555_300", 5), ("250918101210_150", 4))
        for f in range(1, n + 1)
    }
    second = ingest().json
    assert (second["embedded"], second["upserted"], second["unchanged"]) == (0, 0, 9)
    assert rows("ingested_at") == stored


def test_metadata_of_rows(dataset: Path) -> None:
    ingest()
    row = rows("altitude", "capture_id", "frame", "source", "source_size", "kind", "dataset")[
        image_key("jamshill_image", "250918101210_150", 2)
    ]
    file = dataset.parent / "images" / row["source"]
    assert file.read_bytes() and row["source_size"] == file.stat().st_size
    assert (row["altitude"], row["capture_id"], row["frame"], row["kind"]) == (150.0, "250918101210_150", 2, "image")


def test_changed_file_is_embedded_again_and_only_it(dataset: Path) -> None:
    ingest()
    changed = dataset.parent / "images/250918092555_300/250918092555_300_0003.jpg"
    key = image_key("jamshill_image", "250918092555_300", 3)
    before = rows("source_digest", "vector")
    picture(777).save(changed, quality=90)
    again = ingest().json
    assert (again["embedded"], again["unchanged"]) == (1, 8)
    after = rows("source_digest", "vector")
    assert after[key]["source_digest"] != before[key]["source_digest"]
    assert [k for k in after if not np.array_equal(after[k]["vector"], before[k]["vector"])] == [key]


def test_touched_but_equal_file_is_not_embedded_again(dataset: Path) -> None:
    ingest()
    file = dataset.parent / "images/250918092555_300/250918092555_300_0001.jpg"
    os.utime(file, (1, 1))
    again = ingest().json
    assert (again["embedded"], again["unchanged"]) == (0, 9)


def test_an_altitude_corrected_in_the_registry_reaches_the_rows(dataset: Path) -> None:
    ingest()
    values = json.loads(dataset.read_text())
    values["datasets"]["jamshill_image"]["images"]["250918101210_150"] = {"frames": 4, "altitude": 155}
    dataset.write_text(json.dumps(values))
    again = ingest().json
    assert (again["upserted"], again["unchanged"]) == (4, 5)
    assert {row["altitude"] for row in rows("altitude").values()} == {300.0, 155.0}


def test_force_embeds_again_without_doubling(dataset: Path) -> None:
    ingest()
    again = ingest("jamshill_image", "--force").json
    assert (again["embedded"], again["upserted"], again["unchanged"]) == (9, 9, 0)
    assert len(rows()) == 9


def test_limit_then_the_rest(dataset: Path) -> None:
    assert ingest("jamshill_image", "--limit", 3).json["embedded"] == 3
    rest = ingest().json
    assert (rest["embedded"], rest["unchanged"]) == (6, 3)


def test_dry_run_writes_nothing(dataset: Path) -> None:
    plan = ingest("jamshill_image", "--dry-run").json
    assert (plan["dry_run"], plan["expected"], plan["to_embed"], plan["unchanged"]) == (True, 9, 9, 0)
    with Store.connect("outcrop.db") as store:
        assert Collection.find(store, "outcrop") is None
    assert not Path(".outcrop").exists()
    ingest("jamshill_image", "--limit", 2)
    assert ingest("jamshill_image", "--dry-run").json["to_embed"] == 7


def test_thumbnails_are_kept_unless_not_wanted(dataset: Path) -> None:
    ingest("jamshill_image", "--limit", 2)
    kept = list(Path(".outcrop/thumbnails").rglob("*.jpg"))
    assert {path.stem for path in kept} == {item_id(image_key("jamshill_image", "250918092555_300", f)) for f in (1, 2)}
    ingest("jamshill_image", "--no-thumbnails")
    assert len(list(Path(".outcrop/thumbnails").rglob("*.jpg"))) == 2


def test_broken_pictures_go_to_the_ledger_and_the_run_goes_on(dataset: Path) -> None:
    folder = dataset.parent / "images/250918092555_300"
    good = (folder / "250918092555_300_0001.jpg").read_bytes()
    (folder / "250918092555_300_0001.jpg").write_bytes(good[: len(good) // 2])
    (folder / "250918092555_300_0002.jpg").write_bytes(b"<html>404</html>")
    picture(1, 1, 1).save(folder / "250918092555_300_0003.jpg")
    (folder / "250918092555_300_0004.jpg").write_bytes(b"")
    (folder / "250918092555_300_0005.jpg").unlink()
    outcome = ingest()
    line = outcome.error(4)
    report = json.loads(outcome.out)
    assert (report["expected"], report["embedded"], report["failed"], report["missing"]) == (9, 4, 5, 1)
    assert "5 of 9 items failed" in line and report["failures"] in line
    ledger = [json.loads(entry) for entry in Path(report["failures"]).read_text().splitlines()]
    assert all(entry["key"] and entry["reason"] and entry["stage"] in ("list", "read", "decode") for entry in ledger)
    by_frame = {entry["key"][-4:]: entry for entry in ledger}
    assert set(by_frame) == {"0001", "0002", "0003", "0004", "0005"}
    assert "1x1" in by_frame["0003"]["reason"] and by_frame["0005"]["stage"] == "list"
    assert len(rows()) == 4

    # The files are mended: a retry takes these five and nothing else.
    for frame in (1, 2, 3, 4, 5):
        picture(100 + frame).save(folder / f"250918092555_300_{frame:04d}.jpg")
    retried = run("ingest", "retry", report["run"], "--json")
    assert retried.code == 0, retried.err
    assert (retried.json["expected"], retried.json["embedded"], retried.json["failed"]) == (5, 5, 0)
    assert len(rows()) == 9
    assert "no failures" in run("ingest", "retry", retried.json["run"]).error(3)


def test_undeclared_files_are_reported_and_left_out(dataset: Path) -> None:
    picture(5).save(dataset.parent / "images/250918092555_300/250918092555_300_0006.jpg")
    outcome = ingest()
    assert outcome.code == 0 and outcome.json["undeclared"] == 1 and outcome.json["embedded"] == 9
    assert "250918092555_300_0006.jpg" in outcome.err


def test_status_lists_runs_newest_first(dataset: Path) -> None:
    first, second = ingest("jamshill_image", "--limit", 1).json["run"], ingest().json["run"]
    listed = run("ingest", "status", "--json").json["runs"]
    assert {r["run"] for r in listed} == {first, second} and all(r["state"] == "done" for r in listed)
    assert run("ingest", "status", second, "--json").json["embedded"] == 8
    assert "no run" in run("ingest", "status", "nonsense").error(3)


def test_runs_within_one_second_keep_their_order(tmp_path: Path) -> None:
    names = [Run.begin(tmp_path, "dataset").record.run for _ in range(8)]
    assert [record.run for record in list_runs(tmp_path)] == names[::-1]
    assert find_run(tmp_path, "last")[0].run == names[-1]


def test_figures_for_prometheus(dataset: Path) -> None:
    ingest("jamshill_image", "--metrics-file", "ingest.prom")
    lines = Path("ingest.prom").read_text().splitlines()
    assert 'outcrop_ingest_embedded{dataset="jamshill_image",collection="outcrop"} 9' in lines
    assert "# TYPE outcrop_ingest_failed gauge" in lines


def test_unicode_datasets(tmp_path: Path) -> None:
    write_dataset(tmp_path, {"잠실_300": 2}, name="잠실 데이터", root="항공/東京")
    assert ingest("잠실 데이터").json["embedded"] == 2
    found = run(
        "query", "item", image_key("잠실 데이터", "잠실_300", 1), "--where", "dataset=잠실 데이터", "--json"
    ).json
    assert [hit["capture_id"] for hit in found["queries"][0]["hits"]] == ["잠실_300", "잠실_300"]


@pytest.mark.slow
def test_kill_during_ingest_then_the_same_command_again(tmp_path: Path) -> None:
    total, batch = 240, 4
    write_dataset(tmp_path, {"250918092555_300": total})
    process = start("ingest", "dataset", "jamshill_image", *LITE, "--batch", batch, "--json", cwd=tmp_path, **SLOWLY)
    until(lambda: any(each["upserted"] >= 20 for each in records(tmp_path / ".outcrop")), "rows", process)
    (record,) = records(tmp_path / ".outcrop")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 20 <= record["upserted"] < total, "the run was not caught in the middle"

    survivors = rows("ingested_at")
    assert len(survivors) >= record["upserted"], "rows that were acknowledged are lost"
    status = run("ingest", "status", "--json").json["runs"]
    assert status[0]["state"] == "died"

    again = ingest().json
    assert again["embedded"] == total - len(survivors), "an item that was there was embedded again"
    assert again["unchanged"] == len(survivors)
    after = rows("ingested_at")
    assert len(after) == total
    assert all(after[key] == survivors[key] for key in survivors)
    with Store.connect("outcrop.db") as store:
        assert Collection.open(store, "outcrop").count() == total
    # Embedded in both runs: at most what was between the encoder and the rows (four queued batches, one being written of
    # up to 256 rows, one just done), and what the record, written twice a second, had not said yet.
    final = json.loads(next((tmp_path / ".outcrop/runs" / status[0]["run"]).glob("run.json")).read_text())
    assert final["embedded"] - len(survivors) <= 6 * batch + 256


@pytest.mark.slow
def test_interrupt_ends_cleanly_and_the_next_run_goes_on(tmp_path: Path) -> None:
    total = 240
    write_dataset(tmp_path, {"250918092555_300": total})
    process = start("ingest", "dataset", "jamshill_image", *LITE, "--batch", 4, "--json", cwd=tmp_path, **SLOWLY)
    until(lambda: any(each["upserted"] >= 8 for each in records(tmp_path / ".outcrop")), "rows", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    stopped = json.loads(out)
    assert stopped["state"] == "interrupted" and 0 < stopped["upserted"] < total
    assert stopped["embedded"] == stopped["upserted"] == len(rows()), "something was embedded and then thrown away"
    again = ingest().json
    assert (again["embedded"], again["unchanged"]) == (total - stopped["upserted"], stopped["upserted"])
