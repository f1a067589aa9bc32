"""Draws the pictures of README: ``python docs/pictures.py [FOLDER]``, with the extras serve, maps, dev and Chromium.

The sample world is written and ingested in FOLDER (a temporary one unless given). It is served with its orthophoto behind the
map, and asked with its first query; a report of another query and the page of the fossils' clusters are the demo's.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from outcrop.sample.world import write_world

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PICTURES = Path(__file__).parent / "images"
WIDEST = 1300
"""Pixels."""
MODEL = "efficientnet_lite0"
OUTCROP = (sys.executable, "-m", "outcrop")


def main(folder: Path) -> None:
    """Writes the pictures anew."""
    from playwright.sync_api import sync_playwright

    world = write_world(folder / "world", maps=True)
    os.chdir(world.folder)
    os.environ["OUTCROP_MODEL"] = MODEL
    shutil.rmtree("clusters", ignore_errors=True)  # the page would say what became of the former ones
    for step in (
        "ingest dataset jamshill_image --quiet",
        "query image queries/query_04.jpg -k 5 --where altitude=200..400 --report report.html --quiet",
        "ingest specimens specimens --name fossils --quiet",
        "query cluster --output clusters --quiet",
    ):
        subprocess.run([*OUTCROP, *step.split()], check=True)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        _keep("report", _page(browser, 1400, 640, Path("report.html").absolute().as_uri()).screenshot())
        _keep("clusters", _clusters(browser))
        _keep("serve", _served(browser))
        browser.close()


def _keep(name: str, seen: bytes) -> None:
    """Writes a picture, given as PNG, at most as wide as README shows it."""
    file = PICTURES / f"{name}.webp"
    with Image.open(io.BytesIO(seen)) as image:
        scale = min(1.0, WIDEST / image.width)
        shown = image.convert("RGB").resize(
            (round(scale * image.width), round(scale * image.height)), Image.Resampling.LANCZOS
        )
        shown.save(file, "WEBP", quality=72, method=6)
    print(f"{file}: {file.stat().st_size:,} bytes")


def _page(browser: Browser, width: int, height: int, address: str) -> Page:
    """A page, light, in a window of that many pixels."""
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
    page.set_default_timeout(300_000)
    page.goto(address)
    return page


def _clusters(browser: Browser) -> bytes:
    """The page of the clusters, one ammonite of which is pointed at."""
    page = _page(browser, 1300, 1560, Path("clusters/clusters.html").absolute().as_uri())
    page.locator(".map i", has_text="dac_01").hover(force=True)
    page.wait_for_timeout(500)
    return page.screenshot()


def _served(browser: Browser) -> bytes:
    """The page of a verified answer."""
    served = [*OUTCROP, "query", "serve", "--port", "0", "--tiles", "maps/orthophoto.tif"]
    with subprocess.Popen(served, stderr=subprocess.PIPE, text=True) as service:
        try:
            assert service.stderr is not None
            address = next(word for line in service.stderr for word in line.split() if word.startswith("http://"))
            page = _page(browser, 1280, 860, address)
            page.set_input_files("#file", sorted(Path("queries").glob("*.jpg"))[0])
            page.wait_for_selector(".rank")
            with page.expect_navigation():
                page.check("input[name=rerank]")
            page.wait_for_load_state("networkidle")
            page.wait_for_timeout(1000)  # tiles fade in
            # Names of languages whose letters this machine may not have
            page.evaluate("document.querySelector('nav.switch').remove()")
            return page.screenshot()
        finally:
            service.terminate()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
