"""Node networks (rc, gmc) without ngspice: the node's equation, its gradients, its bound, its time and its noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from analog_deq.equilibrium.certificate import certify
from analog_deq.errors import SpecError
from analog_deq.fit.forms import BOLTZMANN
from analog_deq.fit.parameters import Goodness, Table
from analog_deq.mappings.node.array import folded_admittance
from analog_deq.mappings.node.dynamics import noise_covariance, settling_times, trajectory
from analog_deq.mappings.node.noise_table import NoiseTable
from analog_deq.mappings.node.proxy import Load, NodeNetwork, program
from analog_deq.mappings.node.spec import NodeSettings
from analog_deq.mappings.node.variation import MISMATCH, fit_neuron
from analog_deq.mappings.registry import load_family
from analog_deq.proxy.activation import TableActivation
from analog_deq.spec import Crossbar, DesignSpec

Z_UNIT, V_UNIT, R_OUT, R_DAC, LEAK = 0.6, 0.1, 10.0, 20.0, 20e-6
INPUTS, STATES = 3, 4
RNG = np.random.default_rng(7)
GOOD = Goodness(unit="", train=0.0, held_out=0.0, n_train=1, n_held_out=1, tolerance=1.0)
GRID = np.linspace(-6.2, 6.2, 241)
SETTINGS = NodeSettings(c_node_f=40e-12, z_unit_v=Z_UNIT, v_unit_v=V_UNIT)


def table(values: np.ndarray) -> Table:
    return Table(start=GRID[0], step=GRID[1] - GRID[0], values=values.tolist(), variance=0.0, goodness=GOOD)


ACT = TableActivation.nominal(table(np.tanh(GRID)))
LINEAR = Load.nominal(table(LEAK * V_UNIT * GRID))
OTA = Load.nominal(table(40e-6 * np.tanh(0.469e-3 * V_UNIT * GRID / 40e-6)))


def crossbar(line: float = 0.0, levels: int = 0) -> Crossbar:
    return Crossbar(g_min_siemens=1e-6, g_max_siemens=1e-4, levels=levels, r_line_ohm=line, r_dac_ohm=R_DAC)


def conductances(own: float = LEAK, total: float = 2.0) -> Tensor:
    rows = INPUTS + 1 + STATES
    w = RNG.standard_normal((rows, STATES))
    w[INPUTS + 1 :] *= 0.8 / np.abs(w[INPUTS + 1 :]).sum(0)
    w[: INPUTS + 1] *= (total - 0.8) / np.abs(w[: INPUTS + 1]).sum(0)
    return program(torch.as_tensor(w), SETTINGS, crossbar(), own)


def network(g: Tensor, load: Load, line: float = 0.0) -> NodeNetwork:
    admittance = folded_admittance(g, crossbar(line), R_OUT)
    return NodeNetwork.of(admittance, INPUTS, SETTINGS, R_OUT, ACT, load)


def x_of(images: int) -> Tensor:
    return torch.as_tensor(RNG.uniform(-1, 1, (images, INPUTS)))


@pytest.mark.parametrize("load", [LINEAR, OTA], ids=["leak", "ota"])
def test_kirchhoffs_law_holds_at_every_node_and_row_of_the_solved_circuit(load):
    """Written from the circuit: each row is one node behind its source's resistance, every cell a conductance."""
    g, x = conductances(), x_of(5)
    circuit = network(g, load)
    h = circuit.solve(circuit.drive(x))
    z = ACT.value(h)
    reading = circuit.reading(h, z, x)
    s = V_UNIT * h
    level = torch.cat([x, torch.ones(5, 1, dtype=x.dtype), z], dim=1) * Z_UNIT
    into, rows = torch.zeros_like(s), []
    for sign, conductance in ((1.0, g[0]), (-1.0, g[1])):
        source = torch.full((len(conductance),), 1 / R_DAC, dtype=x.dtype)
        source[-STATES:] = 1 / R_OUT
        row = (sign * level * source + s @ conductance.T) / (source + conductance.sum(1))
        into = into + row @ conductance - s * conductance.sum(0)
        rows.append(row)
    assert torch.allclose(into, load.at(h)[0], rtol=0, atol=1e-16)
    assert torch.allclose(reading, (rows[0] - rows[1])[:, -STATES:] / (2 * Z_UNIT), rtol=0, atol=1e-13)


