"""A hook of mkdocs.yml: README.md is the site's home page, its list of documents the navigation, and what lies outside
docs/ is a page of the site, too, or a link to the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "https://github.com/edgemoe/edgemoe/blob/main/"
# Files outside docs/ that are pages, and their names there.
PAGES = {"README.md": "index.md", "models/README.md": "default-model.md", "models/router.md": "router-card.md"}
SOURCES = {name: source for source, name in PAGES.items()}
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The navigation, unless mkdocs.yml has one."""
    config.nav = config.nav or navigation((ROOT / "README.md").read_text())
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, name in PAGES.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    name = page.file.src_uri
    folder = posixpath.dirname(SOURCES.get(name, f"docs/{name}"))
    return _LINK.sub(lambda match: target(match[1], folder), markdown)


def target(link: str, folder: str) -> str:
    """Where a link of a file in `folder` leads on the site.

    Raises:
        PluginError: there is no such file.
    """
    path = posixpath.normpath(posixpath.join(folder, link))
    if not (ROOT / path).exists():
        raise PluginError(f"a page in {folder or 'the root'} links to {link}, which does not exist")
    if path in PAGES:
        return PAGES[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else REPOSITORY + path


def navigation(readme: str) -> list[Any]:
    """Home, and what README.md lists under "Documentation", for whom it says."""
    section = readme.partition("\n## Documentation\n")[2].partition("\n## ")[0]
    groups = re.findall(r"^For (\w+): (.*?)\.$", section, re.MULTILINE | re.DOTALL)
    if not groups:
        raise PluginError('README.md has no list "For users: ..." under "Documentation"')
    nav: list[Any] = [{"Home": "index.md"}]
    for readers, listed in groups:
        links = re.findall(r"\[([^\]]+)\]\(([^)]+)\)", listed)
        nav.append({f"For {readers}": [{title[0].upper() + title[1:]: target(link, "")} for title, link in links]})
    nav.append({"Models that come with it": ["default-model.md", "router-card.md"]})
    return nav
