"""Where answers go besides the screen: a report, files, Redis. Checked before any work, so that no answer is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from outcrop.query.console import check_report

if TYPE_CHECKING:
    from outcrop.query.answers import Results
    from outcrop.query.redis_sink import RedisSink
    from outcrop.screen.options import Session


@dataclass(frozen=True)
class Delivery:
    """Open places; `write` sends the answers to all of them."""

    report: Path | None
    output: Path | None
    redis: RedisSink | None

    def write(self, session: Session, batches: list[Results]) -> None:
        """Writes the answers of one or several calls, and says where they are."""
        if self.report is None and self.output is None and self.redis is None:
            return
        from outcrop.embed.thumbnails import ThumbnailStore

        thumbnails = ThumbnailStore.below(session.settings.state)
        if self.redis is not None:
            session.say(f"Redis: {self.redis.write(batches)} answers")
        if self.output is not None:
            from outcrop.query.answer_files import write_answer_files

            files = write_answer_files(batches, self.output, thumbnails)
            session.say(f"files: {self.output.absolute()} ({len(files)})")
        if self.report is not None:
            from outcrop.query.report import write_report

            written = write_report(batches, self.report, thumbnails, remark=f"collection {session.settings.collection}")
            session.say(f"report: {written.absolute()}")


@contextlib.contextmanager
def delivery(
    session: Session, report: Path | None, output: Path | None, redis: str | None, ttl: int | None
) -> Iterator[Delivery]:
    """Checks the places that answers are to go to, and opens them; `redis` is the address given, else the setting's.

    Raises:
        InputError, Refused: see `outcrop.query.answer_files.check_folder` and `outcrop.query.redis_sink.RedisSink`.
        StoreUnreachable: Redis does not answer.
    """
    check_report(report)
    if output is not None:
        from outcrop.query.answer_files import check_folder

        check_folder(output)
    if redis is None and session.settings.redis is not None:
        redis = session.settings.redis.get_secret_value()
    if redis is None:
        yield Delivery(report, output, None)
        return
    from outcrop.query.redis_sink import RedisSink

    with RedisSink(redis, ttl) as sink:
        yield Delivery(report, output, sink)
