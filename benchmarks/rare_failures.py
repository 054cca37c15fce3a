"""Rare failures of the digits network in ngspice: importance and scaled-sigma sampling against brute force.

The failure: one test image gets another label on a mismatch die without trim. A pilot of whole dies finds, for each
image, how many standard deviations its lead over the next label is worth. Of one image that flips on a few dies in a
thousand the share is counted, and estimated by both methods; of one that flips far more rarely only estimated. The
shift of the op-amp offsets comes from a regression on the pilot; all other mismatch is drawn as it is.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rows import Row, add_count, machine_name, note, parser, show, value_row
from scipy import stats
from trained_digits import Trained, network_of

from analog_deq.draws import Stream, generator
from analog_deq.records import Progress
from analog_deq.spice.simulator import find_simulator
from analog_deq.statistics import (
    RareEstimate,
    clopper_pearson,
    importance_sampling,
    scaled_sigma,
    shifted_normals,
)
from analog_deq.verify.dies import draw_die
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sweeps import Bed, Sweep, run_sweeps

PERCENT = 100.0
OFFSET = "opamp.vos"
BETAS = (2.6, 3.6)
"""Leads of the two images, in standard deviations: about 5 and 0.2 flips in a thousand dies."""
SCALES = (1.25, 1.5, 2.0, 2.5, 3.0)
RIDGE = 0.1
DEFENSIVE = 0.1
FIRST = {"pilot": 0, "brute": 10**4, "importance": 10**5, "scaled": 10**6}
"""First die of each part: no die is used twice."""
TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Lab:
    """The network, its test images as DAC outputs ``x`` and pre-activations ``h``, its labels, and where to run."""

    net: Trained
    nominal: LoweredNetwork
    x: np.ndarray
    h: np.ndarray
    labels: np.ndarray
    bed: Bed

    @classmethod
    def of(cls, net: Trained, bed: Bed) -> Lab:
        model = net.model()
        solved = model.solve(net.task.x_test, domain_share=None)
        labels = net.readout.predict(solved.reading).numpy()
        x = model.inputs(net.task.x_test).numpy()
        return cls(net, net.lowered(bed.simulator.klu), x, solved.h.numpy(), labels, bed)

    def leads(self, dies: Sequence[LoweredNetwork], images: np.ndarray) -> np.ndarray:
        """Lead (dies, images) of the label that the nominal network gives over the next; -inf where it failed."""
        results = run_sweeps([Sweep(die, self.x[images], self.h[images]) for die in dies], self.bed, Progress())
        rows = []
        for result in results:
            outputs = self.net.readout.outputs(torch.as_tensor(np.nan_to_num(result.states.z))).numpy()
            own = outputs[np.arange(len(images)), self.labels[images]]
            others = outputs.copy()
            others[np.arange(len(images)), self.labels[images]] = -np.inf
            rows.append(np.where(result.ok, own - others.max(axis=1), -np.inf))
        return np.array(rows)

    def with_offsets(self, die: int, offsets: np.ndarray) -> LoweredNetwork:
        """A die with offsets (N,) in standard deviations instead of its own."""
        drawn = draw_die(self.nominal, die)
        return replace(drawn, deviations={**drawn.deviations, OFFSET: self.sigma * offsets})

    @property
    def sigma(self) -> float:
        """Volts of one standard deviation of an op-amp's offset."""
        return self.net.cells.mismatch()[OFFSET]


@dataclass(frozen=True, slots=True)
class Target:
    """An image, its lead in standard deviations, and the likeliest offsets (N,) where its label flips."""

    image: int
    beta: float
    shift: np.ndarray


def pilot(lab: Lab, dies: int, images: int) -> tuple[Target, ...]:
    """Targets near ``BETAS`` among the first images, from dies drawn as they are."""
    drawn = [draw_die(lab.nominal, FIRST["pilot"] + k) for k in range(dies)]
    offsets = np.array([die.deviations[OFFSET] for die in drawn]) / lab.sigma
    leads = lab.leads(drawn, np.arange(images))
    usable = np.isfinite(leads).all(axis=0)
    beta = np.where(usable, leads.mean(axis=0) / leads.std(axis=0, ddof=1), -1.0)
    found = []
    for wanted in BETAS:
        image = int(np.argmin(np.abs(beta - wanted)))
        lead = leads[:, image]
        # slopes of the lead in the offsets; the ridge keeps a pilot of few dies from inventing any
        normal = offsets.T @ offsets + RIDGE * dies * np.eye(offsets.shape[1])
        slope = np.linalg.solve(normal, offsets.T @ (lead - lead.mean()))
        # the likeliest flip: what the offsets' share of the spread has to do, the rest is left to the other mismatch
        found.append(Target(image, float(beta[image]), -float(lead.mean()) * slope / float(lead.var(ddof=1))))
    return tuple(found)


