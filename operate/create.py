"""Creates a collection for a model: new, or beside the present one for blue/green."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from outcrop.embed.models import resolve
from outcrop.schema.errors import InputError, Refused
from outcrop.schema.indexes import profile_for
from outcrop.schema.settings import Settings
from outcrop.schema.space import Space
from outcrop.store.collection import Collection, check_name
from outcrop.store.connection import Store


@dataclass(frozen=True)
class Created:
    """What was made; `beside` is the physical collection that the name still points at ('' = the name points at the new one)."""

    physical: str
    space: Space
    index: str
    beside: str = ""
    notes: list[str] = field(default_factory=list)

    def as_json(self, name: str, dry_run: bool) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": name,
            "physical": self.physical,
            "index": self.index,
            "space": self.space.fingerprint,
            "beside": self.beside,
            "dry_run": dry_run,
        }

    def text(self, name: str, dry_run: bool) -> str:
        """What was made, for people; with the way on where it lies beside another collection."""
        made = f"{'would create' if dry_run else 'created'} {self.physical} for {self.space}, index {self.index}"
        if not self.beside:
            return made
        return (
            f"{made}\n{name!r} still points at {self.beside}. Fill the new one, then switch:"
            f"\n  ingest dataset NAME --collection {self.physical}\n  collection verify {self.physical}"
            f"\n  collection switch {name} {self.physical}"
        )


def create_for_model(
    store: Store | None,
    name: str,
    settings: Settings,
    *,
    index: str | None = None,
    build: dict[str, Any] | None = None,
    size: int | None = None,
    fit: str | None = None,
    dry_run: bool = False,
) -> Created:
    """Creates the collection of the settings' model (weights must be there: their digest is part of the space).

    `store` is None where a Milvus Lite directory is not there yet, and only `dry_run` is asked.

    Where the name is taken by a collection of another space, the new one is made beside it, without the alias.

    Raises:
        Refused: the name leads to a collection of this very space. WeightsError: no weights. InputError: bad name, index, fit.
    """
    check_name(name)
    if fit is not None and fit not in ("squash", "crop", "pad"):
        raise InputError(f"--fit must be squash, crop or pad, got {fit!r}")
    model = resolve(settings, size=size, fit=fit)  # type: ignore[arg-type]  # just checked
    space = model.space
    present = Collection.find(store, name) if store is not None else None
    if present is not None and present.space.fingerprint == space.fingerprint:
        raise Refused(f"{name!r} points at {present.physical} of the same space already; ingest into it")
    beside = present.physical if present is not None else ""
    if dry_run or store is None:
        version = store.version if store is not None else None
        profile, note = profile_for(index or ("FLAT" if version is None else "HNSW"), version)
        profile.build_params(build if not note else None, server=version, dim=space.dim)  # what would be refused is
        return Created(f"{name}__{space.fingerprint[:8]}", space, profile.name, beside, [note] if note else [])
    made = Collection.create(store, name, space, index=index, build=build, weights=model.hint, alias=present is None)
    return Created(made.physical, space, made.profile.name, beside, made.notes)
