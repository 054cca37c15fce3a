"""Randomness: keyed by seed, stream and index, so no order of use and no number of workers can change a draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import SIGMA_G, design, proxy
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analog_deq.calibration.mismatch import synapse_errors
from analog_deq.draws import Stream, deviations, generator
from analog_deq.netlists.library import load_cell
from analog_deq.proxy.draws import draw_network

SIGMAS = {"opamp.vos": 1e-3, "r_feedback": 5e-3, "activation.dvt": 2e-3}


@given(st.permutations(range(6)))
def test_a_die_drawn_alone_equals_the_die_of_a_campaign(order):
    alone = [deviations(generator(7, Stream.CALIBRATION_DIE, k), SIGMAS, 1) for k in range(6)]
    campaign = {k: deviations(generator(7, Stream.CALIBRATION_DIE, k), SIGMAS, 1) for k in order}
    for k in range(6):
        assert {key: float(v[0]) for key, v in alone[k].items()} == {key: float(v[0]) for key, v in campaign[k].items()}


def test_the_order_in_which_parameters_are_named_does_not_matter():
    backwards = dict(reversed(SIGMAS.items()))
    a = deviations(generator(7, Stream.VERIFY_DIE, 3), SIGMAS, 5)
    b = deviations(generator(7, Stream.VERIFY_DIE, 3), backwards, 5)
    assert all(np.array_equal(a[key], b[key]) for key in SIGMAS)


def test_seed_stream_and_index_each_give_another_draw():
    draws = [
        generator(seed, stream, index).standard_normal(4).tolist()
        for seed in (1, 2)
        for stream in Stream
        for index in (0, 1, 2)
    ]
    assert len({tuple(d) for d in draws}) == len(draws)


def test_stream_numbers_are_part_of_every_result():
    """Renumbering a stream would silently change published figures."""
    assert [(s.name, s.value) for s in Stream][:8] == [
        ("CALIBRATION_DIE", 1), ("CONDUCTANCE_DIE", 2), ("CROSSBAR", 3), ("SPLIT", 4), ("TRAINING", 5),
        ("VERIFY_DIE", 6), ("VERIFY_CHOICE", 7), ("STATISTICS", 8),
    ]  # fmt: skip
    # SeedSequence and PCG64 are fixed by NumPy's compatibility policy; this is seed 7, stream 1, die 0
    expected = np.random.Generator(np.random.PCG64(np.random.SeedSequence(7, spawn_key=(1, 0)))).standard_normal()
    assert generator(7, Stream.CALIBRATION_DIE).standard_normal() == expected


def test_deviations_are_normal_with_the_stated_sigma_and_bounded():
    drawn = deviations(generator(1, Stream.STATISTICS), SIGMAS, 20000)
    for key, sigma in SIGMAS.items():
        assert stats.kstest(drawn[key] / sigma, "norm").pvalue > 1e-3
        assert np.abs(drawn[key]).max() <= 5 * sigma
    pairs = np.corrcoef(np.stack(list(drawn.values())))
    assert np.abs(pairs - np.eye(3)).max() < 4 / np.sqrt(20000)


def chi_square_interval(n: int) -> tuple[float, float]:
    """99.9 % interval of a sample standard deviation over the true one."""
    low, high = stats.chi2.ppf([0.0005, 0.9995], n - 1) / (n - 1)
    return float(low**0.5), float(high**0.5)


def test_a_drawn_network_has_the_fitted_statistics():
    big = design(states=400, inputs=2)
    fitted = proxy().mismatch
    draw = draw_network(proxy(), big, 403, np.random.default_rng(0))
    sigma = dict(zip(fitted.names, np.sqrt(np.diag(fitted.covariance)), strict=True))
    mean = dict(zip(fitted.names, fitted.mean, strict=True))
    low, high = chi_square_interval(400)
    for name in ("r_feedback", "tau", "sat", "in_scale", "out_offset"):
        values = getattr(draw, name).numpy()
        assert low < values.std(ddof=1) / sigma[name] < high
        assert abs(values.mean() - mean[name]) < 4 * sigma[name] / 20
    for g in (draw.g_pos, draw.g_neg):
        assert g.shape == (403, 400)
        assert g.numpy().std() == pytest.approx(SIGMA_G, rel=0.02)
    assert abs(np.corrcoef(draw.g_pos.numpy().ravel(), draw.g_neg.numpy().ravel())[0, 1]) < 0.01


def test_what_a_trim_leaves_is_uniform_within_half_a_step():
    big = design(states=400, inputs=2)
    draw = draw_network(proxy(), big, 403, np.random.default_rng(1))
    half = big.trim.range_a / (2**big.trim.bits - 1) * big.neuron.r_feedback_ohm / big.neuron.v_unit_v
    bias = draw.bias.numpy()
    assert stats.kstest((bias / half + 1) / 2, "uniform").pvalue > 1e-3


def test_without_a_trim_the_offset_acts_through_the_noise_gain():
    big = design(states=400, inputs=2)
    fitted = proxy().mismatch
    draw = draw_network(proxy(), big, 403, np.random.default_rng(1), trimmed=False)
    variance = np.diag(fitted.covariance)
    load = float(np.mean(proxy().integrator.domain["load_siemens"]))
    gain = (1 + big.neuron.r_feedback_ohm * load) / big.neuron.v_unit_v
    i, j = fitted.names.index("vos_v"), fitted.names.index("in_offset")
    expected = gain**2 * variance[i] + variance[j] - 2 * gain * fitted.covariance[i][j]
    low, high = chi_square_interval(400)
    assert low < draw.bias.numpy().std(ddof=1) / expected**0.5 < high


def test_parameters_that_never_varied_are_drawn_as_their_mean():
    """A cell without mismatch leaves zero variances, or ones that only follow another: no Cholesky factor."""
    fitted = proxy().mismatch
    covariance = np.array(fitted.covariance)
    fixed, twin, other = (fitted.names.index(name) for name in ("sat", "tau", "r_feedback"))
    covariance[fixed] = covariance[:, fixed] = 0.0
    covariance[twin], covariance[:, twin] = covariance[other], covariance[:, other]
    covariance[twin, twin] = covariance[twin, other] = covariance[other, twin] = covariance[other, other]
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(covariance)
    singular = proxy().model_copy(update={"mismatch": fitted.model_copy(update={"covariance": covariance.tolist()})})
    big = design(states=400, inputs=2)
    draw = draw_network(singular, big, 403, np.random.default_rng(2))
    assert draw.sat.numpy() == pytest.approx(np.full(400, fitted.mean[fixed]), abs=1e-8)
    r_feedback, tau = (draw.r_feedback - fitted.mean[other]).numpy(), (draw.tau - fitted.mean[twin]).numpy()
    assert tau == pytest.approx(r_feedback, abs=1e-9)
    low, high = chi_square_interval(400)
    assert low < r_feedback.std(ddof=1) / np.sqrt(covariance[other, other]) < high
    again = draw_network(singular, big, 403, np.random.default_rng(2))
    assert torch.equal(draw.g_pos, again.g_pos)
    # what comes after the neurons in the stream does not depend on which factor was used
    assert torch.equal(draw.g_pos, draw_network(proxy(), big, 403, np.random.default_rng(2)).g_pos)


def test_a_spread_that_follows_the_conductance_is_drawn_where_it_is():
    values = {"mean_0": 0.1e-6, "sigma_0": 0.4e-6, "mean_1": 0.0, "sigma_1": 2e-6}
    spread = proxy().conductance.model_copy(update={"values": values, "targets": [1e-6, 50e-6]})
    by_level = proxy().model_copy(update={"conductance": spread})
    big = design(states=400, inputs=2)
    with pytest.raises(ValueError, match="pass them as programmed"):
        draw_network(by_level, big, 403, np.random.default_rng(3))
    programmed = torch.full((2, 403, 400), 50e-6, dtype=torch.float64)
    programmed[1] = 1e-6
    draw = draw_network(by_level, big, 403, np.random.default_rng(3), programmed=programmed)
    assert float(draw.g_pos.std()) == pytest.approx(2e-6 / 50e-6, rel=0.02)
    low = draw.g_neg.numpy()  # 0.4 uS on 1 uS, cut off just above nothing
    assert low.min() == pytest.approx(-0.999)
    assert low.mean() == pytest.approx(0.1, abs=0.01)


@given(st.floats(1e-7, 4e-5), st.integers(0, 2**31))
def test_no_synapse_is_drawn_below_the_floor_of_its_device(g: float, seed: int):
    cell = load_cell("rram_hfox")
    drawn = synapse_errors(np.random.default_rng(seed), cell, np.full(50, g))
    assert set(drawn) == {"dg"}
    assert (g + drawn["dg"]).min() >= 1e-7 * (1 - 1e-9)
    plain = synapse_errors(np.random.default_rng(seed), load_cell("resistor_synapse"), np.full(50, g))
    expected = deviations(np.random.default_rng(seed), {"dg": 0.02}, 50)["dg"]
    assert np.array_equal(plain["dg"], expected)  # a fixed share is drawn as it always was


def test_equal_generators_draw_equal_networks_and_others_do_not():
    def drawn(seed: int) -> torch.Tensor:
        d = draw_network(proxy(), design(), 8, generator(seed, Stream.TRAINING, 1))
        return torch.cat([d.g_pos.ravel(), d.bias, d.tau, d.sat])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
