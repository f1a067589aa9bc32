"""The `ingest` command's application, and the options that its subcommands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from outcrop.screen.options import application

app = application("Embed pictures and keep their vectors and metadata in Milvus.")

Limit = Annotated[
    Optional[int], typer.Option("--limit", help="Only the first N items that are on disk.", show_default=False)
]
Force = Annotated[bool, typer.Option("--force", help="Embed unchanged items too.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Batch = Annotated[
    int,
    typer.Option(
        "--batch",
        min=0,
        max=4096,
        help="Pictures in one forward pass; 0 = as a GPU takes them best, by trial; 32 on a CPU.",
    ),
]
Workers = Annotated[int, typer.Option("--workers", min=0, max=256, help="Decoding threads; 0 = one per core.")]
NoThumbnails = Annotated[bool, typer.Option("--no-thumbnails", help="Keep no thumbnails for reports.")]
Size = Annotated[
    Optional[int],
    typer.Option(
        "--size", help="Side of the network's input in pixels, for a new collection. [the preset's]", show_default=False
    ),
]
FitTo = Annotated[
    Optional[str],
    typer.Option("--fit", help="squash, crop or pad, for a new collection. [the preset's]", show_default=False),
]
Index = Annotated[
    Optional[str],
    typer.Option(
        "--index", help="Index profile of a new collection. [FLAT on Milvus Lite, HNSW on a server]", show_default=False
    ),
]
Metrics = Annotated[
    Optional[Path],
    typer.Option(
        "--metrics-file", help="Also write the run's figures for Prometheus (text format).", show_default=False
    ),
]
Features = Annotated[
    Optional[str],
    typer.Option(
        "--features",
        help="Also keep global, patch, grid or dense features; several with commas, options as in patch:stride=2, "
        "patch:random=256:seed=7, grid:side=4, dense:stride=8.",
        show_default=False,
    ),
]
FeaturesFolder = Annotated[
    Optional[Path],
    typer.Option(
        "--features-folder", help="Where features are kept. [features below OUTCROP_EXPORTS]", show_default=False
    ),
]
Patience = Annotated[
    float, typer.Option("--patience", min=0, help="Seconds to wait for a server that went away during the run.")
]
