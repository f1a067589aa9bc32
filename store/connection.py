"""Connecting to Milvus (Lite directory or server) and saying in one line why it did not work.

pymilvus retries for minutes against a dead server, prints tracebacks of its own, and hides why a Milvus Lite directory
cannot be opened; here every call has a deadline and every error becomes one of `outcrop.schema.errors`.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from outcrop.schema.errors import (
    Damaged,
    InputError,
    OutcropError,
    OutOfMemory,
    Refused,
    StoreBusy,
    StoreUnreachable,
    StoreUnusable,
)
from outcrop.schema.memory import ADVICE, LITE, NO_MEMORY, STORE, limited, require_address_space
from outcrop.schema.settings import Settings
from outcrop.schema.starting import importing
from outcrop.store.lite_files import require_sound_manifests
from outcrop.store.patience import Courtesy, patiently
from outcrop.store.tls import Tls

if TYPE_CHECKING:
    from pymilvus import MilvusClient

_NOISY = ("pymilvus", "milvus_lite", "grpc")
_LOST = re.compile(
    r"unavailable|connection refused|failed to connect|not ready|server.*not.*healthy|"
    r"socket closed|connection reset|node.*(offline|not.*available)|no available|broken pipe|channel closed|"
    r"closed channel|session.*expired|connect.*timeout|node not (match|found)|session not found|connection is closing",
    re.IGNORECASE,
)
_LATE = re.compile(r"deadline exceeded", re.IGNORECASE)
_EXPRESSION = re.compile(  # as servers and as Milvus Lite say it
    r"parse expression|boolean expression|at column \d+|incompatible types|unexpected token|undefined (field|variable)|"
    r"int too large",
)
_NO_ROOM = re.compile(r"\[Errno \d+\]|no space left|read-only file system|permission denied", re.IGNORECASE)
_GARBLED = re.compile(  # as Milvus Lite says of its own files
    r"not valid JSON|Expecting |Invalid (\\escape|control character)|Unterminated string|Extra data|codec can't decode|"
    r"corrupt|parquet|thrift|manifest|schema file",
    re.IGNORECASE,
)
_BUSY = re.compile(  # as servers say it; after their name for it, the limit itself
    r"\brate ?limit|ratelimiter|\bquota ?(exceeded|exhausted)|force ?deny|time ?tick long delay|request limit exceeded",
    re.IGNORECASE,
)
_BUSY_CODES = (8, 9)
"""Milvus's codes for a rate limit, and for writes that are denied (memory or disk quota)."""
_DENIED = re.compile(r"unauthenticated|auth check failure|permission ?den", re.IGNORECASE)


