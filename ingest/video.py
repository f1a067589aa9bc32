"""`ingest video`: films, one item for each frame that is kept; one every so many seconds, near-equal ones left out.

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
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outcrop.embed.crops import prepare
from outcrop.embed.film import Film, Moment, import_av
from outcrop.embed.images import Decoded, thumbnail
from outcrop.embed.placement import Placement
from outcrop.embed.protocol import PictureEncoder
from outcrop.embed.telemetry import Telemetry, read_telemetry, telemetry_beside
from outcrop.ingest.photos import with_metadata
from outcrop.ingest.requests import VideoRequest
from outcrop.ingest.runs import Failure
from outcrop.ingest.sources import Contents, FileState, LeftOut, Listing, Outcome, Prepared, Todo, Unfit, Wanted
from outcrop.schema.any_names import kinds_of
from outcrop.schema.digests import digest_of
from outcrop.schema.errors import InputError
from outcrop.schema.files import whole_file
from outcrop.schema.films import SUFFIXES
from outcrop.schema.item import FIELDS, Item, Kind, image_key

NEAR = 2.0
"""Grey levels (of 256), the mean difference below which two frames are near-equal."""
SIDE = 64
"""Pixels a side to which frames are reduced before they are compared."""
LEAST, MOST = 0.04, 3600.0
"""Seconds between two frames."""
VERSION = "film1"
"""Goes up when films are read otherwise than before."""


@dataclass(frozen=True)
class Kept:
    """Which moments of films were kept, one small file for each film below `folder`."""

    folder: Path

    def read(self, film: Path, every: float) -> list[float] | None:
        """The moments (seconds) of a film as it is now; None where they are not known."""
        try:
            said = json.loads(self._file(film, every).read_text(encoding="utf-8"))
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
        said = {
            "film": str(film),
            "version": VERSION,
            "size": state.size,
            "mtime_ns": state.mtime_ns,
            "kept": list(kept),
        }
        with whole_file(
            self._file(film, every), fix="make room, or give another --state", durable=False, parents=True
        ) as file:
            file.write_text(json.dumps(said), encoding="utf-8")

    def _file(self, film: Path, every: float) -> Path:
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
        placement = Placement.of(picture, encoder.space.size, encoder.space.fit)
        small = thumbnail(moment.image) if thumbnails else None
        remarks = self._remarks if moment.second == 0 else ()
        return Prepared(item, prepare(picture, encoder.space), small, placement, remarks)

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


def seconds_of(text: str) -> float:
    """The seconds that a text such as ``1s``, ``500ms``, ``2 min`` or ``0.5`` means.

    Raises:
        InputError: it means none, or not between `LEAST` and `MOST`.
    """
    number, unit = text.strip().lower(), 1.0
    for ending, factor in (("ms", 0.001), ("min", 60.0), ("s", 1.0), ("m", 60.0)):
        if number.endswith(ending):
            number, unit = number.removesuffix(ending), factor
            break
    try:
        seconds = float(number) * unit
    except ValueError:
        raise InputError(f"--every must be a time such as 1s, 500ms or 2min, got {text!r}") from None
    if not LEAST <= seconds <= MOST:
        raise InputError(f"--every must be between {LEAST:g} and {MOST:g} seconds, got {text!r}")
    return round(seconds, 3)


def video_request(place: Path, name: str | None, every: str, state: Path, **more: object) -> VideoRequest:
    """The request for a film or a folder of films, by default under the folder's name; `more` is for the request.

    Raises:
        InputError: there is no such place, or a value is wrong.
    """
    if not place.exists():
        raise InputError(f"no film or folder at {place}; check the path")
    folder = place if place.is_dir() else place.absolute().parent
    films = () if place.is_dir() else (place.name,)
    dataset = name if name is not None else folder.absolute().name
    if not dataset:
        raise InputError("the dataset needs a name; give --name")
    values = {"name": dataset, "folder": folder, "films": films, "every": seconds_of(every), "known": state / "films"}
    return VideoRequest.model_validate({**values, **more})


def list_films(
    place: Path,
    dataset: str,
    every: float,
    kept: Kept,
    *,
    films: Sequence[str] = (),
    limit: int | None = None,
    only: Iterable[str] | None = None,
) -> Listing:
    """Lists the films below a folder, or those of them that `films` names (paths below it), by their headers.

    `limit` keeps the first N frames, `only` those with these keys. A film that cannot be opened is a failure.

    Raises:
        InputError: there is no folder, no film in it, or PyAV is not installed.
    """
    found, others = _found(place, films)
    import_av(str(found[0]))
    sources: list[FilmSource] = []
    missing: list[Failure] = []
    captures = Counter(str(path.relative_to(place).with_suffix("")) for path in found)
    for path in found:
        try:
            if captures[str(path.relative_to(place).with_suffix(""))] > 1:
                raise InputError(f"{path}: another film has the same name but for its ending; rename or move one")
            sources.append(_source(path, place, dataset, every, kept))
        except InputError as error:
            shown = os.fsencode(path).decode("utf-8", "backslashreplace")
            missing.append(Failure(shown, shown, "list", str(error)))
    if only is not None:
        keys = frozenset(only)
        missing = [failure for failure in missing if failure.key in keys]
        sources = [some for some in (replace(each, only=keys) for each in sources) if some.wanted]
    if limit is not None:
        if limit < 1:
            raise InputError(f"--limit must be at least 1, not {limit}")
        sources, missing = _first(sources, limit), []
    summary = f"{place}: {len(found)} film{'s' if len(found) != 1 else ''}, one frame every {every:g} s"
    return Listing(dataset, sources, missing, others=others, summary=summary)


def _found(place: Path, films: Sequence[str]) -> tuple[list[Path], dict[str, int]]:
    """The films of a folder, and the other files in it by kind; or those that were named."""
    if films:
        for name in films:
            if Path(name).suffix.lower() not in SUFFIXES:
                raise InputError(
                    f"{place / name} is not a film by its ending; give one of {', '.join(sorted(SUFFIXES))}"
                )
        return [place / name for name in films], {}
    if not place.is_dir():
        raise InputError(f"no film or folder at {place}; give a film, or the folder that holds the films")
    found: list[Path] = []
    others: Counter[str] = Counter()
    for folder, folders, names in os.walk(place):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        here = [path for path in paths if path.suffix.lower() in SUFFIXES]
        found += here
        beside = {telemetry_beside(path) for path in here}
        others.update(
            path.suffix.lower() or "without an ending" for path in paths if path not in here and path not in beside
        )
    if not found:
        held = f", but {kinds_of(others)}" if others else ""
        raise InputError(f"the folder {place} holds no film ({', '.join(sorted(SUFFIXES))}){held}")
    return found, dict(sorted(others.items()))


def _source(path: Path, root: Path, dataset: str, every: float, kept: Kept) -> FilmSource:
    """A film by its header.

    Raises:
        InputError: its name cannot be part of a key, or is too long. PictureError: it cannot be opened.
    """
    with Film(path) as film:
        source = FilmSource(path, root, dataset, every, tuple(film.moments(every)), kept)
    for name, text in (("key", source.key(1e6)), ("capture_id", source.capture_id), ("source", source.source)):
        if (size := len(text.encode())) > (most := FIELDS[name].max_length):
            raise InputError(f"{path}: its {name} has {size} bytes, more than {most}; give the film a shorter name")
    return source


def _first(sources: Sequence[FilmSource], limit: int) -> list[FilmSource]:
    chosen = []
    for source in sources:
        keys = [each.item.key for each in source.wanted[:limit]]
        limit -= len(keys)
        chosen += [replace(source, only=frozenset(keys))] if keys else []
    return chosen
