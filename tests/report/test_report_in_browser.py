"""The report in a real browser: nothing overlaps, is cut off, is fetched, or errors.

It needs the Python package playwright and a Chromium on the machine; without one of them the tests are skipped.
"""

import shutil

import pytest

from amc.report.curves import Curves
from amc.report.run_page import page_of_run
from amc.report.run_record import read_run

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
