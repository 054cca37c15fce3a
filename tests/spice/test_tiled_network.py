"""Layers spread over tiles, and a convolution fed back, in ngspice: reduced deck against flat deck."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import design

from analog_deq.netlists.neuron import load_cells
from analog_deq.proxy.mapping import ConductanceMapping
from analog_deq.records import Progress
from analog_deq.spec import Cells, DesignSpec
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator
from analog_deq.tiling import Tile, cut, unrolled, unrolled_mask
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.supply import with_exact_supply
from analog_deq.verify.sweeps import Bed, Sweep, SweepResult, run_sweeps

pytestmark = pytest.mark.spice

SIDE = 3
"""Of a map with one channel: 9 states."""


def convolution(d: DesignSpec) -> tuple[np.ndarray, np.ndarray, tuple[Tile, ...]]:
    """(g_pos, g_neg, tiles) of z = tanh(K * z + L * x + b) on 3 x 3 maps."""
    rng = np.random.default_rng(7)
    feedback, inputs = 0.1 * rng.standard_normal((1, 1, 3, 3)), 0.5 * rng.standard_normal((1, 1, 3, 3))
    weights = np.concatenate(
        [unrolled(inputs, SIDE, SIDE).T, np.full((1, SIDE**2), 0.2), unrolled(feedback, SIDE, SIDE).T]
    )
    g_pos, g_neg = ConductanceMapping.of(d.neuron, d.crossbar).program(torch.as_tensor(weights))
    used = unrolled_mask(feedback, SIDE, SIDE).T
    places = np.concatenate([used, np.ones((1, SIDE**2), dtype=bool), used])
    return g_pos.numpy(), g_neg.numpy(), cut(len(weights), SIDE**2, 5, 5, places)


def settled(net: LoweredNetwork, simulator: Simulator, folder: Path) -> tuple[SweepResult, SweepResult]:
    """(reduced with exact supply, flat) of three images."""
    x = np.round(np.random.default_rng(8).uniform(-1, 1, (3, net.design.sizes.inputs)) * 127) / 127
    sweep, bed = Sweep(net, x, np.zeros((3, net.states))), Bed(simulator, folder, 1)
    ours = run_sweeps([sweep], bed, Progress(), reltol=1e-9)
    flat = run_sweeps([sweep], bed, Progress(), flat=True, reltol=1e-9)[0]
    return with_exact_supply([sweep], ours, bed, Progress(), reltol=1e-9)[0], flat


@pytest.mark.parametrize("r_line", [0.0, 10.0])
def test_a_convolution_on_tiles_settles_where_its_flat_deck_does(simulator, tmp_path, r_line):
    d = design(SIDE**2, SIDE**2, crossbar={"r_line_ohm": r_line})
    g_pos, g_neg, tiles = convolution(d)
    assert sum(tile.cells for tile in tiles) < g_pos.size  # corners have no devices
    tiled = LoweredNetwork(d, load_cells(Cells()), g_pos, g_neg, simulator.klu, 10.0, tiles=tiles)
    ours, flat = settled(tiled, simulator, tmp_path)
    assert ours.ok.all()
    assert np.abs(ours.states.z - flat.states.z).max() < 1e-7
    assert ours.states.supply_w == pytest.approx(flat.states.supply_w, rel=1e-8)
    assert np.abs(flat.states.z).max() > 0.3
    deck = tiled.equilibria(np.zeros((1, SIDE**2)), flat=True).text
    assert deck.count("\nXg") == 2 * sum(tile.cells for tile in tiles)


def test_cutting_a_layer_brings_it_nearer_to_the_array_without_wires(simulator, tmp_path):
    whole_design, ideal_design = (design(SIDE**2, SIDE**2, crossbar={"r_line_ohm": r}) for r in (20.0, 0.0))
    g_pos, g_neg, _ = convolution(whole_design)
    states = {}
    for name, d, tiles in (
        ("ideal", ideal_design, ()), ("whole", whole_design, ()), ("tiled", whole_design, cut(*g_pos.shape, 7, 5)),
    ):  # fmt: skip
        net = LoweredNetwork(d, load_cells(Cells()), g_pos, g_neg, simulator.klu, 10.0, tiles=tiles)
        ours, flat = settled(net, simulator, tmp_path)
        assert np.abs(ours.states.z - flat.states.z).max() < 1e-7
        states[name] = flat.states.z
    lost = np.abs(states["whole"] - states["ideal"]).max()
    assert lost > 1e-3
    assert np.abs(states["tiled"] - states["ideal"]).max() < 0.6 * lost


@pytest.mark.parametrize("c_cell", [0.0, 4e-15])
def test_wire_and_cell_capacitance_at_the_ports_settles_as_the_flat_deck_does(simulator, tmp_path, c_cell):
    """Just inside the bound on the wires' delay: readings within 1e-4 of a unit all along, which is less than the
    capacitances move them by.
    """
    wires = {"r_line_ohm": 40.0, "c_wire_f": 16e-15 - c_cell, "c_cell_f": c_cell}
    d = design(SIDE**2, SIDE**2, crossbar=wires, verify={"transient_window_s": 1.5e-6})
    g_pos, g_neg, _ = convolution(d)
    x = np.round(np.random.default_rng(8).uniform(-1, 1, (1, SIDE**2)) * 127) / 127
    bare = d.model_copy(update={"crossbar": d.crossbar.model_copy(update={"c_wire_f": 0.0, "c_cell_f": 0.0})})
    traces = {}
    for name, of, flat in (("ours", d, False), ("flat", d, True), ("bare", bare, True)):
        net = LoweredNetwork(of, load_cells(Cells()), g_pos, g_neg, simulator.klu, 10.0)
        deck = net.transients(x, 0.0, flat=flat, reltol=1e-6, points=600)
        t, z, _ = net.read_trajectory(run_deck(deck, simulator=simulator, folder=tmp_path).plots[0], x[0], flat=flat)
        traces[name] = np.stack([np.interp(np.linspace(0, 1.5e-6, 2000), t, column) for column in z.T])
    moved = np.abs(traces["flat"] - traces["bare"]).max()
    missed = np.abs(traces["ours"] - traces["flat"]).max()
    assert missed < 1e-4
    assert missed < 0.8 * moved
