"""Is everything in order? Reach, version, health, index support, disk, clock and GPU: what is wrong and what to do."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from outcrop.operate.machine import Finding, machine
from outcrop.schema.errors import OutcropError, StoreUnreachable
from outcrop.schema.indexes import PROFILES, profile_for, profile_named
from outcrop.schema.item import Item, Kind
from outcrop.schema.settings import Settings
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store, is_lite, lock_holder, shown_uri
from outcrop.store.inventory import Entry, list_collections
from outcrop.store.maintenance import PROPERTY_PREVIOUS, drop

OLDEST = (2, 3, 0)
LITTLE_DISK = 2 * 2**30
"""Bytes free below which we warn."""
PROBE_ROWS = 1100
"""Rows of the probe: segments under 1,024 rows are never indexed."""


def examine(
    settings: Settings, *, probe_index: str | None = None, deadline: float = 60.0, trial: bool = False
) -> Iterator[Finding]:
    """Runs the checks one by one. `probe_index` builds such an index on a small collection of its own and removes it; `trial`
    measures how fast this machine decodes and encodes, and remembers it."""
    yield from _disk(settings)
    yield _clock()
    yield from machine(settings, trial=trial)
    if is_lite(settings.uri) and (holder := lock_holder(Path(settings.uri))) is not None:
        # Whoever holds the directory is at work; asking more would need its lock.
        yield Finding(
            "store",
            "ok",
            f"{shown_uri(settings.uri)} is in use by process {holder}; only one process at a time can open it",
        )
        return
    if settings.uri.endswith(".db") and is_lite(settings.uri) and not Path(settings.uri).exists():
        yield Finding(
            "store", "warning", f"there is no {shown_uri(settings.uri)} yet", "ingest something, or set OUTCROP_URI"
        )
        return
    begun = time.perf_counter()
    try:
        store = Store.of(settings)
    except OutcropError as error:
        yield Finding("store", "wrong", str(error), "see docs/operations.md")
        return
    with store:
        yield Finding("store", "ok", f"{store.describe()} answered in {(time.perf_counter() - begun) * 1000:.0f} ms")
        if store.version is not None and store.version < OLDEST:
            yield Finding(
                "version", "wrong", f"Milvus {_dotted(store.version)}", f"Milvus {_dotted(OLDEST)} or newer is needed"
            )
        yield _indexes(store)
        yield from _collections(store)
        if probe_index is not None:
            yield _probe(store, probe_index, deadline)


def _disk(settings: Settings) -> Iterator[Finding]:
    for name, path in (("state", settings.state), ("store", Path(shown_uri(settings.uri)))):
        if name == "store" and not is_lite(settings.uri):
            continue
        there = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
        free = shutil.disk_usage(there).free
        seen = f"{free / 2**30:.1f} GiB free for {path}"
        yield Finding(
            f"disk ({name})", "warning" if free < LITTLE_DISK else "ok", seen, "make room" if free < LITTLE_DISK else ""
        )


def _clock() -> Finding:
    now = datetime.now(UTC)
    built = datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC)
    if now < built:
        return Finding(
            "clock",
            "wrong",
            f"it is {now:%Y-%m-%d %H:%M} UTC, before this program was installed",
            "set the clock (NTP)",
        )
    return Finding("clock", "ok", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def _indexes(store: Store) -> Finding:
    usable: list[str] = []
    not_here: list[str] = []
    for name in PROFILES:
        try:
            _, note = profile_for(name, store.version)
        except OutcropError:
            note = "too old"
        (not_here if note else usable).append(name)
    gpu = [name for name in usable if PROFILES[name].gpu]
    advice = f"only a -gpu image builds {', '.join(gpu)}: try one with --probe-index {gpu[0]}" if gpu else ""
    return Finding("indexes", "ok", f"usable: {', '.join(usable)}; not here: {', '.join(not_here) or 'none'}", advice)


def _collections(store: Store) -> Iterator[Finding]:
    entries = list_collections(store)
    for entry in entries:
        name = entry.aliases[0] if entry.aliases else entry.physical
        if entry.space is None:
            yield Finding(f"collection {name}", "ok", "not made by Outcrop; left alone")
            continue
        if not entry.aliases:
            yield _nameless(store, entry, entries)
            continue
        collection = Collection.open(store, entry.physical)
        state = collection.index_state()
        seen = f"about {entry.rows} rows, index {state.profile} {state.state}, {state.pending} pending"
        if state.profile != collection.profile.name:
            yield Finding(
                f"collection {name}",
                "wrong",
                f"{seen}; {collection.profile.name} is on record",
                f"collection index {name} {collection.profile.name}",
            )
        elif not state.finished:
            advice = (
                f"wait; if it stays so: collection index {name} HNSW"
                if collection.profile.gpu
                else "wait, or see the server's log"
            )
            yield Finding(f"collection {name}", "warning", seen, advice)
        else:
            yield Finding(f"collection {name}", "ok", seen)


def _nameless(store: Store, entry: Entry, entries: Sequence[Entry]) -> Finding:
    """What to do about a physical collection that no name leads to: left by a creation that was cut short, made beside another
    (blue/green), or the one that a name led to before."""
    name, check = entry.physical.rpartition("__")[0], f"collection {entry.physical}"
    current = next((other for other in entries if name in other.aliases), None)
    seen = f"about {entry.rows} rows of {entry.space.model if entry.space else '?'}, and no name leads to it"
    if current is None:
        model = f" --model {entry.space.model}" if entry.space else ""
        advice = f"its creation was cut short: ingest again (--collection {name}{model}) finishes it"
        return Finding(check, "warning", seen, f"{advice}; or: collection drop {entry.physical}")
    if Collection.open(store, current.physical).properties().get(PROPERTY_PREVIOUS) == entry.physical:
        return Finding(check, "ok", f"{seen}; {name} led to it before", f"collection rollback {name} goes back to it")
    advice = f"collection switch {name} {entry.physical} (it is {current.physical} now)"
    return Finding(check, "warning", seen, f"{advice}; or: collection drop {entry.physical}")


def _probe(store: Store, index: str, deadline: float) -> Finding:
    """Builds the index on a small collection of its own; whatever comes of it, the collection is removed."""
    space = Space(
        model=f"probe{time.time_ns()}",
        weights_digest="0",
        size=(8, 8),
        mean=(0, 0, 0),
        std=(1, 1, 1),
        pooling="avg",
        dim=32,
    )
    profile_named(index)
    try:
        collection = Collection.create(store, "outcrop_probe", space, index=index, alias=False)
    except OutcropError as error:
        return Finding("probe", "wrong", str(error), "use a CPU index, or a newer server")
    try:
        vectors = np.random.default_rng(0).normal(size=(PROBE_ROWS, 32)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        items = [Item(f"image/probe/probe/{n:04d}", Kind.IMAGE, "probe", "probe", frame=n) for n in range(PROBE_ROWS)]
        collection.upsert(items, vectors)
        collection.flush()
        begun = time.perf_counter()
        collection.wait_for_index(deadline)
        used = collection.profile.name
        seen = f"{used} built on {PROBE_ROWS} rows in {time.perf_counter() - begun:.1f} s"
        return Finding("probe", "ok" if used == index.upper() else "warning", seen, "; ".join(collection.notes))
    except StoreUnreachable as error:
        return Finding("probe", "wrong", str(error), "use the -gpu image, or a CPU index")
    finally:
        drop(collection)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
