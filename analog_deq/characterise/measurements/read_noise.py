"""Read noise of a synapse, its thermal floor against Nyquist's 4kTG, and the corner of its 1/f noise.

ngspice gives output noise as a voltage. A noiseless source turns the column current i into three of them: i itself;
ln i, whose noise is that of i over i; and 2 sqrt(v i), whose noise is that of i over sqrt(i / v), the square root of
the conductance. So the ratio to the read current and to 4kTG is taken inside the deck, of the very same instance.
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
from analog_deq.characterise.measurements import synapse as s
from analog_deq.characterise.measurements.spectra import (
    CORNER,
    NOISE_PER_DECADE,
    density_at,
    flicker_corner,
    integrated_rms,
)
from analog_deq.records import Alter, Command, Noise, Plot

BOLTZMANN, ZERO_CELSIUS = 1.380649e-23, 273.15
TOP_HZ = 1e12
"""The corner is sought up to here; a memristive cell's often lies far above the band of a read."""
FLOOR = 1e-5
"""Voltage at which the thermal floor is measured, over the read voltage: 1/f noise is 1e-10 of its power there."""


class ReadNoise(AbstractCellMeasurement):
    """Noise of the column current: relative in the band of one read, and the floor at (nearly) no current.

    The band is the contract's, 1/(wait + read) to 1/(2 read); ``noise.extra`` is added in quadrature.
    """

    name = "read_noise"
    roles = ("synapse",)
    copies = 1
    quantities = (
        Quantity("read_noise", "%", "high", "rms noise of one read over the read current"),
        CORNER,
        Quantity("thermal_noise", "A/rtHz", "high", "current noise density without read current"),
        Quantity("thermal_ratio", "1", "high", "noise power without read current over 4kTG"),
    )

    def testbench(self, bench: CellBench) -> Testbench:
        read, (start, stop) = s.read_v(bench), band_hz(bench)
        lines = [s.row_line(read, "ac 1"), *s.level_lines(bench)]
        at_read: list[Command] = [Alter(((s.ROW, read),))]
        at_rest: list[Command] = [Alter(((s.ROW, FLOOR * read),))]
        whole = 10.0 ** math.floor(math.log10(start)), max(TOP_HZ, 10.0 ** math.ceil(math.log10(stop)))
        for copy in bench.copies:
            for k in range(len(s.levels(bench.cell))):
                p = f"l{k}_{copy.tag}"
                i = f"i(Vc{p})"
                lines += [
                    f"Hi{p} oi{p} 0 Vc{p} 1",
                    # the smallest numbers only keep ln and sqrt differentiable while Newton starts from 0
                    f"Bl{p} ol{p} 0 v=0.5*ln({i}*{i}+1e-40)",
                    f"Bg{p} og{p} 0 v=2*sqrt(abs(v(row)*{i})+1e-40)",
                ]
                at_read.append(Noise(f"v(ol{p})", s.ROW, NOISE_PER_DECADE, *whole))
                at_rest += [Noise(f"v({o}{p})", s.ROW, 1, stop, 10 * stop) for o in ("oi", "og")]
        return Testbench("read noise of a synapse", lines, [*at_read, *at_rest], options=s.DC_OPTIONS, bound=1e9)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        found = []
        for k, g in enumerate(s.levels(bench.cell)):
            relative, density, per_root_g = _plots(bench, copy, plots, k)
            at = s.text("g", g, "S")
            found.append(self._read_noise(bench, relative, at))
            missing = _missing(bench, relative)
            found.append(
                not_modelled(CORNER.id, missing, at)
                if missing
                else flicker_corner(relative.sweep, _density(relative), relative.sweep[-1], at)
            )
            missing = _missing(bench, density)
            if missing:
                found += [not_modelled(q.id, missing, at) for q in self.quantities[2:]]
                continue
            four_kt = 4 * BOLTZMANN * (bench.corner.temperature_celsius + ZERO_CELSIUS)
            found += [
                Value("thermal_noise", float(_density(density)[0]), at),
                Value("thermal_ratio", float(_density(per_root_g)[0] ** 2 / four_kt), at),
            ]
        return found

    def _read_noise(self, bench: CellBench, relative: Plot, level: str) -> Value:
        noise = bench.cell.contract.noise
        at = " ".join(
            [
                level,
                s.text("v", s.read_v(bench), "V"),
                s.text("wait", noise.wait_s, "s"),
                s.text("read", noise.read_s, "s"),
            ]
        )
        missing = _missing(bench, relative)
        if missing and noise.extra is None:
            return not_modelled("read_noise", missing, at)
        native = 0.0 if missing else in_band(relative.sweep, _density(relative), *band_hz(bench))
        extra = 0.0 if noise.extra is None else noise.extra.sigma
        return Value("read_noise", 100 * math.hypot(native, extra), at)

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        return [
            Curve("relative_noise_density", p.sweep, _density(p), s.text("g", g, "S"))
            for k, g in enumerate(s.levels(bench.cell))
            if not _missing(bench, p := _plots(bench, copy, plots, k)[0])
        ]


def band_hz(bench: CellBench) -> tuple[float, float]:
    """Band of one read: slower noise looks like a programming error, faster noise is averaged."""
    noise = bench.cell.contract.noise
    return 1 / (noise.wait_s + noise.read_s), 1 / (2 * noise.read_s)


def in_band(frequency_hz: np.ndarray, density: np.ndarray, start_hz: float, stop_hz: float) -> float:
    """Rms value of a density between two frequencies inside the sweep."""
    inside = (frequency_hz > start_hz) & (frequency_hz < stop_hz)
    edges = [density_at(frequency_hz, density, f) for f in (start_hz, stop_hz)]
    f = np.concatenate([[start_hz], frequency_hz[inside], [stop_hz]])
    return integrated_rms(f, np.concatenate([edges[:1], density[inside], edges[1:]]))


def _plots(bench: CellBench, copy: Copy, plots: Sequence[Plot], level: int) -> tuple[Plot, Plot, Plot]:
    each = len(s.levels(bench.cell))
    k = bench.copies.index(copy) * each + level
    rest = len(bench.copies) * each
    return plots[k], plots[rest + 2 * k], plots[rest + 2 * k + 1]


def _density(plot: Plot) -> np.ndarray:
    return np.real(plot["onoise_spectrum"])


def _missing(bench: CellBench, plot: Plot) -> str:
    """Why the netlist has no noise of its own; empty when it has."""
    if not bench.cell.contract.noise.native:
        return "the contract says that the netlist is noiseless"
    return "" if np.any(_density(plot) > 0) else "no device of the netlist carries noise"
