"""Colours of the page: text on every background that it stands on has the contrast of WCAG 2.2 AA, in both schemes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CSS = (Path(__file__).parents[1] / "query/service/static/service.css").read_text(encoding="utf-8")
SCHEMES = dict(zip(("light", "dark"), re.findall(r":root \{([^}]*)\}", CSS), strict=True))
TEXT, PARTS = 4.5, 3.0
"""Least contrast of text, and of what shows where something is."""


def colours(scheme: str) -> dict[str, tuple[float, float, float]]:
    return {name: rgb(value) for name, value in re.findall(r"--(\w+): #([0-9a-f]{3,6})", SCHEMES[scheme])}


def rgb(digits: str) -> tuple[float, float, float]:
    whole = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    red, green, blue = (int(whole[start : start + 2], 16) / 255 for start in (0, 2, 4))
    return red, green, blue


def contrast(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    """The ratio of WCAG: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""

    def luminance(colour: tuple[float, float, float]) -> float:
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_colours_contrast(scheme: str) -> None:
    known = colours(scheme)
    assert set(known) == {"ink", "soft", "line", "edge", "paper", "card", "accent", "query"}
    for ground in ("paper", "card"):
        for text in ("ink", "soft", "accent", "query"):
            assert contrast(known[text], known[ground]) >= TEXT, f"{text} on {ground}"
        assert contrast(known["edge"], known[ground]) >= PARTS, f"edges on {ground}"
    assert contrast(known["paper"], known["accent"]) >= TEXT  # buttons and marks
    assert contrast(known["paper"], known["query"]) >= TEXT


def test_the_ratio_is_that_of_the_standard() -> None:
    assert contrast(rgb("000"), rgb("fff")) == pytest.approx(21)
    assert contrast(rgb("777777"), rgb("ffffff")) == pytest.approx(4.48, abs=0.01)


def test_colours_of_text_come_from_the_schemes() -> None:
    """No rule has a colour of its own for text, which the other scheme would not change."""
    rules = re.sub(r":root \{[^}]*\}", "", CSS)
    found = re.findall(r"(?<![-\w])color: ([^;}]+)", rules)
    assert len(found) > 10 and all(value.startswith("var(--") for value in found)
