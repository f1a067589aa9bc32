"""The options that several commands share, in groups: one name, one meaning, one help text each.

A group of *settings* is a mapping: its values reach a command through `outcrop.screen.options.Session.settings`, so that
`outcrop.yaml` and the environment can say the same. A group of a room's own options is a frozen dataclass whose fields are
written with `option`; a command takes it as one parameter.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

Panel = Literal["Source", "What to make", "Run", "Search", "Re-ranking", "New collection", "Output", "Model", "Store"]
"""The panels of a command's help, after its own options; those that are set least often come last."""
PANELS: tuple[str, ...] = get_args(Panel)

Group = Mapping[str, Any]
"""Names of settings (and of the formats) to annotated types."""


@dataclass(frozen=True)
class Formerly:
    """Earlier names of an option, beside `option` in ``Annotated``: still accepted, never shown."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


def option(*names: str, help: str, panel: Panel | None = None, hidden: bool = False, **more: Any) -> Any:
    """A typer option for ``Annotated``: `names` as typed (``--report``), shown in `panel` (None: first, among the command's own).

    A `hidden` option is accepted, but neither the help nor docs/cli.md show it. Defaults are shown where `more` says
    ``show_default=True``; otherwise the help text names them.
    """
    return typer.Option(*names, help=help, rich_help_panel=panel, hidden=hidden, **{"show_default": False, **more})


def hidden(group: Group, *names: str) -> Group:
    """The group with the options `names` (none named: all) accepted but not shown."""
    return {key: _hidden(kind) if key in names or not names else kind for key, kind in group.items()}


def _hidden(kind: Any) -> Any:
    bare, *notes = get_args(kind)
    shown = next(note for note in notes if isinstance(note, typer.models.OptionInfo))
    unseen = copy.copy(shown)
    unseen.hidden = True
    return Annotated[bare, *(unseen if note is shown else note for note in notes)]


STORE: Group = {
    "uri": Annotated[
        str | None,
        option(
            "--uri",
            panel="Store",
            help="Milvus Lite directory (….db) or server (http://host:19530). [OUTCROP_URI, ./outcrop.db]",
        ),
    ],
    "collection": Annotated[
        str | None, option("--collection", panel="Store", help="Name of the collection. [OUTCROP_COLLECTION, outcrop]")
    ],
    "timeout": Annotated[
        float | None,
        option("--timeout", hidden=True, help="Seconds to wait for one answer of Milvus. [OUTCROP_TIMEOUT, 30]"),
    ],
}
REGISTRY: Group = {
    "registry": Annotated[
        Path | None,
        option("--registry", panel="Store", help="Registry file, JSON or YAML. [OUTCROP_REGISTRY, ./data_key.json]"),
    ],
    "datasets": Annotated[
        Path | None,
        option(
            "--datasets",
            hidden=True,
            help="Folder that holds the datasets' roots. [OUTCROP_DATASETS, the registry's folder]",
        ),
    ],
}
MODEL: Group = {
    "model": Annotated[
        str | None,
        option(
            "--model",
            panel="Model",
            help="Preset (see `ingest models`) or timm:<name>. "
            "[OUTCROP_MODEL, the collection's own; dinov3_vits16 for a new one]",
        ),
    ],
    "weights": Annotated[
        Path | None,
        option(
            "--weights", panel="Model", help="Weights file, a folder to look in, or hub: to download. [OUTCROP_WEIGHTS]"
        ),
    ],
    "device": Annotated[
        str | None,
        option(
            "--device",
            "--devices",
            panel="Model",
            help="auto, cpu, cuda, cuda:N or mps; several with commas, a process each. [OUTCROP_DEVICE, auto]",
        ),
    ],
    "pooling": Annotated[
        str | None,
        option(
            "--pooling",
            hidden=True,
            help="token, avg, gem or vlad, with a vocabulary as in vlad:1a2b3c4d, for a new collection. "
            "[OUTCROP_POOLING, the model's own]",
        ),
    ],
    "precision": Annotated[
        str | None, option("--precision", hidden=True, help="auto, fp32, bf16 or fp16. [OUTCROP_PRECISION, auto]")
    ],
}
ASKED_MODEL: Group = hidden({key: kind for key, kind in MODEL.items() if key != "pooling"}, "model", "weights")
"""For commands that use the collection's own model: only the device is a choice; the others may say where it is."""
WEIGHTS: Group = {"weights": MODEL["weights"]}
COMPILE: Group = {
    "compile": Annotated[
        bool | None,
        option(
            "--compile/--no-compile",
            hidden=True,
            help="Let torch.compile rewrite the network. [OUTCROP_COMPILE]",
        ),
    ],
}
STATE: Group = {
    "state": Annotated[
        Path | None,
        option("--state", hidden=True, help="Folder for runs, ledgers and thumbnails. [OUTCROP_STATE, ./.outcrop]"),
    ],
}
METRICS: Group = {
    "metrics": Annotated[
        Path | None,
        option(
            "--metrics-file", hidden=True, help="Also write the figures for Prometheus (text format). [OUTCROP_METRICS]"
        ),
    ],
}
RUN: Group = {
    "batch": Annotated[
        int | None, option("--batch", hidden=True, help="Pictures in one forward pass. [OUTCROP_BATCH, 0: by trial]")
    ],
    "workers": Annotated[
        int | None, option("--workers", hidden=True, help="Decoding threads. [OUTCROP_WORKERS, 0: one per core]")
    ],
    "patience": Annotated[
        float | None,
        option("--patience", hidden=True, help="Seconds to wait for a server that went away. [OUTCROP_PATIENCE, 60]"),
    ],
    "thumbnails": Annotated[
        bool | None,
        option(
            "--thumbnails/--no-thumbnails", hidden=True, help="Keep thumbnails for reports. [OUTCROP_THUMBNAILS, yes]"
        ),
    ],
    "write_rate": Annotated[
        float | None,
        option("--write-rate", hidden=True, help="Rows written in a second at most. [OUTCROP_WRITE_RATE, 0: no limit]"),
    ],
    **METRICS,
}
"""How an ingest runs."""
DRAWING_RUN: Group = {
    **{key: kind for key, kind in RUN.items() if key != "workers"},
    "drawing_processes": Annotated[
        int | None,
        option(
            "--drawing-processes",
            hidden=True,
            help="Processes that draw views. [OUTCROP_DRAWING_PROCESSES, 0: one per core]",
        ),
        Formerly("--workers"),
    ],
}
"""The same where views are drawn instead of pictures decoded."""
KEPT_FEATURES: Group = {
    "features": Annotated[
        Path | None,
        option(
            "--features-folder",
            hidden=True,
            help="Folder of kept features. [OUTCROP_FEATURES, features in the exports]",
        ),
    ],
}
SEED: Group = {
    "seed": Annotated[int | None, option("--seed", hidden=True, help="Seed of samples. [OUTCROP_SEED, 0]")],
}
REDIS: Group = {
    "redis": Annotated[
        str | None,
        option(
            "--redis",
            hidden=True,
            help="Write the answers into this Redis too (redis://HOST:PORT/DATABASE). [OUTCROP_REDIS]",
        ),
    ],
    "redis_ttl": Annotated[
        int | None,
        option(
            "--redis-ttl", hidden=True, help="Seconds after which they vanish from Redis. [OUTCROP_REDIS_TTL, never]"
        ),
    ],
}
CSV: Group = {"as_csv": Annotated[bool, option("--csv", panel="Output", help="Print CSV on stdout.")]}
ALWAYS: Group = {
    "as_json": Annotated[bool, option("--json", panel="Output", help="Print JSON on stdout.")],
    "quiet": Annotated[bool, option("--quiet", "-q", panel="Output", help="No progress and no remarks on stderr.")],
    "config": Annotated[Path | None, option("--config", panel="Store", help="Settings file. [./outcrop.yaml]")],
    "verbose": Annotated[
        bool | None, option("--verbose", hidden=True, help="Log what happens, on stderr. [OUTCROP_VERBOSE]")
    ],
}
"""Of every command."""
