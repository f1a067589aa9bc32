"""What a prune removes: items whose source file is gone, and kept features without an item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from outcrop.embed.feature_files import FeatureFolder
from outcrop.operate.audit import Finding, orphans, prune
from outcrop.operate.features import remove_features, stranded
from outcrop.schema.item import item_id
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection


@dataclass(frozen=True)
class Removable:
    """What may go: `items` whose source is gone, and the ids of `features` in a `folder` (None: not looked at)."""

    items: tuple[Finding, ...]
    features: tuple[str, ...] = ()
    folder: FeatureFolder | None = None

    def remove_items(self, collection: Collection) -> int:
        """Removes the items; returns how many."""
        return prune(collection, self.items)

    def remove_features(self) -> int:
        """Removes the features; returns of how many items."""
        return remove_features(self.folder, list(self.features)) if self.folder is not None else 0

    def title(self, removed: int, dry_run: bool) -> str:
        """A line for people."""
        text = f"{len(self.items)} items whose source is gone; "
        text += "nothing removed (--dry-run)" if dry_run else f"{removed} removed"
        if self.folder is not None:
            text += f"; features of {len(self.features)} items {'would go too' if dry_run else 'removed'}"
        return text


def find_removable(
    collection: Collection,
    settings: Settings,
    datasets: Sequence[str] | None = None,
    *,
    root: Path | None = None,
    features_folder: Path | None = None,
) -> Removable:
    """What may go of the datasets named (all of the registry, and all specimens of the collection, otherwise).

    `root` is where specimens' meshes lie now. With `features_folder`, features without an item are found too.

    Raises:
        InputError: an unknown dataset, or one whose root is not there or empty.
    """
    gone = orphans(collection, settings, datasets, root=root)
    if features_folder is None:
        return Removable(tuple(gone))
    folder = FeatureFolder.below(features_folder, collection.space)
    ids = stranded(collection, folder, {item_id(finding.key) for finding in gone})
    return Removable(tuple(gone), tuple(ids), folder)
