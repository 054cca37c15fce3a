"""Numbers from waveforms: settling time, overshoot."""

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
