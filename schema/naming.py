"""The names of a capture's files, as the template of its dataset gives them."""

from __future__ import annotations

import re
import string
import unicodedata
from dataclasses import dataclass
from functools import cached_property

from outcrop.schema.registry import Dataset


@dataclass(frozen=True)
class Naming:
    """The names of a capture's files, from its template: `pieces` are texts in NFC, each with the format of the number behind it
    (None: nothing is behind it)."""

    pieces: tuple[tuple[str, str | None], ...]

    @classmethod
    def of(cls, dataset: Dataset, capture_id: str) -> Naming:
        """As a dataset's template says."""
        values = dataset.template_values(capture_id)
        pieces: list[tuple[str, str | None]] = []
        for text, field, spec, _ in string.Formatter().parse(dataset.filename_template):
            pieces.append((_nfc(text), None))
            if field == "frame":
                pieces[-1] = (_nfc(text), spec or "")
            elif field is not None:
                pieces.append((_nfc(values[field]), None))
        return cls(tuple(pieces))

    def name(self, number: int) -> str:
        """The name of a frame's file."""
        return "".join([text if spec is None else text + format(number, spec) for text, spec in self.pieces])

    def number(self, name: str) -> int | None:
        """The frame of a file that has exactly this name (in NFC); None where the template gives no such name."""
        match = self._exactly.fullmatch(name)
        if match is None:
            return None
        digits = match["frame"]
        number = int(digits)
        return number if all(format(number, spec) == digits for spec in self._specs) else None

    def alike(self, name: str) -> int | None:
        """The frame of a file whose name (in NFC) differs in letter case alone."""
        match = self._in_any_case.fullmatch(name)
        number = int(match["frame"]) if match is not None else None
        return number if number is not None and self.name(number).casefold() == name.casefold() else None

    @property
    def depth(self) -> int:
        """How many folders deep the files lie, 1 for those in the capture's own."""
        return 1 + sum(text.count("/") for text, _ in self.pieces)

    @cached_property
    def _specs(self) -> list[str]:
        return [spec for _, spec in self.pieces if spec is not None]

    @cached_property
    def _exactly(self) -> re.Pattern[str]:
        return re.compile(self._pattern)

    @cached_property
    def _in_any_case(self) -> re.Pattern[str]:
        return re.compile(self._pattern, re.IGNORECASE)

    @property
    def _pattern(self) -> str:
        """A regular expression with a group `frame`."""
        pattern, group = "", r"(?P<frame>\d{1,18})"
        for text, spec in self.pieces:
            pattern += re.escape(text)
            if spec is not None:
                pattern, group = pattern + group, "(?P=frame)"
        return pattern


def _nfc(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)
