"""A network whose neurons have shares of R_F, in ngspice against its proxy: states, noise, settling, a trimmed die."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analog_deq.netlists.neuron import load_cells
from analog_deq.pipeline.inputs import load_inputs, matching_proxy
from analog_deq.pipeline.stages import fit
from analog_deq.proxy.array import effective_map
from analog_deq.proxy.mapping import ConductanceMapping
from analog_deq.records import Progress
from analog_deq.resources import shipped
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.train.network import Network
from analog_deq.verify.dies import draw_die
from analog_deq.verify.dynamics import run_noise, run_transients
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sweeps import Bed, Sweep, run_sweeps

pytestmark = pytest.mark.spice

STATES, INPUTS = 8, 16


@pytest.fixture(scope="module")
def network(simulator, tmp_path_factory) -> tuple[LoweredNetwork, DeployedNetwork]:
    """Random weights, each column scaled to the range: no two neurons with the same R_F."""
    path = shipped("data/designs") / "digits.toml"
    runs = tmp_path_factory.mktemp("runs")
    proxy = matching_proxy(
        fit(None, design=path, runs=runs, progress=Progress()).outputs["proxy"], load_inputs(path, {})
    )
    d = load_inputs(path, {}).design
    sizes = d.sizes.model_copy(update={"states": STATES, "inputs": INPUTS})
    d = d.model_copy(update={"sizes": sizes, "scaling": d.scaling.model_copy(update={"mode": "column"})})
    own = Network(d, torch.Generator().manual_seed(3), max_slope=1.0)
    with torch.no_grad():
        own.weight.t.mul_(4.0)
        own.w_input.mul_(2.0 * torch.linspace(0.5, 1.5, STATES)[:, None])
        mapping = ConductanceMapping.of(d.neuron, d.crossbar)
        share = mapping.feedback_share(own.weights(), d.scaling)
        assert share is not None
        g_pos, g_neg = (g.numpy() for g in mapping.scaled(share).program(own.weights()))
    used = np.maximum(g_pos, g_neg).max(axis=0)
    assert used == pytest.approx(np.full(STATES, d.crossbar.g_max_siemens), rel=1e-9)
    assert share.max() > 1.2 * share.min()
    cells = load_cells(d.cells)
    lowered = LoweredNetwork.nominal(d, cells, g_pos, g_neg, simulator.klu, proxy, share.numpy())
    return lowered, DeployedNetwork.nominal(d, proxy, g_pos, g_neg, share.numpy())


def inputs(count: int) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(2).uniform(0, 1, (count, INPUTS)))


def test_the_proxy_knows_the_scaled_circuit(simulator, tmp_path: Path, network) -> None:
    lowered, model = network
    bed, x = Bed(simulator, tmp_path, 1), inputs(4)
    solved = model.solve(x)
    result = run_sweeps([Sweep(lowered, model.inputs(x).numpy(), solved.h.numpy())], bed, Progress())[0]
    assert result.ok.all()
    assert np.abs(result.states.z - solved.reading.numpy()).max() < 1e-4  # units of z
    noise = run_noise(lowered, model, x, 0, bed, Progress())
    assert noise.rms_proxy / noise.rms_spice == pytest.approx(np.ones(len(noise.nodes)), abs=0.05)
    settled = run_transients(lowered, model, x, np.arange(2), result.states.z, result.states.ports_v, bed, Progress())
    for one in settled:
        assert one.status == "ok"
        assert one.t_proxy_s == pytest.approx(one.t_spice_s, rel=0.05)


def test_mismatch_of_a_scaled_neuron_comes_on_top_of_its_share(simulator, tmp_path: Path, network) -> None:
    lowered, model = network
    share = model.share
    assert share is not None
    die = draw_die(lowered, 2)
    plain = draw_die(replace(lowered, deviations={}), 2)
    assert 1 + die.deviations["r_feedback"] == pytest.approx(share * (1 + plain.deviations["r_feedback"]))
    assert 1 + die.deviations["c_feedback"] == pytest.approx((1 + plain.deviations["c_feedback"]) / share)
    # in ngspice: a die with nothing but its R_F, against the proxy given the same
    relative = die.deviations["r_feedback"]
    only = replace(lowered, deviations={"r_feedback": relative})
    own = replace(
        model, map=effective_map(model.design, model.proxy, lowered.g_pos, lowered.g_neg, r_feedback=relative)
    )
    x = inputs(2)
    solved = own.solve(x)
    sweep = Sweep(only, model.inputs(x).numpy(), solved.h.numpy())
    result = run_sweeps([sweep], Bed(simulator, tmp_path, 1), Progress())[0]
    assert np.abs(result.states.z - solved.reading.numpy()).max() < 1e-4
    assert np.abs(result.states.z - model.solve(x).reading.numpy()).max() > 1e-3
