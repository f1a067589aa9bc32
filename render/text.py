"""The text of mesh files: encodings, line ends, and numbers."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.errors import MeshError

NAMES_IN = ("utf-8", "cp949", "cp932", "gb18030", "latin-1")
"""Encodings in which files are named inside of mesh files, the likeliest first (CP949 includes EUC-KR, CP932 Shift-JIS)."""
_NOT_FINITE = re.compile(r"([-+]?)\b(?:nan\([^)\s]*\)|1\.#(?:IND|QNAN|SNAN)\w*)|([-+]?)1\.#INF\w*", re.IGNORECASE)
"""How the C libraries of Windows print what is not a finite number."""
_CONTINUED = re.compile(r"\\[ \t]*\n")
_COMMENT = re.compile(r"(?m)(?:^|(?<=\s))#[^\n]*")


def text_of(data: bytes) -> str:
    """A file's text with ``\\n`` at the ends of lines, one character a byte (latin-1), so that names keep their bytes.

    UTF-16 (with a byte order mark, or known by its zeros) is turned into UTF-8 first; byte order marks are left out.
    """
    data = _without_utf16(data).replace(codecs.BOM_UTF8, b"")
    return data.decode("latin-1").replace("\r\n", "\n").replace("\r", "\n")


def unfolded(text: str) -> str:
    """A text of OBJ or MTL without continued lines. A backslash at the end of a comment (``# C:\\scans\\``) continues nothing."""
    return _CONTINUED.sub(" ", _COMMENT.sub("", text)) if _CONTINUED.search(text) else text


def is_marked_text(data: bytes) -> bool:
    """Whether a file begins with a byte order mark, as text does."""
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return utf16 or (data.startswith(codecs.BOM_UTF8) and b"\0" not in data[:512])


def _without_utf16(data: bytes) -> bytes:
    encoding = ""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif len(data) >= 8 and not any(data[1:8:2]) and all(data[0:8:2]):
        encoding = "utf-16-le"
    elif len(data) >= 8 and not any(data[0:8:2]) and all(data[1:8:2]):
        encoding = "utf-16-be"
    return data.decode(encoding, "replace").encode("utf-8") if encoding else data


def spellings(name: str) -> Iterator[str]:
    """What a name of `text_of` may mean, in composed form, the likeliest first."""
    seen = set()
    for encoding in NAMES_IN:
        try:
            spelling = unicodedata.normalize("NFC", name.encode("latin-1").decode(encoding))
        except UnicodeError:
            continue
        if spelling not in seen:
            seen.add(spelling)
            yield spelling


def readable(name: str) -> str:
    """A name of `text_of` for people."""
    return next(spellings(name))


def numbers(words: str | Iterable[str], name: str) -> NDArray[np.float64]:
    """The numbers of a text.

    Raises:
        MeshError: there is something else in it.
    """
    text = words if isinstance(words, str) else " ".join(words)
    if not text.strip():
        return np.empty(0)
    try:
        return np.fromstring(not_finite(text), sep=" ")
    except ValueError:
        wrong = next((word for word in text.split() if not _is_number(word)), "")
        raise MeshError(f"{name}: {readable(wrong)[:40]!r} among its numbers is not a number; it is damaged") from None


def not_finite(text: str) -> str:
    """A text with ``nan`` and ``inf`` for what the C libraries of Windows print, such as ``-nan(ind)`` and ``1.#QNAN``."""
    if "1.#" not in text and "nan(" not in text and "NAN(" not in text:
        return text
    return _NOT_FINITE.sub(lambda found: "nan" if found[2] is None else f"{found[2]}inf", text)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return "_" not in word
