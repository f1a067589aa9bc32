"""Processes of our own: answers in parts, errors and warnings that come back, and ends without remains."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from waiting import until

from outcrop.schema.errors import InputError, OutcropError
from outcrop.schema.processes import Ended, Pool, Worker

ECHO = """
import logging, os, time

def echoing():
    calls = []
    def answer(request, data):
        calls.append(request)
        print("what libraries print")
        if request == "raise":
            from outcrop.schema.errors import InputError
            raise InputError("no")
        if request == "break":
            1 / 0
        if request == "die":
            os._exit(3)
        if request == "sleep":
            yield "begun"
            time.sleep(600)
        if request == "warn":
            logging.getLogger("outcrop.echo").warning("look %s", "out")
        if request == "where":
            import outcrop
            yield list(outcrop.__path__)
        elif request == "arrays":
            import numpy as np
            for number in range(6):
                yield number, np.full((3000, 3000), number, np.uint8), np.arange(number)
        elif request == "count":
            yield from range(3)
        else:
            yield len(calls), request, os.getpid(), bytes(data)
    return answer
"""


@pytest.fixture(autouse=True)
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "echo.py").write_text(ECHO)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("echo:echoing", quiet=True)
    yield worker
    worker.end()


def ask(worker: Worker, request: object, data: bytes | None = None) -> list[object]:
    worker.send(request, memoryview(data) if data is not None else None)
    return list(worker.answer())


def test_an_answer_has_any_number_of_parts_and_inputs_of_any_size(worker: Worker) -> None:
    assert ask(worker, "count") == [0, 1, 2]
    for number, data in enumerate((b"", b"abc", bytes(range(256)) * 40_000, b"less"), 2):
        assert ask(worker, ("any", "thing"), data) == [(number, ("any", "thing"), worker.pid, data)]
    assert worker.alive and not worker.busy
    worker.end()
    assert not worker.alive and not psutil.pid_exists(worker.pid)


def test_arrays_come_back_however_large_and_late_they_are_taken(worker: Worker) -> None:
    for _ in range(2):
        worker.send("arrays")
        found = list(worker.answer())  # 54 MB: more than goes through shared memory
        assert [part[0] for part in found] == list(range(6))
        for number, large, small in found:
            assert (large == number).all() and large.shape == (3000, 3000)
            assert small.tolist() == list(range(number))
            large += 1  # memory of our own
        assert ask(worker, "count") == [0, 1, 2]


def test_memory_is_filled_again_only_when_nothing_looks_at_it(worker: Worker) -> None:
    """Arrays that are kept stay as they were, whatever comes after them."""
    held: list[list[Any]] = []
    for round in range(4):
        worker.send("arrays")
        held.append(list(worker.answer()))
        for _, large, _ in held[-1]:
            large += round
        held = held[-2:]
        for some, added in zip(held, range(max(0, round - 1), round + 1), strict=True):
            assert all((large == number + added).all() for number, large, _ in some)
    pieces = worker._returned._own
    assert len(pieces) < 4 * 3, "what was let go is filled again"
    held.clear()
    some = list(map(id, pieces))
    worker.send("arrays")
    list(worker.answer())
    assert list(map(id, worker._returned._own)) == some, "nothing is new where all is free"


def test_our_own_package_is_found_where_it_was_found(
    tmp_path: Path, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another folder of its name may come before it on the path since."""
    import outcrop

    other = tmp_path / "checkout"
    (other / "outcrop").mkdir(parents=True)
    (other / "outcrop/__init__.py").write_text("")
    monkeypatch.syspath_prepend(other)
    monkeypatch.syspath_prepend(tmp_path)
    late = Worker("echo:echoing", quiet=True)
    try:
        assert ask(late, "where") == [list(outcrop.__path__)]
    finally:
        late.end()


def test_errors_and_warnings_come_back(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match=r"\Ano\Z"):
        ask(worker, "raise")
    with pytest.raises(OutcropError, match=r"echo\.py.*\n.*ZeroDivisionError|ZeroDivisionError"):
        ask(worker, "break")
    assert len(ask(worker, "warn")) == 1 and worker.alive
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("outcrop.echo", "look out")]


def test_a_process_that_dies_or_is_silent_is_reported(worker: Worker) -> None:
    with pytest.raises(Ended, match=r"\Aexit code 3\Z"):
        ask(worker, "die")
    with pytest.raises(Ended, match="exit code 3"):
        ask(worker, "anything")
    silent = Worker("echo:echoing", quiet=True)
    silent.send("sleep")
    answer = silent.answer()
    assert next(answer) == "begun"
    silent.patience = 0.2
    with pytest.raises(TimeoutError):
        next(answer)
    assert not silent.alive
    nowhere = Worker("echo:nothing", quiet=True)
    with pytest.raises(OutcropError, match="nothing"):
        ask(nowhere, "anything")
    nowhere.end()


def test_a_pool_starts_what_is_needed_and_replaces_what_broke() -> None:
    with Pool(lambda: Worker("echo:echoing", quiet=True), 2) as pool:
        for _ in range(3):
            with pool.worker() as worker:
                ask(worker, "any")
        assert len(pool.workers) == 2  # each slot is filled once
        with pool.worker() as worker:
            worker.send("sleep")
            assert next(worker.answer()) == "begun"
        assert not worker.alive  # nobody waited for the rest
        seen: list[object] = []

        def use() -> None:
            with pool.worker() as one:
                seen.extend(ask(one, "any"))

        threads = [threading.Thread(target=use) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(seen) == 6 and len(pool.workers) == 2
        pids = [worker.pid for worker in pool.workers]
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize("how", ["returns", "is killed"])
def test_no_process_outlives_the_one_that_started_it(how: str, tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from outcrop.schema.processes import Worker; w = Worker('echo:echoing'); w.send('any'); "
        "list(w.answer()); print(w.pid, flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert child.is_running()
    if how == "is killed":
        os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    until(lambda: has_ended(child), "the end of the worker")


def has_ended(process: psutil.Process) -> bool:
    """Whether it is gone, or only waits for its parent to take note."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # between the two
        return True
