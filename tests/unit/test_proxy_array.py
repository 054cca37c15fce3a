"""The effective map against a brute-force nodal solve of array, drivers and op-amps; the tied map's exactness."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import A0, R_OUT, S0, Nodal, array_resistors, conductances, design, proxy

from analog_deq.errors import OutOfDomainError
from analog_deq.proxy.approximate import TiedMap, TorchMap, approximate_map
from analog_deq.proxy.array import effective_map, source_pattern
from analog_deq.spec import DesignSpec

INPUTS, STATES = 3, 4
ROWS = INPUTS + 1 + STATES


def brute_force(
    d: DesignSpec, g_pos: np.ndarray, g_neg: np.ndarray, z: np.ndarray, x: np.ndarray,
    vos: np.ndarray, r_error: np.ndarray, trim: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(h, row reading) by one dense linear solve of the whole circuit, drivers at internal levels ``z``."""
    unit, r_feedback = d.neuron.z_unit_v, d.neuron.r_feedback_ohm * (1 + r_error)
    elements = list(array_resistors(g_pos, g_neg, d.crossbar.r_line_ohm, d.crossbar.r_dac_ohm))
    for i in range(STATES):
        elements += [(f"d{sign}{i}", f"z{sign}{i}", 1 / R_OUT) for sign in "+-"]
        elements.append((f"s{i}", f"v{i}", 1 / r_feedback[i]))
    network = Nodal(iter(elements))
    volts = {f"u{2 * k}": unit * value for k, value in enumerate([*x, 1.0])}
    volts |= {f"u{2 * k + 1}": -unit * value for k, value in enumerate([*x, 1.0])}
    volts |= {f"d+{i}": unit * z[i] for i in range(STATES)} | {f"d-{i}": -unit * z[i] for i in range(STATES)}
    matrix, right = network.laplacian.copy(), np.zeros(len(network.index))
    for name, value in volts.items():
        k = network.index[name]
        matrix[k] = 0.0
        matrix[k, k], right[k] = 1.0, value
    for i in range(STATES):
        k = network.index[f"v{i}"]  # the op-amp delivers any current: its law replaces Kirchhoff's at its output
        matrix[k] = 0.0
        matrix[k, network.index[f"s{i}"]], matrix[k, k], right[k] = 1.0, 1 / A0, S0 + vos[i]
        right[network.index[f"s{i}"]] += trim[i]
    solved = np.linalg.solve(matrix, right)
    v = np.array([solved[network.index[f"v{i}"]] for i in range(STATES)])
    rows = np.array([[solved[network.index[f"z{sign}{i}"]] for i in range(STATES)] for sign in "+-"])
    return -v / d.neuron.v_unit_v, (rows[0] - rows[1]) / (2 * unit)


