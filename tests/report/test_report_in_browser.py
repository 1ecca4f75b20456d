"""The report in a real browser: nothing overlaps, is cut off, is fetched, or errors.

It needs the Python package playwright and a Chromium on the machine; without one of them the tests are skipped.
"""

import shutil
from pathlib import Path

import pytest

from amc.report.curves import Curves
from amc.report.run_page import page_of_run
from amc.report.run_record import read_run
from amc.study.problems_page import page_of_problems

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")]

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
TROUBLE = """() => {
  const found = [];
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) found.push(`the page is ${page.scrollWidth} wide`);
  for (const svg of document.querySelectorAll('figure svg')) {
    const name = svg.closest('figure').id, frame = svg.getBoundingClientRect();
    if (frame.width < 200 || frame.height < 100) found.push(`${name} is ${frame.width} by ${frame.height}`);
    const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim());
    const boxes = texts.map(t => t.getBoundingClientRect());
    boxes.forEach((a, i) => {
      if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.top < frame.top - 1 || a.bottom > frame.bottom + 1)
        found.push(`${name}: "${texts[i].textContent}" is cut off`);
      boxes.slice(i + 1).forEach((b, j) => {
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        const pair = `"${texts[i].textContent}" and "${texts[i + 1 + j].textContent}"`;
        if (wide > 1.5 && high > 2.5) found.push(`${name}: ${pair} overlap`);
      });
    });
  }
  for (const block of document.querySelectorAll('p, h1, h2, figcaption'))
    if (block.scrollWidth > block.clientWidth + 1) found.push(`cut off: ${block.textContent.slice(0, 40)}`);
  return found;
}"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_is_whole(browser, tmp_path, write_run, width, scheme):
    file = tmp_path / "report.html"
    points = [[0.5, 0.6], [0.75, 0.7]]
    run = write_run(
        tmp_path / "run", time_budget={"budget": 0.5, "predicted": 0.48, "measured": 0.49, "model_points": points}
    )
    curves = Curves(run / "tensorboard" / "learning.jsonl")
    for number in range(4):
        ratios = {"stem <one>": number / 4, "layer & two": 0.5}
        curves.append({"episode": number, "actor_loss": -number / 4, "critic_loss": 0.5, "ratios": ratios})
    page_of_run(read_run(run)).write(file)
    check_whole(browser, file, width, scheme)


@pytest.fixture(scope="module")
def report_of_studies(tmp_path_factory):
    """The report of the comparison that is kept with the documentation: 18 agents with long names."""
    file = tmp_path_factory.mktemp("studies") / "report.html"
    page_of_problems(Path(__file__).parents[2] / "docs" / "comparison" / "studies").write(file)
    return file


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_of_studies_is_whole(browser, report_of_studies, width, scheme):
    check_whole(browser, report_of_studies, width, scheme)


def test_the_names_of_rows_and_what_a_table_shows_stay_in_sight_while_it_is_scrolled(browser, report_of_studies):
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto(report_of_studies.as_uri())
    places = page.evaluate("""() => [...document.querySelectorAll('.scroll')].map(box => {
      box.scrollLeft = 200;
      const left = element => element.getBoundingClientRect().left;
      const [name, cell] = box.querySelector('tbody tr').children, caption = box.nextElementSibling;
      const beyond = caption.scrollWidth - caption.clientWidth;
      return [box.scrollLeft, left(name) - left(box), left(cell) - left(box), beyond];
    })""")
    assert len(places) > 4
    for scrolled, name, cell, beyond in places:
        assert scrolled == 200  # there is more than fits
        assert abs(name) < 1
        assert cell < 200
        assert beyond <= 1
    page.close()


def check_whole(browser, file, width, scheme):
    """Opens a page, and checks that nothing overlaps, is cut off, is fetched, or ends in an error."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said, fetched = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(file.as_uri())
    assert page.evaluate(TROUBLE) == []
    assert said == []
    assert [url for url in fetched if not url.startswith(("file:", "data:"))] == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}[scheme]
    page.close()
