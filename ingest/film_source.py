"""One film as a source of items: one for each frame that is kept, one every so many seconds, near-equal ones left out.

A frame is near-equal where the last one that was kept differs from it by less than `NEAR` grey levels on average, both reduced
to 64 x 64 pixels: a drone that hovers, or stands on the ground. Which moments of a film were kept is remembered below the state
folder (`Kept`), so that a film that has not changed is not decoded again; without that memory it is decoded, and nothing of it is
embedded anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outcrop.embed.crops import prepare
from outcrop.embed.film import Film, Moment
from outcrop.embed.images import Decoded, thumbnail
from outcrop.embed.placement import Placement
from outcrop.embed.protocol import PictureEncoder
from outcrop.embed.telemetry import Telemetry, read_telemetry, telemetry_beside
from outcrop.ingest.photos import footing, scaled_photo, with_metadata
from outcrop.ingest.sources import Contents, FileState, LeftOut, Outcome, Prepared, Todo, Unfit, Wanted
from outcrop.schema.digests import digest_of
from outcrop.schema.files import whole_file
from outcrop.schema.item import Item, Kind, image_key

NEAR = 2.0
"""Grey levels (of 256), the mean difference below which two frames are near-equal."""
SIDE = 64
"""Pixels a side to which frames are reduced before they are compared."""
VERSION = "film1"
"""Goes up when films are read otherwise than before."""


@dataclass(frozen=True)
class Kept:
    """Which moments of films were kept, one small file for each film below `folder` (None: nothing is remembered)."""

    folder: Path | None

    def read(self, film: Path, every: float) -> list[float] | None:
        """The moments (seconds) of a film as it is now; None where they are not known."""
        try:
            if (file := self._file(film, every)) is None:
                return None
            said = json.loads(file.read_text(encoding="utf-8"))
            state = FileState.of(film)
            if (said["version"], said["size"], said["mtime_ns"]) != (VERSION, state.size, state.mtime_ns):
                return None
            return [float(second) for second in said["kept"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, film: Path, every: float, state: FileState, kept: Sequence[float]) -> None:
        """Remembers the moments of a film in the state in which it was read.

        Raises:
            InputError: it cannot be written.
        """
        if (place := self._file(film, every)) is None:
            return
        said = {
            "film": str(film),
            "version": VERSION,
            "size": state.size,
            "mtime_ns": state.mtime_ns,
            "kept": list(kept),
        }
        with whole_file(place, fix="make room, or give another --state", durable=False, parents=True) as file:
            file.write_text(json.dumps(said), encoding="utf-8")

    def _file(self, film: Path, every: float) -> Path | None:
        if self.folder is None:
            return None
        name = f"{os.fsencode(film.absolute())!r} {every:g}"
        return self.folder / f"{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}.json"


@dataclass(frozen=True)
class FilmSource:
    """One film, and the moments of it that are wanted; `only` keeps those with these keys."""

    path: Path
    root: Path
    dataset: str
    every: float
    moments: tuple[float, ...]
    kept: Kept
    only: frozenset[str] | None = None
    atomic: ClassVar[bool] = False
    stage: ClassVar[str] = "decode"

    @property
    def source(self) -> str:
        """The film's path below the root."""
        return unicodedata.normalize("NFC", self.path.relative_to(self.root).as_posix())

    @property
    def capture_id(self) -> str:
        """The capture that a film is: its path below the root without its ending."""
        return str(PurePosixPath(self.source).with_suffix(""))

    @property
    def capture_key(self) -> str:
        """What the keys of all its frames begin with (see `outcrop.ingest.sources.OfCapture`)."""
        return self.key(0).rpartition("/")[0]

    def key(self, second: float) -> str:
        """The key of a frame: its number is that of milliseconds, whatever `every` is."""
        return image_key(self.dataset, self.capture_id, round(1000 * second))

    @property
    def whole(self) -> bool:
        """Whether all frames of the film are wanted."""
        return self.only is None

    @property
    def count(self) -> int:
        """How many frames are wanted."""
        return len(self.wanted)

    @cached_property
    def wanted(self) -> Sequence[Wanted]:
        """The frames that are known to be kept, else one for each moment of the film."""
        known = self.kept.read(self.path, self.every)
        seconds = self.moments if known is None else [second for second in self.moments if second in set(known)]
        process = digest_of(f"{VERSION} srt={digest_of(self._telemetry_data)}")
        wanted = [Wanted(self._item(second), self.path, process) for second in seconds]
        return [each for each in wanted if self.only is None or each.item.key in self.only]

    @property
    def left_out_before(self) -> int:
        """See `outcrop.ingest.sources.LeavesOut`."""
        only = self.only
        all_there = len(self.moments) if only is None else sum(self.key(second) in only for second in self.moments)
        return all_there - len(self.wanted)

    def read(self, path: Path) -> Contents:
        """The state and the digest of the film: PyAV reads it by itself."""
        return Contents.digested(path)

    def make(
        self, todo: Sequence[Todo], contents: Contents, encoder: PictureEncoder, thumbnails: bool
    ) -> Iterator[Outcome]:
        """See `outcrop.ingest.sources.Source.make`. Every moment up to the last one to be made is looked at: which frames
        are near-equal must not depend on what is stored already."""
        asked = {each.item.extra["second"]: each.wanted for each in todo}
        known = self.kept.read(self.path, self.every)
        if known is not None:
            # Known by now, though it was not to whoever listed it: another process, or another machine, did.
            kept_then = frozenset(known)
            yield from (LeftOut(each.item) for second, each in asked.items() if second not in kept_then)
            asked = {second: each for second, each in asked.items() if second in kept_then}
            if not asked:
                return
        seconds = list(self.moments) if known is None else [second for second in self.moments if second in asked]
        seconds = seconds if self.whole else [second for second in seconds if second <= max(asked)]
        last: NDArray[np.float32] | None = None
        kept: list[float] = []
        with Film(self.path) as film:
            for moment in film.read(seconds):
                small = _reduced(moment.image) if moment.image is not None else None
                if known is None and small is not None and last is not None and np.abs(small - last).mean() < NEAR:
                    if moment.second in asked:
                        yield LeftOut(asked[moment.second].item)
                    continue
                last = small if small is not None else last
                kept.append(moment.second)
                if moment.second in asked:
                    yield self._made(moment, asked[moment.second], contents, encoder, thumbnails)
        if known is None and self.whole:
            self.kept.write(self.path, self.every, contents.state, kept)

    def _item(self, second: float) -> Item:
        frame = round(1000 * second)
        item = Item(self.key(second), Kind.IMAGE, self.dataset, self.capture_id, frame=frame, source=self.source)
        return replace(item, extra={"second": second})

    def _made(
        self, moment: Moment, wanted: Wanted, contents: Contents, encoder: PictureEncoder, thumbnails: bool
    ) -> Outcome:
        if moment.image is None:
            return Unfit(wanted.item, f"{self.path}: {moment.second:g} s: {moment.reason}")
        facts, absolute = self._telemetry.at(moment.second)
        picture = Decoded(moment.image, *moment.image.size, facts)
        item = with_metadata(wanted.item, picture.width, picture.height, facts, False)
        if absolute is not None:
            item = replace(item, extra={**item.extra, "absolute_altitude": absolute})
        item = replace(
            item,
            source_size=contents.state.size,
            source_mtime_ns=contents.state.mtime_ns,
            source_digest=wanted.digest(contents),
        )
        space = encoder.space
        scale = scaled_photo(space, picture.width, picture.height, footing(facts, None, None))
        placement = Placement.of(picture, space.size, space.fit, scale.share)
        small = thumbnail(moment.image) if thumbnails else None
        remarks = (*(self._remarks if moment.second == 0 else ()), *filter(None, (scale.remark,)))
        return Prepared(item, prepare(picture, space, scale.share), small, placement, remarks)

    @cached_property
    def _telemetry_data(self) -> bytes:
        beside = telemetry_beside(self.path)
        try:
            return beside.read_bytes() if beside is not None else b""
        except OSError:
            return b""

    @cached_property
    def _telemetry(self) -> Telemetry:
        return read_telemetry(self._telemetry_data)

    @property
    def _remarks(self) -> tuple[str, ...]:
        if not self._telemetry_data:
            return ("has no SRT beside it: its frames have no positions",)
        return () if self._telemetry.places else ("the SRT beside it holds no positions",)


def _reduced(image: Image.Image) -> NDArray[np.float32]:
    """A frame as grey levels, [SIDE, SIDE]."""
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0), np.float32)
