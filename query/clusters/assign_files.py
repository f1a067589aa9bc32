"""A clustering read back from its folder to assign new items, and these written beside it (``assigned.csv``, ``.json``)."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

from outcrop.query.clusters.assign import Assigned, Clustered
from outcrop.query.clusters.cluster import METHODS, UNASSIGNED
from outcrop.query.clusters.files import DIGITS, JSON, PARQUET, names_of
from outcrop.schema.errors import InputError
from outcrop.schema.files import whole_file
from outcrop.screen.tables import cell

CSV_ASSIGNED, JSON_ASSIGNED = "assigned.csv", "assigned.json"
COLUMNS = ("specimen_id", "cluster_id", "prob")


def read_clustered(folder: Path) -> Clustered:
    """The clustering in a folder that `query cluster` wrote.

    Raises:
        InputError: there is none, or its files are damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not (folder / PARQUET).is_file() or not (folder / JSON).is_file():
        raise InputError(f"no clustering in {folder} ({PARQUET}, {JSON}); make one: query cluster --output {folder}")
    try:
        table = pq.read_table(folder / PARQUET, columns=["key", "kind", "cluster_id", "prob"]).to_pydict()
        stored = json.loads((folder / JSON).read_text(encoding="utf-8"))
        return Clustered(
            dict(zip(table["key"], table["cluster_id"], strict=True)),
            dict(zip(table["key"], table["prob"], strict=True)),
            tuple(sorted(set(table["kind"]))),
            {int(each["cluster_id"]): str(each["category"]) for each in stored["clusters"]},
            stored["recipe"]["method"] == METHODS[0],
            str(stored.get("collection", "")),
            str(stored.get("space", "")),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, pa.ArrowException):
        raise InputError(
            f"the clustering in {folder} cannot be read ({PARQUET}, {JSON}); restore these files, or cluster again"
        ) from None


def assigned_rows(found: Assigned, known: Clustered) -> list[dict[str, Any]]:
    """One row an item: its name as in ``clusters.csv``, its cluster with the category that most of that have, the probability,
    its key, the clustered item nearest to it and the distance of their vectors."""
    keys = found.rows.facts["key"]
    return [
        {
            "specimen_id": name,
            "cluster_id": int(id),
            "prob": round(float(probability), DIGITS),
            "category": known.categories.get(int(id), ""),
            "key": key,
            "nearest": nearest,
            "distance": round(float(distance), DIGITS),
        }
        for name, key, id, probability, nearest, distance in zip(
            names_of(keys, found.rows.facts["kind"]),
            keys,
            found.ids,
            found.probability,
            found.nearest,
            found.distance,
            strict=True,
        )
    ]


def assigned_summary(found: Assigned, known: Clustered) -> dict[str, Any]:
    """The result as plain values."""
    rows = assigned_rows(found, known)
    counts = Counter(row["cluster_id"] for row in rows)
    return {
        "collection": found.collection,
        "forced": found.forced,
        "items": len(rows),
        "assigned": len(rows) - counts[UNASSIGNED],
        "unassigned": counts[UNASSIGNED],
        "clustered_items_gone": found.gone,
        **({"remark": found.remark} if found.remark else {}),
        "assignments": rows,
    }


def write_assigned(found: Assigned, known: Clustered, folder: Path) -> list[Path]:
    """Writes both files into a folder, replacing those of the last time; returns them. The clustering's own stay as they are.

    Raises:
        InputError: they cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in assigned_rows(found, known):
        writer.writerow((cell(row["specimen_id"]), row["cluster_id"], f"{row['prob']:.{DIGITS}f}"))
    summary = json.dumps(assigned_summary(found, known), ensure_ascii=False, indent=1) + "\n"
    files = {CSV_ASSIGNED: text.getvalue(), JSON_ASSIGNED: summary}
    for name, content in files.items():
        with whole_file(folder / name, fix="give another --output", durable=False, parents=True) as file:
            file.write_bytes(content.encode())
    return [folder / name for name in files]
