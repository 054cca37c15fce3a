"""Noise of an amplifier: density and 1/f corner at the input, noise integrated over a stated band.

The input density is read at ``in_n`` while a noiseless gain of 1e6 in the testbench holds the output still (a nullor):
what ``in_n`` must do for that is the input noise, at any frequency where the amplifier still has a gain of 1e-4. The
second spectrum is that of the output under unity feedback. Both are integrated here, not by the simulator.
"""

from __future__ import annotations

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
from analog_deq.characterise.measurements.amplifier import (
    AC_HZ,
    NULLOR,
    compact,
    drive,
    load_text,
    small_signal_lines,
)
from analog_deq.characterise.measurements.spectra import CORNER, NOISE_RMS, density_at, flicker_corner, integrated_rms
from analog_deq.records import Command, Noise, Plot

PER_DECADE = 50
START_HZ, STOP_HZ = 1.0, 1e12
DENSITIES_HZ = (1e3, AC_HZ)


class AmplifierNoise(AbstractCellMeasurement):
    """Input noise density at 1 kHz and 100 kHz, its 1/f corner and its integral from 1 Hz to 100 kHz.

    ``noise_rms`` is all the noise at the output of a unity buffer, 1 Hz to 1 THz, under the contract's load.
    """

    name = "noise"
    roles = ("opamp", "ota")
    copies = 1
    quantities = (
        Quantity("input_noise_density", "V/rtHz", "high", "input noise density"),
        CORNER,
        Quantity("input_noise_rms", "V", "high", "input noise integrated over the band"),
        NOISE_RMS,
    )

    def testbench(self, bench: CellBench) -> Testbench:
        k = bench.copies[0].tag
        sweep = ("Vu", PER_DECADE, START_HZ, STOP_HZ)
        commands: list[Command] = [
            drive(loop=NULLOR), Noise(f"v(n{k})", *sweep),
            drive(loop=1.0), Noise(f"v(o{k})", *sweep),
        ]  # fmt: skip
        return Testbench("noise of an amplifier", small_signal_lines(bench), commands)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        f, density, output = plots[0].sweep, plots[0]["onoise_spectrum"], plots[1]["onoise_spectrum"]
        places = [f"f={compact(hertz, 'Hz')}" for hertz in DENSITIES_HZ]
        band = f"band={compact(START_HZ, 'Hz')}..{compact(AC_HZ, 'Hz')}"
        total = f"band={compact(START_HZ, 'Hz')}..{compact(STOP_HZ, 'Hz')} unity {load_text(bench)}"
        reason = "" if bench.cell.contract.noise.native else "the contract says that the netlist is noiseless"
        reason = reason or ("" if np.any(density > 0) else "no device of the netlist carries noise")
        if reason:
            missing = [("input_noise_density", at) for at in places]
            missing += [(CORNER.id, ""), ("input_noise_rms", band), (NOISE_RMS.id, total)]
            return [not_modelled(name, reason, at) for name, at in missing]
        return [
            *(
                Value("input_noise_density", density_at(f, density, hertz), at)
                for hertz, at in zip(DENSITIES_HZ, places, strict=True)
            ),
            flicker_corner(f, density, bench.bandwidth_hz / 10),
            Value("input_noise_rms", integrated_rms(f, density, START_HZ, AC_HZ), band),
            Value(NOISE_RMS.id, integrated_rms(f, output), total),
        ]

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        drawn = (("input_noise_density", plots[0]), ("unity_noise_density", plots[1]))
        return [Curve(name, plot.sweep, plot["onoise_spectrum"], load_text(bench)) for name, plot in drawn]
