"""An ingest on a Ray cluster: this process lists, counts and finishes; actors on the nodes run the pipeline, each on its share.

Ray Data hands batches of sources (paths and keys, never pictures) to actors: one for each graphics card, or one for each node
where there is none. An actor does with them what an ingest on one machine does, and answers with one row of counts and failures.
A batch whose node is lost is done again by another actor: what was written of it is found unchanged there. The stale rows, the
flush, the wait for the index and the last verification are this process's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import sys
import tempfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.ingest.finishing import finish_whole
from outcrop.ingest.metadata import OwnColumns
from outcrop.ingest.pipeline import Pipeline
from outcrop.ingest.records import failures_of
from outcrop.ingest.requests import AnyRequest
from outcrop.ingest.runs import Failure, Record, Run, running
from outcrop.ingest.sources import Listing, Source, groups
from outcrop.ingest.watcher import Watcher
from outcrop.schema.errors import InputError, OutcropError
from outcrop.schema.places import absolute
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection
from outcrop.store.connection import Store, is_lite

if TYPE_CHECKING:
    from outcrop.embed.opening import LazyEncoder
    from outcrop.embed.protocol import PictureEncoder
    from outcrop.ingest.perform import Target

FEWEST, MOST = 64, 2048
"""Items of a batch: enough to keep a device busy, and few enough that little is done again where a node is lost."""
BATCHES_EACH = 4
"""Batches for each actor, where there are items enough, so that a slow node holds nobody up."""
RESTARTS = 20
"""How often an actor is started again, elsewhere if need be, after its node or process was lost."""
COUNTS = ("embedded", "upserted", "unchanged", "left_out", "expected")


@dataclass(frozen=True)
class Task:
    """What an actor needs to know, once: `request`, settings with absolute paths, and own columns of a table.

    `expected` is about how many items it will embed.
    """

    request: AnyRequest
    settings: Settings
    metadata: OwnColumns = field(default_factory=OwnColumns)
    expected: int = 0


@dataclass(frozen=True)
class Answer:
    """What became of a batch; `error` is why the pipeline broke, and with it the ingest."""

    counts: dict[str, int] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    stages: dict[str, float] = field(default_factory=dict)
    remarks: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    """The keys and paths of files that were read all the same, and what was odd about them."""
    said: tuple[str, ...] = ()
    device: str = ""
    decoder: str = ""
    error: OutcropError | None = None


@dataclass
class Stopping:
    """What a signal handler stops: no further batch is waited for."""

    stopped: bool = False

    def stop(self) -> None:
        """Asks for the end."""
        self.stopped = True


def require_ray(settings: Settings) -> None:
    """Refuses what Ray's nodes could not write to, and a machine without Ray, before anything is made.

    Raises:
        InputError: the store is Milvus Lite, or Ray is not installed.
    """
    if is_lite(settings.uri):
        raise InputError("--ray needs a Milvus server: a Milvus Lite directory belongs to one process; set OUTCROP_URI")
    _ray()


def ingest_on_ray(target: Target, collection: Collection, run: Run, settings: Settings, watcher: Watcher) -> Record:
    """Embeds what is new or changed of a target's listing on the nodes of a cluster; returns the run's record.

    Raises:
        InputError: no cluster answers. OutcropError: a pipeline broke on some node, or rows are missing afterwards.
    """
    record, listing, stopping = run.record, target.listing, Stopping()
    with running(run):
        record.collection, record.physical = collection.name, collection.physical
        record.space, record.expected = target.space.fingerprint, listing.expected
        record.undeclared, record.others = len(listing.undeclared), dict(listing.others)
        for failure in listing.missing:
            run.fail(failure)
        run.count(missing=len(listing.missing))
        run.save()
        watcher.stoppable(stopping)
        task = Task(target.request, _anywhere(settings), target.metadata)
        with contextlib.closing(_answers(task, listing.sources, settings.ray or "", watcher)) as answers:
            for answer in answers:
                _take(answer, run, watcher)
                if stopping.stopped:
                    break
        if not stopping.stopped:
            thumbnails = ThumbnailStore.below(settings.state) if settings.thumbnails else None
            finish_whole(listing, collection, run, record.failed - record.missing + record.left_out, thumbnails)
        run.end("interrupted" if stopping.stopped else "done")
    return record


def _take(answer: Answer, run: Run, watcher: Watcher) -> None:
    """Counts what became of a batch.

    Raises:
        OutcropError: its pipeline broke.
    """
    for failure in answer.failures:
        run.fail(failure)
    for key, path, texts in answer.remarks:
        run.remark(key, Path(path), texts)
    run.count(**answer.counts)
    for stage, seconds in answer.stages.items():
        run.spent(stage, seconds)
    run.record.device = run.record.device or answer.device
    run.record.decoder = run.record.decoder or answer.decoder
    for text in answer.said:
        watcher.warn(text)
    run.save(soon=True)
    watcher.progress(run.record)
    if answer.error is not None:
        raise answer.error


def _anywhere(settings: Settings) -> Settings:
    """The settings as another process may use them, from whatever folder."""
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    paths = {name: absolute(value) for name, value in values.items() if isinstance(value, Path)}
    return Settings.model_construct(**{**values, **paths, "ray": None, "metrics": None})


def _answers(task: Task, sources: Sequence[Source], address: str, watcher: Watcher) -> Generator[Answer]:
    """What becomes of all sources, batch by batch, in the order in which they are done."""
    if not sources:
        return
    ray = _ray()
    with _connected(ray, address):
        actors, needs = _actors([node["Resources"] for node in ray.nodes() if node["Alive"]])
        packed = list(_packed(sources, actors))
        actors, items = min(actors, len(packed)), sum(source.count for source in sources)
        watcher.say(f"Ray: {len(packed)} batches for {actors} actors, each with {_in_words(needs)}")
        workers = task.settings.workers or max(1, int(needs["num_cpus"]))
        drawing = task.settings.drawing_processes or workers
        pace = task.settings.model_copy(update={"workers": workers, "drawing_processes": drawing})
        rows = ray.data.from_items([{"sources": each} for each in packed], override_num_blocks=len(packed)).map_batches(
            Worker,
            fn_constructor_args=(pickle.dumps(replace(task, settings=pace, expected=items // actors)),),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=actors),
            ray_remote_args_fn=_bounded,
            **needs,
        )
        for row in rows.iter_rows():
            yield pickle.loads(row["answer"])


def _bounded() -> dict[str, int]:
    """How often an actor and its batches are begun again: Ray Data would never give up on a file that ends the process."""
    return {"max_restarts": RESTARTS, "max_task_retries": RESTARTS}


def _packed(sources: Sequence[Source], actors: int) -> Iterator[bytes]:
    """Batches of sources, as they are sent.

    Raises:
        InputError: sources of this kind cannot be sent.
    """
    items = sum(source.count for source in sources)
    size = max(FEWEST, min(MOST, items // (actors * BATCHES_EACH)))
    for batch in groups(sources, size):
        try:
            yield zlib.compress(pickle.dumps(batch), 1)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise InputError(f"what is ingested cannot be sent to other machines ({error}); leave --ray out") from None


def _actors(nodes: Sequence[dict[str, float]]) -> tuple[int, dict[str, float]]:
    """How many actors a cluster of these nodes has room for, and what each needs: a graphics card, or a node's cores."""
    cards = sum(int(node.get("GPU", 0)) for node in nodes)
    if cards:
        cores = min(node.get("CPU", 0) // int(node["GPU"]) for node in nodes if node.get("GPU", 0) >= 1)
        return cards, {"num_cpus": max(1.0, cores), "num_gpus": 1.0}
    having = [node["CPU"] for node in nodes if node.get("CPU", 0) >= 1]
    return max(1, len(having)), {"num_cpus": min(having, default=1.0)}


def _in_words(needs: dict[str, float]) -> str:
    cores = f"{needs['num_cpus']:g} core{'s' if needs['num_cpus'] != 1 else ''}"
    return f"a graphics card and {cores}" if "num_gpus" in needs else cores


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody unless it is asked for
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise InputError("--ray needs Ray: pip install 'outcrop[ray]', here and on the nodes") from None
    return ray


@contextlib.contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """A connection to a cluster, closed after the block unless it was there before.

    Raises:
        InputError: no cluster answers.
    """
    before = ray.is_initialized()
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not before:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            cause = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise InputError(
                f"no Ray cluster answers at {address!r} ({cause}); start one with `ray start --head`, or give its address"
            ) from None
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Ray prints what it says of nodes where our answer belongs
            yield
    except ray.exceptions.RayError as error:
        cause = (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
        raise OutcropError(f"the ingest on Ray broke off ({cause}); run the same command again to continue") from error
    finally:
        if not before:
            ray.shutdown()


class Worker:
    """The actor: opens the store and the model once, when the first batch comes, and runs the pipeline over each batch."""

    def __init__(self, task: bytes) -> None:
        self._task: Task = pickle.loads(task)
        self._opened: tuple[Target, Collection, LazyEncoder] | None = None
        self._said: list[str] = []

    def __call__(self, batch: Any) -> dict[str, list[bytes]]:
        """One row of counts for one row of sources (see the module)."""
        sources = pickle.loads(zlib.decompress(batch["sources"][0].as_py()))
        return {"answer": [pickle.dumps(self._answer(sources))]}

    def _answer(self, sources: Sequence[Source]) -> Answer:
        from outcrop.ingest.perform import keeper_of, options_of

        self._said.clear()
        with tempfile.TemporaryDirectory(prefix="outcrop-") as folder:
            run = Run.begin(Path(folder), self._task.request.command)
            error = None
            try:
                target, collection, encoder = self._open()
                settings = self._task.settings
                pipeline = Pipeline(
                    encoder,
                    collection,
                    run,
                    options_of(settings, target),
                    thumbnails=ThumbnailStore.below(settings.state) if settings.thumbnails else None,
                    features=keeper_of(target, settings),
                    waiting=self._said.append,
                    on_change=encoder.begin if target.model is not None else None,
                )
                pipeline.run_all(sources)
                run.record.device = encoder.device if encoder.is_open else ""
            except OutcropError as broken:
                error = broken
            record = run.record
            return Answer(
                {name: getattr(record, name) for name in COUNTS},
                tuple(failures_of(Path(folder), record.run)),
                dict(record.stages),
                tuple(_remarks(run.folder)),
                tuple(self._said),
                record.device,
                record.decoder,
                error,
            )

    def _open(self) -> tuple[Target, Collection, LazyEncoder]:
        from outcrop.embed.models import resolve
        from outcrop.embed.opening import LazyEncoder, open_encoder
        from outcrop.ingest.perform import Target

        if self._opened is None:
            task, settings = self._task, self._task.settings
            store = Store.of(settings, create=False, patience=settings.patience, waiting=self._said.append)
            collection = Collection.open(store, settings.collection)
            space, elsewhere = collection.space, task.request.command == "features"
            model = None if elsewhere else resolve(settings, space, collection.weights_hint)
            listing = Listing(task.request.name, [])
            target = Target(task.request, listing, listing, None, store, collection, space, model, task.metadata)

            def open_model() -> PictureEncoder:
                assert model is not None, "vectors made elsewhere need no model"
                return open_encoder(model, settings, settings.batch, expected=task.expected)

            self._opened = target, collection, LazyEncoder(space, open_model)
        return self._opened


def _remarks(folder: Path) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """What a run kept of odd files, in its folder."""
    with contextlib.suppress(FileNotFoundError):
        for line in (folder / "remarks.jsonl").read_text(encoding="utf-8").splitlines():
            said = json.loads(line)
            yield said["key"], said["path"], tuple(said["remarks"])