class Store:
    """One open connection. `version` is the server's (major, minor, patch), None for Milvus Lite.

    Use it as a context manager: closing releases the lock on a Milvus Lite directory.
    """

    def __init__(self, uri: str, client: MilvusClient, version: tuple[int, int, int] | None, timeout: float) -> None:
        self.uri = uri
        self._shown = shown_uri(uri)  # once: each call of a search would parse it
        self.client = client
        self.version = version
        self.timeout = timeout
        self.courtesy = Courtesy()
        self._directory = Path(uri).absolute()  # the process may go elsewhere before it closes a relative address

    @classmethod
    @importing()
    def connect(
        cls, uri: str, token: str | None = None, timeout: float = 30.0, tls: Tls | None = None, *, create: bool = True
    ) -> Store:
        """Opens a Milvus Lite directory (a path that ends in ``.db``) or a server (``http(s)://host:port``).

        `timeout` is the most seconds one answer may take. Without `create`, a directory that is missing is not made.

        Raises:
            InputError: the address is neither, or the directory's parent is missing, or (without `create`) the directory.
            StoreUnreachable: nobody answers, or another process holds the directory's lock.
            Refused: the server does not accept the token. Damaged: a manifest in the directory is.
        """
        if is_lite(uri):
            uri = uri.rstrip("/") or uri
            _check_lite(uri)
            if not create and is_missing(uri):
                raise InputError(missing_text(uri))
            require_sound_manifests(Path(uri))
        else:
            _check_server(uri)
        shown = shown_uri(uri)
        secured: dict[str, Any] = dict(tls.arguments(uri)) if tls is not None else {}
        if is_lite(uri):  # served from this process: pings prove nothing, and gRPC's server complains of them
            secured["grpc_options"] = {"grpc.keepalive_time_ms": 2**31 - 1}
        if "pymilvus" not in sys.modules:
            require_address_space(LITE if is_lite(uri) else STORE, "Milvus Lite" if is_lite(uri) else "pymilvus")
        with calling(f"connect to {shown}", shown):
            from outcrop.store.lean_pymilvus import pymilvus

            quiet_libraries()
            try:
                # A shared channel would serve the next connection too, whatever its certificates: one of our own, then.
                client = pymilvus.MilvusClient(
                    uri=uri, token=token or "", timeout=timeout, dedicated=not is_lite(uri), **secured
                )
            except Exception as error:
                if is_lite(uri) and type(error).__name__ == "ConnectionConfigException":
                    raise _lite_failure(Path(uri)) from None
                raise
            if is_lite(uri):
                with contextlib.suppress(
                    ImportError
                ):  # its first answer imports it: better here than in a thread of its own
                    importlib.import_module("pyarrow.dataset")
            version = None if is_lite(uri) else _version(client.get_server_version(timeout=timeout))
        return cls(uri, client, version, timeout)

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        create: bool = False,
        patience: float = 0.0,
        waiting: Callable[[str], None] | None = None,
    ) -> Store:
        """The connection that the settings ask for; see `connect`. Only what is about to write says `create`.

        Where the store cannot be reached (a server that is starting, a Milvus Lite directory that another process has open),
        tries again for `patience` seconds; `waiting` is given the reason each time.
        """
        token = settings.token.get_secret_value() if settings.token is not None else None
        store = patiently(
            lambda: cls.connect(settings.uri, token, settings.timeout, Tls.of(settings), create=create),
            patience,
            waiting,
        )
        store.courtesy = Courtesy(settings.write_rate)
        return store

    @property
    def lite(self) -> bool:
        """Whether this is a Milvus Lite directory."""
        return self.version is None

    def describe(self) -> str:
        """``Milvus Lite ./outcrop.db`` or ``Milvus 2.3.5 at http://…``; never shows a password."""
        if self.version is None:
            return f"Milvus Lite {self.uri}"
        return f"Milvus {'.'.join(map(str, self.version))} at {shown_uri(self.uri)}"

    def calling(self, action: str) -> contextlib.AbstractContextManager[None]:
        """Maps whatever pymilvus raises within the block; `action` completes "cannot …"."""
        return calling(action, self._shown)

    @contextlib.contextmanager
    def reading(self, action: str, raw: str = "") -> Iterator[None]:
        """As `calling`, for calls that only read. `raw` is the expression among their filter that a person wrote.

        What Milvus Lite did not foresee comes of its files, or of an expression that fits some rows and not others. With such an
        expression both are named.

        Raises:
            Damaged: Milvus Lite stumbles over its own files.
        """
        try:
            with self.calling(action):
                yield
        except OutcropError as error:
            if type(error) is not OutcropError or not self.lite or not _unforeseen(error.__cause__):
                raise
            if raw:
                raise InputError(
                    f"{error}: the filter {raw!r} does not fit every row, or a file of {self.uri} is damaged; without the "
                    "filter, `collection verify` finds out"
                ) from None
            raise Damaged(
                f"{error}: a file of {self.uri} is damaged; put back a copy of the directory, or choose another --uri and "
                "ingest again"
            ) from None

    def persist(self) -> None:
        """Makes what was flushed survive a power cut: Milvus Lite writes its files without fsync."""
        if not self.lite:
            return
        for folder, _, names in os.walk(self._directory):
            for path in (folder, *(os.path.join(folder, name) for name in names)):
                with contextlib.suppress(FileNotFoundError):
                    handle = os.open(path, os.O_RDONLY)
                    try:
                        os.fsync(handle)
                    finally:
                        os.close(handle)

    def clear_half_made(self, physical: str) -> None:
        """Removes what Milvus Lite leaves of a collection whose creation a full disk stopped; it could never be made again.

        Such a folder has no schema and no folder of data.
        """
        folder = self._directory / "collections" / physical
        if not self.lite or not folder.is_dir() or (folder / "schema.json").exists():
            return
        if not any(each.is_dir() for each in folder.iterdir()):
            shutil.rmtree(folder)

    def close(self) -> None:
        """Ends the connection; a Milvus Lite directory is free for other processes afterwards."""
        self.client.close()
        if self.lite:
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(str(self._directory))

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def is_lite(uri: str) -> bool:
    """Whether an address is a Milvus Lite directory rather than a server."""
    return "://" not in uri


