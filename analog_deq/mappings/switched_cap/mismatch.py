"""Mismatch draws: cells by their contracts, capacitors by their area, feedthrough by a relative spread."""

from __future__ import annotations

from typing import Any

import numpy as np

from analog_deq.draws import Stream, deviations, generator
from analog_deq.mappings.switched_cap.netlist import SWITCHES, Bench, Deviations
from analog_deq.mappings.switched_cap.spec import Settings


def draw_deviations(bench: Bench, seed: int, stream: Stream, die: int, neurons: int) -> tuple[Deviations, ...]:
    """Mismatch of each of the ``neurons`` neurons of a die."""
    sigmas = {
        f"{slot}.{name}": sigma
        for slot, cell in bench.cells.named.items()
        for name, sigma in cell.mismatch_sigmas.items()
    }
    part, spread = bench.settings.capacitors, bench.settings.switches.sigma_feedthrough
    sigmas["feedback"] = capacitor_sigma(bench.settings, part.feedback_f)
    sigmas |= {f"feedthrough.{name}": spread for name in SWITCHES}
    drawn = deviations(generator(seed, stream, die), sigmas, neurons)
    found = []
    for i in range(neurons):
        one = {key: float(values[i]) for key, values in drawn.items()}
        skew = {k.partition(".")[2]: max(v, -1.0) for k, v in one.items() if k.startswith("feedthrough.")}
        cells = {k: v for k, v in one.items() if "." in k and not k.startswith("feedthrough.")}
        found.append(Deviations(cells, one["feedback"], skew))
    return tuple(found)


def capacitor_sigma(settings: Settings, farad: np.ndarray | float) -> Any:
    """Relative standard deviation of a capacitor by its area, ``matching / sqrt(C / density)``; 0 for none."""
    part = settings.capacitors
    area = np.asarray(farad, float) / part.density_f_per_um2
    sigma = np.where(area > 0, part.matching_um / np.sqrt(np.where(area > 0, area, 1.0)), 0.0)
    return float(sigma) if sigma.ndim == 0 else sigma
