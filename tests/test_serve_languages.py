"""The pages in English, Korean and Japanese: no text is left out of the table, none in it is unused, and pages say so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from commands import run
from pictures import write_dataset
from starlette.testclient import TestClient

import outcrop.query.service
from outcrop.query.service.app import application
from outcrop.query.service.engine import Engine
from outcrop.query.service.facets import LABELS
from outcrop.query.service.languages import LANGUAGES, filled, in_language, table, texts_of, translated
from outcrop.query.service.speaking import accepted
from outcrop.schema.settings import Settings

SERVICE = Path(outcrop.query.service.__file__).parent
ENGLISH = {"api.html.j2"}
"""Templates that stay English: a description for programmers, made from the code."""
CAPTURE = "250918092555_300"
KEY = f"image/town/{CAPTURE}/0003"
OTHERS = tuple(code for code in LANGUAGES if code != "en")
HANGUL, KANA = re.compile("[가-힣]"), re.compile("[ぁ-ヿ]")
UNTRANSLATED = re.compile(
    r"Outcrop|API|CSV|GeoJSON|hdbscan|kmeans|DBCV|ARI|NMI|outcrop|town|image|query|cluster|evaluate|--\w+|km|English"
)
"""Words that are names, in any language."""


def templates() -> dict[str, str]:
    return {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted((SERVICE / "templates").glob("*.j2"))
        if path.name not in ENGLISH
    }


def told_in_templates(source: str) -> Iterator[str]:
    """Texts in expressions: ``told("…")``."""
    yield from re.findall(r'told\("([^"]+)"', source)


def told_in_code() -> Iterator[str]:
    """Texts that Python makes: ``told("…")``."""
    for path in SERVICE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "told":
                (first, *_) = node.args
                if isinstance(first, ast.Constant):
                    yield str(first.value)


def all_texts() -> set[str]:
    found = {text for source in templates().values() for text in (*texts_of(source), *told_in_templates(source))}
    return found | set(told_in_code()) | set(LABELS.values()) | {"Altitude (m)", "Date"}


def test_every_text_is_in_the_table_and_none_is_unused() -> None:
    missing = sorted(all_texts() - set(table()))
    assert not missing, "add these to query/service/texts.json:\n" + "\n".join(missing)
    assert sorted(set(table()) - all_texts()) == []


@pytest.mark.parametrize("language", OTHERS)
def test_translations_are_whole(language: str) -> None:
    letters = {"ko": HANGUL, "ja": re.compile("[ぁ-ヿ一-鿿]")}[language]
    for english, said in table().items():
        assert set(said) == set(OTHERS), english
        used, there = (set(re.findall(r"\{(\d)\}", text)) for text in (said[language], english))
        assert used <= there, f"{english}: {said[language]}"
        bare = UNTRANSLATED.sub("", re.sub(r"\{\d\}|dataset=…|altitude=\S+|\d", "", english))
        assert not re.search("[A-Za-z]{2}", bare) or letters.search(said[language]), f"{english}: {said[language]}"


def test_visible_strings_in_expressions_are_told() -> None:
    """A string with a space in an expression that is put out is a text."""
    for name, source in templates().items():
        for expression in re.findall(r"\{\{(.*?)\}\}", source, re.DOTALL):
            bare = re.sub(r'told\("[^"]*"', "", expression)
            for text in re.findall(r'"([^"]*)"', bare):
                assert not re.search("[A-Za-z]{2} [A-Za-z]", text), f"{name}: {text!r} must be told(…)"


def test_texts_are_looked_up_whole() -> None:
    source = '<p title="Open {{ a > b }}">{% if x > 1 %}{{ n }} of <b>these</b>{% endif %} <code>keep me</code></p>'
    assert list(texts_of(source)) == ["Open {1}", "{1} of", "these"]
    turned = in_language(source, lambda text: {"Open {1}": "{1} 열기", "{1} of": "중 {1}"}.get(text, text))
    assert (
        turned
        == '<p title="{{ a > b }} 열기">{% if x > 1 %}중 {{ n }} <b>these</b>{% endif %} <code>keep me</code></p>'
    )
    assert (
        filled("{2}, {1}, {2}", ["a", "b"]) == "b, a, b" and translated("not in the table", "ko") == "not in the table"
    )


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("ko", "ko"),
        ("ko-KR,ko;q=0.9,en;q=0.5", "ko"),
        ("de-DE,ja;q=0.7,ko;q=0.6", "ja"),
        ("en-GB,ko;q=0.8", "en"),
        ("ko;q=0,ja;q=x,*", "en"),
        ("<script>,,;;q=", "en"),
    ],
)
def test_what_browsers_ask_for(header: str, language: str) -> None:
    assert accepted(header) == language


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("languages")
    write_dataset(folder, {CAPTURE: 4, "250918103000_100": 3}, name="town", root="town")
    made = run(
        *("ingest", "dataset", "town", "--registry", folder / "data_key.json", "--model", "efficientnet_lite0"),
        *("--uri", folder / "outcrop.db", "--state", folder / "state", "--quiet"),
    )
    assert made.code == 0, made.err
    made = run(
        *("query", "cluster", "--kind", "image", "--output", folder / "state/town", "--method", "kmeans"),
        *("--clusters", "2", "--uri", folder / "outcrop.db", "--state", folder / "state", "--quiet"),
    )
    assert made.code == 0, made.err
    settings = Settings(
        uri=str(folder / "outcrop.db"), registry=folder / "data_key.json", state=folder / "state",
        serve_results=folder / "state",
    )  # fmt: skip
    opened = Engine(settings)
    yield TestClient(application(opened), base_url="http://127.0.0.1:8421", follow_redirects=False)
    opened.close()


class Texts(HTMLParser):
    """What a page says: its texts, and the attributes that people read; not what is code, or in another language."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._quiet = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("code", "pre", "dt", "dd") or (tag == "a" and "hreflang" in values):
            self._quiet += 1
        self.found += [values[name] or "" for name in ("placeholder", "aria-label", "alt") if name in values]

    def handle_endtag(self, tag: str) -> None:
        if self._quiet and tag in ("code", "pre", "dt", "dd", "a"):
            self._quiet -= 1

    def handle_data(self, data: str) -> None:
        if not self._quiet:
            self.found.append(data)