def estimate_rows(
    name: str, found: RareEstimate, seconds: float, truth: tuple[int, int] | None, machine: str
) -> Iterator[Row]:
    """Rows of an estimate: its value, its effective failures, its cost, and whether it agrees with brute force."""
    yield value_row(f"{name}.wall_s", machine, seconds, found.n)
    if found.probability is None or found.interval is None:
        note(f"  {name}: {found.refused}")
        return
    interval = PERCENT * found.interval[0], PERCENT * found.interval[1]
    yield value_row(f"{name}.percent", machine, PERCENT * found.probability, found.n, interval=interval)
    yield value_row(f"{name}.effective_failures", machine, found.effective, found.failures)
    if truth is None:
        return
    # the difference of the logarithms over its standard error; both errors are those of the logarithm
    k, n = truth
    spread = np.log(found.interval[1] / found.interval[0]) / (2 * stats.norm.ppf(0.975))
    z = abs(np.log(found.probability * n / k)) / np.hypot(spread, np.sqrt(1 / k))
    yield value_row(f"{name}.off_brute_force_sigmas", machine, float(z), n, bar=2.0)


def study(lab: Lab, options: dict[str, int], machine: str) -> Iterator[Row]:
    """Rows of both targets."""
    note(f"pilot of {options['pilot']} dies")
    targets = pilot(lab, options["pilot"], options["pilot_images"])
    for k, target in enumerate(targets):
        name, image = f"rare.image_{target.image}", np.array([target.image])
        yield value_row(f"{name}.lead_sigmas", machine, target.beta, options["pilot"])
        counted = None
        if k == 0:
            note(f"brute force: {options['brute']} dies")
            start = time.perf_counter()
            failed = 0
            for first in range(0, options["brute"], 200):
                span = range(first, min(first + 200, options["brute"]))
                dies = [draw_die(lab.nominal, FIRST["brute"] + die) for die in span]
                failed += int(np.sum(lab.leads(dies, image) <= 0))
            counted = (failed, options["brute"])
            low, high = clopper_pearson(*counted)
            yield value_row(f"{name}.brute_force.wall_s", machine, time.perf_counter() - start, options["brute"])
            yield value_row(f"{name}.brute_force.percent", machine, PERCENT * failed / options["brute"],
                            options["brute"], interval=(PERCENT * low, PERCENT * high))  # fmt: skip
        note(f"importance sampling: {options['importance']} dies")
        start = time.perf_counter()
        rng = generator(lab.net.design.seed, Stream.STATISTICS, 100 + k)
        x, log_weight = shifted_normals(rng, options["importance"], target.shift, defensive=DEFENSIVE)
        dies = [lab.with_offsets(FIRST["importance"] * (k + 1) + i, row) for i, row in enumerate(x)]
        failing = lab.leads(dies, image)[:, 0] <= 0
        yield from estimate_rows(
            f"{name}.importance",
            importance_sampling(failing, log_weight),
            time.perf_counter() - start,
            counted,
            machine,
        )
        note(f"scaled sigma: {options['scaled']} dies at each of {len(SCALES)} scales")
        start, failures = time.perf_counter(), []
        for j, scale in enumerate(SCALES):
            base = FIRST["scaled"] * (len(SCALES) * k + j + 1)
            dies = [draw_die(lab.nominal, base + i, scale) for i in range(options["scaled"])]
            failures.append(int(np.sum(lab.leads(dies, image) <= 0)))
        estimate = scaled_sigma(SCALES, failures, [options["scaled"]] * len(SCALES))
        yield from estimate_rows(f"{name}.scaled", estimate, time.perf_counter() - start, counted, machine)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(__doc__ or "", "python benchmarks/rare_failures.py --brute 2000")
    add_count(made, "--pilot", 120, "dies of the pilot")
    add_count(made, "--pilot-images", 128, "images of each")
    add_count(made, "--brute", 2000, "dies counted")
    add_count(made, "--importance", 600, "importance-sampled dies")
    add_count(made, "--scaled", 300, "dies at each wider mismatch")
    made.add_argument("--checkpoint", type=Path, help="trained network; without it one is trained")
    made.add_argument("--proxy", type=Path, help="proxy.json of the checkpoint")
    options = made.parse_args(arguments)

    def rows() -> Iterator[Row]:
        torch.set_num_threads(1)
        simulator = find_simulator()
        machine = machine_name(simulator)
        net = network_of(options.checkpoint, options.proxy)
        counts = {name: getattr(options, name) for name in ("pilot", "pilot_images", "brute", "importance", "scaled")}
        with tempfile.TemporaryDirectory() as folder:
            yield from study(Lab.of(net, Bed(simulator, Path(folder), 1, TIMEOUT_S)), counts, machine)

    return show(rows(), options.json)


if __name__ == "__main__":
    sys.exit(main())
