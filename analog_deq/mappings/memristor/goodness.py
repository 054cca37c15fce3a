"""Tolerances of the fits, and what they share."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analog_deq.fit.parameters import Goodness
from analog_deq.fit.static import split_axis

Array = np.ndarray


TOLERANCES = {
    "amplifier": 1e-3, "loop": 0.01, "pair": 1e-3, "driver": 1e-3, "poles": 0.02, "noise": 0.05, "synapse": 1e-3,
    "law": 1e-4, "spread": 0.01, "mismatch": 0.01, "pair_mismatch": 0.01,
}  # fmt: skip
"""Largest held-out error of each part, in the unit that its goodness names."""


FIT_TOP_HZ = 3e8
"""Poles are fitted to responses below: what a network does above is noise two decades down."""


def goodness_of(part: str, unit: str, train: float, held_out: float, n_train: int, n_held_out: int) -> Goodness:
    """Goodness of a part, held to its tolerance."""
    return Goodness(
        unit=unit, train=train, held_out=held_out, n_train=n_train, n_held_out=n_held_out, tolerance=TOLERANCES[part]
    )


def alternate(rows: pd.DataFrame, axis: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of every second value of an axis, the ends among them, and the other rows."""
    train, held = split_axis(rows[axis])
    return rows[rows[axis].isin(train)], rows[rows[axis].isin(held)]


def parts(values: Array) -> Array:
    """Real parts, then imaginary parts."""
    return np.concatenate([values.real, values.imag])


def rms(values: Array) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def span(values: pd.Series) -> tuple[float, float]:
    """Least and largest value."""
    return float(values.min()), float(values.max())
