"""JPEGs on their way through the device that encodes them, beside the threads that decode on the CPU.

A thread that has read a file offers it here; where there is room the device goes on with it and the thread takes the next file,
else the thread decodes it itself. So both are busy, whatever the rates of the two. Files in hand are bounded by the pixels that
they are decoded to and made into, not by their number: three bytes for each on the device, besides the floats of one picture for
each of the `THREADS`, and the files themselves on the host.

Where several devices encode, each decodes too: a batch goes to the one that has least to do. What is made there goes to the
processes of the encoders through the host (a few hundred KB a photograph), and the driver's memory is taken twice on each.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast, runtime_checkable

from outcrop.embed.images import Decoded
from outcrop.embed.protocol import PictureEncoder
from outcrop.embed.resident import DeviceReader, Resident, Small, Undecoded, fetch
from outcrop.ingest.device_readers import ON_CPU, THREADS, Readers, Said, find_reader, trusted
from outcrop.ingest.sources import Contents, Outcome, Prepared, Todo
from outcrop.ingest.stages import POLL, Stages
from outcrop.schema.errors import MeshError, PictureError

_log = logging.getLogger(__name__)

Parts = Iterator[Sequence[Outcome]]
"""What is made of a file: outcomes, as many at once as come together."""
FINISHERS = 3
"""Threads that pack thumbnails and hand on what the device has made."""


@runtime_checkable
class ReadOnDevice(Protocol):
    """A source of one photograph that can be made of pixels on a device."""

    def undecoded(self, todo: Sequence[Todo], contents: Contents, encoder: PictureEncoder) -> Undecoded | str:
        """The photograph where a device may decode it, or why not.

        Raises:
            PictureError: it cannot be read.
        """
        ...

    def made_of(
        self,
        picture: Decoded | Resident,
        todo: Sequence[Todo],
        contents: Contents,
        encoder: PictureEncoder,
        thumbnails: bool,
    ) -> Iterator[Outcome]:
        """As `outcrop.ingest.sources.Source.make`, of a photograph that is decoded."""
        ...


@dataclass(frozen=True)
class Job:
    """A photograph that the device goes on with: `make` makes its items of pixels there, `otherwise` in the CPU's way. `deliver`
    is given one of the two, or None where the pass was stopped before."""

    file: Undecoded
    pixels: int
    make: Callable[[Resident], Iterator[Outcome]]
    otherwise: Callable[[], Parts]
    deliver: Callable[[Parts | None], None]


@dataclass(frozen=True)
class _Made:
    """What the device has made of a job, and the error that ended it."""

    outcomes: Sequence[Outcome]
    error: PictureError | MeshError | None = None

    def finished(self) -> Parts:
        """The outcomes, with their thumbnails packed."""
        if self.outcomes:
            yield [outcome.packed() if isinstance(outcome, Prepared) else outcome for outcome in self.outcomes]
        if self.error is not None:
            raise self.error


class _Room:
    """Jobs that wait for the device, bounded by the pixels of all that are in hand: taken ones count until they are done."""

    def __init__(self) -> None:
        self.most = 0
        self._jobs: deque[Job] = deque()
        self._pixels = 0
        self._closed = False
        self._changed = threading.Condition()

    def has(self, pixels: int) -> bool:
        """Whether there is room for so many more."""
        return self._pixels + pixels <= self.most

    def offer(self, job: Job) -> bool:
        """Takes a job if there is room."""
        with self._changed:
            if self._closed or not self.has(job.pixels):
                return False
            self._pixels += job.pixels
            self._jobs.append(job)
            self._changed.notify()
            return True

    def take(self, most: int, broken: Callable[[], bool]) -> list[Job]:
        """The next jobs, of up to `most` pixels but at least one; none at the end."""
        with self._changed:
            while not self._jobs:
                if self._closed or broken():
                    return []
                self._changed.wait(POLL)
            taken = [self._jobs.popleft()]
            pixels = taken[0].pixels
            while self._jobs and pixels + self._jobs[0].pixels <= most:
                pixels += self._jobs[0].pixels
                taken.append(self._jobs.popleft())
            return taken

    def done(self, job: Job) -> None:
        """Makes the room of a job free."""
        with self._changed:
            self._pixels -= job.pixels

    def close(self) -> None:
        """Takes no more jobs."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class OnDevice:
    """The stages of one pass that decode on the encoder's devices. `say` is told where JPEGs are decoded, once that is known.

    With `always` an encoder on the CPU counts as a device, and opening it is waited for; else photographs are decoded on the CPU
    until it is open, and only CUDA devices are taken.
    """

    def __init__(
        self, encoder: PictureEncoder, stages: Stages, megapixels: int, always: bool, say: Callable[[str, bool], None]
    ) -> None:
        self._encoder, self._stages, self._always, self._say = encoder, stages, always, say
        self._megapixels = megapixels
        self._room = _Room()
        self._readers = Readers()
        self._opening = threading.Lock()
        self._settled = False
        self._usual = 1  # pixels of a photograph, as the last one had
        self._to_finish: queue.Queue[tuple[Job, _Made | None] | None] = stages.new_queue(0)
        self._decoding, self._finishing = THREADS, FINISHERS
        self._count = threading.Lock()

    def stages(self, ended: Callable[[], None]) -> list[tuple[str, Callable[[], None]]]:
        """The stages by name; `ended` is called when the last photograph has been delivered."""
        decoding: list[tuple[str, Callable[[], None]]] = [(f"device-{n}", self._decode) for n in range(THREADS)]
        return decoding + [(f"finish-{n}", lambda: self._finish(ended)) for n in range(FINISHERS)]

    def may_take(self) -> bool:
        """Whether a photograph is worth offering: not while there is no room, nor where nothing is taken."""
        if not self._settled and not self._is_near():
            return False
        return not self._settled or (bool(self._readers) and self._room.has(self._usual))

    def offer(
        self,
        source: object,
        todo: Sequence[Todo],
        contents: Contents,
        thumbnails: bool,
        otherwise: Callable[[], Parts],
        deliver: Callable[[Parts | None], None],
    ) -> bool:
        """Whether the device goes on with a photograph: `deliver` is then called later, in another thread.

        Raises:
            PictureError: the photograph cannot be read.
        """
        if not self.may_take():
            return False
        if not is_photograph(type(source)):
            return False
        photograph = cast("ReadOnDevice", source)
        file = photograph.undecoded(todo, contents, self._encoder)
        if isinstance(file, str):
            _log.debug("%s: decoded on the CPU (%s)", todo[0].wanted.path, file)
            return False
        if not self._settled:
            self._settle(file)
        if not self._readers or file.pixels > self._readers.most:
            return False
        encoder = self._encoder
        height, width = encoder.space.size
        self._usual = file.pixels
        if not self._room.has(file.pixels):
            return False
        file = replace(file, staged=self._readers.staged(file.data))
        rest = replace(contents, data=b"")

        def make(picture: Resident) -> Iterator[Outcome]:
            return photograph.made_of(picture, todo, rest, encoder, thumbnails)

        return self._room.offer(Job(file, file.pixels + len(todo) * height * width, make, otherwise, deliver))

    def close(self) -> None:
        """No more photographs are offered."""
        self._room.close()

    # -- opening ---------------------------------------------------------------------------------------------------

    def _is_near(self) -> bool:
        """Whether the encoder is open, or worth waiting for; one that is open on no GPU settles it."""
        if self._always:
            return True
        if not getattr(self._encoder, "is_open", True):
            return False
        self._settled = self._settled or not self._devices()
        return not self._settled

    def _devices(self) -> list[str]:
        """The encoder's devices that may decode, each once."""
        names = dict.fromkeys(self._encoder.device.split(","))
        return [name for name in names if self._always or name.startswith("cuda")]

    def _settle(self, file: Undecoded) -> None:
        """Opens the devices' decoders and tries them on a first photograph; other threads go on decoding, unless it is
        `always` to be taken."""
        if not self._opening.acquire(blocking=self._always):
            return
        try:
            if not self._settled:
                self._open(file)
                # Last, and only where a photograph could be tried: one that is damaged leaves it to the next.
                self._settled = True
        finally:
            self._opening.release()

    def _open(self, file: Undecoded) -> None:
        said = [self._opened(device, file) for device in self._devices()]
        if not said:
            return
        good, bad = ([one.text for one in said if one.trusted is wanted] for wanted in (True, False))
        self._say("; ".join([*good, *(text.removeprefix(ON_CPU) if good else text for text in bad)]), bool(bad))
        if self._readers:
            self._room.most = self._readers.most * (THREADS + 1)

    def _opened(self, device: str, file: Undecoded) -> Said:
        """Opens the decoder of one device, and keeps it where it is trusted."""
        found = find_reader(device, self._megapixels)
        if isinstance(found, str):
            return Said(False, f"{ON_CPU}no decoder for {device} ({found})")
        said = trusted(found, file, self._encoder)
        if said.trusted:
            self._readers.add(found)
        return said

    # -- stages ----------------------------------------------------------------------------------------------------

    def _decode(self) -> None:
        most = 0
        while jobs := self._room.take(most, lambda: self._stages.broken):
            with self._readers.least_busy() as reader:
                results = self._made(reader, jobs)
            most = self._readers.most
            for job, made in zip(jobs, results, strict=True):
                self._stages.put(self._to_finish, (job, made), always=True)
        with self._count:
            self._decoding -= 1
            last = self._decoding == 0
        for _ in range(FINISHERS if last else 0):
            self._stages.put(self._to_finish, None, always=True)

    def _made(self, reader: DeviceReader, jobs: Sequence[Job]) -> list[_Made | None]:
        """What the device makes of jobs; None for one that the CPU has to do."""
        from outcrop.embed.devices import out_of_memory, release

        if self._stages.stopped:
            return [None for _ in jobs]
        try:
            with reader.working():
                pictures = reader.decode([job.file for job in jobs])
                made: list[_Made | None] = []
                for number, job in enumerate(jobs):
                    picture, pictures[number] = pictures[number], None
                    made.append(None if picture is None else _tried(job.make(picture)))
                fetch([small for one in made if one is not None for small in _smalls(one)])
            return made
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        import torch

        release(torch.device(reader.decoder.device))
        reader.most = max(1, reader.most // 2)
        _log.warning("%s has too little memory to decode: now %d megapixels at once", reader, reader.most // 10**6)
        return [None for _ in jobs]

    def _finish(self, ended: Callable[[], None]) -> None:
        while (pair := self._stages.take(self._to_finish)) is not None:
            job, made = pair
            if made is not None:
                job.deliver(made.finished())
            else:
                job.deliver(None if self._stages.stopped else job.otherwise())
            self._room.done(job)
        with self._count:
            self._finishing -= 1
            last = self._finishing == 0
        if last:
            ended()


def is_photograph(kind: type) -> bool:
    """Whether sources of a kind are `ReadOnDevice`: to ask that of every one takes longer than to read its header."""
    if kind not in _PHOTOGRAPHS:
        _PHOTOGRAPHS[kind] = issubclass(kind, ReadOnDevice)
    return _PHOTOGRAPHS[kind]


_PHOTOGRAPHS: dict[type, bool] = {}


def _tried(outcomes: Iterator[Outcome]) -> _Made:
    """All outcomes, and the error that ended them."""
    found: list[Outcome] = []
    try:
        found.extend(outcomes)
    except (PictureError, MeshError) as error:
        return _Made(found, error)
    return _Made(found)


def _smalls(made: _Made) -> Iterator[Small]:
    for outcome in made.outcomes:
        if isinstance(outcome, Prepared) and outcome.small is not None:
            yield outcome.small
