"""The fitted forms: monotone cubic interpolation as scipy has it, and closed forms at their limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers import BOLTZMANN, EN, KELVIN, R_FEEDBACK, loop_density
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.interpolate import CubicHermiteSpline, PchipInterpolator

from analog_deq.fit.forms import (
    closed_loop_tau,
    hermite,
    loop_noise_density,
    low_pass,
    monotone_slopes,
    step_response,
)


def reference(start: float, step: float, y: np.ndarray) -> PchipInterpolator:
    return PchipInterpolator(start + step * np.arange(len(y)), y)


@settings(max_examples=80, deadline=None)
@given(
    arrays(np.float64, st.integers(3, 30), elements=st.floats(-2, 2).map(lambda v: round(v, 3))),
    st.floats(-4, 4),
    st.floats(0.02, 2),
)
def test_interpolation_equals_scipy(y, start, step):
    """Rising, falling, flat and turning data. Slopes: scipy's PCHIP two points deep from the ends. Value and derivative
    between the points: scipy's cubic of the same slopes, which never leaves the interval of its two ends."""
    table = torch.as_tensor(y)
    slopes = monotone_slopes(table, step)
    points = start + step * np.arange(len(y))
    scale = max(1.0, float(np.abs(np.diff(y)).max()) / step)
    ends = [0, 1, -2, -1]
    assert np.abs(slopes.numpy() - reference(start, step, y).derivative()(points))[ends].max() <= 1e-10 * scale
    inside = start + step * (len(y) - 1) * np.random.default_rng(0).uniform(0, 1, 200)
    value, slope = hermite(torch.as_tensor(inside), start, step, table, slopes)
    peer = CubicHermiteSpline(points, y, slopes.numpy())
    assert np.abs(value.numpy() - peer(inside)).max() <= 1e-10
    assert np.abs(slope.numpy() - peer.derivative()(inside)).max() <= 1e-9 * scale
    piece = np.clip(((inside - start) / step).astype(int), 0, len(y) - 2)
    low, high = np.minimum(y[piece], y[piece + 1]), np.maximum(y[piece], y[piece + 1])
    assert (value.numpy() >= low - 1e-9).all()
    assert (value.numpy() <= high + 1e-9).all()


def test_interpolation_of_an_activation_is_of_fourth_order():
    """Values of a saturating curve from 81 points: half the step is 16 times nearer. Slopes beat PCHIP's tenfold."""
    at = torch.as_tensor(np.random.default_rng(1).uniform(-3.5, 3.5, 2000))
    errors = {}
    for count in (81, 161):
        grid = torch.linspace(-4, 4, count, dtype=torch.float64)
        step = 8 / (count - 1)
        y = 0.98 * torch.tanh(grid / 1.1)
        exact = 0.98 * torch.tanh(at / 1.1), 0.98 / 1.1 / torch.cosh(at / 1.1) ** 2
        found = hermite(at, -4.0, step, y, monotone_slopes(y, step))
        errors[count] = [float((f - e).abs().max()) for f, e in zip(found, exact, strict=True)]
        peer = PchipInterpolator(grid.numpy(), y.numpy()).derivative()(at.numpy())
        assert errors[count][1] < 0.1 * float(np.abs(peer - exact[1].numpy()).max())
    assert errors[81][0] < 5e-6
    assert errors[161][0] < errors[81][0] / 12
    assert errors[161][1] < errors[81][1] / 6  # the derivative of a cubic is of third order between its points


def test_interpolation_passes_through_its_points_and_is_monotone():
    y = torch.tensor([0.0, 0.1, 0.1, 0.5, 3.0, 3.01], dtype=torch.float64)
    slopes = monotone_slopes(y, 0.5)
    value, _ = hermite(torch.arange(6, dtype=torch.float64) * 0.5, 0.0, 0.5, y, slopes)
    assert torch.equal(value, y)
    dense, slope = hermite(torch.linspace(0, 2.5, 1001, dtype=torch.float64), 0.0, 0.5, y, slopes)
    assert bool((dense.diff() >= -1e-15).all())
    assert bool((slope >= -1e-14).all())


def test_beyond_the_grid_the_end_value_is_held_with_slope_zero():
    y = torch.tensor([-1.0, -0.5, 0.5, 1.0], dtype=torch.float64)
    value, slope = hermite(torch.tensor([-9.0, 9.0], dtype=torch.float64), -1.5, 1.0, y, monotone_slopes(y, 1.0))
    assert value.tolist() == [-1.0, 1.0]
    assert slope.tolist() == [0.0, 0.0]


def real(x: float) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64)


def test_step_response_reaches_a_tolerance_at_minus_tau_ln_tol():
    tau, delay, amplitude = 200e-9, 1.5e-9, -0.3
    for tolerance in (1e-2, 4e-3, 1e-3):
        value = float(step_response(real(delay - tau * math.log(tolerance)), real(amplitude), real(tau), real(delay)))
        assert abs(value - amplitude) == pytest.approx(tolerance * abs(amplitude), rel=1e-9)


def test_step_response_is_zero_before_the_delay_and_starts_with_its_slope():
    t = torch.tensor([-1e-9, 0.0, 2e-9, 2e-9 + 1e-13], dtype=torch.float64)
    y = step_response(t, real(2.0), real(100e-9), real(2e-9))
    assert y[:3].tolist() == [0.0, 0.0, 0.0]
    assert float(y[3]) == pytest.approx(2.0 * 1e-13 / 100e-9, rel=1e-5)


def test_loop_noise_is_johnson_noise_and_the_noise_gain():
    load = torch.tensor([0.0, 1e-3], dtype=torch.float64)
    en = torch.tensor(EN, dtype=torch.float64)
    found = loop_noise_density(load, en, R_FEEDBACK, KELVIN).numpy()
    assert found == pytest.approx(loop_density(load.numpy()), rel=1e-12)
    quiet = loop_noise_density(load[:1], 0 * en, R_FEEDBACK, KELVIN)
    assert float(quiet) == pytest.approx(4 * BOLTZMANN * KELVIN * R_FEEDBACK, rel=1e-12)  # R_F alone
    only_en = loop_noise_density(load[1:], en, R_FEEDBACK, 0.0)
    assert math.sqrt(float(only_en)) == pytest.approx(EN * (1 + R_FEEDBACK * 1e-3), rel=1e-12)


def test_low_pass_halves_the_power_at_its_corner_and_has_the_known_bandwidth():
    tau = torch.tensor(200e-9, dtype=torch.float64)
    corner = 1 / (2 * math.pi * 200e-9)
    assert float(low_pass(torch.tensor(corner, dtype=torch.float64), tau)) == pytest.approx(0.5, rel=1e-12)
    f = torch.logspace(0, 12, 200001, dtype=torch.float64)
    area = float(torch.trapezoid(low_pass(f, tau), f))
    assert area == pytest.approx(1 / (4 * 200e-9), rel=1e-4)


def test_time_constant_of_a_load():
    load = torch.tensor([0.0, 3e-3], dtype=torch.float64)
    tau = closed_loop_tau(load, 2e-7, 8e-6)
    assert tau.tolist() == pytest.approx([200e-9, 224e-9], rel=1e-12)
