"""Frames of films, by PyAV (FFmpeg), which is an extra: `Film`, and `read_moment` for one frame of a film.

A moment is a time in seconds from a film's first frame; its frame is the first one that is shown at that time or later. The same
rule holds whether a film is read from its beginning or opened in its middle, so that a frame is found again exactly. A frame of a
film is named by its file and a media fragment: ``DJI_0001.MP4#t=12.5`` (W3C, Media Fragments URI 1.0).

Behind damaged data, frames are made of what is no longer there until the next key frame: these are passed over.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image

from outcrop.schema.errors import InputError, PictureError
from outcrop.schema.films import moment_of as moment_of
from outcrop.schema.films import moment_path as moment_path

MAX_SIDE = 20_000
_EXPLODE = {"err_detect": "explode"}


@dataclass(frozen=True)
class Moment:
    """What a film shows at a time (seconds): the upright picture, or why there is none."""

    second: float
    image: Image.Image | None
    reason: str = ""


def read_moment(film: Path, second: float) -> bytes:
    """One frame of a film as the bytes of a picture file.

    Raises:
        PictureError: the film cannot be read there. InputError: PyAV is not installed.
    """
    with Film(film) as opened:
        moment = opened.at(second)
    if moment.image is None:
        raise PictureError(f"{moment_path(film, second)}: {moment.reason}")
    buffer = io.BytesIO()
    moment.image.save(buffer, "BMP")  # as it is, and at once
    return buffer.getvalue()


def import_av(name: str) -> Any:
    """The module `av`. Its log stays off: a thread of FFmpeg that logs would wait for Python's lock, and Python for the thread.

    Raises:
        InputError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise InputError(
            f"{name}: is a film; install outcrop[video] to read it, or export its frames as JPEG"
        ) from None
    return av


class Film:
    """An opened film: `duration` in seconds, `rate` in frames a second, `size` (width, height) as it is stored.

    A context manager. Not for several threads at once.

    Raises:
        PictureError: it cannot be opened, or holds no film. InputError: PyAV is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._av = import_av(str(path))
        try:
            self._container = self._av.open(str(path), options={"protocol_whitelist": "file"})
        except Exception as error:
            fix = "it may have been cut off while it was recorded: repair it, or copy it again"
            raise PictureError(f"{path}: cannot be opened as a film ({_said(error)}); {fix}") from error
        try:
            self._begin()
        except PictureError:
            self.close()
            raise

    def _begin(self) -> None:
        streams = self._container.streams.video
        if not streams:
            raise PictureError(f"{self.path}: holds no film, only other streams; give the film")
        self._stream = streams[0]
        self._stream.thread_type = "AUTO"
        context = self._stream.codec_context
        if context is None or not 0 < context.width <= MAX_SIDE or not 0 < context.height <= MAX_SIDE:
            raise PictureError(f"{self.path}: is compressed by a method that is not known here; convert it to H.264")
        context.options = _EXPLODE
        self.size: tuple[int, int] = (context.width, context.height)
        self.rate = float(self._stream.average_rate or self._stream.guessed_rate or 25)
        base = self._stream.time_base
        length = self._stream.duration * base if self._stream.duration and base else None
        if length is None and self._container.duration:
            length = self._container.duration / self._av.time_base
        if not length or not 0 < self.rate <= 1000:
            raise PictureError(f"{self.path}: does not say how long it is; remux it (ffmpeg -i IN -c copy OUT.mp4)")
        self.duration = float(length)
        self._start = float((self._stream.start_time or 0) * base)

    def moments(self, every: float) -> list[float]:
        """The times from the first frame on, `every` seconds apart, at which the film shows something; in whole milliseconds."""
        last = max(self.duration - 1 / self.rate, 0.0)
        return [round(number * every, 3) for number in range(int(last / every + 1e-6) + 1)]

    def at(self, second: float) -> Moment:
        """What is shown at one time: read from the key frame before it on."""
        offset = int((self._start + second) / float(self._stream.time_base))
        try:
            self._container.seek(max(offset, 0), stream=self._stream, backward=True)
        except Exception:  # noqa: BLE001  a film without an index is read from its beginning
            self._container.seek(0)
        return next(self.read([second]))

    def read(self, seconds: Sequence[float]) -> Iterator[Moment]:
        """What is shown at times in ascending order, one after the other, as it is decoded."""
        waiting = list(seconds)
        last, broken = -1.0, ""
        for at, frame, reason in self._frames():
            if reason:
                broken = broken or reason
                continue
            assert frame is not None
            image: Image.Image | None = None
            while waiting and at >= waiting[0] - 0.5 / self.rate:
                if broken and at > waiting[0] + 1.5 / self.rate:
                    yield Moment(waiting.pop(0), None, f"the film is damaged there ({broken})")
                    continue
                image = image if image is not None else _picture(frame)
                yield Moment(waiting.pop(0), image)
            last, broken = at, ""
            if not waiting:
                return
        ended = f"the film ends at {max(last, 0):.2f} s, its header says {self.duration:.2f} s; it is cut short"
        yield from (
            Moment(second, None, f"the film is damaged there ({broken})" if broken else ended) for second in waiting
        )

    def _frames(self) -> Iterator[tuple[float, Any, str]]:
        """Frames and their times; in place of those that cannot be had, a reason."""
        intact = True
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except Exception as error:  # noqa: BLE001  FFmpeg's own errors are of many kinds
                yield 0.0, None, _said(error)
                return
            try:
                frames = packet.decode()
            except Exception as error:  # noqa: BLE001  as above: a damaged packet, and the film goes on behind it
                intact = False
                yield 0.0, None, _said(error)
                continue
            for frame in frames:
                intact = (intact or frame.key_frame) and not frame.is_corrupt
                if not intact or frame.pts is None:
                    yield 0.0, None, "its data are damaged"
                else:
                    yield float(frame.pts * frame.time_base) - self._start, frame, ""

    def close(self) -> None:
        """Frees what the film holds."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _picture(frame: Any) -> Image.Image:
    """A frame as 8-bit RGB, upright as the film says."""
    pixels = frame.to_ndarray(format="rgb24")
    turns = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
    return Image.fromarray(np.ascontiguousarray(np.rot90(pixels, turns) if turns else pixels))


def _said(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", "") or error).split())[:80] or type(error).__name__
