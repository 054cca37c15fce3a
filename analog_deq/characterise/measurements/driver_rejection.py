"""Rejection of a driver: what the common mode of its inputs and its rails leave at the differential output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analog_deq.characterise.measurement import (
    AbstractCellMeasurement,
    CellBench,
    Copy,
    Quantity,
    Testbench,
    Value,
    not_modelled,
    undefined,
)
from analog_deq.characterise.measurements import signal_path as path
from analog_deq.characterise.measurements.amplifier import AC_HZ, START_HZ, compact
from analog_deq.records import Ac, Command, Plot

NOTHING = 1e-14
"""Gain, over the differential gain, that is rounding and no path."""
REJECTED = {"cmrr": "common", "psrr_vdd": "vdd", "psrr_vss": "vss"}


class DriverRejection(AbstractCellMeasurement):
    """Differential gain over the gain from the common mode and from each rail to the differential output."""

    name = "rejection"
    roles = ("driver",)
    quantities = (
        Quantity("cmrr", "dB", "low", "common-mode rejection ratio"),
        Quantity("psrr_vdd", "dB", "low", "rejection of the positive supply"),
        Quantity("psrr_vss", "dB", "low", "rejection of the negative supply"),
    )

    def testbench(self, bench: CellBench) -> Testbench:
        lines, save = path.drive_lines(bench), []
        for copy in bench.copies:
            lines += path.path_lines(bench, copy)
            save += path.output_vectors(bench, copy)
        commands: list[Command] = []
        for name in ("input", *_present(bench).values()):
            commands += [path.port(name), Ac(1, START_HZ, AC_HZ)]
        return Testbench("rejection of a driver", lines, commands, save, bound=1e12)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        gain = np.abs(path.output(bench, copy, plots[0]))
        leaks = dict(zip(_present(bench), (np.abs(path.output(bench, copy, p)) for p in plots[1:]), strict=True))
        found = []
        for quantity in REJECTED:
            for k, at in ((0, "f=0"), (-1, f"f={compact(AC_HZ, 'Hz')}")):
                if quantity not in leaks:
                    found.append(not_modelled(quantity, "the cell has no supply pins", at))
                elif gain[k] == 0.0:
                    found.append(undefined(quantity, "the differential gain is zero", at))
                elif leaks[quantity][k] <= NOTHING * gain[k]:
                    found.append(not_modelled(quantity, f"no path from {REJECTED[quantity]} to the output", at))
                else:
                    found.append(Value(quantity, float(20 * np.log10(gain[k] / leaks[quantity][k])), at))
        return found


def _present(bench: CellBench) -> dict[str, str]:
    return {q: name for q, name in REJECTED.items() if bench.has_supply or name == "common"}
