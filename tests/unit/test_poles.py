"""Poles from responses: circuits with closed forms, crowded poles, parasitic ones, and errors that hold."""

from __future__ import annotations

import numpy as np
import pytest

from analog_deq.verify.checks.stability import trusted_poles
from analog_deq.verify.poles import Poles, poles

TAU = 0.2e-6
OMEGA = 2 * np.pi * np.logspace(5, 9, 97)
FIRST = 4 / TAU


def network(w: np.ndarray, slopes: np.ndarray, lags_s: tuple[float, ...], tau_s: np.ndarray) -> np.ndarray:
    """State matrix of tau h' = -h + W z + u with z = slopes h behind one pole a lag."""
    n, k = len(w), len(lags_s)
    a = np.zeros(((1 + k) * n, (1 + k) * n))
    a[:n, :n], a[:n, k * n :] = -np.diag(1 / tau_s), w / tau_s[:, None]
    for j, lag in enumerate(lags_s, 1):
        rows = slice(j * n, (j + 1) * n)
        a[rows, (j - 1) * n : j * n] = np.diag(slopes if j == 1 else np.ones(n)) / lag
        a[rows, rows] = -np.eye(n) / lag
    return a


def response(a: np.ndarray, n: int, noise: float = 0.0) -> np.ndarray:
    """From drives of the first n states to them, at OMEGA, with relative noise."""
    t = np.array([np.linalg.solve(1j * w * np.eye(len(a)) - a, np.eye(len(a))[:, :n])[:n] for w in OMEGA])
    return t * (1 + noise * np.random.default_rng(1).standard_normal(t.shape))


def rightmost(a: np.ndarray) -> float:
    return float(np.linalg.eigvals(a).real.max())


def held(found: Poles, truth: float) -> None:
    assert -found.margin_per_s == pytest.approx(truth, rel=1e-4)
    assert abs(found.margin_per_s + truth) <= found.margin_error_per_s


def test_an_rc_ladder_has_the_poles_of_its_closed_form() -> None:
    """Ends shorted: -(2 - 2 cos(k pi / (n + 1))) / RC."""
    n, rc = 5, 5e-8
    a = (np.diag(np.full(n, -2.0)) + np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1)) / rc
    found = poles(OMEGA, response(a, n), FIRST)
    closed = -(2 - 2 * np.cos(np.arange(1, n + 1) * np.pi / (n + 1))) / rc
    assert found.value.real[:2] == pytest.approx(closed[:2], rel=1e-6)


@pytest.mark.parametrize("gain", [-40.0, 0.9, 1.5])
def test_a_two_pole_loop_has_the_roots_of_its_quadratic(gain: float) -> None:
    """(1 + s tau)(1 + s t2) = gain: ringing, slow, and unstable on the real axis."""
    t2 = 1 / (2 * np.pi * 20e6)
    a = network(np.array([[gain]]), np.ones(1), (t2,), np.array([TAU]))
    roots = np.roots([TAU * t2, TAU + t2, 1 - gain])
    slowest = roots[np.argmax(roots.real)]
    found = poles(OMEGA, response(a, 1, 1e-10), FIRST)
    held(found, float(slowest.real))
    assert found.value[0].imag == pytest.approx(abs(slowest.imag), rel=1e-4, abs=1.0)


@pytest.mark.parametrize("states", [8, 32])
def test_crowded_poles_are_told_apart(states: int) -> None:
    """Random loops with row sums of 0.9: as many poles between 0.5 and 2 times 1 / tau as there are states."""
    rng = np.random.default_rng(states)
    w = rng.standard_normal((states, states))
    w *= 0.9 / np.abs(w).sum(axis=1, keepdims=True)
    tau = TAU * (1 + 0.01 * rng.standard_normal(states))
    a = network(w, rng.uniform(1e-4, 1, states), (1 / (2 * np.pi * 600e6), 1 / (2 * np.pi * 500e6)), tau)
    found, status = trusted_poles(OMEGA, response(a, states, 1e-10), FIRST)
    assert found is not None, status
    held(found, rightmost(a))


@pytest.mark.parametrize("driver_hz", [500e6, 10e6, 2e6])
def test_a_slow_driver_is_seen_although_it_bends_the_inverse(driver_hz: float) -> None:
    """|lambda| = 6: stable with a fast driver, unstable by the closed form for imaginary loop eigenvalues without."""
    n = 8
    upper = np.triu(np.full((n, n), 1.2), 1)
    a = network(upper - upper.T, np.ones(n), (1 / (2 * np.pi * driver_hz),), np.full(n, TAU))
    found, status = trusted_poles(OMEGA, response(a, n, 1e-10), FIRST)
    assert found is not None, status
    held(found, rightmost(a))
    t2 = 1 / (2 * np.pi * driver_hz)
    k_max = np.sqrt(TAU / t2) + np.sqrt(t2 / TAU)
    assert (found.margin_per_s > 0) == (1.2 / np.tan(np.pi / (2 * n)) < k_max)


def test_noise_is_stated_as_error_or_refused() -> None:
    """Responses good to 1e-5 still give a margin within its error; at 3e-2 nothing is believed."""
    rng = np.random.default_rng(3)
    w = rng.standard_normal((6, 6))
    w *= 0.9 / np.abs(w).sum(axis=1, keepdims=True)
    a = network(w, np.ones(6), (1e-9,), np.full(6, TAU))
    found, status = trusted_poles(OMEGA, response(a, 6, 1e-5), FIRST)
    assert found is not None, status
    assert abs(found.margin_per_s + rightmost(a)) <= found.margin_error_per_s
    nothing, why = trusted_poles(OMEGA, response(a, 6, 3e-2), FIRST)
    assert nothing is None
    assert "poles:" in why


def test_a_response_that_says_nothing_is_refused() -> None:
    few = trusted_poles(OMEGA[::12], np.ones((len(OMEGA[::12]), 1, 1)) + 0j, FIRST)
    assert few[0] is None
    assert "at least 8" in few[1]
    broken = response(network(np.zeros((1, 1)), np.ones(1), (1e-9,), np.array([TAU])), 1)
    broken[3] = np.nan
    assert trusted_poles(OMEGA, broken, FIRST)[0] is None
