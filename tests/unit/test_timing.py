"""Time in training: a budget that shortens the integrated settling time, and states trained for when they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import design, proxy

from analog_deq.equilibrium.settle import integrate, settling_time
from analog_deq.records import Progress
from analog_deq.spec import DesignSpec
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.train.loop import train_network
from analog_deq.train.models import ProxyModel
from analog_deq.train.scoring import deploy, network_readout
from analog_deq.train.tasks import load_task

torch.set_num_threads(1)

TAU = 2e-7


def digits(**training: Any) -> DesignSpec:
    quiet = {"mismatch_draws": False, "read_noise": False}
    return design(8, 64, 10, training={"steps": 80, "batch": 64, "learning_rate": 2e-2, **quiet, **training})


def trained(d: DesignSpec) -> Any:
    model = ProxyModel(d, proxy())
    return train_network(d, load_task(d), model, label="test", progress=Progress())[0]


def settled(d: DesignSpec, network: Any, count: int = 100) -> float:
    """The longest time, integrated, that a test image takes."""
    deployed = deploy(d, proxy(), network)
    x = load_task(d).x_test[:count]
    solved = deployed.solve(x, domain_share=None)
    step = float(deployed.tau_s.min()) / 20
    t, h = integrate(deployed.w_state, deployed.drive(x), deployed.act, deployed.tau_s, t_end_s=40 * TAU, dt_s=step)
    tol = d.verify.settle_tolerance_fs
    return float(settling_time(t, deployed.act.value(h), solved.z, tol, on_fail="mask").max())


def test_a_budget_shortens_the_settling_time_to_itself():
    free = digits()
    before = settled(free, trained(free))
    budget = 0.7 * before
    tight = digits(settle_budget_s=budget)
    after = settled(tight, trained(tight))
    assert after <= budget
    assert after > 0.3 * budget


def test_a_network_trained_for_its_read_time_is_better_then():
    """Node voltages of the resistor network, read long before they settle: relative errors on 400 held-out samples."""
    read_s, errors = TAU, []
    quiet = {"mismatch_draws": False, "read_noise": False, "steps": 150, "batch": 64, "learning_rate": 1e-2}
    for more in ({}, {"read_time_s": read_s}, {"read_time_s": read_s, "read_window_s": 0.5 * TAU}):
        d = design(16, 16, 16, task="net16", crossbar={"r_line_ohm": 0.0}, training={**quiet, **more})
        network, task = trained(d), load_task(d)
        reading = deploy(d, proxy(), network).read_from_rest(task.x_test, read_s, more.get("read_window_s", 0.0))
        found = network_readout(d, network).outputs(reading)
        errors.append(float((found - task.y_test).square().mean().sqrt() / task.y_test.std()))
    assert max(errors[1:]) < 0.8 * errors[0]


@pytest.mark.parametrize("window", [0.0, 0.2 * TAU])
def test_a_late_reading_is_the_equilibrium(window):
    d = digits()
    g = np.exp(np.random.default_rng(1).uniform(np.log(1e-6), np.log(2e-5), (2, 73, 8)))
    deployed, x = DeployedNetwork.nominal(d, proxy(), *g), load_task(d).x_test[:5]
    still = deployed.solve(x, domain_share=None).reading
    assert torch.allclose(deployed.read_from_rest(x, 200 * TAU, window), still, atol=1e-6)
    early = deployed.read_from_rest(x, 0.5 * TAU, window)
    assert (early - still).abs().max() > 0.05


def test_all_of_it_together_with_draws_and_noise():
    d = digits(
        steps=3, mismatch_draws=True, read_noise=True, read_time_s=3 * TAU, read_window_s=TAU, settle_budget_s=5 * TAU
    )
    network = trained(d)
    assert all(torch.isfinite(p).all() for p in network.parameters())
