"""How many pictures a device takes best at once: found by trial, not guessed from its name."""

from __future__ import annotations

from collections.abc import Callable

FIRST, MAX_BATCH = 8, 512
"""Pictures of the first trial, and of the last at most."""
WORTH = 1.05
"""A doubled batch is taken if its rate is at least this many times the rate before; otherwise it would only cost memory."""


def best_batch(seconds: Callable[[int], float | None]) -> int:
    """The batch from which doubling gains little, or does not fit: 8, 16, 32 … 512, or half of the first.

    `seconds` gives the time for a number of pictures, or None if they do not fit into memory.
    """
    best, rate, count = FIRST // 2, 0.0, FIRST
    while count <= MAX_BATCH:
        taken = seconds(count)
        if taken is None or count / max(taken, 1e-9) < rate * WORTH:
            break
        best, rate = count, count / max(taken, 1e-9)
        count *= 2
    return best
