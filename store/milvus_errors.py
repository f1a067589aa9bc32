"""What Milvus, Milvus Lite and their client raise, as errors of `outcrop.schema.errors`, in one line each."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

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
from outcrop.schema.memory import ADVICE, NO_MEMORY, limited
from outcrop.store.addresses import is_lite

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


def unforeseen(error: BaseException | None) -> bool:
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
