"""The page stands alone, says the verdict first, escapes what it is given, and shows what is missing."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from analog_deq.verify.found import Drawing, Section
from analog_deq.verify.report.corners import corner_maps
from analog_deq.verify.report.figures import (
    DieScores,
    FixedPointScatter,
    NoiseSpectrum,
    OutputScatter,
    ReportFigures,
    ScoreLadder,
    SettlingTrace,
    TransferCurve,
    YieldCurve,
)
from analog_deq.verify.report.html import render_html
from analog_deq.verify.report.plots import draw_figures
from analog_deq.verify.report.rows import row_of
from analog_deq.verify.signoff import Check, Measurement, VerifyReport, Worst, judge, read_limits

TODAY = date(2026, 11, 28)
DEFAULT = Path(__file__).parents[2] / "data" / "limits" / "default.toml"
WORST = Worst("r_line 2 ohm", None, 117, "decks/op_3.cir", "analog-deq replay decks/op_3.cir --input 117")


def sample_report() -> VerifyReport:
    measurements = [
        Measurement("net.fixed_point_err", 0.044, "%FS", 200, (0.040, 0.048)),
        Measurement("net.fixed_point_max", 0.62, "%FS", 3200, None, WORST, "neuron <11> & more"),
        Measurement("net.yield_mismatch", 95.0, "%", 60),
        Measurement("net.settle_p95", 4.56e-6, "s", 12),
        Measurement("net.converged", 100.0, "%", 200),
    ]
    return VerifyReport(
        judge(measurements, read_limits(DEFAULT), TODAY), {"seed": 3, "inputs": {"design": "ab12"}}, "Sign-off",
        "digits_n16", {"neurons": 16, "energy": None},
    )  # fmt: skip


def sample_figures() -> ReportFigures:
    rng = np.random.default_rng(0)
    t = np.linspace(0, 12e-6, 200)
    z = rng.uniform(-1, 1, 3) * (1 - np.exp(-t[:, None] / 0.7e-6))
    resting = np.tanh(rng.normal(size=(200, 8)))
    x = np.linspace(-4, 4, 41)
    f = np.logspace(3, 9, 30)
    density = 1e-8 / np.sqrt(1 + (f[:, None] / 1e6) ** 2) * np.array([1.0, 1.3])
    return ReportFigures(
        fixed_point=FixedPointScatter(resting, resting + 1e-3 * rng.normal(size=resting.shape), limit_percent_fs=0.5),
        settling=SettlingTrace(t, z, z * 1.001, 4e-3, 3.9e-6, how="Whole network, .tran."),
        transfer=TransferCurve(x, np.tanh(x), np.tanh(x) + 1e-6, np.arange(41) % 2 == 1, limit_percent_fs=0.1),
        noise=NoiseSpectrum(f, density, np.array([7e-5, 8e-5]), np.array([7e-5, 7.6e-5]), ("z3", "v7")),
        dies=DieScores(rng.normal(88, 4, 60), rng.normal(94, 0.5, 60), 92.0, 94.8),
        ladder=ScoreLadder({"software": (94.8, 92.5, 96.4), "circuit": (94.0, 89.8, 96.5)}, 200, ("circuit",)),
    )


class Page(HTMLParser):
    """Collects ids, tags, and everything that could make a browser ask for another file."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: Counter[str] = Counter()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for key, value in attrs:
            if key == "id" and value:
                self.ids.append(value)
            if key in {"src", "href", "srcset", "data", "poster", "action"}:
                self.links.append(value or "")


def test_page_stands_alone() -> None:
    text = render_html(sample_report(), sample_figures())
    page = Page(text)
    assert [name for name, count in Counter(page.ids).items() if count > 1] == []
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert all(target in page.ids for target in re.findall(r"url\(#([^)]+)\)", text))
    assert not re.search(r"url\((?!#)|@import|@font-face", text)
    assert page.tags["script"] == page.tags["link"] == page.tags["img"] == page.tags["iframe"] == 0
    assert page.tags["svg"] == 6
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_verdict_first_then_what_failed_with_its_replay() -> None:
    text = render_html(sample_report(), ReportFigures())
    body = text[text.index("<body>") :]
    places = [body.index(piece) for piece in ("FAIL", "What keeps it from passing", WORST.replay, "Spec sheet")]
    assert places == sorted(places)
    cards = body[: body.index("Spec sheet</h2>")].split('<tbody class="open ')[1:]
    order = [("warning only" in card, card.split('"')[0]) for card in cards]
    assert order == sorted(order), "what decides first, and a fail before an inconclusive"
    assert {warning for warning, _ in order} == {False, True}
    assert "r_line 2 ohm, input 117" in body
    assert "76 in all are needed" in body
    assert "4.56 us" in body


def test_text_is_escaped_and_no_number_is_a_dash() -> None:
    report = sample_report()
    text = render_html(replace(report, title="<script>x</script>"), ReportFigures())
    assert "<script" not in text
    assert "Neuron &lt;11&gt; &amp; more" in text
    assert not re.search(r"\b(nan|None|inf)\b", text)


