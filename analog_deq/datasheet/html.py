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

from analog_deq.datasheet.plots import DrawnFigure, draw_curves, draw_histogram
from analog_deq.datasheet.sheet import Datasheet
from analog_deq.records import OK
from analog_deq.units import engineering
from analog_deq.verify.report.schematics import draw_cell

MOST_HISTOGRAMS = 12
MOST_CORRELATIONS = 20
MOST_FAILURES = 100
WIDE = 1e-3
"""Smallest standard deviation over dies, relative to the largest value, that a histogram is drawn of."""
STILL = 1e-4
"""Change by a parameter, relative to the typical value (absolute in dB and degrees), that is shown as none."""


def write_datasheet(sheet: Datasheet, folder: Path) -> None:
    """``datasheet.html`` and ``datasheet.md`` in ``folder``."""
    (folder / "datasheet.html").write_text(render_html(sheet), encoding="utf-8")
    (folder / "datasheet.md").write_text(render_markdown(sheet), encoding="utf-8")


def quantity_lines(sheet: Datasheet) -> list[dict[str, Any]]:
    """One line per quantity and condition in the words of the page: typical, ends, worst corner, spread, status.

    The conditions of a quantity follow each other; ``again`` marks all but the first.
    """
    spread: dict[tuple[str, str], pd.Series] = {}
    if len(sheet.dies):
        spread = {(row["quantity"], row["at"]): row for _, row in sheet.dies.iterrows()}
    lines: list[dict[str, Any]] = []
    for _, rows in sheet.rows.groupby("quantity", sort=False):
        alike = len(rows) > 1 and rows["typical_status"].nunique() == 1 and not rows["n"].any()
        if alike and not rows["missed"].any():  # nothing is said of one condition that is not said of all
            rows = rows.head(1).assign(at=f"all {len(rows)} conditions")
        for k, (_, row) in enumerate(rows.iterrows()):
            unit, measured = row["unit"], bool(row["n"])
            missing = row["typical_status"] != OK
            sd, interval = _spread(spread.get((row["quantity"], row["at"])), unit)
            lines.append(
                {
                    "quantity": row["quantity"], "description": row["description"], "at": row["at"], "again": k > 0,
                    "typical": row["typical_status"] if missing else engineering(row["typical"], unit),
                    "kind": _kind(row["typical_status"]),
                    **{end: engineering(row[end], unit) if measured else "-" for end in ("low", "high", "worst")},
                    "worst_corner": row["worst_corner"] or "-", "measured": measured,
                    "sd": sd, "sd_interval": interval,
                    "missed": row["missed"] if measured else "",
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
    number, _, suffix = low.partition(" ")
    return sd, f"{number if high.endswith(f' {suffix}') else low} .. {high}"


def render_html(sheet: Datasheet) -> str:
    """The whole page as text: no script, no request to anywhere."""
    folder = resources.files("analog_deq.datasheet")
    report = resources.files("analog_deq.verify.report")
    style = [f.read_text(encoding="utf-8") for f in (report.joinpath("style.css"), folder.joinpath("datasheet.css"))]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    figures = [*draw_curves(sheet.curves, sheet.corners[0], sheet.cell.role), *_histograms(sheet)]
    return environment.from_string(folder.joinpath("datasheet.html.j2").read_text(encoding="utf-8")).render(
        style=Markup("".join(style)),
        cell=sheet.cell,
        contract=sheet.cell.contract,
        sheet=sheet,
        lines=quantity_lines(sheet),
        moved=moved_by(sheet),
        correlation=_correlation_lines(sheet),
        drawn=[m for m, p in sheet.cell.contract.mismatch.params.items() if p.largest > 0],
        failures=sheet.failures.head(MOST_FAILURES).to_dict("records"),
        schematic=Markup(draw_cell(sheet.cell.role, sheet.cell).svg or ""),
        figures=[{"title": f.title, "caption": f.caption, "svg": Markup(f.svg)} for f in figures],
    )


def _histograms(sheet: Datasheet) -> Iterator[DrawnFigure]:
    """The quantities that the dies spread most visibly, in datasheet order, each at the condition it shows most at."""
    if not len(sheet.dies):
        return
    told = sheet.rows.set_index(["quantity", "at"])
    dies = sheet.dies[np.isfinite(sheet.dies["sd"])]
    share = (dies["sd"] / dies[["low", "high"]].abs().max(axis=1)).sort_values(ascending=False, kind="stable")
    widest = dies.loc[share[share > WIDE].index].drop_duplicates("quantity").head(MOST_HISTOGRAMS)
    for _, row in widest.sort_index().iterrows():
        key = (row["quantity"], row["at"])
        description = str(told["description"][key])
        title = f"{description[:1].upper()}{description[1:]}{', ' if row['at'] else ''}{row['at']}"
        name = f"{row['quantity']} {row['at']}".strip()
        values = sheet.values[key].dropna().to_numpy()
        yield draw_histogram(title, name, row["unit"], values, float(told["typical"][key]))


def moved_by(sheet: Datasheet) -> dict[str, Any]:
    """What each parameter does: ``columns`` (name, step as text) and ``rows`` of changes by that step, with its share.

    The step is one sigma of a mismatch parameter, 1 % of any other one. A change too small to matter is a dot.
    """
    table = sheet.sensitivity
    if not len(table):
        return {}
    columns = []
    for name, part in table.groupby("parameter", sort=False):
        steps, unit = part["step"].unique(), part["parameter_unit"].iloc[0]
        step = engineering(steps[0], unit, 3) if len(steps) == 1 else "by level"
        columns.append({"name": name, "step": f"{'one sigma' if part['sigma'].notna().any() else '+1 %'}: {step}"})
    typical = sheet.rows.set_index(["quantity", "at"])["typical"].to_dict()
    rows: list[dict[str, Any]] = []
    for quantity, conditions in table[table["slope"].notna()].groupby("quantity", sort=False):
        for k, (at, part) in enumerate(conditions.groupby("at", sort=False)):
            changes = {row["parameter"]: _change(row, typical[quantity, at]) for _, row in part.iterrows()}
            cells = [changes.get(column["name"], _UNKNOWN) for column in columns]
            rows.append({"quantity": quantity, "at": at, "again": k > 0, "cells": cells})
    return {"columns": columns, "rows": rows}


_UNKNOWN = {"text": "-", "share": 0.0}


def _change(row: pd.Series, typical: float) -> dict[str, Any]:
    change = row["slope"] * row["step"]
    scale = 1.0 if row["unit"] in {"dB", "deg"} else abs(typical)
    text = "·" if abs(change) <= STILL * scale else engineering(change, row["unit"], 3)
    return {"text": text, "share": float(np.nan_to_num(row["share"]))}


def _correlation_lines(sheet: Datasheet) -> list[dict[str, str]]:
    """The strongest correlations between different quantities, of each pair at the conditions where it is strongest."""
    if not len(sheet.correlation):
        return []
    between = sheet.correlation[sheet.correlation["quantity_a"] != sheet.correlation["quantity_b"]]
    between = between.drop_duplicates(["quantity_a", "quantity_b"])
    return [
        {
            "a": f"{row['quantity_a']} {row['at_a']}".strip(), "b": f"{row['quantity_b']} {row['at_b']}".strip(),
            "r": f"{row['r']:+.2f}", "interval": f"{row['r_low']:+.2f} .. {row['r_high']:+.2f}", "n": str(row["n"]),
        }
        for _, row in between.head(MOST_CORRELATIONS).iterrows()
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
