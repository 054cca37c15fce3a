"""Numbers from waveforms whose answers are known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analog_deq.calibration.waveforms import fit_step
from analog_deq.waveforms import crossing, departures, overshoot, settling_time, slew_rate

TAU = 200e-9


def exponential(t: np.ndarray, final: float, tau: float = TAU, delay: float = 0.0) -> np.ndarray:
    return np.asarray(final * -np.expm1(-np.maximum(t - delay, 0) / tau))


@settings(deadline=None)
@given(st.floats(1e-4, 0.1), st.floats(0.01, 3.0), st.booleans(), st.floats(20e-9, 2e-6))
def test_settling_of_one_pole_takes_minus_tau_ln_tol(tolerance, size, negative, tau):
    final = -size if negative else size
    t = np.linspace(0, 15 * tau, 20001)
    found = settling_time(t, exponential(t, final, tau), final, tolerance * abs(final))
    assert found == pytest.approx(-tau * math.log(tolerance), abs=1e-5 * tau)


def test_settling_counts_the_last_exit_of_a_ringing_response():
    """Second order, damping 0.2: the envelope's early passages through the band do not count."""
    zeta, w = 0.2, 2 * math.pi * 1e6
    wd = w * math.sqrt(1 - zeta**2)
    t = np.linspace(0, 10e-6, 100001)
    y = 1 - np.exp(-zeta * w * t) * (np.cos(wd * t) + zeta * w / wd * np.sin(wd * t))
    found = settling_time(t, y, 1.0, 0.05)
    after = t > found + 1e-10
    assert np.abs(y[after] - 1).max() <= 0.05
    assert abs(np.interp(found, t, y) - 1) == pytest.approx(0.05, abs=1e-6)
    assert found > 3 / (zeta * w) * 0.5
    assert overshoot(y, 0.0, 1.0) == pytest.approx(math.exp(-math.pi * zeta / math.sqrt(1 - zeta**2)), rel=1e-6)
    assert overshoot(-y, 0.0, -1.0) == pytest.approx(overshoot(y, 0.0, 1.0), rel=1e-12)


def test_settling_at_the_limits():
    t = np.linspace(0, 1e-6, 101)
    assert settling_time(t, np.full(101, 0.5), 0.5, 1e-3) == 0.0  # never outside
    assert math.isnan(settling_time(t, np.linspace(0, 1, 101), 0.0, 0.1))  # ends outside: no settling time, never 0.0


def test_a_monotone_response_has_no_overshoot():
    t = np.linspace(0, 4 * TAU, 201)
    assert overshoot(exponential(t, -0.3), 0.0, -0.3) == 0.0


@pytest.mark.parametrize("gain", [1.0, 0.97])
@pytest.mark.parametrize("step", [0.04, -0.04])
def test_the_single_pole_fit_recovers_what_was_put_in(step, gain):
    t = np.linspace(0, 3e-6, 1001)
    fit = fit_step(t, exponential(t, gain * step, tau=237e-9, delay=1.3e-9), step, TAU)
    assert fit.tau_s == pytest.approx(237e-9, rel=1e-7)
    assert fit.delay_s == pytest.approx(1.3e-9, rel=1e-4)
    assert fit.rms < 1e-8


def test_the_residual_of_the_fit_tells_a_second_pole():
    t = np.linspace(0, 3e-6, 1001)
    tau2 = 40e-9
    y = 1 - (TAU * np.exp(-t / TAU) - tau2 * np.exp(-t / tau2)) / (TAU - tau2)
    fit = fit_step(t, y, 1.0, TAU)
    assert fit.delay_s == pytest.approx(tau2, rel=0.2)  # a fast pole looks like a delay
    assert 1e-3 < fit.rms < 2e-2


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_slew_rate_of_a_ramp_is_its_slope(sign):
    t = np.linspace(0, 10e-6, 1001)
    y = sign * np.clip(0.7e6 * (t - 1e-6), 0.0, 3.0) - 0.4
    assert slew_rate(t, y, -0.4, sign * 3.0 - 0.4) == pytest.approx(0.7e6, rel=1e-9)


def test_slew_rate_of_one_pole_is_that_of_its_middle():
    """ln 4 time constants from 20 to 80 %."""
    t = np.linspace(0, 10 * TAU, 5001)
    assert slew_rate(t, exponential(t, 2.0), 0.0, 2.0) == pytest.approx(0.6 * 2.0 / (TAU * math.log(4)), rel=1e-5)


def test_slew_rate_ignores_a_kick_before_the_ramp_and_ringing_after_it():
    t = np.linspace(0, 10.0, 10001)
    y = np.clip(t - 2.0, 0.0, 5.0) + np.where(t > 7.0, np.sin(6 * (t - 7.0)) * np.exp(7.0 - t), 0.0)
    y += np.where((t > 0.5) & (t < 0.6), 1.5, 0.0)  # through the edge's coupling: 30 % of the step, and back
    assert slew_rate(t, y, 0.0, 5.0) == pytest.approx(1.0, rel=1e-9)


def test_a_step_that_is_not_made_has_no_slew_rate():
    t = np.linspace(0, 1, 101)
    assert math.isnan(slew_rate(t, 0.5 * t, 0.0, 1.0))
    assert math.isnan(slew_rate(t, 0.5 + 0.5 * t, 0.0, 1.0))  # it starts beyond 20 %


@given(st.floats(-3.0, -0.1), st.floats(0.1, 3.0), st.floats(0.01, 0.5))
def test_departures_finds_both_ends_of_a_trapezium(low, high, band):
    """Unity between ``low`` and ``high``, falling with slope 1 outside: the band is left ``band`` beyond."""
    x = np.linspace(-5, 5, 2001)
    y = 1 - np.maximum(x - high, 0) - np.maximum(low - x, 0)
    assert departures(x, y, 0.0, 1.0, band) == pytest.approx((low - band, high + band), abs=2e-6)


def test_departures_are_the_nearest_ones_and_nan_where_there_are_none():
    x = np.linspace(-2, 2, 401)
    low, high = departures(x, np.where((x > 0.5) & (x < 0.7), 1.0, 0.0), 0.0, 0.0, 0.5)
    assert high == pytest.approx(0.505)
    assert math.isnan(low)


def test_crossing_is_interpolated():
    assert crossing(np.array([1.0, 3.0]), np.array([10.0, 20.0]), 1, 12.5) == 1.5
    assert crossing(np.array([1.0, 3.0]), np.array([10.0, 20.0]), 0, 12.5) == 1.0
