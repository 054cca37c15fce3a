"""The four stages of a design whose mapping is a family of its own; folders and hashes as in ``stages``."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch

from analog_deq.errors import SpecError
from analog_deq.fit.parameters import check_goodness
from analog_deq.mappings.campaign import FamilyResult, verify_family
from analog_deq.mappings.mapping import FamilyProxy
from analog_deq.mappings.training import train_family
from analog_deq.pipeline.family_files import (
    FamilyInputs,
    find_family_limits,
    load_family_inputs,
    matching_family_checkpoint,
    read_family_proxy,
    read_family_table,
    write_family_proxy,
    write_family_table,
)
from analog_deq.pipeline.inputs import (
    StageResult,
    build_or_reuse,
    certificate_sentence,
    copy_out,
    method_line,
)
from analog_deq.pipeline.kept import keep_inputs
from analog_deq.provenance import file_sha256, package_sha256, package_version
from analog_deq.records import OK, Progress
from analog_deq.runs import open_stage
from analog_deq.spec import DesignSpec
from analog_deq.train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from analog_deq.train.tasks.task import Task
from analog_deq.units import engineering
from analog_deq.verify.limits import Limits, read_limits
from analog_deq.verify.outputs import write_outputs
from analog_deq.verify.replay import write_deck
from analog_deq.verify.report.figures import DieScores, FixedPointScatter, ReportFigures, ScoreLadder, YieldCurve
from analog_deq.verify.samples import with_replay
from analog_deq.verify.signoff import Measurement, judge
from analog_deq.verify.sweeps import Bed
from analog_deq.verify.verdict import VerifyReport

PERCENT = 100.0


def calibrate(inputs: FamilyInputs, bed: Bed, out: Path | None, progress: Progress) -> StageResult:
    """Tables of the family, measured in ngspice. SchemaError when one has other columns than the family says."""
    simulator = bed.simulator
    key = {
        "hardware": inputs.hardware_sha256(), "seed": inputs.design.seed, "package": package_sha256(),
        "ngspice": simulator.version, "solver": simulator.solver,
    }  # fmt: skip
    folder = open_stage(bed.root, "calibrate", key)

    def make(work: Path) -> None:
        tables, units = inputs.family.calibrate(bed, progress), inputs.family.units
        for name, rows in tables.items():
            write_family_table(name, rows, units[name], inputs, simulator, work)
        failed = sum(int((rows["status"] != OK).sum()) for rows in tables.values())
        summary = {"tables": len(tables), "rows": sum(map(len, tables.values())), "failed": failed}
        (work / "summary.json").write_text(json.dumps(summary) + "\n")

    reused, seconds = build_or_reuse(folder, make, progress, "calibrate")
    summary = json.loads((folder.path / "summary.json").read_text())
    return StageResult("calibrate", {"tables": copy_out(folder.path, out)}, summary, reused, seconds)


def fit(inputs: FamilyInputs, tables: Path, runs: Path, out: Path | None, progress: Progress) -> StageResult:
    """``proxy.json`` of a folder of the family's tables. FitError when a part misses its tolerance."""
    loaded = {name: read_family_table(tables / f"{name}.parquet", inputs) for name in inputs.family.units}
    hashes = {name: file_sha256(tables / f"{name}.parquet") for name in loaded}
    folder = open_stage(runs, "fit", {"tables": hashes, "package": package_sha256()})

    def make(work: Path) -> None:
        proxy = inputs.family.fit(loaded)
        for part, goodness in proxy.goodness().items():
            check_goodness(part, goodness)
        write_family_proxy(proxy, hashes, inputs, work / "proxy.json")

    reused, seconds = build_or_reuse(folder, make, progress, "fit")
    path = folder.path / "proxy.json"
    summary: dict[str, object] = {
        f"{name}, held out": f"{g.held_out:.3g} (tolerance {g.tolerance:.3g}) {g.unit}, n = {g.n_held_out}"
        for name, g in read_family_proxy(path, inputs).goodness().items()
    }
    return StageResult("fit", {"proxy": copy_out(path, out)}, summary, reused, seconds)