def test_programmed_weights_are_what_the_divider_computes_even_where_some_reach_the_end_of_the_range():
    """w = ratio (g+ - g-) / (own + sum of all): exact for those inside the range, less for those at its end."""
    w = torch.tensor([[2.0, 0.3], [-0.5, -0.2], [0.4, 0.0], [-0.1, 1.6]], dtype=torch.float64)
    own = 0.4e-3
    g = program(w, SETTINGS, crossbar(), own)
    got = SETTINGS.ratio * (g[0] - g[1]) / (own + g.sum((0, 1)))
    full = torch.maximum(g[0], g[1]) >= 1e-4 * (1 - 1e-12)
    assert full.sum() == 2
    assert torch.allclose(got[~full], w[~full], rtol=1e-12, atol=0)
    assert bool((got[full].abs() < w[full].abs()).all())
    assert torch.equal(got[full].sign(), w[full].sign())


def test_weights_that_sum_to_more_than_a_divider_can_hold_are_scaled_down():
    w = torch.full((12, 1), 1.0, dtype=torch.float64)
    g = program(w, SETTINGS, crossbar(), LEAK)
    got = SETTINGS.ratio * (g[0] - g[1]) / (LEAK + g.sum((0, 1)))
    assert got.abs().sum().item() == pytest.approx(SETTINGS.fill * SETTINGS.ratio, rel=1e-12)


@pytest.mark.parametrize("load", [LINEAR, OTA], ids=["leak", "ota"])
@pytest.mark.parametrize("line", [0.0, 50.0])
def test_gradients_of_the_reading_are_those_of_finite_differences(load, line):
    g, x = conductances(), x_of(3)
    weight = torch.as_tensor(RNG.standard_normal((3, STATES)))

    def loss(conductance: Tensor) -> Tensor:
        circuit = network(conductance, load, line)
        h = circuit.solve(circuit.drive(x))
        return (weight * circuit.reading(h, ACT.value(h), x)).sum()

    leaf = g.clone().requires_grad_()
    loss(leaf).backward()
    assert leaf.grad is not None
    for place in [(0, 0, 1), (1, 3, 2), (0, 5, 0), (1, 7, 3)]:
        step = torch.zeros_like(g)
        step[place] = 1e-9
        with torch.no_grad():
            difference = float(loss(g + step) - loss(g - step)) / 2e-9
        assert float(leaf.grad[place]) == pytest.approx(difference, rel=1e-5)


@pytest.mark.parametrize("load", [LINEAR, OTA], ids=["leak", "ota"])
def test_the_bound_covers_the_loop_at_any_state(load):
    """In the nodes' currents the loop is K D (i' + Y'_jj)^-1 plus what wires couple, at whatever state."""
    circuit = network(conductances(), load, line=20.0)
    bound = circuit.bound()
    off = circuit.y - torch.diag(circuit.y.diagonal())
    for _ in range(200):
        h = torch.as_tensor(RNG.uniform(-5, 5, (1, STATES)))
        own = circuit.load.at(h)[1][0] + V_UNIT * circuit.y.diagonal()
        loop = (circuit.w * ACT.slope(h)[0] - V_UNIT * off) / own
        assert bool((loop.abs() <= bound * (1 + 1e-9)).all())
    assert certify(bound, 1.0).gamma < 1


def test_without_feedback_a_node_charges_with_its_capacitance_over_its_conductance():
    g = conductances()
    g[:, -STATES:] = 1e-6
    circuit = network(g, LINEAR)
    circuit = replace(circuit, a=torch.cat([circuit.a[:, : INPUTS + 1], 0 * circuit.w], 1), drop_u=0 * circuit.drop_u)
    c_f, x = torch.full((STATES,), 40e-12, dtype=torch.float64), x_of(2)
    y = circuit.y.numpy() + LEAK * np.eye(STATES)
    rate, vectors = np.linalg.eigh(y / 40e-12)
    t, readings = trajectory(circuit, x, c_f, 1e-12, 0.5e-9)
    end = np.linalg.solve(y, circuit.drive(x).numpy().T)
    s = vectors @ ((1 - np.exp(-rate * float(t[-1])))[:, None] * (vectors.T @ end))
    assert np.allclose(readings[-1].numpy(), np.tanh(s.T / V_UNIT), rtol=0, atol=2e-3)  # the path's pole lags 1 ps
    assert np.all(np.diff(np.abs(readings.numpy()), axis=0) > -1e-12)


def test_settling_time_is_the_last_exit():
    t = torch.linspace(0, 10, 1001, dtype=torch.float64)
    wave = torch.exp(-t)[:, None, None] * torch.cos(4 * t)[:, None, None]
    found = settling_times(t, wave, torch.zeros(1, 1, dtype=torch.float64), 0.05)[0]
    assert float(wave[int(found * 100) : int(found * 100) + 1].abs()) == pytest.approx(0.05, abs=2e-3)
    assert float(wave[t > found + 1e-2].abs().max()) < 0.05
    assert np.isnan(settling_times(t[:50], wave[:50], torch.zeros(1, 1, dtype=torch.float64), 0.05)[0])


