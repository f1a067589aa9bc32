"""Paths into object stores (``s3://bucket/key``, ``gs://``, ``az://``): pathlib's own methods, answered by fsspec.

Whoever lists, opens or asks for the state of a file through `pathlib.Path` needs not know where it is. Objects have no folders:
a folder is what keys have in common before a slash. They are read whole, and compared with the size that the store states; they
are written under another key first, and take their name once they are there whole (`ObjectPath.put`).

A path that came from a listing knows its state as it was listed (`ObjectPath.stat`), so that a million unchanged objects cost a
request for each thousand. The credentials are those of the environment, as each store's own tools read them.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import logging
import os
import re
import stat
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any, NamedTuple, TypeVar

from outcrop.schema.errors import InputError, ObjectsUnavailable

T = TypeVar("T")
SCHEMES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "memory": "fsspec"}
"""The schemes that are known, and the package that each needs; ``memory`` is fsspec's own, for tests."""
EXTRAS = {"s3": "objects", "gs": "objects-gs", "az": "objects-az", "memory": "objects"}
"""The extra of Outcrop that brings the package."""
MARKS = frozenset(f"{scheme}:" for scheme in SCHEMES)
PATIENT = frozenset(("gs:", "az:"))
"""The schemes whose packages make a request again by themselves, which takes a minute or two where the store is away."""
TRIES, PAUSE = 5, 0.5
"""How often a request is made that fails for a cause that may pass, and the seconds before the second time."""
IN_MEMORY = 64 * 2**20
"""Bytes. Larger objects are read through a file on the local disk where they are read in pieces."""
PIECE = 8 * 2**20
"""Bytes asked for at once of these."""
VERSION = "?versionId="
"""What s3fs takes for the end of a key: what follows would be passed over, and another object read or written."""
CONNECT_SECONDS, READ_SECONDS = 10, 60
"""Seconds for which S3 is waited for: for a connection, and for the next bytes."""

_MOMENTS = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
_MARKS_OF_BYTES = ("ETag", "etag", "md5Hash", "content_md5", "generation")


class State(NamedTuple):
    """What a store says of an object: its size in bytes, and a time in nanoseconds.

    Of the time, whole seconds are those of its last change, and the rest stands for its ETag (or whatever the store has instead):
    an object that was replaced within the same second has another time, and its bytes are compared.
    """

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> State:
        """The state that a store's answer describes."""
        moment = next((info[name] for name in _MOMENTS if info.get(name)), 0)
        if isinstance(moment, str):
            moment = datetime.fromisoformat(moment)
        seconds = int(moment.timestamp() if isinstance(moment, datetime) else moment)
        mark = next((str(info[name]) for name in _MARKS_OF_BYTES if info.get(name)), "")
        return cls(int(info.get("size") or 0), seconds * 1_000_000_000 + _fraction(mark))


