"""Answers as files: JSON, arrays, and a contact sheet per query, for those who go on with them elsewhere.

``answer.json``   what ``--json`` prints
``queries.txt``   the queries' names, one a line; the rows of the arrays are in this order
``ids.npy``       ids of the hits, text [Q, K], '' where there are fewer than K
``keys.npy``      their keys, text [Q, K]
``scores.npy``    float32 [Q, K], NaN where there are fewer than K
``sheets/``       one PNG per query: the query and its hits
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.query.answers import Results
from outcrop.query.hit_sheet import hit_sheet
from outcrop.schema.errors import InputError, Refused
from outcrop.schema.places import require_disk

OURS = ("answer.json", "queries.txt", "ids.npy", "keys.npy", "scores.npy", "sheets")


def check_folder(folder: Path) -> None:
    """Before any work: whether answer files may go there.

    Raises:
        InputError: it is a file, or its parent is missing. Refused: it holds anything but an earlier answer.
    """
    require_disk(folder, "--output")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output {folder} is a file; give the name of a folder")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"--output {folder}: the folder {folder.absolute().parent} does not exist; create it")
    strange = sorted(p.name for p in folder.iterdir() if p.name not in OURS) if folder.is_dir() else []
    if strange:
        raise Refused(f"--output {folder} holds {strange[0]!r}, which Outcrop did not write; choose an empty folder")


def write_answer_files(batches: Sequence[Results], folder: Path, thumbnails: ThumbnailStore | None) -> list[Path]:
    """Writes the answers of one or several calls, replacing an earlier answer whole; returns the files.

    Without `thumbnails` no sheets are drawn. The folder appears under its name only when everything is written.

    Raises:
        InputError: it cannot be written. Refused: see `check_folder`.
    """
    check_folder(folder)
    results = [result for batch in batches for result in batch.results]
    most = max((len(result.hits) for result in results), default=0)
    ids, keys = ([[""] * most for _ in results] for _ in range(2))
    scores = np.full((len(results), most), np.nan, dtype=np.float32)
    for row, result in enumerate(results):
        for column, hit in enumerate(result.hits):
            ids[row][column], keys[row][column], scores[row, column] = hit.item.id, hit.item.key, hit.score
    answer = batches[-1].as_json() | {"queries": [query for batch in batches for query in batch.as_json()["queries"]]}
    try:
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.absolute().parent))
        try:
            _write(made / "answer.json", json.dumps(answer, ensure_ascii=False, indent=1) + "\n")
            lines = [result.query.name.replace("\n", " ") for result in results]
            _write(made / "queries.txt", "".join(f"{line}\n" for line in lines))
            np.save(made / "ids.npy", np.array(ids, dtype="U32").reshape(len(results), most))
            np.save(made / "keys.npy", np.array(keys, dtype=np.str_).reshape(len(results), most))
            np.save(made / "scores.npy", scores)
            if thumbnails is not None:
                (made / "sheets").mkdir()
                for number, result in enumerate(results, 1):
                    (made / "sheets" / f"{number:04d}_{_safe(result.query.name)}.png").write_bytes(
                        hit_sheet(result, thumbnails)
                    )
            made.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(made, folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise InputError(f"--output {folder} cannot be written ({error.strerror}); give another folder") from None
    return sorted(p for p in folder.rglob("*") if p.is_file())


def _safe(name: str) -> str:
    """The end of a name, as part of a file name."""
    return re.sub(r"[^\w.-]+", "_", name)[-80:].strip("._") or "query"


def _write(path: Path, text: str) -> None:
    """Writes a text in UTF-8; bytes in names of files that are not UTF-8 are spelt as in JSON (``\\udcff``)."""
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
