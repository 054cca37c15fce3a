"""What fine-tuning on states that ngspice measures is worth when the circuit is not the one the proxy was fitted to.

A network is trained through the proxy of the shipped design. Then cells and conditions move (``wrong_circuits.py``),
and it is simulated as it is, and after cures that all start from it: a readout refitted on 400 measured training
samples; further steps through the proxy, which measure nothing; as many steps on measured states, the gradient still
the wrong proxy's; calibrating and fitting this circuit and as many steps through the right proxy. Every score is
ngspice's, on the same test samples, so they are compared in pairs.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from rows import Row, add_count, interleave, machine_name, note, parser, show, value_row
from torch import Tensor
from wrong_circuits import CIRCUITS, write_design

from analog_deq.errors import FitError
from analog_deq.fit.parameters import ProxyParameters, read_proxy
from analog_deq.pipeline.fine_tuning import fine_tune_in_spice
from analog_deq.pipeline.inputs import Inputs, load_inputs
from analog_deq.pipeline.stages import calibrate, fit, train
from analog_deq.records import OK, Progress
from analog_deq.spec import DesignSpec
from analog_deq.spice.simulator import Simulator, find_simulator
from analog_deq.statistics import paired_drop, rms_increase, wilson
from analog_deq.train.checkpoint import Checkpoint, read_checkpoint
from analog_deq.train.deployed import DeployedNetwork, Readout, refit_readout
from analog_deq.train.finetune import FineTuned, FineTuning, fine_tune
from analog_deq.train.scoring import REFIT_SAMPLES, RIDGE
from analog_deq.train.tasks import Task
from analog_deq.train.tasks.task import error_score
from analog_deq.verify.in_the_loop import SpiceForward
from analog_deq.verify.sweeps import Bed

Array = np.ndarray
Scored = dict[str, Array]
"""Right (samples,) of each method, or a regression's errors (samples, outputs)."""

PERCENT = 100.0
COST_STEPS = 20
LOOSENED = 1000.0
"""Times the plan's tolerances, for a circuit that its fit refuses: what the honest cure is worth regardless."""
TUNED = "fine_tuned"
AGAINST = ("before", "readout_refit", "proxy_steps", "recalibrated")
"""What fine-tuning is compared with, sample by sample."""


class ProxyForward:
    """The proxy's own states in the place of measured ones: the same steps on the same samples, and no circuit."""

    die: int | None = None

    def __init__(self, design: DesignSpec, proxy: ProxyParameters) -> None:
        self.design, self.proxy = design, proxy
        self.last: SimpleNamespace | None = None

    def program(self, g_pos: Tensor, g_neg: Tensor) -> None:
        self.model = DeployedNetwork.nominal(self.design, self.proxy, g_pos.numpy(), g_neg.numpy())

    def __call__(self, x: Tensor, draw: object = None, *, nudge: Tensor | None = None) -> Tensor:
        self.last = SimpleNamespace(status=np.full(len(x), OK, dtype=object), decks=0, reused=False)
        return self.model.solve(x, domain_share=None, nudge=nudge).z


@dataclass(frozen=True, slots=True)
class Home:
    """One training seed of the shipped design: its file, the proxy fitted to it, the network trained through that."""

    design: Path
    proxy: Path
    net: Path


@dataclass(frozen=True, slots=True)
class Bench:
    """What all share: folders, simulator, processes at a time, settings of the further steps."""

    folder: Path
    simulator: Simulator
    jobs: int
    settings: FineTuning

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def bed(self) -> Bed:
        return Bed(self.simulator, self.runs, self.jobs)


class Quiet(Progress):
    """No bars; what the stages have to say goes to stderr."""

    def note(self, text: str) -> None:
        note(f"    {text}")


