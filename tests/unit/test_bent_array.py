"""Arrays of cells that bend: against dense nodal analysis, and the measured curves' interpolation."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import Nodal, array_resistors, conductances, port_order

from analog_deq.errors import FitError, OutOfDomainError
from analog_deq.reduction import reduce_array
from analog_deq.verify.bent_array import BentArray
from analog_deq.verify.cell_curves import POINTS, CellCurves, _fit

ROWS, STATES, R_DAC = 6, 3, 10.0
SOURCES = 2 * (ROWS - STATES)


def terminals(images: int = 2) -> np.ndarray:
    """Voltages of the 3N ports, then the DAC lines; no two alike."""
    return np.random.default_rng(4).uniform(-0.2, 0.2, (images, 3 * STATES + SOURCES))


def settled(array: BentArray, volts: np.ndarray, excess) -> tuple[np.ndarray, np.ndarray]:
    """Cell voltages and port currents at the fixed point of ``excess`` (a function of the cells' voltages)."""
    now = np.zeros((len(volts), array.g.size))
    for _ in range(30):
        across, drawn = array.solve(volts, now)
        now = excess(across)
    return across, drawn


@pytest.mark.parametrize(("r_line", "both_ends"), [(0.0, False), (5.0, False), (5.0, True)])
def test_what_the_excess_draws_is_what_larger_cells_draw(r_line: float, both_ends: bool) -> None:
    """Cells with 30 % more than their conductance, drawn as currents, are an array of 1.3 times the conductance."""
    g_pos, g_neg = conductances(ROWS, STATES, low=1e-4, high=3e-3)
    wires = {"r_line_ohm": r_line, "r_dac_ohm": R_DAC, "both_word_ends": both_ends}
    array = BentArray.of(g_pos, g_neg, **wires)
    volts = terminals()
    _, drawn = settled(array, volts, lambda across: 0.3 * array.g * across)
    linear = reduce_array(g_pos, g_neg, **wires)
    names = port_order(STATES, SOURCES)
    for one, extra in zip(volts, drawn, strict=True):
        expected = Nodal(array_resistors(1.3 * g_pos, 1.3 * g_neg, r_line, R_DAC, both_ends)).currents(
            dict(zip(names, one, strict=True))
        )
        ports, sources = one[: 3 * STATES], one[3 * STATES :]
        current = linear.y_ports @ ports + linear.y_sources @ sources + extra
        assert current == pytest.approx([expected[name] for name in names[: 3 * STATES]], rel=1e-9, abs=1e-12)
        assert np.abs(extra).max() > 0.05 * np.abs(current).max()


def test_cells_stand_between_row_and_column_positive_row_first() -> None:
    """Without wires a state's cell sees its row less its summing node, in the order of the physical rows."""
    g_pos, g_neg = conductances(ROWS, STATES)
    array = BentArray.of(g_pos, g_neg, r_line_ohm=0.0, r_dac_ohm=R_DAC)
    volts = terminals(1)
    across = array.solve(volts, np.zeros((1, array.g.size)))[0].reshape(2 * ROWS, STATES)
    rows, summing = volts[0, STATES : 3 * STATES], volts[0, :STATES]
    assert across[SOURCES:] == pytest.approx(rows[:, None] - summing[None, :])
    assert array.g.reshape(2 * ROWS, STATES)[SOURCES] == pytest.approx(g_pos[ROWS - STATES])
    assert array.g.reshape(2 * ROWS, STATES)[SOURCES + 1] == pytest.approx(g_neg[ROWS - STATES])


def curves(reach: float = 0.3) -> CellCurves:
    """A sinh cell and one whose law differs by sign, as a transistor's does: cells 0 and 2 are the first kind."""
    v = np.linspace(0, reach, POINTS + 1)
    positive = _fit(np.stack([1e-6 * 0.25 * np.sinh(v / 0.25), 2e-6 * v * (1 + 0.04 * v)], axis=1))
    negative = _fit(np.stack([-1e-6 * 0.25 * np.sinh(v / 0.25), -2e-6 * v * (1 - 0.1 * v)], axis=1))
    return CellCurves(np.array([0, 1, 0]), positive, negative, reach)


def test_curves_hold_between_their_points_and_on_both_sides() -> None:
    v = np.array([[0.123, 0.123, -0.2471], [-0.301e-1, -0.2999, 0.0]])
    expected = np.stack(
        [
            1e-6 * 0.25 * np.sinh(v[:, 0] / 0.25),
            2e-6 * v[:, 1] * (1 + np.where(v[:, 1] > 0, 0.04, 0.1) * v[:, 1]),
            1e-6 * 0.25 * np.sinh(v[:, 2] / 0.25),
        ],
        axis=1,
    )
    assert curves().current(v) == pytest.approx(expected, rel=1e-8, abs=1e-15)


def test_a_voltage_beyond_the_curves_is_refused() -> None:
    with pytest.raises(OutOfDomainError, match=r"end at 0\.3 V"):
        curves().current(np.array([[0.1, 0.31, 0.1]]))
    with pytest.raises(OutOfDomainError):
        curves().current(np.array([[0.1, np.nan, 0.1]]))


def test_a_curve_with_a_jump_is_no_polynomial() -> None:
    v = np.linspace(0, 0.3, POINTS + 1)
    with pytest.raises(FitError, match="polynomial"):
        _fit((1e-6 * v * np.where(v > 0.15, 1.01, 1.0))[:, None])
