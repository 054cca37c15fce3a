"""The whole network at corners: process of each cell, temperature, both supply rails.

A corner of the network is one that every cell's contract allows: temperatures and rails reach as far as the narrowest
of them, and a process that a cell does not have leaves that cell typical. The proxy stays what it was trained on, the
typical circuit; here ngspice says what the others do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from analog_deq.calibration.measurement import Bench
from analog_deq.calibration.mismatch import READ_V
from analog_deq.calibration.transfer import Transfer
from analog_deq.characterise.corners import Corner, select_from
from analog_deq.errors import FitError
from analog_deq.fit.parameters import Table
from analog_deq.fit.static import fit_activation, fit_driver
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.neuron import NeuronCells
from analog_deq.records import OK, Progress
from analog_deq.spec import CalibrationPlan, DesignSpec, Operating
from analog_deq.verify.dies import reading_deck
from analog_deq.verify.limits import Campaign
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sweeps import Bed

Array = np.ndarray
SAME = 1e-12
"""Relative difference of conductances that reading them back leaves."""


def typical_corner(design: DesignSpec, cells: NeuronCells) -> Corner:
    """The design's operating point with every cell typical.

    >>> from analog_deq.netlists.neuron import load_cells
    >>> from analog_deq.resources import shipped
    >>> from analog_deq.spec import read_design
    >>> design = read_design(shipped("data/designs") / "digits.toml")
    >>> typical_corner(design, load_cells(design.cells)).name
    'tt_27C_1p8V'
    """
    point = design.operating
    return Corner(_processes(cells)[0], point.temperature_celsius, point.vdd_v, point.vss_v)


def full_grid(design: DesignSpec, cells: NeuronCells) -> list[Corner]:
    """Every process x temperature x supply that all the cells' contracts allow, the typical corner first."""
    point = design.operating
    temperatures = _reach(cells, "temp", point.temperature_celsius)
    (_, low_vdd, high_vdd), (_, low_vss, high_vss) = (
        _ends(cells, name, typical) for name, typical in (("vdd", point.vdd_v), ("vss", point.vss_v))
    )
    # the smallest total supply has the lowest vdd and the highest vss
    rails = [(point.vdd_v, point.vss_v), (low_vdd, high_vss), (high_vdd, low_vss)]
    supplies = [pair for pair in dict.fromkeys(rails) if pair[0] > 0 > pair[1]]
    return [Corner(p, t, *pair) for p, t, pair in product(_processes(cells), temperatures, supplies)]


def network_corners(design: DesignSpec, cells: NeuronCells, campaign: Campaign) -> list[Corner]:
    """The corners that a sheet asks for in ``[campaign] corners``, the typical one first whether named or not.

    SpecError lists the known names.
    """
    choice = campaign.corners if isinstance(campaign.corners, str) else ", ".join(campaign.corners)
    grid = full_grid(design, cells)
    chosen = select_from(grid, choice, where="[campaign] corners =")
    return [grid[0], *(corner for corner in chosen if corner != grid[0])]


def corner_named(design: DesignSpec, cells: NeuronCells, name: str) -> Corner:
    """The corner of the full grid that has a name. SpecError lists the known ones."""
    return select_from(full_grid(design, cells), name, where="corner")[0]


def cell_at(cell: Cell, corner: Corner) -> Cell:
    """A cell at the process of a corner; as it is where its contract does not have that process."""
    return cell.at(corner.process) if corner.process in cell.processes else cell


def cell_corner(cell: Cell, corner: Corner) -> Corner:
    """The corner of the cell alone that a corner of the network puts it at: its own process, no rails it lacks."""
    process = corner.process if corner.process in cell.processes else cell.processes[0]
    supplied = "vdd" in cell.contract.conditions
    rails = (corner.vdd_v, corner.vss_v) if supplied else (0.0, 0.0)
    return Corner(process, corner.temperature_celsius, *rails)


def design_at(design: DesignSpec, corner: Corner) -> DesignSpec:
    """The design at the operating point of a corner."""
    point = Operating(vdd_v=corner.vdd_v, vss_v=corner.vss_v, temperature_celsius=corner.temperature_celsius)
    return design.model_copy(update={"operating": point})


def cells_at(cells: NeuronCells, corner: Corner) -> NeuronCells:
    """All cells at the process of a corner."""
    return replace(cells, **{slot: cell_at(cell, corner) for slot, cell in cells.named.items()})


@dataclass(frozen=True, slots=True)
class CornerNetwork:
    """The nominal network at a corner; ``network`` is None when a cell could not be measured there, ``status`` why.

    ``activation`` is the neuron's curve z(h) there, None at the typical corner, where it is the proxy's.
    """

    corner: Corner
    network: LoweredNetwork | None
    status: str = OK
    activation: Table | None = None


def at_corner(network: LoweredNetwork, corner: Corner) -> LoweredNetwork:
    """The network's circuit at a corner, its reduced form still that of the typical one (:func:`networks_at`)."""
    return replace(network, design=design_at(network.design, corner), cells=cells_at(network.cells, corner))