def test_missing_figure_says_why() -> None:
    text = render_html(sample_report(), ReportFigures(missing={"dies": "no mismatch dies were asked for"}))
    assert "not drawn, no mismatch dies were asked for." in text
    assert text.count("not drawn, this run did not measure it.") == 5


def test_figures_are_deterministic_well_formed_and_follow_the_page() -> None:
    first, second = draw_figures(sample_figures()), draw_figures(sample_figures())
    assert first == second
    for drawn in first:
        assert drawn.svg is not None
        root = ElementTree.fromstring(drawn.svg)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert root.get("width") is None
        assert "currentColor" in drawn.svg
        assert "#000000" not in drawn.svg
        assert "font-family" not in drawn.svg
        assert "<style" not in drawn.svg
        assert len(drawn.svg) < 300_000
        assert drawn.caption.endswith(".")


def test_captions_state_the_numbers() -> None:
    captions = {drawn.name: drawn.caption for drawn in draw_figures(sample_figures())}
    assert captions["settling"].endswith("settling tolerance, ±0.4 %FS. Whole network, .tran.")
    assert "settled after 3.9 us" in captions["settling"]
    assert "200 inputs × 8 neurons" in captions["fixed_point"]
    assert "the 100 worst among them" in captions["fixed_point"]
    assert "1.000 to 1.053" in captions["noise"]
    assert "20 of 41 points were kept out of the fit" in captions["transfer"]
    assert "60 dies" in captions["dies"]


def test_failed_samples_are_counted_not_hidden() -> None:
    figures = sample_figures()
    assert figures.fixed_point is not None
    assert figures.dies is not None
    holed = figures.fixed_point.z_spice.copy()
    holed[3, :2] = np.nan
    captions = {
        drawn.name: drawn.caption
        for drawn in draw_figures(
            ReportFigures(
                fixed_point=replace(figures.fixed_point, z_spice=holed),
                dies=DieScores(np.full(4, np.nan), None, 92.0),
                settling=SettlingTrace(np.arange(3.0), np.full((3, 1), np.nan), np.zeros((3, 1)), 1e-3, None),
            )
        )
    }
    assert "2 values that are not finite are left out" in captions["fixed_point"]
    assert "no die gave a value" in captions["dies"]
    assert "not settled inside the window" in captions["settling"]


@pytest.mark.parametrize("make", [
    lambda: SettlingTrace(np.zeros(3), np.zeros((4, 1)), np.zeros((4, 1)), 1e-3, None),
    lambda: SettlingTrace(np.zeros(3), np.zeros(3), np.zeros(3), 1e-3, None),
    lambda: FixedPointScatter(np.zeros((2, 2)), np.zeros((2, 3))),
    lambda: FixedPointScatter(np.zeros((0, 2)), np.zeros((0, 2))),
    lambda: DieScores(np.zeros(3), np.zeros(2), 92.0),
    lambda: NoiseSpectrum(np.ones(2), np.ones((2, 1)), np.ones(1), np.ones(1), ("a", "b")),
    lambda: OutputScatter(np.zeros((2, 2)), np.zeros((3, 2)), 1.0),
    lambda: YieldCurve(np.ones(3, dtype=bool), 100.0, 0.95),
    lambda: YieldCurve(np.ones(0, dtype=bool), 90.0, 0.95),
    lambda: ScoreLadder({}, 10),
    lambda: ScoreLadder({"a": (90.0, 91.0, 95.0)}, 10),
    lambda: ScoreLadder({"a": (93.0, 91.0, 95.0)}, 10, ("b",)),
])  # fmt: skip
def test_wrong_shapes_are_refused(make: object) -> None:
    with pytest.raises(ValueError):
        make()  # type: ignore[operator]


def regression_figures() -> ReportFigures:
    rng = np.random.default_rng(1)
    target = rng.uniform(-1, 1, (100, 4))
    rungs = {"naive": (12.3, 11.0, 13.1), "circuit": (2.94, 2.8, 3.1)}
    return replace(
        sample_figures(),
        answers=OutputScatter(target, target + 0.02 * rng.choice([-1, 1], target.shape), 0.5),
        dies=DieScores(np.array([9.0, 4.0, np.inf]), np.array([3.0, 4.0, 6.0]), 5.0, 2.9, lower_is_better=True),
        ladder=ScoreLadder(rungs, 100, ("circuit",), lower_is_better=True),
    )


def test_a_regression_shows_its_answers_and_errors_where_less_is_better() -> None:
    drawn = {d.name: d for d in draw_figures(regression_figures())}
    assert next(iter(drawn)) == "answers"
    assert "the relative error, is 4 %" in drawn["answers"].caption  # 0.02 of a scale of 0.5
    assert drawn["dies"].title == "Relative error of each die"
    assert "trimmed median 4.0, worst 6.0 %" in drawn["dies"].caption
    assert "must not exceed 5 %" in drawn["dies"].caption
    assert "untrimmed: 1 of 3 reach the limit" in (drawn["dies"].svg or "")
    assert "trimmed: 2 of 3 reach the limit" in (drawn["dies"].svg or "")
    assert "2.94" in (drawn["ladder"].svg or "")
    assert "answers" not in {d.name for d in draw_figures(sample_figures())}
    missing = {d.name: d.caption for d in draw_figures(ReportFigures(missing={"answers": "no equilibrium"}))}
    assert missing["answers"] == "no equilibrium"


