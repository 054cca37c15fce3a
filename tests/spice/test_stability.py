"""The stability margin in ngspice: against closed forms, and against the slowest decay of a transient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dynamics_circuits import rows, sheet_run, skew

from analog_deq.spice.simulator import Simulator
from analog_deq.verify.checks.stability import Stability
from analog_deq.verify.starts import previous_starts, run_starts

pytestmark = pytest.mark.spice

ASKED = rows("net.stability_margin")


def test_the_margin_is_the_slowest_decay_of_a_transient(simulator: Simulator, tmp_path: Path) -> None:
    w = 0.5 * np.roll(np.eye(3), 1, axis=1)
    x = np.array([[0.1, 0.05, -0.05], [0.5, 0.6, 0.4]])
    run = sheet_run(w, x, simulator, tmp_path, ASKED)
    found = Stability().measure(run)
    table = found.tables["stability"].set_index("image")
    assert (table["status"] == "ok").all()
    starts = previous_starts(run.model, run.solved.h.numpy(), np.array([[1, 0]]))
    (path,) = run_starts(run.network, run.inputs, starts, run.bed, run.progress)
    deviation = np.abs(path.z - run.equilibria.states.z[0]).max(axis=1)
    tail = (deviation < 1e-2) & (deviation > 3e-5)
    assert np.sum(tail) >= 8
    slope = np.polyfit(path.time_s[tail], np.log(deviation[tail]), 1)[0]
    assert table.loc[0, "margin_per_s"] == pytest.approx(-slope, rel=0.01)
    (row,) = found.measurements
    assert row.value == table["margin_per_s"].min()
    assert row.interval[0] <= row.value <= row.interval[1]
    assert row.interval[1] - row.interval[0] < 1e-3 * row.value


def test_a_latch_is_unstable_where_it_balances(simulator: Simulator, tmp_path: Path) -> None:
    """Loop gain 1.5 at z = 0: a pole at about +0.5 / tau, which the operating point does not show."""
    run = sheet_run(np.full((2, 2), 0.75), np.zeros((2, 2)), simulator, tmp_path, ASKED)
    (row,) = Stability().measure(run).measurements
    assert row.value == pytest.approx(-0.5 / float(run.model.tau_s.max()), rel=0.1)


@pytest.mark.parametrize(("driver_hz", "stable"), [(None, True), (10e6, False)])
def test_a_slow_driver_shows_in_the_margin(
    simulator: Simulator, tmp_path: Path, driver_hz: float | None, stable: bool
) -> None:
    """|lambda| = 6.0: with a driver of 10 MHz the pair of (1 + s tau)(1 + s t2) = j lambda is on the right."""
    deviations = {} if driver_hz is None else {"driver.fp": driver_hz}
    run = sheet_run(skew(8), np.zeros((2, 8)), simulator, tmp_path, ASKED, deviations=deviations)
    found = Stability().measure(run)
    (row,) = found.measurements
    assert row.failed_samples == 0
    assert (row.value > 0) == stable
    if driver_hz is not None:
        # The slope of the cells' curve at 0 is not the synthetic proxy's, so the closed form is held to this: whatever
        # the slope, the loop's eigenvalue is imaginary. The op-amp's own poles (GBW, f2) act as 1.06 ns more of lag.
        sample = found.tables["stability"].iloc[0]
        pole = complex(-sample["margin_per_s"], sample["ringing_per_s"])
        loop = (1 + pole * float(run.model.tau_s.max())) * (1 + pole * (1 / (2 * np.pi * driver_hz) + 1.06e-9))
        assert abs(loop.real) < 0.05 * loop.imag
        assert loop.imag == pytest.approx(np.abs(np.linalg.eigvals(run.model.map.w_state)).max(), rel=0.15)
