"""How a transient ends: decaying, ringing and stuck waveforms with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from analog_deq.verify.tails import distinct_states, judge_tail, reversals

T = np.linspace(0.0, 12.0, 2401)
TOLERANCE = 4e-3


def ending(z: np.ndarray) -> str:
    return judge_tail(T, z[:, None], np.zeros(1), TOLERANCE).ending


@pytest.mark.parametrize(
    ("z", "expected"),
    [
        (np.exp(-T), "settled"), (np.exp(-T / 8), "slow"), (np.cos(5 * T), "oscillating"),
        (np.cos(5 * T) * np.exp(-T / 2), "settled"), (np.cos(5 * T) * np.exp(-T / 4), "slow"),
        (1e-3 * np.exp(T / 2) * np.cos(5 * T), "oscillating"), (np.full_like(T, 0.96), "elsewhere"),
        (0.96 - 0.9 * np.exp(-2 * T), "elsewhere"), (1e-4 * np.exp(T / 2), "slow"), (1e-3 * np.cos(9 * T), "settled"),
    ],
)  # fmt: skip
def test_endings(z: np.ndarray, expected: str) -> None:
    """Growth without turns is not called an oscillation, nor is one inside the band, which is not seen."""
    assert ending(z) == expected


def test_the_settling_time_is_the_last_exit() -> None:
    tail = judge_tail(T, np.exp(-T)[:, None], np.zeros(1), TOLERANCE)
    assert tail.settled_s == pytest.approx(-np.log(TOLERANCE), abs=1e-3)
    assert tail.end_error == pytest.approx(np.exp(-12.0))


def test_growth_is_the_ratio_of_the_two_sixths() -> None:
    tail = judge_tail(T, (1e-3 * np.exp(T / 2) * np.cos(5 * T))[:, None], np.zeros(1), TOLERANCE)
    assert tail.growth == pytest.approx(np.exp(1.0), rel=0.1)  # a sixth is 2 s


def test_a_ripple_below_the_tolerance_does_not_turn() -> None:
    y = np.exp(-T / 4) + 1e-3 * np.cos(30 * T)
    assert reversals(y, TOLERANCE) == 0
    assert reversals(np.cos(np.pi * T), TOLERANCE) == 11  # 12 half periods


def test_states_are_linked_through_their_neighbours() -> None:
    """Twice the tolerance apart is one state, and so are the ends of a chain; the spread is between all of them."""
    states, spread = distinct_states(np.array([[0.0], [0.007], [0.014], [0.5]]), TOLERANCE)
    assert states.tolist() == [0, 0, 0, 1]
    assert spread == pytest.approx(0.5)
    assert distinct_states(np.empty((0, 2)), TOLERANCE)[1] == 0.0
