"""Waveforms of a sign-off for other tools: Berkeley raw files, which ngspice and its viewers load, and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analog_deq.records import OK, PLOT_NAMES, Dc, Noise, Plot, Tran
from analog_deq.spec import DesignSpec
from analog_deq.spice.rawfile import raw_bytes
from analog_deq.verify.dynamics import NoiseResult, Settling
from analog_deq.verify.sweeps import SweepResult

Array = np.ndarray
FOLDER = "waves"
DIGITS = 9


@dataclass(frozen=True, slots=True)
class Wave:
    """One file of waveforms: its name, what it shows, and the plot, in SI units."""

    name: str
    what: str
    plot: Plot


def waves_of(
    transients: Sequence[Settling], noise: Sequence[NoiseResult], equilibria: SweepResult, design: DesignSpec
) -> tuple[Wave, ...]:
    """The typical and the slowest transient, the loudest noise spectrum, and the equilibria over the image index.

    ``v(zK)`` is the differential row voltage of neuron K, ``v(proxyK)`` what the proxy predicts for it. What failed is
    left out; nothing valid gives no file.
    """
    unit = 2 * design.neuron.z_unit_v
    found = []
    settled = sorted((t for t in transients if t.status == OK and t.trace is not None), key=lambda t: t.t_spice_s)
    if settled:
        typical, worst = settled[(len(settled) - 1) // 2], settled[-1]
        found.append(_settling("settling_typical", "median settling time", typical, unit))
        found.append(_settling("settling_worst", "longest settling time", worst, unit))
    spectra = [r for r in noise if r.status == OK]
    if spectra:
        loudest = max(spectra, key=lambda r: float(r.rms_spice.max()))
        names = tuple(f"onoise(z{k})" for k in loudest.nodes)
        data = np.column_stack([loudest.frequency_hz, loudest.density * unit])
        what = f"output noise density (V/rtHz) of some rows at test image {loudest.image}"
        found.append(Wave("noise", what, Plot(PLOT_NAMES[Noise], ("frequency", *names), data)))
    if equilibria.ok.any():
        images = np.flatnonzero(equilibria.ok)
        names = tuple(f"v(z{k})" for k in range(equilibria.states.z.shape[1]))
        data = np.column_stack([images, equilibria.states.z[images] * unit])
        what = "equilibria of the test images that settled, nominal circuit"
        found.append(Wave("equilibria", what, Plot(PLOT_NAMES[Dc], ("image", *names), data)))
    return tuple(found)


def file_names(waves: Sequence[Wave]) -> list[str]:
    """The raw files that :func:`write_waves` writes, relative to its folder; each has a CSV of the same name."""
    return [f"{FOLDER}/{wave.name}.raw" for wave in waves]


def write_waves(waves: Sequence[Wave], folder: Path) -> list[Path]:
    """Paths of the files written: ``folder/waves/NAME.raw`` and ``NAME.csv`` of each wave; nothing for none."""
    written = []
    for wave, name in zip(waves, file_names(waves), strict=True):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(raw_bytes([wave.plot], title=f"analog-deq: {wave.what}"))
        frame = pd.DataFrame(wave.plot.data, columns=list(wave.plot.variables))
        frame.to_csv(place.with_suffix(".csv"), index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")
        written += [place, place.with_suffix(".csv")]
    return written


def _settling(name: str, which: str, settling: Settling, unit: float) -> Wave:
    assert settling.trace is not None, "waves_of keeps those with a trace"
    t, z, proxy = settling.trace
    nodes = range(z.shape[1])
    variables = ("time", *(f"v(z{k})" for k in nodes), *(f"v(proxy{k})" for k in nodes))
    what = f"settling of test image {settling.image} from rest, {which}"
    return Wave(name, what, Plot(PLOT_NAMES[Tran], variables, np.column_stack([t, z * unit, proxy * unit])))
