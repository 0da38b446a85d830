"""The documentation as a site: it is built without a warning and without a network, and read without one."""

import importlib.util
import re
import shutil
import socket
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest

import lact_asr_model as lact

if importlib.util.find_spec("mkdocstrings") is None or importlib.util.find_spec("material") is None:
    pytest.skip("the docs extra is not installed; make test-all does it", allow_module_level=True)

REPOSITORY = Path(__file__).parents[2]
PAGES = {path.stem for path in REPOSITORY.glob("docs/*.md")}
PATIENCE_MILLISECONDS = 120_000


class Fetched(HTMLParser):
    """The addresses of what a browser loads with a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        address = values.get("href") if tag == "link" else values.get("src")
        if address:
            self.addresses.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; whatever would connect to another machine meanwhile fails."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"a connection: {arguments}")

    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        build(load_config(str(REPOSITORY / "mkdocs.yml"), strict=True, site_dir=str(folder)))
    return folder


def html_of(site: Path, page: str) -> str:
    return (site / f"{page}.html").read_text(encoding="utf-8")


def test_every_page_is_built(site: Path) -> None:
    assert {path.stem for path in site.glob("*.html")} == PAGES | {"404"}


def test_a_page_loads_only_files_of_the_site(site: Path) -> None:
    for page in PAGES:
        for address in Fetched(html_of(site, page)).addresses:
            assert not urlparse(address).scheme and not urlparse(address).netloc, f"{page}: {address}"
            assert (site / urlparse(address).path).is_file(), f"{page}: {address}"
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_the_reference_has_the_public_surface(site: Path) -> None:
    text = html_of(site, "api")
    for name in lact.__all__:
        assert f'id="lact_asr_model.{name}"' in text or f"lact.{name}" in text, name
    assert "a file, or float samples [samples] at the model" in text  # of an argument's description


def test_every_option_of_adaptation_is_in_the_table(site: Path) -> None:
    rows = re.findall(r"<tr>(.*?)</tr>", html_of(site, "api"), flags=re.DOTALL)
    for option in fields(lact.AdaptationOptions):
        (row,) = [row for row in rows if f"<code>{option.name}</code>" in row]
        assert f"<code>{option.default}</code>" in row
        assert option.metadata["help"].split(";")[0] in row


def test_pages_from_elsewhere_are_there_whole(site: Path) -> None:
    assert "non-finite loss" in html_of(site, "troubleshooting")
    training = html_of(site, "train_on_librispeech")
    stages = training[training.index("Every stage goes on") : training.index("trains in one stage")]
    assert stages.count("<ol>") == 1  # the stages are numbered in one go, past the command of the first
    assert "--8&lt;--" not in html_of(site, "troubleshooting")


@pytest.mark.web
def test_a_page_that_is_opened_as_a_file_finds_what_one_searches(site: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; make test-all does it")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed; run: apt install chromium")
    requests = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MILLISECONDS)
        page.on("request", lambda request: requests.append(request.url))
        page.goto((site / "index.html").as_uri())
        field = page.locator("input.md-search__input")
        field.click()
        field.press_sequentially("perplexity")
        page.locator(".md-search-result__link").first.wait_for()
        found = [link.get_attribute("href") or "" for link in page.locator(".md-search-result__link").all()]
        assert any("figures.html" in address for address in found)
        assert page.locator("img").count() == 0 or page.locator("img").first.evaluate("image => image.naturalWidth") > 0
        browser.close()
    assert {urlparse(address).scheme for address in requests} <= {"file", "data", "about"}
