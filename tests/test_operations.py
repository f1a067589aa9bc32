"""The `collection` command, on Milvus Lite and on a real server: create, look, drop, doctor, plan, dry runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Outcome, run
from operations import (
    DIM,
    MODEL,
    ROWS,
    SPACE,
    answers_rightly,
    collection,
    done,
    entry,
    items,
    make,
    state_of,
    unit,
)

from outcrop.schema.indexes import PROFILES
from outcrop.store.collection import Collection
from outcrop.store.connection import Store, is_lite
from outcrop.store.maintenance import PROPERTY_PREVIOUS

# -- create ------------------------------------------------------------------------------------------------------------


def test_create_then_another_size_beside_it(uri: str, name: str) -> None:
    before = state_of(uri, name)
    refused = ("create", name, *MODEL, "--index", "HNSW", "--build", "M=1")
    assert collection(*refused, "--dry-run").error(3) == collection(*refused).error(3), "a dry run refuses the same"
    dry = done("create", name, *MODEL, "--dry-run")
    assert dry["dry_run"] and state_of(uri, name) == before
    first = done("create", name, *MODEL)
    assert (first["physical"], first["beside"]) == (dry["physical"], "")
    assert first["index"] == ("FLAT" if is_lite(uri) else "HNSW")

    line = collection("create", name, *MODEL).error(6)
    assert "already" in line and first["physical"] in line

    dry = done("create", name, *MODEL, "--size", 256, "--dry-run")
    assert dry["beside"] == first["physical"] != dry["physical"]
    second = run("collection", "create", name, *MODEL, "--size", 256)
    assert second.code == 0 and f"collection switch {name} {dry['physical']}" in second.out
    assert done("describe", name)["physical"] == first["physical"], "the name must still lead to the first"
    facts = done("describe", dry["physical"])
    assert (facts["aliases"], facts["space"]["size"], facts["rows"]) == ([], [256, 256], 0)
    assert Path(facts["weights"]).is_file()


def test_create_with_build_parameters(uri: str, name: str) -> None:
    made = done("create", name, *MODEL, "--index", "hnsw", "--build", "M=48")
    assert done("describe", name)["index"]["build"] == {"M": 48, "efConstruction": 256} and made["index"] == "HNSW"


REFUSED = (
    (("a b", *MODEL), 3, "not a valid collection name"),
    (("x__12345678", *MODEL), 3, "physical name"),
    (("x", *MODEL, "--index", "HNWS"), 3, "did you mean 'HNSW'"),
    (("x", *MODEL, "--index", "HNSW", "--build", "efConstuction=3"), 3, "did you mean 'efConstruction'"),
    (("x", *MODEL, "--index", "HNSW", "--build", "M=1"), 3, "between 2 and 2048"),
    (("x", *MODEL, "--index", "HNSW", "--build", "M"), 2, "NAME=VALUE"),
    (("x", *MODEL, "--fit", "stretch"), 3, "'squash', 'crop' or 'pad'"),
    (("x", "--model", "efficientnet_lite1"), 3, "efficientnet_lite0"),
    (("x", "--model", "dinov3_vits16"), 3, "--weights"),
)


def test_create_refuses_what_makes_no_sense(uri: str) -> None:
    before = state_of(uri, "x")
    for arguments, code, said in REFUSED:
        assert said in collection("create", *arguments).error(code), arguments
    assert state_of(uri, "x") == before


# -- looking -----------------------------------------------------------------------------------------------------------


def test_list(uri: str, large: str) -> None:
    listed = done("list")
    row = entry(large)
    assert (row["name"], row["model"], row["dim"], row["index"]) == ("large", "ops", DIM, "HNSW")
    assert ("Milvus Lite" if is_lite(uri) else "Milvus 2.3.5") in listed["store"]
    table = run("collection", "list").out
    assert large in table and "HNSW" in table


def test_collections_of_others_are_listed_and_left_alone(uri: str) -> None:
    with Store.connect(uri) as store:
        store.client.create_collection("of_others", dimension=4)
    assert "not Outcrop" in entry("of_others")["model"]
    for command in ("describe", "stats", "flush", "release", "verify"):
        assert "not made by Outcrop" in collection(command, "of_others").error(6)
    assert "not made by Outcrop" in collection("drop", "of_others", "--yes").error(6)
    findings = {f["check"]: f for f in done("doctor")["findings"]}
    assert "not made by Outcrop" in findings["collection of_others"]["seen"]
    with Store.connect(uri) as store:
        assert store.client.has_collection("of_others")
        store.client.drop_collection("of_others")


def test_describe_and_stats_count_truly(uri: str, name: str) -> None:
    physical = make(uri, name, 60)
    with Store.connect(uri) as store:
        opened = Collection.open(store, name)
        opened.upsert(items(20, "field"), unit(20))
        opened.upsert(items(20, "field"), unit(20))  # replaced: counted once
        opened.delete([item.id for item in items(3, "field")])
        opened.flush()
    expected = [*items(60), *items(20, "field")[3:]]
    facts = done("describe", name)
    assert (facts["physical"], facts["aliases"], facts["rows"]) == (physical, [name], 77)
    for row in facts["counts"]:
        assert row["rows"] == sum(i.kind == row["kind"] and i.dataset == row["dataset"] for i in expected), row
    assert len(facts["counts"]) == 4
    assert {row["altitude"]: row["rows"] for row in facts["altitudes"]} == {
        altitude: sum(i.altitude == altitude for i in expected) for altitude in (100.0, 200.0, 300.0)
    }
    assert set(facts["partitions"]) >= {"image__town", "reference__town", "image__field", "reference__field"}
    assert facts["space"]["fingerprint"] == SPACE.fingerprint and facts["index"]["profile"] == "FLAT"
    stats = done("stats", name)["rows"][0]
    assert stats["rows"] == 77 and stats["server_rows"] >= 77
    assert stats["superseded"] == stats["server_rows"] - 77
    table = run("collection", "describe", physical).out
    assert "reference" in table and "77" in table and "altitude" in table


def test_unknown_names_are_answered_with_the_nearest(uri: str, large: str) -> None:
    for command in ("describe", "stats", "load", "release", "flush", "compact", "verify", "rollback"):
        assert "did you mean 'large'" in collection(command, "larg").error(3), command
    for arguments in (("index", "larg", "FLAT"), ("switch", "x", "larg"), ("drop", "larg", "--yes"), ("copy", "larg")):
        assert "did you mean 'large'" in collection(*arguments).error(3), arguments
    assert "did you mean 'large'" in collection("export", "larg", "x.parquet").error(3)


# -- drop --------------------------------------------------------------------------------------------------------------


def test_drop_asks_first(uri: str, name: str) -> None:
    physical = make(uri, name, 12)
    before = state_of(uri, name)
    for more in ((), ("--dataset", "town")):
        assert "--yes" in collection("drop", name, *more).error(6)
        assert done("drop", name, *more, "--dry-run")["rows"] == 12
        assert state_of(uri, name) == before
    assert done("drop", name, "--yes") == {"physical": physical, "dataset": None, "rows": 12, "dry_run": False}
    assert physical not in {row["physical"] for row in done("list")["rows"]}
    assert "no collection" in collection("describe", name).error(3)
    make(uri, name, 3)  # the name is free again
    assert done("describe", name)["rows"] == 3


def test_drop_one_dataset_of_two(uri: str, name: str) -> None:
    make(uri, name, 20)
    with Store.connect(uri) as store:
        Collection.open(store, name).upsert(items(8, "field"), unit(8))
    assert "holds nothing of dataset 'sea'" in collection("drop", name, "--dataset", "sea", "--yes").error(3)
    assert done("drop", name, "--dataset", "field", "--yes")["rows"] == 8
    facts = done("describe", name)
    assert facts["rows"] == 20 and {row["dataset"] for row in facts["counts"]} == {"town"}
    assert not {"image__field", "reference__field"} & set(facts["partitions"])
    assert answers_rightly(uri, name, 20)
    with Store.connect(uri) as store:  # and it may come again
        assert Collection.open(store, name).upsert(items(8, "field"), unit(8)) == 8
    assert done("describe", name)["rows"] == 28


# -- doctor and plan ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_doctor(uri: str, large: str) -> None:
    report = done("doctor", "--probe-index", "HNSW")
    found = {finding["check"]: finding for finding in report["findings"]}
    assert report["ok"] and not [f for f in found.values() if f["verdict"] == "wrong"]
    assert ("Milvus Lite" if is_lite(uri) else "Milvus 2.3.5") in found["store"]["seen"]
    assert f"about {ROWS} rows, index HNSW Finished" in found["collection large"]["seen"]
    assert "HNSW built on" in found["probe"]["seen"]
    assert not [row for row in done("list")["rows"] if "probe" in row["physical"]], "the probe must be removed"
    assert "probe" in run("collection", "doctor", "--probe-index", "FLAT").out


@pytest.mark.slow
def test_doctor_says_when_an_index_cannot_be_had(uri: str) -> None:
    if is_lite(uri):
        found = done("doctor", "--probe-index", "GPU_IVF_FLAT")["findings"][-1]
        assert found["verdict"] == "warning" and "IVF_FLAT is used instead" in found["advice"]
    else:
        outcome = collection("doctor", "--probe-index", "GPU_IVF_FLAT", "--deadline", 4)
        assert "probe" in outcome.error(4) and "GPU_IVF_FLAT" in outcome.error(4)
        found = outcome.json["findings"][-1]
        assert (found["check"], found["verdict"]) == ("probe", "wrong") and "-gpu image" in found["advice"]
        outcome = collection("doctor", "--probe-index", "GPU_CAGRA")
        assert "2.6.20" in outcome.error(4) and outcome.json["findings"][-1]["verdict"] == "wrong"
    assert "did you mean 'HNSW'" in collection("doctor", "--probe-index", "HNWS").error(3)
    assert not [row for row in done("list")["rows"] if "probe" in row["physical"]]


def test_doctor_finds_an_index_that_is_not_the_one_on_record(lite: str, name: str) -> None:
    """As after a change of the index that was killed half-way."""
    physical = make(lite, name, 20)
    with Store.connect(lite) as store:
        record = json.dumps({"profile": "HNSW", "build": PROFILES["HNSW"].build_params()})
        store.client.alter_collection_properties(physical, {"outcrop.index": record})
    outcome = collection("doctor")
    assert f"collection index {name} HNSW" in outcome.error(4)
    assert done("index", name, "HNSW")["index"] == "HNSW"
    assert done("doctor")["ok"]


def test_doctor_without_a_store() -> None:
    outcome = collection("doctor", "--uri", "http://127.0.0.1:9", "--timeout", 2)
    assert "http://127.0.0.1:9" in outcome.error(5)
    assert not outcome.json["ok"] and outcome.json["findings"][-1]["check"] == "store"
    found = {finding["check"]: finding for finding in done("doctor")["findings"]}
    assert found["store"]["verdict"] == "warning" and "no ./outcrop.db yet" in found["store"]["seen"]
    assert not Path("outcrop.db").exists(), "looking makes nothing"


def test_doctor_leaves_a_lite_directory_in_use_alone(lite_uri: str) -> None:
    script = (
        "import sys; from outcrop.store.connection import Store\n"
        "s = Store.connect(sys.argv[1]); print(1, flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, lite_uri],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline()
        found = done("doctor", "--uri", lite_uri)["findings"][-1]
        assert found["verdict"] == "ok" and f"process {holder.pid}" in found["seen"]
        assert "in use" in collection("list", "--uri", lite_uri).error(5)
    finally:
        holder.communicate("\n")


@pytest.mark.parametrize("command", [("list",), ("describe", "x"), ("create", "x", *MODEL), ("drop", "x", "--yes")])
def test_a_wrong_host_is_exit_5(command: tuple[str, ...]) -> None:
    assert "http://127.0.0.1:9" in collection(*command, "--uri", "http://127.0.0.1:9", "--timeout", 2).error(5)


def test_plan() -> None:
    small = done("plan", "--rows", 50_000, *MODEL)
    assert (small["dim"], small["index"], small["backend"]) == (1280, "FLAT", "Milvus Lite")
    large = done("plan", "--rows", 3_000_000, "--dim", 768, "--gpu-memory", 24, "--rate", 100)
    assert large["index"] == "GPU_CAGRA" and large["fits"] and large["embed_hours"] == pytest.approx(8.33, abs=0.01)
    table = run("collection", "plan", "--rows", 3_000_000, "--dim", 768).out
    assert (
        "3,000,000" in table
        and "GiB" in table
        and "unknown: give a rate" in table
        and "deploy/milvus-compose.yml" in table
    )
    assert "did you mean" in collection("plan", "--rows", 10, "--index", "HNWS").error(3)
    assert run("collection", "plan", "--rows", 0).code == 2


def test_figures_for_prometheus_are_exact_and_whole(lite: str) -> None:
    from outcrop.screen.metrics import write_metrics

    write_metrics(Path("m.prom"), "audit", {"good": 12_345_678.0, "no file": 0.5}, {"collection": 'a"b\\c\nd'})
    lines = Path("m.prom").read_text().splitlines()
    assert lines == [
        "# TYPE outcrop_audit_good gauge",
        'outcrop_audit_good{collection="a\\"b\\\\c\\nd"} 12345678',
        "# TYPE outcrop_audit_no_file gauge",
        'outcrop_audit_no_file{collection="a\\"b\\\\c\\nd"} 0.5',
    ]
    assert os.listdir() == ["m.prom"]
    make(lite, "x", 20)
    assert "no/where.prom" in collection("verify", "x", "--metrics-file", "no/where.prom").error(3)


def every_change(name: str, physical: str) -> list[Callable[[], Outcome]]:
    commands = [("create", name, *MODEL), ("index", name, "HNSW"), ("switch", f"{name}_x", physical)]
    commands += [
        ("drop", name),
        ("drop", name, "--dataset", "town"),
        ("rollback", name),
        ("copy", name, "--to", f"{name}_y"),
    ]
    return [lambda c=c: collection(*c, "--dry-run") for c in commands]  # type: ignore[misc]


def test_dry_runs_change_nothing(uri: str, name: str) -> None:
    physical = make(uri, name, 30)
    with Store.connect(uri) as store:
        store.client.alter_collection_properties(physical, {PROPERTY_PREVIOUS: physical})
    before = state_of(uri, name)
    for change in every_change(name, physical):
        outcome = change()
        assert outcome.code == 0, outcome.err
        assert outcome.json["dry_run"] is True
    assert state_of(uri, name) == before
