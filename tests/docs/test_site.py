"""The documentation site: every page is in it, and no link leads nowhere."""

import pydoc
import re
from pathlib import Path

import pytest
import yaml

import amc

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LINK = re.compile(r"\]\(([^)#\s]+)?(?:#([^)\s]+))?\)")


def in_navigation(entry):
    """Yields the pages of a part of the navigation."""
    if isinstance(entry, str):
        yield entry
    for inner in entry if isinstance(entry, list) else entry.values() if isinstance(entry, dict) else ():
        yield from in_navigation(inner)


def anchors_of(page):
    """Returns the anchors of a page's headings, as its headings make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", text.lower()).strip().replace(" ", "-") for text in headings}


def test_every_page_is_in_the_navigation():
    site = yaml.safe_load((ROOT / ".mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(in_navigation(site["nav"])) == [str(page.relative_to(DOCS)) for page in PAGES]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        other = (page.parent / target).resolve() if target else page
        assert other.exists(), f"{page.name} links to {target}"
        if anchor and other.suffix == ".md":
            assert anchor in anchors_of(other), f"{page.name} links to {target}#{anchor}"


def test_the_reference_has_every_public_name_and_nothing_that_is_not_there():
    pages = (DOCS / "reference").glob("*.md")
    listed = {name for page in pages for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)}
    assert [name for name in listed if pydoc.locate(name) is None] == []
    public = {name: getattr(amc, name) for name in amc.__all__ if name != "__version__"}
    places = {name: {each.__module__, f"{each.__module__}.{each.__name__}"} for name, each in public.items()}
    assert [name for name, place in places.items() if listed.isdisjoint(place)] == []
