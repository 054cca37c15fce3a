"""Binned models: which bins of a device its instances choose.

ngspice chooses a bin by comparing W per finger and L of an instance with ``wmin`` ... ``lmax`` of models called
``name.0``, ``name.1`` and so on, lower limit included. Every subcircuit instance expands all its models, so a hundred
transistors with 50 bins each are 5000 models; most are never chosen.
"""

from __future__ import annotations

import re

from analog_deq.errors import SpecError
from analog_deq.netlists.devices import Size, assignments, leading_words, literal
from analog_deq.netlists.model_library import Statement

_BIN = re.compile(r"(.+)\.\d+\Z")
_Limits = tuple[float, float, float, float]


def base_name(line: Statement) -> str:
    """Name by which instances call the model of a ``.model`` line: that of a bin without its number."""
    match = _BIN.match(line.name)
    return line.name if match is None else match[1]


def chosen_bins(lines: list[Statement], sizes: frozenset[Size] | None, scale: float) -> list[Statement]:
    """A subcircuit without the bins that no instance of these sizes chooses; all of it when ``sizes`` is None.

    A subcircuit that computes its transistors' W or L from something else than its own w and l keeps every bin.
    Raises SpecError for a size that is in no bin, with the sizes there are.
    """
    if sizes is None:
        return lines
    limits = {line: found for line in lines if line.card == ".model" and (found := _limits(line)) is not None}
    chosen: set[Statement] = set()
    for model in {base_name(line) for line in limits}:
        bins = {line: found for line, found in limits.items() if base_name(line) == model}
        for size, points in _points(model, lines, sizes, scale).items():
            held = {line for line, found in bins.items() if not points or any(_holds(found, p) for p in points)}
            if not held:
                low, high = (
                    tuple(f(column) / scale for column in zip(*bins.values(), strict=True)) for f in (min, max)
                )
                raise SpecError(
                    f"{lines[0].name}: w = {size[0]:g}, l = {size[1]:g}, nf = {size[2] or 'default'} is in no bin of "
                    f"{model}; its bins lie within w {low[0]:g} to {high[1]:g} (a finger) and l {low[2]:g} to "
                    f"{high[3]:g}, in the library's unit; change the size"
                )
            chosen |= held
    return [line for line in lines if line not in limits or line in chosen]


def _limits(line: Statement) -> _Limits | None:
    given = assignments(line.text)
    wmin, wmax, lmin, lmax = (literal(given.get(key)) for key in ("wmin", "wmax", "lmin", "lmax"))
    if _BIN.match(line.name) is None or wmin is None or wmax is None or lmin is None or lmax is None:
        return None
    return wmin, wmax, lmin, lmax


def _points(
    model: str, lines: list[Statement], sizes: frozenset[Size], scale: float
) -> dict[Size, set[tuple[float, float]]]:
    """For each size the (w, l) in metres, W whole and per finger, at which its bin is looked up; empty: not known."""
    default: dict[str, str] = {}
    points: dict[Size, set[tuple[float, float]]] = {size: set() for size in sizes}
    for line in lines:
        given = assignments(line.text)
        if line.card in {".subckt", ".param"}:
            default |= given
        elif line.card[0] == "m" and model in leading_words(line.text.lower()):
            if (given.get("w"), given.get("l"), given.get("nf", "nf")) != ("w", "l", "nf"):
                return {size: set() for size in sizes}
            for size in sizes:
                width, length, fingers = size
                nf = (literal(default.get("nf")) if fingers is None else fingers) or 1.0
                points[size] |= {(w * scale, length * scale) for w in (width, width / nf)}
    return points


def _holds(limits: _Limits, point: tuple[float, float]) -> bool:
    wmin, wmax, lmin, lmax = (limit * (1 - 1e-6) for limit in limits)  # an edge is one in spite of rounding
    return wmin <= point[0] < wmax and lmin <= point[1] < lmax
