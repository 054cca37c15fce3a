"""The datasheet as one offline HTML page and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from analog_deq.characterise.statistics import varies
from analog_deq.datasheet.plots import DrawnCurve, draw_curves, draw_histogram
from analog_deq.datasheet.sheet import Datasheet
from analog_deq.records import OK
from analog_deq.units import engineering

MOST_HISTOGRAMS = 12
MOST_SENSITIVITIES = 40
MOST_CORRELATIONS = 30


def write_datasheet(sheet: Datasheet, folder: Path) -> None:
    """``datasheet.html`` and ``datasheet.md`` in ``folder``."""
    (folder / "datasheet.html").write_text(render_html(sheet), encoding="utf-8")
    (folder / "datasheet.md").write_text(render_markdown(sheet), encoding="utf-8")


def quantity_lines(sheet: Datasheet) -> list[dict[str, Any]]:
    """One line per quantity and condition in the words of the page: typical, ends, worst corner, spread, status."""
    spread: dict[tuple[str, str], pd.Series] = {}
    if len(sheet.dies):
        spread = {(row["quantity"], row["at"]): row for _, row in sheet.dies.iterrows()}
    lines = []
    for _, row in sheet.rows.iterrows():
        unit = row["unit"]
        die = spread.get((row["quantity"], row["at"]))
        missing = row["typical_status"] != OK
        sd, interval = _spread(die, unit)
        lines.append(
            {
                "quantity": row["quantity"], "description": row["description"], "at": row["at"],
                "typical": row["typical_status"] if missing else engineering(row["typical"], unit),
                "kind": _kind(row["typical_status"]),
                "low": engineering(row["low"], unit) if row["n"] else "-",
                "high": engineering(row["high"], unit) if row["n"] else "-",
                "worst": engineering(row["worst"], unit) if row["n"] else "-",
                "worst_corner": row["worst_corner"] or "-", "measured": bool(row["n"]),
                "sd": sd, "sd_interval": interval,
                "missed": row["missed"] if row["n"] and row["missed"] else "",
            }
        )  # fmt: skip
    return lines


def _kind(status: str) -> str:
    return {"ok": "pass", "not modelled": "info", "undefined": "inconclusive"}.get(status.split(":")[0], "fail")


def _spread(die: pd.Series | None, unit: str) -> tuple[str, str]:
    """Standard deviation over dies and its 95 % interval, as text; why there is none, and nothing."""
    if die is None or not die["n"]:
        return "", ""
    if not np.isfinite(die["sd"]):
        return "none", ""
    sd, low, high = (engineering(float(die[name]), unit, 3) for name in ("sd", "sd_low", "sd_high"))
    return sd, f"{low} .. {high}"


def render_html(sheet: Datasheet) -> str:
    """The whole page as text: no script, no request to anywhere."""
    folder = resources.files("analog_deq.datasheet")
    style = resources.files("analog_deq.verify.report").joinpath("style.css").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    figures = [*draw_curves(sheet.curves, sheet.corners[0]), *_histograms(sheet)]
    return environment.from_string(folder.joinpath("datasheet.html.j2").read_text(encoding="utf-8")).render(
        style=Markup(style),
        cell=sheet.cell,
        contract=sheet.cell.contract,
        sheet=sheet,
        lines=quantity_lines(sheet),
        sensitivity=_sensitivity_lines(sheet),
        correlation=_correlation_lines(sheet),
        figures=[{"title": f.title, "caption": f.caption, "svg": Markup(f.svg)} for f in figures],
    )


def _histograms(sheet: Datasheet) -> Iterator[DrawnCurve]:
    if not len(sheet.dies):
        return
    nominal = sheet.rows.set_index(["quantity", "at"])["typical"]
    chosen = sheet.dies[np.isfinite(sheet.dies["sd"])].head(MOST_HISTOGRAMS)
    for _, row in chosen.iterrows():
        key = (row["quantity"], row["at"])
        values = sheet.values[key].dropna()
        if varies(values):
            label = f"{row['quantity']} {row['at']}".strip()
            yield draw_histogram(label, row["unit"], values.to_numpy(), float(nominal[key]))


def _sensitivity_lines(sheet: Datasheet) -> list[dict[str, str]]:
    if not len(sheet.sensitivity):
        return []
    table = sheet.sensitivity[np.isfinite(sheet.sensitivity["share"]) & (sheet.sensitivity["share"] >= 0.01)]
    return [
        {
            "quantity": f"{row['quantity']} {row['at']}".strip(), "parameter": row["parameter"],
            "slope": f"{row['slope']:.4g} {row['slope_unit']}", "effect": engineering(row["effect"], row["unit"]),
            "share": f"{100 * row['share']:.0f} %",
        }
        for _, row in table.head(MOST_SENSITIVITIES).iterrows()
    ]  # fmt: skip


def _correlation_lines(sheet: Datasheet) -> list[dict[str, str]]:
    return [
        {
            "a": f"{row['quantity_a']} {row['at_a']}".strip(), "b": f"{row['quantity_b']} {row['at_b']}".strip(),
            "r": f"{row['r']:+.2f}", "interval": f"{row['r_low']:+.2f} .. {row['r_high']:+.2f}", "n": str(row["n"]),
        }
        for _, row in sheet.correlation.head(MOST_CORRELATIONS).iterrows()
    ]  # fmt: skip


def render_markdown(sheet: Datasheet) -> str:
    """The table of quantities as Markdown, for a repository or a review."""
    cell = sheet.cell.contract.cell
    columns = ("quantity", "at", "typical", "low", "high", "worst_corner", "sd", "sd_interval")
    counts = f"{len(sheet.corners)} corners, {sheet.die_count} dies"
    head = [f"# {cell.name} ({cell.role})", "", cell.description, "", f"{sheet.simulator}; {counts}.", ""]
    head += [f"| {' | '.join(columns).replace('_', ' ')} |", "|---" * len(columns) + "|"]
    rows = [f"| {' | '.join(line[column] for column in columns)} |" for line in quantity_lines(sheet)]
    return "\n".join([*head, *rows]) + "\n"
