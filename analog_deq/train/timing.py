"""Time in training: states read a fixed time after the input steps, and settling times kept within a budget."""

from __future__ import annotations

import torch
from torch import Tensor

from analog_deq.equilibrium.cell import Activation
from analog_deq.equilibrium.dynamics import Dynamics, trajectory
from analog_deq.equilibrium.latency import modal_rate, settling_penalty
from analog_deq.equilibrium.readout import read_at, read_window

STEPS_PER_TAU = 8
"""Runge-Kutta steps in the fastest time constant: 2e-6 of full scale, with a quarter of the dynamics' default cost."""
SEGMENT = 32
SPREAD = 2.0
"""Allowance of the budget for slopes that are larger on the way than at the end, and for deviations that grow first."""
SAMPLES = 8
"""Samples of a batch whose rates are looked at: one eigenvalue problem each. Batches are drawn afresh."""
SETTLE_WEIGHT = 50.0
"""With 5 a small digits network, which gains by being slow, ended 1 % beyond its budget; with 50 7 to 12 % within."""


def read_from_rest(
    w: Tensor, u: Tensor, act: Activation, tau_s: Tensor, *, read_s: float, window_s: float, delay_s: float = 0.0
) -> tuple[Tensor, Tensor]:
    """States z and pre-activations h (B, N) that are read ``read_s`` after the inputs step on a circuit at rest.

    With ``window_s`` z is the mean over the window that begins then, h its value at the window's end. ``delay_s``, a
    neuron's own, moves the whole waveform. Gradients flow through time, to ``w`` and ``u``.
    """
    start = max(read_s - delay_s, 0.0)
    end = start + window_s
    if end == 0.0:
        return act.value(torch.zeros_like(u)), torch.zeros_like(u)
    step = float(tau_s.detach().min()) / STEPS_PER_TAU
    path = trajectory(
        w, u, act, Dynamics(tau_s), t_end_s=end, dt_s=step, keep_from_s=start,
        segment=SEGMENT if end > SEGMENT * step else None,
    )  # fmt: skip
    reading = read_window(path.z, start, window_s) if window_s > 0.0 else read_at(path.z, start)
    return reading.value, path.h.value[-1]


def settling_loss(w: Tensor, slope: Tensor, tau_s: Tensor, *, budget_s: float, tol: float) -> Tensor:
    """A penalty that is 0 when samples settle to ``tol`` of full scale within ``budget_s``, by their slowest modes."""
    rate = modal_rate(w, slope[:SAMPLES], tau_s)
    return SETTLE_WEIGHT * settling_penalty(rate, budget_s, tol, spread=SPREAD)
