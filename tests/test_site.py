"""The site that mkdocs makes of README.md, docs/ and the model cards: no warning, no other host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


class Loads(HTMLParser):
    """What a page loads by itself; links are not followed before somebody clicks."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.addresses.append(values.get("href", ""))
        if "src" in values:
            self.addresses.append(values["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(ROOT / "mkdocs.yml")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        [*command, "--site-dir", str(folder)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_is_there_and_can_be_reached(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} | {"default-model", "router-card"}
    made = {path.parent.name for path in site.glob("*/index.html")}
    assert made == pages
    home = (site / "index.html").read_text()
    assert not [page for page in pages if f'href="{page}/"' not in home]


def test_users_and_developers_have_their_own_list(site: Path) -> None:
    home = (site / "index.html").read_text()
    titles = re.findall(r'class="md-nav__title"[^>]*>\s*<span[^>]*></span>\s*(.*?)\s*</label>', home)
    assert [title for title in titles if title.startswith("For ")] == ["For users", "For developers"]


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    loads = {address for page in pages for address in Loads(page).addresses}
    assert "assets/" in " ".join(loads)
    assert not [address for address in loads if re.match(r"(https?:)?//", address)]
    # Where a page has one of these, the theme's script asks other hosts: for stars, for what draws diagrams.
    assert not [page for page in pages if re.search(r'data-md-component="source"|class="mermaid"', page.read_text())]
    styles = " ".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.findall(r"url\(['\"]?(?:https?:)?//", styles)


def test_pictures_and_both_colours_are_there(site: Path) -> None:
    home = (site / "index.html").read_text()
    assert 'src="overview.svg"' in home
    assert (site / "overview.svg").read_bytes() == (ROOT / "docs/overview.svg").read_bytes()
    assert {"default", "slate"} <= set(re.findall(r'data-md-color-scheme="(\w+)"', home))


def test_what_lies_outside_leads_to_the_repository(site: Path) -> None:
    assert 'href="https://github.com/edgemoe/edgemoe/blob/main/LICENSE"' in (site / "index.html").read_text()
    assert 'href="../router-card/"' in (site / "router/index.html").read_text()
