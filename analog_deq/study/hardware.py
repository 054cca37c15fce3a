"""The circuit of a point: cells with fixed parameters or another spread, measured and fitted like any other."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from analog_deq.calibration.campaign import run_campaign
from analog_deq.calibration.measurement import Bench
from analog_deq.fit.fit import fit_proxy
from analog_deq.fit.parameters import ProxyParameters, read_proxy, write_proxy
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.contract_schema import ProcessCorner
from analog_deq.netlists.neuron import NeuronCells, load_cells
from analog_deq.provenance import Provenance, package_sha256
from analog_deq.records import Progress
from analog_deq.resources import shipped
from analog_deq.runs import hash_inputs, open_stage
from analog_deq.spec import CalibrationPlan, DesignSpec, read_design, read_plan
from analog_deq.study.plan import Point, design_of
from analog_deq.tables import COLUMNS, SCHEMA, CalibrationTable
from analog_deq.verify.sweeps import Bed

CORNER = "study"


@dataclass(frozen=True, slots=True)
class Hardware:
    """A point's design (of one seed), its cells, the plan they are measured by, and their fitted proxy."""

    design: DesignSpec
    cells: NeuronCells
    plan: CalibrationPlan
    proxy: ProxyParameters


def vary(cell: Cell, params: dict[str, float], sigmas: dict[str, float]) -> Cell:
    """``cell`` with ``params`` fixed in every instance and ``sigmas`` as its standard deviations.

    Nothing is drawn of a parameter that is fixed. The hash is a new one: it is other hardware.

    Example:
        >>> from analog_deq.netlists.library import load_cell
        >>> vary(load_cell("opamp_macro"), {"a0": 400.0}, {}).corner.params
        {'a0': 400.0}
    """
    if not params and not sigmas:
        return cell
    contract = cell.contract
    drawn = {
        name: spread.model_copy(update={"sigma": sigmas[name]}) if name in sigmas else spread
        for name, spread in contract.mismatch.params.items()
        if name not in params
    }
    update = {
        "corners": {CORNER: ProcessCorner(params=params)},
        "mismatch": contract.mismatch.model_copy(update={"params": drawn}),
    }
    text = json.dumps([cell.sha256, params, sigmas], sort_keys=True)
    changed = replace(
        cell, contract=contract.model_copy(update=update), sha256=hashlib.sha256(text.encode()).hexdigest()
    )
    return changed.at(CORNER)


def cells_of(design: DesignSpec, point: Point) -> NeuronCells:
    """The design's cells as the point wants them."""
    loaded = load_cells(design.cells)
    return replace(
        loaded,
        **{
            slot: vary(cell, dict(point.params.get(slot, {})), dict(point.sigmas.get(slot, {})))
            for slot, cell in loaded.named.items()
        },
    )


def hardware_of(task: str, point: Point, seed: int, bed: Bed, progress: Progress) -> Hardware:
    """The hardware of a task at a point, calibrated in ngspice and fitted; reused when that was done before.

    Calibration does not depend on ``seed``: all seeds of a point share one proxy.
    """
    base = read_design(shipped("data/designs") / f"{task}.toml")
    plan = read_plan(shipped("calibration/plans") / f"{base.plan}.toml")
    measured = design_of(base, point, seed=0)
    cells = cells_of(measured, point)
    return Hardware(design_of(base, point, seed), cells, plan, _proxy(measured, cells, plan, bed, progress))


def _proxy(
    design: DesignSpec, cells: NeuronCells, plan: CalibrationPlan, bed: Bed, progress: Progress
) -> ProxyParameters:
    hashes = {slot: cell.sha256 for slot, cell in cells.named.items()}
    hardware = {key: value for key, value in design.hardware().items() if key != "cells"}
    key = {
        "hardware": hardware, "cells": hashes, "plan": plan.model_dump(mode="json"), "seed": design.seed,
        "package": package_sha256(),
        "ngspice": bed.simulator.version, "solver": bed.simulator.solver,
    }  # fmt: skip
    folder = open_stage(bed.root, "study_proxy", key)
    if not folder.finished:
        with folder.build() as work:
            _calibrate(design, cells, plan, bed, work / "proxy.json", hash_inputs(key), hashes, progress)
    return read_proxy(folder.path / "proxy.json")


def _calibrate(
    design: DesignSpec, cells: NeuronCells, plan: CalibrationPlan, bed: Bed, path: Path, hardware: str,
    hashes: dict[str, str], progress: Progress,
) -> None:  # fmt: skip
    result = run_campaign(
        Bench(design, plan, cells), simulator=bed.simulator, root=bed.root, jobs=bed.jobs, timeout_s=bed.timeout_s,
        limits=bed.limits, progress=progress, executor=bed.executor,
    )  # fmt: skip
    inputs = {"hardware": hardware, "package": package_sha256()}
    tables = {
        name: CalibrationTable(
            name, rows,
            Provenance(
                schema_name=SCHEMA, schema_version=1, ngspice_version=bed.simulator.version,
                solver=bed.simulator.solver, inputs=inputs, seed=design.seed, units=COLUMNS[name],
            ),
        )
        for name, rows in result.tables.items()
    }  # fmt: skip
    proxy = fit_proxy(
        tables, design, plan.tolerances, hashes, inputs, not_modelled=cells.not_modelled,
        relative_spread=cells.relative_spread,
    )  # fmt: skip
    write_proxy(proxy, path)
