"""The verify stage: simulate the trained network, judge it by limits, write the report and replayable decks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import replace
from datetime import date
from pathlib import Path

from analog_deq.errors import SpecError
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.pipeline import families
from analog_deq.pipeline.family_files import family_inputs
from analog_deq.pipeline.inputs import (
    Inputs,
    StageResult,
    build_or_reuse,
    certificate_sentence,
    copy_out,
    find_limits,
    load_inputs,
    matching_checkpoint,
    matching_proxy,
)
from analog_deq.pipeline.kept import keep_inputs
from analog_deq.provenance import file_sha256, package_sha256, package_version
from analog_deq.records import Progress
from analog_deq.runs import open_stage
from analog_deq.spice.process import Limits, limits_of
from analog_deq.spice.simulator import find_simulator
from analog_deq.tables import CalibrationTable, read_table
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.verify.attach import attach_decks, failure_decks
from analog_deq.verify.campaign import VerifyResult, verify_network
from analog_deq.verify.illustrate import figures
from analog_deq.verify.limits import read_limits
from analog_deq.verify.outputs import write_outputs
from analog_deq.verify.replay import Replay, write_trims
from analog_deq.verify.report.schematics import schematics
from analog_deq.verify.samples import failed_samples
from analog_deq.verify.signoff import judge
from analog_deq.verify.sweeps import Bed
from analog_deq.verify.verdict import VerifyReport
from analog_deq.verify.waves import waves_of

TIMEOUT_S = 300.0


def verify(
    checkpoint: Path,
    *,
    design: Path,
    proxy: Path,
    limits: Path | None,
    runs: Path,
    out: Path | None = None,
    jobs: int | None = None,
    cells: Mapping[str, str] | None = None,
    flat: bool = False,
    dies: int | None = None,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int | None = None,
    executor: Executor | None = None,
    progress: Progress,
) -> StageResult:
    """Report and verdict of a checkpoint. Limits default to the shipped ones; the exit code is the verdict's."""
    if (family := family_inputs(design)) is not None:
        if cells:
            raise SpecError(f"--cell: the mapping {family.design.mapping!r} names its cells in the design's [family]")
        bed = Bed(find_simulator(), runs, jobs, timeout_s, limits_of(memory_bytes), executor)
        return families.verify(family, checkpoint, proxy, limits, bed, out, flat, dies, progress)
    inputs = load_inputs(design, cells or {})
    return verify_inputs(
        inputs, checkpoint, proxy, limits, runs, out, jobs, flat, dies, timeout_s, limits_of(memory_bytes), executor,
        progress,
    )  # fmt: skip


