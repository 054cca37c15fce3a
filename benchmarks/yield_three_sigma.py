"""A 3-sigma yield by counting: 2,218 mismatch dies of the digits network in ngspice, each trimmed and on 50 images.

Without a failing die, 2,218 dies show that 99.865 % pass, with 95 % confidence. The same dies bound what a die loses:
99.865 % of all dies lose no more than the worst of them. Beside it the same claim from dies of wider mismatch
(scaled-sigma sampling), and what 100 inputs and 100 dies cost against one ngspice process of the flat deck per input.

Finished dies are kept in ``--state``; the same command goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Row, add_count, interleave, machine_name, note, parser, show, speed_row, time_row, value_row
from trained_digits import Trained, base_design, network_of, reference_proxy, train

from analog_deq.draws import Stream, generator
from analog_deq.errors import SpecError
from analog_deq.provenance import file_sha256
from analog_deq.records import Progress
from analog_deq.spice.simulator import Simulator, find_simulator
from analog_deq.statistics import (
    clopper_pearson,
    clopper_pearson_lower,
    dies_needed,
    quantile_upper_bound,
    scaled_sigma,
)
from analog_deq.verify.bent import Settler
from analog_deq.verify.dies import draw_die
from analog_deq.verify.sweeps import Bed, Sweep, SweepResult, run_sweeps
from analog_deq.verify.trim import trim_dies

PERCENT = 100.0
THREE_SIGMA = 0.99865
WALL_BAR_S = 900.0
BATCH = 32
"""Dies a worker simulates together: each is two decks."""
SCALES = (2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
FIRST_SCALED = 10**6
"""Dies of wider mismatch are drawn from here on: none of them is a counted die made wider."""
TIMEOUT_S = 600.0
FLAT = "one ngspice process of the flat deck per input"
TIGHT = 1e-8
AGREE_BAR = 1e-6
COST_STEPS = 150
"""Training steps of a network that only its cost is asked of."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """What every die goes through: trimmed on ``trim_images`` training images, judged on ``images`` test images."""

    net: Trained
    images: int
    trim_images: int
    klu: bool

    def run(self, dies: Sequence[int], scale: float, bed: Bed) -> list[tuple[int, int, int, int, float]]:
        """(die, images lost against software, images without a result, trims clipped, RMS error in %FS) of each die."""
        net, model, task = self.net, self.net.model(), self.net.task
        nominal = net.lowered(self.klu)
        settler = Settler(model, False, not model.proxy.synapse.linear)

        def settle(sweeps: Sequence[Sweep], inputs: Sequence[torch.Tensor]) -> list[SweepResult]:
            return settler.settle(sweeps, inputs, bed, Progress())

        x_trim = task.x_train[torch.as_tensor(self._choice(10**6 + 1, len(task.x_train), self.trim_images))]
        chosen = [self._choice(die, len(task.x_test), self.images) for die in dies]
        drawn = [draw_die(nominal, die, scale) for die in dies]
        trimmed, _, clipped = trim_dies(drawn, model, x_trim, settle)
        inputs, solved = model.inputs(task.x_test).numpy(), model.solve(task.x_test, domain_share=None)
        h, reading = solved.h.numpy(), solved.reading.numpy()
        sweeps = [Sweep(n, inputs[own], h[own]) for n, own in zip(trimmed, chosen, strict=True)]
        results = settle(sweeps, [task.x_test[torch.as_tensor(own)] for own in chosen])
        y, software = task.y_test.numpy(), net.readout.predict(torch.as_tensor(reading)).numpy()
        rows = []
        for die, own, result, clips in zip(dies, chosen, results, clipped, strict=True):
            predicted = net.readout.predict(torch.as_tensor(np.nan_to_num(result.states.z))).numpy()
            right = np.where(result.ok, predicted == y[own], False)
            lost = int(np.sum(software[own] == y[own]) - np.sum(right))
            error = (result.states.z - reading[own])[result.ok]
            rms = PERCENT * float(np.sqrt(np.mean(error**2))) if error.size else -1.0
            rows.append((int(die), lost, int(np.sum(~result.ok)), int(clips), rms))
        return rows

    def _choice(self, index: int, among: int, count: int) -> np.ndarray:
        rng = generator(self.net.design.seed, Stream.VERIFY_CHOICE, index)
        return np.asarray(rng.choice(among, count, replace=False))

    @property
    def allowed(self) -> int:
        """Images a passing die may lose."""
        return int(np.floor(self.net.design.verify.die_max_drop * self.images + 1e-9))


_CAMPAIGN: list[tuple[Campaign, Simulator]] = []


def _start_worker(campaign: Campaign, simulator: Simulator) -> None:
    torch.set_num_threads(1)
    _CAMPAIGN[:] = [(campaign, simulator)]


def _batch(dies: Sequence[int], scale: float) -> dict[str, Any]:
    """One finished batch, as it is stored."""
    campaign, simulator = _CAMPAIGN[0]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rows = campaign.run(dies, scale, Bed(simulator, Path(folder), 1, TIMEOUT_S))
    return {"scale": scale, "dies": rows, "busy_s": time.perf_counter() - start}


@dataclass(frozen=True, slots=True)
class State:
    """The file of finished batches, one JSON line each; ``key`` is what they must have in common."""

    path: Path
    key: dict[str, Any]

    def batches(self) -> list[dict[str, Any]]:
        """Everything stored; SpecError when it belongs to another campaign. A torn last line is dropped."""
        found = []
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            try:
                content = json.loads(line)
            except ValueError:
                continue
            if content["key"] != self.key:
                raise SpecError(f"{self.path}: holds dies of another campaign ({content['key']}); give another --state")
            found.append(content)
        return found

    def add(self, batch: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps({"key": self.key, **batch}) + "\n")


def finished(state: State, scale: float) -> dict[int, list[float]]:
    """Rows of the dies of one scale that are done, by die."""
    return {int(row[0]): row for b in state.batches() if b.get("scale") == scale for row in b["dies"]}


def simulate(state: State, campaign: Campaign, simulator: Simulator, wanted: dict[float, range], stop_s: float) -> None:
    """Runs what is missing of the dies ``wanted`` by scale, on two processes; starts no batch after ``stop_s``."""
    missing: list[tuple[list[int], float]] = []
    for scale, dies in wanted.items():
        left = [die for die in dies if die not in finished(state, scale)]
        missing += [(left[k : k + BATCH], scale) for k in range(0, len(left), BATCH)]
    if not missing:
        return
    began = time.perf_counter()
    jobs = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(campaign, simulator)
    ) as pool:
        waiting = {pool.submit(_batch, *item) for item in missing[:jobs]}
        del missing[:jobs]
        while waiting:
            done = next(as_completed(waiting))
            waiting.remove(done)
            state.add(done.result())
            if missing and time.perf_counter() - began < stop_s:
                waiting.add(pool.submit(_batch, *missing.pop(0)))
    seconds = time.perf_counter() - began
    state.add({"session_s": seconds, "scales": sorted(wanted)})
    note(f"  {seconds:.0f} s, {sum(len(dies) for dies, _ in missing)} dies left")


# --- rows -----------------------------------------------------------------------------------------------------------


def count_rows(state: State, campaign: Campaign, machine: str) -> Iterator[Row]:
    """Rows of the counted dies: yield and its bound at several limits, and the loss that 3 sigma of them keep to."""
    rows = np.array(list(finished(state, 1.0).values()))
    if not len(rows):
        return
    n, images = len(rows), campaign.images
    lost = rows[:, 1].astype(int)
    sessions = [b["session_s"] for b in state.batches() if "session_s" in b and b["scales"] == [1.0]]
    busy = sum(b["busy_s"] for b in state.batches() if b.get("scale") == 1.0)
    yield value_row("yield.count.dies", machine, n, n)
    yield value_row("yield.count.inputs", machine, n * images, n)
    yield time_row("yield.count.wall_s", machine, [sum(sessions)], bar=WALL_BAR_S)
    yield value_row("yield.count.core_s_per_100_dies", machine, 100 * busy / n, n)
    yield value_row("yield.count.images_without_result", machine, float(rows[:, 2].sum()), n * images)
    yield value_row("yield.count.trims_clipped", machine, float(rows[:, 3].sum()), n)
    rms = rows[:, 4]
    yield value_row("yield.count.state_error_percent_fs", machine, float(np.sqrt(np.mean(rms**2))), n,
                    interval=(float(rms.min()), float(rms.max())))  # fmt: skip
    for allowed in sorted({campaign.allowed, 0, 1, 2, 3}):
        passes = int(np.sum(lost <= allowed))
        name = f"yield.count.within_{PERCENT * allowed / images:g}_points"
        low, high = clopper_pearson(passes, n)
        yield value_row(f"{name}.percent", machine, PERCENT * passes / n, n, interval=(PERCENT * low, PERCENT * high))
        bound = PERCENT * clopper_pearson_lower(passes, n)
        yield Row(f"{name}.lower_95_percent", bound, machine, n=n, bar=PERCENT * THREE_SIGMA,
                  holds=bound >= PERCENT * THREE_SIGMA)  # fmt: skip
    worst = quantile_upper_bound(lost, THREE_SIGMA)
    if worst is not None:
        yield value_row("yield.count.three_sigma_of_dies_lose_at_most_points", machine, PERCENT * worst / images, n)


def scaled_rows(state: State, campaign: Campaign, machine: str) -> Iterator[Row]:
    """Rows of the same claim from wider dies: failures by scale, the estimate at 1, and what it cost."""
    counts = {s: np.array([row[1] for row in finished(state, s).values()]) for s in SCALES}
    counts = {s: lost for s, lost in counts.items() if len(lost)}
    if not counts:
        return
    failures = [int(np.sum(lost > campaign.allowed)) for lost in counts.values()]
    trials = [len(lost) for lost in counts.values()]
    for scale, k, n in zip(counts, failures, trials, strict=True):
        low, high = clopper_pearson(k, n)
        interval = PERCENT * low, PERCENT * high
        yield value_row(
            f"yield.scaled.sigma_x{scale:g}.failing_percent", machine, PERCENT * k / n, n, interval=interval
        )
    found = scaled_sigma(list(counts), failures, trials)
    busy = sum(b["busy_s"] for b in state.batches() if b.get("scale", 1.0) != 1.0)
    yield value_row("yield.scaled.core_s", machine, busy, found.n)
    if found.probability is None or found.interval is None:
        note(f"  scaled sigma: {found.refused}")
        return
    interval = PERCENT * (1 - found.interval[1]), PERCENT * (1 - found.interval[0])
    yield value_row(
        "yield.scaled.percent", machine, PERCENT * (1 - found.probability), found.n, interval=interval
    )  # fmt: skip


def speed_rows(net: Trained, simulator: Simulator, machine: str, flat_inputs: int, dies: int) -> Iterator[Row]:
    """Rows of 100 inputs and of 100 dies (50 trim and 50 test inputs each), against the flat deck input by input."""
    n, name = net.design.sizes.states, f"yield.speed.{net.design.sizes.states}"
    campaign = Campaign(net, 50, 50, simulator.klu)
    model, nominal = net.model(), net.lowered(simulator.klu)
    x = net.task.x_test
    inputs, h = model.inputs(x).numpy(), model.solve(x, domain_share=None).h.numpy()
    found: dict[str, np.ndarray] = {}

    def ours(count: int = 100) -> None:
        with tempfile.TemporaryDirectory() as folder:
            bed = Bed(simulator, Path(folder), 1, TIMEOUT_S)
            found["ours"] = run_sweeps([Sweep(nominal, inputs[:count], h[:count])], bed, Progress())[0].states.z

    def flat(network: Any, key: str, reltol: float = 1e-6) -> None:
        with tempfile.TemporaryDirectory() as folder:
            bed = Bed(simulator, Path(folder), 1, TIMEOUT_S)
            each = [Sweep(network, inputs[k : k + 1], h[k : k + 1]) for k in range(flat_inputs)]
            results = run_sweeps(each, bed, Progress(), flat=True, reltol=reltol)
            found[key] = np.concatenate([r.states.z for r in results])

    def our_dies() -> None:
        with tempfile.TemporaryDirectory() as folder:
            campaign.run(range(dies), 1.0, Bed(simulator, Path(folder), 1, TIMEOUT_S))

    die = draw_die(nominal, 0)
    sides = {"ours": ours, "flat": partial(flat, nominal, "flat"), "dies": our_dies,
             "flat_die": partial(flat, die, "flat_die")}  # fmt: skip
    seconds = interleave(sides, 2)
    per = (100 / 100, flat_inputs / 100)
    yield speed_row(f"{name}.s_per_100_inputs", machine, seconds["ours"], seconds["flat"], FLAT, per=per)
    per = (dies / 100, flat_inputs / (100 * 100))
    yield speed_row(f"{name}.s_per_100_dies", machine, seconds["dies"], seconds["flat_die"], FLAT, per=per)
    yield value_row(f"{name}.flat_inputs_timed", machine, flat_inputs, 2)
    yield value_row(f"{name}.dies_timed", machine, dies, 2)
    with tempfile.TemporaryDirectory() as folder:
        bed = Bed(simulator, Path(folder), 1, TIMEOUT_S)
        few = Sweep(nominal, inputs[:flat_inputs], h[:flat_inputs])
        tight = run_sweeps([few], bed, Progress(), reltol=TIGHT)[0].states.z
    flat(nominal, "tight", TIGHT)
    gap = float(np.abs(tight - found["tight"]).max())
    yield value_row(f"{name}.agreement.units", machine, gap, flat_inputs * n, bar=AGREE_BAR)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(__doc__ or "", "python benchmarks/yield_three_sigma.py --state dies.jsonl --parts count")
    add_count(made, "--dies", dies_needed(THREE_SIGMA), "counted dies")
    add_count(made, "--scaled-dies", 200, "dies at each wider mismatch")
    add_count(made, "--images", 50, "test images of a die")
    add_count(made, "--trim-images", 50, "training images a die is trimmed on")
    made.add_argument("--state", type=Path, default=Path("runs/yield_three_sigma.jsonl"), help="file of finished dies")
    made.add_argument("--checkpoint", type=Path, help="trained network; without it one is trained")
    made.add_argument("--proxy", type=Path, help="proxy.json of the checkpoint")
    made.add_argument("--parts", nargs="+", choices=("count", "scaled", "speed"), default=["count", "scaled", "speed"])
    add_count(made, "--seconds", 10**6, "start no batch of dies after this many")
    add_count(made, "--flat-inputs", 3, "inputs that the flat deck is timed on")
    add_count(made, "--timed-dies", 16, "dies that are timed")
    made.add_argument("--states", type=int, nargs="+", default=[32, 64], help="sizes whose cost is measured")
    options = made.parse_args(arguments)

    def rows() -> Iterator[Row]:
        torch.set_num_threads(1)
        simulator = find_simulator()
        machine = machine_name(simulator)
        net = network_of(options.checkpoint, options.proxy)
        campaign = Campaign(net, options.images, options.trim_images, simulator.klu)
        weights = "trained" if options.checkpoint is None else file_sha256(options.checkpoint)[:12]
        key = {"weights": weights, "seed": net.design.seed, "images": options.images, "trim": options.trim_images,
               "ngspice": simulator.version}  # fmt: skip
        state = State(options.state, key)
        if "count" in options.parts:
            note(f"{options.dies} dies x {options.images} images, trimmed on {options.trim_images}")
            simulate(state, campaign, simulator, {1.0: range(options.dies)}, options.seconds)
            yield from count_rows(state, campaign, machine)
        if "scaled" in options.parts:
            note(f"{options.scaled_dies} dies at each of {len(SCALES)} wider mismatches")
            ranges = {
                s: range(FIRST_SCALED * (k + 1), FIRST_SCALED * (k + 1) + options.scaled_dies)
                for k, s in enumerate(SCALES)
            }
            simulate(state, campaign, simulator, ranges, options.seconds)
            yield from scaled_rows(state, campaign, machine)
        for states in options.states if "speed" in options.parts else ():
            note(f"cost at {states} states")
            own = net.design.sizes.states == states
            sized = net if own else train(base_design(states, training={"steps": COST_STEPS}), reference_proxy())
            yield from speed_rows(sized, simulator, machine, options.flat_inputs, options.timed_dies)

    return show(rows(), options.json)


if __name__ == "__main__":
    sys.exit(main())
