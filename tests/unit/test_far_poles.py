"""Fast unstable poles are found where they are, and none is made up."""

from __future__ import annotations

import numpy as np
import pytest

from analog_deq.verify.far_poles import far_unstable_poles
from analog_deq.verify.poles import poles

OMEGA = np.logspace(5.5, 9.8, 105)
RNG = np.random.default_rng(3)
N, TAU = 8, 2e-7
WEIGHTS = 0.8 * RNG.standard_normal((N, N)) / np.sqrt(N) / 2


def response(fast: complex | None, noise: float = 0.0) -> np.ndarray:
    """A loop of one-pole neurons, neuron 2 with a further pole (or a pair) at ``fast``."""
    s = 1j * OMEGA
    inverse = (1 + s * TAU)[:, None, None] * np.eye(N) - WEIGHTS
    if fast is not None:
        factor = 1 - s / fast
        if np.imag(fast):
            factor = factor * (1 - s / np.conj(fast))
        inverse[:, 2, 2] = inverse[:, 2, 2] * factor
    found = np.linalg.inv(inverse)
    return found * (1 + noise * RNG.standard_normal(found.shape))


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_a_real_unstable_pole_far_out_is_the_margin(noise: float) -> None:
    values, spread = far_unstable_poles(OMEGA, response(9e8, noise), 1e8)
    # neuron 2 sits in a loop, which moves its pole a little: det(M) = 0 near 9e8
    assert values.real == pytest.approx([9e8], rel=0.02)
    assert spread[0] < 1e-2 * values[0].real
    found = poles(OMEGA, response(9e8, noise), 4 / TAU)
    assert found.margin_per_s == pytest.approx(-9e8, rel=0.02)


def test_an_unstable_pair_far_out() -> None:
    values, _ = far_unstable_poles(OMEGA, response(2e8 + 8e8j), 1e8)
    assert len(values) == 1
    assert values[0] == pytest.approx(2e8 + 8e8j, rel=0.05)


@pytest.mark.parametrize("fast", [None, -9e8, -2e8 + 8e8j])
@pytest.mark.parametrize("noise", [0.0, 1e-9, 1e-6])
def test_a_stable_network_has_none(fast: complex | None, noise: float) -> None:
    values, _ = far_unstable_poles(OMEGA, response(fast, noise), 1e8)
    assert not len(values)
    assert poles(OMEGA, response(fast), 4 / TAU).margin_per_s > 0