class ObjectPath(type(Path())):  # type: ignore[misc]  # the path class of this system, which pathlib chooses when it runs
    """A path into an object store, or a part of one (`relative_to`)."""

    listed: State | None = None
    """The state with which the path came from a listing."""
    coming: Callable[[], bytes] | None = None
    """What gives the bytes that are being read already; they are taken once."""
    _below: Mapping[str, State] | None = None

    def __str__(self) -> str:
        parts = self.parts
        if parts and parts[0] in MARKS:
            return f"{parts[0]}//{'/'.join(parts[1:])}"
        return "/".join(parts) or "."

    def __fspath__(self) -> str:
        return str(self)

    def __truediv__(self, name: str | PurePath) -> ObjectPath:
        child: ObjectPath = super().__truediv__(name)
        if self._below is not None and isinstance(name, str):
            child.listed = self._below.get(name)
        return child

    # -- what is there ---------------------------------------------------------------------------------------------

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """The state of the object, as it was listed where the path came from a listing; folders have neither size nor time.

        Raises:
            FileNotFoundError: there is nothing. ObjectsUnavailable: the store does not answer.
        """
        if self.listed is not None:
            return _stat_result(self.listed)
        info = self._ask(lambda files: files.info(self._key))
        return _stat_result(State.of(info) if info["type"] == "file" else None)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is an object of this key, or one below it."""
        return self._mode() is not None

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is an object of this key."""
        mode = self._mode()
        return mode is not None and stat.S_ISREG(mode)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there are objects below this key, or it is a bucket."""
        mode = self._mode()
        return mode is not None and stat.S_ISDIR(mode)

    def is_symlink(self) -> bool:
        """Never."""
        return False

    def is_absolute(self) -> bool:
        """Whether the path begins with a scheme."""
        return bool(self.parts) and self.parts[0] in MARKS

    def absolute(self) -> ObjectPath:
        """The path itself."""
        return self

    def resolve(self, strict: bool = False) -> ObjectPath:
        """The path itself: objects have no links."""
        return self

    def expanduser(self) -> ObjectPath:
        """The path itself."""
        return self

    def as_uri(self) -> str:
        """The path as text."""
        return str(self)

    def walk_objects(self) -> Iterator[tuple[ObjectPath, list[str], list[str]]]:
        """As `os.walk`, from one listing of everything below; the paths made with ``/`` from the folders know their states.

        Raises:
            ObjectsUnavailable: the store does not answer.
        """
        folders: dict[tuple[str, ...], dict[str, State]] = {(): {}}
        base = self._key.rstrip("/")
        for key, info in self._ask(lambda files: files.find(base, detail=True)).items():
            *inner, name = key.removeprefix("/")[len(base.removeprefix("/")) :].split("/")[1:] or [""]
            if not name or {"", ".", ".."}.intersection(inner) or VERSION in key:
                logging.getLogger(__name__).warning("%s//%s is left out: it cannot be a path", self.parts[0], key)
                continue
            for depth in range(len(inner)):
                folders.setdefault(tuple(inner[: depth + 1]), {})
            folders[tuple(inner)][name] = State.of(info)
        below: dict[tuple[str, ...], list[str]] = {}
        for inner_names in folders:
            if inner_names:
                below.setdefault(inner_names[:-1], []).append(inner_names[-1])
        yield from self._walked((), folders, below)

    def _walked(
        self,
        inner: tuple[str, ...],
        folders: Mapping[tuple[str, ...], Mapping[str, State]],
        below: Mapping[tuple[str, ...], list[str]],
    ) -> Iterator[tuple[ObjectPath, list[str], list[str]]]:
        place: ObjectPath = self.joinpath(*inner)
        place._below = folders[inner]
        names = sorted(below.get(inner, ()))
        yield place, names, list(folders[inner])
        for name in names:
            yield from self._walked((*inner, name), folders, below)

    def iterdir(self) -> Iterator[ObjectPath]:
        """What is directly below: objects, which know their states, and folders.

        Raises:
            FileNotFoundError: nothing is below. ObjectsUnavailable: the store does not answer.
        """
        for info in self._ask(lambda files: files.ls(self._key, detail=True)):
            name = PurePosixPath(info["name"]).name
            if name and PurePosixPath(info["name"]) != PurePosixPath(self._key):
                child = self / name
                child.listed = State.of(info) if info["type"] == "file" else None
                yield child

    def rglob(self, pattern: str, **unused: Any) -> Iterator[ObjectPath]:
        """The objects anywhere below whose names match; folders are not among them."""
        for place, _, names in self.walk_objects():
            yield from (place / name for name in sorted(names) if PurePosixPath(name).match(pattern))

    def glob(self, pattern: str, **unused: Any) -> Iterator[ObjectPath]:
        """The objects below whose paths from here match, part by part; folders are not among them."""
        for place, _, names in self.walk_objects():
            for name in names:
                child = place / name
                inner = child.relative_to(self)
                if len(inner.parts) == len(PurePosixPath(pattern).parts) and inner.match(pattern):
                    yield child

    # -- reading ---------------------------------------------------------------------------------------------------

    def read_bytes(self) -> bytes:
        """The object's bytes, as many as the store states.

        Raises:
            FileNotFoundError: there is no such object. ObjectsUnavailable: the store does not answer, or gave other than all.
        """
        coming, self.coming = self.coming, None
        return self.fetch() if coming is None else coming()

    def fetch(self) -> bytes:
        """As `read_bytes`, whatever is coming."""
        found: bytes = self._ask(self._whole)
        return found

    def _whole(self, files: Any) -> bytes:
        """The bytes, if they are all: as many as listed, or as the object has now.

        Raises:
            _Cut: they are not.
        """
        if self.listed is not None and self.listed.size:
            # One byte more than there should be shows that the object has grown. Without a range s3fs asks for the size first.
            data: bytes = files.cat_file(self._key, start=0, end=self.listed.size + 1)
            if len(data) == self.listed.size:
                return data
        data = files.cat_file(self._key)
        size = State.of(files.info(self._key)).size
        if len(data) != size:
            raise _Cut(f"{len(data)} of {size} bytes came")
        return data

    def read_text(self, encoding: str | None = None, errors: str | None = None, **unused: Any) -> str:
        """The object as text, UTF-8 unless said otherwise; line ends become newlines."""
        with io.TextIOWrapper(io.BytesIO(self.read_bytes()), encoding=encoding or "utf-8", errors=errors) as text:
            return text.read()

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        **unused: Any,
    ) -> IO[Any]:
        """The object, for reading only; a large one lies in a local file meanwhile.

        Raises:
            FileNotFoundError, ObjectsUnavailable: as `read_bytes`.
        """
        if mode not in ("r", "rt", "rb"):
            raise ObjectsUnavailable(str(self), f"objects are not opened with mode {mode!r}: they are written whole")
        small = self.stat().st_size <= IN_MEMORY
        data: IO[bytes] = io.BytesIO(self.read_bytes()) if small else self._on_disk()
        return data if "b" in mode else io.TextIOWrapper(data, encoding=encoding or "utf-8", errors=errors)

    def _on_disk(self) -> IO[bytes]:
        def fetched(files: Any) -> IO[bytes]:
            data = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
            before = State.of(files.info(self._key))
            for start in range(0, before.size, PIECE):
                data.write(files.cat_file(self._key, start=start, end=min(before.size, start + PIECE)))
            came = data.tell()
            if came != before.size or State.of(files.info(self._key)) != before:
                data.close()
                raise _Cut(
                    f"{came} of {before.size} bytes came" if came != before.size else "it was replaced meanwhile"
                )
            data.seek(0)
            return data

        found: IO[bytes] = self._ask(fetched)
        return found

    # -- writing ---------------------------------------------------------------------------------------------------

    def put(self, file: Path) -> None:
        """Makes the object of a local file: written under another key, compared by size, and only then given its name.

        Raises:
            ObjectsUnavailable: it could not be written; what was there before is there still.
        """
        size, made = file.stat().st_size, self.with_name(f".{self.name}.{uuid.uuid4().hex[:12]}.part")

        def written(files: Any) -> None:
            files.put_file(str(file), made._key)
            if (there := int(files.info(made._key)["size"])) != size:
                raise _Cut(f"{there} of {size} bytes arrived")

        try:
            self._ask(written)
            self._ask(lambda files: files.cp_file(made._key, self._key))
        except FileNotFoundError:
            raise ObjectsUnavailable(str(self), f"there is no {self.parts[0]}//{self.parts[1]}") from None
        finally:
            with contextlib.suppress(OSError):
                made.unlink()

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the object.

        Raises:
            FileNotFoundError: there is none. ObjectsUnavailable: the store does not answer.
        """
        try:
            self._ask(lambda files: files.rm_file(self._key))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a folder is there as soon as something is in it."""

    # -- the store -------------------------------------------------------------------------------------------------

    @property
    def _key(self) -> str:
        """What fsspec calls the object."""
        return "/".join(self.parts[1:])

    def _mode(self) -> int | None:
        try:
            return self.stat().st_mode
        except FileNotFoundError:
            return None

    def _ask(self, call: Callable[[Any], T]) -> T:
        """What a call gives, made again where its failure may pass.

        Raises:
            FileNotFoundError, ObjectsUnavailable: see `stat`.
        """
        files = _files(self.parts[0] if self.parts else "")
        for again in range(TRIES):
            try:
                return call(files)
            except FileNotFoundError:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self)) from None
            except Exception as error:  # noqa: BLE001  each store's library has errors of its own
                tried = self.parts[0] in PATIENT and not isinstance(error, _Cut)
                if again == TRIES - 1 or tried or not _may_pass(error):
                    raise ObjectsUnavailable(str(self), _cause(error)) from None
                time.sleep(PAUSE * 2**again)
        raise AssertionError("unreachable")


class _Cut(OSError):
    """Less arrived than the store said."""


def _files(mark: str) -> Any:
    """fsspec's file system of a scheme, in this process."""
    return _file_system(mark.removesuffix(":"), os.getpid())  # its threads do not survive a fork


