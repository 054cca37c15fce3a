"""Randomness: keyed by seed, stream and index, so no order of use and no number of workers can change a draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import SIGMA_G, design, proxy
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analog_deq.draws import Stream, deviations, generator
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


def test_equal_generators_draw_equal_networks_and_others_do_not():
    def drawn(seed: int) -> torch.Tensor:
        d = draw_network(proxy(), design(), 8, generator(seed, Stream.TRAINING, 1))
        return torch.cat([d.g_pos.ravel(), d.bias, d.tau, d.sat])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
