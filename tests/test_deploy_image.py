"""The container image: the Dockerfile is read, checked, broken on purpose, and handed to hadolint where it is installed."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml
from deployment import DOCKERFILE, LIBRARIES, ROOT, dockerfile_faults, installed


def test_dockerfile_has_no_faults() -> None:
    assert dockerfile_faults(DOCKERFILE.read_text(), (ROOT / ".dockerignore").read_text()) == []


def test_image_gets_the_libraries_of_open3d() -> None:
    listed: set[str] = set()
    for name in ("system-packages.txt", "image-packages.txt"):
        lines = (ROOT / "deploy" / name).read_text().splitlines()
        # The install script takes one name a line, and no comments.
        assert all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]*", line) for line in lines), name
        listed |= set(lines)
        assert f"deploy/{name}" in DOCKERFILE.read_text()
    assert listed >= LIBRARIES


DOCKERFILE_BREAKS = [
    ("root", "USER ${UID}:${GID}", "USER root", "runs as root"),
    ("no user", "USER ${UID}:${GID}", "", "runs as root"),
    ("user 0", "ARG UID=10001", "ARG UID=0", "runs as 0"),
    ("health", '["collection", "doctor", "--quiet"]', '["true"]', "no healthcheck"),
    ("constraints", "pip install --constraint constraints.txt --requirement", "pip install --requirement", "constraints"),
    ("base", "python:3.11-slim-bookworm", "python", "CPU_BASE"),
    ("host", "--index-url", "--index-url https://example.org/", "names a host"),
    ("path", "ENV PATH=/opt/outcrop/bin:$PATH \\\n", "ENV \\\n", "does not set PATH"),
    ("secret", "PYTHONUNBUFFERED=1", "OUTCROP_TOKEN=root:x", "a secret"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "fault"), [b[1:] for b in DOCKERFILE_BREAKS], ids=[b[0] for b in DOCKERFILE_BREAKS]
)
def test_a_broken_dockerfile_is_found_out(old: str, new: str, fault: str) -> None:
    text = DOCKERFILE.read_text()
    assert old in text
    assert any(fault in f for f in dockerfile_faults(text.replace(old, new), (ROOT / ".dockerignore").read_text()))


def test_a_dockerignore_that_forgets_a_package_is_found_out() -> None:
    ignore = (ROOT / ".dockerignore").read_text()
    assert dockerfile_faults(DOCKERFILE.read_text(), ignore.replace("!schema\n", "")) == [
        ".dockerignore keeps back schema"
    ]
    assert ".dockerignore lets everything through" in dockerfile_faults(DOCKERFILE.read_text(), "!schema")


def test_hadolint_finds_nothing() -> None:
    hadolint = installed("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: the Dockerfile was read, not linted")
    answer = subprocess.run(
        [hadolint, "--config", str(ROOT / ".hadolint.yaml"), str(DOCKERFILE)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_every_rule_that_hadolint_leaves_out_has_a_reason() -> None:
    text = (ROOT / ".hadolint.yaml").read_text()
    for rule in yaml.safe_load(text)["ignored"]:
        assert re.search(rf"- {rule}\s+# .{{20,}}", text), rule
