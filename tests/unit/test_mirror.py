"""The one-way deck's couplings from both rows of a state, folded into one."""

from __future__ import annotations

import numpy as np
import pytest

from analog_deq.reduction import one_way, reduce_array
from analog_deq.verify.mirror import MirroredRows

STATES, INPUTS, R_OUT = 5, 3, 10.0


@pytest.fixture
def form():
    rng = np.random.default_rng(4)
    g_pos, g_neg = rng.uniform(1e-6, 1e-4, (2, INPUTS + 1 + STATES, STATES))
    return one_way(reduce_array(g_pos, g_neg, r_line_ohm=3.0, r_dac_ohm=10.0), R_OUT)


def rows_of(levels: np.ndarray, common: float, form) -> np.ndarray:
    """Voltages of the rows in a one-way deck whose drivers put out common + d and common - d."""
    out = np.stack([common + levels, common - levels], axis=-1).reshape(*levels.shape[:-1], -1)
    return out / (1 + R_OUT * form.own)


def test_mirrored_rows_drive_the_summing_nodes_as_both_rows_do(form):
    fold = MirroredRows.of(form, R_OUT)
    rows = rows_of(np.array([0.2, -0.1, 0.05, 0.0, -0.2]), 0.0, form)
    assert fold.coupling.shape == (STATES, STATES)
    assert rows[0::2] @ fold.coupling.T == pytest.approx(rows @ form.coupling.T, rel=1e-13)
    assert np.abs(fold.missed_a(rows)).max() < 1e-18
    assert np.abs(fold.ratio - 1).max() > 1e-4  # the rows are loaded differently, which is what the ratio is for


def test_what_a_common_mode_would_have_carried_is_told_exactly(form):
    fold = MirroredRows.of(form, R_OUT)
    rows = rows_of(np.linspace(-0.2, 0.2, 2 * STATES).reshape(2, STATES), 1e-3, form)
    missed = rows @ form.coupling.T - rows[:, 0::2] @ fold.coupling.T
    assert fold.missed_a(rows) == pytest.approx(missed, rel=1e-9)
    assert np.abs(missed).min() > 1e-9
