"""Creating a collection is all or nothing for whoever ingests next: cut short, and by several at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from vectors import unit_vectors
from waiting import LONG

from outcrop.operate.doctor import examine
from outcrop.schema.errors import OutcropError, SpaceMismatch, StoreUnreachable
from outcrop.schema.item import Item, Kind
from outcrop.schema.settings import read_settings
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store
from outcrop.store.maintenance import switch

SPACE = Space(model="m", weights_digest="1", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=8)
OTHER = SPACE.model_copy(update={"weights_digest": "2"})


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


def cut_short(store: Store, name: str, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Creates a collection in a process that ends when `call` is reached."""

    def end(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(store.client, call, end)
        with pytest.raises(Killed):
            Collection.ensure(store, name, SPACE)


def write_one(collection: Collection) -> None:
    collection.upsert([Item("image/d/c/1", Kind.IMAGE, "d", "c", frame=1)], unit_vectors(1, 8))
    collection.flush()


def test_a_creation_that_was_cut_short_is_finished(store: Store, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_short(store, name, "create_alias", monkeypatch)
    assert Collection.find(store, name) is None and len(store.client.list_collections()) >= 1
    made = Collection.ensure(store, name, SPACE, index="FLAT")
    assert made.name == name and made.physical == f"{name}__{SPACE.fingerprint[:8]}"
    write_one(made)
    assert Collection.open(store, name).count() == 1
    with pytest.raises(SpaceMismatch):
        Collection.ensure(store, name, OTHER)


def test_an_index_that_was_not_built_is_built(store: Store, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_short(store, name, "create_alias", monkeypatch)
    physical = f"{name}__{SPACE.fingerprint[:8]}"
    store.client.release_collection(physical)
    store.client.drop_index(physical, "vector")
    made = Collection.ensure(store, name, SPACE)
    assert store.client.list_indexes(physical) == ["vector"]
    write_one(made)
    assert made.count() == 1


def test_a_collection_of_another_space_is_not_adopted(store: Store, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_short(store, name, "create_alias", monkeypatch)
    made = Collection.ensure(store, name, OTHER)
    assert made.space.fingerprint == OTHER.fingerprint and made.physical.endswith(OTHER.fingerprint[:8])


def test_several_first_ingests_at_once_open_one_collection(server_uri: str, name: str) -> None:
    ready, made, trouble = threading.Barrier(4), [], []

    def first() -> None:
        try:
            with Store.connect(server_uri) as mine:
                ready.wait(LONG)
                made.append(Collection.ensure(mine, name, SPACE, patience=LONG).physical)
        except OutcropError as error:
            trouble.append(error)

    threads = [threading.Thread(target=first) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert not trouble and made == [f"{name}__{SPACE.fingerprint[:8]}"] * 4
    with Store.connect(server_uri) as store:
        opened = Collection.open(store, name)
        write_one(opened)
        assert opened.count() == 1
        store.client.drop_alias(name)
        store.client.drop_collection(opened.physical)


def test_patience_covers_looking_up_and_creating(lite_uri: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons: list[str] = []
    with Store.connect(lite_uri) as store:
        real, calls = store.client.has_collection, []

        def flaky(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            if len(calls) in (1, 3):
                raise ConnectionError("away")
            return real(*args, **kwargs)

        monkeypatch.setattr(store.client, "has_collection", flaky)
        with pytest.raises(StoreUnreachable):
            Collection.ensure(store, name, SPACE)
        made = Collection.ensure(store, name, SPACE, patience=20.0, waiting=reasons.append)
    assert made.name == name and len(reasons) == 1 and "away" in reasons[0]


def test_the_doctor_names_collections_without_a_name(lite_uri: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def said() -> dict[str, tuple[str, str]]:
        found = examine(read_settings(None, uri=lite_uri))
        return {each.check: (each.verdict, each.advice) for each in found if each.check.startswith("collection ")}

    ours, others = (f"{name}__{space.fingerprint[:8]}" for space in (SPACE, OTHER))
    with Store.connect(lite_uri, create=True) as store:
        cut_short(store, name, "create_alias", monkeypatch)
    verdict, advice = said()[f"collection {ours}"]
    assert verdict == "warning" and f"--collection {name} --model m" in advice
    assert advice.endswith(f"collection drop {ours}")
    with Store.connect(lite_uri) as store:
        Collection.ensure(store, name, SPACE)
        Collection.create(store, name, OTHER, alias=False)
    assert said()[f"collection {name}"] == ("ok", "")
    verdict, advice = said()[f"collection {others}"]
    assert verdict == "warning" and f"collection switch {name} {others} (it is {ours} now)" in advice
    with Store.connect(lite_uri) as store:
        switch(store, name, others)
    assert said()[f"collection {ours}"] == ("ok", f"collection rollback {name} goes back to it")
