"""Draws the page for README: ``python docs/pictures.py [FOLDER]``, with the extras serve, maps, dev and Chromium.

The sample world is written and ingested in FOLDER (a temporary one unless given), served with its orthophoto behind the map, and
asked with its first query.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from outcrop.sample.world import write_world

PICTURE = Path(__file__).parent / "images/serve.webp"
SIZE = {"width": 1280, "height": 860}
MODEL = "efficientnet_lite0"


def main(folder: Path) -> None:
    """Writes the picture anew."""
    world = write_world(folder / "world", maps=True)
    os.chdir(world.folder)
    os.environ["OUTCROP_MODEL"] = MODEL
    outcrop = (sys.executable, "-m", "outcrop")
    subprocess.run([*outcrop, "ingest", "dataset", "jamshill_image", "--quiet"], check=True)
    served = [*outcrop, "query", "serve", "--port", "0", "--tiles", "maps/orthophoto.tif"]
    with subprocess.Popen(served, stderr=subprocess.PIPE, text=True) as service:
        try:
            assert service.stderr is not None
            address = next(word for line in service.stderr for word in line.split() if word.startswith("http://"))
            seen = _seen(address, sorted(Path("queries").glob("*.jpg"))[0])
        finally:
            service.terminate()
    with Image.open(io.BytesIO(seen)) as image:
        image.convert("RGB").save(PICTURE, "WEBP", quality=72, method=6)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


def _seen(address: str, photograph: Path) -> bytes:
    """The page of a verified answer, as PNG."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, color_scheme="light")  # type: ignore[arg-type]  # SIZE is a plain mapping
        page.set_default_timeout(300_000)
        page.goto(address)
        page.set_input_files("#file", photograph)
        page.wait_for_selector(".rank")
        with page.expect_navigation():
            page.check("input[name=rerank]")
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(1000)  # tiles fade in
        # Names of languages whose letters this machine may not have
        page.evaluate("document.querySelector('nav.switch').remove()")
        picture = page.screenshot()
        browser.close()
    return picture


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
