"""Calibrate, fit, train, and all four in a row. Each stage's folder is named by the hash of its inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path

import torch

from analog_deq.calibration.campaign import run_campaign
from analog_deq.calibration.measurement import Bench
from analog_deq.errors import SchemaError, SpecError
from analog_deq.fit.fit import fit_proxy
from analog_deq.fit.parameters import read_proxy, write_proxy
from analog_deq.netlists.device import device_statistics
from analog_deq.pipeline import families
from analog_deq.pipeline.family_files import FamilyInputs, family_inputs
from analog_deq.pipeline.inputs import (
    Inputs,
    StageResult,
    build_or_reuse,
    certificate_sentence,
    copy_out,
    find_limits,
    load_inputs,
    matching_proxy,
    method_line,
    require_hardware,
    train_sha256,
)
from analog_deq.pipeline.signoff import verify_inputs
from analog_deq.provenance import Provenance, file_sha256, package_sha256, package_version
from analog_deq.records import Progress
from analog_deq.resources import shipped
from analog_deq.runs import hash_inputs, open_stage
from analog_deq.spice.process import Limits, limits_of
from analog_deq.spice.simulator import find_simulator
from analog_deq.tables import COLUMNS, PROXY_TABLES, SCHEMA, CalibrationTable, read_table, write_table
from analog_deq.train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from analog_deq.train.stage import OURS, train_stage
from analog_deq.verify.limits import read_limits
from analog_deq.verify.sweeps import Bed

TIMEOUT_S = 300.0
NO_CELLS: Mapping[str, str] = {}


def calibrate(
    source: Path,
    *,
    runs: Path,
    out: Path | None = None,
    jobs: int | None = None,
    cells: Mapping[str, str] = NO_CELLS,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int | None = None,
    executor: Executor | None = None,
    progress: Progress,
) -> StageResult:
    """Tables of a design (or of a plan's design), measured in ngspice. SimulatorNotFoundError without one."""
    if family := _family(source, cells):
        bed = Bed(find_simulator(), runs, jobs, timeout_s, limits_of(memory_bytes), executor)
        return families.calibrate(family, bed, out, progress)
    inputs = load_inputs(source, cells)
    return _calibrate(inputs, runs, out, jobs, timeout_s, limits_of(memory_bytes), executor, progress)


def _calibrate(
    inputs: Inputs,
    runs: Path,
    out: Path | None,
    jobs: int | None,
    timeout_s: float,
    limits: Limits,
    executor: Executor | None,
    progress: Progress,
) -> StageResult:
    simulator = find_simulator()
    key = {
        "hardware": inputs.hardware_sha256(), "plan": inputs.plan.model_dump(mode="json", exclude={"tolerances"}),
        "seed": inputs.design.seed, "package": package_sha256(), "ngspice": simulator.version,
        "solver": simulator.solver,
    }  # fmt: skip
    folder = open_stage(runs, "calibrate", key)

    def make(work: Path) -> None:
        bench = Bench(inputs.design, inputs.plan, inputs.cells)
        result = run_campaign(
            bench, simulator=simulator, root=runs, jobs=jobs, timeout_s=timeout_s, limits=limits, progress=progress,
            executor=executor,
        )  # fmt: skip
        hashes = {"hardware": inputs.hardware_sha256(), "plan": hash_inputs(inputs.plan.model_dump(mode="json"))}
        hashes |= {f"cell.{role}": digest for role, digest in inputs.cell_hashes().items()}
        for name, rows in result.tables.items():
            provenance = Provenance(
                schema_name=SCHEMA, schema_version=1, ngspice_version=simulator.version, solver=simulator.solver,
                inputs=hashes, seed=inputs.design.seed, units=COLUMNS[name],
            )  # fmt: skip
            write_table(CalibrationTable(name, rows, provenance), work / f"{name}.parquet")
        summary = {
            "samples": result.samples, "failed": result.failed, "ngspice_runs": result.runs,
            "runs_from_cache": result.reused, "rows": sum(len(t) for t in result.tables.values()),
        }  # fmt: skip
        (work / "summary.json").write_text(json.dumps(summary) + "\n")

    reused, seconds = build_or_reuse(folder, make, progress, "calibrate")
    summary = json.loads((folder.path / "summary.json").read_text())
    return StageResult("calibrate", {"tables": copy_out(folder.path, out)}, summary, reused, seconds)


def fit(tables: Path | None, *, design: Path, runs: Path, out: Path | None = None, progress: Progress) -> StageResult:
    """``proxy.json`` of a folder of tables, or of the reference tables shipped for the design."""
    if family := _family(design, NO_CELLS):
        if tables is None:
            raise SchemaError(f"{design}: no reference tables are shipped for a mapping; run `analog-deq calibrate`")
        return families.fit(family, tables, runs, out, progress)
    inputs = load_inputs(design, NO_CELLS)
    if tables is None:
        tables = shipped("calibration/reference") / inputs.design.name
        if not tables.is_dir():
            raise SchemaError(
                f"no reference tables are shipped for design {inputs.design.name!r}; run `analog-deq calibrate` and "
                "give its folder"
            )
    return _fit(inputs, tables, runs, out, progress)


def _fit(inputs: Inputs, tables: Path, runs: Path, out: Path | None, progress: Progress) -> StageResult:
    loaded = {name: read_table(tables / f"{name}.parquet") for name in PROXY_TABLES}
    for name, table in loaded.items():
        require_hardware(table.provenance.inputs.get("hardware"), inputs, tables / f"{name}.parquet")
    hashes = {name: file_sha256(tables / f"{name}.parquet") for name in PROXY_TABLES}
    tolerances = inputs.plan.tolerances
    key = {"tables": hashes, "tolerances": tolerances.model_dump(mode="json"), "package": package_sha256()}
    folder = open_stage(runs, "fit", key)

    def make(work: Path) -> None:
        known = {**hashes, "hardware": inputs.hardware_sha256()}
        proxy = fit_proxy(
            loaded, inputs.design, tolerances, inputs.cell_hashes(), known,
            not_modelled=inputs.cells.not_modelled, relative_spread=inputs.cells.relative_spread,
        )  # fmt: skip
        if inputs.cells.synapse.contract.device is not None:
            proxy = proxy.model_copy(update={"device": device_statistics(inputs.cells.synapse)})
        write_proxy(proxy, work / "proxy.json")

    reused, seconds = build_or_reuse(folder, make, progress, "fit")
    path = folder.path / "proxy.json"
    proxy = read_proxy(path)
    goodness = proxy.forms()
    summary: dict[str, object] = {
        f"{name}, held out": f"{g.held_out:.3g} (tolerance {g.tolerance:.3g}) {g.unit}, n = {g.n_held_out}"
        for name, g in goodness.items()
    }
    summary |= {f"{name}, not modelled": reason for name, reason in proxy.not_modelled.items()}
    return StageResult("fit", {"proxy": copy_out(path, out)}, summary, reused, seconds)


def train(
    design: Path, *, proxy: Path, runs: Path, out: Path | None = None, baselines: bool = True, progress: Progress
) -> StageResult:
    """``net.safetensors`` of a design trained through its proxy. Needs no simulator."""
    if family := _family(design, NO_CELLS):
        return families.train(family, proxy, runs, out, baselines, progress)
    return _train(load_inputs(design, NO_CELLS), proxy, runs, out, baselines, progress)


def _train(
    inputs: Inputs, proxy_path: Path, runs: Path, out: Path | None, baselines: bool, progress: Progress
) -> StageResult:
    proxy, proxy_sha = matching_proxy(proxy_path, inputs), file_sha256(proxy_path)
    task = inputs.task()
    key = {"train": train_sha256(inputs), "proxy": proxy_sha, "baselines": baselines, "package": package_sha256()}
    folder = open_stage(runs, "train", key)

    def make(work: Path) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # matrices of tens of rows: more threads only wait for each other
        try:
            trained = train_stage(inputs.design, proxy, task, baselines=baselines, progress=progress)
        finally:
            torch.set_num_threads(threads)
        checkpoint = Checkpoint(
            trained.g_pos.numpy(), trained.g_neg.numpy(), trained.readout.weight.numpy(), trained.readout.bias.numpy(),
            trained.certificate, train_sha256(inputs), proxy_sha, inputs.design.seed, trained.scores,
            {"package": package_version(), "torch": torch.__version__},
            None if trained.r_feedback_share is None else trained.r_feedback_share.numpy(),
            None if trained.analogue is None else trained.analogue.numpy(),
        )  # fmt: skip
        write_checkpoint(checkpoint, work / "net.safetensors")

    reused, seconds = build_or_reuse(folder, make, progress, "train")
    path = folder.path / "net.safetensors"
    checkpoint = read_checkpoint(path)
    summary: dict[str, object] = dict(method_line(task, name, score) for name, score in checkpoint.scores.items())
    summary["certificate"] = certificate_sentence(inputs.design, checkpoint.certificate)
    assert OURS in checkpoint.scores
    return StageResult("train", {"checkpoint": copy_out(path, out)}, summary, reused, seconds)


def run(
    design: Path,
    *,
    limits: Path | None,
    runs: Path,
    jobs: int | None = None,
    cells: Mapping[str, str] = NO_CELLS,
    flat: bool = False,
    dies: int | None = None,
    memory_bytes: int | None = None,
    executor: Executor | None = None,
    progress: Progress,
) -> list[StageResult]:
    """All four stages; each is reused when a finished one of the same inputs is in ``runs``."""
    if family := _family(design, cells):
        bed = Bed(find_simulator(), runs, jobs, TIMEOUT_S, limits_of(memory_bytes), executor)
        return families.run(family, limits, bed, flat, dies, progress)
    inputs = load_inputs(design, cells)
    # what the later stages would refuse is refused now, before minutes of simulation and before anything is written
    inputs.task()
    read_limits(limits or find_limits(inputs))
    process_limits = limits_of(memory_bytes)
    results = [_calibrate(inputs, runs, None, jobs, TIMEOUT_S, process_limits, executor, progress)]
    results.append(_fit(inputs, results[-1].outputs["tables"], runs, None, progress))
    proxy = results[-1].outputs["proxy"]
    results.append(_train(inputs, proxy, runs, None, True, progress))
    checkpoint = results[-1].outputs["checkpoint"]
    results.append(
        verify_inputs(
            inputs, checkpoint, proxy, limits, runs, None, jobs, flat, dies, TIMEOUT_S, process_limits, executor,
            progress, tables=results[0].outputs["tables"],
        )
    )  # fmt: skip
    return results


def _family(source: Path, cells: Mapping[str, str]) -> FamilyInputs | None:
    """The family of a design whose mapping is one of its own; it takes no --cell (SpecError)."""
    found = family_inputs(source)
    if found is not None and cells:
        raise SpecError(
            f"--cell {', '.join(f'{k}={v}' for k, v in cells.items())}: the mapping {found.design.mapping!r} names its "
            "cells in the design's [family]; change them there"
        )
    return found
