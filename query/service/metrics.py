"""Figures of the service in Prometheus's text format (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter

BOUNDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds: upper ends of the histogram's buckets."""


class Metrics:
    """Counts answers by route and status, and the seconds that questions took; any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: Counter[tuple[str, int]] = Counter()
        self._buckets = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0

    def answered(self, route: str, status: int) -> None:
        """Counts one answer."""
        with self._lock:
            self._answers[route, status] += 1

    def asked(self, seconds: float) -> None:
        """Counts one question that took so long, its wait included."""
        with self._lock:
            self._buckets[bisect_left(BOUNDS, seconds)] += 1
            self._seconds += seconds

    def text(self, waiting: int) -> str:
        """All figures; `waiting` is how many questions wait now."""
        with self._lock:
            answers, buckets, seconds = sorted(self._answers.items()), list(self._buckets), self._seconds
        lines = ["# HELP outcrop_answers_total Answers by route and status.", "# TYPE outcrop_answers_total counter"]
        lines += [f'outcrop_answers_total{{route="{route}",status="{status}"}} {n}' for (route, status), n in answers]
        lines += ["# HELP outcrop_question_seconds Seconds from a question to its answer."]
        lines += ["# TYPE outcrop_question_seconds histogram"]
        total = 0
        for bound, count in zip((*BOUNDS, float("inf")), buckets, strict=True):
            total += count
            name = "+Inf" if bound == float("inf") else f"{bound:g}"
            lines.append(f'outcrop_question_seconds_bucket{{le="{name}"}} {total}')
        lines += [f"outcrop_question_seconds_sum {seconds:.6f}", f"outcrop_question_seconds_count {total}"]
        lines += ["# HELP outcrop_questions_waiting Questions that wait or are being answered."]
        lines += ["# TYPE outcrop_questions_waiting gauge", f"outcrop_questions_waiting {waiting}"]
        return "\n".join(lines) + "\n"
