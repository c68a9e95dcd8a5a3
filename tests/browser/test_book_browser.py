"""The book: its pages are alive without a kernel and without a network."""

import contextlib
import io
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from lab import ROOT, SCREENSHOTS, eventually
from PIL import Image

import mlipkit as mk

pytestmark = pytest.mark.browser

NOTEBOOKS = "00_tour 01_dft_data"  # cheap, and between them every kind of output


@pytest.fixture(scope="module")
def site(browser):
    """A few pages of the book; what `make book` has in its cache is taken from there."""
    if not shutil.which("npm"):
        pytest.skip("the book's scripts come by npm (Debian: apt-get install npm)")
    if subprocess.run(["npm", "ping"], capture_output=True, timeout=120).returncode:
        pytest.skip("npm does not reach its registry, which has the book's scripts")
    place = ROOT / "site/test"
    shutil.rmtree(place, ignore_errors=True)
    command = ["make", "-o", ".venv/ready", "book", "SITE=site/test"]
    env = {**os.environ, "BOOK_NOTEBOOKS": NOTEBOOKS}
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)
    # a dead link between pages is a warning of Sphinx, and every warning is an error
    assert built.returncode == 0, built.stderr[-3000:]
    return place / "html"


def test_nothing_comes_from_elsewhere(site):
    """Links to follow are fine; what a page loads must lie in the site, and be there."""
    for page in site.rglob("*.html"):
        text = page.read_text()
        for address in re.findall(r"<(?:script|link|img)[^>]*?(?:src|href)=\"([^\"]+)\"", text):
            if not address.startswith("data:"):
                assert not re.match(r"(https?:)?//", address), (page.name, address)
                assert (page.parent / address.split("?")[0].split("#")[0]).exists(), address
        assert "cdn." not in text.lower(), page
    data = (site / "notebooks/01_dft_data.html").read_text()
    assert "<math" in data and "MathJax.js" not in data


def test_every_public_name_has_its_entry(site):
    reference = "".join(page.read_text() for page in site.glob("docs/book/api/*.html"))
    described = set(re.findall(r'id="mlipkit\.(\w+)"', reference))
    assert set(mk.__all__) - described <= {"plots", "InputError"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["notebooks/00_tour", "notebooks/01_dft_data", "index", "search"])
def test_page_is_alive_without_network_or_kernel(browser, site, name, scheme):
    path = site / f"{name}.html"
    viewport = {"width": 1500, "height": 1000}
    with contextlib.closing(browser.new_context(color_scheme=scheme, viewport=viewport)) as context:
        page, said, asked = context.new_page(), [], []
        page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: said.append(str(e)))
        page.on("request", lambda r: asked.append(r.url))
        context.route(re.compile("^(http|ws)"), lambda route: route.abort())
        page.goto(path.as_uri() + "?q=neutrality" * (name == "search"))
        _is_alive(page, name)
        if name.startswith("notebooks"):
            assert _themes(page) == {scheme}
            page.locator(".theme-toggle-content button").click()  # to the other one
            assert _themes(page) == {"light", "dark"} - {scheme}
            page.evaluate("delete document.body.dataset.theme, scrollTo(0, 0)")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
        assert brightness > 200 if scheme == "light" else brightness < 60
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{wide} px wider than the window"
        unnamed = page.evaluate(
            "[...document.images].filter(i => !i.alt && !i.closest('.widget-subarea')).length"
        )
        assert unnamed == 0
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"book_{path.stem}_{scheme}.png", full_page=True)
        assert not said, said
        assert not [url for url in asked if re.match("http|ws", url)]


def _themes(page):
    """The themes that are seen in figures (none wider than its place), crystals and the page."""
    page.wait_for_function(
        """() => [...document.querySelectorAll('.js-plotly-plot')].every(figure =>
            figure.querySelector('.main-svg').clientWidth <= figure.clientWidth + 1)"""
    )
    colours = page.evaluate(
        """() => {
        const style = e => getComputedStyle(e), all = s => [...document.querySelectorAll(s)];
        const groups = all('.cell_output [role=group]').map(g => style(g).backgroundColor);
        if (groups.some(c => c !== 'rgba(0, 0, 0, 0)')) throw new Error('a ground of its own');
        const grounds = [document.body, ...all('.cell_output canvas')];
        return {grounds: grounds.map(e => style(e).backgroundColor),
                inks: all('.xtick text, .ytick text, .legendtext').map(e => style(e).fill)} }"""
    )
    bright = lambda c: sum(map(int, re.findall(r"\d+", c)[:3])) / 3 > 128
    grounds = {"light" if bright(c) else "dark" for c in colours["grounds"]}
    return grounds | {"dark" if bright(c) else "light" for c in colours["inks"]}


def _is_alive(page, name):
    """Figures are drawn, the crystal is there and turns."""
    if name == "index":
        page.wait_for_url("**/docs/book/index.html")
        page.wait_for_function("[...document.images].filter(i => i.naturalWidth).length == 2")
        return
    if name == "search":
        page.wait_for_selector("#search-results li a")
        return
    page.wait_for_selector(".js-plotly-plot .main-svg .trace", state="attached", timeout=60_000)
    if name.endswith("00_tour"):
        canvas = page.locator("canvas").first
        canvas.scroll_into_view_if_needed()
        assert eventually(page, lambda: _pixels(canvas).std() > 10), "the canvas stays blank"
        # the crystal alone gets no note; the explorer's buttons do not look alive
        assert page.get_by_text("Buttons, menus and sliders need a kernel").count() == 1
        assert page.get_by_role("button", name="charge-aware").is_disabled()
        at_rest = lambda: np.array_equal(_pixels(canvas), _pixels(canvas))
        assert eventually(page, at_rest), "it never comes to rest"
        before, box = _pixels(canvas), canvas.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 120, y + 40, steps=5)
        page.mouse.up()
        page.mouse.move(1, 1)  # away, so that no atom's name is in the picture
        turned = lambda: np.abs(_pixels(canvas) - before).max() > 50
        assert eventually(page, turned), "dragged, and nothing turned"


def _pixels(element):
    return np.asarray(Image.open(io.BytesIO(element.screenshot())).convert("L")).astype(int)
