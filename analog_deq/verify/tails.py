"""How a transient ends: settled, still settling, oscillating, or at rest in another state than its equilibrium."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from analog_deq.waveforms import settling_time

Array = np.ndarray
Ending = Literal["settled", "slow", "oscillating", "elsewhere"]
TAIL = 1 / 3
"""Share of the window that is its tail."""
SUSTAINED = 0.7
"""Swing of the tail's second half over that of its first from which a ringing node counts as oscillating. One that
decays faster needs at most 3.3 windows for a thousandth: it is slow."""
REVERSALS = 3
"""Changes of direction in the tail that make it ringing: settling through a sum of decays has one or two."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of one transient.

    ``settled_s`` is the last exit from the band around the target, NaN unless settled; ``end_error`` the last point's
    largest distance from it, ``swing`` the largest peak to peak value of a node over the last sixth of the window,
    both in units of z; ``growth`` that node's swing there over that in the sixth before, ``reversals`` its changes of
    direction in the tail.
    """

    ending: Ending
    settled_s: float
    end_error: float
    swing: float
    growth: float
    reversals: int


def judge_tail(time_s: Array, z: Array, target: Array, tolerance: float) -> Tail:
    """The tail of readings ``z`` (points, N) whose equilibrium is ``target`` (N,); ``tolerance`` in units of z.

    A node whose peak to peak value stays within twice the tolerance is at rest. An oscillation smaller than the band
    around the target is not seen, nor one whose period is longer than the tail.

    Example:
        >>> t = np.linspace(0, 12, 1201)
        >>> ring = np.cos(6 * t)[:, None]
        >>> judge_tail(t, ring, np.zeros(1), 4e-3).ending
        'oscillating'
        >>> judge_tail(t, ring * np.exp(-t / 4)[:, None], np.zeros(1), 4e-3).ending
        'slow'
        >>> judge_tail(t, 0.5 + 0 * ring, np.zeros(1), 4e-3).ending
        'elsewhere'
    """
    deviation = np.abs(z - target).max(axis=1)
    settled = settling_time(time_s, deviation, 0.0, tolerance)
    end, start = time_s[-1], time_s[0]
    middle = end - TAIL / 2 * (end - start)
    last, before = time_s >= middle, (time_s >= end - TAIL * (end - start)) & (time_s <= middle)
    swings = np.ptp(z[last], axis=0)
    node = int(np.argmax(swings))
    swing, earlier = float(swings[node]), float(np.ptp(z[before][:, node])) if before.any() else 0.0
    growth = swing / earlier if earlier > 0 else float("inf") if swing > 0 else 0.0
    turns = reversals(z[before | last][:, node], tolerance)
    ending: Ending = "slow"
    if np.isfinite(settled):
        ending = "settled"
    elif swing <= 2 * tolerance:
        ending = "elsewhere"
    elif turns >= REVERSALS and growth >= SUSTAINED:
        ending = "oscillating"
    return Tail(ending, settled, float(deviation[-1]), swing, growth, turns)


def reversals(y: Array, least: float) -> int:
    """Changes of direction of ``y`` (points,), counting only turns of more than ``least``.

    >>> reversals(np.array([0.0, 1.0, 0.9, 2.0, 0.0, 2.0]), 0.5)
    2
    """
    count, direction = 0, 0
    low = high = float(y[0])
    for value in map(float, y[1:]):
        low, high = min(low, value), max(high, value)
        if direction >= 0 and value < high - least:
            count += direction > 0
            direction, low = -1, value
        elif direction <= 0 and value > low + least:
            count += direction < 0
            direction, high = 1, value
    return count


def distinct_states(ends: Array, tolerance: float) -> tuple[Array, float]:
    """Which state each row of ``ends`` (starts, N) belongs to (starts,), and the largest distance between two rows.

    Rows within twice the tolerance of each other, or linked by such rows, are one state.

    >>> states, spread = distinct_states(np.array([[0.0], [0.001], [0.9]]), 4e-3)
    >>> states.tolist(), spread
    ([0, 0, 1], 0.9)
    """
    if not len(ends):
        return np.empty(0, dtype=int), 0.0
    distance = np.abs(ends[:, None] - ends[None]).max(axis=2)
    state = np.full(len(ends), -1)
    for k in range(len(ends)):
        if state[k] >= 0:
            continue
        state[k] = state.max() + 1
        reached = [k]
        while reached:
            near = np.flatnonzero((distance[reached.pop()] <= 2 * tolerance) & (state < 0))
            state[near] = state[k]
            reached += near.tolist()
    return state, float(distance.max())
