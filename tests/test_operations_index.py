"""Changing the index, loading and releasing, and verifying, through the command on both backends."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import run
from operations import (
    ROWS,
    SPACE,
    answers_rightly,
    collection,
    done,
    entry,
    items,
    make,
    unit,
)

from outcrop.schema.filters import where
from outcrop.store.collection import Collection
from outcrop.store.connection import Store, is_lite
from outcrop.store.maintenance import compact

# -- index -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_index_is_changed_in_place(uri: str, medium: str) -> None:
    name, physical = medium, done("describe", medium)["physical"]
    for profile, build in (("FLAT", ()), ("IVF_FLAT", ("nlist=16",)), ("HNSW", ("M=24",))):
        options = [part for value in build for part in ("--build", value)]
        before = done("describe", name)
        dry = done("index", name, profile, *options, "--dry-run")
        assert done("describe", name) == before
        changed = done("index", name, profile, *options)
        assert (changed["former"], changed["index"]) == (before["index"]["profile"], profile)
        assert changed["build"] == dry["build"]
        facts = done("describe", name)
        assert (facts["index"]["profile"], facts["index"]["state"], facts["index"]["pending"]) == (
            profile,
            "Finished",
            0,
        )
        assert facts["index"]["build"] == changed["build"] and facts["physical"] == physical
        assert facts["loaded"] or is_lite(uri), "a Milvus Lite directory is loaded by whoever opens it"
        assert facts["space"]["fingerprint"] == SPACE.fingerprint, "the properties must survive"
        assert answers_rightly(uri, name, 1500)
    assert "did you mean" in collection("index", name, "IVFFLAT").error(3)


def test_an_index_that_cannot_be_had(uri: str, medium: str) -> None:
    """A CPU server takes a GPU index and never finishes it; Milvus Lite would take it and never load again."""
    name = medium
    if is_lite(uri):
        outcome = collection("index", name, "GPU_CAGRA")
        assert outcome.code == 0 and "Milvus Lite has no GPU_CAGRA; HNSW is used instead" in outcome.err
        assert outcome.json["index"] == "HNSW"
        assert "IVF_FLAT is used instead" in collection("index", name, "IVF_RABITQ", "--dry-run").err
        assert "it knows SQ8" in collection("index", name, "HNSW_SQ", "--build", "sq_type=SQ4U").error(3)
        assert done("index", name, "HNSW_SQ")["build"]["sq_type"] == "SQ8"
        assert answers_rightly(uri, name, 1500)
        done("index", name, "HNSW")
    else:
        for index, version in (("IVF_RABITQ", "2.6.0"), ("AISAQ", "2.6.4"), ("HNSW_SQ", "2.5.0")):
            assert f"{index} needs Milvus {version} or newer" in collection("index", name, index).error(3)
        line = collection("index", name, "GPU_IVF_FLAT", "--deadline", 4).error(6)
        assert "GPU_IVF_FLAT" in line and "restored HNSW" in line and "-gpu image" in line
        assert "2.6.20" in collection("index", name, "GPU_CAGRA").error(3)
    facts = done("describe", name)
    assert (facts["index"]["profile"], facts["index"]["state"], facts["index"]["pending"]) == ("HNSW", "Finished", 0)
    assert answers_rightly(uri, name, 1500)


# -- memory ------------------------------------------------------------------------------------------------------------


def test_load_and_release(uri: str, name: str) -> None:
    physical = make(uri, name, 40)
    assert done("release", name) == {"released": [physical]}
    assert not entry(physical)["loaded"]
    assert done("load", name) == {"loaded": [physical]}
    assert entry(physical)["loaded"] or is_lite(uri), "a Milvus Lite directory is loaded by whoever opens it"
    done("release", name)
    assert answers_rightly(uri, name, 40), "the next query loads it again"


def test_one_datasets_partitions(uri: str, name: str) -> None:
    make(uri, name, 40)
    with Store.connect(uri) as store:
        opened = Collection.open(store, name)
        opened.upsert(items(8, "field"), unit(8))
        if not is_lite(uri):
            opened.flush()  # sealed rows are loaded by another way than those just written
    if is_lite(uri):
        for command in ("load", "release"):
            assert "Milvus Lite can only" in collection(command, name, "--dataset", "field").error(6)
        return
    wanted = {"image__field", "reference__field"}
    assert set(done("release", name, "--dataset", "field")["released"]) == wanted
    with Store.connect(uri) as store:
        assert Collection.open(store, name).count() == 48, "the next query loads the rest again"
    done("release", name)
    assert set(done("load", name, "--dataset", "field")["loaded"]) == wanted
    with Store.connect(uri) as store:
        assert Collection.open(store, name).count(where("dataset=town")) == 40
    assert "no partition of dataset 'sea'" in collection("load", name, "--dataset", "sea").error(3)


def test_flush_and_compact(uri: str, name: str) -> None:
    physical = make(uri, name, 40)
    with Store.connect(uri) as store:
        opened = Collection.open(store, name)
        opened.upsert(items(40), unit(40))
        opened.delete([items(40)[0].id])
    assert done("flush", name) == {"flushed": physical}
    compacted = done("compact", name, "--deadline", 1)
    assert compacted["compacted"] == physical
    assert compacted["state"] == "done" or "after 1 s; the server goes on" in compacted["state"]
    assert done("stats", name)["rows"][0]["rows"] == 39
    assert "a forced merge needs Milvus 3.0.0 or newer" in collection("compact", name, "--merge-to", 4096).error(3)


def test_a_forced_merge_asks_a_new_server(lite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By milvus.io/docs/force-merge.md: `compact` with a target size in MiB."""
    make(lite, "merge", 4)
    asked: list[dict[str, object]] = []
    with Store.connect(lite) as store:
        opened = Collection.open(store, "merge")
        monkeypatch.setattr(store, "version", (3, 0, 0))
        monkeypatch.setattr(store.client, "compact", lambda _, **more: asked.append(more) or 1)
        monkeypatch.setattr(store.client, "get_compaction_state", lambda *_, **__: "Completed")
        assert compact(opened, merge_to=4096) == compact(opened) == "done"
        monkeypatch.setattr(store, "version", None)
    assert [each.get("target_size") for each in asked] == [4096, None]


