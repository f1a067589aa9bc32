"""Digests, and files that are written whole."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from outcrop.schema.digests import DIGITS, SourceDigest, digest_of, digest_of_file
from outcrop.schema.errors import InputError
from outcrop.schema.files import whole_file


def test_a_digest_is_the_same_of_bytes_of_a_text_and_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes("돌".encode())
    assert digest_of("돌") == digest_of(path.read_bytes()) == digest_of_file(path) != digest_of("")
    assert len(digest_of("")) == DIGITS


@pytest.mark.parametrize("digest", [SourceDigest("a" * 32), SourceDigest("a" * 32, "b" * 32), SourceDigest("")])
def test_a_source_digest_comes_back_from_its_text(digest: SourceDigest) -> None:
    assert SourceDigest.parse(str(digest)) == digest


def test_a_file_that_cannot_be_written_names_the_cause_and_the_fix(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"the page .*gone/x cannot be written \(No such file.*\); give another"),
        whole_file(tmp_path / "gone/x", what=f"the page {tmp_path / 'gone/x'}", fix="give another") as file,
    ):
        file.write_text("text")
    with whole_file(tmp_path / "made/here/x", parents=True) as file:
        file.write_text("text")
    assert (tmp_path / "made/here/x").read_text() == "text"
    with pytest.raises(InputError, match="is a folder"), whole_file(tmp_path / "made"):
        pass


def test_processes_with_the_same_id_write_different_files() -> None:
    """In containers that share a folder every process may be number 1, and its main thread have the same number too."""
    line = (
        "from unittest import mock; from outcrop.schema.files import unfinished\n"
        "with mock.patch('os.getpid', lambda: 1), mock.patch('threading.get_ident', lambda: 2): name = unfinished('x')\n"
        "print(name)"
    )
    first, second = (subprocess.check_output([sys.executable, "-c", line], text=True) for _ in range(2))
    assert first != second


def test_threads_that_write_one_file_leave_one_whole_file(tmp_path: Path) -> None:
    path, texts = tmp_path / "x", [str(number) * 200_000 for number in range(8)]

    def write(text: str) -> None:
        with whole_file(path, durable=False) as file:
            file.write_text(text)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts and os.listdir(tmp_path) == ["x"]
