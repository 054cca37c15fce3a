"""The report in a real headless Chromium: nothing asked of any host, verdict in sight, readable wide, narrow, dark."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace
from pathlib import Path

import matplotlib.image as images
import numpy as np
import pytest
from browser import browse, measured, requests_of
from test_report import sample_figures, sample_report

from analog_deq.verify.found import Section
from analog_deq.verify.report.figures import ReportFigures
from analog_deq.verify.report.html import render_html
from analog_deq.verify.signoff import VerifyReport

pytestmark = pytest.mark.browser
CORNERS = [
    f"{p}_{t}C_{v}V" for p in ("tt", "ss", "ff", "sf", "fs") for t in ("m40", "27", "125") for v in ("1p62", "1p8")
]


def full_report() -> VerifyReport:
    """A failing report with everything: thirty corners, a lapsed and a valid waiver, a wide section, long words."""
    report = sample_report()
    checks = list(report.checks)
    values: dict[str, float | None] = {name: 0.1 + 0.02 * k for k, name in enumerate(CORNERS)}
    for k in range(6):
        by_corner = {**values, CORNERS[k]: None}
        checks[k] = replace(checks[k], by_corner=by_corner, worst_corner=CORNERS[-1], typ=0.1)
    checks[7] = replace(checks[7], waived="a reason " * 12 + "(A. Engineer, until 2027-01-31)", status="fail")
    checks[8] = replace(checks[8], lapsed="known (B. Designer, until 2025-01-31)", status="fail")
    wide = Section(
        "wide", "A wide table", "Many columns.", tuple(f"column_{k}" for k in range(14)),
        tuple(tuple(f"{row}.{k} some text" for k in range(14)) for row in range(3)),
    )  # fmt: skip
    fix = Section("attribution", "What to fix first", "", ("cause", "cost"), (("offset", "1.2 points"),))
    return replace(report, checks=tuple(checks), sections=(fix, wide))


@pytest.fixture(scope="module")
def page() -> str:
    return render_html(full_report(), sample_figures())


def test_no_console_message_and_no_request(page: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    assert requests_of(path, tmp_path) == ("", set())


def test_a_request_or_an_error_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text('<img src="http://example.org/x.png"><script>nothing()</script>')
    console, foreign = requests_of(path, tmp_path)
    assert "nothing is not defined" in console
    assert "http://example.org/x.png" in foreign


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1200])
def test_verdict_in_sight_text_readable_nothing_runs_out_of_the_page(
    page: str, width: int, dark: bool, tmp_path: Path
) -> None:
    seen = measured(page, tmp_path, width=width, dark=dark)
    assert seen["text"] == "Verdict: FAIL"
    top, bottom, left, right = seen["verdict"]
    assert 0 <= top < bottom <= 400
    assert 0 <= left < right <= width
    assert seen["wide"] <= seen["seen"] == width, "the page scrolls sideways"
    assert seen["loose"] == [], "wider than the page and in no box of its own"
    assert seen["cut"] == 0
    assert seen["texts"] > 200
    assert seen["contrast"][0][0] >= 4.5, seen["contrast"]
    assert (seen["page"][0] < 60) == dark, "the page follows the reader's scheme"
    steps = np.diff(seen["headings"])
    assert seen["headings"][0] == 1
    assert steps.max() <= 1, "no heading level is skipped"
    if width == 400:
        assert all(wide <= box for wide, box in seen["stacked"]), "tables stack on a phone"


def test_light_and_dark_are_two_pictures(page: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    pictures = []
    for dark in (False, True):
        shot = tmp_path / f"{dark}.png"
        browse(path, "--window-size=1200,900", f"--screenshot={shot}", dark=dark)
        pictures.append(np.asarray(images.imread(shot), dtype=float)[..., :3])
    light, dark_one = pictures
    assert light.shape == dark_one.shape
    assert np.median(light) > 0.9
    assert np.median(dark_one) < 0.2
    for picture in pictures:  # text stands out: some pixels are far from the page's own colour
        assert np.mean(np.abs(picture - np.median(picture)).max(axis=-1) > 0.5) > 0.005


def test_print_is_the_same_light_page_whatever_the_screen(page: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    streams = []
    for dark in (False, True):
        pdf = tmp_path / f"{dark}.pdf"
        browse(path, f"--print-to-pdf={pdf}", "--no-pdf-header-footer", dark=dark)
        content = pdf.read_bytes()
        assert len(re.findall(rb"/Type\s*/Page\b", content)) > 2
        streams.append([_inflated(s) for s in re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL)])
    assert streams[0] == streams[1]


def test_a_report_without_figures_or_failures_stands_too(tmp_path: Path) -> None:
    report = sample_report()
    passing = replace(report, checks=tuple(c for c in report.checks if c.status == "pass"))
    seen = measured(render_html(passing, ReportFigures()), tmp_path, width=400)
    assert seen["text"] == "Verdict: PASS"
    assert seen["wide"] <= seen["seen"]
    assert seen["contrast"][0][0] >= 4.5, seen["contrast"]


def _inflated(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream.strip(b"\r\n"))
    except zlib.error:
        return stream
