"""The tutorials run as they are written, and the outputs that they show are those of a run."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "tutorials"
FENCE = re.compile(r"^```(python|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks_of(page):
    """Yields the code of a page with the output that is shown below it, None where none is."""
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    for (kind, text), (next_kind, next_text) in zip(found, [*found[1:], ("", "")], strict=True):
        if kind == "python":
            yield text, next_text if next_kind == "text" else None


def words_of(text):
    """Returns a text without its numbers, which differ between machines in their last digits."""
    return re.sub(r"-?\d[\d,.]*", "#", text).split()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the packages that a page uses besides
@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda page: page.stem)
def test_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "tutorial"}
    for code, shown in blocks_of(page):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(page), "exec", dont_inherit=True), namespace)
        if shown is not None:
            assert words_of(printed.getvalue()) == words_of(shown)


def test_every_page_has_code():
    pages = sorted(FOLDER.glob("*.md"))
    assert pages
    assert all(list(blocks_of(page)) for page in pages)
