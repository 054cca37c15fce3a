"""Figures of a datasheet: each curve at every corner, the typical one bold; histograms over dies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes as Plane
from matplotlib.axis import Axis
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator

from analog_deq.datasheet.axes import AXES, UNPREFIXED, CurveAxes
from analog_deq.verify.report.svg import BAD, GOOD, INK, PROXY, SPICE, house_style, new_figure, to_svg

COLOURS = (SPICE, PROXY, GOOD, BAD, "#8a63d2", "#8d7b2f", "#c45aa6", "#3d9aa8")
PLAIN = "plain"
"""What a condition without a name is called beside others."""
LOG_SPAN = 3.0
"""Decades of a positive x axis beyond which it is logarithmic."""
LONGEST = 1.3
"""A linear x axis ends at this times the typical corner's span, however long the windows of slower corners are."""
_COARSE = mpl.rc_context({"path.simplify_threshold": 0.25})  # of a point: forty-five corners stay some hundred kB


class _Prefixes(EngFormatter):
    ENG_PREFIXES = {**EngFormatter.ENG_PREFIXES, -6: "u"}  # noqa: RUF012 - matplotlib's own; the page is ASCII


@dataclass(frozen=True, slots=True)
class DrawnFigure:
    """A figure ready for a page."""

    title: str
    svg: str
    caption: str


def draw_curves(curves: pd.DataFrame, typical: str, role: str) -> Iterator[DrawnFigure]:
    """One figure a curve, in the order measured: every corner thin, the first one, ``typical``, bold.

    Conditions of a curve share a figure where :data:`AXES` says so.
    """
    for name, rows in curves.groupby("curve", sort=False):
        drawn = AXES.get(f"{role} {name}") or AXES[str(name)]
        if drawn.together:
            yield _draw_curve(str(name), "", drawn, rows, typical)
        else:
            for at, part in rows.groupby("at", sort=False):
                yield _draw_curve(str(name), str(at), drawn, part, typical)


@_COARSE
@house_style
def _draw_curve(name: str, at: str, drawn: CurveAxes, rows: pd.DataFrame, typical: str) -> DrawnFigure:
    figure, (plane,) = new_figure(2.9)
    conditions = list(dict.fromkeys(rows["at"]))
    for k, condition in enumerate(conditions):
        colour = COLOURS[k % len(COLOURS)]
        of_corner = dict(list(rows[rows["at"] == condition].groupby("corner", sort=False)))
        bold = of_corner.pop(typical, None)
        for part in of_corner.values():
            plane.plot(part["x"], part["y"], color=colour if len(conditions) > 1 else INK, linewidth=0.7, alpha=0.35)
        if bold is not None:
            plane.plot(bold["x"], bold["y"], color=colour, linewidth=1.9, label=condition or PLAIN)
    if len(conditions) > 1:
        plane.legend(fontsize=8)
    _scale_x(plane, rows, typical, drawn.x)
    _scale(plane, plane.yaxis, drawn.log_y and bool((rows["y"] > 0).all()), drawn.y)
    others = rows["corner"].nunique() - 1
    thin = (
        f"; thin lines: the other {others} corners" if others > 1 else "; thin line: the other corner" if others else ""
    )
    title = f"{drawn.title}, {at}" if at else drawn.title
    caption = f"Corner {typical}{thin}."
    return DrawnFigure(title, _small(to_svg(figure, _identifier(name, at), f"{title}. {caption}")), caption)


@house_style
def draw_histogram(title: str, name: str, unit: str, values: np.ndarray, nominal: float) -> DrawnFigure:
    """Histogram of one quantity over dies, with the nominal value. ``name`` labels the axis and the SVG's ids."""
    figure, (plane,) = new_figure(2.4)
    plane.hist(values, bins=min(40, max(8, round(np.sqrt(len(values))))), color=SPICE, alpha=0.75)
    if np.isfinite(nominal):
        plane.axvline(nominal, color=PROXY, linewidth=1.6)
    plane.set_ylabel("dies")
    plane.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    _scale(plane, plane.xaxis, False, (name, unit))
    caption = f"{len(values)} dies; the line is the nominal cell."
    return DrawnFigure(title, _small(to_svg(figure, _identifier("dies", name), f"{title}. {caption}")), caption)


def _scale_x(plane: Plane, rows: pd.DataFrame, typical: str, label: tuple[str, str]) -> None:
    x = rows["x"].to_numpy(float)
    logarithmic = bool(x.min() > 0 and np.log10(x.max() / x.min()) > LOG_SPAN)
    _scale(plane, plane.xaxis, logarithmic, label)
    own = rows.loc[rows["corner"] == typical, "x"].to_numpy(float)
    if len(own) and not logarithmic and x.max() > own.min() + LONGEST * np.ptp(own):
        plane.set_xlim(right=own.min() + LONGEST * np.ptp(own))


def _scale(plane: Plane, axis: Axis, logarithmic: bool, label: tuple[str, str]) -> None:
    text, unit = label
    prefixed = unit not in UNPREFIXED
    if logarithmic:
        (plane.set_xscale if axis is plane.xaxis else plane.set_yscale)("log")
        axis.set_major_locator(LogLocator(numticks=8))
        axis.set_minor_locator(LogLocator(subs=()))
    else:
        axis.set_major_locator(MaxNLocator(5))
    if prefixed or not logarithmic:
        axis.set_major_formatter(_Prefixes(unit if prefixed else ""))
    axis.set_label_text(text if prefixed or not unit else f"{text} ({unit})")


def _small(svg: str) -> str:
    """The SVG with its paths to a tenth of a point."""
    return re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]), svg)


def _identifier(name: str, at: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in f"{name}-{at}").strip("-").lower()
