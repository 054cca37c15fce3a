"""The effective map against a brute-force nodal solve of array, drivers and op-amps; its gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import A0, R_OUT, S0, Nodal, array_resistors, conductances, design, proxy, tiled_resistors

from analog_deq.errors import OutOfDomainError, SpecError
from analog_deq.proxy.array import effective_map, linear_map, source_pattern
from analog_deq.proxy.terms import array_terms
from analog_deq.spec import DesignSpec
from analog_deq.tiling import cut, design_tiles

INPUTS, STATES = 3, 4
ROWS = INPUTS + 1 + STATES


def brute_force(
    d: DesignSpec, g_pos: np.ndarray, g_neg: np.ndarray, z: np.ndarray, x: np.ndarray,
    vos: np.ndarray, r_error: np.ndarray, trim: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(h, row reading) by one dense linear solve of the whole circuit, drivers at internal levels ``z``."""
    unit, r_feedback = d.neuron.z_unit_v, d.neuron.r_feedback_ohm * (1 + r_error)
    wires, spans = d.crossbar, [(tile.rows, tile.columns) for tile in design_tiles(d)]
    elements = list(
        tiled_resistors(g_pos, g_neg, spans, wires.r_line_ohm, wires.r_dac_ohm)
        if spans
        else array_resistors(g_pos, g_neg, wires.r_line_ohm, wires.r_dac_ohm, wires.both_word_ends)
    )
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


@pytest.mark.parametrize(
    ("r_line", "both_ends", "tiles"),
    [(0.0, False, 0), (2.0, False, 0), (20.0, False, 0), (0.0, True, 0), (20.0, True, 0), (20.0, False, 3)],
)
@pytest.mark.parametrize("seed", range(3))
def test_the_map_equals_the_whole_linear_circuit(r_line, both_ends, tiles, seed):
    more = {"tiling": {"rows": tiles, "columns": tiles}} if tiles else {}
    d = design(STATES, INPUTS, crossbar={"r_line_ohm": r_line, "both_word_ends": both_ends}, **more)
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


@pytest.mark.parametrize("r_line", [0.0, 5.0])
def test_the_gradient_is_that_of_the_map_with_wires_drivers_and_op_amps(r_line):
    """Of every part, readings included: the drop over the drivers depends on the weights too."""
    d = design(STATES, INPUTS, crossbar={"r_line_ohm": r_line})
    g_pos, g_neg = pair()
    logs = (torch.zeros_like(g_pos, requires_grad=True), torch.zeros_like(g_neg, requires_grad=True))

    def parts(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        found = linear_map(d, proxy(), g_pos * torch.exp(a), g_neg * torch.exp(b))
        reading = 1e3 * torch.cat([found.r_state, found.r_input, found.r_bias[:, None]], 1)
        return torch.cat([found.w_state, found.w_input, found.bias[:, None], reading], 1)

    assert torch.autograd.gradcheck(parts, logs)


def test_training_and_verification_have_one_map():
    g_pos, g_neg = pair()
    d = design(STATES, INPUTS)
    found = linear_map(d, proxy(), g_pos.requires_grad_(), g_neg)
    exact = effective_map(d, proxy(), g_pos.detach().numpy(), g_neg.numpy())
    z, x = np.full((2, STATES), 0.3), np.full((2, INPUTS), 0.6)
    reading = found.readout(torch.as_tensor(z), torch.as_tensor(x)).detach().numpy()
    assert np.abs(reading - exact.readout(z, x)).max() < 1e-14
    assert np.array_equal(found.load.numpy(), exact.load)  # no gradient: time constants and noise only


def test_terms_are_those_of_a_batch_of_arrays():
    stack = [torch.stack(part) for part in zip(pair(1), pair(2), strict=True)]
    both = array_terms(*stack, r_line_ohm=2.0, r_dac_ohm=10.0, r_out_ohm=R_OUT)
    one = array_terms(*pair(2), r_line_ohm=2.0, r_dac_ohm=10.0, r_out_ohm=R_OUT)
    for name in ("into_state", "into_input", "into_bias", "summing", "row_state", "row_input", "row_bias", "rows"):
        assert torch.allclose(getattr(both, name)[1], getattr(one, name), rtol=1e-12, atol=1e-18), name
    with pytest.raises(SpecError, match="cannot hold a bias and 4 states"):
        array_terms(*(g[:STATES] for g in pair()), r_line_ohm=2.0, r_dac_ohm=10.0)


def test_a_tiled_layer_has_the_gradient_of_its_tiles():
    """One step of a conductance, against differences of the map; tiles given here stand before the design's."""
    d = design(STATES, INPUTS, tiling={"rows": 3, "columns": 2})
    g_pos, g_neg = (torch.as_tensor(g) for g in conductances(ROWS, STATES, seed=7))
    leaf = g_pos.clone().requires_grad_()
    found = linear_map(d, proxy(), leaf, g_neg)
    (slope,) = torch.autograd.grad(found.w_state[1, 2] + found.bias.sum(), leaf)
    step = torch.zeros_like(g_pos)
    step[INPUTS + 1 + 2, 1] = 1e-9
    up, down = (linear_map(d, proxy(), g_pos + sign * step, g_neg) for sign in (1, -1))
    difference = (up.w_state[1, 2] + up.bias.sum() - down.w_state[1, 2] - down.bias.sum()) / 2e-9
    assert float(slope[INPUTS + 1 + 2, 1]) == pytest.approx(float(difference), rel=1e-5)
    given = effective_map(design(STATES, INPUTS), proxy(), g_pos.numpy(), g_neg.numpy(), tiles=cut(ROWS, STATES, 3, 2))
    assert np.array_equal(given.w_state, found.w_state.detach().numpy())
    whole = effective_map(d, proxy(), g_pos.numpy(), g_neg.numpy(), tiles=())
    assert np.abs(whole.w_state - given.w_state).max() > 1e-6


def test_tiles_of_synapses_that_bend_are_refused():
    bent = proxy().model_copy(update={"synapse": proxy().synapse.model_copy(update={"bend": 0.03})})
    with pytest.raises(SpecError, match="tiling: these synapses bend"):
        effective_map(design(STATES, INPUTS, tiling={"rows": 3, "columns": 2}), bent, *conductances(ROWS, STATES))


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
