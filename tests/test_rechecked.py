"""Answers that cost much: asked once for all threads, and never of the time before a change."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from waiting import LONG

from outcrop.store import rechecked
from outcrop.store.rechecked import Rechecked


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(rechecked, "time", made)
    return made


def test_an_answer_is_asked_for_once_in_its_time(clock: Clock) -> None:
    asked: list[int] = []

    def ask() -> int:
        asked.append(1)
        return len(asked)

    answer = Rechecked[int](5.0)
    assert [answer.get(ask) for _ in range(3)] == [1, 1, 1]
    clock.now += 5.1
    assert [answer.get(ask) for _ in range(3)] == [2, 2, 2]
    answer.forget()
    assert answer.get(ask) == 3


def test_one_thread_asks_while_the_others_go_on_with_the_last_answer(clock: Clock) -> None:
    answer, asking, told = Rechecked[str](5.0), threading.Event(), threading.Event()
    answer.get(lambda: "first")
    clock.now += 6

    def slowly() -> str:
        asking.set()
        assert told.wait(LONG)
        return "second"

    with ThreadPoolExecutor(1) as pool:
        one = pool.submit(answer.get, slowly)
        assert asking.wait(LONG)
        assert [answer.get(lambda: pytest.fail("asked twice")) for _ in range(8)] == ["first"] * 8
        told.set()
        assert one.result(LONG) == "second" == answer.get(lambda: "third")


def test_threads_without_an_answer_wait_for_the_one_that_asks() -> None:
    answer, asked = Rechecked[bool](60.0), []

    def ask() -> bool:
        asked.append(threading.get_ident())
        time.sleep(0.05)
        return True

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(lambda _: answer.get(ask), range(64)))
    assert len(asked) == 1


def test_an_answer_of_before_a_change_is_not_kept_and_an_error_is_not_an_answer() -> None:
    answer = Rechecked[str](60.0)

    def changed_meanwhile() -> str:
        answer.forget()
        return "before"

    def broken() -> str:
        raise OSError("away")

    assert answer.get(changed_meanwhile) == "before"
    with pytest.raises(OSError, match="away"):
        answer.get(broken)
    assert answer.get(lambda: "after") == "after"
