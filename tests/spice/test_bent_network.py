"""Networks of synapses that bend: the reduced deck with the cells' own currents against the flat deck."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import design, proxy

from analog_deq.netlists.neuron import load_cells
from analog_deq.proxy.mapping import ConductanceMapping
from analog_deq.records import Progress
from analog_deq.spec import Cells
from analog_deq.spice.simulator import Simulator
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.train.network import Network
from analog_deq.verify import bent
from analog_deq.verify.bent import BentDie, Settler, bent_passes
from analog_deq.verify.dies import draw_die, read_dies
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sweeps import Bed, Sweep, run_sweeps

pytestmark = pytest.mark.spice

STATES, INPUTS = 4, 3
IMAGES = torch.tensor([[0.9, -0.4, 0.7], [-0.8, 0.1, 0.3]], dtype=torch.float64)


def network(
    simulator: Simulator, synapse: str, r_line: float, both_ends: bool = False
) -> tuple[LoweredNetwork, DeployedNetwork]:
    wires = {"r_line_ohm": r_line, "g_max_siemens": 40e-6, "both_word_ends": both_ends}
    d = design(STATES, INPUTS, crossbar=wires, cells={"synapse": synapse})
    weights = Network(d, torch.Generator().manual_seed(3), max_slope=1.0)
    with torch.no_grad():
        weights.weight.t.mul_(4.0)
        weights.w_input.mul_(3.0)
        weights.bias.mul_(6.0)
        g_pos, g_neg = (g.numpy() for g in ConductanceMapping.of(d.neuron, d.crossbar).program(weights.weights()))
    own = LoweredNetwork(d, load_cells(Cells(synapse=synapse)), g_pos, g_neg, simulator.klu, 10.0)
    return own, DeployedNetwork.nominal(d, proxy(), g_pos, g_neg)


@pytest.mark.parametrize(
    ("synapse", "r_line", "both_ends"),
    [
        ("sinh_synapse", 0.0, False),
        ("sinh_synapse", 5.0, False),
        ("rram_hfox", 0.0, False),
        ("rram_hfox", 5.0, False),
        ("rram_hfox", 20.0, True),
    ],
)
def test_bent_cells_settle_where_the_flat_deck_does(
    simulator, tmp_path: Path, synapse: str, r_line: float, both_ends: bool
) -> None:
    nominal, model = network(simulator, synapse, r_line, both_ends)
    bed = Bed(simulator, tmp_path, 1)
    (die,), lost = read_dies([draw_die(nominal, 1)], bed, Progress())
    assert not lost
    x = model.inputs(IMAGES).numpy()
    h = model.solve(IMAGES, domain_share=None).h.numpy()
    sweeps = [Sweep(own, x, h) for own in (nominal, die)]
    flat = run_sweeps(sweeps, bed, Progress(), flat=True, reltol=1e-8)
    linear = run_sweeps(sweeps, bed, Progress(), reltol=1e-8)
    found = Settler(model, False, True).settle(sweeps, [IMAGES, IMAGES], bed, Progress(), reltol=1e-8)
    for right, ours, straight in zip(flat, found, linear, strict=True):
        assert right.ok.all()
        assert ours.ok.all()
        assert np.abs(ours.states.z - right.states.z).max() < 1e-6  # units of z
        assert np.abs(straight.states.z - right.states.z).max() > 1e-3  # the bend is seen
        assert ours.states.supply_w == pytest.approx(right.states.supply_w, rel=1e-4)
    assert np.abs(found[0].states.z - found[1].states.z).max() > 0.01  # and the die


def test_each_pass_brings_the_states_nearer_and_too_few_are_a_failure(simulator, tmp_path: Path) -> None:
    nominal, model = network(simulator, "sinh_synapse", 2.0)
    bed = Bed(simulator, tmp_path, 1)
    x = model.inputs(IMAGES).numpy()
    sweep = Sweep(nominal, x, model.solve(IMAGES, domain_share=None).h.numpy())
    flat = run_sweeps([sweep], bed, Progress(), flat=True, reltol=1e-8)[0]
    die = BentDie.measured(nominal, bed, Progress())
    dark = [np.zeros((len(x), 3 * STATES))]
    errors = [
        float(np.abs(result[0].states.z - flat.states.z).max())
        for result in bent_passes([sweep], [die], dark, bed, Progress(), reltol=1e-8)
    ]
    assert errors[0] > 1e-3
    assert errors[1] < 0.3 * errors[0]
    assert errors[2] < 0.3 * errors[1]
    short = list(bent_passes([sweep], [die], dark, bed, Progress(), passes=2))[-1][0]
    assert not short.ok.any()
    assert "2 passes" in short.status[0]


def test_a_row_beyond_the_measured_curves_fails_its_image(simulator, tmp_path: Path, monkeypatch) -> None:
    nominal, model = network(simulator, "sinh_synapse", 0.0)
    bed = Bed(simulator, tmp_path, 1)
    die = BentDie.measured(nominal, bed, Progress())
    monkeypatch.setattr(bent, "ROW_SHARE", 0.4)  # of 0.3 V
    x = model.inputs(IMAGES).numpy()
    sweep = Sweep(nominal, x, np.zeros((len(x), STATES)))
    result = list(bent_passes([sweep], [die], [np.zeros((len(x), 3 * STATES))], bed, Progress()))[-1][0]
    far = np.abs(result.states.ports_v).max(axis=1) > 0.12
    assert far.any()
    assert not result.ok[far].any()
    assert "0.12 V" in result.status[far][0]
