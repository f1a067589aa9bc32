"""The runs of a sharded ingest, seen as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from outcrop.ingest.records import failures_of, list_runs
from outcrop.ingest.runs import Failure, Record
from outcrop.schema.errors import InputError, nearest
from outcrop.schema.shards import Shard

COUNTS = ("expected", "embedded", "upserted", "unchanged", "failed", "missing", "undeclared", "removed")


@dataclass(frozen=True)
class Group:
    """The newest run of each shard of a group, in the order of their numbers, and an `ingest finish` after them (or None)."""

    name: str
    of: int
    shards: Sequence[Record]
    finish: Record | None = None

    @property
    def done(self) -> frozenset[int]:
        """The numbers of the shards that are done."""
        return frozenset(Shard.parse(record.shard).number for record in self.shards if record.state == "done")

    @property
    def state(self) -> str:
        """``done`` where all shards are, ``running`` where one is, else how many are done."""
        done = len(self.done)
        if done == self.of:
            return "done"
        running = any(record.state == "running" for record in self.shards)
        return "running" if running else f"{done} of {self.of} done"

    def count(self, name: str) -> int:
        """One of the counts of a record over all shards; what `ingest finish` removed is among the removed."""
        extra = self.finish.removed if self.finish is not None and name == "removed" else 0
        return sum(int(getattr(record, name)) for record in self.shards) + extra

    @property
    def seconds(self) -> float:
        """From the start of the first shard to the end of the last, as far as they have ended."""
        ends = [datetime.fromisoformat(r.started).timestamp() + r.seconds for r in self.shards]
        return round(max(ends) - min(datetime.fromisoformat(r.started).timestamp() for r in self.shards), 3)

    def row(self) -> dict[str, object]:
        """The group as one row of a table of runs."""
        newest = max(self.shards, key=lambda record: (record.number, record.started))
        shared = {"command": newest.command, "dataset": newest.dataset, "collection": newest.collection}
        counts = {name: self.count(name) for name in COUNTS}
        started = min(record.started for record in self.shards)
        return {
            "group": self.name,
            "state": self.state,
            **shared,
            "shards": self.of,
            **counts,
            "seconds": self.seconds,
            "started": started,
        }

    def failures(self, state: Path) -> list[Failure]:
        """The failures of all shards, from their ledgers below the state folder."""
        return [failure for record in self.shards for failure in failures_of(state, record.run)]


def find_group(state: Path, name: str) -> Group:
    """The group of this name below a state folder; ``last`` is the newest, and the name of one of its runs means it too.

    Raises:
        InputError: there is none (the nearest is named).
    """
    newest = _newest(state, name)
    shards: dict[str, Record] = {}
    finish: Record | None = None
    for record in list_runs(state):
        if record.group == newest.group and record.shard:
            shards.setdefault(record.shard, record)
        elif record.group == newest.group and finish is None:
            finish = record
    of = Shard.parse(newest.shard).of
    ordered = sorted(
        (record for shard, record in shards.items() if Shard.parse(shard).of == of),
        key=lambda record: Shard.parse(record.shard).number,
    )
    if finish is not None and finish.number < max(record.number for record in ordered):
        finish = None  # of an earlier pass
    return Group(newest.group, of, ordered, finish)


def _newest(state: Path, name: str) -> Record:
    """The newest run of a shard of a group; see `find_group`."""
    records = [record for record in list_runs(state) if record.shard and record.group]
    meant = next((record.group for record in records if record.run == name), name)
    if name == "last" and records:
        meant = records[0].group
    for record in records:
        if record.group == meant:
            return record
    known = list(dict.fromkeys(record.group for record in records))
    hint = nearest(name, known) or (f"; there are: {', '.join(known[:5])}" if known else "; none was sharded")
    raise InputError(f"no sharded ingest {name!r} below {state / 'runs'}{hint}")
