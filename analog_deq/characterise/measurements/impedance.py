"""Output impedance of an amplifier, open and closed loop, and differential input impedance.

Output: a current into the output, the contract's load removed, with no feedback at the signal frequency (open) or
unity feedback (closed); |Z| = |v / i|. Input: half the signal on ``in_p``, minus half on ``in_n``, no feedback;
Y = (i_p - i_n) / 2 per volt between the inputs. Resistance is that of the DC limit, capacitance Im Y / (2 pi f).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from analog_deq.characterise.measurement import (
    AbstractCellMeasurement,
    CellBench,
    Copy,
    Curve,
    Quantity,
    Testbench,
    Value,
    not_modelled,
)
from analog_deq.characterise.measurements.amplifier import AC_HZ, START_HZ, compact, drive, small_signal_lines
from analog_deq.records import Ac, Command, Plot

PER_DECADE = 10
STOP_HZ = 1e10
NO_SIEMENS = 1e-14
"""Conductance between the inputs that is only the simulator's gmin: 100 Tohm."""
NO_FARAD = 1e-21
NO_OHM = 1e-12
PLOTS = {"open": ("output", 0.0), "closed": ("output", 1.0), "input": ("differential", 0.0)}


class Impedance(AbstractCellMeasurement):
    """|Z| of the output at DC and 100 kHz, open and closed; differential resistance and capacitance of the input."""

    name = "impedance"
    roles = ("opamp", "ota")
    quantities = (
        Quantity("output_impedance", "ohm", "high", "magnitude of the output impedance, unloaded"),
        Quantity("differential_resistance", "ohm", "low", "input resistance between in_p and in_n at DC"),
        Quantity("differential_capacitance", "F", "high", "input capacitance between in_p and in_n, open loop"),
    )

    def testbench(self, bench: CellBench) -> Testbench:
        commands: list[Command] = []
        for port, loop in PLOTS.values():
            commands += [drive(port, loop=loop), Ac(PER_DECADE, START_HZ, STOP_HZ)]
        save = [x for c in bench.copies for x in (f"v(o{c.tag})", f"i(vip{c.tag})", f"i(vin{c.tag})")]
        lines = small_signal_lines(bench, loaded=False)
        return Testbench("output and input impedance", lines, commands, save, bound=1e15)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        found = []
        for state, plot in zip(("open", "closed"), plots, strict=False):
            f, z = plot.sweep, np.abs(plot[f"v(o{copy.tag})"])
            for at, ohm in (("f=0", z[0]), (f"f={compact(AC_HZ, 'Hz')}", _at(f, z))):
                at = f"{state} {at}"
                ideal = not_modelled("output_impedance", "the output is an ideal voltage source", at)
                found.append(ideal if ohm < NO_OHM else Value("output_impedance", float(ohm), at))
        return [*found, *_input(copy, plots[2])]

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        out = f"v(o{copy.tag})"
        return [
            Curve("output_impedance", plot.sweep, np.abs(plot[out]), state)
            for state, plot in zip(("open", "closed"), plots, strict=False)
        ]


def _at(f: np.ndarray, magnitude: np.ndarray) -> float:
    return float(np.exp(np.interp(math.log(AC_HZ), np.log(f), np.log(np.maximum(magnitude, 1e-300)))))


def _input(copy: Copy, plot: Plot) -> list[Value]:
    f, y = plot.sweep, (plot[f"i(vip{copy.tag})"] - plot[f"i(vin{copy.tag})"]) / 2
    at = f"f={compact(AC_HZ, 'Hz')}"
    siemens = float(y[0].real)
    farad = float(np.interp(math.log(AC_HZ), np.log(f), y.imag)) / (2 * math.pi * AC_HZ)
    return [
        Value("differential_resistance", 1 / siemens)
        if abs(siemens) > NO_SIEMENS
        else not_modelled("differential_resistance", "no conductance between the inputs"),
        Value("differential_capacitance", farad, at)
        if abs(farad) > NO_FARAD
        else not_modelled("differential_capacitance", "no capacitance between the inputs", at),
    ]
