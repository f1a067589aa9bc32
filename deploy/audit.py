#!/usr/bin/env python3
"""Audits the packages that constraints.txt names, without a connection: `make check` runs it.

Three things: what is installed fits together (`pip check`) and is what constraints.txt says; no version that it names, for any
kind of machine, has an advisory in advisories.json; and how old that list is. The list is short and made by hand: whoever has a
connection also runs `make audit`, which asks pip-audit.

Exit codes: 0 nothing found, 1 something found.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
STALE_DAYS = 180
"""Age from which the list is said to be old."""


@dataclass(frozen=True)
class Advisory:
    """All versions of `package` below `below` have what `ids` name."""

    package: str
    below: Version
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Advisories:
    """What is known: `accepted` holds (package, version, id) of findings that somebody gave a reason for."""

    collected: datetime.date
    known: tuple[Advisory, ...]
    accepted: frozenset[tuple[str, str, str]]

    @classmethod
    def read(cls, path: Path) -> Advisories:
        """The list as it is written; an accepted finding without a reason is a `ValueError`."""
        text = json.loads(path.read_text(encoding="utf-8"))
        for one in text["accepted"]:
            if len(one.get("reason", "")) < 20:
                raise ValueError(f"{path.name}: {one['package']} {one['id']} is accepted without a reason")
        return cls(
            datetime.date.fromisoformat(text["collected"]),
            tuple(Advisory(plain(a["package"]), Version(a["below"]), tuple(a["ids"])) for a in text["advisories"]),
            frozenset((plain(one["package"]), one["version"], one["id"]) for one in text["accepted"]),
        )


def plain(name: str) -> str:
    """A package's name as all its spellings have it in common."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(path: Path) -> Iterator[tuple[Requirement, Version]]:
    """Every line of constraints.txt, whatever machine it is for."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            one = Requirement(line.strip())
            (exact,) = one.specifier
            yield one, Version(exact.version)


def vulnerable(constraints: Path, advisories: Advisories) -> list[str]:
    """The versions of constraints.txt that have an advisory, and what mends them."""
    found = []
    for one, version in pinned(constraints):
        for advisory in advisories.known:
            left = [each for each in advisory.ids if (advisory.package, str(version), each) not in advisories.accepted]
            if plain(one.name) == advisory.package and version < advisory.below and left:
                where = f" where {one.marker}" if one.marker else ""
                found.append(f"{one.name} {version}{where}: {', '.join(left)}; mended in {advisory.below}")
    return found


def different(constraints: Path) -> list[str]:
    """What is installed in another version than constraints.txt says for this machine."""
    found = []
    for one, version in pinned(constraints):
        if one.marker is not None and not one.marker.evaluate():
            continue
        try:
            installed = Version(importlib.metadata.version(one.name))
        except importlib.metadata.PackageNotFoundError:
            continue
        if installed.public != version.public:
            found.append(f"{one.name} {installed} is installed, constraints.txt says {version}")
    return found


def unfit() -> list[str]:
    """What pip says of requirements that are not met."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else (done.stdout or done.stderr).strip().splitlines()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--constraints", type=Path, default=ROOT / "constraints.txt")
    parser.add_argument("--advisories", type=Path, default=ROOT / "deploy/advisories.json")
    parser.add_argument(
        "--no-environment", action="store_true", help="look at the files alone, not at what is installed"
    )
    arguments = parser.parse_args()
    advisories = Advisories.read(arguments.advisories)
    found = vulnerable(arguments.constraints, advisories)
    if not arguments.no_environment:
        found += different(arguments.constraints) + unfit()
    names = {plain(one.name) for one, _ in pinned(arguments.constraints)}
    known = {advisory.package for advisory in advisories.known}
    age = (datetime.date.today() - advisories.collected).days
    print(
        f"audit: {len(names)} packages, {len(names & known)} of them with advisories in a list of {advisories.collected}: "
        f"{len(found)} found, {len(advisories.accepted)} accepted with a reason. Nothing newer was asked: that is `make audit`"
    )
    if age > STALE_DAYS:
        print(
            f"audit: the list is {age} days old: run `make audit` with a connection, and bring advisories.json up to date"
        )
    for line in found:
        print(f"audit: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
