"""Links from a report to the photographs that items were made of, as `report_links` asks for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from outcrop.schema.errors import OutcropError
from outcrop.schema.item import Item

if TYPE_CHECKING:
    from outcrop.query.verification.originals import Originals


class FileLinks:
    """Links of the report at `report`: ``file:`` URLs, which work on this machine, or ("relative") paths from the report's
    folder, which go on working where both are moved or served together."""

    def __init__(self, originals: Originals, report: Path, form: Literal["file", "relative"]) -> None:
        self._originals, self._folder, self._form = originals, report.absolute().parent, form

    def of_item(self, item: Item) -> str:
        """Of the photograph of an item; '' where there is none: specimens are meshes, which no browser shows."""
        try:
            return self.of_file(self._originals.find(item).path)
        except OutcropError:  # gone, or elsewhere: the report shows the thumbnail all the same
            return ""

    def of_file(self, path: Path) -> str:
        """Of a file, '' where it is not there."""
        whole = path.absolute()
        if not whole.is_file():
            return ""
        if self._form == "file":
            return whole.as_uri()
        # A name that begins like "x:" would be taken for a scheme.
        return "./" + quote(os.fsencode(os.path.relpath(whole, self._folder)))
