"""How well an amplifier rejects its rails and the common mode of its inputs.

PSRR = A_d / A_rail and CMRR = A_d / A_cm, the open-loop gains to the output from the differential input, a rail and
both inputs together (Gray, Hurst, Lewis and Meyer, Analysis and Design of Analog Integrated Circuits, ch. 6.2), all of
one instance at one operating point.
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
    undefined,
)
from analog_deq.characterise.measurements.amplifier import AC_HZ, START_HZ, compact, drive, small_signal_lines
from analog_deq.records import Ac, Command, Plot

PER_DECADE = 10
STOP_HZ = 1e10
NOTHING = 1e-13
"""Gain from a port, relative to the differential gain, that is only the solver's rounding: 260 dB."""
FLAT = 0.01
"""Largest relative change over the first decade for a rejection to be that at DC."""
PORTS = {"psrr_vdd": "vdd", "psrr_vss": "vss", "cmrr": "common"}


class Rejection(AbstractCellMeasurement):
    """PSRR of both rails and CMRR, at DC and 100 kHz, under the contract's load."""

    name = "rejection"
    roles = ("opamp", "ota")
    quantities = (
        Quantity("psrr_vdd", "dB", "low", "rejection of the positive supply"),
        Quantity("psrr_vss", "dB", "low", "rejection of the negative supply"),
        Quantity("cmrr", "dB", "low", "common-mode rejection ratio"),
    )

    def testbench(self, bench: CellBench) -> Testbench:
        commands: list[Command] = []
        for port in ("differential", *_ports(bench).values()):
            commands += [drive(port), Ac(PER_DECADE, START_HZ, STOP_HZ)]
        save = [f"v(o{copy.tag})" for copy in bench.copies]
        return Testbench("supply and common-mode rejection", small_signal_lines(bench), commands, save, bound=1e12)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        found = []
        ports = _ports(bench)
        for name in PORTS:
            if name not in ports:
                found += [not_modelled(name, "the cell has no supply pins", at) for at in _PLACES]
                continue
            f, ratio = _ratio(copy, plots, 1 + list(ports).index(name))
            found += _readings(name, PORTS[name], f, ratio)
        return found

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        drawn = []
        for k, name in enumerate(_ports(bench)):
            f, ratio = _ratio(copy, plots, 1 + k)
            seen = ratio > NOTHING
            if np.any(seen):
                drawn.append(Curve(f"{name}_db", f[seen], -20 * np.log10(ratio[seen])))
        return drawn


_PLACES = ("f=0", f"f={compact(AC_HZ, 'Hz')}")


def _ports(bench: CellBench) -> dict[str, str]:
    return {name: port for name, port in PORTS.items() if bench.has_supply or port == "common"}


def _ratio(copy: Copy, plots: Sequence[Plot], k: int) -> tuple[np.ndarray, np.ndarray]:
    """(frequency, gain of port k relative to the differential gain, magnitude)."""
    out = f"v(o{copy.tag})"
    return plots[0].sweep, np.abs(plots[k][out] / plots[0][out])


def _readings(name: str, port: str, f: np.ndarray, ratio: np.ndarray) -> list[Value]:
    at_dc, at_ac = _PLACES
    if np.all(ratio < NOTHING):
        reason = f"the output does not depend on {'the common mode' if port == 'common' else port}"
        return [not_modelled(name, reason, at) for at in _PLACES]
    dc = undefined(name, f"the rejection still changes at {START_HZ:g} Hz", at_dc)
    if ratio[0] < NOTHING:
        dc = not_modelled(name, "nothing reaches the output at DC", at_dc)
    elif abs(ratio[PER_DECADE] / ratio[0] - 1) < FLAT:
        dc = Value(name, float(-20 * np.log10(ratio[0])), at_dc)
    level = float(np.interp(np.log10(AC_HZ), np.log10(f), -20 * np.log10(np.maximum(ratio, NOTHING))))
    return [dc, Value(name, level, at_ac)]
