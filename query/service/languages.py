"""The languages of the pages: English as it is written in the templates, Korean and Japanese from one table (``texts.json``).

Templates hold no keys. When one is compiled for a language, every run of text between two tags (and every attribute that people
read) is looked up whole, what is put in between as ``{1}``, ``{2}``; so a translation can order them as its grammar wants. Texts
that Python makes go through `told`. What the table does not have stays English; a test finds it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from jinja2 import Environment
from jinja2.ext import Extension

LANGUAGES = {"en": "English", "ko": "한국어", "ja": "日本語"}
TABLE = Path(__file__).parent / "texts.json"
LANGUAGE: ContextVar[str] = ContextVar("LANGUAGE", default="en")
"""That of the request that is being answered."""
ADDRESS: ContextVar[tuple[str, str]] = ContextVar("ADDRESS", default=("/", ""))
"""Path and query of the request, without its language."""

READ = ("placeholder", "title", "alt", "aria-label", "data-said")
"""Attributes that people read."""
AS_IT_IS = ("pre", "code", "script", "style")
"""Elements whose text is not translated."""
_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_FIRST = 0xE000
_MARK = re.compile("[\ue000-\uf8ff]")
_TAG = re.compile(r"(<[^>]*>)")
_ATTRIBUTE = re.compile(rf'(\s(?:{"|".join(READ)})=")([^"]*)(")')
_WORDS = re.compile(r"[A-Za-z]{2,}")

Translate = Callable[[str], str]


@cache
def table() -> Mapping[str, Mapping[str, str]]:
    """English text -> language -> text."""
    found: dict[str, dict[str, str]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return found


def translated(text: str, language: str) -> str:
    """A text in a language; as it is where the table does not have it."""
    return table().get(text, {}).get(language, text)


def told(text: str, *values: object) -> str:
    """A text in the language of the request, with values for its ``{1}``, ``{2}``."""
    return filled(translated(text, LANGUAGE.get()), [str(value) for value in values])


def filled(text: str, values: list[str]) -> str:
    """A text with values in the places of ``{1}``, ``{2}``; a language may leave one out."""
    return re.sub(r"\{(\d)\}", lambda found: values[int(found[1]) - 1], text)


class Translated(Extension):
    """Translates the texts of templates when they are compiled, into the language that the environment is for."""

    language = "en"

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """The source of a template in the language."""
        if self.language == "en":
            return source
        return in_language(source, lambda text: translated(text, self.language))


def environment_for(language: str, **settings: object) -> Environment:
    """An environment whose templates are in a language."""
    extension = type("Translated", (Translated,), {"language": language})
    return Environment(extensions=[extension], **settings)  # type: ignore[arg-type]  # what Environment takes


def in_language(source: str, translate: Translate) -> str:
    """A template's source with its texts translated."""
    kept: list[str] = []

    def hide(found: re.Match[str]) -> str:
        kept.append(found[0])
        return chr(_FIRST + len(kept) - 1)

    pieces = []
    as_it_is = 0
    for piece in _TAG.split(_JINJA.sub(hide, source)):
        if piece.startswith("<"):
            name = piece.strip("</>").split()[0].lower() if piece.strip("</> ") else ""
            if name in AS_IT_IS:
                as_it_is += -1 if piece.startswith("</") else 1
            piece = _ATTRIBUTE.sub(lambda one: one[1] + _run(one[2], kept, translate) + one[3], piece)
        elif not as_it_is:
            piece = _run(piece, kept, translate)
        pieces.append(piece)
    return _MARK.sub(lambda found: kept[ord(found[0]) - _FIRST], "".join(pieces))


def texts_of(source: str) -> Iterator[str]:
    """The texts of a template, as they are looked up."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    in_language(source, note)
    yield from found


def _run(piece: str, kept: list[str], translate: Translate) -> str:
    """A run of text, translated between its statements: what is put in (``{{ … }}``) is a part of the text."""
    parts = re.split(f"([{chr(_FIRST)}-\uf8ff])", piece)
    made: list[str] = []
    text = ""
    for part in [*parts, ""]:
        statement = bool(_MARK.fullmatch(part)) and not kept[ord(part) - _FIRST].startswith("{{")
        if statement:
            made += [_text(text, translate), part]
            text = ""
        else:
            text += part
    return "".join([*made, _text(text, translate)])


def _text(text: str, translate: Translate) -> str:
    """A text with its spaces around it, translated where it has words."""
    inner = text.strip()
    if not _WORDS.search(inner):
        return text
    marks = list(dict.fromkeys(_MARK.findall(inner)))
    key = " ".join(_MARK.sub(lambda found: f"{{{marks.index(found[0]) + 1}}}", inner).split())
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return before + filled(translate(key), marks) + after
