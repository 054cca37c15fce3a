"""The network from other states than rest: a healthy one settles, a latch and an oscillator are told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dynamics_circuits import rows, sheet_run, skew

from analog_deq.spice.simulator import Simulator
from analog_deq.verify.checks.starts import READING, Starts
from analog_deq.verify.found import Found
from analog_deq.verify.signoff import Measurement
from analog_deq.verify.start_rows import ENDINGS, SETTLING, UNIQUE

pytestmark = pytest.mark.spice


def values(found: Found) -> dict[str, Measurement]:
    return {m.id: m for m in found.measurements}


def test_a_healthy_network_settles_from_anywhere(simulator: Simulator, tmp_path: Path) -> None:
    """W = 0.5 in a ring: the slowest mode decays with (1 - 0.5) / tau, which times the settling from image to image."""
    w = 0.5 * np.roll(np.eye(3), 1, axis=1)
    x = np.random.default_rng(4).uniform(-0.8, 0.8, (6, 3))
    run = sheet_run(w, x, simulator, tmp_path, rows(*SETTLING, *READING, *UNIQUE, *ENDINGS), transitions=8,
                    start_images=2)  # fmt: skip
    found = Starts().measure(run)
    got = values(found)
    table = found.tables["starts"]
    assert (table["ending"] == "settled").all()
    assert len(table) == 8 + 2 * 12
    assert got["net.unique_fp"].value == 1
    assert got["net.start_spread"].value < 0.01
    assert got["net.oscillation"].value == got["net.latch_up"].value == 0
    slowest = got["net.settle_from_previous"]
    tau = float(run.model.tau_s.max())
    assert 2 * tau < slowest.value < 2 * tau * np.log(2 / 4e-3) + 0.05e-6  # |dz| <= 2, slopes at most 1
    assert got["net.settle_previous_err"].value < 25  # the proxy of the tests is synthetic: its curve is not the cells'
    # the detector stops within the tolerance of 0.4 %FS by its level; the fixed time is the end of the window
    assert 0 < got["net.readout_threshold"].value < 0.4
    assert got["net.readout_fixed"].value < 0.01
    quiet = table["quiet_s"].dropna()
    assert len(quiet) == 8
    assert (quiet < 6e-6).all()
    assert "299 are needed" in got["net.settle_p99"].too_few
    assert found.failed == 0
    waves = found.tables["starts_waves"]
    assert set(waves["case"]) == {"typical", "worst"}
    assert waves.groupby("case")["time_s"].is_monotonic_increasing.all()


def test_self_feedback_of_one_and_a_half_latches(simulator: Simulator, tmp_path: Path) -> None:
    """Two states that feed each other with 1.5 in their common mode rest at z = +-0.86 (z = tanh(1.5 z)) whatever the
    small input says."""
    w = np.full((2, 2), 0.75)
    x = np.array([[0.02, 0.02], [-0.02, -0.02]])
    run = sheet_run(w, x, simulator, tmp_path, rows(*UNIQUE, *ENDINGS), transitions=4, start_images=2)
    found = Starts().measure(run)
    got = values(found)
    assert got["net.unique_fp"].value == 2
    assert got["net.start_spread"].value > 120
    assert got["net.latch_up"].value >= 2
    assert "at rest" in got["net.latch_up"].detail
    assert got["net.oscillation"].value == 0
    ends = found.tables["starts"].query("kind != 'previous'").groupby("image")["state"].nunique()
    assert (ends == 2).all()


def test_a_slow_driver_makes_a_skew_loop_oscillate(simulator: Simulator, tmp_path: Path) -> None:
    """|lambda| = 6 against k_max = 3.8 with a driver pole at 10 MHz; with the driver as it is (k_max 11) it settles."""
    x = np.random.default_rng(2).uniform(-0.3, 0.3, (3, 8))
    asked = rows(*ENDINGS, *READING, "net.settle_from_previous")
    options = {"weight_class": "free", "transitions": 3, "start_images": 1}
    slow = sheet_run(skew(8), x, simulator, tmp_path, asked, deviations={"driver.fp": 10e6}, **options)
    got = values(Starts().measure(slow))
    assert got["net.oscillation"].value >= 10
    assert "peak to peak" in got["net.oscillation"].detail
    assert got["net.latch_up"].value == 0
    assert got["net.settle_from_previous"].failed_samples == 3
    assert got["net.readout_threshold"].failed_samples == 3
    assert got["net.readout_threshold"].value is None
    fast = values(Starts().measure(sheet_run(skew(8), x, simulator, tmp_path, asked, **options)))
    assert fast["net.oscillation"].value == fast["net.latch_up"].value == 0
    assert fast["net.settle_from_previous"].failed_samples == 0
