"""Which tests run in one process where a run has several, and in what order: `make test` says ``--dist loadscope``.

The tests of a file share its fixtures, and so stay together; so do all that need what is costly to make: servers, and the
collections of pictures. (pytest-xdist's own ``loadgroup`` does not see its groups under pytest 9.2.)
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling


def group(item: pytest.Item) -> str:
    """The name of the group of a test."""
    fixtures = set(getattr(item, "fixturenames", ()))
    parameters = getattr(item, "callspec", None)
    on_server = parameters is not None and "server" in [p for p in parameters.params.values() if isinstance(p, str)]
    if on_server or fixtures & {"server_uri", "guarded"}:
        return "server"
    if fixtures & {"real", "sample_world"}:
        return "pictures"
    return item.path.name


def longest_first(items: list[pytest.Item]) -> dict[str, str]:
    """Sorts the tests by their groups, the longest first; returns the group of each test's id."""
    groups = {item: group(item) for item in items}
    weights = Counter[str]()
    for item, name in groups.items():
        weights[name] += 30 if item.get_closest_marker("slow") else 1
    order = {name: number for number, (name, _) in enumerate(weights.most_common())}
    items.sort(key=lambda item: order[groups[item]])
    return {item.nodeid: name for item, name in groups.items()}


class Processes:
    """The plugin of the process that hands the tests out: the others leave the groups in a file that it names to them."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="outcrop-groups-")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["groups"] = str(Path(self._folder.name) / node.gateway.id)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
        folder = Path(self._folder.name)
        return Scheduling(config, log, folder) if config.getoption("dist") == "loadscope" else None

    def pytest_unconfigure(self) -> None:
        self._folder.cleanup()


class Scheduling(LoadScopeScheduling):
    """Hands out groups as `longest_first` ordered them."""

    def __init__(self, config: pytest.Config, log: Any, folder: Path) -> None:
        super().__init__(config, log)
        self._folder = folder
        self._groups: dict[str, str] = {}

    def _split_scope(self, nodeid: str) -> str:
        if not self._groups:
            self._groups = json.loads(next(self._folder.iterdir()).read_text())
        return self._groups[nodeid]


def in_a_worker(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Orders the tests of a process that is handed its tests, and says how they are grouped."""
    Path(config.workerinput["groups"]).write_text(json.dumps(longest_first(items)))  # type: ignore[attr-defined]
