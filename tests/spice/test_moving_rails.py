"""Moving rails in ngspice: a supply step against the equilibrium at that supply, and what powers up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dynamics_circuits import rows, sheet_run

from analog_deq.records import Progress
from analog_deq.spec import Cells
from analog_deq.spice.simulator import Simulator
from analog_deq.verify.checks.moving_rails import POWER_UP, RECOVERY, STEP, MovingRails
from analog_deq.verify.sweeps import Sweep, run_sweeps

pytestmark = pytest.mark.spice

ASKED = rows(POWER_UP, STEP, RECOVERY)
RING = 0.5 * np.roll(np.eye(3), 1, axis=1)
X = np.array([[0.5, -0.3, 0.8], [-0.6, 0.2, 0.4]])


def test_a_supply_step_moves_the_outputs_as_far_as_the_equilibrium_there(simulator: Simulator, tmp_path: Path) -> None:
    run = sheet_run(RING, X, simulator, tmp_path, ASKED, start_images=2)
    found = MovingRails().measure(run)
    table = found.tables["moving_rails"]
    assert (table["ending"] == "settled").all()
    up = table[table["motion"] == "supply_up"].set_index("image")
    operating = run.design.operating
    higher = operating.model_copy(update={"vdd_v": 1.1 * operating.vdd_v, "vss_v": 1.1 * operating.vss_v})
    there = replace(run.network, design=run.design.model_copy(update={"operating": higher}))
    (rest,) = run_sweeps([Sweep(there, run.inputs, run.solved.h.numpy())], run.bed, Progress())
    shift = np.abs(rest.states.z - run.equilibria.states.z).max(axis=1)
    assert shift.min() > 1e-4
    assert up.loc[[0, 1], "held_fs"].to_numpy() == pytest.approx(shift, rel=0.02)
    assert (up["excursion_fs"] >= up["held_fs"]).all()
    step = {m.id: m for m in found.measurements}[STEP]
    assert step.value == pytest.approx(100 * table["excursion_fs"][table["motion"] != "power_up"].max())
    assert step.worst.deck in found.decks
    # the macro op-amp and driver have no supply in their signal path, which must not pass for a power-up
    assert {m.id: m for m in found.measurements}[POWER_UP].unjudged == "not_modelled"


def test_transistors_power_up_from_nothing(simulator: Simulator, tmp_path: Path) -> None:
    run = sheet_run(RING, X, simulator, tmp_path, ASKED, cells=Cells(opamp="opamp_2stage"), start_images=1)
    found = MovingRails().measure(run)
    up = {m.id: m for m in found.measurements}[POWER_UP]
    assert found.failed == 0, found.tables["moving_rails"].to_string()
    assert up.unjudged is None, up.detail
    assert up.failed_samples == 0
    assert 0 < up.value < 6e-6