@pytest.mark.parametrize(("corners", "checks", "shapes"), [
    (5, 28, [(5, 28)]), (45, 28, [(10, 45), (9, 45), (9, 45)]), (12, 30, [(6, 30), (6, 30)]), (3, 3, [(3, 3)]),
])  # fmt: skip
def test_the_corner_map_fits_a_sheet_and_loses_nothing(
    corners: int, checks: int, shapes: list[tuple[int, int]]
) -> None:
    values = {f"c{k}": None if k == 1 else 0.1 * k for k in range(corners)}
    told = [check(id=f"a.{k}", max=1.0, by_corner=values) for k in range(checks)]
    maps = corner_maps([*told, check(id="a.typical", by_corner={"c0": 1.0}), check(id="a.none")])
    assert [(len(part.columns), len(part.rows)) for part in maps] == shapes
    cells = [cell for part in maps for _, row in part.rows for cell in row]
    assert len(cells) == corners * checks
    tones = Counter(cell.tone for cell in cells)
    assert tones["fail"] == checks * (1 + sum(0.1 * k > 1.0 for k in range(corners)))
    assert Counter(cell.text for cell in cells)["failed"] == checks
    assert all(len(row) == len(part.columns) for part in maps for _, row in part.rows)
    assert corner_maps([]) == ()


def test_sections_carry_their_drawing_and_what_to_fix_comes_last() -> None:
    sections = tuple(Section(name, f"About {name}", "", ("a",), (("1",),)) for name in ("attribution", "starts"))
    drawings = [
        Drawing("attribution", "Costs", "<svg></svg>", "bars"),
        Drawing("own", "A figure", "<svg></svg>", "dots"),
    ]
    text = render_html(replace(sample_report(), sections=sections), ReportFigures(), drawings)
    order = [text.index(piece) for piece in (
        '<h2 id="figures">', "dots</figcaption>", ">About starts</h2>", '<h2 id="replay">', ">About attribution</h2>",
        "bars</figcaption>", '<h2 id="provenance">',
    )]  # fmt: skip
    assert order == sorted(order)
    assert text.count("bars</figcaption>") == 1


def test_yield_curve_says_how_many_dies_are_needed() -> None:
    drawn = {d.name: d for d in draw_figures(ReportFigures(yields=YieldCurve(np.ones(30, dtype=bool), 95.0, 0.95)))}
    caption = drawn["yields"].caption
    assert "30 of 30 dies pass" in caption
    assert "bound 90.50 %" in caption  # 0.05 ** (1 / 30)
    assert "With 0 failing, 59 dies are needed." in caption
    assert "if no further die fails" in (drawn["yields"].svg or "")
    passes = np.arange(100) != 4
    drawn = {d.name: d for d in draw_figures(ReportFigures(yields=YieldCurve(passes, 95.0, 0.95)))}
    assert "With 1 failing, 93 dies are needed." in drawn["yields"].caption
    assert "if no further die fails" not in (drawn["yields"].svg or "")
    assert "yields" not in {d.name for d in draw_figures(ReportFigures())}


def check(**changes: object) -> Check:
    row = Check("a.b", "q", "%", 99.0, None, None, 10, None, "pass", None, "", "error", "value")
    return replace(row, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "used"),
    [({"max": 0.5, "margin": 0.25}, 50), ({"min": 98.0, "margin": 1.0}, 50),
     ({"min": 0.9, "max": 1.1, "margin": 0.1}, 0),
     ({"max": 0.0, "margin": 0.0}, 0), ({"max": 0.0, "margin": -1.0, "status": "fail"}, 200),
     ({"max": 1.0, "margin": -0.5, "status": "fail"}, 150), ({"max": 1.0, "margin": 0.5, "status": "info"}, None),
     ({"max": 1.0, "margin": None, "status": "fail"}, None)],
)  # fmt: skip
def test_allowance_used(changes: dict[str, object], used: float | None) -> None:
    assert row_of(check(**changes)).used == (None if used is None else pytest.approx(used))


def test_row_texts_use_engineering_units() -> None:
    row = row_of(check(unit="s", value=4.56e-6, max=5e-6, margin=0.44e-6, interval=(4.1e-6, 4.9e-6)))
    assert (row.value, row.limit, row.margin, row.interval) == ("4.56 us", "≤ 5 us", "+440 ns", "4.1 to 4.9 us")
    assert row_of(check(unit="s", interval=(9e-7, 1.1e-6))).interval == "900 ns to 1.1 us"
    assert row_of(check(unit="", interval=(0.9, 1.1))).interval == "0.9 to 1.1"
