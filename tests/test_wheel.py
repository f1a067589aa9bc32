"""What ships: the wheel holds one package, works without the checkout, and lives beside others' packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import uuid
import zipfile
from pathlib import Path

import pytest

from outcrop.schema.item import image_key

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = PROJECT["tool"]["setuptools"]["package-dir"]
"""The folder of each package in the checkout."""


def pip(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def done(process: subprocess.CompletedProcess[str]) -> str:
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the checkout: building writes into the tree that it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]):
        shutil.copy(ROOT / name, folder)
    for name in FOLDERS.values():
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    done(pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "dist", folder))
    (made,) = (folder / "dist").iterdir()
    return made


class Environment:
    """A new environment that sees the packages of this one, but not its Outcrop."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.python = folder / "bin/python"
        (self.packages,) = folder.glob("lib/python*/site-packages")
        # What such a line names comes after the environment's own packages, and its .pth files (editable installs) do not count.
        seen = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        (self.packages / "seen.pth").write_text("\n".join(seen))
        self.elsewhere = folder / "empty"
        self.elsewhere.mkdir()

    def pip(self, *arguments: object) -> None:
        done(pip("--python", self.python, *arguments))

    def run(self, *command: object) -> str:
        """What a command prints, in an empty folder."""
        outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        process = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            cwd=self.elsewhere,
            env=outside,
            timeout=250,
        )
        return done(process).strip()

    def python_says(self, code: str) -> str:
        return self.run(self.python, "-c", code)


@pytest.mark.slow
def test_the_wheel_holds_one_package_and_all_of_it(wheel: Path) -> None:
    held = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    version = PROJECT["project"]["version"]
    assert {path.parts[0] for path in held} == {"outcrop", f"outcrop-{version}.dist-info"}
    ours = {
        Path(package.replace(".", "/")) / path.relative_to(ROOT / folder)
        for package, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".j2", ".typed", ".css", ".js", ".svg", ".json") or path.name == "LICENSE"
    }
    assert len(ours) > 100
    assert {path for path in held if path.parts[0] == "outcrop"} == ours


@pytest.mark.slow
def test_the_wheel_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    installed = Environment(tmp_path / "venv")
    installed.pip("install", "--no-deps", "--no-index", wheel)
    where = installed.python_says("import outcrop, outcrop.schema.item; print(outcrop.schema.item.__file__)")
    assert Path(where) == installed.packages / "outcrop/schema/item.py"
    every = "[getattr(outcrop, name) for name in getattr(outcrop, '__all__', ())]"
    assert "Outcrop" in installed.python_says(f"import outcrop; print(outcrop.__doc__, {every})")
    for command in PROJECT["project"]["scripts"]:
        assert installed.run(installed.python.parent / command, "--version").endswith(PROJECT["project"]["version"])
    assert not list(installed.elsewhere.iterdir())


@pytest.mark.slow
def test_two_commands_find_a_photograph_in_an_environment_with_the_wheel_alone(
    wheel: Path, tmp_path: Path, shared_sample: Path
) -> None:
    installed = Environment(tmp_path / "venv")
    installed.pip("install", "--no-deps", "--no-index", wheel)
    photos, names = installed.elsewhere / "photos", {}
    photos.mkdir()
    for number, path in enumerate(sorted((shared_sample / "aerial/caliterra").glob("*.jpg"))[:8]):
        names[path.name] = f"{uuid.uuid5(uuid.NAMESPACE_URL, str(number))}.jpg"
        shutil.copy(path, photos / names[path.name])
    outcrop = installed.python.parent / "outcrop"
    assert json.loads(installed.run(outcrop, "ingest", "images", "photos", "--json"))["embedded"] == 8
    one = shared_sample / "aerial/caliterra/IMG_9363.jpg"
    answer = json.loads(installed.run(outcrop, "query", "image", one, "--json"))
    assert answer["queries"][0]["hits"][0]["source"] == names[one.name]


@pytest.fixture(scope="module")
def namesake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of somebody else's package `schema`."""
    folder = tmp_path_factory.mktemp("namesake")
    fetched = pip(
        "download", "--no-deps", "--only-binary", ":all:", "--dest", folder, "--timeout", 10, "--retries", 1, "schema"
    )
    if fetched.returncode:
        reason = (fetched.stderr.strip().splitlines() or ["pip says nothing"])[-1]
        pytest.skip(f"the package 'schema' cannot be downloaded here: {reason}")
    (made,) = folder.iterdir()
    return made


KEY = image_key("town", "a_100", 1)
OURS = "import outcrop.schema.item as found; print(found.image_key('town', 'a_100', 1))"
THEIRS = "import schema; print(schema.Schema(int).validate(7))"


@pytest.mark.slow
@pytest.mark.parametrize("ours_first", [True, False])
def test_beside_a_package_named_like_one_of_our_rooms(
    wheel: Path, namesake: Path, tmp_path: Path, ours_first: bool
) -> None:
    both = Environment(tmp_path / "venv")
    for file in (wheel, namesake) if ours_first else (namesake, wheel):
        both.pip("install", "--no-deps", "--no-index", file)
    assert (both.python_says(OURS), both.python_says(THEIRS)) == (KEY, "7")
    both.pip("uninstall", "--yes", "schema" if ours_first else "outcrop")
    assert both.python_says(OURS if ours_first else THEIRS) == (KEY if ours_first else "7")
    left = {path.name for path in both.packages.iterdir()}
    assert ("outcrop" in left) == ours_first and ("schema.py" in left or "schema" in left) != ours_first
