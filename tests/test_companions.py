"""What audits say of thumbnails and features, and that they keep no row of those that nobody made thumbnails of."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as some

from outcrop.operate.companions import BAD_THUMBNAIL, NO_THUMBNAIL, Faults

SAID = some.lists(some.sampled_from(["", NO_THUMBNAIL, BAD_THUMBNAIL, None]), max_size=40)


@given(SAID, some.integers(0, 5))
def test_what_is_missing_counts_where_most_have_theirs(said: list[str | None], others: int) -> None:
    faults = Faults(len(said) + others)
    for number, fault in enumerate(said):
        faults.take({"key": f"{number}", "source": "x.jpg"}, fault)
    counts = Counter(said)
    usual = counts[""] + counts[BAD_THUMBNAIL] > counts[NO_THUMBNAIL]
    wanted = {BAD_THUMBNAIL, NO_THUMBNAIL} if usual else {BAD_THUMBNAIL}
    expected = {f"{number}": fault for number, fault in enumerate(said) if fault in wanted}
    assert {row["key"]: fault for row, fault in faults.found()} == expected


def test_rows_that_lack_what_nobody_has_are_let_go() -> None:
    faults, most = Faults(10_000), 0
    for number in range(10_000):
        faults.take({"key": f"{number}", "source": "x.jpg", "id": "0" * 32, "kind": "image"}, NO_THUMBNAIL)
        most = max(most, len(faults.lacking))
    assert most < 5000 and faults.lacking == [] and list(faults.found()) == []
