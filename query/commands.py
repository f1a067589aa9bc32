"""The `query` command's application: its subcommands, the modules that hold them, and what the list says of each."""

from __future__ import annotations

from outcrop.screen.lazy import Listed
from outcrop.screen.options import application

# fmt: off
COMMANDS = {
    "image": Listed("outcrop.query.cli_search", "Find the items that look like a picture."),
    "item": Listed("outcrop.query.cli_search", "Find the items that look like a stored item."),
    "dataset": Listed("outcrop.query.cli_search", "Search with every stored item of a dataset, by its stored vector."),
    "specimen": Listed("outcrop.query.cli_specimen", "Find the specimens that look like a mesh, a stored specimen or a photograph of one."),
    "sheet": Listed("outcrop.query.cli_specimen", "Draw all views of a specimen on one sheet."),
    "match": Listed("outcrop.query.cli_match", "Compare pictures with each other: matching local features, the homography, relative rotation and scale."),
    "track": Listed("outcrop.query.cli_track", "Find the path of a flight: every picture located by its verified hits, all joined by how an aircraft moves."),
    "duplicates": Listed("outcrop.query.cli_duplicates", "Find items of the same file, and near-duplicates, in groups with the best of each; nothing is deleted."),
    "cluster": Listed("outcrop.query.cli_cluster", "Find groups of items that are alike, with exemplars and outliers of each, and ids that last from run to run."),
    "cluster assign": Listed("outcrop.query.cli_cluster", "Put new items into an existing clustering, whose clusters and ids stay as they are."),
    "serve": Listed("outcrop.query.cli_serve", "Answer questions in the browser and over HTTP, with the model kept warm."),
    "evaluate": Listed("outcrop.query.cli_evaluate", "Measure how often answers are right: recall@k, mAP and median rank against a truth, with confidence intervals."),
}
# fmt: on
"""In the order of the list. What is said of a command is the first paragraph of its docstring: a test compares them."""

app = application("Ask a collection: what looks like this picture, like this item?", COMMANDS)
