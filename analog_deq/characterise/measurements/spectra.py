"""Numbers from a noise density: its value at a frequency, the rms value in a band, the 1/f corner.

Noise is taken for a power law between neighbouring frequencies (a straight line in a log-log plot), which is exact for
white and for 1/f noise and needs about 20 points per decade at a pole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar, nnls

from analog_deq.characterise.measurement import CellBench, Quantity, Value, not_modelled, undefined
from analog_deq.characterise.measurements.amplifier import compact
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

WHITE = 1e-2
"""1/f noise below this share of the white floor at the lowest frequency is no 1/f noise."""
EXPONENTS = (0.7, 1.3)
"""Exponents of 1/f noise that device models have."""
MISFIT = 0.1
"""Largest relative rms deviation of the power density from white + 1/f for a corner to be stated."""


def noise_values(
    bench: CellBench,
    frequency_hz: np.ndarray,
    density: np.ndarray,
    at: str = "",
    spots_hz: Sequence[float] = SPOTS_HZ,
) -> list[Value]:
    """Values of ``NOISE_QUANTITIES`` of a density (V/sqrt(Hz)) swept to :func:`noise_stop_hz`.

    Integrated over all of it and, without ``at``, up to the bandwidth, which is that of the bare nominal cell.

    ``not modelled`` when the contract says so (``noise.native = false``), when the density is exactly nothing, and, for
    the integrated noise, when the model has no bandwidth (``bench.bandwidth_hz`` infinite).
    """
    spots = [_join(f"f={compact(f, 'Hz')}", at) for f in spots_hz]
    start = compact(NOISE_START_HZ, "Hz")
    bands = [_join(f"band={start}..{top}", at) for top in (f"{10**DECADES_PAST}*bandwidth", "bandwidth")]
    bands = bands[:1] if at else bands
    reason = "" if bench.cell.contract.noise.native else "the contract says that the netlist is noiseless"
    reason = reason or ("" if np.any(density > 0) else "no device of the netlist carries noise")
    if reason:
        missing = [*((DENSITY.id, spot) for spot in spots), *((NOISE_RMS.id, band) for band in bands), (CORNER.id, at)]
        return [not_modelled(id_, reason, where) for id_, where in missing]
    found = [
        Value(DENSITY.id, density_at(frequency_hz, density, f), spot) for f, spot in zip(spots_hz, spots, strict=True)
    ]
    if math.isinf(bench.bandwidth_hz):
        found += [not_modelled(NOISE_RMS.id, "the model's bandwidth is infinite", band) for band in bands]
    else:
        found.append(Value(NOISE_RMS.id, integrated_rms(frequency_hz, density), bands[0]))
        found += [
            Value(NOISE_RMS.id, integrated_rms(frequency_hz, density, high_hz=bench.bandwidth_hz), band)
            if bench.bandwidth_hz > NOISE_START_HZ
            else undefined(NOISE_RMS.id, f"the bandwidth is below {start}", band)
            for band in bands[1:]
        ]
    return [*found, flicker_corner(frequency_hz, density, min(bench.bandwidth_hz / 10, frequency_hz[-1]), at)]


def noise_stop_hz(bench: CellBench, spots_hz: Sequence[float] = SPOTS_HZ) -> float:
    """End of the band, in whole decades above ``NOISE_START_HZ``: ``DECADES_PAST`` past the bandwidth and the spots."""
    bandwidth = bench.bandwidth_hz if math.isfinite(bench.bandwidth_hz) else 0.0
    reach = max(bandwidth * 10.0**DECADES_PAST, *spots_hz)
    return float(NOISE_START_HZ * 10.0 ** math.ceil(math.log10(reach / NOISE_START_HZ)))


def _join(text: str, at: str) -> str:
    return f"{text} {at}" if at else text


def density_at(frequency_hz: np.ndarray, density: np.ndarray, at_hz: float) -> float:
    """Density at a frequency inside the sweep, by a power law between the neighbouring points."""
    return float(np.exp(np.interp(np.log(at_hz), np.log(frequency_hz), np.log(density))))


def integrated_rms(
    frequency_hz: np.ndarray, density: np.ndarray, low_hz: float | None = None, high_hz: float | None = None
) -> float:
    """Root of the integral of ``density``**2 over the sweep, or over a band inside it: V rms for V/sqrt(Hz).

    >>> round(integrated_rms(np.array([1.0, 10.0, 101.0]), np.array([3.0, 3.0, 3.0])), 9)
    30.0
    """
    f, root = np.asarray(frequency_hz, dtype=float), np.asarray(density, dtype=float)
    low, high = f[0] if low_hz is None else low_hz, f[-1] if high_hz is None else high_hz
    if low > f[0] or high < f[-1]:
        inside = (f > low) & (f < high)
        edges = [density_at(f, root, x) for x in (low, high)]
        f, root = np.array([low, *f[inside], high]), np.array([edges[0], *root[inside], edges[1]])
    width = np.diff(np.log(f))
    # int S df = int (S f) d ln f, and S f is an exponential in ln f: its mean over a step is (b - a) / ln(b / a)
    a, b = (root**2 * f)[:-1], (root**2 * f)[1:]
    positive = (a > 0) & (b > 0) & (np.abs(b - a) > 1e-9 * np.maximum(a, b))
    ratio = np.log(np.divide(b, a, out=np.full_like(a, np.e), where=positive))
    mean = np.where(positive, np.divide(b - a, ratio), (a + b) / 2)
    return float(np.sqrt(np.sum(mean * width)))


def flicker_corner(frequency_hz: np.ndarray, density: np.ndarray, top_hz: float, at: str = "") -> Value:
    """Corner of the fit S = w + k / f^a of the power density below ``top_hz``: where both parts are equal.

    The exponent is fitted too: a device model has its own (BSIM4's EF, 0.86 of a sky130 NMOS), and a circuit the mean
    of its devices'. ``not modelled`` when the noise is white down to the lowest frequency; ``undefined`` when it is no
    such sum (relative rms misfit above ``MISFIT``) or never reaches its floor.
    """
    keep = frequency_hz <= top_hz
    if np.count_nonzero(keep) < NOISE_PER_DECADE:
        return undefined(CORNER.id, "the cell is flat over less than a decade", at)
    f, s = frequency_hz[keep], density[keep] ** 2

    def fit(exponent: float) -> tuple[np.ndarray, float]:
        parts, misfit = nnls(np.column_stack([1 / s, 1 / (f**exponent * s)]), np.ones_like(f))
        return parts, float(misfit)

    exponent = float(minimize_scalar(lambda a: fit(a)[1], bounds=EXPONENTS, method="bounded").x)
    (white, k), misfit = fit(exponent)
    if misfit / np.sqrt(len(f)) > MISFIT:
        return undefined(CORNER.id, "the noise is no sum of white and 1/f noise", at)
    if k <= WHITE * white * f[0] ** exponent:
        return not_modelled(CORNER.id, f"the noise is white down to {engineering(float(f[0]), 'Hz')}", at)
    if white * f[-1] ** exponent <= k:
        return undefined(CORNER.id, f"1/f noise has not reached the white floor at {engineering(top_hz, 'Hz')}", at)
    return Value(CORNER.id, float((k / white) ** (1 / exponent)), at)
