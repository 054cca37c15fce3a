"""Current-voltage curves of the very synapse cells of a network, measured in ngspice at their own terminals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analog_deq.calibration.measurement import SPICE_OPTIONS
from analog_deq.errors import FitError, OutOfDomainError, SimulationError
from analog_deq.netlists.crossbar import synapse_instance
from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.library import cell_arguments, cell_files, include_lines
from analog_deq.records import Dc, Deck, Progress
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sweeps import Bed

Array = np.ndarray
REACH = 1.5
"""Voltage up to which cells are measured, as a share of ``z_unit_v``: the rows' full scale with room for offsets."""
POINTS = 25
"""Points of a half curve, without the one at 0 V."""
DEGREE = 8
MISFIT = 1e-7
"""Largest distance of a curve's fit from its points, as a share of its largest current."""


@dataclass(frozen=True, slots=True)
class CellCurves:
    """Currents of cells (cells,) against the voltage row to column, a polynomial for either sign of it.

    ``kind`` (cells,) says which of the measured curves a cell has: equal cells share one. ``positive`` and
    ``negative`` (DEGREE + 1, curves) are Chebyshev coefficients over |v| in 0..``reach_v``, in amperes.
    """

    kind: Array
    positive: Array
    negative: Array
    reach_v: float

    def current(self, volts: Array) -> Array:
        """Current (..., cells) in amperes at ``volts`` (..., cells). OutOfDomainError beyond ``reach_v``."""
        largest = float(np.abs(volts).max(initial=0.0))
        if not largest <= self.reach_v:
            raise OutOfDomainError(f"synapse cells at {largest:.3g} V; their curves end at {self.reach_v:.3g} V")
        x = 2 * np.abs(volts) / self.reach_v - 1
        up = volts >= 0
        before = np.zeros_like(x)
        value = np.zeros_like(x)
        for k in range(DEGREE, 0, -1):  # Clenshaw's recurrence
            own = np.where(up, self.positive[k, self.kind], self.negative[k, self.kind])
            before, value = value, 2 * x * value - before + own
        own = np.where(up, self.positive[0, self.kind], self.negative[0, self.kind])
        return np.asarray(x * value - before + own)


def measure_curves(network: LoweredNetwork, bed: Bed, progress: Progress) -> CellCurves:
    """Curves of every cell of a network's array, in the order of :class:`~analog_deq.verify.bent_array.BentArray`.

    Cells with the same conductance and errors are measured once. Raises the SimulationError of a sweep that failed,
    FitError when a curve is no smooth function of the voltage.
    """
    rows = _interleaved(np.stack([network.g_pos, network.g_neg]))
    names = sorted(network.errors)
    every = np.stack([rows, *(_interleaved(network.errors[name]) for name in names)], axis=1)
    distinct, kind = np.unique(every, axis=0, return_inverse=True)
    reach = REACH * network.design.neuron.z_unit_v
    outcome = bed.run([_deck(network, distinct, names, reach)], progress)[0]
    if outcome.run is None:
        raise outcome.error or SimulationError(outcome.status)
    plot = outcome.run.plots[0]
    amps = np.real(plot.columns([f"i(vg{k})" for k in range(len(distinct))]))
    positive, negative = _fit(amps[POINTS:]), _fit(amps[POINTS::-1])
    return CellCurves(np.asarray(kind).reshape(-1), positive, negative, reach)


def _fit(amps: Array) -> Array:
    """Chebyshev coefficients (DEGREE + 1, curves) of half curves (POINTS + 1, curves) from 0 V outward."""
    x = np.linspace(-1, 1, POINTS + 1)
    basis = np.polynomial.chebyshev.chebvander(x, DEGREE)
    found = np.linalg.lstsq(basis, amps, rcond=None)[0]
    misfit = np.abs(basis @ found - amps).max(axis=0) / np.abs(amps).max(axis=0)
    if not misfit.max() <= MISFIT:
        raise FitError(f"a synapse's curve is {misfit.max():.1e} of its current from a polynomial of degree {DEGREE}")
    return np.asarray(found)


def _interleaved(pair: Array) -> Array:
    """(cells,) in the array's order, physical row by row, of values (2, logical rows, N)."""
    return np.asarray(np.swapaxes(pair, 0, 1).reshape(-1))


def _deck(network: LoweredNetwork, distinct: Array, names: list[str], reach_v: float) -> Deck:
    synapse = network.cells.synapse
    lines = [*include_lines([synapse]), "Vread read 0 0"]
    for k, (g, *errors) in enumerate(distinct):
        own = dict(zip(names, map(float, errors), strict=True))
        lines += [synapse_instance(synapse, f"Xg{k}", "read", f"g{k}", float(g), own), f"Vg{k} g{k} 0 0"]
    return build_deck(
        "current of every synapse of one array",
        lines,
        [Dc("Vread", -reach_v, reach_v, reach_v / POINTS)],
        save=[f"i(vg{k})" for k in range(len(distinct))],
        options=SPICE_OPTIONS,
        files=cell_files([synapse]),
        temperature_celsius=network.design.operating.temperature_celsius,
        arguments=cell_arguments([synapse]),
    )
