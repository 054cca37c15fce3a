"""Input and output impedance of a cell with one input and one output, at rest, without the contract's load."""

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
from analog_deq.characterise.measurements import signal_path as path
from analog_deq.characterise.measurements.amplifier import AC_HZ, START_HZ, compact
from analog_deq.characterise.measurements.open_loop import PER_DECADE, STOP_HZ
from analog_deq.records import Ac, Command, Plot

NO_SIEMENS = 1e-13
"""Conductance of the simulator's own gmin at some junctions, no property of the cell."""
NO_FARAD = 1e-21

OUTPUT_IMPEDANCE = Quantity("output_impedance", "ohm", "high", "magnitude of the output impedance, unloaded")


class VoltagePorts(AbstractCellMeasurement):
    """Input resistance at DC and capacitance, output impedance; differential where the cell is."""

    name = "impedance"
    roles = ("activation", "driver")
    quantities = (
        Quantity("input_resistance", "ohm", "low", "small-signal input resistance at DC"),
        Quantity("input_capacitance", "F", "high", "small-signal input capacitance"),
        OUTPUT_IMPEDANCE,
    )

    def testbench(self, bench: CellBench) -> Testbench:
        return _testbench(bench)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        f, k = _at(plots[0].sweep)
        y = input_admittance(bench, copy, plots[0])
        at, farad = f"f={compact(AC_HZ, 'Hz')}", float(y[k].imag / (2 * math.pi * f))
        return [
            Value("input_resistance", float(1 / y[0].real))
            if y[0].real > NO_SIEMENS
            else not_modelled("input_resistance", "no current flows into the input"),
            Value("input_capacitance", farad, at)
            if abs(farad) > NO_FARAD
            else not_modelled("input_capacitance", "no capacitance at the input", at),
            *output_values(bench, copy, plots[1]),
        ]

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        return [Curve("output_impedance", plots[1].sweep, np.abs(path.output(bench, copy, plots[1])))]


class CurrentPorts(AbstractCellMeasurement):
    """Impedance of the virtual ground and of the output."""

    name = "impedance"
    roles = path.CURRENT_INPUTS
    quantities = (
        Quantity("input_impedance", "ohm", "high", "magnitude of the impedance of the virtual ground"),
        OUTPUT_IMPEDANCE,
    )

    def testbench(self, bench: CellBench) -> Testbench:
        return _testbench(bench)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        ohm = np.abs(plots[0][_input_node(copy)] / plots[0][path.input_vector(copy)])
        return [*_magnitudes("input_impedance", plots[0].sweep, ohm), *output_values(bench, copy, plots[1])]

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        ohm = np.abs(plots[0][_input_node(copy)] / plots[0][path.input_vector(copy)])
        return [
            Curve("input_impedance", plots[0].sweep, ohm),
            Curve("output_impedance", plots[1].sweep, np.abs(path.output(bench, copy, plots[1]))),
        ]


def input_admittance(bench: CellBench, copy: Copy, plot: Plot) -> np.ndarray:
    """Current into the input per volt of x; of a differential input, half the difference of its two currents."""
    current = plot[path.input_vector(copy)]
    return (current - plot[f"i(vj{copy.tag})"]) / 2 if bench.cell.role == "driver" else current


def output_values(bench: CellBench, copy: Copy, plot: Plot) -> list[Value]:
    """``output_impedance`` at DC and at ``AC_HZ`` from the response to one ampere into the output."""
    return _magnitudes(OUTPUT_IMPEDANCE.id, plot.sweep, np.abs(path.output(bench, copy, plot)))


def _magnitudes(quantity: str, sweep: np.ndarray, ohm: np.ndarray) -> list[Value]:
    _, k = _at(sweep)
    found = []
    for index, at in ((0, "0"), (k, compact(AC_HZ, "Hz"))):
        value = float(ohm[index])
        ideal = "the model holds the node without any current dependence"
        found.append(Value(quantity, value, f"f={at}") if value > 0 else not_modelled(quantity, ideal, f"f={at}"))
    return found


def _testbench(bench: CellBench) -> Testbench:
    lines, save = path.drive_lines(bench), []
    for copy in bench.copies:
        nodes = path.output_nodes(bench, copy)
        back = nodes[1] if len(nodes) == 2 else "0"
        lines += [
            *path.path_lines(bench, copy, loaded=False),
            f"Bo{copy.tag} {back} {nodes[0]} i=v(xoutput)*v(u)",
        ]
        save += [*path.output_vectors(bench, copy), path.input_vector(copy), _input_node(copy)]
        if bench.cell.role == "driver":
            save.append(f"i(vj{copy.tag})")
    sweep = Ac(PER_DECADE, START_HZ, STOP_HZ)
    commands: list[Command] = [path.port("input"), sweep, path.port("output"), sweep]
    return Testbench("input and output impedance", lines, commands, save, bound=1e12)


def _input_node(copy: Copy) -> str:
    return f"v(i{copy.tag})"


def _at(sweep: np.ndarray) -> tuple[float, int]:
    k = int(np.argmin(np.abs(np.log(sweep / AC_HZ))))
    return float(sweep[k]), k
