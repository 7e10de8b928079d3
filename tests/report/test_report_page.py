"""Reports open offline with every figure, formula and check."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from twinlab.report.page import _messages, fetched, render
from twinlab.report.site import index, reports

pytestmark = pytest.mark.notebook


@pytest.fixture(scope="module")
def page(toy_run) -> str:
    return toy_run.report.read_text(encoding="utf-8")


def test_nothing_is_fetched(page, toy_run):
    assert fetched(page) == []
    assert fetched(index(toy_run.folder.parent.parent).read_text(encoding="utf-8")) == []
    assert "default-src 'none'" in page  # and the browser is told to fetch nothing


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://a.b/c.js"></script>',
        "<link rel=stylesheet href=//a.b/c.css>",
        "<style>@import url('https://a.b/c.css');</style>",
        "<style>p { background: url(https://a.b/c.png) }</style>",
        '<img src="picture.png">',
        '<iframe src="https://a.b"></iframe>',
        "<script>import('https://a.b/c.js')</script>",
        "<script>fetch('data.json')</script>",
    ],
)
def test_what_a_browser_would_fetch_is_seen(tag):
    assert len(fetched(f"<html>{tag}</html>")) == 1


def test_figures_have_a_text_and_are_inside(page):
    figures = re.findall(r"<img[^>]*>", page)
    assert figures
    assert all(
        'src="data:image/png;base64,' in tag and 'alt="Radial noise power spectrum' in tag for tag in figures
    )


def test_formulae_are_mathml_and_prices_are_not(page):
    assert page.count("<math") == 2
    assert "mfrac" in page
    assert "5 $ or 6 $" in page


def test_page_has_title_answer_parameters_checks_and_foot(page):
    assert "<title>Toy study</title>" in page
    assert '<p class="answer">At 110 kV the &lt;toy&gt; answers.</p>' in page
    assert 'class="changed"' in page  # kv differs from its default
    assert "tube voltage [kV]" in page
    assert "70.0 to 130 kV" in page
    assert '<td class="pass">pass</td>' in page
    assert "Peak at 0.3 per mm &amp; &lt;done&gt;." in page
    assert "A toy, CC0" in page


def test_code_is_folded_and_progress_bars_are_gone(page):
    assert page.count('<details class="source">') >= 5
    assert "<details open" not in page
    assert 'class="messages"' not in page  # the only message was a progress bar


def test_warnings_are_told_without_the_files_of_one_machine():
    bar = " 50%|#### | 1/2 [00:00<00:00, 1.0it/s]"
    text = f"/a/b/c.py:12: UserWarning: the body is cut\n  made = convert()\n{bar}\nnote\n"
    assert _messages(text) == "UserWarning: the body is cut\nnote"


def test_rendering_again_gives_the_same_page(page, toy_run):
    assert render(toy_run.executed).read_text(encoding="utf-8") == page


def test_index_shows_each_report(toy_run):
    outputs = toy_run.folder.parent.parent
    (entry,) = [r for r in reports(outputs) if r["folder"] == toy_run.folder]
    assert entry["title"] == "Toy study"
    text = index(outputs).read_text(encoding="utf-8")
    assert f'href="00_toy/{toy_run.folder.name}/report.html"' in text
    assert "At 110 kV the &lt;toy&gt; answers." in text
    assert "data:image/png;base64," in text


def test_an_empty_index_says_what_to_do(tmp_path):
    assert "twinlab run" in index(tmp_path / "none").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium on this machine")
def test_a_browser_shows_all_figures(toy_run, tmp_path):
    # The browser's own words: every image is loaded with a size, no message of a blocked request.
    widths_ = "document.title = [...document.images].map(i => i.naturalWidth).join()"
    probe = f"<script>addEventListener('load', () => {{ {widths_} }})</script>"
    copy = tmp_path / "report.html"
    copy.write_text(
        toy_run.report.read_text(encoding="utf-8").replace("</body>", probe + "</body>"), encoding="utf-8"
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-sync"]
    dumped = subprocess.run(
        ["chromium", *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", copy.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    widths = re.search(r"<title>([\d,]+)</title>", dumped)
    assert widths is not None
    assert all(int(width) > 300 for width in widths.group(1).split(","))
