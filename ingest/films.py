"""Which films lie below a folder, as a listing of frames: alone (`ingest video`), or beside the folder's photographs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from outcrop.embed.film import Film, import_av
from outcrop.embed.telemetry import telemetry_beside
from outcrop.ingest.film_source import FilmSource, Kept
from outcrop.ingest.runs import Failure
from outcrop.ingest.sources import Listing
from outcrop.schema.any_names import counted, kinds_of
from outcrop.schema.errors import InputError
from outcrop.schema.films import SUFFIXES
from outcrop.schema.item import FIELDS
from outcrop.schema.places import require_disk
from outcrop.schema.sequences import Joined


@dataclass(frozen=True)
class Films:
    """The films that are wanted: those below `place`, or those that `named` names (paths below it); one frame every so many
    seconds. `kept` remembers which frames of them were kept."""

    place: Path
    dataset: str
    every: float
    kept: Kept
    named: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Held:
    """The films of a folder, the files of their telemetry, and its other files by kind."""

    films: Sequence[Path]
    telemetry: frozenset[Path]
    others: Counter[str]


def list_films(films: Films, *, limit: int | None = None, only: Iterable[str] | None = None) -> Listing:
    """Lists films by their headers. `limit` keeps the first N frames, `only` those with these keys. A film that cannot be opened
    is a failure.

    Raises:
        InputError: there is no folder, no film in it, or PyAV is not installed.
    """
    held = _held(films)
    if not held.films:
        but = f", but {kinds_of(held.others)}" if held.others else ""
        raise InputError(f"the folder {films.place} holds no film ({', '.join(sorted(SUFFIXES))}){but}")
    listing = _listed(films, held, limit=limit, only=only)
    return replace(listing, others=dict(sorted(held.others.items())), summary=f"{films.place}: {_summary(films, held)}")


def with_films(
    photographs: Listing, films: Films, *, limit: int | None = None, only: Iterable[str] | None = None
) -> Listing:
    """A listing of a folder's photographs with its films: one dataset, of which each film is a capture. `limit` and `only` as in
    `list_films`; photographs come first.

    Raises:
        InputError: PyAV is not installed.
    """
    held = _held(films)
    limit = limit - photographs.expected if limit is not None else None
    if not held.films or (limit is not None and limit < 1):
        return photographs
    found = _listed(films, held, limit=limit, only=only)
    captures = {source.wanted[0].item.capture_id for source in photographs.sources}
    met = [source for source in found.sources if isinstance(source, FilmSource) and source.capture_id in captures]
    reason = "its frames would be in one capture with the photographs of a folder of this name; rename or move one"
    refused = [Failure(_shown(source.path), _shown(source.path), "list", f"{source.path}: {reason}") for source in met]
    others = Counter(photographs.others)
    others.subtract(path.suffix.lower() for path in (*held.films, *held.telemetry))
    return replace(
        photographs,
        sources=Joined(photographs.sources, [source for source in found.sources if source not in met]),
        missing=[*photographs.missing, *found.missing, *refused],
        others={kind: count for kind, count in others.items() if count > 0},
        summary=f"{photographs.summary or films.place}; {_summary(films, held)}",
    )


def _summary(films: Films, held: _Held) -> str:
    return f"{counted(len(held.films), 'film')}, one frame every {films.every:g} s"


def _listed(films: Films, held: _Held, *, limit: int | None, only: Iterable[str] | None) -> Listing:
    import_av(str(held.films[0]))
    sources: list[FilmSource] = []
    missing: list[Failure] = []
    captures = Counter(_capture(path, films.place) for path in held.films)
    for path in held.films:
        try:
            if captures[_capture(path, films.place)] > 1:
                raise InputError(f"{path}: another film has the same name but for its ending; rename or move one")
            sources.append(_source(path, films))
        except InputError as error:
            missing.append(Failure(_shown(path), _shown(path), "list", str(error)))
    if only is not None:
        keys = frozenset(only)
        missing = [failure for failure in missing if failure.key in keys]
        sources = [some for some in (replace(each, only=keys) for each in sources) if some.wanted]
    if limit is not None:
        if limit < 1:
            raise InputError(f"--limit must be at least 1, not {limit}")
        sources, missing = _first(sources, limit), []
    return Listing(films.dataset, sources, missing)


def _held(films: Films) -> _Held:
    """The films of a folder, and the other files in it by kind; or those that were named.

    Raises:
        InputError: a file that was named is not a film; there is no folder.
    """
    require_disk(films.place, "films", "copy them to a disk")
    place = films.place
    if films.named:
        for name in films.named:
            if Path(name).suffix.lower() not in SUFFIXES:
                raise InputError(
                    f"{place / name} is not a film by its ending; give one of {', '.join(sorted(SUFFIXES))}"
                )
        return _Held([place / name for name in films.named], frozenset(), Counter())
    if not place.is_dir():
        raise InputError(f"no film or folder at {place}; give a film, or the folder that holds the films")
    found: list[Path] = []
    beside: set[Path] = set()
    others: Counter[str] = Counter()
    for folder, folders, names in os.walk(place):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith(".db"))
        paths = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        here = [path for path in paths if path.suffix.lower() in SUFFIXES]
        found += here
        beside |= {path for path in map(telemetry_beside, here) if path is not None}
        others.update(
            path.suffix.lower() or "without an ending" for path in paths if path not in here and path not in beside
        )
    return _Held(found, frozenset(beside), others)


def _source(path: Path, films: Films) -> FilmSource:
    """A film by its header.

    Raises:
        InputError: its name cannot be part of a key, or is too long. PictureError: it cannot be opened.
    """
    with Film(path) as film:
        source = FilmSource(path, films.place, films.dataset, films.every, tuple(film.moments(films.every)), films.kept)
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


def _capture(film: Path, place: Path) -> str:
    return str(film.relative_to(place).with_suffix(""))


def _shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
