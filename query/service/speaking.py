"""Which language a request is answered in: the one that its address names (``?lang=ko``), else that of the last such address,
else what the browser asks for (Accept-Language), else English."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from outcrop.query.service.guards import Application, Message, Receive, Scope, Send
from outcrop.query.service.languages import ADDRESS, LANGUAGE, LANGUAGES

PARAMETER, COOKIE = "lang", "outcrop_lang"
A_YEAR = 365 * 86_400


class Speaking:
    """Wraps an ASGI application: the language of a request is known where pages are made; answers below get no such parameter."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query, asked = _split(scope["query_string"].decode("latin-1"))
        language = asked if asked in LANGUAGES else _known(headers)
        LANGUAGE.set(language)
        ADDRESS.set((scope["path"], query))

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(b"vary", b"accept-language, cookie")]
                if asked in LANGUAGES:
                    more.append((b"set-cookie", _cookie(asked).encode()))
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self._app({**scope, "query_string": query.encode("latin-1")}, receive, sending)


def _split(query: str) -> tuple[str, str]:
    """A query without its language, and that. What is not a language stays, for whoever answers to refuse."""
    if PARAMETER not in query:
        return query, ""
    pairs = parse_qsl(query, keep_blank_values=True)
    asked = next((value for name, value in pairs if name == PARAMETER and value in LANGUAGES), "")
    rest = [(name, value) for name, value in pairs if not (name == PARAMETER and value in LANGUAGES)]
    return urlencode(rest), asked


def _known(headers: Mapping[str, str]) -> str:
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        cookie = None
    if cookie is not None and cookie.value in LANGUAGES:
        return cookie.value
    return accepted(headers.get("accept-language", ""))


def accepted(header: str) -> str:
    """The first of our languages by what a browser says that people read (``ko-KR,ko;q=0.9,en;q=0.5``); English otherwise."""
    best, weight = "en", 0.0
    for part in header.split(",")[:32]:
        name, _, quality = part.strip().partition(";")
        language = name.strip().lower().partition("-")[0]
        try:
            said = float(quality.strip().removeprefix("q=") or 1)
        except ValueError:
            said = 0.0
        if language in LANGUAGES and said > weight:
            best, weight = language, said
    return best


def _cookie(language: str) -> str:
    cookie = SimpleCookie()
    cookie[COOKIE] = language
    cookie[COOKIE]["samesite"], cookie[COOKIE]["path"], cookie[COOKIE]["max-age"] = "Lax", "/", A_YEAR
    return cookie[COOKIE].OutputString()


def switch() -> list[tuple[str, str, str, bool]]:
    """The languages to choose from: code, own name, address of this page in it, and whether it is the one that is shown."""
    path, query = ADDRESS.get()
    return [
        (code, name, f"{path}?{query + '&' if query else ''}{PARAMETER}={code}", code == LANGUAGE.get())
        for code, name in LANGUAGES.items()
    ]
