"""Addresses of Milvus: a Milvus Lite directory (``./outcrop.db``) or a server (``http://host:19530``), and how they are shown."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from outcrop.schema.errors import InputError


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


def require_lite(uri: str) -> None:
    """That an address can be a Milvus Lite directory, whether it is there or not.

    Raises:
        InputError: it cannot, and what it should be.
    """
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


def require_server(uri: str) -> None:
    """That an address is a server's.

    Raises:
        InputError: it is not; the message does not show it.
    """
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
