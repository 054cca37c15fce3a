"""A schemdraw drawing as inline SVG that follows the page: its text colour, its font, its own natural width at most."""

from __future__ import annotations

import re
from html import escape
from typing import Any

import schemdraw
import schemdraw.elements
import schemdraw.flow

elm: Any = schemdraw.elements
flow: Any = schemdraw.flow
"""Untyped: schemdraw's chained placing methods are declared on a base class that lacks the next ones."""

UNIT = 2.2
SCALE = 1.25
"""Pixels of the page a point of the drawing takes at most."""
EDGE = 12.0
_INK = "#010203"


def sheet() -> Any:
    """An empty drawing in the house style, drawn by schemdraw's own SVG writer (no matplotlib, no window)."""
    drawing = schemdraw.Drawing(show=False, canvas="svg")
    drawing.config(color=_INK, fontsize=11, lw=1.3, unit=UNIT, font="sans-serif")
    return drawing


def to_svg(drawing: Any, label: str) -> str:
    """``drawing`` as one ``<svg>`` element without ids, in ``currentColor``; ``label`` is what a screen reader says."""
    text = drawing.get_imagedata("svg").decode("utf-8")
    text = text[text.index("<svg") :]
    opening, rest = text.split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', opening)
    assert box is not None, "schemdraw writes a viewBox"
    x, y, width, height = (float(number) for number in box[1].split())
    seen = (x - EDGE, y - EDGE / 2, width + 2 * EDGE, height + EDGE)  # the page's font may be wider than schemdraw's
    rest = re.sub(r' font-family="[^"]*"', "", rest).replace("stroke-dasharray:-;", "").replace(_INK, "currentColor")
    rest = rest.replace("fill:white", "fill:var(--card, white)")
    rest = re.sub(r"(\.\d\d)\d+", r"\1", rest)
    style = f"max-width: {SCALE * seen[2]:.0f}px"
    numbers = " ".join(f"{number:.1f}" for number in seen)
    opening = f'<svg role="img" aria-label="{escape(label, quote=True)}" viewBox="{numbers}" style="{style}"'
    return f"{opening}>{rest.strip()}"