def networks_at(
    network: LoweredNetwork, corners: Sequence[Corner], plan: CalibrationPlan, bed: Bed, progress: Progress
) -> list[CornerNetwork]:
    """The nominal network at each corner, ready for reduced decks.

    What the reduction is made of is measured anew in ngspice: the conductances its synapses show, and the output
    resistance of the driver. The typical corner is the network itself.
    """
    typical = typical_corner(network.design, network.cells)
    moved = {corner.name: at_corner(network, corner) for corner in corners if corner != typical}
    programmed = np.unique(np.stack([network.g_pos, network.g_neg]))
    cells: list[tuple[float, dict[str, float]]] = [(float(g), {}) for g in programmed]
    decks = [reading_deck("the network's synapses at a corner", cells, own) for own in moved.values()]
    outcomes = bed.run(decks, progress) if decks else []
    curves, lost = _neurons(moved, plan, bed, progress)
    ready: dict[str, LoweredNetwork] = {}
    for (name, own), outcome in zip(moved.items(), outcomes, strict=True):
        if outcome.run is None:
            lost[name] = f"conductances not read: {outcome.status}"
        elif name not in lost:
            plot = outcome.run.plots[0]
            shown = -np.real(plot.columns([f"i(vg{k})" for k in range(len(cells))]))[0] / READ_V
            seen = np.stack([shown[np.searchsorted(programmed, g)] for g in (network.g_pos, network.g_neg)])
            ready[name] = _with_array(own, network, seen, curves[name][0])
    found = []
    for corner in corners:
        here = network if corner == typical else ready.get(corner.name)
        activation = curves[corner.name][1] if corner.name in ready else None
        found.append(CornerNetwork(corner, here, lost.get(corner.name, OK), activation))
    return found


def _with_array(moved: LoweredNetwork, typical: LoweredNetwork, seen: Array, r_out_ohm: float) -> LoweredNetwork:
    """``moved`` with the conductances it shows; those of the typical network where they are the same but for rounding.

    Their reduction is then the same, too.
    """
    shown = np.stack([typical.g_pos, typical.g_neg]) if typical.seen is None else typical.seen
    if np.allclose(seen, shown, rtol=SAME, atol=0.0):
        return replace(moved, r_out_ohm=r_out_ohm)
    other = replace(moved, r_out_ohm=r_out_ohm, seen=seen)
    return replace(other, reduced=other.reduce())


def _neurons(
    networks: Mapping[str, LoweredNetwork], plan: CalibrationPlan, bed: Bed, progress: Progress
) -> tuple[dict[str, tuple[float, Table]], dict[str, str]]:
    """Output resistance of the driver and curve of the neuron at each corner, as the fit finds them; what went wrong.

    Under the plan's middle load at the summing node, and all its loads of the driver.
    """
    transfer, values, lost = Transfer(), {}, {}
    loads, tolerance = plan.transfer.loads_siemens, plan.tolerances.transfer_fs
    benches = {name: Bench(own.design, plan, own.cells) for name, own in networks.items()}
    blocks = {name: [s for s in transfer.samples(b) if s[0] == loads[len(loads) // 2]] for name, b in benches.items()}
    decks = [transfer.decks(bench, blocks[name])[0] for name, bench in benches.items()]
    outcomes = bed.run(decks, progress) if decks else []
    for (name, bench), outcome in zip(benches.items(), outcomes, strict=True):
        if outcome.run is None:
            lost[name] = f"neuron not measured: {outcome.status}"
            continue
        rows, neuron = transfer.tabulate(bench, blocks[name], [outcome.run.plots])["transfer"], bench.design.neuron
        try:
            driver = fit_driver(rows, neuron.z_unit_v, tolerance)
            values[name] = (
                driver.values["r_out_ohm"], fit_activation(rows, neuron.v_unit_v, neuron.z_unit_v, tolerance),
            )  # fmt: skip
        except FitError as error:
            lost[name] = f"neuron not measured: {error}"
    return values, lost


def _processes(cells: NeuronCells) -> tuple[str, ...]:
    """Names of all process corners of all cells, the typical one first."""
    every = list(dict.fromkeys(name for cell in cells.named.values() for name in cell.processes))
    typical = "tt" if "tt" in every else every[0]
    return (typical, *(name for name in every if name != typical))


def _ends(cells: NeuronCells, name: str, typical: float) -> tuple[float, float, float]:
    """(typical, lowest, highest) value of a condition that every cell which states it allows."""
    stated = [cell.contract.conditions[name] for cell in cells.named.values() if name in cell.contract.conditions]
    low = max((c.min for c in stated if c.min is not None), default=typical)
    high = min((c.max for c in stated if c.max is not None), default=typical)
    return typical, min(low, typical), max(high, typical)


def _reach(cells: NeuronCells, name: str, typical: float) -> list[float]:
    return list(dict.fromkeys(_ends(cells, name, typical)))


def worst_of(by_corner: Mapping[str, float | None], worse: str) -> tuple[str, float | None]:
    """(corner, value) at the bad end: the ``low``, the ``high`` or the one of largest ``magnitude``."""
    valid = {name: value for name, value in by_corner.items() if value is not None and np.isfinite(value)}
    if not valid:
        return "", None
    sign = {"low": lambda v: -v, "high": lambda v: v, "magnitude": abs}[worse]
    name = max(valid, key=lambda key: sign(valid[key]))
    return name, valid[name]
