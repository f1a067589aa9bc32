"""What a manifest says beside its parts: the settings of its run, and the files that are written after it."""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path

from outcrop.ingest.imgmatching import ImgMatching
from outcrop.schema.filters import equals
from outcrop.schema.manifest import Manifest, output_roots, weights_of
from outcrop.schema.registry import read_registry
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection


def settings_of(settings: Settings, manifest: Manifest, base: Path, given: Container[str] = ()) -> Settings:
    """The settings with what a manifest says; `base` is its folder. Settings in `given` (options, say) stay as they are.

    Raises:
        ManifestError: the manifest's weights are not found. RegistryError: the registry cannot be read.
    """
    said: dict[str, object] = {
        "model": manifest.model,
        "input_size": manifest.size,
        "fit": manifest.fit,
        "collection": manifest.collection,
        "registry": base / manifest.registry if manifest.registry is not None else None,
        **{name: getattr(manifest.run, name) for name in ("batch", "workers", "thumbnails") if _is_set(manifest, name)},
    }
    update = {name: value for name, value in said.items() if value is not None and name not in given}
    settings = settings.model_copy(update=update)
    if manifest.weights is None or "weights" in given:
        return settings
    known = read_registry(settings.registry).weights
    return settings.model_copy(update={"weights": weights_of(manifest, base, known, settings.registry.parent)})


def write_files(
    manifest: Manifest, base: Path, collection: Collection, features: Path, say: Callable[[str], None]
) -> None:
    """Writes the files of a manifest's items to its output roots; what is up to date there stays.

    `features` is the folder in which other features of the items are kept.

    Raises:
        InputError: an output root cannot be written.
    """
    images, references = output_roots(manifest, base)
    layout = ImgMatching(features)
    for root, kind, names in (
        (images, "image", list(manifest.datasets)),
        (references, "reference", list(dict.fromkeys(group.dataset for group in manifest.image_groups))),
    ):
        if root is None or not names:
            continue
        filter = equals("kind", kind) & equals("dataset", *names)
        if collection.count(filter):
            count = layout.write(collection, root, filter)
            say(f"files of {count} {kind}s: {root.absolute()}")


def _is_set(manifest: Manifest, name: str) -> bool:
    return name in manifest.run.model_fields_set