def make_home(bench: Bench, base: str, seed: int, proxy: Path | None) -> Home:
    """Calibrated and fitted unless there is a ``proxy`` of this hardware already; trained."""
    design = write_design(base, CIRCUITS["nominal"], seed, bench.folder / base / "nominal" / str(seed))
    proxy = proxy or fitted(bench, design)
    net = train(design, proxy=proxy, runs=bench.runs, baselines=False, progress=Quiet()).outputs["checkpoint"]
    return Home(design, proxy, net)


def fitted(bench: Bench, design: Path) -> Path:
    """``proxy.json`` of a design, calibrated and fitted as shipped."""
    tables = calibrate(design, runs=bench.runs, jobs=bench.jobs, progress=Quiet()).outputs["tables"]
    return fit(tables, design=design, runs=bench.runs, progress=Quiet()).outputs["proxy"]


class Measured:
    """One circuit, with the wrong proxy's coordinates: scores of networks on it, sample by sample."""

    def __init__(self, bench: Bench, inputs: Inputs, proxy: ProxyParameters) -> None:
        self.design, self.task = inputs.design, inputs.task()
        self.forward = SpiceForward(inputs.design, inputs.cells, proxy, bench.bed())

    def program(self, g_pos: Tensor | Array, g_neg: Tensor | Array) -> None:
        self.forward.program(g_pos, g_neg)

    def scored(self, readout: Readout) -> Array:
        """Of what is programmed, on the test samples; a failed one is a wrong label, or left out of a regression."""
        batch = self.forward.measure(self.task.x_test)
        if batch.failed:
            note(f"    {batch.failed} test samples failed; the first: {batch.status[~batch.ok][0]}")
        return per_sample(self.task, readout, batch.reading, batch.ok)

    def refit(self) -> Readout:
        """Readout fitted to the circuit's readings of the first training samples."""
        few = slice(REFIT_SAMPLES)
        batch = self.forward.measure(self.task.x_train[few])
        ok = torch.as_tensor(batch.ok)
        answers = self.task.answers(self.task.y_train[few], self.design.sizes.outputs)[ok]
        readings = torch.as_tensor(batch.reading[batch.ok])
        return refit_readout(readings, answers, self.design.converters.adc_bits, RIDGE[self.task.kind])

    def distance(self) -> tuple[float, float]:
        """RMS and largest |z ngspice - z proxy| over the test samples, %FS."""
        batch = self.forward.measure(self.task.x_test)
        solved = self.forward.model.solve(self.task.x_test, domain_share=None).z.numpy()
        apart = PERCENT * np.abs(batch.z - solved)[batch.ok]
        return float(np.sqrt(np.mean(apart**2))), float(apart.max())


def per_sample(task: Task, readout: Readout, reading: Array, ok: Array) -> Array:
    """Right or wrong (samples,), a failed one wrong; of a regression errors (samples, outputs), NaN of a failed one."""
    if not task.regression:
        right = np.zeros(len(ok), dtype=bool)
        right[ok] = (readout.predict(torch.as_tensor(reading[ok])) == task.y_test[torch.as_tensor(ok)]).numpy()
        return right
    return task.errors(readout.outputs(torch.as_tensor(reading)), task.y_test)


def through_proxy(
    design: DesignSpec, proxy: ProxyParameters, task: Task, net: Checkpoint, how: FineTuning
) -> FineTuned:
    """The same further steps on the states of a proxy instead of measured ones."""
    return fine_tune(design, proxy, task, net, ProxyForward(design, proxy), how, progress=Progress())


@dataclass(frozen=True, slots=True)
class Found:
    """Scores by method of one circuit and seed, distances to the wrong proxy (rms, largest), and the steps' log."""

    scores: Scored
    distance: tuple[float, float]
    tuned_distance: tuple[float, float] | None = None
    log: pd.DataFrame | None = None
    fit_refused: bool = False


