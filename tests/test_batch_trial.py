"""The best batch: found on machines with noise, hiccups and clocks that change, and remembered."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.embed.trial import Trial, TrialMemory, best_batch

SIZES = [8 << n for n in range(7)]


@dataclass
class Machine:
    """A device whose time for a batch is `fixed` and `each` a picture, dearer by `steps` at some sizes; with noise of a relative
    width, hiccups, and a clock that needs a while until it has its speed."""

    fixed: float
    each: float
    steps: dict[int, float] = field(default_factory=dict)
    noise: float = 0.0
    hiccups: float = 0.0
    warming: float = 0.0
    fits: int = 512
    seed: int = 0
    now: float = 0.0
    seen: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def true(self, count: int) -> float:
        return (self.fixed + self.each * count) * self.steps.get(count, 1.0)

    def __call__(self, count: int) -> float | None:
        if count > self.fits:
            return None
        taken = self.true(count) * float(np.exp(self.random.normal(0, self.noise)))
        taken *= 1 + self.warming * np.exp(-self.now / 2)
        if self.random.random() < self.hiccups:
            taken *= self.random.uniform(1.2, 4)
        if count not in self.seen:  # how it is computed is chosen first
            taken *= 8
        self.seen.add(count)
        self.now += taken
        return taken

    def share(self, count: int) -> float:
        """The rate of a batch, as a part of the best there is."""
        rates = {size: size / self.true(size) for size in SIZES if size <= self.fits}
        return rates[count] / max(rates.values())


@settings(max_examples=250, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rate=st.sampled_from([300, 1200, 5000, 9000]),
    fixed=st.floats(0, 64),
    steps=st.dictionaries(st.sampled_from(SIZES), st.floats(1, 1.5), max_size=4),
    noise=st.floats(0, 0.03),
    hiccups=st.floats(0, 0.15),
    warming=st.floats(0, 0.5),
    fits=st.sampled_from([8, 32, 128, 512]),
)
def test_the_batch_found_is_within_five_percent_of_the_best(
    seed: int,
    rate: float,
    fixed: float,
    steps: dict[int, float],
    noise: float,
    hiccups: float,
    warming: float,
    fits: int,
) -> None:
    machine = Machine(fixed / rate, 1 / rate, steps, noise, hiccups, warming, fits, seed)
    found = best_batch(machine)
    assert machine.share(found.batch) > 0.95
    assert 0.9 / (1 + warming) < found.rate * machine.true(found.batch) / found.batch < 1.1
    assert (
        machine.now < 120
    )  # at 300 pictures a second with hiccups, 40 of them for first passes; once for a model and card


@pytest.mark.parametrize("rate", [400, 1200, 5000, 9000])
def test_ten_of_ten(rate: float) -> None:
    """Curves as they were measured on a card: a dip at one size, then faster again."""
    for steps in ({}, {16: 1.3}, {64: 1.12}, {256: 1.06, 512: 1.09}):
        for seed in range(10):
            machine = Machine(12 / rate, 1 / rate, steps, 0.03, 0.1, 0.3, seed=seed)
            assert machine.share(best_batch(machine).batch) > 0.95


@pytest.mark.parametrize(
    ("fixed", "fits", "expected"),
    [(0.0, 512, 8), (0.010, 40, 32), (1e6, 512, 512), (0.010, 7, 4), (0.010, 512, 512), (0.0003, 512, 32)],
)
def test_a_batch_grows_while_that_is_worth_it_and_fits(fixed: float, fits: int, expected: int) -> None:
    assert best_batch(Machine(fixed, 0.001, fits=fits)).batch == expected


def test_a_number_that_no_longer_fits_is_left_out() -> None:
    machine, asked = Machine(1.0, 0.001), list[int]()

    def seconds(count: int) -> float | None:
        asked.append(count)
        return None if count == 512 and asked.count(512) > 2 else machine(count)

    assert best_batch(seconds).batch == 256
    assert asked.count(512) == 3
    once: set[int] = set()

    def fails_later(count: int) -> float | None:
        if count in once:
            return None
        once.add(count)
        return 0.1

    assert best_batch(fails_later) == Trial(4, 0.0)


def test_trials_are_remembered_by_what_they_were_made_with(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    memory = TrialMemory(tmp_path / "state" / "batches.json")
    assert memory.recall("a") is None
    memory.keep("a", Trial(64, 1200.5))
    memory.keep("b", Trial(8, 300.0))
    memory.keep("a", Trial(128, 1300.0))
    assert TrialMemory(memory.path).recall("a") == Trial(128, 1300.0) and memory.recall("b") == Trial(8, 300.0)
    assert os.listdir(memory.path.parent) == ["batches.json"]
    assert not caplog.records


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", '{"a": 8}', '{"a": {"batch": 64}}', '{"a": {"batch": 0, "rate": 1}}', "[" * 100_000]
    + [
        f'{{"a": {{"batch": {batch}, "rate": {rate}}}}}'
        for batch, rate in (("true", 1), (8, "NaN"), (1e3, 1), (1024, 1))
    ]
    + ["\udcff"],
)
def test_a_damaged_memory_is_ignored_aloud_and_made_anew(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory = TrialMemory(tmp_path / "batches.json")
    memory.path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert memory.recall("a") is None
    assert "batches.json is damaged and was ignored" in caplog.text
    memory.keep("a", Trial(16, 1.0))
    assert memory.recall("a") == Trial(16, 1.0)


def test_a_state_folder_that_cannot_be_written_only_remembers_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file")
    memory = TrialMemory(tmp_path / "state" / "batches.json")
    with caplog.at_level(logging.INFO):
        memory.keep("a", Trial(16, 1.0))
    assert "is not remembered" in caplog.text and memory.recall("a") is None