# -- verify ------------------------------------------------------------------------------------------------------------


def test_verify_a_good_index(uri: str, large: str) -> None:
    result = done("verify", "large", "--samples", 50, "--metrics-file", "verify.prom", "--min-recall", 0.99)
    assert (result["index"], result["rows"], result["samples"], result["near_random"]) == ("HNSW", ROWS, 50, False)
    assert result["recall"] >= 0.99 and result["bucket"] == "99+"
    assert all(check["bucket"] == "99+" for check in result["checks"])
    assert [check["share"] for check in result["checks"]] == [1.0, 0.5, 0.1, 0.01]
    assert all(check["recall"] >= 0.99 for check in result["checks"]), result["checks"]
    kept = [check["kept"] for check in result["checks"]]
    assert kept[0] == ROWS and all(0.7 < k / (ROWS * s) < 1.3 for k, s in zip(kept[:3], (1, 0.5, 0.1), strict=True))
    metrics = Path("verify.prom").read_text()
    labels = '{collection="large",index="HNSW"}'
    assert f"outcrop_verify_rows{labels} {ROWS}\n" in metrics and f"outcrop_verify_passed{labels} 1\n" in metrics
    assert "recall@10 of large" in run("collection", "verify", "large", "--samples", 5).out


def test_verify_with_bad_search_parameters(uri: str, large: str) -> None:
    outcome = collection("verify", "large", "--samples", 50, "--param", "ef=10", "--metrics-file", "verify.prom")
    line = outcome.error(6)
    assert outcome.json["recall"] < 0.9 and "recall@10 of 'large'" in line and "below 0.9" in line
    assert 'outcrop_verify_passed{collection="large",index="HNSW"} 0\n' in Path("verify.prom").read_text()
    assert "did you mean 'ef'" in collection("verify", "large", "--param", "eff=10").error(3)
    assert "--param" in collection("verify", "large", "--param", "ef").error(2)


def test_verify_finds_what_is_badly_built(uri: str, medium: str) -> None:
    done("index", medium, "HNSW", "--build", "M=2", "--build", "efConstruction=1")
    outcome = collection("verify", medium, "--samples", 50)
    outcome.error(6)
    assert outcome.json["recall"] < 0.9
    done("index", medium, "IVF_FLAT", "--build", "nlist=1024")
    outcome = collection("verify", medium, "--samples", 50, "--param", "nprobe=1")
    assert "near random" in outcome.error(6)
    assert outcome.json["near_random"] and outcome.json["checks"][0]["recall"] < 0.3


def test_verify_of_nothing(lite: str) -> None:
    make(lite, "empty", 0)
    assert "is empty" in collection("verify", "empty").error(3)
