"""Figures for Prometheus: a text file that node_exporter's textfile collector picks up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from outcrop.schema.files import whole_file


def write_metrics(
    path: Path, command: str, figures: Mapping[str, float], labels: Mapping[str, str] | None = None
) -> None:
    """Writes gauges ``outcrop_<command>_<figure>{labels} value`` in the text exposition format, replacing the file whole.

    A folder gets ``outcrop_<command>.prom``.

    Raises:
        InputError: the file cannot be written.
    """
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in (labels or {}).items())
    lines = []
    for figure, value in figures.items():
        name = re.sub(r"[^a-zA-Z0-9_]", "_", f"outcrop_{command}_{figure}")
        lines += [f"# TYPE {name} gauge", f"{name}{{{pairs}}} {value:.15g}" if pairs else f"{name} {value:.15g}"]
    if path.is_dir():
        path = path / f"outcrop_{command}.prom"
    with whole_file(path, what=f"--metrics-file {path}", fix="give another file", durable=False) as file:
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