def study(bench: Bench, base: str, name: str, seed: int, home: Home, *, cures: bool = True) -> Found:
    """One circuit and one seed; without ``cures`` only the network as it is and its refitted readout."""
    folder = bench.folder / base / name / str(seed)
    inputs = load_inputs(write_design(base, CIRCUITS[name], seed, folder), {})
    proxy, net = read_proxy(home.proxy), read_checkpoint(home.net)
    circuit = Measured(bench, inputs, proxy)
    circuit.program(net.g_pos, net.g_neg)
    scores = {
        "before": circuit.scored(own_readout(net, circuit.design)),
        "readout_refit": circuit.scored(circuit.refit()),
    }
    distance = circuit.distance()
    if not cures:
        return Found(scores, distance)

    def add(method: str, g_pos: Tensor | Array, g_neg: Tensor | Array, readout: Readout) -> None:
        circuit.program(g_pos, g_neg)
        scores[method] = circuit.scored(readout)

    on_proxy = through_proxy(load_inputs(home.design, {}).design, proxy, circuit.task, net, bench.settings)
    add("proxy_steps", on_proxy.g_pos, on_proxy.g_neg, on_proxy.readout)
    path, refused = (home.proxy, False) if name == "nominal" else own_proxy(bench, base, name)
    own = read_proxy(path)
    right = through_proxy(circuit.design, own, circuit.task, net, bench.settings)
    add("recalibrated", right.g_pos, right.g_neg, right.readout)
    scores["recalibrated_and_refit"] = circuit.scored(circuit.refit())
    done = fine_tune_in_spice(
        inputs.path, proxy=home.proxy, start=home.net, runs=bench.runs, settings=bench.settings, proxy_of=home.design,
        jobs=bench.jobs, progress=Quiet(),
    )  # fmt: skip
    tuned = read_checkpoint(done.outputs["checkpoint"])
    add(TUNED, tuned.g_pos, tuned.g_neg, own_readout(tuned, circuit.design))
    tuned_distance = circuit.distance()
    scores["fine_tuned_and_refit"] = circuit.scored(circuit.refit())
    return Found(scores, distance, tuned_distance, pd.read_csv(done.outputs["log"]), refused)


def own_proxy(bench: Bench, base: str, name: str) -> tuple[Path, bool]:
    """The proxy fitted to the circuit itself, and whether its fit was refused and taken with looser tolerances.

    Calibration depends on the hardware, so one proxy does for all seeds.
    """
    folder = bench.folder / base / name
    try:
        return fitted(bench, write_design(base, CIRCUITS[name], 0, folder / "own")), False
    except FitError as error:
        note(f"    the fit is refused; tolerances {LOOSENED:g} times as wide: {error}")
    return fitted(bench, write_design(base, CIRCUITS[name], 0, folder / "loosened", LOOSENED)), True


def own_readout(net: Checkpoint, design: DesignSpec) -> Readout:
    """The readout that a network came with."""
    weight, bias = torch.as_tensor(net.readout_weight), torch.as_tensor(net.readout_bias)
    return Readout(weight, bias, design.converters.adc_bits)


# --- rows -----------------------------------------------------------------------------------------------------------


def score_row(name: str, machine: str, scored: Array) -> Row:
    """Accuracy with its Wilson interval, or relative error with its bootstrap interval, in percent."""
    if scored.ndim == 1:
        k, n = int(scored.sum()), len(scored)
        low, high = wilson(k, n)
        return value_row(f"{name}.accuracy_percent", machine, PERCENT * k / n, n, interval=percent(low, high))
    score = error_score(scored[np.isfinite(scored).all(axis=1)])
    interval = percent(score.low, score.high)
    return value_row(f"{name}.error_percent", machine, PERCENT * score.value, score.n, interval=interval)


def percent(low: float, high: float) -> tuple[float, float]:
    return PERCENT * low, PERCENT * high


