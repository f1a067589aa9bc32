"""The `ingest` command's application: its subcommands, the modules that hold them, and what the list says of each."""

from __future__ import annotations

from outcrop.ingest.guidance import Commands
from outcrop.screen.lazy import Listed
from outcrop.screen.options import application

# fmt: off
COMMANDS = {
    "images": Listed("outcrop.ingest.cli_images", "Embed the photographs of a folder and of all folders in it; no registry is needed."),
    "video": Listed("outcrop.ingest.cli_video", "Embed frames of a film, or of all films in a folder; needs the extra outcrop[video]."),
    "dataset": Listed("outcrop.ingest.cli_dataset", "Embed a dataset of the registry and upsert it: new and changed pictures only."),
    "all": Listed("outcrop.ingest.cli_every", "Embed every dataset of the registry and every folder that the collection knows, one after the other; made for cron."),
    "watch": Listed("outcrop.ingest.cli_every", "Follow a folder: embed what is in it and what comes into it, in batches, until Ctrl-C or SIGTERM."),
    "references": Listed("outcrop.ingest.cli_references", "Embed rotated crops of a dataset's photographs, so that a query of any heading finds them; writes no pictures."),
    "map": Listed("outcrop.ingest.cli_map", "Embed a map (GeoTIFF, XYZ tiles, PMTiles) as overlapping tiles, so that a photograph is located without GPS; writes no pictures."),
    "specimens": Listed("outcrop.ingest.cli_specimens", "Draw the specimens of a folder from several sides, embed the views and pool them; categories are the folders."),
    "vocabulary": Listed("outcrop.ingest.cli_vocabulary", "Fit what a pooling needs to your own pictures: the vocabulary of vlad, and a projection that whitens; new collections use it."),
    "features": Listed("outcrop.ingest.cli_features", "Read vectors that were made elsewhere into the collection; no model runs. New and changed files only."),
    "manifest": Listed("outcrop.ingest.cli_manifest", "Embed the datasets and written references that a manifest names; options win over what it says."),
    "retry": Listed("outcrop.ingest.cli_status", "Try the failed items of a run again, and only those."),
    "finish": Listed("outcrop.ingest.cli_status", "Finish a sharded ingest whose last shard could not: stale rows, flush, index and verification."),
    "status": Listed("outcrop.ingest.cli_status", "List the runs, or show one with its failures."),
    "models": Listed("outcrop.ingest.cli_models", "List the models with dimension, patch, parameters and licence, and where their weights are or are looked for."),
}
# fmt: on
"""In the order of the list. What is said of a command is the first paragraph of its docstring: a test compares them."""

app = application("Embed pictures and keep their vectors and metadata in Milvus.", COMMANDS, Commands)
