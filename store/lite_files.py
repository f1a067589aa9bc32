"""The files of a Milvus Lite directory, looked at before Milvus Lite opens it.

Where ``manifest.json`` cannot be read, Milvus Lite goes on with the one before it (``manifest.json.prev``), which lacks the last
write, and removes the data files that are not named there: rows are lost without a word. So damage to it is found first.
"""

from __future__ import annotations

import json
from pathlib import Path

from outcrop.schema.errors import Damaged

NEEDED = ("partitions", "current_seq", "version", "index_specs")
FILES = ("data_files", "delta_files")


def require_sound_manifests(directory: Path) -> None:
    """Refuses a Milvus Lite directory of which a collection's manifest is damaged; nothing is changed.

    Raises:
        Damaged: naming the manifest and what is wrong with it.
    """
    for manifest in sorted(directory.glob("collections/*/manifest.json")):
        before = None
        while fault := _fault(manifest):
            # A process that has the directory open may have written a new manifest, and then removed files, meanwhile.
            now = _bytes(manifest)
            if now == before:
                raise Damaged(
                    f"{manifest} is damaged ({fault}): opened like this, Milvus Lite would remove rows; put back a copy of "
                    "the directory, or choose another --uri and ingest again"
                )
            before = now


def _fault(manifest: Path) -> str:
    """What is wrong with a manifest ('' for nothing)."""
    data = _bytes(manifest)
    if data is None:
        return ""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        return str(error).splitlines()[0][:200]
    if not isinstance(document, dict) or not isinstance(document.get("partitions"), dict):
        return "it does not hold partitions"
    if lacking := [name for name in NEEDED if name not in document]:
        return f"it lacks {', '.join(lacking)}"
    for partition, contents in document["partitions"].items():
        for name in FILES:
            files = contents.get(name) if isinstance(contents, dict) else None
            if not isinstance(files, list):
                return f"partition {partition!r} lacks {name}"
            for file in files:
                if not isinstance(file, str) or "\0" in file:
                    return f"partition {partition!r} names {file!r}"
                if not (manifest.parent / "partitions" / partition / file).is_file():
                    return f"{partition}/{file}, which it names, is missing"
    return ""


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:  # dropped meanwhile, or not to be read: Milvus Lite says so
        return None