def train(
    inputs: FamilyInputs, proxy_path: Path, runs: Path, out: Path | None, baselines: bool, progress: Progress
) -> StageResult:
    """``net.safetensors`` of the design trained through its proxy. Needs no simulator."""
    proxy, proxy_sha, task = read_family_proxy(proxy_path, inputs), file_sha256(proxy_path), inputs.task()
    key = {"train": inputs.train_sha256(), "proxy": proxy_sha, "baselines": baselines, "package": package_sha256()}
    folder = open_stage(runs, "train", key)

    def make(work: Path) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            trained = train_family(inputs.family, proxy, task, baselines=baselines, progress=progress)
        finally:
            torch.set_num_threads(threads)
        checkpoint = Checkpoint(
            trained.g_pos.numpy(), trained.g_neg.numpy(), trained.readout.weight.numpy(), trained.readout.bias.numpy(),
            trained.certificate, inputs.train_sha256(), proxy_sha, inputs.design.seed, trained.scores,
            {"package": package_version(), "torch": torch.__version__, "mapping": inputs.design.mapping},
        )  # fmt: skip
        write_checkpoint(checkpoint, work / "net.safetensors")

    reused, seconds = build_or_reuse(folder, make, progress, "train")
    path = folder.path / "net.safetensors"
    checkpoint = read_checkpoint(path)
    summary: dict[str, object] = dict(method_line(task, name, score) for name, score in checkpoint.scores.items())
    summary["certificate"] = certificate_sentence(inputs.design, checkpoint.certificate)
    return StageResult("train", {"checkpoint": copy_out(path, out)}, summary, reused, seconds)


def verify(
    inputs: FamilyInputs,
    checkpoint_path: Path,
    proxy_path: Path,
    limits_path: Path | None,
    bed: Bed,
    out: Path | None,
    flat: bool,
    dies: int | None,
    progress: Progress,
) -> StageResult:
    """Report and verdict of a checkpoint; the exit code is the verdict's."""
    if dies is not None:
        chosen = inputs.design.verify.model_copy(update={"dies": dies})
        inputs = load_family_inputs(inputs.design.model_copy(update={"verify": chosen}), inputs.path)
    proxy = read_family_proxy(proxy_path, inputs)
    checkpoint = matching_family_checkpoint(checkpoint_path, inputs, proxy_path)
    task = inputs.task()
    limits_path = limits_path or find_family_limits(inputs)
    limits, simulator, today = read_limits(limits_path), bed.simulator, date.today()
    if limits.campaign.stop_early:
        raise SpecError(f"{limits_path}: campaign.stop_early: only for mapping 'opamp_integrator'; leave it out")
    key = {
        "design": inputs.design.model_dump(mode="json"), "hardware": inputs.hardware_sha256(),
        "checkpoint": file_sha256(checkpoint_path), "proxy": file_sha256(proxy_path),
        "limits": file_sha256(limits_path), "flat": flat, "ngspice": simulator.version, "solver": simulator.solver,
        "package": package_sha256(), "expired_waivers": limits.expired(today),
    }  # fmt: skip
    folder = open_stage(bed.root, "verify", key)

    def make(work: Path) -> None:
        result = verify_family(inputs.family, proxy, checkpoint, task, bed, progress, flat=flat)
        result = _with_decks(result, inputs, proxy, checkpoint, task, simulator.klu, work)
        provenance = {
            "schema_name": "analog_deq.verify_report", "schema_version": 2, "package_version": package_version(),
            "ngspice_version": simulator.version, "solver": simulator.solver, "seed": inputs.design.seed,
            "mapping": inputs.design.mapping, "inputs": {
                name: key[name] for name in ("hardware", "checkpoint", "proxy", "limits")
            },
        }  # fmt: skip
        report = VerifyReport(
            judge(result.measurements, limits, today), provenance, "Sign-off of a trained analog equilibrium network",
            inputs.design.name, _summary(inputs, checkpoint, result),
        )  # fmt: skip
        bad = (result.samples["status"] != OK) | (result.samples["predicted"] != result.samples["label"])
        write_outputs(
            report,
            _figures(result, checkpoint, inputs.design, limits),
            result.samples,
            with_replay(result.samples[bad]),
            work,
        )
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


def run(
    inputs: FamilyInputs, limits: Path | None, bed: Bed, flat: bool, dies: int | None, progress: Progress
) -> list[StageResult]:
    """All four stages; each is reused when a finished one of the same inputs is there."""
    inputs.task()
    read_limits(limits or find_family_limits(inputs))
    results = [calibrate(inputs, bed, None, progress)]
    results.append(fit(inputs, results[-1].outputs["tables"], bed.root, None, progress))
    proxy = results[-1].outputs["proxy"]
    results.append(train(inputs, proxy, bed.root, None, True, progress))
    checkpoint = results[-1].outputs["checkpoint"]
    results.append(verify(inputs, checkpoint, proxy, limits, bed, None, flat, dies, progress))
    return results


