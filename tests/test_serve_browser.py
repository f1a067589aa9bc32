"""The page of `query serve` as people use it: Chromium, a mouse, a keyboard, a narrow screen. Pictures of it are left in
``build/screenshots``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browsers import FAINT, NAMELESS, OVERFLOWING, browser, serving, why_no_browser

from outcrop.query.service.engine import Engine
from outcrop.schema.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SEEN = Path(__file__).parents[1] / "build/screenshots"
WIDTHS = ((360, 760), (1280, 900), (3840, 2160))
PHOTO = "image/jamshill_image/250918092555_300/0012"
pytestmark = pytest.mark.skipif(bool(why_no_browser()), reason=why_no_browser())


@pytest.fixture(scope="module")
def world(sample_world: tuple[Path, tuple[object, ...]]) -> tuple[Path, Settings]:
    folder, place = sample_world
    options = {str(name).removeprefix("--"): value for name, value in zip(place[::2], place[1::2], strict=True)}
    return folder, Settings(
        uri=str(options["uri"]), registry=Path(str(options["registry"])), state=Path(str(options["state"]))
    )


@pytest.fixture(scope="module")
def address(world: tuple[Path, Settings]) -> Iterator[str]:
    engine = Engine(world[1])
    with serving(engine) as found:
        yield found
    engine.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture
def photo(world: tuple[Path, Settings]) -> Path:
    return sorted((world[0] / "queries").glob("*.jpg"))[0]


@pytest.fixture
def page(chromium: Browser, address: str) -> Iterator[Page]:
    """A page on which nothing goes wrong, and that asks nobody but the service."""
    yield from opened(chromium, address)


def opened(chromium: Browser, address: str, **how: Any) -> Iterator[Page]:
    context = chromium.new_context(base_url=address, viewport={"width": 1280, "height": 900}, **how)
    context.set_default_timeout(60_000)
    made = context.new_page()
    wrong: list[str] = []
    made.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on(
        "request",
        lambda asked: wrong.append(asked.url) if not asked.url.startswith((address, "blob:", "data:")) else None,
    )
    yield made
    context.close()
    assert not wrong


def asked_with(page: Page, photo: Path) -> None:
    page.goto("/")
    following(page, lambda: page.set_input_files("#file", photo))


def keys(page: Page) -> list[str]:
    return [str(link.get_attribute("title")) for link in page.query_selector_all(".hits .key")]


def following(page: Page, what: Any) -> None:
    """Does what leads to another page, and waits for that and its scripts."""
    with page.expect_navigation():
        what()
    page.wait_for_load_state("load")


def test_a_photograph_is_dropped_and_the_address_can_be_sent(
    page: Page, photo: Path, chromium: Browser, address: str
) -> None:
    page.goto("/")
    data = page.evaluate_handle(
        """async (bytes) => {
          const given = new DataTransfer();
          given.items.add(new File([new Uint8Array(bytes)], "from the field.jpg", {type: "image/jpeg"}));
          return given;
        }""",
        list(photo.read_bytes()),
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": data})
    assert "over" in str(page.get_attribute("#drop", "class"))
    following(page, lambda: page.dispatch_event("body", "drop", {"dataTransfer": data}))
    assert page.inner_text(".asked b") == "from the field.jpg" and len(keys(page)) == 24
    for another in opened(chromium, address):  # a colleague's browser
        another.goto(page.url)
        assert keys(another) == keys(page)


def test_a_box_asks_with_a_part_by_mouse_and_by_keys(page: Page, photo: Path) -> None:
    asked_with(page, photo)
    whole = keys(page)
    edges = page.locator("#area").bounding_box()
    assert edges is not None
    page.mouse.move(edges["x"] + 0.1 * edges["width"], edges["y"] + 0.1 * edges["height"])
    page.mouse.down()
    page.mouse.move(edges["x"] + 0.5 * edges["width"], edges["y"] + 0.6 * edges["height"], steps=4)
    following(page, page.mouse.up)
    box = re.search(r"box=([\d.%C]+)", page.url)
    assert box is not None and [round(float(edge), 1) for edge in box[1].split("%2C")] == [0.1, 0.1, 0.5, 0.6]
    assert keys(page) != whole
    following(page, page.get_by_role("button", name="whole picture").click)
    assert keys(page) == whole and "box=" not in page.url
    page.focus("#area")
    for key in ("ArrowRight", "Shift+ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
    assert page.input_value("#box") == "0.2500,0.3000,0.7000,0.8000"
    page.keyboard.press("Escape")
    assert page.input_value("#box") == ""
    page.keyboard.press("ArrowUp")
    following(page, lambda: page.keyboard.press("Enter"))
    assert "box=0.2500" in page.url


def test_more_like_this_examples_and_counterexamples(page: Page, photo: Path) -> None:
    asked_with(page, photo)
    first, second = keys(page)[:2]
    following(
        page, page.locator("figure", has_text=second.split("/", 1)[1]).get_by_title("add as a counterexample").click
    )
    assert "not=" in page.url and second not in keys(page) and "− " + second in page.inner_text(".examples")
    following(page, page.locator("figure[data-rank='1']").get_by_title("add as an example", exact=True).click)
    assert page.locator(".examples li").count() == 2 and page.locator("input[name=rerank]").is_disabled()
    following(page, page.get_by_label(f"leave out {second}").click)
    assert page.locator(".examples li").count() == 1
    following(page, page.locator("figure[data-rank='1']").get_by_text("more like this").click)
    assert "item=" in page.url and "picture=" not in page.url and first


def test_a_filter_is_asked_at_once(page: Page, photo: Path) -> None:
    asked_with(page, photo)
    captures = page.locator("fieldset[data-field=capture_id]")
    count = int(captures.locator("label", has_text="250918092555_300").locator(".count").inner_text())
    following(page, captures.locator("input[value='250918092555_300']").check)
    assert all("250918092555_300" in key for key in keys(page)) and len(keys(page)) == min(24, count)
    assert page.locator("input[value='250918092555_300']").is_checked() and f"{count} of" in page.inner_text(".kept")
    following(page, page.locator("input[value='250918092555_300']").uncheck)
    assert "where" not in page.url
    page.fill("input[name='from.altitude']", "200")
    following(page, lambda: page.keyboard.press("Enter"))
    assert "where=altitude%3D200.." in page.url and all("_300/" in key for key in keys(page))
    page.fill("input[name='from.altitude']", "400")
    following(page, lambda: page.keyboard.press("Enter"))
    assert "none has" in page.inner_text(".remark")


def test_the_map_and_the_cards_are_one(page: Page, photo: Path) -> None:
    asked_with(page, photo)
    page.wait_for_selector("#map.ready")
    card, mark = page.locator("figure[data-rank='3']"), page.locator(".mark", has_text=re.compile(r"^3$"))
    card.hover()
    page.locator(".mark.on", has_text=re.compile(r"^3$")).wait_for()
    mark.dispatch_event("click")
    assert "chosen" in str(card.get_attribute("class")) and card.locator("a:focus").count() == 1
    following(page, page.get_by_role("button", name="Search this area").click)
    assert "area=" in page.url and keys(page)
    page.wait_for_selector("#map.ready")
    page.locator("#map").click(position={"x": 150, "y": 500})
    following(page, page.get_by_role("button", name="100 m").click)
    assert re.search(r"near=[\d.]+%2C[\d.]+%2C100&?", page.url) and "area=" not in page.url
    page.wait_for_selector("#map.ready")
    assert page.locator("path.asked-area").count() == 1


def test_verified_hits_show_an_outline_and_the_full_picture(page: Page, photo: Path) -> None:
    asked_with(page, photo)
    page.goto(f"{page.url}&where=frame%3D16..19&where=altitude%3D200..")  # few to verify
    following(page, lambda: page.check("input[name=rerank]"))
    page.wait_for_selector("#map.ready")
    assert "matching points" in page.inner_text("figure[data-rank='1']") and page.locator(".outline polygon").count()
    assert "taken at 37.5" in page.inner_text(".asked") and page.locator("path.located").count() == 1
    following(page, page.locator("figure[data-rank='1'] a.shot").click)
    page.wait_for_selector("#view.ready")
    assert page.get_attribute("#view", "data-size") == "1024 x 768" and page.locator("path.matched").count() == 1
    before = page.locator(".leaflet-image-layer").bounding_box()
    page.keyboard.press("+")
    page.wait_for_function(
        "(was) => document.querySelector('.leaflet-image-layer').getBoundingClientRect().width > was",
        arg=before["width"],
    )  # type: ignore[index]
    following(page, page.locator("main .actions a").first.click)
    assert page.inner_text("dl").count("\n") > 20


def test_keyboard_alone(page: Page, photo: Path) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.id === 'answer'")
    page.goto("/")
    page.on("filechooser", lambda _chooser: None)  # from now on: a dialog that opens before it is asked for is lost
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "document.activeElement.id || document.activeElement.name || document.activeElement.className"
            )
        )
        outline = page.evaluate(
            "(e => getComputedStyle(e.id === 'file' ? e.parentElement : e).outlineStyle)(document.activeElement)"
        )
        assert outline != "none", f"nothing shows that {reached[-1]} is reached"
        if reached[-1] == "file":
            with page.expect_file_chooser() as chooser:
                page.keyboard.press("Enter")
            break
    following(page, lambda: chooser.value.set_files(photo))
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # past the filters
    page.wait_for_function("document.activeElement.id === 'answer'")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('figure').dataset.rank") == "1"
    assert page.locator(".mark.on").inner_text() == "1"
    following(page, lambda: page.keyboard.press("Enter"))
    assert "/view/" in page.url


def test_pages_fit_every_screen(page: Page, photo: Path) -> None:
    SEEN.mkdir(parents=True, exist_ok=True)
    asked_with(page, photo)
    for name, path in (("start", "/"), ("answer", page.url), ("items", "/items"), ("item", f"/items/{PHOTO}")):
        page.goto(path)
        page.wait_for_load_state("networkidle")
        assert page.locator(".hits figure").first.is_visible() or name in ("start", "item")
        for width, height in WIDTHS:
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate(OVERFLOWING) == [], (name, width)
            assert page.evaluate(NAMELESS) == [], f"without a name on {name}"
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                assert page.evaluate(FAINT) == [], (name, scheme)
                page.screenshot(path=SEEN / f"{name}-{width}-{scheme}.png")


def test_in_korean(page: Page, photo: Path) -> None:
    """The language chosen stays for what is asked from then on."""
    page.goto("/?lang=ko")
    following(page, lambda: page.set_input_files("#file", photo))
    assert "lang=" not in page.url and page.get_attribute("html", "lang") == "ko"
    assert re.search("[가-힣]", page.inner_text("main")) and len(keys(page)) == 24
    page.screenshot(path=SEEN / "korean.png")
    following(page, lambda: page.click("[hreflang=en]"))
    assert page.get_attribute("html", "lang") == "en" and len(keys(page)) == 24


def test_on_a_narrow_screen_the_answer_comes_before_the_filters(page: Page, photo: Path) -> None:
    page.set_viewport_size({"width": 360, "height": 760})
    asked_with(page, photo)
    page.locator("fieldset.facet").first.wait_for(state="hidden")  # by the script, once it has run
    first = page.locator("figure[data-rank='1']").bounding_box()
    assert first is not None and first["y"] < 1400 and first["width"] <= 330
    page.get_by_text("Filters", exact=True).click()
    following(page, page.locator("input[value='250918092555_300']").check)
    assert all("250918092555_300" in key for key in keys(page))


def test_without_scripts(chromium: Browser, address: str, photo: Path) -> None:
    for page in opened(chromium, address, java_script_enabled=False):
        page.goto("/")
        page.set_input_files("#file", photo)
        following(page, page.locator("button.go").click)
        assert len(keys(page)) == 24 and page.locator("svg.places").is_visible()
        page.locator("input[value='250918092555_300']").check()
        following(page, page.locator("button.go").click)
        assert all("250918092555_300" in key for key in keys(page))
