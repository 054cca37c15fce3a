"""Settling, stability and noise of the whole network, from the amplifiers' own equations. No integrator is in it.

States: at each column the virtual ground s, the op-amp's two poles n and v; of each neuron the pair's output a and the
driver's level d. With C = C_in + C_F and the open loop A = 1 / (1/A0 + p / w_t) / (1 + p / w_2),

    C ds/dt - C_F dv/dt = -(Y_cc s + Y_cr V) - (s - v) / R_F,     dn/dt = -w_t (s - S + n / A0),
    dv/dt = w_2 (n - v),     t_pair da/dt = sig(h, c) - a,     t_driver dd/dt = a - d,

and V of a state's row is z_unit L(d). NumPy float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from analog_deq.fit.forms import BOLTZMANN
from analog_deq.mappings.memristor.closure import ColumnMap, Solved
from analog_deq.mappings.memristor.pair import PairActivation, bent, bent_slope
from analog_deq.mappings.memristor.proxy import MemristorProxy, open_loop
from analog_deq.mappings.memristor.spec import MemristorSpec

Array = np.ndarray
PER_DECADE = 10
CHECK_EVERY = 200
STEP_SHARE = 0.6
"""Time step over the fastest time constant of the circuit."""


@dataclass(frozen=True, slots=True)
class Circuit:
    """The equations of one array (admittance ``y``, as the proxy sees it) and its nominal neurons."""

    y: Array
    states: int
    proxy: MemristorProxy
    spec: MemristorSpec
    act: PairActivation
    kelvin: float

    def _linear(self) -> tuple[Array, Array]:
        """Everything but the pair: dy/dt = ``a`` y + ..., and the columns' currents per volt of each row source."""
        n, spec = self.states, self.spec
        columns, rows = 2 * n, self.y.shape[0] - 2 * n
        w_t, w_2 = (2 * math.pi * self.proxy.loop.values[k] for k in ("gbw_hz", "f2_hz"))
        c_total = spec.c_input_f + spec.c_feedback_f
        eye, g_f = np.eye(columns), 1 / spec.r_feedback_ohm
        s, m, v = (slice(k * columns, (k + 1) * columns) for k in range(3))
        a, d = slice(3 * columns, 3 * columns + n), slice(3 * columns + n, 3 * columns + 2 * n)
        matrix = np.zeros((4 * columns, 4 * columns))
        matrix[s, s] = -(self.y[rows:, rows:] + g_f * eye) / c_total
        matrix[s, m] = spec.c_feedback_f * w_2 * eye / c_total
        matrix[s, v] = (g_f - spec.c_feedback_f * w_2) * eye / c_total
        matrix[m, s], matrix[m, m] = -w_t * eye, -w_t * self.proxy.amplifier.values["inverse_a0"] * eye
        matrix[v, m], matrix[v, v] = w_2 * eye, -w_2 * eye
        t_pair, t_driver = (self.proxy.poles.values[k] for k in ("pair_s", "driver_s"))
        matrix[a, a] = -np.eye(n) / t_pair
        matrix[d, a], matrix[d, d] = np.eye(n) / t_driver, -np.eye(n) / t_driver
        into = np.zeros((4 * columns, rows))
        into[s] = -self.y[rows:, :rows] * spec.z_unit_v / c_total
        return matrix, into

    def _sense(self) -> tuple[Array, Array]:
        """(h, c) of the states, each (N, 8N)."""
        n, unit = self.states, self.spec.v_unit_v
        h, c = np.zeros((n, 8 * n)), np.zeros((n, 8 * n))
        k = np.arange(n)
        p, m = 4 * n + 2 * k, 4 * n + 2 * k + 1  # v of the two columns
        h[k, p], h[k, m] = -1 / unit, 1 / unit
        c[k, p] = c[k, m] = -0.5 / unit
        return h, c

    def jacobian(self, solved: Solved, image: int) -> Array:
        """The whole circuit linearised at one equilibrium, (8N, 8N), in 1/s."""
        n = self.states
        matrix, into = self._linear()
        h, c = self._sense()
        by_h, by_c = (t[image].numpy() for t in (solved.by_h, solved.by_c))
        matrix[6 * n : 7 * n] += (by_h[:, None] * h + by_c[:, None] * c) / self.proxy.poles.values["pair_s"]
        matrix[:, 7 * n :] += into[:, -n:] * bent_slope(solved.z[image], self.proxy.bend).numpy()
        return matrix

    def trajectory(
        self, x: Array, ends: Array, columns: ColumnMap, stop_s: float, tolerance: float
    ) -> tuple[Array, Array]:
        """Times (T,) and readings (T, images, N) from rest at DAC outputs ``x``, by Runge-Kutta steps of fourth order.

        Rest: every amplifier's capacitor empty. Ends when all readings are within ``tolerance`` / 20 of ``ends``.
        """
        n, law = self.states, self.proxy.bend
        matrix, into = self._linear()
        h, c = self._sense()
        t_pair = self.proxy.poles.values["pair_s"]
        fastest = min(t_pair, self.proxy.poles.values["driver_s"], 1 / float(np.abs(np.linalg.eigvals(matrix)).max()))
        dt = STEP_SHARE * fastest
        driven = torch.cat([torch.as_tensor(x), torch.ones(len(x), 1, dtype=torch.float64)], 1)
        source = bent(driven, law).numpy() @ into[:, :-n].T
        w_t = 2 * math.pi * self.proxy.loop.values["gbw_hz"]
        source[:, 2 * n : 4 * n] += w_t * self.proxy.amplifier.values["s0_v"]

        def rate(y: Array) -> Array:
            out = y @ matrix.T + source + bent(torch.as_tensor(y[:, 7 * n :]), law).numpy() @ into[:, -n:].T
            sig = self.act.evaluate(torch.as_tensor(y @ h.T), torch.as_tensor(y @ c.T))[0].numpy()
            out[:, 6 * n : 7 * n] += sig / t_pair
            return np.asarray(out)

        def read(y: Array) -> Array:
            return np.asarray(columns.reading(torch.as_tensor(x), torch.as_tensor(y[:, 7 * n :])).numpy())

        start = self.act.evaluate(*(torch.zeros(n, dtype=torch.float64),) * 2)[0].numpy()
        y = np.zeros((len(x), 8 * n))
        y[:, 6 * n : 7 * n] = y[:, 7 * n :] = start
        times, readings = [0.0], [read(y)]
        for k in range(1, math.ceil(stop_s / dt) + 1):
            k1 = rate(y)
            k2 = rate(y + dt / 2 * k1)
            k3 = rate(y + dt / 2 * k2)
            k4 = rate(y + dt * k3)
            y = y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            times.append(k * dt)
            readings.append(read(y))
            if k % CHECK_EVERY == 0 and all(
                np.abs(readings[j] - ends).max() < tolerance / 20 for j in (-1, -CHECK_EVERY // 2)
            ):
                break
        return np.array(times), np.stack(readings)

    def noise_covariance(self, solved: Solved, image: int, flicker_a2: Array) -> Array:
        """Covariance (N, N) of the readings at one equilibrium, in units of z squared, over the calibrated band.

        White: Nyquist's 4 k T of the array and of R_F at the columns, the op-amps' inputs, pair and driver; 1/f of the
        pair and, ``flicker_a2`` (2N,) in A^2 at 1 Hz, of the devices. Integrated over frequency by trapezes.
        """
        n, spec, noise = self.states, self.spec, self.proxy.noise.values
        rows = self.y.shape[0] - 2 * n
        c_total = spec.c_input_f + spec.c_feedback_f
        w_t = 2 * math.pi * self.proxy.loop.values["gbw_hz"]
        t_pair, t_driver = (self.proxy.poles.values[k] for k in ("pair_s", "driver_s"))
        slope = solved.by_h[image].abs().numpy()
        powers = np.stack([np.ones(n), slope, slope**2])
        white, flicker = (
            np.maximum([noise[f"{name}_{k}"] for k in range(3)] @ powers, 0.0) for name in ("white", "flicker")
        )
        current = 4 * BOLTZMANN * self.kelvin * (self.y[rows:, rows:] + np.eye(2 * n) / spec.r_feedback_ohm)
        matrix = self.jacobian(solved, image)
        out = np.zeros((n, 8 * n))
        y_zc = self.y[rows - n : rows, rows:]
        out[:, : 2 * n] = -self.proxy.driver.values["r_out_ohm"] / spec.z_unit_v * y_zc
        fed = bent_slope(solved.z[image], self.proxy.bend).numpy()
        # r_z holds what s does to the rows at DC; s is a state here, so its share is taken out again
        through = -self.proxy.driver.values["r_out_ohm"] * self.y[rows - n : rows, rows - n : rows]
        out[:, 7 * n :] = np.eye(n) + through * fed
        low, high = self.proxy.noise.domain["frequency_hz"]
        frequency = np.geomspace(low, high, round(math.log10(high / low)) * PER_DECADE + 1)
        density = np.empty((len(frequency), n, n))
        eye = np.eye(8 * n)
        for k, f in enumerate(frequency):
            to = np.linalg.solve((2j * math.pi * f * eye - matrix).T, out.T).T  # (N, 8N)
            s, m = to[:, : 2 * n] / c_total, to[:, 2 * n : 4 * n] * w_t
            a, d = to[:, 6 * n : 7 * n] / t_pair, to[:, 7 * n :] / t_driver
            total = (s @ (current + np.diag(flicker_a2 / f))) @ s.conj().T + noise["en2_v2_per_hz"] * m @ m.conj().T
            total += (a * (white + flicker / f)) @ a.conj().T + noise["driver_white"] * d @ d.conj().T
            density[k] = total.real
        return np.asarray(np.trapezoid(density, frequency, axis=0))


def damping(load: Array, proxy: MemristorProxy, spec: MemristorSpec) -> tuple[float, float]:
    """(least phase margin in degrees, longest closed-loop time constant in s) of amplifiers at ``load`` (S).

    The loop is A times the divider Y_F / (Y_F + G + j w C_in); its margin is taken where it crosses 1.
    """
    frequency = np.geomspace(1e3, 1e11, 4001)
    w = 2 * math.pi * frequency
    values = proxy.loop.values
    feedback = 1 / spec.r_feedback_ohm + 1j * w * spec.c_feedback_f
    gain = open_loop(frequency, proxy.amplifier.values["inverse_a0"], values["gbw_hz"], values["f2_hz"])
    least, slowest = 180.0, 0.0
    for g in load:
        loop = gain * feedback / (feedback + g + 1j * w * spec.c_input_f)
        crossing = int(np.argmax(np.abs(loop) < 1))
        least = min(least, 180.0 + float(np.degrees(np.unwrap(np.angle(loop)))[crossing]))
        slowest = max(slowest, amplifier_tau(float(g), proxy, spec))
    return least, slowest


def amplifier_tau(load: float, proxy: MemristorProxy, spec: MemristorSpec) -> float:
    """Slower time constant (s) of an amplifier at a load (S): ``R_F C_F + (1 + R_F G) / (2 pi GBW)``."""
    r, gbw = spec.r_feedback_ohm, proxy.loop.values["gbw_hz"]
    return r * spec.c_feedback_f + (1 + r * load) / (2 * math.pi * gbw)