def is_missing(uri: str) -> bool:
    """Whether an address is a Milvus Lite directory that is not there (yet)."""
    path = Path(uri)
    return is_lite(uri) and path.suffix == ".db" and path.absolute().parent.is_dir() and not path.exists()


def missing_text(uri: str) -> str:
    """What to do where a Milvus Lite directory is missing."""
    return f"no Milvus Lite directory at {shown_uri(uri)}; ingest something first, or set OUTCROP_URI"


def shown_uri(uri: str) -> str:
    """The address without user, password or query, fit to be printed."""
    if is_lite(uri):
        return re.sub(r"^[^/@:]*:[^@]*@", "", uri)  # a server's address without its scheme is taken for a folder
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "the given address"
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"


def quiet_libraries() -> None:
    """Keeps pymilvus and Milvus Lite from printing a traceback for every error; we say what is wrong.

    Importing pymilvus sets its levels, so this comes after the import.
    """
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextlib.contextmanager
def calling(action: str, uri: str) -> Iterator[None]:
    """Maps every exception of pymilvus and gRPC within the block onto `outcrop.schema.errors`, in one line.

    Raises:
        StoreUnreachable: the server is away or did not answer in time.
        Refused: the server does not accept our token.
        InputError: Milvus says that the request is wrong (a raw filter expression, say).
        OutcropError: anything else Milvus complains about.
    """
    try:
        yield
    except OutcropError:
        raise
    except Exception as error:
        mapped = translate(error, action, uri)
        if mapped is None:
            raise
        raise mapped from error


def translate(error: Exception, action: str, uri: str) -> OutcropError | None:
    """The error of ours for one of pymilvus's or gRPC's; None for what is neither (a bug of ours, then)."""
    name, module = type(error).__name__, type(error).__module__
    message = _one_line(getattr(error, "message", "") or getattr(error, "details", lambda: "")() or str(error))
    grpc_status = _status_name(error)
    if not module.startswith(("pymilvus", "grpc", "milvus_lite")):
        if isinstance(error, (ConnectionError, TimeoutError)):
            return StoreUnreachable(f"cannot {action}: {message}; is Milvus running at {uri}?")
        if isinstance(error, ValueError) and "closed channel" in message:
            return StoreUnreachable(f"cannot {action}: the connection to {uri} is closed; connect again")
        return None
    if _EXPRESSION.search(message):  # first: the filter is part of the message, and may hold any word
        return InputError(f"cannot {action}: Milvus does not understand the filter: {message}")
    if _DENIED.search(message) or _status_names(error) & {"UNAUTHENTICATED", "PERMISSION_DENIED"}:
        return Refused(f"cannot {action}: {uri} does not accept the token; set OUTCROP_TOKEN=user:password")
    if not is_lite(uri) and (getattr(error, "code", None) in _BUSY_CODES or _BUSY.search(message)):
        return StoreBusy(f"cannot {action}: {uri} takes no more for now ({message})")
    if grpc_status == "DEADLINE_EXCEEDED" or _LATE.search(message):
        remedy = "" if is_lite(uri) else "start Milvus there, or "
        return StoreUnreachable(
            f"cannot {action}: no answer from {uri} in time ({message or name}); {remedy}allow it more (OUTCROP_TIMEOUT)"
        )
    if name in ("MilvusUnavailableException", "ConnectError") or grpc_status == "UNAVAILABLE" or _LOST.search(message):
        return StoreUnreachable(
            f"cannot {action}: no answer from {uri} ({message or name}); start Milvus or set OUTCROP_URI"
        )
    if re.search(r"expression|incompatible types|unexpected (token|character|end)|undefined (field|variable)", message):
        return InputError(f"cannot {action}: Milvus does not understand the filter: {message}")
    if name in ("ParamError", "ConnectionConfigException"):
        return InputError(f"cannot {action}: {message}")
    if is_lite(uri) and (NO_MEMORY.search(message) or _says_nothing(error, message)):
        return OutOfMemory(f"cannot {action}: out of memory; {ADVICE}")
    if is_lite(uri) and (found := _lite_error(message, action, uri)) is not None:
        return found
    return OutcropError(f"cannot {action}: Milvus says: {message or name}")


def _unforeseen(error: BaseException | None) -> bool:
    """Whether Milvus Lite reports an exception that is not one of its own (its code is 1): filters that are wrong have others."""
    return getattr(error, "code", None) == 1