@functools.lru_cache(maxsize=8)
def _file_system(scheme: str, process: int) -> Any:
    try:
        import fsspec

        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if scheme == "s3":
            waits = {
                "connect_timeout": CONNECT_SECONDS,
                "read_timeout": READ_SECONDS,
                "retries": {"total_max_attempts": 1},
            }
            options["config_kwargs"] = waits
        if scheme == "gs":  # or gcsfs asks another service about each bucket first, and warns where it may not
            os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
            logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # tracebacks of what we say in a line
        files = fsspec.filesystem(scheme, **({} if scheme == "memory" else options))
        if scheme == "s3":
            files.retries = 1  # `_ask` tries again, and nobody else
        return files
    except ImportError:
        raise InputError(f"{scheme}:// needs {SCHEMES[scheme]}: pip install 'outcrop[{EXTRAS[scheme]}]'") from None


def _fraction(mark: str) -> int:
    return int.from_bytes(hashlib.blake2b(mark.encode(), digest_size=8).digest()) % 1_000_000_000 if mark else 0


def _stat_result(state: State | None) -> os.stat_result:
    mode = stat.S_IFDIR if state is None else stat.S_IFREG
    size, time_ns = state or (0, 0)
    seconds = time_ns // 1_000_000_000
    plain = (mode, 0, 0, 1, 0, 0, size, seconds, seconds, seconds)
    exact = {"st_atime_ns": time_ns, "st_mtime_ns": time_ns, "st_ctime_ns": seconds * 1_000_000_000}
    return os.stat_result(plain, exact)


def _may_pass(error: Exception) -> bool:
    """Whether the same request may do better a little later."""
    lasting = (PermissionError, IsADirectoryError, NotADirectoryError, ValueError, TypeError, InputError)
    return not isinstance(error, lasting) and "Credentials" not in type(error).__name__


def _cause(error: Exception) -> str:
    """The cause in one line, without what may be signed or secret in an address."""
    if "Credentials" in type(error).__name__:
        return "no credentials for this store are in the environment"
    text = str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error)
    first = (text.splitlines() or [""])[0] or type(error).__name__
    return re.sub(r"(?<=\?)\S+", "…", first)[:300]
