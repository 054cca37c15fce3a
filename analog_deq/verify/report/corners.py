"""Values over corners as the page shows them: a sparkline a row, and the map of corner against check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from analog_deq.units import engineering
from analog_deq.verify.report.rows import allowance_used
from analog_deq.verify.verdict import Check

WIDTH, HEIGHT, EDGE = 108.0, 26.0, 4.0
MOST_COLUMNS = 10
CLOSE = 80.0
"""Per cent of the allowance from which a cell of the map is marked as close to its limit."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One corner of one check: its value as text, and ``pass``, ``close``, ``fail`` or ``none`` (nothing to judge)."""

    text: str
    tone: str


@dataclass(frozen=True, slots=True)
class CornerMap:
    """Part of the map of corner against check: names of its ``columns``, and rows of a name and its cells."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def corner_maps(checks: Sequence[Check]) -> tuple[CornerMap, ...]:
    """The map over every check with values at more than one corner, in parts that fit a sheet of paper.

    Whichever are fewer, corners or checks, stand side by side, ``MOST_COLUMNS`` in a part.

    >>> seen = {"tt": 1.0, "ss": 3.0}
    >>> row = Check("a", "", "V", 1.0, None, 2.0, 1, None, "pass", 1.0, "", "error", "each", by_corner=seen)
    >>> [(m.columns, m.rows[0][0], [cell.tone for cell in m.rows[0][1]]) for m in corner_maps([row])]
    [(('a',), 'tt', ['pass'])]
    """
    told = [check for check in checks if len(check.by_corner) > 1]
    names = list(dict.fromkeys(name for check in told for name in check.by_corner))
    cells = {(name, check.id): _cell(check, name) for name in names for check in told}
    ids = [check.id for check in told]
    if len(names) < len(ids):
        return tuple(
            CornerMap(tuple(part), tuple((i, tuple(cells[name, i] for name in part)) for i in ids))
            for part in _parts(names)
        )
    return tuple(
        CornerMap(tuple(part), tuple((name, tuple(cells[name, i] for i in part)) for name in names))
        for part in _parts(ids)
    )


def _parts(names: list[str]) -> list[list[str]]:
    """``names`` in parts of nearly equal length."""
    count = -(-len(names) // MOST_COLUMNS)
    return [list(part) for part in np.array_split(np.array(names, dtype=object), count)] if count else []


def tone_at(check: Check, value: float | None) -> str:
    """What the value of a check at one corner is: ``pass``, ``close``, ``fail``, or ``none`` where none is judged."""
    if value is None:
        return "fail"
    margins = [value - check.min] if check.min is not None else []
    margins += [check.max - value] if check.max is not None else []
    if not margins:
        return "none"
    if min(margins) < 0:
        return "fail"
    used = allowance_used(check, min(margins))
    return "close" if used is not None and used >= CLOSE else "pass"


def sparkline(check: Check) -> str:
    """The values over corners as one small ``<svg>``, limits dashed, failed and worst marked; empty below two corners.

    >>> row = Check("a", "", "V", 1.0, None, 2.0, 1, None, "pass", 1.0, "", "error", "each", by_corner={"tt": 1.0})
    >>> sparkline(row)
    ''
    """
    if len(check.by_corner) < 2:
        return ""
    values = [np.nan if v is None else v for v in check.by_corner.values()]
    limits = [limit for limit in (check.min, check.max) if limit is not None]
    low, high = _sight(values, limits)
    x = np.linspace(EDGE, WIDTH - EDGE, len(values))
    y = _heights(values, low, high)
    parts = [f'<svg class="spark" role="img" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" aria-label="{_said(check)}">']
    seen = [limit for limit in limits if low <= limit <= high]
    parts += [
        f'<line class="limit" x1="0" x2="{WIDTH:g}" y1="{level:.1f}" y2="{level:.1f}"/>'
        for level in _heights(seen, low, high)
    ]
    run: list[str] = []
    for px, py in zip(x, y, strict=True):
        if np.isfinite(py):
            run.append(f"{px:.1f},{py:.1f}")
            continue
        parts.append(_line(run))
        run = []
    parts.append(_line(run))
    for (name, value), px, py in zip(check.by_corner.items(), x, y, strict=True):
        if value is None:
            cross = f"M{px - 2.5:.1f} {HEIGHT - 7:g}l5 5m0 -5l-5 5"
            parts.append(f'<path class="lost" d="{cross}"/>')
        elif name == check.worst_corner or tone_at(check, value) == "fail":
            parts.append(f'<circle class="{tone_at(check, value)}" cx="{px:.1f}" cy="{py:.1f}" r="2.6"/>')
    return "".join([*parts, "</svg>"])


def _cell(check: Check, corner: str) -> Cell:
    if corner not in check.by_corner:
        return Cell("", "none")
    value = check.by_corner[corner]
    return Cell("failed" if value is None else engineering(value, check.unit, 3), tone_at(check, value))


def _sight(values: Sequence[float], limits: Sequence[float]) -> tuple[float, float]:
    """Ends of the vertical axis: the values, and each limit within three spans of them."""
    finite = [value for value in values if np.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    span = high - low or abs(high) or 1.0
    seen = [limit for limit in limits if low - 3 * span <= limit <= high + 3 * span]
    low, high = min([low, *seen]), max([high, *seen])
    return (low, high) if high > low else (low - span / 2, high + span / 2)


def _heights(values: Sequence[float], low: float, high: float) -> np.ndarray:
    return HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * (np.asarray(values, dtype=float) - low) / (high - low)


def _line(points: Sequence[str]) -> str:
    return f'<polyline class="line" points="{" ".join(points)}"/>' if len(points) > 1 else ""


def _said(check: Check) -> str:
    """What a screen reader says: how many corners, and the ends."""
    known: Mapping[str, float] = {name: v for name, v in check.by_corner.items() if v is not None}
    text = f"{len(check.by_corner)} corners"
    if known:
        low, high = min(known, key=lambda k: known[k]), max(known, key=lambda k: known[k])
        text += f", {engineering(known[low], check.unit)} at {low} to {engineering(known[high], check.unit)} at {high}"
    lost = len(check.by_corner) - len(known)
    return escape(text + (f", {lost} without a value" if lost else ""), quote=True)
