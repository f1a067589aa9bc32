"""An audit of a whole collection as one value: the audits of its datasets, the repairs, and what to say of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from outcrop.operate.audit import TROUBLES, Audit, Trouble, audit, repair
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection


@dataclass(frozen=True)
class Survey:
    """The audits of a collection's datasets, and how they were made; `fixed`: after the repairs."""

    collection: Collection
    settings: Settings
    datasets: tuple[str, ...] | None
    root: Path | None
    digests: bool
    audits: tuple[Audit, ...]
    fixed: bool = False

    @classmethod
    def of(
        cls,
        collection: Collection,
        settings: Settings,
        datasets: Sequence[str] | None = None,
        *,
        root: Path | None = None,
        digests: bool = False,
        fixed: bool = False,
    ) -> Survey:
        """Audits the datasets named, all of the registry and the collection otherwise.

        Raises:
            RegistryError, InputError: see `outcrop.operate.audit.audit`.
        """
        audits = audit(collection, settings, datasets, root=root, digests=digests)
        named = tuple(datasets) if datasets is not None else None
        return cls(collection, settings, named, root, digests, tuple(audits), fixed)

    @property
    def in_order(self) -> bool:
        """Whether nothing is wrong."""
        return all(each.in_order for each in self.audits)

    def total(self, trouble: Trouble) -> int:
        """Items in this trouble, over all datasets."""
        return sum(each.count(trouble) for each in self.audits)

    def repaired(self, say: Callable[[str], None]) -> Survey:
        """Runs the repairs, and audits again; `say` is given what was done."""
        for each in self.audits:
            repair(self.collection, each, self.settings, digests=self.digests, say=say)
        how = {"digests": self.digests, "fixed": True}
        return Survey.of(self.collection, self.settings, self.datasets, root=self.root, **how)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each dataset: how many items are good, and how many are in each trouble."""
        return [
            {"dataset": each.dataset, "good": each.good, **{t: each.count(t) for t in TROUBLES}, "stale": each.stale}
            for each in self.audits
        ]

    def as_json(self) -> dict[str, Any]:
        """Plain values: the rows, all findings and the repairs that are due."""
        findings = [{"dataset": each.dataset, **asdict(f)} for each in self.audits for f in each.findings]
        return {
            "collection": self.collection.name,
            "fixed": self.fixed,
            "rows": self.rows(),
            "findings": findings,
            "repairs": [line for each in self.audits for line in each.repairs],
        }

    def figures(self) -> dict[str, float]:
        """The totals, for monitoring."""
        return {**{t: float(self.total(t)) for t in TROUBLES}, "good": float(sum(each.good for each in self.audits))}

    def complaint(self) -> str:
        """What is wrong, in a sentence."""
        text = "the audit found " + ", ".join(f"{self.total(t)} {t}" for t in TROUBLES)
        return text + (", and another space" if any(each.stale for each in self.audits) else "")
