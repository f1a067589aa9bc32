"""`query track`: the path of a flight whose pictures do not say where they were taken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outcrop.query.commands import app
from outcrop.query.console import open_encoder, opened
from outcrop.query.options import Conditions, Matching, Report, Turns, check_file
from outcrop.schema.errors import InputError, PartialFailure, nearest
from outcrop.schema.films import seconds_of
from outcrop.screen.options import (
    ASKED_MODEL,
    CSV,
    KEPT_FEATURES,
    REGISTRY,
    STATE,
    STORE,
    Session,
    command,
    hidden,
    option,
)
from outcrop.screen.progress import Meter
from outcrop.screen.tables import print_csv, print_json, print_table

if TYPE_CHECKING:
    from outcrop.query.tracks.frames import Frames
    from outcrop.query.tracks.motion import Limits
    from outcrop.query.tracks.track import Track


@dataclass(frozen=True)
class Flight:
    """In which order the pictures were taken, and how the aircraft may have moved between them."""

    order: Annotated[
        str,
        option(
            "--order", help="time: by the time that the pictures state; name; auto: by time where they state it. [auto]"
        ),
    ] = "auto"
    every: Annotated[
        str,
        option(
            "--every",
            show_default=True,
            help="Time between two frames of a film, or between photographs that state no time: 1s, 500ms.",
        ),
    ] = "1s"
    max_speed: Annotated[
        float | None, option("--max-speed", min=0.1, max=1000, help="Metres a second, at most. [25]")
    ] = None
    max_turn: Annotated[
        float | None, option("--max-turn", hidden=True, min=0.1, max=3600, help="Degrees a second by which the heading may change. [90]")
    ] = None  # fmt: skip

    @property
    def limits(self) -> Limits:
        """The bounds of the motion."""
        from outcrop.query.tracks.motion import Limits

        usual = Limits()
        return Limits(self.max_speed or usual.speed, self.max_turn or usual.turn)

    def frames(self, place: Path) -> Frames:
        """The frames of a folder or a film.

        Raises:
            InputError: no such order, or nothing is there to be ordered. PictureError: the film cannot be read.
        """
        from outcrop.query.tracks.frames import ORDERS, list_frames

        for order in ORDERS:
            if self.order == order:
                return list_frames(place, order, seconds_of(self.every))
        raise InputError(f"--order must be one of {', '.join(ORDERS)}, got {self.order!r}{nearest(self.order, ORDERS)}")


@dataclass(frozen=True)
class TrackPlaces:
    """Where a track is written besides the screen."""

    geojson: Annotated[
        Path | None, option("--geojson", panel="Output", help="Write the path and its frames as GeoJSON.")
    ] = None
    kml: Annotated[Path | None, option("--kml", panel="Output", help="Write the path and its frames as KML.")] = None
    report: Report = None

    def check(self) -> None:
        """Before any work: whether the files can be written."""
        check_file(self.geojson, "--geojson")
        check_file(self.kml, "--kml")
        check_file(self.report, "--report")

    def write(self, session: Session, track: Track) -> None:
        """Writes the files, and says where they are."""
        from outcrop.query.tracks.files import write_geojson, write_kml

        if self.geojson is not None:
            session.say(f"GeoJSON: {write_geojson(track, self.geojson).absolute()}")
        if self.kml is not None:
            session.say(f"KML: {write_kml(track, self.kml).absolute()}")
        if self.report is not None:
            from outcrop.query.tracks.page import write_page

            session.say(f"report: {write_page(track, self.report).absolute()}")


@command(app, STORE, ASKED_MODEL, CSV, hidden(REGISTRY), KEPT_FEATURES, STATE)
def track(
    session: Session,
    place: Annotated[Path, typer.Argument(metavar="DIR|FILM", help="A folder of the flight's pictures, or a film.", show_default=False)],
    flight: Flight,
    conditions: Conditions,
    matching: Matching,
    places: TrackPlaces,
    turns: Turns = 0,
) -> None:  # fmt: skip
    """Find the path of a flight: every picture located by its verified hits, all joined by how an aircraft moves."""
    from outcrop.query.held import require_held
    from outcrop.query.search import check_turns
    from outcrop.query.tracks.track import Asking, find_track

    places.check()
    check_turns(turns, "auto")
    asking = Asking(conditions.condition, matching.plan(session), turns)
    frames = flight.frames(place)
    with opened(session) as collection:
        require_held(asking.filter, collection)
        encoder = open_encoder(session, collection)
        with Meter("track", len(frames.frames), "frames", session.quiet) as meter:
            found = find_track(
                frames, encoder, collection, session.settings, asking, flight.limits, progress=meter.update
            )
    places.write(session, found)
    _print(session, found)


def _print(session: Session, found: Track) -> None:
    """The path as a table, JSON or CSV, and what is to be known of it.

    Raises:
        PartialFailure: some pictures could not be read.
    """
    from outcrop.query.tracks import answers

    if session.format == "json":
        print_json(answers.track_json(found))
    elif session.format == "csv":
        print_csv(answers.csv_rows(found), answers.CSV_COLUMNS)
    else:
        print_table(
            answers.table_rows(found), answers.COLUMNS, "", answers.WHOLE, {"frame": answers.short_names(found)}
        )
        print(answers.summary(found))
    _say(session, found)
    for each in found.unreadable:
        session.warn(each.reason)
    if found.unreadable:
        raise PartialFailure(
            f"{len(found.unreadable)} of {len(found.frames)} pictures could not be read; they are named above"
        )


def _warn(session: Session, found: Track) -> None:
    """Says each remark once, with the first of its frames and how many more have it."""
    remarked: dict[str, list[str]] = {}
    for each in found.frames:
        if each.remark:
            remarked.setdefault(each.remark, []).append(each.frame.name)
    for remark, names in remarked.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        session.warn(f"{names[0]}{more}: {remark}")


def _say(session: Session, found: Track) -> None:
    if not found.timed:
        session.say("the pictures state no times: they are taken to be --every apart, by name")
    _warn(session, found)
    for each in found.frames:
        if each.status == "outlier" and each.off is not None:
            session.say(f"outlier: {each.frame.name}: its own hits put it {each.off:.0f} m from the path")
    if not found.count("located"):
        reasons = [each.reason for each in found.frames if each.reason]
        session.say(f"no frame could be located{f'; the first one because: {reasons[0]}' if reasons else ''}")
