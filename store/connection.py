"""Connecting to Milvus (Lite directory or server) and saying in one line why it did not work.

pymilvus retries for minutes against a dead server, prints tracebacks of its own, and hides why a Milvus Lite directory
cannot be opened; here every call has a deadline and every error becomes one of `outcrop.schema.errors`
(`outcrop.store.milvus_errors`).
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

from outcrop.schema.errors import Damaged, InputError, OutcropError, StoreUnreachable, StoreUnusable
from outcrop.schema.memory import LITE, STORE, require_address_space
from outcrop.schema.settings import Settings
from outcrop.schema.starting import importing
from outcrop.store.addresses import is_lite, is_missing, missing_text, require_lite, require_server, shown_uri
from outcrop.store.lite_files import require_sound_manifests
from outcrop.store.milvus_errors import calling, translate, unforeseen
from outcrop.store.patience import Courtesy, patiently
from outcrop.store.tls import Tls

if TYPE_CHECKING:
    from pymilvus import MilvusClient

__all__ = [
    "Store",
    "calling",
    "is_lite",
    "is_missing",
    "lock_holder",
    "missing_text",
    "patiently",
    "shown_uri",
    "translate",
]

_NOISY = ("pymilvus", "milvus_lite", "grpc")


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
            require_lite(uri)
            if not create and is_missing(uri):
                raise InputError(missing_text(uri))
            require_sound_manifests(Path(uri))
        else:
            require_server(uri)
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
            if type(error) is not OutcropError or not self.lite or not unforeseen(error.__cause__):
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


def quiet_libraries() -> None:
    """Keeps pymilvus and Milvus Lite from printing a traceback for every error; we say what is wrong.

    Importing pymilvus sets its levels, so this comes after the import.
    """
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)


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
