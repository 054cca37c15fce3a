"""Numbers from a noise density: its value at a frequency, the rms value in a band, the 1/f corner.

Noise is a power law between neighbouring frequencies (a straight line in a log-log plot), which is exact for white and
for 1/f noise and needs about 20 points per decade at a pole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from analog_deq.characterise.measurement import CellBench, Quantity, Value, not_modelled, undefined
from analog_deq.units import engineering

NOISE_START_HZ = 1.0
NOISE_PER_DECADE = 20
SPOTS_HZ = (1e3, 1e5)
DECADES_PAST = 3
"""The integrated noise reaches this many decades past the bandwidth: a single pole leaves 0.03 % of its rms there."""

DENSITY = Quantity("noise_density", "V/rtHz", "high", "output noise density")
NOISE_RMS = Quantity("noise_rms", "V", "high", "output noise integrated over the band")
CORNER = Quantity("noise_corner", "Hz", "high", "frequency where 1/f noise equals the white floor")
NOISE_QUANTITIES = (DENSITY, NOISE_RMS, CORNER)

WHITE = 1e-3
"""1/f noise below this share of the white floor at the lowest frequency is no 1/f noise."""
MISFIT = 0.1
"""Largest relative rms deviation of the power density from white + 1/f for a corner to be stated."""


def noise_values(
    bench: CellBench, frequency_hz: np.ndarray, density: np.ndarray, spots_hz: Sequence[float] = SPOTS_HZ
) -> list[Value]:
    """Values of ``NOISE_QUANTITIES`` of a density (V/sqrt(Hz)) swept over the whole band.

    ``not modelled`` when the contract says so (``noise.native = false``) or the density is exactly nothing.
    """
    ats = [*(f"f={engineering(f, 'Hz')}" for f in spots_hz), noise_band(bench), ""]
    ids = [*(DENSITY.id for _ in spots_hz), NOISE_RMS.id, CORNER.id]
    reason = "" if bench.cell.contract.noise.native else "the contract says that the netlist is noiseless"
    reason = reason or ("" if np.any(density > 0) else "no device of the netlist carries noise")
    if reason:
        return [not_modelled(id_, reason, at) for id_, at in zip(ids, ats, strict=True)]
    return [
        *(Value(DENSITY.id, density_at(frequency_hz, density, f), f"f={engineering(f, 'Hz')}") for f in spots_hz),
        Value(NOISE_RMS.id, integrated_rms(frequency_hz, density), noise_band(bench)),
        flicker_corner(frequency_hz, density, bench.bandwidth_hz / 10),
    ]


def noise_stop_hz(bench: CellBench, spots_hz: Sequence[float] = SPOTS_HZ) -> float:
    """End of the band, in whole decades above ``NOISE_START_HZ``: ``DECADES_PAST`` past the bandwidth and the spots."""
    reach = max(bench.bandwidth_hz * 10.0**DECADES_PAST, *spots_hz)
    return float(NOISE_START_HZ * 10.0 ** np.ceil(np.log10(reach / NOISE_START_HZ)))


def noise_band(bench: CellBench) -> str:
    """The band as rows name it: the same text at every corner, though the bandwidth moves."""
    return f"band={engineering(NOISE_START_HZ, 'Hz')}..{DECADES_PAST} decades past the bandwidth"


def density_at(frequency_hz: np.ndarray, density: np.ndarray, at_hz: float) -> float:
    """Density at a frequency inside the sweep, by a power law between the neighbouring points."""
    return float(np.exp(np.interp(np.log(at_hz), np.log(frequency_hz), np.log(density))))


def integrated_rms(frequency_hz: np.ndarray, density: np.ndarray) -> float:
    """Root of the integral of ``density``**2 over the sweep: V rms for V/sqrt(Hz).

    >>> round(integrated_rms(np.array([1.0, 10.0, 101.0]), np.array([3.0, 3.0, 3.0])), 9)
    30.0
    """
    f, s = np.asarray(frequency_hz, dtype=float), np.asarray(density, dtype=float) ** 2
    width = np.diff(np.log(f))
    # int S df = int (S f) d ln f, and S f is an exponential in ln f: its mean over a step is (b - a) / ln(b / a)
    a, b = (s * f)[:-1], (s * f)[1:]
    positive = (a > 0) & (b > 0) & (np.abs(b - a) > 1e-9 * np.maximum(a, b))
    ratio = np.log(np.divide(b, a, out=np.full_like(a, np.e), where=positive))
    mean = np.where(positive, np.divide(b - a, ratio), (a + b) / 2)
    return float(np.sqrt(np.sum(mean * width)))


def flicker_corner(frequency_hz: np.ndarray, density: np.ndarray, top_hz: float, at: str = "") -> Value:
    """Corner k / w of the fit S = w + k / f of the power density below ``top_hz``, where the cell is still flat.

    ``not modelled`` when the noise is white down to the lowest frequency; ``undefined`` when it does not fall as
    1/f (relative rms misfit above ``MISFIT``) or never reaches its floor.
    """
    keep = frequency_hz <= top_hz
    if np.count_nonzero(keep) < NOISE_PER_DECADE:
        return undefined(CORNER.id, "the cell is flat over less than a decade", at)
    f, s = frequency_hz[keep], density[keep] ** 2
    (white, k), misfit = nnls(np.column_stack([1 / s, 1 / (f * s)]), np.ones_like(f))
    if misfit / np.sqrt(len(f)) > MISFIT:
        return undefined(CORNER.id, "the noise is no sum of white and 1/f noise", at)
    if k <= WHITE * white * f[0]:
        return not_modelled(CORNER.id, f"the noise is white down to {engineering(float(f[0]), 'Hz')}", at)
    if white * f[-1] <= k:
        return undefined(CORNER.id, f"1/f noise has not reached the white floor at {engineering(top_hz, 'Hz')}", at)
    return Value(CORNER.id, float(k / white), at)
