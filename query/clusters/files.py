"""A clustering as files, and the last one read back for its ids.

``clusters.csv``      ``specimen_id,cluster_id,prob``: the file of FossilViT (Japanese fossil pipeline), -1 = in no cluster
``clusters.parquet``  the same with key, kind, dataset, category, outlier score and place on the map; the format of record
``clusters.json``     recipe, figures, and every cluster with its size, exemplars and outliers
``clusters.html``     the page

They hold no date: the same collection and seed give the same bytes.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from outcrop.query.clusters.cluster import METHODS
from outcrop.query.clusters.ids import Known
from outcrop.query.clusters.run import FACTS, Found
from outcrop.schema.errors import InputError
from outcrop.schema.places import require_disk
from outcrop.screen.tables import cell

CSV, PARQUET, JSON, PAGE = "clusters.csv", "clusters.parquet", "clusters.json", "clusters.html"
DIGITS = 6


def check_output(folder: Path) -> None:
    """Before any work: whether the files may go there.

    Raises:
        InputError: it is a file, or cannot be made.
    """
    require_disk(folder, "--output")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output {folder} is a file; give the name of a folder")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"--output {folder}: the folder {folder.absolute().parent} does not exist; create it")


def read_known(folder: Path) -> Known | None:
    """The ids of the last result in a folder, by key; None without one.

    Raises:
        InputError: its files are damaged or of something else.
    """
    if not (folder / PARQUET).exists() and not (folder / JSON).exists():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(folder / PARQUET, columns=["key", "cluster_id"])
        following = json.loads((folder / JSON).read_text(encoding="utf-8"))["next_id"]
        ids = dict(zip(table["key"].to_pylist(), table["cluster_id"].to_pylist(), strict=True))
        if not isinstance(following, int) or following <= max(ids.values(), default=-1):
            raise ValueError("next_id")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, pa.ArrowException):
        raise InputError(
            f"the last result in {folder} cannot be read ({PARQUET}, {JSON}), so its cluster ids would be lost; "
            "restore these files, or remove them to number clusters anew"
        ) from None
    return Known(ids, following)


def write_files(found: Found, folder: Path, page: str | None = None) -> list[Path]:
    """Writes the files of a result into a folder, replacing those of the last one; returns them.

    All are written beside first, so that a full disk leaves the last result as it was.

    Raises:
        InputError: they cannot be written.
    """
    check_output(folder)
    texts = {CSV: _csv(found), JSON: json.dumps(summary(found), ensure_ascii=False, indent=1) + "\n"}
    if page is not None:
        texts[PAGE] = page
    try:
        folder.mkdir(exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".clusters.", dir=folder))
        try:
            for name, text in texts.items():
                (made / name).write_text(text, encoding="utf-8", newline="")
            _write_parquet(found, made / PARQUET)
            names = [PARQUET, *texts]
            for name in names:
                os.replace(made / name, folder / name)
            if page is None:
                (folder / PAGE).unlink(missing_ok=True)  # of an earlier result
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        with contextlib.suppress(OSError):
            folder.rmdir()  # a new folder, with nothing in it
        raise InputError(f"--output {folder} cannot be written ({error.strerror}); give another folder") from None
    return [folder / name for name in names]


def specimen_ids(found: Found) -> list[str]:
    """What the CSV calls each row: a specimen as the layout fossilvit does in ``ids.txt``, ``<category…>/<specimen>``, so that
    the two join; the whole key where specimens of two datasets have the same name, or the row is not a specimen."""
    return names_of(found.rows.facts["key"], found.rows.facts["kind"])


def names_of(keys: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """What the CSV calls items with these keys, of these kinds (see `specimen_ids`)."""
    names = [key.split("/", 2)[2] if kind == "specimen" else key for key, kind in zip(keys, kinds, strict=True)]
    times = Counter(names)
    return [name if times[name] == 1 else key for name, key in zip(names, keys, strict=True)]


def summary(found: Found) -> dict[str, Any]:
    """The result as plain values; `next_id` is the first id that no cluster ever had."""
    keys = found.rows.facts["key"]
    recipe = asdict(found.recipe)
    return {
        "collection": found.collection,
        "space": found.space,
        "recipe": recipe if found.recipe.method in METHODS[:2] else {**recipe, "clusters": len(found.clusters)},
        "items": len(found.rows),
        "assigned": len(found.rows) - len(found.unassigned),
        "unassigned": len(found.unassigned),
        "quality": {name: _rounded(value) for name, value in asdict(found.quality).items()}
        | {"against": found.against},
        "ids": {"kept": found.identity.kept, "new": found.identity.new, "gone": found.identity.gone},
        "next_id": found.identity.next_id,
        "clusters": [
            {
                "cluster_id": cluster.id,
                "size": cluster.size,
                "prob": _rounded(cluster.probability),
                "category": cluster.category,
                "category_share": _rounded(cluster.share),
                "exemplars": [keys[row] for row in cluster.exemplars],
                "outliers": [keys[row] for row in cluster.outliers],
            }
            for cluster in found.clusters
        ],
        "nearest_of_unassigned": [
            {"key": keys[row], "cluster_id": id}
            for row, id in zip(found.unassigned[:100], found.nearest[:100], strict=True)
        ],
    }


def _csv(found: Found) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("specimen_id", "cluster_id", "prob"))
    for name, id, probability in zip(
        specimen_ids(found), found.ids.tolist(), found.clustering.probability.tolist(), strict=True
    ):
        writer.writerow((cell(name), id, f"{probability:.{DIGITS}f}"))
    return text.getvalue()


def _write_parquet(found: Found, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, facts = len(found.rows), found.rows.facts
    across: list[float | None] = [None] * rows
    down: list[float | None] = [None] * rows
    for row, (x, y) in zip(found.map.rows.tolist(), found.map.places.tolist(), strict=True):
        across[row], down[row] = x, y
    columns = {
        "specimen_id": pa.array(specimen_ids(found)),
        "cluster_id": pa.array(found.ids, pa.int64()),
        "prob": pa.array(found.clustering.probability, pa.float64()),
        "outlier": pa.array(found.clustering.outlier, pa.float64()),
        "x": pa.array(across, pa.float64()),
        "y": pa.array(down, pa.float64()),
        **{name: pa.array(facts[name], pa.string()) for name in FACTS},
    }
    with contextlib.closing(pq.ParquetWriter(path, pa.table(columns).schema, compression="zstd")) as writer:
        writer.write_table(pa.table(columns))


def _rounded(value: Any) -> Any:
    return round(value, DIGITS) if isinstance(value, float) else value
