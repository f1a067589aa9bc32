"""The `collection` command's application: its subcommands, the modules that hold them, and what the list says of each."""

from __future__ import annotations

from outcrop.screen.lazy import Listed
from outcrop.screen.options import application

# fmt: off
COMMANDS = {
    "list": Listed("outcrop.operate.cli_look", "List the collections with their spaces, indexes and rows."),
    "describe": Listed("outcrop.operate.cli_look", "Show a collection's space, fields, index, aliases, and true counts by kind, dataset and altitude."),
    "items": Listed("outcrop.operate.cli_items", "List the items of a collection by their keys: dataset, capture or category, frame or specimen."),
    "stats": Listed("outcrop.operate.cli_look", "Count the rows: true counts, and the server's statistics (superseded rows count there until compaction)."),
    "create": Listed("outcrop.operate.cli_change", "Create a collection for a model; beside the present one where the name is taken (then fill it, and switch)."),
    "index": Listed("outcrop.operate.cli_change", "Give a collection another index in place; the former one is restored if the server cannot finish the new one."),
    "load": Listed("outcrop.operate.cli_change", "Load a collection into memory, or one dataset of it."),
    "release": Listed("outcrop.operate.cli_change", "Take a collection out of memory, or one dataset of it; the next query loads it again."),
    "flush": Listed("outcrop.operate.cli_change", "Seal what was written and make it durable."),
    "compact": Listed("outcrop.operate.cli_change", "Merge segments and drop superseded rows."),
    "switch": Listed("outcrop.operate.cli_change", "Point a name at another physical collection, at once for everyone (blue/green)."),
    "rollback": Listed("outcrop.operate.cli_change", "Point a name back at the collection it pointed at before."),
    "prune": Listed("outcrop.operate.cli_change", "Remove items whose source file is gone. Run it with --dry-run first."),
    "drop": Listed("outcrop.operate.cli_change", "Remove a collection, or one dataset of it. This cannot be undone: export first."),
    "verify": Listed("outcrop.operate.cli_look", "Compare the index's hits with exact hits at several filter selectivities: recall@k of the live collection."),
    "audit": Listed("outcrop.operate.cli_look", "Compare the registry with the disk and the collection: missing, changed and orphaned items, another space."),
    "doctor": Listed("outcrop.operate.cli_look", "Check reach, version, index support, health, disk, clock and GPU: what is wrong, and what to do."),
    "plan": Listed("outcrop.operate.cli_look", "Size a collection before anything runs: memory, disk, time, and which backend and index to take."),
    "export": Listed("outcrop.operate.cli_move", "Write a collection to a file: keys, metadata, own columns, vectors and the space."),
    "annotate": Listed("outcrop.operate.cli_annotate", "Give the items of a collection own columns from a table, without embedding anything."),
    "import": Listed("outcrop.operate.cli_move", "Read a file into a collection: new, or of the same space. The whole file is checked before a row is written."),
    "average": Listed("outcrop.operate.cli_average", "Make a collection of averaged vectors: each photograph's with those of its neighbours that geometry verifies."),
    "copy": Listed("outcrop.operate.cli_move", "Copy a collection to another Milvus (Lite to server and back), verified by counts, ids and sampled vectors."),
}
# fmt: on
"""In the order of the list. What is said of a command is the first paragraph of its docstring: a test compares them."""

app = application("Run the collection: create, check, repair, move and remove it.", COMMANDS)