ADDRESSES = (
    "/",
    f"/?item={KEY}&k=3",
    f"/?item={KEY}&k=3&rerank=geometric",
    "/items?where=dataset=town",
    f"/items/{KEY}",
    "/clusters",
    "/clusters/town",
    "/clusters/town?cluster=0",
    "/duplicates",
    "/duplicates?threshold=0.5",
)


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("address", ADDRESSES)
def test_no_english_is_left_on_a_page(client: TestClient, address: str, language: str) -> None:
    page = client.get(address, headers={"accept-language": language})
    assert page.status_code == 200 and f'<html lang="{language}">' in page.text
    texts = Texts()
    texts.feed(page.text.replace(str(client.base_url), ""))
    known = re.compile(
        r"https?://\S+|\S*(?:/|=|_)\S*|\d{4}-\d\d-\d\d\S*|exact \(.*|flat \(.*|index \(.*|none of \d+ candidates.*"
    )
    # the plan and the reasons of the engine are English, as errors are
    left = [
        text.strip() for text in texts.found if re.search("[A-Za-z]{3,}", UNTRANSLATED.sub("", known.sub("", text)))
    ]
    assert left == []
    assert (HANGUL if language == "ko" else KANA).search(page.text)


def test_the_address_switches_and_is_remembered(client: TestClient) -> None:
    english = client.get("/items?where=dataset%3Dtown")
    assert '<html lang="en">' in english.text and "lang=ko" in english.text
    assert "accept-language" in english.headers["vary"]
    korean = client.get("/items?where=dataset%3Dtown&lang=ko")
    assert '<html lang="ko">' in korean.text and "outcrop_lang=ko" in korean.headers["set-cookie"]
    assert client.get("/items", headers={"cookie": "outcrop_lang=ja"}).text.count('<html lang="ja">') == 1
    both = client.get("/items?lang=en", headers={"cookie": "outcrop_lang=ja", "accept-language": "ko"})
    assert '<html lang="en">' in both.text
    client.cookies.clear()
    refused = client.get("/items?lang=xx", headers={"accept": "application/json"})
    assert refused.status_code == 400 and "lang" in refused.json()["error"]


def test_answers_for_programs_stay_as_they_are(client: TestClient) -> None:
    said = client.get("/api/facets", headers={"accept-language": "ko"}).json()
    assert said == client.get("/api/facets").json()
    assert client.get(f"/api/search?item={KEY}&lang=ja").status_code == 200