def _with_decks(
    result: FamilyResult,
    inputs: FamilyInputs,
    proxy: FamilyProxy,
    checkpoint: Checkpoint,
    task: Task,
    klu: bool,
    folder: Path,
) -> FamilyResult:
    """``result`` with the full netlist of the worst nominal image of each check, and the line that replays it."""
    programmed = torch.stack([torch.as_tensor(checkpoint.g_pos), torch.as_tensor(checkpoint.g_neg)]).numpy()
    lowered = inputs.family.lower(proxy, programmed, klu)
    x = inputs.family.deploy(proxy, programmed).inputs(task.x_test).numpy()

    def attach(m: Measurement) -> Measurement:
        if m.worst is None:
            return m
        if m.worst.input is None or m.worst.die is not None or m.worst.deck != "equilibrium":
            return replace(m, worst=replace(m.worst, deck=""))
        name = f"equilibrium-image{m.worst.input}"
        deck = lowered.flat_deck(x[m.worst.input])
        write_deck(deck, folder / "decks" / name / "deck.cir")
        replay = f"analog-deq replay . --image {m.worst.input}"
        return replace(m, worst=replace(m.worst, deck=f"decks/{name}/deck.cir", replay=replay))

    return replace(result, measurements=tuple(attach(m) for m in result.measurements))


def _figures(result: FamilyResult, checkpoint: Checkpoint, design: DesignSpec, limits: Limits) -> ReportFigures:
    ok = result.equilibria.ok
    missing = {
        "settling": "of this mapping settling times are kept, not waveforms; see the rows net.settle_*",
        "noise": "of this mapping totals are kept, not spectra; see the row net.noise_ratio",
        "transfer": "the fit of this mapping is in its proxy.json; see the rows fit.*",
    }
    fixed = None
    if ok.any():
        how = "Nominal circuit, whole network in ngspice"
        fixed = FixedPointScatter(result.equilibria.z[ok], result.proxy.reading.numpy()[ok], how=how)
    else:
        missing["fixed_point"] = "no equilibrium was simulated"
    scores = {**checkpoint.scores, "ours, in ngspice": result.score}
    rungs = {name: (PERCENT * s.value, PERCENT * s.low, PERCENT * s.high) for name, s in scores.items()}
    how = "Images never trained on, Wilson intervals, one training seed"
    ladder = ScoreLadder(rungs, result.score.n, ("ours, in ngspice",), how=how)
    verify, allowed = design.verify, PERCENT * design.verify.die_max_drop
    dies = DieScores(
        -result.die_drop, None, -allowed, 0.0,
        how=f"Each die on its own {verify.images_per_die} test images, beside software on the same images",
        x_label="accuracy minus software's (points)", unit="points",
    )  # fmt: skip
    row, yields = limits.row("net.yield_mismatch"), None
    if row is not None and row.judge == "yield" and row.min is not None and 0 < row.min < PERCENT:
        how = "Dies in the order of their numbers"
        yields = YieldCurve(result.die_drop <= allowed + 1e-7, row.min, row.confidence, how=how)
    return ReportFigures(fixed, dies=dies, ladder=ladder, yields=yields, missing=missing)


def _summary(inputs: FamilyInputs, checkpoint: Checkpoint, result: FamilyResult) -> dict[str, object]:
    sizes, verify = inputs.design.sizes, inputs.design.verify
    parts = ", ".join(f"{count:g} {kind}" for kind, count in result.elements.items() if kind != "capacitance_f")
    return {
        "network": f"{sizes.inputs} inputs, {sizes.states} states, {sizes.outputs} outputs, mapping "
        f"{inputs.design.mapping}, {inputs.design.crossbar.r_line_ohm:g} ohm per wire segment",
        "simulated": f"{len(result.equilibria.z)} test images, {len(result.settled)} transients from rest, "
        f"{verify.dies} mismatch dies x {verify.images_per_die} images",
        "made of": f"{parts}; {engineering(result.elements.get('capacitance_f', 0.0), 'F')} of capacitors",
        "certificate": certificate_sentence(inputs.design, checkpoint.certificate),
    }
