"""Reports and contact sheets as they are seen, laid out by a real browser; links to originals where they are asked for."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from commands import run
from pictures import picture, write_dataset
from PIL import Image

from outcrop.embed.images import thumbnail
from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.query.answers import Hit, Query, Result, Results
from outcrop.query.hit_sheet import font_of, hit_sheet, shortened
from outcrop.query.report import write_report
from outcrop.query.report_facts import metres
from outcrop.query.specimen_sheet import _sheet
from outcrop.schema.item import Item, Kind, image_key

CHROMIUM = shutil.which("chromium")
SHAPES = ((320, 240), (240, 320), (300, 300), (320, 40), (160, 120), (20, 320))
LONG = "Ausgrabung_" * 12
LAID_OUT = """<script>
const wrong = [], page = document.documentElement
if (page.scrollWidth > page.clientWidth) wrong.push(`the page is ${page.scrollWidth} wide`)
for (const frame of document.querySelectorAll(".frame")) for (const seen of frame.querySelectorAll("img, svg")) {
  const a = frame.getBoundingClientRect(), b = seen.getBoundingClientRect()
  const across = b.left < a.left - 1 || b.right > a.right + 1
  if (across || b.top < a.top - 1 || b.bottom > a.bottom + 1) wrong.push("outside its frame")
}
for (const card of document.querySelectorAll("figure")) if (card.scrollWidth > card.clientWidth) wrong.push("a card overflows")
document.title = JSON.stringify({wrong, frames: document.querySelectorAll(".frame img").length, width: page.clientWidth})
</script>"""


def item(number: int, dataset: str = "d") -> Item:
    return Item(
        image_key(dataset, "c", number), Kind.IMAGE, dataset, "c", frame=number, latitude=35.1234567, longitude=129.0
    )


def answers(thumbnails: ThumbnailStore) -> Results:
    hits = []
    for rank, size in enumerate(SHAPES, 1):
        found = item(rank, LONG)
        thumbnails.write(found.id, thumbnail(picture(rank, *size)))
        hits.append(Hit(rank, 1 - rank / 9, found))
    asked = Query("a" * 300 + ".jpg", thumbnail=thumbnail(picture(0, 200, 400)))
    return Results("outcrop", None, (Result(asked, tuple(hits)),))


def laid_out(page: Path, width: int) -> dict:
    """What is wrong with a page in a browser of a width (an <iframe>: a headless window is at least 500 pixels wide)."""
    inner = page.with_name("inner.html")
    inner.write_text(page.read_text() + LAID_OUT)
    outer = page.with_name("outer.html")
    outer.write_text(
        f'<iframe src="inner.html" style="width:{width}px;height:900px;border:0" '
        'onload="document.body.innerText = this.contentDocument.title"></iframe>'
    )
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --hide-scrollbars --allow-file-access-from-files --virtual-time-budget=3000"
    )
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *flags.split(), f"--user-data-dir={page.parent / 'browser'}", "--dump-dom", outer.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(re.search(r"\{.*\}", done.stdout)[0])  # type: ignore[index]


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the layout of pages is not looked at")
@pytest.mark.parametrize("width", [360, 1280])
def test_pictures_of_any_shape_and_names_of_any_length_stay_in_their_cards(tmp_path: Path, width: int) -> None:
    thumbnails = ThumbnailStore(tmp_path / "thumbnails")
    page = write_report([answers(thumbnails)], tmp_path / "r.html", thumbnails)
    seen = laid_out(page, width)
    assert seen == {"wrong": [], "frames": len(SHAPES) + 1, "width": width}
    # The same question finds the fault that there was: a frame without a size for its row.
    page.write_text(page.read_text().replace("grid-template: minmax(0, 1fr) / minmax(0, 1fr);", ""))
    assert "outside its frame" in laid_out(page, width)["wrong"]


def test_a_click_opens_the_original_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path, {"a #1_300": 2}, name="d", root="one")
    place = ("--registry", tmp_path / "data_key.json", "--uri", tmp_path / "outcrop.db")
    assert run("ingest", "dataset", "d", "--model", "efficientnet_lite0", *place).code == 0
    asked = tmp_path / "one/a #1_300/a #1_300_0001.jpg"
    (tmp_path / "reports").mkdir()
    report = tmp_path / "reports/r.html"
    links = {}
    for form in ("none", "file", "relative"):
        monkeypatch.setenv("OUTCROP_REPORT_LINKS", form)
        assert run("query", "image", asked, "-k", 2, *place, "--report", report).code == 0
        links[form] = re.findall(r'<a href="([^"]+)"', report.read_text())
    assert links["none"] == [] and len(links["file"]) == len(links["relative"]) == 3
    assert all(Path(unquote(urlparse(link).path)).is_file() for link in links["file"])
    assert all((report.parent / unquote(link)).is_file() for link in links["relative"])
    (tmp_path / "one/a #1_300/a #1_300_0002.jpg").unlink()
    assert run("query", "item", "d/1", "-k", 2, *place, "--report", report).code == 0
    assert len(re.findall(r'<a href="', report.read_text())) == 2  # the one that is gone leads nowhere
    monkeypatch.setenv("OUTCROP_REPORT_LINKS", "somewhere")
    assert "report_links" in run("query", "item", "d/1", *place).error(3)


def test_captions_of_sheets_do_not_overlap(tmp_path: Path) -> None:
    for text in (LONG, "화석" * 60, "short", ""):
        for size in (12, 16):
            fitted = shortened(text, 240, font_of(size))
            assert font_of(size).getlength(fitted) <= 240
            assert fitted == text or (fitted[0] == "…" and text.endswith(fitted[1:]) and len(fitted) > 5)
    thumbnails = ThumbnailStore(tmp_path)
    found = answers(thumbnails)
    sheet = Image.open(io.BytesIO(hit_sheet(found.results[0], thumbnails))).convert("L")
    # Between two columns of captions, the paper is white from top to bottom.
    for column in range(2, 6):
        gap = sheet.crop((2 * 12 + column * 252 - 11, 60, 2 * 12 + column * 252 - 1, sheet.height))
        assert gap.getextrema() == (255, 255), column
    tall = Image.open(
        io.BytesIO(_sheet(LONG * 3, [("00", Image.new("RGB", (40, 90))), ("01", Image.new("RGB", (90, 40)))]))
    )
    assert tall.size == (10 + 2 * 100, 30 + 90 + 18 + 10) and tall.convert("L").crop(
        (200, 0, 210, 30)
    ).getextrema() == (255, 255)


@pytest.mark.parametrize(
    ("value", "said"), [(0.344, "0.34 m"), (12.345, "12.3 m"), (99.96, "100 m"), (1234.5, "1,234 m")]
)
def test_figures_have_the_digits_that_mean_something(value: float, said: str) -> None:
    assert metres(value) == said
