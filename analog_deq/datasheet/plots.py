"""Figures of a datasheet: each curve at every corner, the typical one bold; histograms over dies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from analog_deq.verify.report.svg import INK, PROXY, SPICE, house_style, new_figure, to_svg

AXES: dict[str, tuple[str, str, str]] = {
    "open_loop_gain_db": ("open-loop gain", "frequency (Hz)", "gain (dB)"),
    "open_loop_phase_deg": ("open-loop phase", "frequency (Hz)", "phase (deg)"),
}
"""Title and axis labels of a curve; units in parentheses, SI, so that the axis can show prefixes."""

LOG_SPAN = 3.0
"""Decades of a positive axis beyond which it is logarithmic."""


@dataclass(frozen=True, slots=True)
class DrawnCurve:
    """A figure ready for a page."""

    title: str
    svg: str
    caption: str


def draw_curves(curves: pd.DataFrame, typical: str) -> list[DrawnCurve]:
    """One figure a curve name and condition, in the order measured: every corner thin, ``typical`` bold."""
    drawn = []
    for (name, at), rows in curves.groupby(["curve", "at"], sort=False):
        drawn.append(_draw_curve(str(name), str(at), rows, typical))
    return drawn


@house_style
def _draw_curve(name: str, at: str, rows: pd.DataFrame, typical: str) -> DrawnCurve:
    title, x_label, y_label = AXES.get(name, (name.replace("_", " "), "", ""))
    figure, (axes,) = new_figure(2.9)
    corners = list(dict.fromkeys(rows["corner"]))
    for corner in sorted(corners, key=lambda c: c == typical):
        part = rows[rows["corner"] == corner]
        style = (SPICE, 1.9, 1.0) if corner == typical else (INK, 0.7, 0.35)
        axes.plot(part["x"], part["y"], color=style[0], linewidth=style[1], alpha=style[2])
    _scale(axes, "x", rows["x"].to_numpy(float), x_label)
    _scale(axes, "y", rows["y"].to_numpy(float), y_label)
    others = f"; thin lines: the other {len(corners) - 1} corners" if len(corners) > 1 else ""
    where = f" at {at}" if at else ""
    caption = f"{title}{where}, corner {typical}{others}."
    return DrawnCurve(f"{title}{where}", to_svg(figure, _identifier(name, at), caption), caption)


@house_style
def draw_histogram(label: str, unit: str, values: np.ndarray, nominal: float) -> DrawnCurve:
    """Histogram of one quantity over dies, with the nominal value."""
    figure, (axes,) = new_figure(2.4)
    axes.hist(values, bins=min(40, max(8, round(np.sqrt(len(values))))), color=SPICE, alpha=0.75)
    if np.isfinite(nominal):
        axes.axvline(nominal, color=PROXY, linewidth=1.4)
    axes.set_ylabel("dies")
    axes.xaxis.set_major_formatter(EngFormatter(unit if unit not in {"dB", "deg", "%", "1"} else ""))
    axes.set_xlabel(f"{label} ({unit})" if unit in {"dB", "deg", "%"} else label)
    caption = f"{label} over {len(values)} dies; the line is the nominal cell."
    return DrawnCurve(f"{label}, {len(values)} dies", to_svg(figure, _identifier("hist", label), caption), caption)


def _scale(axes: Axes, which: str, values: np.ndarray, label: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    positive = values[values > 0]
    logarithmic = len(positive) == len(values) and np.log10(values.max() / values.min()) > LOG_SPAN
    (axes.set_xscale if which == "x" else axes.set_yscale)("log" if logarithmic else "linear")
    unit = label[label.rfind("(") + 1 : -1] if label.endswith(")") else ""
    prefixed = unit not in {"", "dB", "deg", "%", "degC", "1"}
    if not logarithmic or prefixed:
        axis.set_major_formatter(EngFormatter(unit if prefixed else ""))
    axis.set_label_text(label[: label.rfind("(")].strip() if prefixed else label)


def _identifier(name: str, at: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in f"{name}-{at}").strip("-").lower()
