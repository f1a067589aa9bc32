"""Python processes of our own that answer requests, and a pool of them.

Work goes to a process of its own where native code may crash on an odd file, or holds Python's lock. `Worker` is such a process
seen from outside: it is sent a request and answers with any number of parts, one after the other, so that nothing is made faster
than it is taken. Requests and parts are pickled, their length first; large inputs, and arrays in answers, go through memory that
both share: only then is Python's lock free for others while they are copied.

A process is started with ``python -c``: a script that uses one needs no ``if __name__ == "__main__":``. It ends with the process
that started it, however that ends.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import itertools
import json
import logging
import mmap
import os
import pickle
import pkgutil
import queue
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from outcrop.schema.errors import OutcropError

_LENGTH = struct.Struct("!Q")
_HEAD = struct.Struct("!QQQ")
"""Before a part: the bytes of its pickle, the number of its arrays that are in shared memory, and where they begin there."""
_BLOCK = 1 << 20
_SHARED = 32 * 2**20
"""Bytes of the arrays of one answer in shared memory, at most; what is more goes through the pipe, when it is asked for."""
_KEPT = 16
"""Pieces of memory that are filled again with what a process sends; as many as were looked at together, and at most so many."""
_SMALL = 4096
"""Bytes below which an array is pickled with the rest."""

Handler = Callable[[Any, memoryview], Iterable[Any]]
"""What a process runs: the parts of the answer to a request and the bytes that came with it."""


class Ended(Exception):
    """A process ended in the middle of an answer. The text says how: ``SIGKILL, possibly out of memory``, ``exit code 1``."""


class _Message(NamedTuple):
    """What a process says: a part of its answer, or (`last`) its end, with the error and the log records that came up."""

    part: Any = None
    last: bool = False
    error: OutcropError | None = None
    notes: tuple[tuple[str, int, str], ...] = ()


def python_command(statement: str, *arguments: str) -> list[str]:
    """The command that runs a statement in another Python which finds the same modules; `arguments` are ``sys.argv[2:]``."""
    code = f"import json, sys; sys.path[:] = json.loads(sys.argv[1]); {statement}"
    return [sys.executable, "-c", code, json.dumps(_search_path()), *arguments]


def _search_path() -> list[str]:
    """Where modules are looked for, so that our own package is found where this process found it.

    Whatever ran first may have put another folder before it since: a checkout, say, whose folder `outcrop` is one room of the
    package and not the whole.
    """
    name = __name__.partition(".")[0]
    home = Path(next(iter(sys.modules[name].__path__))).parent if name in sys.modules else None
    found = importlib.machinery.PathFinder.find_spec(name, sys.path)
    places = list(found.submodule_search_locations or ()) if found is not None else []
    if home is None or not places or Path(places[0]) == home / name:
        return sys.path
    return [str(home), *sys.path]


class Worker:
    """One process, for one thread at a time.

    `target` (``package.module:name``) is called once in the process and gives its `Handler`. `environment` is added to ours.
    After `patience` seconds of silence it is given up; None waits for ever. What the process prints goes to stderr, or nowhere
    if it is `quiet`; warnings that it logs are logged here too. `busy` says whether an answer is still to come.
    """

    def __init__(
        self,
        target: str,
        *,
        environment: Mapping[str, str] | None = None,
        patience: float | None = None,
        quiet: bool = False,
    ) -> None:
        self.busy, self.patience = False, patience
        shared, returned = _open_memory(), _open_memory()
        self._memory, self._returned = _Memory(shared), _Memory(returned)
        statement = f"from {__name__} import serve; serve(*sys.argv[2:])"
        self._process = subprocess.Popen(
            python_command(statement, target, str(shared), str(returned)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            env={**os.environ, **(environment or {})},
            pass_fds=(shared, returned),
            bufsize=0,
        )
        self._received = bytearray()  # our own: what a buffered pipe has taken in already, `select` does not see
        self._finish = weakref.finalize(self, _end, self._process, (shared, returned))

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def send(self, request: object, data: memoryview | None = None) -> None:
        """Sends a request, with bytes that are shared, not sent. `answer` says what became of it."""
        self.busy = True
        size = self._memory.put(data) if data is not None else 0
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `answer` says why
            _send(self._process.stdin, (request, size))

    def answer(self) -> Iterator[Any]:
        """The parts of the answer, as they come.

        Raises:
            OutcropError: what was raised in the process; others than ours come as their traceback's text.
            Ended: the process is no more. TimeoutError: it was silent for `patience` seconds, and was ended.
        """
        while True:
            length, arrays, start = _HEAD.unpack(self._read(_HEAD.size))
            sizes = struct.unpack(f"!{arrays}Q", self._read(arrays * _LENGTH.size))
            message: _Message = pickle.loads(self._read(length), buffers=self._returned.copies(start, sizes))
            if not message.last:
                yield message.part
                continue
            self.busy = False
            for name, level, text in message.notes:
                logging.getLogger(name).log(level, "%s", text)
            if message.error is not None:
                raise message.error
            return

    def end(self) -> None:
        """Ends the process at once."""
        self._finish()

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        while len(self._received) < count:
            if not select.select([self._process.stdout], [], [], self.patience)[0]:
                self.end()
                raise TimeoutError
            more = os.read(self._process.stdout.fileno(), _BLOCK)
            if not more:
                raise Ended(self._fate())
            self._received += more
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _fate(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        code = self._process.poll()
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                name = signal.Signals(-code).name
                return f"{name}, possibly out of memory" if name == "SIGKILL" else name
        return f"exit code {code}"


def _end(process: subprocess.Popen[bytes], shared: tuple[int, ...]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for file in shared:
        os.close(file)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


class Pool:
    """Up to `count` workers, each made by `start` when it is needed. Threads may share it; close it, or use `with`."""

    def __init__(self, start: Callable[[], Worker], count: int) -> None:
        self.workers: list[Worker] = []
        self._start, self._lock = start, threading.Lock()
        self._idle: queue.SimpleQueue[Worker | None] = queue.SimpleQueue()
        for _ in range(max(1, count)):
            self._idle.put(None)
        self._finish = weakref.finalize(self, _end_all, self.workers)

    @contextlib.contextmanager
    def worker(self) -> Iterator[Worker]:
        """A worker for one request, as soon as one is idle. One whose answer is not taken to its end is ended."""
        worker = self._idle.get()
        try:
            if worker is None or not worker.alive:
                worker = self._start()
                with self._lock:
                    self.workers[:] = [*(one for one in self.workers if one.alive), worker]
            yield worker
        finally:
            if worker is not None and worker.busy:
                worker.end()
            self._idle.put(worker)

    def close(self) -> None:
        """Ends all processes."""
        self._finish()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


def _end_all(workers: list[Worker]) -> None:
    for worker in workers:
        worker.end()


def _open_memory() -> int:
    """A file without a name, in memory where the system has such."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("outcrop")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class _Memory:
    """Bytes of a file that two processes have open, as many as are needed."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._map: mmap.mmap | None = None
        self._own: list[bytearray] = []

    def put(self, data: memoryview, start: int = 0) -> int:
        """Lays bytes down, and says how many."""
        rest = data.cast("B") if data.nbytes else memoryview(b"")
        while rest:  # as a file, since other threads may run Python while the system copies
            written = os.pwrite(self._file, rest, start)
            rest, start = rest[written:], start + written
        return data.nbytes

    def get(self, size: int) -> memoryview:
        """The first bytes."""
        return memoryview(self._mapped(size))[:size] if size else memoryview(b"")

    def copies(self, start: int, sizes: Sequence[int]) -> list[memoryview]:
        """What lies there, piece by piece, in memory of our own."""
        if not sizes:
            return []
        total = sum(sizes)
        own = self._lent(total)
        read = 0
        while read < total:
            read += os.preadv(self._file, [own[read:]], start + read)
        ends = list(itertools.accumulate(sizes))
        return [own[end - size : end] for size, end in zip(sizes, ends, strict=True)]

    def _lent(self, size: int) -> memoryview:
        """Memory at which nothing looks any more, or new: its pages would have to be made one by one, which takes longer than to
        fill them."""
        own = next((one for one in self._own if len(one) >= size and not _is_looked_at(one)), None)
        if own is None:
            own = bytearray(size)
            self._own = [*self._own[1 - _KEPT :], own]
        return memoryview(own)[:size]

    def _mapped(self, size: int) -> mmap.mmap:
        if self._map is None or len(self._map) < size:
            self._map = mmap.mmap(self._file, os.fstat(self._file).st_size)
        return self._map


def _is_looked_at(memory: bytearray) -> bool:
    """Whether anything holds a view of memory, whose length could then not be changed."""
    try:
        memory.append(memory.pop())
    except BufferError:
        return True
    return False


def _send(file: IO[bytes], request: object) -> None:
    data = pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL)
    _write(file, _LENGTH.pack(len(data)) + data)


def _write(file: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:  # an unbuffered pipe may take less when a signal comes
        rest = rest[file.write(rest) :]


class _Answer:
    """The parts of one answer on their way out: their arrays in shared memory, one after the other, while there is room."""

    def __init__(self, file: IO[bytes], memory: _Memory) -> None:
        self._file, self._memory, self._used = file, memory, 0

    def say(self, message: _Message) -> None:
        """Sends a part."""
        arrays: list[memoryview] = []

        def aside(array: pickle.PickleBuffer) -> bool:
            raw = array.raw()
            if raw.nbytes < _SMALL or self._used + sum(map(len, arrays)) + raw.nbytes > _SHARED:
                return True  # it goes with the rest
            arrays.append(raw)
            return False

        data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=aside)
        start, sizes = self._used, [len(array) for array in arrays]
        for array in arrays:
            self._used += self._memory.put(array, self._used)
        head = _HEAD.pack(len(data), len(sizes), start) + struct.pack(f"!{len(sizes)}Q", *sizes)
        _write(self._file, head + data)
        self._file.flush()


def serve(target: str, shared: str, returned: str) -> None:
    """The life of a process: answers requests until its stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which ends its workers
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=_BLOCK)
    os.dup2(2, 1)  # what libraries print must not come between the answers
    memory, room, notes, handler = _Memory(int(shared)), _Memory(int(returned)), _Notes(), None
    logging.getLogger("outcrop").addHandler(notes)
    with contextlib.suppress(BrokenPipeError, EOFError):  # whoever asked is gone
        while head := requests.read(_LENGTH.size):
            request, size = pickle.loads(requests.read(*_LENGTH.unpack(head)))
            error, answer = None, _Answer(answers, room)
            try:
                handler = handler or pkgutil.resolve_name(target)()
                for part in handler(request, memory.get(size)):
                    answer.say(_Message(part))
            except Exception as caught:  # noqa: BLE001  raised again by the other side
                error = _portable(caught)
            answer.say(_Message(last=True, error=error, notes=notes.taken()))
    os._exit(0)  # tearing large libraries down politely would take seconds


class _Notes(logging.Handler):
    """Keeps what is logged, warnings and worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._notes: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a record."""
        self._notes.append((record.name, record.levelno, record.getMessage()))

    def taken(self) -> tuple[tuple[str, int, str], ...]:
        """What was kept since it was last taken."""
        notes = tuple(self._notes)
        self._notes.clear()
        return notes


def _portable(error: Exception) -> OutcropError:
    """An error that can be pickled: ours with their message alone, others as their traceback's text."""
    if isinstance(error, OutcropError):
        return type(error)(str(error))
    return OutcropError("".join(traceback.format_exception(error)))
