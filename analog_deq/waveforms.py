"""Numbers from waveforms and curves: settling time, overshoot, slew rate, limits of a range."""

from __future__ import annotations

import numpy as np


def settling_time(t_s: np.ndarray, y: np.ndarray, final: float, band: float) -> float:
    """Time of the last exit from ``final`` +- ``band``, interpolated at the crossing; NaN if it ends outside.

    0.0 when the waveform never leaves the band. ``band`` in the unit of ``y``.
    """
    outside = np.flatnonzero(np.abs(y - final) > band)
    if outside.size == 0:
        return 0.0
    k = int(outside[-1])
    if k + 1 >= len(y):
        return float("nan")
    a, b = abs(y[k] - final), abs(y[k + 1] - final)
    return float(t_s[k] + (t_s[k + 1] - t_s[k]) * (a - band) / (a - b))


def overshoot(y: np.ndarray, start: float, final: float) -> float:
    """Largest excursion beyond the final value, relative to the step; 0.0 for a monotone response."""
    step = final - start
    return float(max(0.0, np.max((y - final) / step)))


def slew_rate(t_s: np.ndarray, y: np.ndarray, start: float, final: float) -> float:
    """Slope from 20 to 80 % of a step, positive both ways, in units of ``y`` per second; NaN if either is not passed.

    Counted from the last passage through 20 % before the first through 80 %.
    """
    share = (y - start) / (final - start)
    reached = np.flatnonzero(share >= 0.8)
    if reached.size == 0:
        return float("nan")
    last = int(reached[0])
    before = np.flatnonzero(share[:last] <= 0.2)
    if before.size == 0:
        return float("nan")
    first = int(before[-1]) + 1
    begin, end = (crossing(t_s, share, k, level) for k, level in ((first, 0.2), (last, 0.8)))
    return 0.6 * abs(final - start) / (end - begin)


def departures(x: np.ndarray, y: np.ndarray, start: float, value: float, band: float) -> tuple[float, float]:
    """(low, high): x nearest to ``start`` on either side where ``y`` leaves ``value`` +- ``band``; NaN if never.

    ``x`` rises. Interpolated between points; ``y`` is within the band at ``start``.

    >>> x = np.linspace(-1, 1, 201)
    >>> [round(limit, 9) for limit in departures(x, x**2, 0.0, 0.0, 0.25)]
    [-0.5, 0.5]
    """
    off = np.abs(y - value)
    place = int(np.searchsorted(x, start))
    above = np.flatnonzero(off[place:] > band) + place
    below = np.flatnonzero(off[:place] > band)
    high = crossing(x, off, int(above[0]), band) if above.size else float("nan")
    low = crossing(x, off, int(below[-1]) + 1, band) if below.size else float("nan")
    return low, high


def crossing(x: np.ndarray, y: np.ndarray, k: int, level: float) -> float:
    """Where ``y`` passes ``level`` between points k-1 and k, interpolated; x[0] at k = 0.

    >>> crossing(np.array([0.0, 1.0]), np.array([0.0, 4.0]), 1, 1.0)
    0.25
    """
    if k == 0:
        return float(x[0])
    return float(x[k - 1] + (x[k] - x[k - 1]) * (level - y[k - 1]) / (y[k] - y[k - 1]))