def gain_rows(name: str, machine: str, better: Array, worse: Array) -> Iterator[Row]:
    """What ``better`` gains over ``worse`` on the same samples, above 0 when it is the better one; McNemar's p."""
    if better.ndim == 1:
        pair = paired_drop(better, worse)
        value, interval = pair.drop, pair.interval
        yield value_row(f"{name}.mcnemar_p", machine, pair.p_value, pair.n)
    else:
        both = np.isfinite(better).all(axis=1) & np.isfinite(worse).all(axis=1)
        better, worse = better[both], worse[both]
        value, found = rms_increase(worse, better, np.random.default_rng(0))
        interval = found or (value, value)
    yield value_row(f"{name}.points", machine, PERCENT * value, len(better), interval=percent(*interval))


def circuit_rows(name: str, machine: str, found: Mapping[int, Found]) -> Iterator[Row]:
    """Figures of one circuit by seed and over all seeds, whose samples are pooled."""
    for seed, one in found.items():
        for method, scored in one.scores.items():
            yield score_row(f"{name}.seed{seed}.{method}", machine, scored)
    pooled = {method: np.concatenate([one.scores[method] for one in found.values()]) for method in methods(found)}
    for method, scored in pooled.items():
        yield score_row(f"{name}.all_seeds.{method}", machine, scored)
    for other in AGAINST:
        if TUNED in pooled and other in pooled:
            yield from gain_rows(f"{name}.all_seeds.{TUNED}_over_{other}", machine, pooled[TUNED], pooled[other])
    if TUNED in pooled:
        refit = "fine_tuned_and_refit"
        yield from gain_rows(
            f"{name}.all_seeds.{refit}_over_readout_refit", machine, pooled[refit], pooled["readout_refit"]
        )
    for label, pairs in (
        ("before", [one.distance for one in found.values()]),
        (TUNED, [one.tuned_distance for one in found.values() if one.tuned_distance is not None]),
    ):
        if pairs:
            rms, most = np.array(pairs).T
            span = (float(rms.min()), float(rms.max()))
            yield value_row(
                f"{name}.distance_{label}_rms_percent_fs", machine, float(rms.mean()), len(pairs), interval=span
            )
            yield value_row(f"{name}.distance_{label}_max_percent_fs", machine, float(most.max()), len(pairs))
    logs = [one.log for one in found.values() if one.log is not None]
    if logs:
        yield from log_rows(name, machine, pd.concat(logs))
        refused = [one.fit_refused for one in found.values()]
        yield value_row(f"{name}.fit_refused", machine, float(np.mean(refused)), len(refused))


def methods(found: Mapping[int, Found]) -> Sequence[str]:
    """Methods that every seed has."""
    first, *rest = (one.scores for one in found.values())
    return [method for method in first if all(method in other for other in rest)]


def log_rows(name: str, machine: str, log: pd.DataFrame) -> Iterator[Row]:
    """The distance that the log holds against the mismatch sigma, and how often a refit was asked for."""
    steps = len(log)
    yield value_row(f"{name}.log.mismatch_sigma_percent_fs", machine, float(log["sigma_percent_fs"].mean()), steps)
    yield value_row(f"{name}.log.rms_percent_fs", machine, float(log["rms_percent_fs"].mean()), steps)
    yield value_row(f"{name}.log.refit_asked_percent", machine, PERCENT * float(log["refit"].mean()), steps)
    yield value_row(f"{name}.log.failed_samples", machine, float(log["failed"].sum()), steps)


def study_rows(bench: Bench, bases: Sequence[str], names: Sequence[str], seeds: int, single: int) -> Iterator[Row]:
    """Every circuit of every design; those with all moved together on ``seeds`` seeds, the others on ``single``."""
    machine = machine_name(bench.simulator)
    for base in bases:
        homes: list[Home] = []
        for seed in range(seeds):
            note(f"{base}, seed {seed}: calibrate, fit, train")
            homes.append(make_home(bench, base, seed, homes[0].proxy if homes else None))
        for name in names:
            found = {}
            for seed, home in enumerate(homes if name.endswith("_all") else homes[:single]):
                note(f"{base}, {name} ({CIRCUITS[name].what}), seed {seed}")
                found[seed] = study(bench, base, name, seed, home)
            yield from circuit_rows(f"spice_in_the_loop.{base}.{name}", machine, found)
        nominal = {seed: study(bench, base, "nominal", seed, home, cures=False) for seed, home in enumerate(homes)}
        yield from circuit_rows(f"spice_in_the_loop.{base}.own_circuit", machine, nominal)


