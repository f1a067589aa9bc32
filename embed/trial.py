"""How many pictures a device takes best at once: found by trial, not guessed from its name, and remembered.

Every number that fits is tried, from 8 to 512: one that seems slower may be a hiccup of the machine, and the next may be faster.
After a pass that is not measured come samples of all that are worth it, in turns, so that a clock that speeds up or slows down
meets all alike; medians count.
"""

from __future__ import annotations

import json
import logging
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from outcrop.schema.errors import InputError
from outcrop.schema.files import whole_file

_log = logging.getLogger(__name__)

FIRST, MAX_BATCH = 8, 512
"""Pictures of the first trial, and of the last at most."""
AS_GOOD = 0.99
"""A smaller batch is taken if its rate is at least this part of the best, as it needs less memory."""
WORTH = 0.9
"""Part of the best rate below which a number is not measured again."""
ROUNDS, ENOUGH, MAX_ROUNDS = 5, 11, 41
"""Samples of each number: at least, before time may end measuring, and at most."""
SURE = 0.005
"""Standard error of the medians, as a part of them, at which measuring ends."""
BUDGET = 12.0
"""Seconds of samples after which measuring ends as well, once there are enough."""


@dataclass(frozen=True)
class Trial:
    """What was found: pictures at once, and pictures per second with it."""

    batch: int
    rate: float


def best_batch(seconds: Callable[[int], float | None]) -> Trial:
    """The smallest number whose rate is about the best: 8, 16, 32 … 512, or half of the first.

    `seconds` gives the time of a pass of so many pictures, or None if they do not fit into memory.
    """
    samples, count = dict[int, list[float]](), FIRST
    while (
        count <= MAX_BATCH and seconds(count) is not None
    ):  # the first pass of a number also chooses how it is computed
        samples[count] = []
        count *= 2
    if not samples:
        return Trial(FIRST // 2, 0.0)
    spent = 0.0
    for number in range(MAX_ROUNDS):
        for count in [*samples]:
            taken = seconds(count)
            if taken is None:  # what fitted once need not fit again
                del samples[count]
                continue
            samples[count].append(count / max(taken, 1e-9))
            spent += taken
        if not samples:
            return Trial(FIRST // 2, 0.0)
        if number + 1 >= ROUNDS:
            samples = _worthy(samples)
            late = spent > BUDGET and number + 1 >= ENOUGH
            if late or len(samples) == 1 or max(map(_error, samples.values())) < SURE:
                break
    rates = {count: statistics.median(some) for count, some in samples.items()}
    batch = min(count for count, rate in rates.items() if rate >= AS_GOOD * max(rates.values()))
    return Trial(batch, rates[batch])


def _worthy(samples: Mapping[int, list[float]]) -> dict[int, list[float]]:
    """The numbers that may still be the best: one good sample is enough, as half of them may have met hiccups."""
    best = max(statistics.median(some) for some in samples.values())
    return {count: some for count, some in samples.items() if max(some) >= WORTH * best}


def _error(rates: list[float]) -> float:
    """The standard error of the median of rates, as a part of it, from their median deviation: outliers do not count."""
    middle = statistics.median(rates)
    deviation = statistics.median(abs(rate - middle) for rate in rates)
    return 1.4826 * deviation * 1.2533 / math.sqrt(len(rates)) / middle


@dataclass(frozen=True)
class TrialMemory:
    """Trials in a file of the state folder, by what they were made with. A damaged file is as none, and is said aloud."""

    path: Path

    def recall(self, key: str) -> Trial | None:
        """The trial of a key."""
        return self._entries().get(key)

    def keep(self, key: str, trial: Trial) -> None:
        """Remembers a trial; a state folder that cannot be written remembers nothing, which is said in the log."""
        entries = {name: asdict(known) for name, known in (self._entries() | {key: trial}).items()}
        try:
            with whole_file(self.path, durable=False, parents=True) as file:
                file.write_text(json.dumps(entries, indent=1), encoding="utf-8")
        except (InputError, OSError) as error:
            _log.info("the batch found by trial is not remembered: %s", error)

    def _entries(self) -> dict[str, Trial]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except OSError:
            return {}
        except ValueError:
            text = ""
        try:
            return {str(key): _trial(**entry) for key, entry in json.loads(text).items()}
        except (ValueError, TypeError, AttributeError, RecursionError):
            _log.warning("%s is damaged and was ignored: the best batch is found by trial again", self.path)
            return {}


def _trial(batch: int, rate: float) -> Trial:
    if isinstance(batch, bool) or not isinstance(batch, int) or not FIRST // 2 <= batch <= MAX_BATCH:
        raise ValueError(f"batch {batch!r}")
    if not isinstance(rate, int | float) or not 0 <= rate < math.inf:
        raise ValueError(f"rate {rate!r}")
    return Trial(batch, float(rate))
