"""Switching an alias to another space and back, while queries go on."""

from __future__ import annotations

import threading

from operations import (
    GREEN,
    collection,
    done,
    items,
    make,
    state_of,
    unit,
)

from outcrop.store.collection import Collection
from outcrop.store.connection import Store, is_lite
from outcrop.store.maintenance import rollback, switch
from outcrop.store.search import search


def test_switch_and_rollback(uri: str, name: str) -> None:
    blue = make(uri, name, 30)
    green = make(uri, name, 20, GREEN, alias=False)
    assert "has not been switched" in collection("rollback", name).error(6)
    assert "already" in collection("switch", name, blue).error(6)
    assert "physical collection" in collection("switch", blue, green).error(6)

    before = state_of(uri, name)
    dry = done("switch", name, green, "--dry-run")
    assert (dry["former"], dry["rows"]) == (blue, 20) and state_of(uri, name) == before
    assert done("switch", name, green) == {**dry, "dry_run": False}
    facts = done("describe", name)
    assert (facts["physical"], facts["rows"], facts["previous"]) == (green, 20, blue)
    assert facts["space"]["fingerprint"] == GREEN.fingerprint and facts["previous"] == blue

    before = state_of(uri, name)
    assert done("rollback", name, "--dry-run")["physical"] == blue and state_of(uri, name) == before
    assert done("rollback", name)["physical"] == blue
    assert (done("describe", name)["physical"], done("describe", name)["rows"]) == (blue, 30)
    assert "nothing to go back to" in collection("rollback", name).error(6), "never forward again"
    assert done("switch", name, green)["former"] == blue

    done("drop", blue, "--yes")
    assert "is gone" in collection("rollback", name).error(6)
    assert done("describe", name)["physical"] == green

    fresh = f"{name}_fresh"
    assert done("switch", fresh, green)["former"] == ""
    assert set(done("describe", green)["aliases"]) == {name, fresh}


class Asking(threading.Thread):
    """Asks a name for hits again and again until it is told to stop; keeps what went wrong."""

    def __init__(self, store: Store, name: str) -> None:
        super().__init__(daemon=True)
        self.store, self.alias = store, name
        self.answers: list[tuple[str, int]] = []
        self.trouble: list[BaseException] = []
        self._enough = threading.Event()

    def run(self) -> None:
        while not self._enough.is_set():
            try:
                found = Collection.open(self.store, self.alias)
                hits = search(found, unit(1, found.space.dim), 5).hits[0]
                self.answers.append((found.physical, len(hits)))
            except BaseException as error:  # noqa: BLE001  kept for the test to judge
                self.trouble.append(error)

    def until(self, physical: str) -> None:
        """Waits until three answers in a row came from this collection."""
        for _ in range(600):
            if self.trouble or [p for p, _ in self.answers[-3:]] == [physical] * 3:
                return
            self.join(0.1)
        raise AssertionError(f"no answers from {physical}: {self.answers[-5:]}")

    def finish(self) -> None:
        self._enough.set()
        self.join(60)


def test_blue_green_without_a_gap(uri: str, name: str) -> None:
    """Filling another space, switching to it and back again, while somebody asks all the time."""
    blue = make(uri, name, 200)
    with Store.connect(uri) as asked, Store.connect(uri) as store:
        asking = Asking(asked, name)
        asking.start()
        try:
            asking.until(blue)
            made = Collection.create(store, name, GREEN, alias=False)
            for part in range(4):
                rows = slice(50 * part, 50 * part + 50)
                made.upsert(items(200)[rows], unit(200, GREEN.dim)[rows])
            made.flush()
            assert all(physical == blue for physical, _ in asking.answers), "switched before its time"
            if is_lite(uri):  # a command would take the directory's lock away from the one who asks
                assert switch(store, name, made.physical) == blue
            else:
                assert done("switch", name, made.physical)["former"] == blue
            asking.until(made.physical)
            if is_lite(uri):
                assert rollback(store, name) == blue
            else:
                assert done("rollback", name)["physical"] == blue
            asking.until(blue)
        finally:
            asking.finish()
    assert not asking.trouble, asking.trouble[:3]
    assert {hits for _, hits in asking.answers} == {5}, "an answer with holes"
    order = [p for n, (p, _) in enumerate(asking.answers) if n == 0 or asking.answers[n - 1][0] != p]
    assert order == [blue, made.physical, blue]