def cost_rows(bench: Bench, base: str, name: str, steps: int) -> Iterator[Row]:
    """Seconds of a step on measured states, simulated anew with one process and two, and read from an earlier run."""
    machine = machine_name(bench.simulator)
    home = make_home(bench, base, 0, None)
    inputs = load_inputs(write_design(base, CIRCUITS[name], 0, bench.folder / base / name / "0"), {})
    proxy, net, task = read_proxy(home.proxy), read_checkpoint(home.net), inputs.task()
    how = replace(bench.settings, steps=steps)
    logs: dict[str, list[FineTuned]] = {"jobs_1": [], "jobs_2": [], "reused": []}

    def run(side: str) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            root = bench.runs if side == "reused" else Path(scratch)
            bed = Bed(bench.simulator, root, 2 if side == "jobs_2" else 1)
            forward = SpiceForward(inputs.design, inputs.cells, proxy, bed)
            logs[side].append(fine_tune(inputs.design, proxy, task, net, forward, how, progress=Progress()))

    run("reused")  # so that there is an earlier run to read from
    logs["reused"].clear()
    interleave({side: lambda side=side: run(side) for side in logs}, 1)
    for side, done in logs.items():
        seconds = [record.seconds for one in done for record in one.log]
        median = float(np.median(seconds))
        span = (float(np.quantile(seconds, 0.05)), float(np.quantile(seconds, 0.95)))
        yield value_row(
            f"spice_in_the_loop.{base}.{name}.{side}.median_s_per_step", machine, median, len(seconds), interval=span
        )
        hits = [record.reused for one in done for record in one.log]
        yield value_row(
            f"spice_in_the_loop.{base}.{name}.{side}.reused_percent", machine, PERCENT * np.mean(hits), len(hits)
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print all rows; see README.md."""
    made = parser(__doc__ or "", "python benchmarks/spice_in_the_loop.py --designs digits --circuits worst_all")
    made.add_argument("--designs", nargs="+", default=["digits", "qp16"], metavar="NAME", help="shipped designs")
    made.add_argument("--circuits", nargs="+", default=list(CIRCUITS), choices=list(CIRCUITS), metavar="NAME",
                      help=f"of {', '.join(CIRCUITS)} (all)")  # fmt: skip
    add_count(made, "--seeds", 3, "training seeds of the circuits with everything moved")
    add_count(made, "--single-seeds", 1, "training seeds of the others")
    add_count(made, "--steps", 60, "further steps of every method")
    add_count(made, "--jobs", 2, "ngspice processes at a time")
    made.add_argument("--cost", action="store_true", help="only seconds a step, for which the machine should be idle")
    made.add_argument("--folder", type=Path, help="keeps what was measured, and goes on from it (a temporary one)")
    chosen = made.parse_args(arguments)
    torch.set_num_threads(1)

    def rows() -> Iterator[Row]:
        with tempfile.TemporaryDirectory() as scratch:
            bench = Bench(chosen.folder or Path(scratch), find_simulator(), chosen.jobs, FineTuning(steps=chosen.steps))
            if chosen.cost:
                yield from cost_rows(bench, chosen.designs[0], chosen.circuits[-1], min(chosen.steps, COST_STEPS))
            else:
                yield from study_rows(bench, chosen.designs, chosen.circuits, chosen.seeds, chosen.single_seeds)

    return show(rows(), chosen.json)


if __name__ == "__main__":
    sys.exit(main())
