"""The datasheet of a synthetic campaign whose answers are known: its lines, its page, what a terminal shows of it."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import measured, requests_of
from rich.console import Console
from scipy.stats import chi2

import analog_deq.characterise.measurements as measurements
from analog_deq.cell_console import render_datasheet
from analog_deq.characterise.measurement import Quantity
from analog_deq.characterise.measurements.rejection import PORTS
from analog_deq.characterise.registry import MEASUREMENTS
from analog_deq.characterise.sensitivity import COLUMNS as SLOPES
from analog_deq.command import _jsonable
from analog_deq.datasheet.axes import AXES
from analog_deq.datasheet.html import moved_by, quantity_lines, render_html, render_markdown
from analog_deq.datasheet.plots import draw_curves
from analog_deq.datasheet.sheet import Datasheet, make_datasheet
from analog_deq.netlists.library import load_cell
from analog_deq.pipeline.characterise import CharacteriseResult
from analog_deq.units import engineering

CORNERS = ("tt_27C_1p8V", "ss_125C_1p62V", "ff_m40C_1p98V")
DIES = 40
OFFSETS = 1e-3 * np.random.default_rng(3).standard_normal(DIES)
KNOWN: dict[str, Quantity] = {q.id: q for m in MEASUREMENTS if "opamp" in m.roles for q in m.quantities}


def row(
    quantity: str, value: float, corner: str = CORNERS[0], at: str = "", variant: str = "nominal", **more: Any
) -> dict:
    given = {"die": -1, "status": "ok", "deck": "0123456789ab", "measurement": "static", **more}
    return {
        "quantity": quantity, "at": at, "value": value, "unit": KNOWN[quantity].unit, "corner": corner,
        "process": "tt", "variant": variant, **given,
    }  # fmt: skip


def quantities() -> pd.DataFrame:
    """GBW falls in the slow corner, the static measurement fails in the fast one; settling has two conditions."""
    rows = []
    for k, corner in enumerate(CORNERS):
        rows += [row("gbw", (200e6, 150e6, 250e6)[k], corner, measurement="open_loop")]
        rows += [row("noise_corner", math.nan, corner, status="not modelled: the noise is white", measurement="noise")]
        for at, scale in (("step=10mV", 1.0), ("step=1V", 2.0)):
            rows += [row("settle_0p1", scale * (10e-9, 14e-9, 8e-9)[k], corner, at, measurement="settling")]
            rows += [row("overshoot", scale * (0.05, 0.08, 0.04)[k], corner, at, measurement="settling")]
        failed = {"status": "convergence: no converged solution: <Timestep & small>", "deck": "feedbeefcafe.failed"}
        rows += [
            row(name, value, corner, **({} if k < 2 else failed))
            for name, value in (("offset", (2e-6, 4e-6, math.nan)[k]), ("supply_power", (7e-4, 6e-4, math.nan)[k]))
        ]
    for name, slope in (("offset", 1.0), ("supply_power", 0.0), ("gbw", 1e8)):
        nominal = next(r["value"] for r in rows if r["quantity"] == name)
        rows += [row(name, nominal + slope * v, variant="die", die=k) for k, v in enumerate(OFFSETS)]
        rows += [row(name, nominal + sign * slope * 1e-3, variant=f"vos{s}") for s, sign in (("+", 1), ("-", -1))]
        bias = {"offset": 0.0, "supply_power": 7e-4, "gbw": 100e6}[name]
        rows += [row(name, nominal + sign * 0.01 * bias, variant=f"ib{s}") for s, sign in (("+", 1), ("-", -1))]
    return pd.DataFrame(rows)


def curves(points: int = 40, corners: tuple[str, ...] = CORNERS) -> pd.DataFrame:
    f = np.logspace(0, 9, points)
    frames = []
    for k, corner in enumerate(corners):
        frames.append(pd.DataFrame({"curve": "open_loop_gain_db", "at": "", "x": f, "y": 80 + k - 5 * np.log(f)}))
        for state, ohm in (("open", 1e4), ("closed", 1.0)):
            y = ohm * (1 + k) / np.sqrt(1 + (f / 1e6) ** 2)
            frames.append(pd.DataFrame({"curve": "output_impedance", "at": state, "x": f, "y": y}))
        for k in range(3):
            frames[-1 - k]["corner"] = corner
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def sheet() -> Datasheet:
    tables = {"quantities": quantities(), "curves": curves()}
    return make_datasheet(load_cell("opamp_2stage"), tables, simulator="ngspice 46 (KLU)")


@pytest.fixture(scope="module")
def page(sheet: Datasheet) -> str:
    return render_html(sheet)


# --- lines ----------------------------------------------------------------------------------------------------------


def line(sheet: Datasheet, quantity: str, at: str = "") -> dict[str, Any]:
    (found,) = [x for x in quantity_lines(sheet) if (x["quantity"], x["at"]) == (quantity, at)]
    return found


def test_ends_and_the_worst_corner_by_name(sheet: Datasheet) -> None:
    gbw = line(sheet, "gbw")
    assert (gbw["typical"], gbw["low"], gbw["high"]) == ("200 MHz", "150 MHz", "250 MHz")
    assert (gbw["worst"], gbw["worst_corner"]) == ("150 MHz", "ss_125C_1p62V"), "a small bandwidth is the bad one"
    settling = line(sheet, "settle_0p1", "step=1V")
    assert (settling["worst"], settling["worst_corner"]) == ("28 ns", "ss_125C_1p62V"), "a long settling is"


def test_conditions_of_a_quantity_follow_each_other(sheet: Datasheet) -> None:
    names = [x["quantity"] for x in quantity_lines(sheet)]
    assert len(list(dict.fromkeys(names))) == len([k for k, n in enumerate(names) if k == 0 or names[k - 1] != n])
    assert [x["again"] for x in quantity_lines(sheet) if x["quantity"] == "settle_0p1"] == [False, True]


def test_what_has_no_value_says_why_and_is_no_number(sheet: Datasheet) -> None:
    corner = line(sheet, "noise_corner")
    assert (corner["kind"], corner["typical"]) == ("info", "not modelled: the noise is white")
    assert (corner["low"], corner["high"], corner["worst_corner"], corner["measured"]) == ("-", "-", "-", False)
    assert line(sheet, "offset")["missed"] == "ff_m40C_1p98V"


def test_spread_over_dies_with_its_interval(sheet: Datasheet) -> None:
    offset, sd = line(sheet, "offset"), float(np.std(OFFSETS, ddof=1))
    assert offset["sd"] == engineering(sd, "V", 3)
    low, high = (sd * math.sqrt((DIES - 1) / chi2.ppf(p, DIES - 1)) for p in (0.975, 0.025))
    assert offset["sd_interval"] == f"{engineering(low, 'V', 3).removesuffix(' mV')} .. {engineering(high, 'V', 3)}"
    assert (line(sheet, "supply_power")["sd"], line(sheet, "supply_power")["sd_interval"]) == ("none", "")


def test_failures_are_one_row_a_copy_and_name_folder_and_row(sheet: Datasheet) -> None:
    (failure,) = sheet.failures.to_dict("records")
    assert (failure["measurement"], failure["corner"], failure["variant"]) == ("static", "ff_m40C_1p98V", "nominal")
    assert failure["deck"] == "feedbeefcafe.failed"
    assert quantities().iloc[failure["row"]]["status"] == failure["status"]


def test_what_a_parameter_does_is_its_slope_times_its_step(sheet: Datasheet) -> None:
    """vos moves the offset by itself, ib the supply power by its own share; what does not move is a dot."""
    found = moved_by(sheet)
    places = {column["name"]: k for k, column in enumerate(found["columns"])}
    assert found["columns"][places["vos"]]["step"] == "one sigma: 1 mV"
    assert found["columns"][places["ib"]]["step"] == "+1 %: 250 nA"
    cells = {r["quantity"]: r["cells"] for r in found["rows"]}
    assert cells["offset"][places["vos"]] == {"text": "1 mV", "share": 1.0}
    assert cells["offset"][places["ib"]]["text"] == "·"
    assert cells["supply_power"][places["ib"]]["text"] == "7 uW"
    assert cells["gbw"][places["ib"]]["text"] == "1 MHz"
    assert set(SLOPES) <= set(sheet.sensitivity.columns)


def test_the_record_is_strict_json(sheet: Datasheet) -> None:
    record = json.loads(json.dumps(_jsonable(sheet.record()), allow_nan=False))
    assert set(record) == {
        "cell", "role", "description", "source", "validity", "sha256", "simulator", "corners", "mismatch", "dies",
        "quantities", "over_dies", "sensitivity", "correlation", "failures",
    }  # fmt: skip
    noise = next(q for q in record["quantities"] if q["quantity"] == "noise_corner")
    assert noise["typical"] is None
    assert noise["typical_status"].startswith("not modelled")


def test_a_cell_is_called_as_its_user_calls_it(sheet: Datasheet, tmp_path: Path) -> None:
    assert sheet.call == "opamp_2stage"
    for suffix in ("cir", "toml"):
        source = Path(sheet.cell.source).with_suffix(f".{suffix}")
        shutil.copy(source, tmp_path / source.name)
    own = make_datasheet(
        load_cell(str(tmp_path / "opamp_2stage.toml")), {"quantities": quantities(), "curves": curves()}, simulator="x"
    )
    assert own.call == str(tmp_path / "opamp_2stage.toml")


# --- the page -------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Ids, tags, text, and all that could make a browser ask for another file."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.tags: Counter[str] = Counter()
        self.requests: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        given = dict(attrs)
        self.ids.update([given["id"]] if given.get("id") else [])
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            if name in given and not (given[name] or "").startswith("#"):
                self.requests.append(f"{tag} {name}={given[name]}")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_is_one_file_that_asks_for_nothing(page: str) -> None:
    parsed = Page(page)
    assert parsed.requests == []
    assert not {"script", "link", "iframe", "img", "object", "embed"} & set(parsed.tags)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert [name for name, n in parsed.ids.items() if n > 1] == []


def test_the_page_says_what_was_measured_and_what_failed(page: str, sheet: Datasheet) -> None:
    text = " ".join(" ".join(Page(page).words).split())
    for quantity in sheet.rows["quantity"].unique():
        assert KNOWN[quantity].description in text
    for words in ("3 corners, 40 dies at tt_27C_1p8V", "1 simulation failed", "no value at ff_m40C_1p98V",
                  "convergence: no converged solution: <Timestep & small>", "feedbeefcafe.failed",
                  "replay quantities.parquet --cell opamp_2stage", "Dies differ in vos alone"):  # fmt: skip
        assert words in text, words
    assert "convergence: no converged solution: &lt;Timestep" in page, "what a netlist made ngspice say is only text"


def test_a_status_is_never_shown_as_a_number(page: str) -> None:
    cells = re.search(r"noise_corner</span>.*?</tr>", page, re.DOTALL)
    assert cells is not None
    assert re.findall(r"\d", re.sub(r"<[^>]*>", "", cells[0])) == []


def test_a_cell_without_dies_or_moved_parameters_has_no_such_sections() -> None:
    table = quantities()
    tables = {"quantities": table[table["variant"] == "nominal"], "curves": curves().head(0)}
    text = render_html(make_datasheet(load_cell("opamp_2stage"), tables, simulator="x"))
    for words in ("sd over dies", "What each parameter does", "What moves together", "<figure>"):
        assert words not in text


def test_a_single_corner_is_not_called_typical_unless_it_is() -> None:
    table = quantities()
    tables = {"quantities": table[table["corner"] == CORNERS[1]], "curves": curves().head(0)}
    sheet = make_datasheet(load_cell("opamp_2stage"), tables, simulator="x")
    assert sheet.first == "ss_125C_1p62V"
    assert "ypical" not in render_html(sheet)
    assert "typical" not in shown(sheet, 140)
    assert "ss_125C_1p62V" in shown(sheet, 140)


def test_markdown_has_a_row_a_line(sheet: Datasheet) -> None:
    rows = [x for x in render_markdown(sheet).splitlines() if x.startswith("|")]
    assert len(rows) == 2 + len(quantity_lines(sheet))
    assert len({x.count("|") for x in rows[:1] + rows[2:]}) == 1


# --- figures --------------------------------------------------------------------------------------------------------


def test_every_curve_of_every_measurement_has_title_and_axes() -> None:
    folder = Path(measurements.__path__[0])
    text = "\n".join(path.read_text() for path in sorted(folder.glob("*.py")))
    names = set(re.findall(r'\bCurve\(\s*"(\w+)"', text)) | set(re.findall(r'\("(\w+_noise_density)", plots', text))
    names |= {f"{port}_db" for port in PORTS}
    assert len(names) >= 18
    assert names <= {name.split()[-1] for name in AXES}, "name it in datasheet/axes.py"
    assert text.count("Curve(") - text.count("-> list[Curve]") <= len(names) + 4, "a curve whose name no test knows"


def test_conditions_share_a_figure_where_that_helps() -> None:
    figures = list(draw_curves(curves(), CORNERS[0], "opamp"))
    assert [f.title for f in figures] == ["Open-loop gain", "Output impedance"]
    assert figures[0].caption == "Corner tt_27C_1p8V; thin lines: the other 2 corners."
    assert all(state in figures[1].svg for state in ("open", "closed"))
    assert "10 kohm" in figures[1].svg, "a logarithmic axis with prefixes"
    assert re.search(r"\d(u|µ)V", figures[0].svg) is None


def test_forty_five_corners_stay_small() -> None:
    names = tuple(f"c{k}_27C" for k in range(45))
    figures = list(draw_curves(curves(points=3000, corners=names), names[0], "opamp"))
    assert sum(len(figure.svg) for figure in figures) < 250_000


# --- the terminal ---------------------------------------------------------------------------------------------------


def shown(sheet: Datasheet, width: int) -> str:
    console = Console(width=width, highlight=False, color_system=None)
    summary: dict[str, object] = {"copies": 100, "failed": 1, "ngspice_runs": 40, "runs_from_cache": 0}
    result = CharacteriseResult(sheet, {"tables": Path("runs/x")}, summary, False, 3.21, Path("runs/spice"), 3)
    with console.capture() as captured:
        render_datasheet(console, result)
    return captured.get()


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_no_width_cuts_a_number(width: int, sheet: Datasheet) -> None:
    text = shown(sheet, width)
    assert "…" not in text
    words = "".join(text.split())
    for line in quantity_lines(sheet):
        if line["measured"] and width >= 80:  # below, words are broken
            assert all(line[key].replace(" ", "") in words for key in ("quantity", "typical", "worst", "worst_corner"))
    table = text[: text.index("noise_corner: ")].rstrip("\n")
    assert max(map(len, table.splitlines())) <= width


def test_a_wide_terminal_has_a_line_a_condition(sheet: Datasheet) -> None:
    lines = [x for x in shown(sheet, 140).splitlines() if "step=" in x]
    assert len(lines) == 4
    assert all(x.split()[-1] for x in lines)
    assert "lowest" in shown(sheet, 140)


def test_a_failed_simulation_is_told_with_its_deck_and_row(sheet: Datasheet) -> None:
    text = shown(sheet, 140)
    row_number = sheet.failures["row"].iloc[0]
    assert "failed: static at ff_m40C_1p98V, nominal: convergence: no converged solution: <Timestep & small>" in text
    assert f"deck runs/spice/feedbeefcafe.failed/deck.cir; row {row_number} of the table" in text
    assert "offset, supply_power: no value at ff_m40C_1p98V" in text
    assert "noise_corner: not modelled: the noise is white" in text
    assert "3 corners, 40 dies; copies 100, failed 1" in text


def test_a_cell_that_fails_altogether_is_sent_to_check() -> None:
    broken = quantities().query("variant == 'nominal'").assign(value=math.nan, status="simulation: no model 'nfet'")
    text = shown(make_datasheet(load_cell("opamp_2stage"), {"quantities": broken, "curves": curves().head(0)},
                                simulator="x"), 100)  # fmt: skip
    assert "opamp_2stage: nothing could be measured" in text
    assert "`analog-deq check opamp_2stage` names the line and the mend" in text
    assert text.count("failed: ") == len(broken.drop_duplicates(["measurement", "corner"]))


# --- a real browser -------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_a_browser_shows_it_without_errors_and_without_requests(page: str, tmp_path: Path) -> None:
    path = tmp_path / "datasheet.html"
    path.write_text(page, encoding="utf-8")
    assert requests_of(path, tmp_path) == ("", set())


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1200])
def test_no_width_scrolls_sideways(width: int, page: str, tmp_path: Path) -> None:
    seen = measured(page, tmp_path, width=width)
    assert seen["wide"] <= seen["seen"] == width
    assert seen["loose"] == []
    assert all(wide <= box for wide, box in seen["quantities"]), "the table of quantities fits its box"
