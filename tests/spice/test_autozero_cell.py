"""Auto-zero on transistors against its static equivalent: what is left of offsets, and the noise that is stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import KELVIN, design
from PySpice.Spice.Netlist import Circuit

from analog_deq.netlists.autozero import SWITCH_SIGMA, write_autozero_cell
from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.neuron import NeuronCells, NeuronNodes, add_integrator, circuit_lines, load_cells
from analog_deq.proxy.autozero import BOLTZMANN, sampled_noise_v
from analog_deq.proxy.mapping import ConductanceMapping
from analog_deq.records import Command, Deck, Noise, Tran
from analog_deq.spec import AutoZero, Cells
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator
from analog_deq.train.network import Network
from analog_deq.verify.lower import LoweredNetwork

pytestmark = pytest.mark.spice

HOLD_F, ZERO_S = 10e-12, 1e-6
GAIN = 1e4
OPTIONS: dict[str, float | str | bool] = {
    "reltol": 1e-6, "abstol": 1e-14, "vntol": 1e-9, "gmin": 1e-15, "method": "gear",
}  # fmt: skip


def cells(folder: Path) -> NeuronCells:
    return load_cells(Cells(opamp=str(write_autozero_cell(folder / "cells", HOLD_F, ZERO_S))))


def bench(own: NeuronCells, vos: np.ndarray, dw: np.ndarray, command: Command, save: list[str], extra=()) -> Deck:
    """Integrators with a load of 2 mS, one a die, no input."""
    circuit = Circuit("dies")
    circuit.V("dd", "vdd", "0", 0.9)
    circuit.V("ss", "vss", "0", -0.9)
    for k, (offset, width) in enumerate(zip(vos, dw, strict=True)):
        errors = {"opamp.vos": float(offset), "opamp.dw": float(width)}
        add_integrator(circuit, k, NeuronNodes.numbered(k), design().neuron, own, errors)
    lines = [*own.includes, *circuit_lines(circuit), *(f"Rg{k} s{k} 0 500" for k in range(len(vos))), *extra]
    return build_deck(
        "auto-zeroed integrators", lines, [command], save=save, options=OPTIONS, files=own.files,
        temperature_celsius=27.0, arguments=own.arguments,
    )  # fmt: skip


def test_what_is_left_of_an_offset_is_that_of_the_static_equivalent(simulator: Simulator, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    vos, dw = 3e-3 * rng.standard_normal(16), SWITCH_SIGMA * rng.standard_normal(16)
    names = [f"v({node}{k})" for node in "sv" for k in range(16)]
    deck = bench(cells(tmp_path), vos, dw, Tran(1e-8, 5e-6, 2e-8), names)
    plot = run_deck(deck, simulator=simulator, folder=tmp_path / "run", timeout_s=60.0).plots[0]
    last = np.real(plot.columns(names))[-1].reshape(2, 16)
    left = last[0] + last[1] / GAIN  # s = vos_left - v/A
    slope, mean = np.polyfit(dw, (left - vos / (1 + GAIN)) * HOLD_F, 1)
    spec = AutoZero(c_hold_f=HOLD_F, gain=GAIN, amplifier_noise_v=0.0)
    assert abs(slope) * SWITCH_SIGMA == pytest.approx(spec.injection_sigma_c, rel=0.05)
    assert abs(mean) < 0.1 * spec.injection_sigma_c  # the dummy takes the mean back
    assert left == pytest.approx(vos / (1 + GAIN) + (mean + slope * dw) / HOLD_F, abs=2e-8)
    assert np.abs(left).max() < 5e-3 * np.abs(vos).max()


def test_the_stored_noise_is_kt_over_c_and_the_amplifiers_own(simulator: Simulator, tmp_path: Path) -> None:
    """.noise over the hold capacitor while it stores. The switch beside it is written as a wire: ngspice leaves a
    switch out of its small-signal circuit."""
    own = cells(tmp_path)
    command = Noise("v(xo0.n,xo0.p)", "iz", 20, 1e2, 1e12)
    deck = bench(own, np.zeros(1), np.zeros(1), command, [], ("Iz 0 z 0 ac 1", "Rz z 0 1"))
    wired = tuple((name, text.replace("S2 p 0 one k plate", "R2 p 0 1 noisy=0")) for name, text in deck.files)
    plot = run_deck(replace(deck, files=wired), simulator=simulator, folder=tmp_path / "run", timeout_s=60.0).plots[0]
    density = np.real(plot["onoise_spectrum"])
    rms = np.sqrt(np.trapezoid(density**2, np.real(plot.sweep)))
    spec = AutoZero(c_hold_f=HOLD_F)
    assert sampled_noise_v(spec, KELVIN - 273.15) == pytest.approx(rms, rel=0.02)
    en, gbw = 5e-9, 200e6
    closed = np.sqrt(en**2 * np.pi / 2 * gbw + BOLTZMANN * KELVIN / HOLD_F)
    assert 1.0 < rms / closed < 1.1  # the second pole's peaking; the closed form is of one pole
    assert density[0] == pytest.approx(en, rel=0.01)


def test_a_network_zeroed_in_time_ends_where_its_static_equivalent_is(simulator: Simulator, tmp_path: Path) -> None:
    d = design(4, 3, verify={"transient_window_s": 40e-6})
    weights = Network(d, torch.Generator().manual_seed(3), max_slope=1.0)
    g_pos, g_neg = (g.detach().numpy() for g in ConductanceMapping.of(d.neuron, d.crossbar).program(weights.weights()))
    rng = np.random.default_rng(5)
    vos, dw = 2e-3 * rng.standard_normal(4), SWITCH_SIGMA * rng.standard_normal(4)
    zeroed = LoweredNetwork(d, cells(tmp_path), g_pos, g_neg, simulator.klu, 10.0, {"opamp.vos": vos, "opamp.dw": dw})
    x = np.array([[0.8, -0.5, 0.3]])
    deck = zeroed.transients(x, 0.0)
    started = "".join(line for line in deck.text.splitlines(True) if not line.startswith(".ic"))  # in its zeroing phase
    run = run_deck(replace(deck, text=started), simulator=simulator, folder=tmp_path / "tran", timeout_s=60.0)
    end = zeroed.read_trajectory(run.plots[0], x[0])[1][-1]

    def static(offsets: np.ndarray) -> np.ndarray:
        own = LoweredNetwork(d, load_cells(Cells()), g_pos, g_neg, simulator.klu, 10.0, {"opamp.vos": offsets})
        plot = run_deck(own.equilibria(x), simulator=simulator, folder=tmp_path / "dc", timeout_s=60.0).plots[0]
        return own.read_states(plot, x).z[0]

    charge = AutoZero().injection_sigma_c / SWITCH_SIGMA * dw
    assert np.abs(end - static(vos / (1 + GAIN) + charge / HOLD_F)).max() < 1e-5
    assert np.abs(end - static(vos)).max() > 0.01
