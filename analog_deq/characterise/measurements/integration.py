"""What makes an integrator one: its capacitance, leak, time constant, and how nearly its step response is one pole."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import least_squares

from analog_deq.characterise.measurement import (
    AbstractCellMeasurement,
    CellBench,
    Copy,
    Curve,
    Quantity,
    Testbench,
    Value,
    WindowTooShortError,
    undefined,
)
from analog_deq.characterise.measurements import signal_path as path
from analog_deq.characterise.measurements.amplifier import START_HZ, compact
from analog_deq.characterise.measurements.bandwidth import response_values
from analog_deq.characterise.measurements.open_loop import PER_DECADE, STOP_HZ, gain_bandwidth
from analog_deq.characterise.measurements.path_step import OPTIONS, after_edge, step_tran, step_wave, window_s
from analog_deq.records import OK, Ac, Alter, Command, Op, Plot
from analog_deq.waveforms import crossing

TIME_CONSTANTS = 8.0
"""Window of the step response: the fit sees the end of the pole, and little of what is not it."""
FLANK = 100.0
"""The capacitance is looked for up to this multiple of the bandwidth; feedthrough to the output lies beyond."""
REFERENCE_OHM = 1e3
"""Resistor from a voltage to the input, for the unity-gain frequency, unless the contract says ``source_r``."""


class Integration(AbstractCellMeasurement):
    """From the small-signal transresistance Z(f), and from a small step.

    Z = R / (1 + j 2 pi f R C): the leak is 1/R, its time constant RC, with C from the region of -20 dB per decade. The
    single-pole fit of the step has amplitude, time constant and delay free; its time constant is compared with
    1 / (2 pi f) of the -3 dB frequency of Z.
    """

    name = "integration"
    roles = ("integrator",)
    copies = 16
    quantities = (
        Quantity("leak_conductance", "S", "high", "leak: reciprocal of the transresistance at DC"),
        Quantity("integrating_capacitance", "F", "magnitude", "reciprocal of the output's slope per ampere"),
        Quantity("leak_time", "s", "low", "time constant of the leak: integrating capacitance over leak"),
        Quantity("unity_frequency", "Hz", "low", "frequency of gain 1 from a voltage through a resistor"),
        Quantity("time_constant", "s", "high", "time constant of the step response, single-pole fit"),
        Quantity("tau_error", "%", "magnitude", "time constant of the step over that of the -3 dB frequency, less 1"),
        Quantity("fit_rms", "%", "high", "rms distance of the step response from a single pole"),
    )

    def testbench(self, bench: CellBench) -> Testbench:
        lines, save = path.drive_lines(bench, f"{step_wave(bench)} ac 1"), []
        for copy in bench.copies:
            lines += [*path.path_lines(bench, copy, unit=True), *path.servo_lines(bench, copy)]
            save += [*path.output_vectors(bench, copy), path.input_vector(copy)]
        step = path.unit_v(bench)
        commands: list[Command] = [
            Ac(PER_DECADE, START_HZ, STOP_HZ),
            Alter((("vxinput", step), ("vhold", 1.0))), Op(),
            Alter((("vhold", 0.0),)), step_tran(bench, _window_s(bench)),
        ]  # fmt: skip
        return Testbench("integration", lines, commands, save, options=OPTIONS, bound=1e12)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        drive = plots[0][path.input_vector(copy)]
        if drive[0] == 0:
            return [undefined(q.id, "no direct current into the input moves the output") for q in self.quantities]
        f, z = plots[0].sweep, path.output(bench, copy, plots[0]) / drive
        return [*_leak(bench, f, z), *self._step(bench, copy, plots, f, z)]

    def _step(self, bench: CellBench, copy: Copy, plots: Sequence[Plot], f: np.ndarray, z: np.ndarray) -> list[Value]:
        t, y = after_edge(bench, plots[2], path.output(bench, copy, plots[2]))
        final = float(path.output(bench, copy, plots[1])[0])
        if final == y[0]:
            return [undefined(q.id, "the output does not move") for q in self.quantities[4:]]
        share = (y - y[0]) / (final - y[0])
        if abs(share[-1] - 1) > 2 * math.exp(-TIME_CONSTANTS / 2):
            raise WindowTooShortError("the step response has not ended")
        after = t >= 0
        tau, rms = fit_pole_step(t[after], share[after])
        bandwidth = response_values(f, z)[0]
        error = (
            Value("tau_error", 100 * (tau * 2 * math.pi * bandwidth.value - 1))
            if bandwidth.status == OK
            else undefined("tau_error", "the transresistance has no -3 dB frequency")
        )
        return [Value("time_constant", tau), error, Value("fit_rms", 100 * rms)]

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        z = path.output(bench, copy, plots[0]) / plots[0][path.input_vector(copy)]
        return [Curve("transresistance", plots[0].sweep, np.abs(z))]


def fit_pole_step(t_s: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """(time constant in s, rms distance) of the least-squares a (1 - exp(-(t - d) / tau)) for t > d, to y(t).

    >>> t = np.linspace(0, 8e-6, 500)
    >>> tau, rms = fit_pole_step(t, 1 - np.exp(-t / 1e-6))
    >>> abs(tau / 1e-6 - 1) < 1e-6
    True
    """
    guess = float(np.trapezoid(y[-1] - y, t_s)) / float(y[-1])

    def residual(p: np.ndarray) -> np.ndarray:
        return -p[0] * np.expm1(-np.maximum(t_s / guess - p[2], 0.0) / p[1]) - y

    fit = least_squares(residual, [y[-1], 1.0, 0.0], x_scale=[1.0, 1.0, 0.01], xtol=1e-12, ftol=1e-12)
    return float(fit.x[1] * guess), float(np.sqrt(np.mean(fit.fun**2)))


def _leak(bench: CellBench, f: np.ndarray, z: np.ndarray) -> list[Value]:
    size, found = np.abs(z), []
    flat = response_values(f, z)[0].status == OK
    why = f"the transresistance still changes at {f[0]:g} Hz"
    flank = f <= FLANK * bench.bandwidth_hz
    rate = gain_bandwidth(f[flank], size[flank] / size[flank].min())  # the helper looks above 1
    c = 1 / (2 * math.pi * rate.value * size[flank].min())
    found.append(Value("leak_conductance", float(1 / size[0])) if flat else undefined("leak_conductance", why))
    if rate.status != OK:
        no_slope = "the transresistance nowhere falls by 20 dB per decade"
        found += [undefined(i, no_slope) for i in ("integrating_capacitance", "leak_time")]
    else:
        found.append(Value("integrating_capacitance", c))
        found.append(Value("leak_time", float(size[0]) * c) if flat else undefined("leak_time", why))
    reference = bench.condition("source_r", REFERENCE_OHM)
    at = f"source={compact(reference, 'ohm')}"
    below = np.flatnonzero(size <= reference)
    if size[0] <= reference or below.size == 0:
        return [*found, undefined("unity_frequency", "the gain does not fall through 1", at)]
    log_hz = crossing(np.log(f), np.log(size), int(below[0]), math.log(reference))
    return [*found, Value("unity_frequency", math.exp(log_hz), at)]


def _window_s(bench: CellBench) -> float:
    return window_s(bench, TIME_CONSTANTS)
