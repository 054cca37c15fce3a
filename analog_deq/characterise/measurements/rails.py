"""What the supply rails of a cell show: the power they give, and what happens when they are moved."""

from __future__ import annotations

from collections.abc import Sequence

from analog_deq.characterise.measurement import CellBench, Copy, Quantity, Value, not_modelled
from analog_deq.records import Alter, Plot

SUPPLY_CURRENT = Quantity("supply_current", "A", "high", "current out of the positive rail at rest")
POWER = Quantity("supply_power", "W", "high", "quiescent power from the supplies")
RAIL_QUANTITIES = (SUPPLY_CURRENT, POWER)


def rail_vectors(bench: CellBench, copy: Copy, name: str = "") -> list[str]:
    """Vectors of a copy's rail currents, as :meth:`CellBench.supplies` names the sources; none without supply pins."""
    return [f"i(v{rail}{name}{copy.tag})" for rail in ("dd", "ss")] if bench.has_supply else []


def rail_currents(bench: CellBench, copy: Copy, plot: Plot, point: int = 0, name: str = "") -> tuple[float, float]:
    """Current (A) out of the positive rail and into the negative one at a point of an Op or Dc plot.

    A source's current flows into its + terminal, so a rail that gives current reads negative in the plot.
    """
    dd, ss = (float(plot[vector][point].real) for vector in rail_vectors(bench, copy, name))
    return -dd, ss


def rail_values(bench: CellBench, copy: Copy, plot: Plot, point: int = 0, name: str = "", at: str = "") -> list[Value]:
    """Values of ``RAIL_QUANTITIES`` at a point of a plot that holds :func:`rail_vectors`.

    ``not modelled`` for a cell without supply pins, and for one whose rails carry exactly no current.
    """
    reason = "the cell has no supply pins"
    if bench.has_supply:
        from_dd, into_ss = rail_currents(bench, copy, plot, point, name)
        if from_dd != 0.0 or into_ss != 0.0:
            power = from_dd * bench.corner.vdd_v - into_ss * bench.corner.vss_v
            return [Value(SUPPLY_CURRENT.id, from_dd, at), Value(POWER.id, power, at)]
        reason = "no current flows in the rails"
    return [not_modelled(q.id, reason, at) for q in RAIL_QUANTITIES]


def move_rails(bench: CellBench, copies: Sequence[Copy], vdd_v: float, vss_v: float, name: str = "") -> Alter:
    """New rail voltages of copies for the analyses that follow; move them back after the last one."""
    return Alter(tuple((f"v{r}{name}{c.tag}", v) for c in copies for r, v in (("dd", vdd_v), ("ss", vss_v))))