def _says_nothing(error: Exception, message: str) -> bool:
    """Whether Milvus Lite gives no reason where memory is limited: a MemoryError has no text."""
    return limited() and (not message or message == f"<{type(error).__name__}: (code=1, message=)>")


def _lite_error(message: str, action: str, uri: str) -> OutcropError | None:
    """What Milvus Lite says of the disk that it writes to and of its files there; None for anything else."""
    if _NO_ROOM.search(message):
        return StoreUnusable(
            f"cannot {action}: {uri} cannot be written or read ({message}); make room or correct its permissions, "
            "or choose another --uri"
        )
    if _GARBLED.search(message):
        return Damaged(
            f"cannot {action}: a file of {uri} is damaged ({message}); put back a copy of the directory, "
            "or choose another --uri and ingest again"
        )
    return None


def lock_holder(directory: Path) -> int | None:
    """The process id that holds a Milvus Lite directory's lock, where the system says so (Linux); None otherwise."""
    try:
        inode = (directory / "LOCK").stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if len(words) > 5 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode):
                return int(words[4])
    except (OSError, ValueError):
        pass
    return None


def _check_lite(uri: str) -> None:
    path = Path(uri)
    if path.suffix != ".db":
        shown = re.sub(r"^.*@", "", uri)  # it may be a server's address without its scheme, password and all
        raise InputError(
            f"{shown!r} is not a Milvus address: a Milvus Lite directory ends in .db, a server address begins with http://"
        )
    if path.is_file():
        raise InputError(
            f"{uri} is a file: Milvus Lite before 3.0 kept one; it cannot be read any more, choose another --uri and ingest again"
        )
    if not path.absolute().parent.is_dir():
        raise InputError(
            f"the folder {path.absolute().parent} for {path.name} does not exist; create it, or set OUTCROP_URI"
        )


def _check_server(uri: str) -> None:
    scheme = uri.partition("://")[0]
    try:
        parts = urlsplit(uri)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:  # the address is not shown: it may hold a password, and where is not to be known
        raise InputError(
            f"the given address ({scheme[:20]}://…) is not a Milvus address; write http://HOST:PORT or https://HOST:PORT"
        )


def _lite_failure(path: Path) -> OutcropError:
    try:
        import fcntl

        with open(path / "LOCK", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = lock_holder(path)
        who = f"process {holder}" if holder else "another process"
        return StoreUnreachable(
            f"{path} is in use: {who} holds the lock {path / 'LOCK'}; "
            "wait for it to end, or use a Milvus server for several users"
        )
    except PermissionError:
        return StoreUnusable(f"{path} cannot be opened: no permission to write there; choose another --uri")
    except (OSError, ImportError):
        pass
    with contextlib.suppress(OSError):
        if path.is_dir() and not os.access(path, os.W_OK | os.X_OK):
            read_only = hasattr(os, "statvfs") and os.statvfs(path).f_flag & os.ST_RDONLY
            reason = "its disk is read-only" if read_only else "no permission to write there"
            return StoreUnusable(
                f"{path} cannot be opened: {reason}, and Milvus Lite locks its directory even to read it; correct that, "
                "or give a copy of it as --uri"
            )
    return StoreUnusable(
        f"{path} cannot be opened by Milvus Lite; if it was made by an older version, choose another --uri and ingest again"
    )


def _version(text: str) -> tuple[int, int, int]:
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    if not match:
        return (0, 0, 0)
    return (int(match[1]), int(match[2]), int(match[3] or 0))


def _status_name(error: BaseException) -> str:
    """The status of a gRPC call error (`UNAVAILABLE`, …), '' for other errors."""
    code = getattr(error, "code", None)
    return str(getattr(code(), "name", "")) if callable(code) else ""


def _status_names(error: BaseException | None) -> set[str]:
    """The statuses of the gRPC errors behind an error: pymilvus calls a missing token "server unavailable"."""
    names: set[str] = set()
    seen: set[int] = set()  # grpc's errors may be their own context
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        names.add(_status_name(error))
        error = error.__cause__ or error.__context__
    return names


def _one_line(text: str) -> str:
    text = str(text)
    if "stack trace:" in text:
        text = text.rpartition("attempt #")[
            2
        ]  # the cause of the last try stands behind pages of the server's own calls
    return " ".join(text.split())[:300]
