"""Matplotlib figures as inline SVG that follow the page: its text colour, its font, its width, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Mid tones: at least 3:1 against both a white and a near-black page, and apart for the colour blind.
SPICE = "#2f81d8"
PROXY = "#d9691e"
GOOD = "#2a9463"
BAD = "#d64550"
_INK = "#010203"
"""Stands for the page's own text colour; replaced by ``currentColor`` in the SVG."""

INK = _INK
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "analog-deq",
    "font.family": ["sans-serif"],
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.grid": True,
    "grid.color": _INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.6,
    "figure.constrained_layout.use": True,
}


house_style = mpl.rc_context(_STYLE)  # type: ignore[arg-type]
"""Decorator of every function that draws: matplotlib reads the style while artists are made."""


def new_figure(
    height_in: float, heights: Sequence[float] = (1,), widths: Sequence[float] = (1,), *, share_x: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure and its axes, row by row. Uses no global pyplot state."""
    figure = Figure(figsize=(5.6, height_in))
    FigureCanvasSVG(figure)
    grid = figure.subplots(
        len(heights), len(widths), squeeze=False, sharex="col" if share_x else False,
        gridspec_kw={"height_ratios": list(heights), "width_ratios": list(widths)},
    )  # fmt: skip
    return figure, list(grid.ravel())


def to_svg(figure: Figure, name: str, label: str) -> str:
    """The figure as one ``<svg>`` element: every id starts with ``name``, ``label`` is what a screen reader says."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # A style element inside inline SVG applies to the whole page; its two rules go on the svg element instead.
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = text.replace("xlink:href", "href").replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    text = text.replace(_INK, "currentColor")
    text = re.sub(r"font-family: [^;\"]+;? ?", "", text)  # the font is the page's
    # The page sets the width; the viewBox keeps the shape.
    opening, rest = text.split(">", 1)
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)
    label = escape(label, quote=True)
    style = "stroke-linejoin: round; stroke-linecap: butt"
    return opening.replace("<svg", f'<svg role="img" aria-label="{label}" style="{style}"', 1) + ">" + rest.strip()
