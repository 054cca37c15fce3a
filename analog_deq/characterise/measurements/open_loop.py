"""Open-loop frequency response of an amplifier: DC gain, gain-bandwidth product, phase margin.

The loop is closed at DC and open for AC, so that the amplifier biases itself whatever its offset. The signal enters at
``in_n``, where feedback does: the response is the loop gain of a unity buffer, and its phase margin that loop's. GBW is
read where the response falls with -20 dB per decade: GBW = f |A(f)| there. The unity crossing lies below it as soon as
a second pole is near (Sedra and Smith, Microelectronic Circuits, ch. 2 and 10).
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
    undefined,
)
from analog_deq.characterise.measurements.amplifier import START_HZ, drive, small_signal_lines
from analog_deq.records import Ac, Command, Plot
from analog_deq.waveforms import crossing

STOP_HZ, PER_DECADE = 1e12, 20
FLAT = 1e-3
"""Largest relative change of |A| over the first decade for it to be the DC gain."""


class OpenLoop(AbstractCellMeasurement):
    """DC gain, GBW, unity crossing, phase and gain margin under the contract's load (``load``, ``load_r``)."""

    name = "open_loop"
    roles = ("opamp", "ota")
    ranging = True
    quantities = (
        Quantity("dc_gain", "dB", "low", "open-loop gain at DC"),
        Quantity("gbw", "Hz", "low", "gain-bandwidth product from the -20 dB/dec region"),
        Quantity("unity_gain", "Hz", "low", "frequency where the open-loop gain is 1"),
        Quantity("phase_margin", "deg", "low", "phase above -180 degrees at the unity crossing"),
        Quantity("gain_margin", "dB", "low", "gain below 1 where the phase is -180 degrees"),
    )

    def testbench(self, bench: CellBench) -> Testbench:
        commands: list[Command] = [drive("inverting"), Ac(PER_DECADE, START_HZ, STOP_HZ)]
        save = [f"v(o{copy.tag})" for copy in bench.copies]
        return Testbench("open-loop response of an amplifier", small_signal_lines(bench), commands, save, bound=1e12)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        f, a = plots[0].sweep, plots[0][f"v(o{copy.tag})"]
        level = 20 * np.log10(np.abs(a))
        if abs(abs(a[PER_DECADE] / a[0]) - 1) > FLAT:
            gain = undefined("dc_gain", f"the gain still changes at {START_HZ:g} Hz")
        elif a[0].real < 0:
            gain = undefined("dc_gain", "the gain is negative at DC: in_p and in_n are swapped")
        else:
            gain = Value("dc_gain", float(level[0]))
        if level[0] <= 0:
            why = "the gain is below 1 at every frequency" if np.all(level <= 0) else "the gain is below 1 at DC"
            return [gain, *(undefined(q.id, why) for q in self.quantities[1:])]
        phase = np.degrees(np.unwrap(np.angle(a)))
        phase -= 360.0 * round(phase[0] / 360.0)
        below = int(np.flatnonzero(level <= 0)[0])
        decades = np.log10(f)
        unity = crossing(decades, level, below, 0.0)
        return [
            gain,
            gain_bandwidth(f, a),
            Value("unity_gain", 10**unity),
            Value("phase_margin", 180.0 + float(np.interp(unity, decades, phase))),
            _gain_margin(decades, level, phase),
        ]

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        f, a = plots[0].sweep, plots[0][f"v(o{copy.tag})"]
        return [
            Curve("open_loop_gain_db", f, 20 * np.log10(np.abs(a))),
            Curve("open_loop_phase_deg", f, np.degrees(np.unwrap(np.angle(a)))),
        ]


def gain_bandwidth(frequency_hz: np.ndarray, response: np.ndarray) -> Value:
    """GBW = f |A(f)| at the point of the falling flank where the local slope is closest to -20 dB per decade.

    The flank is where |A| lies between 1 and the DC gain over 3; undefined when its slope never comes within 1 dB per
    decade of -20.
    """
    level, decades = 20 * np.log10(np.abs(response)), np.log10(frequency_hz)
    slope = np.gradient(level, decades)
    flank = np.flatnonzero((level > 0) & (level < level[0] - 20 * math.log10(3)))
    if flank.size == 0:
        return undefined("gbw", "the gain has no falling flank above 1")
    k = int(flank[np.argmin(np.abs(slope[flank] + 20))])
    if abs(slope[k] + 20) > 1.0:
        return undefined("gbw", f"the flank falls with {slope[k]:.1f} dB per decade, nowhere with -20")
    return Value("gbw", float(frequency_hz[k] * abs(response[k])))


def _gain_margin(decades: np.ndarray, level: np.ndarray, phase: np.ndarray) -> Value:
    turned = np.flatnonzero(phase <= -180.0)
    if turned.size == 0:
        return undefined("gain_margin", "the phase never reaches -180 degrees")
    k = int(turned[0])
    return Value("gain_margin", -float(np.interp(crossing(decades, phase, k, -180.0), decades, level)))
