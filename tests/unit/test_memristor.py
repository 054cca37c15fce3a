"""The memristor mapping without a simulator: closure, equilibrium and its gradients, time, noise, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from memristor_circuit import INPUTS, STATES, small_design, small_programmed, written_proxy

from analog_deq.errors import OutOfDomainError, SpecError
from analog_deq.fit.forms import BOLTZMANN
from analog_deq.mappings.memristor import MAPPING
from analog_deq.mappings.memristor.closure import by_column, close, solve
from analog_deq.mappings.memristor.dynamics import amplifier_tau
from analog_deq.mappings.memristor.model import DeployedMemristor, column_map
from analog_deq.mappings.memristor.netlist import physical
from analog_deq.mappings.memristor.pair import bent, bent_slope
from analog_deq.mappings.memristor.proxy import amplifier_response, open_loop
from analog_deq.mappings.memristor.spec import read_family

X = torch.tensor([[0.2, 0.9, 0.4], [0.7, 0.0, 1.0]], dtype=torch.float64)


def deployed(r_line_ohm: float = 2.0, a: float = 0.009, a0: float = 1e4) -> DeployedMemristor:
    design = small_design(r_line_ohm=r_line_ohm)
    return DeployedMemristor(design, read_family(design), written_proxy(a, a0), small_programmed())


def test_columns_of_the_array_are_p_and_n_of_each_neuron_in_turn():
    programmed = small_programmed()
    flat = by_column(torch.as_tensor(programmed)).numpy()
    assert np.array_equal(flat, physical(programmed))
    assert np.array_equal(flat[:, 2], programmed[0, :, 1])
    assert np.array_equal(flat[:, 3], programmed[1, :, 1])


def test_a_large_weight_on_a_positive_row_raises_its_own_neuron_only():
    programmed = np.full((2, INPUTS + 1 + STATES, STATES), 1e-6)
    programmed[0, 1, 1] = 3e-5
    design = small_design(r_line_ohm=0.0)
    found = DeployedMemristor(design, read_family(design), written_proxy(), programmed).solved(X)
    assert found.h[0, 1] == pytest.approx(0.8 / 3.9e-5 * 2.9e-5 * 0.9 * (1 + 0.009 * 0.81) / 1.009, rel=5e-3)
    assert abs(float(found.h[0, 0])) < 1e-3
    assert abs(float(found.h[1, 1])) < 1e-3


def test_the_closure_is_kirchhoffs_law_of_amplifiers_with_finite_gain():
    """Columns solved by hand: nodes s and v of each, rows as voltage sources, offsets and R_F errors included."""
    g = torch.as_tensor(physical(small_programmed()))
    rows, columns = g.shape
    y = torch.zeros(rows + columns, rows + columns, dtype=torch.float64)
    y[:rows, rows:], y[rows:, :rows] = -g, -g.T
    y[rows:, rows:] = torch.diag(g.sum(0))
    y[:rows, :rows] = torch.diag(g.sum(1))
    rng = np.random.default_rng(0)
    vos, r, a0, out = rng.normal(0, 1e-3, columns), 20e3 * (1 + rng.normal(0, 0.01, columns)), 50.0, 10.0
    found = close(
        y, STATES, r_feedback_ohm=torch.as_tensor(r), summing_v=torch.as_tensor(vos), inverse_a0=1 / a0, r_out_ohm=out,
        z_unit_v=0.1, v_unit_v=0.08, law=(0.0, 0.0),
    )  # fmt: skip
    x, z = torch.tensor([[0.3, 0.8, 0.1]], dtype=torch.float64), torch.tensor([[0.5, -0.7]], dtype=torch.float64)
    volts = 0.1 * np.concatenate([x[0], [1.0], z[0]])
    expected = np.empty(columns)
    ends = np.empty(columns)
    for j in range(columns):
        # (s - v)/R + sum g (s - V) = 0 and v = a0 (vos - s)
        total, into = float(g[:, j].sum()), float(g[:, j] @ torch.as_tensor(volts))
        ends[j] = (into + a0 * vos[j] / r[j]) / (total + (1 + a0) / r[j])
        expected[j] = -a0 * (vos[j] - ends[j]) / 0.08
    q = x @ found.q_x.T + found.q_b + z @ found.q_z.T
    assert q[0].numpy() == pytest.approx(expected, rel=1e-10)
    current = [float(g[k] @ torch.as_tensor(volts[k] - ends)) for k in (rows - 2, rows - 1)]
    read = z[0].numpy() - out * np.array(current) / 0.1
    assert found.reading(x, z)[0].numpy() == pytest.approx(read, rel=1e-10)


def test_the_equilibrium_is_a_fixed_point_of_pair_and_columns():
    network = deployed()
    found = network.solved(X)
    driven = bent(network.inputs(X), network.proxy.bend)
    fed = bent(found.z, network.proxy.bend)
    q = driven @ network.columns.q_x.T + network.columns.q_b + fed @ network.columns.q_z.T
    h, c = q[:, 0::2] - q[:, 1::2], (q[:, 0::2] + q[:, 1::2]) / 2
    z = torch.tanh(h) + 3e-3 * h * torch.exp(-(h**2)) * c
    assert torch.allclose(found.z, z, atol=2e-5)  # the table between its knots
    assert torch.allclose(network.act.evaluate(h, c)[0], found.z, atol=1e-12)


@pytest.mark.parametrize("r_line_ohm", [0.0, 5.0])
def test_gradients_of_readings_to_conductances_are_those_of_differences(r_line_ohm):
    network = deployed(r_line_ohm)
    g = torch.as_tensor(physical(small_programmed()))

    def readings(scaled: torch.Tensor) -> torch.Tensor:
        columns, _ = column_map(network.design, network.spec, network.proxy, scaled * 1e-6)
        return columns.reading(X, solve(columns, network.act, X).z)

    assert torch.autograd.gradcheck(readings, (g * 1e6).requires_grad_(), eps=1e-4, atol=1e-7, rtol=1e-5)


def test_slopes_of_the_pair_and_of_the_read_law_are_their_derivatives():
    act = written_proxy().pair.activation()
    h = torch.linspace(-3.3, 3.3, 40, dtype=torch.float64).requires_grad_()
    c = torch.linspace(-2, 2, 40, dtype=torch.float64).requires_grad_()
    value, by_h, by_c = act.evaluate(h, c)
    own = torch.autograd.grad(value.sum(), (h, c))
    assert torch.allclose(by_h, own[0], atol=1e-12)
    assert torch.allclose(by_c, own[1], atol=1e-12)
    most_h, most_c = act.bounds(4.0)
    assert float(by_h.detach().abs().max()) <= most_h
    assert float(by_c.detach().abs().max()) <= most_c
    u = torch.linspace(-1, 1, 21, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(bent(u, (0.03, 0.001)).sum(), u)
    assert torch.allclose(slope, bent_slope(u, (0.03, 0.001)), atol=1e-14)
    assert bent(torch.ones(1), (0.03, 0.001)).item() == pytest.approx(1.0, rel=1e-6)


def test_the_trajectory_ends_at_the_equilibrium_and_its_slow_pole_is_the_amplifiers():
    network = deployed()
    ends = network.solve(X).reading.numpy()
    _, z = network.circuit.trajectory(network.inputs(X).numpy(), ends, network.columns, 4e-7, 1e-4)
    assert np.abs(z[-1] - ends).max() < 5e-6
    # without feedback the last to die out is the slowest amplifier
    g = small_programmed()
    g[:, -STATES:] = 1e-9
    still = DeployedMemristor(network.design, network.spec, network.proxy, np.maximum(g, 1e-6))
    found = still.stability(X)
    slowest = max(amplifier_tau(float(load), still.proxy, still.spec) for load in still.columns.load)
    assert -1 / found["abscissa_per_s"] == pytest.approx(slowest, rel=0.35)
    assert 60 < found["amplifier_phase_margin_deg"] < 125


def test_the_amplifiers_response_has_the_gain_and_noise_gain_of_its_resistors():
    low = np.array([1.0])
    current, voltage = amplifier_response(low, 3e-4, open_loop(low, 1e-3, 1e9, 1e10), 20e3, 0.2e-12, 0.2e-12)
    loop = 1 + (1 + 20e3 * 3e-4) * 1e-3
    assert abs(current[0]) == pytest.approx(1 / loop, rel=1e-6)
    assert abs(voltage[0]) == pytest.approx((1 + 20e3 * 3e-4) / loop, rel=1e-6)


def test_thermal_noise_of_a_quiet_neuron_is_that_of_its_resistors_through_its_poles():
    """Op-amps and pair silent and fast: 4kT (1/R + G) R^2 of two amplifiers through the slope and one pole."""
    design = small_design(r_line_ohm=0.0)
    proxy = written_proxy(a=0.0)
    quiet = proxy.noise.model_copy(update={"values": dict.fromkeys(proxy.noise.values, 0.0)})
    programmed = np.full((2, INPUTS + 1 + STATES, STATES), 1e-6)
    network = DeployedMemristor(design, read_family(design), proxy.model_copy(update={"noise": quiet}), programmed)
    r = network.spec.r_feedback_ohm
    fast = network.proxy.loop.model_copy(update={"values": {"gbw_hz": 1e12, "f2_hz": 1e13}})
    network = DeployedMemristor(design, network.spec, network.proxy.model_copy(update={"loop": fast}), programmed)
    load = network.columns.load.numpy()
    solved = network.solved(X[:1])
    variance = [
        sum(
            4 * BOLTZMANN * 300.15 * (1 / r + g) * r**2 / (4 * r * network.spec.c_feedback_f)
            for g in load[2 * i : 2 * i + 2]
        )
        for i in range(STATES)
    ]
    expected = float(solved.by_h[0, 0]) * math.sqrt(variance[0]) / network.spec.v_unit_v
    assert network.noise_rms(X[:1])[0, 0] == pytest.approx(expected, rel=0.12)  # pair and driver cut the tail


def test_training_draws_dies_and_repeats_them_and_its_gradient_reaches_all_weights():
    design = small_design()
    family = MAPPING.load(design)
    model = family.model(written_proxy())
    from analog_deq.train.network import Network

    network = Network(design, torch.Generator().manual_seed(1), max_slope=model.max_slope)
    first, again, other = (model(network, X, step).z for step in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    model(network, X, 1).z.square().sum().backward()
    assert all(float(p.grad.abs().max()) > 0 for p in (network.w_input, network.bias))


def test_the_certificate_bounds_the_rows_of_the_true_loop():
    network = deployed()
    by_h, by_c = network.act.bounds(4.0)
    h_z, c_z = network.columns.difference[2], network.columns.mean[2]
    gain = (by_h * h_z.abs() + by_c * c_z.abs()) * bent_slope(torch.ones(()), network.proxy.bend)
    certificate = network.certificate()
    assert certificate.gamma >= float(torch.linalg.eigvals(gain).abs().max()) * (1 - 1e-6)


def test_what_was_not_calibrated_is_refused():
    design = small_design()
    spec, proxy = read_family(design), written_proxy()
    with pytest.raises(OutOfDomainError, match="target_siemens"):
        DeployedMemristor(design, spec, proxy, small_programmed() * 2).solve(X)
    narrow = proxy.model_copy(update={"pair": proxy.pair.model_copy(update={"c_max": 0.1})})
    with pytest.raises(OutOfDomainError, match="widen h_max or c_max"):
        DeployedMemristor(design, spec, narrow, small_programmed()).solve(X)


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ({"r_feedback": 1.0}, "family.r_feedback"),
        ({"opamp": "diffpair"}, "family.opamp"),
        ({"activation": "diffpair"}, "second input"),
        ({"synapse": "rram_hfox", "age_s": 10.0}, "holds one time only"),
        ({"synapse": "pcm", "age_s": 1.0}, "pcm holds 20"),
    ],
)
def test_a_wrong_family_table_names_its_key(family, message):
    design = small_design(**family)
    with pytest.raises(SpecError, match=message):
        MAPPING.load(design)


def test_a_range_beyond_the_device_is_refused():
    design = small_design("pcm")
    wide = design.model_copy(update={"crossbar": design.crossbar.model_copy(update={"g_max_siemens": 1e-4})})
    with pytest.raises(SpecError, match=r"pcm holds 2\.5e-07 to 2\.5e-05"):
        MAPPING.load(wide)
