"""Spread of a cell's quantity over mismatch dies: a bound that nearly all dies keep, and a standard deviation."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analog_deq.characterise.measurement import NOT_MODELLED
from analog_deq.characterise.sensitivity import state_of
from analog_deq.characterise.statistics import over_dies
from analog_deq.records import OK
from analog_deq.statistics import Interval, tolerance_bound

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Spread:
    """Dies at one condition ``at``: how many were tried and valid, mean and sd with 95 % intervals.

    ``bound`` is of the magnitude; ``basis`` says for what share of dies it holds and why. ``status`` is not ok where a
    die gave no value, or there is no spread.
    """

    at: str
    dies: int
    n: int
    mean_interval: Interval
    sd: float
    sd_interval: Interval
    bound: float
    basis: str
    status: str

    @property
    def modelled(self) -> bool:
        """Whether the cell has this spread at all."""
        return not self.status.startswith(NOT_MODELLED)


def magnitude_bound(values: np.ndarray) -> tuple[float, str]:
    """A magnitude that 99.865 % of dies keep on either side with 95 % confidence, and how it was found.

    Tolerance bounds on both sides, each at half the error (:func:`~analog_deq.statistics.tolerance_bound`). Where they
    cannot be stated it is the largest magnitude seen, which holds for the share of dies that the text names.

    >>> bound, basis = magnitude_bound(np.random.default_rng(1).normal(0.0, 1e-3, 100))
    >>> 3e-3 < bound < 4.5e-3
    True
    """
    sides = [tolerance_bound(values, side, confidence=(1 + CONFIDENCE) / 2) for side in ("lower", "upper")]
    known = [side for side in sides if side is not None]
    if len(known) == len(sides):
        largest = max(known, key=lambda side: abs(side.value))
        return abs(largest.value), largest.statement()
    share = (1 - CONFIDENCE) ** (1 / len(values))
    basis = (
        f"largest of {len(values)} dies, which do not pass for normal: {100 * share:.3g} % of dies are within it with "
        f"{100 * CONFIDENCE:g} %; 99.865 % cannot be stated"
    )
    return float(np.abs(values).max()), basis


def spreads(rows: pd.DataFrame, largest_siemens: float = math.inf) -> list[Spread]:
    """Spread at every condition of the rows of some dies; of a synapse only at levels up to ``largest_siemens``."""
    found = []
    for row in over_dies(rows, CONFIDENCE).to_dict("records"):
        state = state_of(row["at"])
        if math.isfinite(state) and state > largest_siemens * (1 + 1e-9):
            continue
        valid = rows[(rows["at"] == row["at"]) & (rows["status"] == OK)]["value"].to_numpy(dtype=float)
        found.append(_spread(row, valid))
    return found


def _spread(row: Mapping[Hashable, Any], values: np.ndarray) -> Spread:
    missing = int(row["failed"]) + int(row["undefined"])
    status = str(row["status"])
    if status == OK and missing:
        status = f"{missing} of {row['dies']} dies gave no value"
    bound, basis = magnitude_bound(values) if len(values) > 1 and status == OK else (math.nan, "")
    ends = [(float(row[f"{name}_low"]), float(row[f"{name}_high"])) for name in ("mean", "sd")]
    return Spread(
        str(row["at"]), int(row["dies"]), len(values), ends[0], float(row["sd"]), ends[1], bound, basis, status
    )  # fmt: skip
