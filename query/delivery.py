"""Where answers go besides the screen: a report, files, GeoJSON, Redis. Checked before any work, so that no answer is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from outcrop.query.options import check_file

if TYPE_CHECKING:
    from outcrop.query.answers import Results
    from outcrop.query.options import Places
    from outcrop.query.redis_sink import RedisSink
    from outcrop.query.report import Links
    from outcrop.screen.options import Session


@dataclass(frozen=True)
class Delivery:
    """Open places; `write` sends the answers to all of them."""

    report: Path | None
    output: Path | None
    geojson: Path | None
    redis: RedisSink | None

    def write(self, session: Session, batches: list[Results]) -> None:
        """Writes the answers of one or several calls, and says where they are."""
        from outcrop.embed.thumbnails import ThumbnailStore

        thumbnails = ThumbnailStore.below(session.settings.state)
        if self.redis is not None:
            session.say(f"Redis: {self.redis.write(batches)} answers")
        if self.output is not None:
            from outcrop.query.answer_files import write_answer_files

            files = write_answer_files(batches, self.output, thumbnails)
            session.say(f"files: {self.output.absolute()} ({len(files)})")
        if self.geojson is not None:
            from outcrop.query.verification.location import write_geojson

            located = [(r.query.name, r.location) for each in batches for r in each.results if r.location is not None]
            session.say(f"GeoJSON: {write_geojson(located, self.geojson).absolute()}")
        if self.report is not None:
            from outcrop.query.report import write_report

            remark = f"collection {session.settings.collection}"
            links = _links(session, self.report)
            written = write_report(batches, self.report, thumbnails, remark=remark, links=links)
            session.say(f"report: {written.absolute()}")


def _links(session: Session, report: Path) -> Links | None:
    """The links of a report, where `report_links` asks for them."""
    settings = session.settings
    if settings.report_links == "none":
        return None
    from outcrop.query.console import opened
    from outcrop.query.report_links import FileLinks
    from outcrop.query.verification.originals import Originals

    with opened(session) as collection:
        originals = Originals.of_collection(collection, settings)
    return FileLinks(originals, report, settings.report_links)


@contextlib.contextmanager
def delivery(session: Session, places: Places, geojson: Path | None = None) -> Iterator[Delivery]:
    """Checks the places that answers are to go to, and opens them; Redis is the settings'.

    Raises:
        InputError, Refused: see `outcrop.query.answer_files.check_folder` and `outcrop.query.redis_sink.RedisSink`.
        StoreUnreachable: Redis does not answer.
    """
    check_file(places.report, "--report")
    check_file(geojson, "--geojson")
    if places.output is not None:
        from outcrop.query.answer_files import check_folder

        check_folder(places.output)
    settings = session.settings
    if settings.redis is None:
        yield Delivery(places.report, places.output, geojson, None)
        return
    from outcrop.query.redis_sink import RedisSink

    with RedisSink(settings.redis.get_secret_value(), settings.redis_ttl) as sink:
        yield Delivery(places.report, places.output, geojson, sink)
