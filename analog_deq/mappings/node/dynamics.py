"""A node network in time, and its noise: both keep the pole of the path from the node to the rows."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from analog_deq.fit.forms import BOLTZMANN
from analog_deq.mappings.node.noise_table import NoiseTable
from analog_deq.mappings.node.proxy import NodeNetwork

Array = np.ndarray
STEPS_PER_NODE, STEPS_PER_PATH = 20.0, 2.0
"""Runge-Kutta steps in the fastest node's time constant and in the path's, which follows the nodes slowly."""


def trajectory(
    network: NodeNetwork, x: Tensor, c_f: Tensor, path_tau_s: float, window_s: float
) -> tuple[Tensor, Tensor]:
    """Time (T,) and readings (T, B, N) from rest: nodes at 0 V, drivers settled there, inputs stepped at 0.

    ``C dv/dt = residual``, ``tau dz/dt = sigma(h) - z``; RK4 in the scaled states.
    """
    with torch.no_grad():
        drive = network.drive(x)
        per_h = c_f * network.v_unit_v
        fastest = float((c_f / (network.y.diagonal() + network.load.at_zero / network.v_unit_v)).min())
        steps = math.ceil(window_s / min(fastest / STEPS_PER_NODE, path_tau_s / STEPS_PER_PATH))
        dt = window_s / steps

        def rate(h: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
            return network.residual(h, z, drive) / per_h, (network.act.value(h) - z) / path_tau_s

        h = torch.zeros_like(drive)
        z = network.act.value(h)
        readings = torch.empty((steps + 1, *h.shape), dtype=h.dtype)
        readings[0] = network.reading(h, z, x)
        for k in range(steps):
            h1, z1 = rate(h, z)
            h2, z2 = rate(h + dt / 2 * h1, z + dt / 2 * z1)
            h3, z3 = rate(h + dt / 2 * h2, z + dt / 2 * z2)
            h4, z4 = rate(h + dt * h3, z + dt * z3)
            h = h + dt / 6 * (h1 + 2 * h2 + 2 * h3 + h4)
            z = z + dt / 6 * (z1 + 2 * z2 + 2 * z3 + z4)
            readings[k + 1] = network.reading(h, z, x)
        return torch.arange(steps + 1, dtype=torch.float64) * dt, readings


def noise_covariance(
    network: NodeNetwork,
    noise: NoiseTable,
    h: Tensor,
    c_f: Tensor,
    path: tuple[float, float],
    kelvin: float,
    *,
    stride: int = 1,
) -> Array:
    """Covariance (B, N, N) of the readings at rest at ``h`` (B, N), in squared units, over the calibrated band.

    At each frequency ``(j w C + di/ds + Y') s = A_z z + n_i`` and ``z = sigma' exp(-j w d) / (1 + j w tau) h + n_z``,
    ``path`` = (tau, d). n_i is the array's thermal noise, 4kT Y' (Nyquist; drivers and DACs are in it), and the
    load's; n_z the activation's and the driver's. Both from the tables, by trapezoids over every ``stride``-th
    frequency.
    """
    f = np.array(noise.frequency_hz)[::stride]
    n = network.states
    eye = np.eye(n)
    state, current = (table[..., ::stride] for table in noise.at(h.numpy()))
    slope, load = network.act.slope(h).numpy(), network.load.at(h)[1].numpy() / network.v_unit_v
    y, a = network.y.numpy(), network.w.numpy()
    drop_z, drop_s = network.drop_u[:, -n:].numpy(), network.drop_s.numpy()
    thermal = 4 * BOLTZMANN * kelvin * (y + y.T) / 2
    total = np.zeros((len(h), len(f), n, n))
    for k, w in enumerate(2 * np.pi * f):
        node = y + load[:, :, None] * eye + 1j * w * c_f.numpy()[:, None] * eye  # (B, N, N)
        to_h = np.linalg.inv(node) / network.v_unit_v
        through = (slope * np.exp(-1j * w * path[1]) / (1 + 1j * w * path[0]))[:, :, None] * to_h
        loop = np.linalg.inv(eye - through @ a)
        z_of_i = loop @ through
        h_of_i, h_of_z = to_h @ (a @ z_of_i + eye), to_h @ a @ loop
        r_of_i = z_of_i - drop_z @ z_of_i - drop_s @ h_of_i
        r_of_z = loop - drop_z @ loop - drop_s @ h_of_z
        s_i = thermal + current[:, :, k, None] * eye
        spectrum = r_of_i @ s_i @ r_of_i.conj().swapaxes(1, 2)
        spectrum += (r_of_z * state[:, None, :, k]) @ r_of_z.conj().swapaxes(1, 2)
        total[:, k] = spectrum.real
    return np.asarray(np.trapezoid(total, f, axis=1))


def settling_times(t: Tensor, readings: Tensor, ends: Tensor, tolerance: float) -> Array:
    """Time (B,) from which every reading stays within ``tolerance`` of ``ends`` (B, N); NaN if not in the window."""
    off = (readings - ends).abs().amax(-1).numpy()
    time = t.numpy()
    found = np.full(off.shape[1], np.nan)
    for k in range(off.shape[1]):
        outside = np.flatnonzero(off[:, k] > tolerance)
        last = int(outside[-1]) if outside.size else -1
        if last < 0:
            found[k] = 0.0
        elif last + 1 < len(time):
            share = (off[last, k] - tolerance) / (off[last, k] - off[last + 1, k])
            found[k] = time[last] + share * (time[last + 1] - time[last])
    return found
