"""The waveform check: closed forms of two exponentials, and what it refuses to judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analog_deq.verify.checks.trajectory import Trajectory, waveform_error
from analog_deq.verify.dynamics import Settling

T = np.linspace(0.0, 40e-6, 4001)


class Run:
    def __init__(self, *transients: Settling) -> None:
        self.transients = transients


def measure(*transients: Settling) -> Any:
    (found,) = Trajectory().measure(Run(*transients)).measurements  # type: ignore[arg-type]
    return found


def settling(tau_s: float, *, settled_s: float = 40e-6, image: int = 3, status: str = "ok") -> Settling:
    """A neuron with the predicted 1 us and one with ``tau_s``, beside predictions of 1 us."""
    predicted = 1 - np.exp(-T / 1e-6)
    z = np.stack([predicted, 1 - np.exp(-T / tau_s)], axis=1)
    return Settling(image, status, settled_s, settled_s, 0.0, 0.0, 0.0, (T, z, np.stack([predicted] * 2, axis=1)))


def test_rms_of_two_exponentials_is_the_integral() -> None:
    """int_0^inf (exp(-t/a) - exp(-t/b))^2 dt = a/2 + b/2 - 2ab/(a+b)."""
    a, b = 1e-6, 1.2e-6
    expected = np.sqrt((a / 2 + b / 2 - 2 * a * b / (a + b)) / 40e-6)
    np.testing.assert_allclose(waveform_error(settling(b)), [0.0, expected], rtol=1e-4)
    assert measure(settling(b)).value == pytest.approx(100 * expected, rel=1e-4)


def test_a_neuron_that_is_too_fast_is_seen_though_the_slowest_sets_the_settling_time() -> None:
    found = measure(settling(1.001e-6), settling(1e-9, image=7, settled_s=5e-6))
    assert found.value > 20
    assert (found.worst.input, found.worst.condition, found.n) == (7, "nominal, from rest, neuron 1", 2)


def test_time_after_the_settling_does_not_dilute() -> None:
    short, long = waveform_error(settling(1.2e-6, settled_s=5e-6)), waveform_error(settling(1.2e-6))
    assert short is not None
    assert long is not None
    assert short[1] / long[1] == pytest.approx(np.sqrt(8), rel=0.01)


def test_failed_transients_are_failed_samples_and_none_left_is_no_value() -> None:
    lost = settling(1e-6, status="killed by signal 9")
    assert waveform_error(lost) is None
    assert (measure(settling(1.2e-6), lost).failed_samples, measure(settling(1.2e-6), lost).n) == (1, 2)
    nothing = measure(lost)
    assert (nothing.value, nothing.failed_samples) == (None, 1)
