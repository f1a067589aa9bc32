"""The audit of the packages (deploy/audit.py): what constraints.txt names has no known advisory, and one would be seen."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from deployment import ROOT

SCRIPT = ROOT / "deploy/audit.py"
TODAY = datetime.date.today().isoformat()


def audit(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False, timeout=60)


def files(folder: Path, constraints: str, **changed: Any) -> tuple[str | Path, ...]:
    """Options for files of these contents, without a look at the environment."""
    (folder / "constraints.txt").write_text(constraints)
    advisory = {"package": "Some_Package", "below": "2.10", "ids": ["CVE-1"]}
    text = {"collected": TODAY, "advisories": [advisory], "accepted": [], **changed}
    (folder / "advisories.json").write_text(json.dumps(text))
    return ("--constraints", folder / "constraints.txt", "--advisories", folder / "advisories.json", "--no-environment")


def test_nothing_that_constraints_name_has_a_known_advisory() -> None:
    done = audit("--no-environment")
    assert (done.returncode, done.stderr) == (0, "")
    found = re.search(r"audit: (\d+) packages, (\d+) of them with advisories in a list of (\S+): 0 found", done.stdout)
    assert found and int(found[1]) > 100 and int(found[2]) > 25
    assert "Nothing newer was asked" in done.stdout, "what was left out must be said"


@pytest.mark.parametrize("line", ["some-package==2.9", 'some.package==2.9.1; platform_machine == "none"'])
def test_an_advisory_is_found_for_every_kind_of_machine(tmp_path: Path, line: str) -> None:
    done = audit(*files(tmp_path, f"# tested together\nother==1.0\n{line}\n"))
    assert done.returncode == 1 and "CVE-1; mended in 2.10" in done.stderr


def test_versions_are_compared_as_versions(tmp_path: Path) -> None:
    assert audit(*files(tmp_path, "some-package==2.10\n")).returncode == 0


def test_a_finding_may_be_accepted_with_a_reason(tmp_path: Path) -> None:
    accepted = {
        "package": "some-package",
        "version": "2.9",
        "id": "CVE-1",
        "reason": "the part with the fault is never called",
    }
    done = audit(*files(tmp_path, "some-package==2.9\n", accepted=[accepted]))
    assert done.returncode == 0 and "1 accepted with a reason" in done.stdout
    for wrong in ({"version": "2.8"}, {"id": "CVE-2"}):
        assert audit(*files(tmp_path, "some-package==2.9\n", accepted=[{**accepted, **wrong}])).returncode == 1
    silent = audit(*files(tmp_path, "some-package==2.9\n", accepted=[{**accepted, "reason": ""}]))
    assert silent.returncode == 1 and "accepted without a reason" in silent.stderr


def test_an_old_list_is_said_to_be_old(tmp_path: Path) -> None:
    done = audit(*files(tmp_path, "other==1.0\n", collected="2024-01-01"))
    assert done.returncode == 0 and "days old: run `make audit`" in done.stdout


def test_what_is_installed_is_compared_too(tmp_path: Path) -> None:
    *options, _ = files(tmp_path, f"numpy==1.0\npillow=={version('pillow')}\nnot-installed==1.0\n")
    done = audit(*options)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if "installed, constraints" in line] == [
        f"audit: numpy {version('numpy')} is installed, constraints.txt says 1.0"
    ]
