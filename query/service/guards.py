"""What stands between the network and the service: who may ask, how much, how long, and what pages may do in a browser."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "outcrop_token"
OPEN_TO_ALL = ("/healthz",)
LOOPBACK = ("localhost", "127.0.0.1", "::1")
BODY_SECONDS = 60.0
"""For all of a request's body."""
OVERHEAD = 1 << 16
"""Bytes of a body beside its picture."""
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}
"""Of every answer: nothing is loaded from elsewhere, no page of another site may show or read ours. (Under the policy
no-referrer, browsers send the origin of our own forms as ``null``.)"""


class Guards:
    """Wraps an ASGI application. `host` is the address that it is bound to; a `token` is then wanted of everybody, if given.

    Requests under another host's name are refused while the service is bound to loopback (a page elsewhere could otherwise reach
    it by a name that it controls), and so are posts that another site's page sends. Bodies over `max_bytes`, or that take too
    long, end the request.
    """

    def __init__(self, app: Application, *, host: str, token: str, max_bytes: int) -> None:
        self._app, self._token, self._limit = app, token, max_bytes + OVERHEAD
        self._names = {*LOOPBACK, host} if host in LOOPBACK else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        guarded = _with_headers(send)
        refused = self._refusal(scope, headers)
        if refused is not None:
            await _answer(guarded, *refused)
            return
        if (given := self._token_in_address(scope)) is not None:
            await _answer(guarded, 303, "", {"location": _without_token(scope), "set-cookie": _cookie(given)})
            return
        try:
            await self._app(scope, _Bounded(receive, self._limit), guarded)
        except TooLarge:
            await _answer(guarded, 413, f"the request is larger than {self._limit:,} bytes")
        except TooSlow:
            await _answer(guarded, 408, "the request took too long to arrive")

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Status and reason where a request is refused before it is read."""
        host = headers.get("host", "")
        if self._names is not None and _hostname(host) not in self._names:
            return 421, "this service answers under the name of this machine only"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "only GET, HEAD and POST are answered"
        if scope["method"] == "POST" and not _same_site(headers, host):
            return 403, "a page of another site sent this; open the service's own page"
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            return 400, "Content-Length is not a number"
        if len(length) > 15 or int(length) > self._limit:
            return 413, f"the request is larger than {self._limit:,} bytes"
        if self._token and scope["path"] not in OPEN_TO_ALL and not self._may(scope, headers):
            return 401, "a token is needed: open the address that was printed when the service started"
        return None

    def _may(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        offered = [given.strip()] if kind.lower() == "bearer" else []
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        offered += [cookie.value] if cookie is not None else []
        in_address = self._token_in_address(scope)
        offered += [in_address] if in_address is not None else []
        return any(hmac.compare_digest(each.encode(), self._token.encode()) for each in offered)

    def _token_in_address(self, scope: Scope) -> str | None:
        """The token of an address such as ``/?token=…``, which a browser is given once and then keeps as a cookie."""
        if not self._token or scope["method"] != "GET" or scope["path"] != "/":
            return None
        query: str = scope["query_string"].decode("latin-1")
        return next(iter(parse_qs(query).get("token", ())), None)


class TooLarge(Exception):
    """A body has more bytes than may be sent."""


class TooSlow(Exception):
    """A body did not arrive in time."""


class _Bounded:
    """Receives a request's body up to a number of bytes, within a time."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._left = receive, limit
        self._whole = False
        self._until = asyncio.get_running_loop().time() + BODY_SECONDS

    async def __call__(self) -> Message:
        if self._whole:  # what follows is only whether the client is still there
            return await self._receive()
        try:
            left = self._until - asyncio.get_running_loop().time()
            message = await asyncio.wait_for(self._receive(), max(0.0, left))
        except TimeoutError:
            raise TooSlow from None
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._left < 0:
                raise TooLarge
        return message


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            have = {name.lower() for name, _ in message["headers"]}
            more = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in have]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending


async def _answer(send: Send, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
    body = (text + "\n").encode() if text else b""
    fields = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(body)), "connection": "close"}
    fields |= headers or {}
    encoded = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _same_site(headers: Mapping[str, str], host: str) -> bool:
    """Whether a post comes from our own page, or from a program (browsers say where a post comes from)."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if site is not None:  # browsers alone can set it
        return site in ("same-origin", "none")
    try:
        return origin is None or urlsplit(origin).netloc == host
    except ValueError:
        return False


def _cookie(token: str) -> str:
    cookie = SimpleCookie()
    cookie[COOKIE] = token
    cookie[COOKIE]["httponly"], cookie[COOKIE]["samesite"], cookie[COOKIE]["path"] = True, "Strict", "/"
    return cookie[COOKIE].OutputString()


def _without_token(scope: Scope) -> str:
    parts = [p for p in scope["query_string"].decode("latin-1").split("&") if p and not p.startswith("token=")]
    return "/?" + "&".join(parts) if parts else "/"