@pytest.mark.parametrize("r_line", [0.0, 2.0, 20.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_map_equals_the_whole_linear_circuit(r_line, seed):
    d = design(STATES, INPUTS, crossbar={"r_line_ohm": r_line})
    g_pos, g_neg = conductances(ROWS, STATES, seed=seed)
    rng = np.random.default_rng(100 + seed)
    vos, r_error = 1e-3 * rng.standard_normal(STATES), 0.01 * rng.standard_normal(STATES)
    trim = 1e-6 * rng.standard_normal(STATES)
    found = effective_map(d, proxy(), g_pos, g_neg, vos_v=vos, r_feedback=r_error, trim_a=trim)
    for _ in range(3):
        z, x = rng.uniform(-1, 1, STATES), rng.uniform(0, 1, INPUTS)
        h, reading = brute_force(d, g_pos, g_neg, z, x, vos, r_error, trim)
        assert np.abs(found.w_state @ z + found.w_input @ x + found.bias - h).max() < 1e-10
        assert np.abs(found.readout(z, x) - reading).max() < 1e-10


def test_line_resistance_can_be_overridden():
    g_pos, g_neg = conductances(ROWS, STATES, seed=1)
    zero = effective_map(design(STATES, INPUTS, crossbar={"r_line_ohm": 0.0}), proxy(), g_pos, g_neg)
    overridden = effective_map(design(STATES, INPUTS), proxy(), g_pos, g_neg, r_line_ohm=0.0)
    assert np.array_equal(zero.w_state, overridden.w_state)
    assert not np.allclose(
        zero.w_state, effective_map(design(STATES, INPUTS), proxy(), g_pos, g_neg).w_state, rtol=1e-6
    )


def test_the_weight_of_one_pair_has_its_sign_and_place():
    """Input 2 into neuron 3 with +20 uS, state 1 into neuron 0 with -30 uS, on a balanced array."""
    g_pos, g_neg = np.full((ROWS, STATES), 2e-6), np.full((ROWS, STATES), 2e-6)
    g_pos[2, 3] += 20e-6
    g_neg[INPUTS + 1 + 1, 0] += 30e-6
    d = design(STATES, INPUTS, crossbar={"r_line_ohm": 0.0})
    found = effective_map(d, proxy(), g_pos, g_neg)
    scale = d.neuron.r_feedback_ohm * d.neuron.z_unit_v / d.neuron.v_unit_v
    expected_input, expected_state = np.zeros((STATES, INPUTS)), np.zeros((STATES, STATES))
    expected_input[3, 2], expected_state[0, 1] = 20e-6 * scale, -30e-6 * scale
    # finite gain takes (1 + R_F G) / A0 = 2e-4, the driver's and DAC's 10 ohm take 10 * 3e-5
    assert np.abs(found.w_input - expected_input).max() < 1e-3
    assert np.abs(found.w_state - expected_state).max() < 1e-3
    assert np.abs(found.bias).max() < 1e-3
    assert found.load == pytest.approx((g_pos + g_neg).sum(axis=0), rel=2e-3)


def test_the_offset_is_amplified_by_the_noise_gain():
    d = design(STATES, INPUTS)
    g_pos, g_neg = conductances(ROWS, STATES, seed=2)
    clean = effective_map(d, proxy(), g_pos, g_neg)
    shifted = effective_map(d, proxy(), g_pos, g_neg, vos_v=1e-3)
    expected = -(1 + d.neuron.r_feedback_ohm * clean.load) * 1e-3 / d.neuron.v_unit_v
    assert shifted.bias - clean.bias == pytest.approx(
        expected, rel=2e-2
    )  # all nodes move: couplings between them count


def test_a_load_outside_the_calibration_is_refused():
    d = design(STATES, INPUTS)
    heavy = np.full((ROWS, STATES), 0.5e-3)
    with pytest.raises(OutOfDomainError, match=r"outside the calibrated \[2e-05, 0\.004\]"):
        effective_map(d, proxy(), heavy, heavy)


def test_wires_and_driver_loads_outside_the_calibration_are_refused():
    g_pos, g_neg = conductances(ROWS, STATES, seed=1)
    with pytest.raises(OutOfDomainError, match=r"r_line_ohm spans \[21, 21\], .* by 1;"):
        effective_map(design(STATES, INPUTS, crossbar={"r_line_ohm": 21.0}), proxy(), g_pos, g_neg)
    g_pos[-1] = 0.6e-3  # one row, so that its driver sees 2.4 mS and each column a fraction of that
    with pytest.raises(OutOfDomainError, match=r"driver_load_siemens spans .* by 0\.000"):
        effective_map(design(STATES, INPUTS, crossbar={"r_line_ohm": 0.0}), proxy(), g_pos, g_neg)


def test_dac_lines_come_in_pairs():
    pattern = source_pattern(2)
    assert pattern.shape == (6, 3)
    assert (pattern @ np.array([0.3, -0.5, 1.0])).tolist() == [0.3, -0.3, -0.5, 0.5, 1.0, -1.0]


# --- the map used in training ---------------------------------------------------------------------------------------


def pair(seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    g_pos, g_neg = conductances(ROWS, STATES, seed=seed)
    return torch.as_tensor(g_pos), torch.as_tensor(g_neg)


def stacked(effective: TorchMap) -> torch.Tensor:
    return torch.cat([effective.w_state, effective.w_input, effective.bias[:, None]], dim=1)


def test_the_tied_map_is_exact_where_it_was_tied_and_near_around_it():
    d = design(STATES, INPUTS, crossbar={"r_line_ohm": 5.0})
    g_pos, g_neg = pair()
    tied = TiedMap(d, proxy())
    tied.tie(g_pos, g_neg)
    exact = effective_map(d, proxy(), g_pos.numpy(), g_neg.numpy())
    found = tied(g_pos, g_neg)
    for name in ("w_state", "w_input", "bias", "load"):
        assert np.abs(getattr(found, name).numpy() - getattr(exact, name)).max() < 1e-13, name
    for name in ("r_state", "r_input", "r_bias"):
        assert np.array_equal(getattr(tied, name).numpy(), getattr(exact, name)), name
    moved = g_pos * 1.02
    truth = effective_map(d, proxy(), moved.numpy(), g_neg.numpy()).w_state
    error = np.abs(tied(moved, g_neg).w_state.numpy() - truth).max()
    untied = np.abs(approximate_map(d, proxy(), moved, g_neg).w_state.numpy() - truth).max()
    assert error < 0.1 * untied


def test_gradients_of_both_maps_equal_finite_differences():
    d = design(STATES, INPUTS)
    g_pos, g_neg = pair()
    tied = TiedMap(d, proxy())
    tied.tie(g_pos, g_neg)
    logs = (torch.zeros_like(g_pos, requires_grad=True), torch.zeros_like(g_neg, requires_grad=True))

    def tied_of(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return stacked(tied(g_pos * torch.exp(a), g_neg * torch.exp(b)))

    def near_of(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return stacked(approximate_map(d, proxy(), g_pos * torch.exp(a), g_neg * torch.exp(b)))

    assert torch.autograd.gradcheck(near_of, logs)
    assert torch.autograd.gradcheck(tied_of, logs)


def test_the_gradient_is_close_to_that_of_the_exact_map():
    d = design(STATES, INPUTS)
    g_pos, g_neg = pair()
    leaf = g_pos.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(approximate_map(d, proxy(), leaf, g_neg).w_state.sum(), leaf)
    rng = np.random.default_rng(5)
    for _ in range(4):
        direction = 1e-9 * rng.standard_normal(g_pos.shape)
        ends = [effective_map(d, proxy(), g_pos.numpy() + k * direction, g_neg.numpy()).w_state.sum() for k in (1, -1)]
        exact = (ends[0] - ends[1]) / 2
        scale = float(np.linalg.norm(gradient.numpy()) * np.linalg.norm(direction))
        assert abs(float((gradient * torch.as_tensor(direction)).sum()) - exact) < 5e-3 * scale


@pytest.mark.parametrize(("r_line", "tolerance"), [(0.0, 1e-5), (2.0, 4e-3)])
def test_the_approximation_alone_is_near(r_line, tolerance):
    """At the size of the shipped design with random weights; rms error of h in its units, and what wires do to it."""
    states, inputs = 32, 64
    d = design(states, inputs, crossbar={"r_line_ohm": r_line})
    g_pos, g_neg = conductances(inputs + 1 + states, states, seed=4, high=20e-6)
    near = approximate_map(d, proxy(), torch.as_tensor(g_pos), torch.as_tensor(g_neg))
    rng = np.random.default_rng(6)
    z, x = rng.uniform(-1, 1, (50, states)), rng.uniform(0, 1, (50, inputs))
    approximate = z @ near.w_state.numpy().T + x @ near.w_input.numpy().T + near.bias.numpy()

    def distance(line: float) -> float:
        exact = effective_map(d, proxy(), g_pos, g_neg, r_line_ohm=line)
        h = z @ exact.w_state.T + x @ exact.w_input.T + exact.bias
        return float(np.sqrt(np.mean((approximate - h) ** 2)))

    assert distance(r_line) < tolerance
    if r_line > 0:
        assert distance(r_line) < 0.1 * distance(0.0)


def test_a_map_must_be_tied_before_its_use():
    with pytest.raises(RuntimeError, match="tie"):
        TiedMap(design(STATES, INPUTS), proxy())(*pair())


def test_an_integrators_own_resistance_and_input_current_close_the_loop():
    """R_F 20 % larger and 3 uA drawn at the input: what an error of R_F and a trim of -3 uA would do."""
    d = design(STATES, INPUTS)
    g_pos, g_neg = conductances(ROWS, STATES, seed=4)
    form = proxy().integrator
    values = {**form.values, "r_feedback_ohm": 1.2 * d.neuron.r_feedback_ohm, "i0_a": 3e-6}
    own = proxy().model_copy(update={"integrator": form.model_copy(update={"values": values})})
    found = effective_map(d, own, g_pos, g_neg)
    expected = effective_map(d, proxy(), g_pos, g_neg, r_feedback=0.2, trim_a=-3e-6)
    for name in ("w_state", "w_input", "bias", "r_bias"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9)
    near = approximate_map(d, own, torch.as_tensor(g_pos), torch.as_tensor(g_neg))
    assert near.bias.numpy() == pytest.approx(found.bias, abs=0.03 * np.abs(found.bias).max())
