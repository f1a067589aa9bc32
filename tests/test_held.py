"""A misspelt value is not an empty answer, and an empty answer says why; on Milvus Lite and on a server alike."""

from __future__ import annotations

import pytest
from commands import Outcome, run
from operations import SPACE, items, unit

from outcrop.schema.item import Item, Kind, specimen_key, view_key
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

SPECIMENS = 4


@pytest.fixture(scope="module")
def filled(backend: str) -> str:
    """A collection `held`: town (images and references), a dataset with a name of its own kind, and specimens with views."""
    made = [*items(12), *items(3, dataset="Gyeongju, old town", mixed=False)]
    for n in range(SPECIMENS):
        made.append(Item(specimen_key("held", "urchin", f"s{n}"), Kind.SPECIMEN, "held", f"s{n}", category="urchin"))
        made.append(Item(view_key("held", "urchin", f"s{n}", 0), Kind.VIEW, "held", f"s{n}", category="urchin"))
    with Store.connect(backend) as store:
        collection = Collection.create(store, "held", SPACE, index="FLAT")
        collection.upsert(made, unit(len(made)))
        collection.flush()
    return "held"


@pytest.fixture(autouse=True)
def collection(uri: str, filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTCROP_COLLECTION", filled)


def asked(*more: object) -> Outcome:
    return run("query", "dataset", "town", "--limit", 2, "--json", *more)


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("dataset=twon", "holds no dataset 'twon'; did you mean 'town'"),
        ("dataset=town,twon", "did you mean 'town'"),
        ("dataset=gyeongju old town", "did you mean 'Gyeongju, old town'"),
        ("capture_id=c_10", "holds no capture_id 'c_10'; did you mean 'c_100'"),
        ("category=urchn", "did you mean 'urchin'"),
        ("category=zzz", "there are: urchin"),
    ],
)
def test_a_misspelt_value_names_the_nearest(condition: str, said: str) -> None:
    assert said in asked("--where", condition).error(3)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_an_export_of_nothing_says_why(uri: str, ending: str) -> None:
    for condition, said in (
        ("dataset=twon", "nothing is exported: collection 'held' holds no dataset 'twon'; did you mean 'town'"),
        ("altitude=9000..9999", "nothing is exported: the filter keeps 0 of"),
    ):
        export = ("collection", "export", "held", f"x.{ending}", "--force", "--where", condition, "--uri", uri)
        exported = run(*export)
        assert exported.code == 0 and said in exported.err, exported.err
    assert "nothing is exported" not in run(*export[:-3], "dataset=town", "--uri", uri).err


def test_clusterings_name_what_is_misspelt() -> None:
    made = run(
        "query", "cluster", "--kind", "image", "--method", "kmeans", "--clusters", 2, "--output", "made", "--pca", 0
    )
    assert made.code == 0, made.err
    for command in (("cluster", "--kind", "image", "--output", "other"), ("cluster", "assign", "made")):
        assert "holds no dataset 'twon'; did you mean 'town'" in run(
            "query", *command, "--where", "dataset=twon"
        ).error(3)


def test_against_names_a_kind_or_a_dataset() -> None:
    assert "did you mean 'reference'" in asked("--against", "referense").error(3)
    assert asked("--against", "reference").code == 0


@pytest.mark.parametrize("condition", ["dataset!=twon", "capture_id!=nowhere", "dataset=tow*", "category!=zzz"])
def test_negated_conditions_and_prefixes_are_not_checked(condition: str) -> None:
    assert asked("--where", condition).code == 0


def test_an_empty_answer_says_why() -> None:
    outcome = asked("--where", "altitude=5000")
    total = 15 + 2 * SPECIMENS
    assert outcome.code == 0 and f"no hits: the filter keeps 0 of {total} rows; none has" in outcome.err
    assert all(query["hits"] == [] for query in outcome.json["queries"])
    itself = run("query", "item", "specimen/held/urchin/s0", "--where", "capture_id=s0", "--exclude-self", "--json")
    assert itself.code == 0 and f"no hits: the filter keeps 2 of {total} rows" in itself.err


def test_the_only_kind_of_a_dataset_is_asked_with() -> None:
    outcome = run("query", "dataset", "held", "-k", 1, "--json")
    assert outcome.code == 0 and len(outcome.json["queries"]) == SPECIMENS
    assert "the queries are of kind specimen" in outcome.err
    line = run("query", "dataset", "held", "--query-kind", "image").error(3)
    assert "holds no image but view, specimen" in line or "holds no image but specimen, view" in line
    assert "did you mean 'town'" in run("query", "dataset", "twon").error(3)


def test_a_kind_that_is_not_there(uri: str, name: str) -> None:
    with Store.connect(uri) as store:
        Collection.create(store, name, SPACE, index="FLAT").upsert(items(3, mixed=False), unit(3))
    line = asked("--collection", name, "--where", "kind=specimen").error(3)
    assert f"collection {name!r} holds no specimen; it holds: image" in line