def verify_inputs(
    inputs: Inputs,
    checkpoint_path: Path,
    proxy_path: Path,
    limits_path: Path | None,
    runs: Path,
    out: Path | None,
    jobs: int | None,
    flat: bool,
    dies: int | None,
    timeout_s: float,
    process_limits: Limits,
    executor: Executor | None,
    progress: Progress,
    tables: Path | None = None,
) -> StageResult:
    """:func:`verify` of loaded inputs; ``tables`` adds the transfer curve to the report."""
    if dies is not None:
        verify_spec = inputs.design.verify.model_copy(update={"dies": dies})
        inputs = replace(inputs, design=inputs.design.model_copy(update={"verify": verify_spec}))
    proxy = matching_proxy(proxy_path, inputs)
    checkpoint = matching_checkpoint(checkpoint_path, inputs, proxy_path)
    task = inputs.task()
    limits_path = limits_path or find_limits(inputs)
    limits, today = read_limits(limits_path), date.today()
    simulator = find_simulator()
    bends = not proxy.synapse.linear
    if bends and not flat:
        progress.note(
            f"the synapse bends by {100 * proxy.synapse.bend:.2g} %: equilibria on the reduced deck, cells as "
            "their own currents, pass by pass; transients and noise on the flat deck (slow)"
        )
    key = {
        "design": inputs.design.model_dump(mode="json", exclude={"cells"}), "hardware": inputs.hardware_sha256(),
        "checkpoint": file_sha256(checkpoint_path), "proxy": checkpoint.proxy_sha256,
        "limits": file_sha256(limits_path), "plan": inputs.plan.model_dump(mode="json"),
        "flat": flat, "ngspice": simulator.version, "solver": simulator.solver, "package": package_sha256(),
        "expired_waivers": limits.expired(today),  # a report judged while a waiver held is not reused after it
    }  # fmt: skip
    folder = open_stage(runs, "verify", key)

    def make(work: Path) -> None:
        bed = Bed(simulator, runs, jobs, timeout_s, process_limits, executor)
        result = verify_network(
            inputs.design, proxy, inputs.plan, checkpoint, inputs.cells, task, limits, bed, progress, flat=flat
        )
        writer = Replay(inputs.design, proxy, checkpoint, inputs.cells, task, simulator.klu, flat or bends)
        result = attach_decks(result, writer, bed, progress, work)
        provenance = {
            "schema_name": "analog_deq.verify_report", "schema_version": 2, "package_version": package_version(),
            "ngspice_version": simulator.version, "solver": simulator.solver, "seed": inputs.design.seed,
            "array": _array_form(flat, bends), "campaign": limits.campaign.model_dump(mode="json"),
            "options": _options(writer), "inputs": {
                "hardware": inputs.hardware_sha256(), "checkpoint": key["checkpoint"], "proxy": key["proxy"],
                "limits": key["limits"], **{f"cell.{r}": h for r, h in inputs.cell_hashes().items()},
            },
        }  # fmt: skip
        report = VerifyReport(
            judge(result.measurements, limits, today), provenance, "Sign-off of a trained analog equilibrium network",
            inputs.design.name, _summary(inputs, proxy, checkpoint, result), result.sections, tuple(result.tables),
        )  # fmt: skip
        samples = result.samples
        failures = failure_decks(failed_samples(result, task), result, writer, bed, progress, work)
        transfer = _transfer(tables)
        drawn = figures(result, inputs.design, proxy, checkpoint, task, transfer, limits)
        sizes = inputs.design.sizes
        shown = schematics(inputs.cells.named, (sizes.inputs, sizes.states, sizes.outputs), inputs.design.neuron)
        waves = waves_of(result.transients, result.noise, result.equilibria, inputs.design)
        write_outputs(report, drawn, samples, failures, work, result.tables, result.drawings, shown, waves)
        write_trims(result.dies, work / "trims.csv")
        keep_inputs(
            inputs, proxy_path, checkpoint_path, limits, flat=flat, ngspice=simulator.version,
            solver=simulator.solver, folder=work,
        )  # fmt: skip

    reused, seconds = build_or_reuse(folder, make, progress, "verify")
    content = json.loads((folder.path / "report.json").read_text())
    report = VerifyReport.from_dict(content)
    place = copy_out(folder.path, out)
    outputs = {"report": place / "report.html", "json": place / "report.json", "junit": place / "junit.xml"}
    summary = {"verdict": report.verdict, **dict(report.summary)}
    return StageResult("verify", outputs, summary, reused, seconds, report.exit_code(), tuple(content["checks"]))


def _options(writer: Replay) -> dict[str, str]:
    """The simulator's options in each kind of deck, as ngspice gets them."""
    decks = {kind: writer.deck(kind, 0).text for kind in ("equilibrium", "transient", "noise")}
    return {
        kind: found[1] for kind, text in decks.items() if (found := re.search(r"^\.options (.*)$", text, re.MULTILINE))
    }


def _array_form(flat: bool, bends: bool) -> str:
    if flat:
        return "flat"
    return "reduced exactly to its ports" + (", bent cells as currents; transients and noise flat" if bends else "")


def _summary(inputs: Inputs, proxy: ProxyParameters, checkpoint: Checkpoint, result: VerifyResult) -> dict[str, object]:
    spec = inputs.design.verify
    sample = "images" if inputs.design.task == "digits" else "samples"
    ran = len(result.dies)
    dies = str(ran) if ran == spec.dies else f"{ran} of {spec.dies} planned"
    absent = {f"not modelled, {name}": reason for name, reason in proxy.not_modelled.items()}
    return {
        **absent,
        "network": f"{inputs.design.sizes.inputs} inputs, {inputs.design.sizes.states} states, "
        f"{inputs.design.sizes.outputs} outputs, {inputs.design.crossbar.r_line_ohm:g} ohm per wire segment",
        "simulated": f"{len(result.outputs)} test {sample}, {spec.transients} transients from rest, {dies} "
        f"mismatch dies x {spec.images_per_die} {sample} x 2 (without and with trim)",
        "certificate": certificate_sentence(inputs.design, checkpoint.certificate),
    }


def _transfer(tables: Path | None) -> CalibrationTable | None:
    return None if tables is None else read_table(tables / "transfer.parquet")
