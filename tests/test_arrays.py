"""Arrays read from files by many threads at once."""

from __future__ import annotations

import ast
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outcrop.embed.arrays import map_array, read_arrays


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_one_header_is_parsed_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str):
    path, written = tmp_path / f"a{suffix}", np.arange(12, dtype=np.float32).reshape(4, 3)
    (np.save if suffix == ".npy" else np.savez)(path, written)
    parsing, parsed, parse = threading.Lock(), [], ast.literal_eval

    def watched(text: str) -> Any:
        alone = parsing.acquire(blocking=False)
        time.sleep(0.002)
        parsed.append(alone)
        if alone:
            parsing.release()
        return parse(text)

    monkeypatch.setattr(ast, "literal_eval", watched)
    read: Callable[[Path], Any] = map_array if suffix == ".npy" else lambda file: read_arrays(file)["arr_0"]
    with ThreadPoolExecutor(4) as threads:
        assert all(np.array_equal(found, written) for found in threads.map(read, [path] * 24))
    assert len(parsed) == 24 and all(parsed)


def test_pickles_are_refused(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "a.npz", np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="Python objects"):
        map_array(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="allow_pickle"):
        read_arrays(tmp_path / "a.npz")


def test_a_header_that_no_parser_takes_is_damage(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.zeros(3, np.float32))
    whole = (tmp_path / "a.npy").read_bytes()
    for header in (
        b"{'descr': (",
        b"{'descr': '<f4', 'shape': (9999999999999999999999,), 'fortran_order': False}",
        b"(" * 60,
    ):
        (tmp_path / "a.npy").write_bytes(whole[:10] + header.ljust(117) + b"\n" + whole[128:])
        with pytest.raises((ValueError, SyntaxError)):
            map_array(tmp_path / "a.npy")
