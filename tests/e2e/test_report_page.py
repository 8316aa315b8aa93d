"""The page of `mlxdeck report --html` in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxdeck.cli.main import main
from tests import browser
from tests.telemetry.planted import PLANTED, planted

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not browser.found(), reason="no Chromium on this machine"),
]
DATA = Path(__file__).parents[1] / "data"
WIDE = "document.documentElement.scrollWidth > window.innerWidth"
CUT = """
[...document.querySelectorAll('main *')].filter(e => {
  const box = e.getBoundingClientRect();
  const inside = !e.closest('svg') && getComputedStyle(e).display !== 'none' && box.width > 0;
  return inside && (box.right > window.innerWidth + 1 || box.left < -1
    || e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0);
}).map(e => e.tagName + ' ' + e.textContent.slice(0, 60))
"""
OVERLAPS = """
(() => {
  const leaves = [...document.querySelectorAll('main *')].filter(e =>
    !e.closest('svg') && e.children.length === 0 && e.textContent.trim()
    && e.getClientRects().length === 1);
  const boxes = leaves.map(e => [e, e.getBoundingClientRect()]), found = [];
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
    const a = boxes[i][1], b = boxes[j][1];
    const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (x > 1 && y > 1) found.push(boxes[i][0].textContent + ' | ' + boxes[j][0].textContent);
  }
  return found;
})()
"""
CONTRAST = """
(() => {
  const light = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
    .map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const ground = e => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor; if (!/, 0\\)$/.test(c)) return c; } };
  return Math.min(...[...document.querySelectorAll('main *')]
    .filter(e => !e.closest('svg') && e.children.length === 0 && e.textContent.trim())
    .map(e => { const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); }));
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
async def test_the_page_fits_and_fetches_nothing(
    tmp_path: Path, width: int, scheme: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """At two widths, in both schemes, with every finding and with a day: readable, not cut."""
    other = str(DATA / "recording.jsonl")
    pages = {"day": DATA / "day.jsonl", "planted": planted(tmp_path, *PLANTED)}
    async with browser.page() as page:
        for name, path in pages.items():
            target = tmp_path / f"{name}.html"
            how = ["--html", str(target), "--against", other, "--price", "claude-opus-4.5"]
            assert main(["report", str(path), *how]) == 0
            await page.open(target, width, scheme)
            assert await page.value(WIDE) is False
            assert await page.value(CUT) == []
            assert await page.value(OVERLAPS) == []
            assert await page.value(CONTRAST) >= 4.5
            assert await page.value("document.querySelectorAll('svg rect').length") > 10
    assert {url.rpartition("/")[2] for url in page.fetched} == {"day.html", "planted.html"}
    capsys.readouterr()


async def test_what_a_client_sends_is_text_in_the_page(tmp_path: Path) -> None:
    """Names of tools and sessions that are markup stay text, and run nothing."""
    path = tmp_path / "a.jsonl"
    text = (DATA / "day.jsonl").read_text()
    path.write_text(text.replace('"Read"', '"<img src=x onerror=alert(1)>"'))
    target = tmp_path / "a.html"
    assert main(["report", str(path), "--html", str(target)]) == 0
    async with browser.page() as page:
        await page.open(target, 1280, "light")
        assert await page.value("document.querySelectorAll('img, script').length") == 0
        assert "<img src=x" in await page.value("document.body.innerText")
        assert len(page.fetched) == 1
