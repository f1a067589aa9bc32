"""The options that the `ingest` commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional, TypeVar

from outcrop.schema.errors import UsageError
from outcrop.screen.options import Formerly, Group, option

if TYPE_CHECKING:
    from outcrop.ingest.requests import Request

Asked = TypeVar("Asked", bound="Request")
Limit = Annotated[Optional[int], option("--limit", panel="Run", help="Only the first N items that are on disk.")]
Force = Annotated[bool, option("--force", panel="Run", help="Embed unchanged items too.")]
PositionsFile = Annotated[
    Optional[Path],
    option(
        "--positions",
        panel="Source",
        help="File with the places of the photographs: ODM's geo.txt, or CSV with name, lat, lon and alt.",
    ),
]
DryRun = Annotated[bool, option("--dry-run", panel="Run", help="Only say what would be done.")]
Features = Annotated[
    Optional[str],
    option(
        "--features",
        panel="What to make",
        help="Also keep global, patch, grid or dense features; several with commas, options as in patch:stride=2, "
        "patch:random=256:seed=7, grid:side=4, dense:stride=8.",
    ),
]
FeaturesFolder = Annotated[
    Optional[Path],
    option("--features-folder", hidden=True, help="Where features are kept. [features below OUTCROP_EXPORTS]"),
]


@dataclass(frozen=True)
class Metadata:
    """Own columns for what is ingested (see docs/metadata.md)."""

    metadata: Annotated[
        Optional[Path],
        option(
            "--metadata",
            panel="Source",
            help="Table of own columns, ….csv, ….tsv or ….parquet. --on says what its rows are about: source, key, specimen or "
            "capture; with =COLUMN, named by that column. [by its header]",
        ),
    ] = None
    on: Annotated[
        Optional[str],
        option(
            "--on",
            hidden=True,
            help="What the rows of --metadata are about: source, key, specimen or capture; with =COLUMN, named by that column.",
        ),
    ] = None
    encoding: Annotated[
        Optional[str], option("--encoding", hidden=True, help="Encoding of the table. [UTF-8, else found out]")
    ] = None

    def of(self, request: Asked) -> Asked:
        """The request with the table.

        Raises:
            UsageError: --on or --encoding without --metadata.
        """
        if self.metadata is None:
            if self.on is not None or self.encoding is not None:
                raise UsageError("--on and --encoding are about a table; give it with --metadata")
            return request
        return request.with_metadata(self.metadata, self.on, self.encoding)


INDEX: Group = {
    "index": Annotated[
        Optional[str],
        option(
            "--index",
            hidden=True,
            help="Index profile of a new collection. [OUTCROP_INDEX, FLAT on Milvus Lite, HNSW on a server]",
        ),
    ],
}
_input_size = option(
    "--input-size",
    panel="Model",
    help="Side of the network's input in pixels, for a new collection. [OUTCROP_INPUT_SIZE, the preset's]",
)
NEW: Group = {
    "input_size": Annotated[Optional[int], _input_size],
    "fit": Annotated[
        Optional[str],
        option("--fit", hidden=True, help="squash, crop or pad, for a new collection. [OUTCROP_FIT, the preset's]"),
    ],
    **INDEX,
}
"""The embedding space and the index of a collection that the run creates."""
NEW_OF_PICTURES: Group = {
    **NEW,
    "input_size": Annotated[Optional[int], _input_size, Formerly("--size")],
    "gsd": Annotated[
        Optional[float],
        option(
            "--gsd",
            panel="What to make",
            help="Metres of ground in a pixel of the network's input, to which photographs are brought, for a new collection. "
            "[OUTCROP_GSD, as they are]",
        ),
    ],
}
"""The same, with a ground scale, where ``--size`` meant the network's input; in `ingest specimens` it is the side of the
views."""


SHARD: Group = {
    "shard": Annotated[
        Optional[str],
        option(
            "--shard", panel="Run", help="I/N: only part I (from 0) of N, each by a process or machine. [OUTCROP_SHARD]"
        ),
    ],
    "group": Annotated[
        Optional[str],
        option("--group", hidden=True, help="Name that all shards of an ingest have in common. [OUTCROP_GROUP]"),
    ],
    "ray": Annotated[
        Optional[str],
        option("--ray", hidden=True, help="ADDRESS or auto: on the nodes of this Ray cluster. [OUTCROP_RAY]"),
    ],
}
"""A part of an ingest, or an ingest on many machines."""
