"""What the names of files and folders say where no template explains them: frame numbers and altitudes.

A key must not depend on which other files there are, so each name is judged by itself:

- a plain name is a number, behind nothing (``0012.jpg``), behind the name of its folder or one of `PLAIN` (``DJI_0012.JPG``): the
  number is the frame's;
- another word and a number (``GOPR0012.JPG``): the number, with a number made of the word before it, so that two cameras in one
  folder do not meet;
- any other name (a UUID, a time): a number of 16 digits made of the whole name.

A file ``250918092555_300_0001.jpg`` says its flight and altitude itself, in whichever folder it lies.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from outcrop.schema.digests import digest_of

PLAIN = frozenset(("", "dji", "img", "image", "frame", "photo", "picture"))
"""Words before a frame number that say nothing."""
RAW = frozenset(
    (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".orf", ".pef", ".srw", ".x3f", ".mrw", ".3fr")
)
"""Endings of cameras' raw photographs."""
PICTURES = RAW.union(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".gif", ".bmp", ".avif", ".heic", ".heif"),
    (".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx"),
)
"""Endings of the files that are taken for photographs."""
_NUMBERED = re.compile(r"(?P<word>.*?)[ _.-]*(?P<number>[0-9]{1,9})\Z")
_FLIGHT = re.compile(r"[0-9]{6,}_(?P<altitude>[1-9][0-9]{0,3}(?:\.[0-9]+)?)\Z")
_METRES = re.compile(r"(?:.*[ _-])?(?:alt(?:itude)?)?(?P<altitude>[0-9]{1,4}(?:\.[0-9]+)?) ?m\Z", re.IGNORECASE)
_WORDS = 10**9
"""Above every number of up to nine digits."""
_NAMES, _MOST = 10**15, 2**53
"""Numbers made of whole names lie between: every JSON reader keeps them exactly."""


@dataclass(frozen=True)
class Named:
    """What a file's name says: its frame, and the flight that it names itself (``250918092555_300``; '' where it does not)."""

    frame: int
    flight: str = ""


def named(name: str, folder: str, *, plain: bool = True) -> Named:
    """What a file's name (in NFC, with its ending) says; `folder` is the name of its folder. Without `plain` no number counts."""
    stem = name.rpartition(".")[0] or name
    match = _NUMBERED.match(stem) if plain else None
    if match is not None:
        word, number = match["word"], int(match["number"])
        if _same(word, folder) or word.casefold() in PLAIN:
            return Named(number)
        if _FLIGHT.match(word):
            return Named(number, word)
        if word.isalpha():
            return Named((1 + _digest(word.casefold()) % 99_999) * _WORDS + number)
    return Named(_NAMES + _digest(name) % (_MOST - _NAMES))


def named_altitude(*names: str) -> float | None:
    """The altitude (metres) that the first of some names states: ``250918092555_300``, ``120m``, ``north_120m``, ``alt120m``."""
    for name in names:
        match = _FLIGHT.match(name) or _METRES.match(name)
        if match is not None:
            return float(match["altitude"])
    return None


def counted(count: int, noun: str) -> str:
    """``1 film``, ``2 films``."""
    return f"{count} {noun}{'s' if count != 1 else ''}"


def kinds_of(others: Mapping[str, int], most: int = 12) -> str:
    """``3 .srt, 2 .txt``: what is not read, the most frequent first."""
    shown = sorted(others.items(), key=lambda each: (-each[1], each[0]))
    rest = sum(count for _, count in shown[most:])
    texts = [f"{count} {kind}" for kind, count in shown[:most]]
    return ", ".join([*texts, f"{rest} of other kinds"] if rest else texts)


def _same(word: str, folder: str) -> bool:
    return (
        word == folder
        or unicodedata.normalize("NFC", word).casefold() == unicodedata.normalize("NFC", folder).casefold()
    )


def _digest(text: str) -> int:
    return int(digest_of(text)[:15], 16)