def test_a_passive_node_has_kt_over_c_of_noise_whatever_its_conductance():
    """Nyquist's 4kTG through 1 / (G + j w C): kT / C. A feed-forward reading shows it times the slope."""
    frequency = np.logspace(2, 10, 801)
    for own in (20e-6, 200e-6):
        load = Load.nominal(table(own * V_UNIT * GRID))
        circuit = network(conductances(), load)
        circuit = replace(circuit, a=0 * circuit.a, drop_u=0 * circuit.drop_u, drop_s=0 * circuit.drop_s)
        thermal = np.full((2, len(frequency)), 4 * BOLTZMANN * 300.0 * own).tolist()
        silent = np.full((2, len(frequency)), 1e-40).tolist()
        noise = NoiseTable(
            bias_h=[-9.0, 9.0], frequency_hz=frequency.tolist(), state=silent, current=thermal, goodness=GOOD
        )
        c_f, h = torch.full((STATES,), 40e-12, dtype=torch.float64), torch.zeros(1, STATES, dtype=torch.float64)
        covariance = noise_covariance(circuit, noise, h, c_f, (1e-12, 0.0), 300.0)[0]
        expected = BOLTZMANN * 300.0 / 40e-12 * np.square(float(ACT.slope(h)[0, 0]) / V_UNIT)
        assert np.allclose(np.diag(covariance), expected, rtol=5e-3)
        assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 5e-3 * expected


def test_a_neurons_curves_give_back_its_mismatch():
    """Curves made with known errors: an OTA's shift and offset are told apart by where it runs out of current."""
    truth = {"sat": 0.98, "in_scale": 1.01, "in_offset": 0.02, "out_offset": -0.003, "load_gain": 0.01}
    shift, offset = 0.015, 0.2e-6
    h = np.linspace(-4, 4, 33)
    z = truth["sat"] * np.tanh(truth["in_scale"] * h + truth["in_offset"]) + truth["out_offset"]
    amps = 1.01 * 40e-6 * np.tanh(0.469e-3 * V_UNIT * (h + shift) / 40e-6) + offset
    curves = pd.DataFrame({"s": h * V_UNIT, "i_in": amps, "zp": Z_UNIT * z, "zn": -Z_UNIT * z})
    ota = table(40e-6 * np.tanh(0.469e-3 * V_UNIT * GRID / 40e-6))
    found = fit_neuron(curves, table(np.tanh(GRID)), ota, SETTINGS)
    values = dict(zip(MISMATCH, found.values, strict=True))
    for name, value in truth.items():
        assert values[name] == pytest.approx(value, abs=3e-4)
    assert values["load_shift_h"] == pytest.approx(shift, rel=0.02)
    assert values["load_offset_a"] == pytest.approx(offset, rel=0.02)
    assert found.held_out < 1e-7


def design(mapping: str, **changes: Any) -> DesignSpec:
    family: dict[str, Any] = {"c_node_f": 40e-12, "z_unit_v": 0.6, "v_unit_v": 0.1}
    family |= {"g_leak_siemens": 20e-6} if mapping == "rc" else {}
    content: dict[str, Any] = {
        "schema": 1, "name": "small", "mapping": mapping, "family": family | changes.pop("family", {}),
        "sizes": {"inputs": INPUTS, "states": STATES, "outputs": 2},
        "crossbar": {"g_min_siemens": 1e-6, "g_max_siemens": 1e-4}, **changes,
    }  # fmt: skip
    return DesignSpec.model_validate(content)


def test_a_wrong_setting_is_named():
    with pytest.raises(SpecError, match=r"family\.g_leak_siemens"):
        load_family(design("rc", family={"g_leak_siemens": -1.0}))
    with pytest.raises(SpecError, match=r"family\.c_load_f"):
        load_family(design("gmc", family={"c_load_f": 1e-12}))
    with pytest.raises(SpecError, match='only class "A"'):
        load_family(design("rc", certificate={"weight_class": "C"}))
    with pytest.raises(SpecError, match="not a ota"):
        load_family(design("gmc", family={"ota": "diffpair"}))


def test_a_die_is_drawn_from_its_number_alone():
    family = load_family(design("gmc"))
    one, again, other = family.draw(3), family.draw(3), family.draw(4)
    assert one.dg.shape == (2, INPUTS + 1 + STATES, STATES)
    assert np.array_equal(one.dg, again.dg)
    assert not np.array_equal(one.dg, other.dg)
    assert set(one.deviations) >= {"load.dvt", "activation.dvt", "driver.vos", "c_node"}
    assert np.array_equal(one.deviations["load.dvt"], again.deviations["load.dvt"])
