"""How near the integrators' outputs come to the ends of their swing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analog_deq.characterise.blocks import NOMINAL
from analog_deq.characterise.campaign import Question, characterise
from analog_deq.characterise.corners import Corner
from analog_deq.characterise.registry import measurements_of
from analog_deq.records import OK
from analog_deq.verify.cell_campaign import loaded_cells
from analog_deq.verify.cell_rows import AMPLIFIER
from analog_deq.verify.corners import cell_corner
from analog_deq.verify.sheet import SheetRun

NEAR = 0.05
"""Share of the swing, at either end, that counts as near it."""


@dataclass(frozen=True, slots=True)
class Swing:
    """Lowest and highest output voltage of what integrates, and where they come from."""

    low_v: float
    high_v: float
    source: str

    def text(self) -> str:
        """How a report names it."""
        return f"{self.low_v:.3g} to {self.high_v:.3g} V ({self.source})"


def rail_share(volts: np.ndarray, swing: Swing) -> float:
    """Share of ``volts`` (any shape) within ``NEAR`` of the swing's width from its ends, or beyond; NaN of none.

    >>> rail_share(np.array([0.0, 0.6, 0.67, -0.8]), Swing(-0.7, 0.7, "measured"))
    0.5
    """
    margin = NEAR * (swing.high_v - swing.low_v)
    near = (volts > swing.high_v - margin) | (volts < swing.low_v + margin)
    return float(near.mean()) if near.size else float("nan")


def measured_swings(run: SheetRun, corners: Sequence[Corner]) -> dict[str, Swing]:
    """Swing of the op-amp under R_F at each corner, by name, from its own datasheet measurement.

    The rails stand in for an end it does not find (an ideal op-amp has none), and for an integrator of its own.
    """
    rails = {corner.name: Swing(corner.vss_v, corner.vdd_v, "the rails") for corner in corners}
    if run.cells.opamp is None:
        return rails
    cell = loaded_cells(run)[AMPLIFIER]
    places = {corner.name: cell_corner(cell, corner) for corner in corners}
    question = Question(
        cell, tuple(dict.fromkeys(places.values())), measurements_of(cell.role, ("static",)), seed=run.design.seed
    )
    bed = run.bed
    rows = characterise(
        question, simulator=bed.simulator, root=bed.root, jobs=bed.jobs, timeout_s=bed.timeout_s, limits=bed.limits,
        executor=bed.executor, progress=run.progress,
    ).tables["quantities"]  # fmt: skip
    valid = rows[(rows["variant"] == NOMINAL) & (rows["status"] == OK)]
    found = {}
    for name, place in places.items():
        here = valid[valid["corner"] == place.name].set_index("quantity")["value"]
        ends = [float(here[q]) if q in here else None for q in ("swing_low", "swing_high")]
        low, high = rails[name].low_v, rails[name].high_v
        source = "1 % compression of the op-amp" if None not in ends else "the rails"
        found[name] = Swing(low if ends[0] is None else ends[0], high if ends[1] is None else ends[1], source)
    return found
