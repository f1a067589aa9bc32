"""A service on a port of its own, and Debian's Chromium to look at it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from outcrop.query.service.app import application
from outcrop.query.service.connections import ImpatientProtocol
from outcrop.query.service.engine import Engine

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking")

OVERFLOWING = """() => {
  const page = document.documentElement, wrong = [];
  if (page.scrollWidth > page.clientWidth) wrong.push(`the page is ${page.scrollWidth} wide`);
  for (const each of document.querySelectorAll("figure, fieldset, button, header"))
    if (each.scrollWidth > each.clientWidth + 1) wrong.push(`${each.tagName} overflows: ${each.textContent.trim().slice(0, 40)}`);
  return wrong;
}"""
"""What does not fit a page."""
FAINT = """() => {
  const rgba = (text) => text.match(/[\\d.]+/g).map(Number), wrong = [];
  const linear = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = (c) => 0.2126 * linear(c[0] / 255) + 0.7152 * linear(c[1] / 255) + 0.0722 * linear(c[2] / 255);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !e.checkVisibility()) continue;
    if (e.closest("svg, :disabled, script, template, .degree")) continue;
    const colour = getComputedStyle(e).color;
    const [darker, lighter] = [luminance(rgba(colour)), luminance(ground(e))].sort((x, y) => x - y);
    if ((lighter + 0.05) / (darker + 0.05) < 4.5) wrong.push(`${e.tagName}.${e.className}: ${e.textContent.trim()} ${colour}`);
  }
  return [...new Set(wrong)];
}"""
"""Text whose contrast with its background is less than WCAG's AA asks for."""
NAMELESS = """() => {
  const picture = (e) => e.closest("label") || e.querySelector("img[alt]");
  const named = (e) => e.getAttribute("aria-label") || e.innerText || e.title || picture(e);
  const all = document.querySelectorAll("a, button, input:not([type=hidden]), select, summary, #map, #area");
  return [...all].filter((e) => e.checkVisibility() && !named(e)).map((e) => e.outerHTML);
}"""
"""What can be reached and does not say what it is."""


def why_no_browser() -> str:
    """Why pages cannot be looked at here; '' where they can."""
    if CHROMIUM is None:
        return "chromium is not installed: pages are not looked at"
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "playwright is not installed: pages are not looked at"
    return ""


@contextlib.contextmanager
def serving(engine: Engine, **how: Any) -> Iterator[str]:
    """The address of a service that runs meanwhile. The engine stays open."""
    app = application(engine, **how)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="error", lifespan="off", ws="none", http=ImpatientProtocol)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            until = time.monotonic() + 60
            while not server.started:
                assert thread.is_alive() and time.monotonic() < until, "the service did not start"
                time.sleep(0.02)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Chromium, headless; a test that cannot have it is skipped, and says why."""
    if reason := why_no_browser():
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield opened
        finally:
            opened.close()
