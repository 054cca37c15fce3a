"""How often the stated intervals hold, and how often the gates pass what they should not: by simulation, at the n used.

A two-sided 95 % interval should hold in 93 to 97 of 100 repetitions; an exact one of a discrete count, and a one-sided
bound, in at least 95. A gate may pass a circuit that just misses its limit at most once in 20. Shares are summed over
all outcomes instead of drawn, so they have no error of their own. No simulator is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rows import Row, add_count, machine_name, note, parser, show
from scipy import stats

from analog_deq.statistics import (
    SequentialPlan,
    capability,
    clopper_pearson,
    clopper_pearson_lower,
    failure_shift,
    importance_sampling,
    mean_interval,
    paired_drop,
    quantile_interval,
    quantile_upper_bound,
    rms_increase,
    rms_interval,
    scaled_sigma,
    sd_interval,
    shifted_normals,
    tolerance_bound,
    wilson,
)

PERCENT = 100.0
LEVEL = 95.0
WIDTH = 2.0
"""Points that a two-sided interval's coverage may be off."""
Array = np.ndarray
Holds = Callable[[np.random.Generator], bool | None]


@dataclass(frozen=True, slots=True)
class Case:
    """One interval at one n: ``holds`` draws a sample and says whether the interval held; None when none was stated.

    ``exact_side``: at least the level is claimed, of a one-sided bound or of an interval of a few discrete events.
    ``unclaimed``: shown, nothing is claimed (samples that the interval's assumption excludes).
    """

    name: str
    holds: Holds
    exact_side: bool = False
    unclaimed: bool = False
    cost: int = 1
    """Repetitions are divided by this."""


def inside(interval: tuple[float, float] | None, truth: float) -> bool | None:
    """Whether the interval holds the truth."""
    return None if interval is None else interval[0] <= truth <= interval[1]


def simulated(case: Case, seed: int, repetitions: int, machine: str) -> Iterator[Row]:
    """Rows of a case: how often it held where it was stated, and how often nothing was stated, if ever."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(case.name.encode())))
    hits = [case.holds(rng) for _ in range(repetitions // case.cost)]
    stated = [hit for hit in hits if hit is not None]
    row = coverage_row(f"coverage.{case.name}.percent", machine, sum(stated), len(stated), case)
    yield row
    if len(stated) < len(hits):
        silent = PERCENT * (len(hits) - len(stated)) / len(hits)
        yield Row(f"coverage.{case.name}.not_stated_percent", silent, machine, n=len(hits))


def coverage_row(name: str, machine: str, held: int, n: int, case: Case) -> Row:
    """A coverage with its own 95 % interval, against the level."""
    value = PERCENT * held / n
    low, high = (PERCENT * edge for edge in clopper_pearson(held, n))
    fits = high >= LEVEL if case.exact_side else abs(value - LEVEL) <= WIDTH
    bar, holds = (None, None) if case.unclaimed else (LEVEL, fits)
    return Row(name, value, machine, bar=bar, holds=holds, n=n, spread={"ours": (low, high)})


# --- samples as the reports have them -------------------------------------------------------------------------------


def errors(rng: np.random.Generator, images: int) -> Array:
    """Errors (images, 32 nodes) whose scale differs from image to image, log-normal with sd 0.3."""
    return np.exp(0.3 * rng.standard_normal((images, 1))) * rng.standard_normal((images, 32))


ERROR_RMS = float(np.exp(0.3**2))
"""RMS of :func:`errors`: E exp(2 * 0.3 n) = exp(2 * 0.09), under the root."""


def labels(rng: np.random.Generator, n: int, lost: float, gained: float, right: float = 0.956) -> tuple[Array, Array]:
    """Right or wrong in software and hardware (n,); a share ``lost`` of all is right only in software."""
    u = rng.random(n)
    software = u < right
    hardware = software & (u >= lost) | (u >= right) & (u < right + gained)
    return software, hardware


def die_labels(rng: np.random.Generator, dies: int, images: int) -> tuple[Array, Array, Array]:
    """Labels of nested inputs: each die loses its own share, Beta(1, 49) (mean 2 %)."""
    die = np.repeat(np.arange(dies), images)
    software = rng.random(die.size) < 0.956
    hardware = software & (rng.random(die.size) >= rng.beta(1, 49, dies)[die])
    return software, hardware, die


def drop_holds(n: int, lost: float, gained: float) -> Holds:
    return lambda rng: inside(paired_drop(*labels(rng, n, lost, gained)).interval, lost - gained)


def die_drop_holds(dies: int, images: int) -> Holds:
    def holds(rng: np.random.Generator) -> bool | None:
        software, hardware, die = die_labels(rng, dies, images)
        return inside(paired_drop(software, hardware, die=die, generator=rng).interval, 0.956 / 50)

    return holds


def tolerance_holds(n: int, draw: Callable[[np.random.Generator, int], Array], truth: float) -> Holds:
    def holds(rng: np.random.Generator) -> bool | None:
        bound = tolerance_bound(draw(rng, n))
        return None if bound is None else bound.value >= truth

    return holds


def capability_holds(n: int) -> Holds:
    def holds(rng: np.random.Generator) -> bool | None:
        lower = capability(rng.standard_normal(n), -4.0, 4.0).lower
        return None if lower is None else lower <= 4.0 / 3.0

    return holds


def student(rng: np.random.Generator, n: int) -> Array:
    """Samples (n,) with heavier tails than normal ones."""
    return rng.standard_t(5, n)


def skewed(rng: np.random.Generator, n: int) -> Array:
    """Samples (n,) that lean to one side, log-normal with sd 0.25."""
    return np.exp(0.25 * rng.standard_normal(n))


def quantile_holds(n: int, q: float) -> Holds:
    def holds(rng: np.random.Generator) -> bool | None:
        bound = quantile_upper_bound(rng.exponential(size=n), q)
        return None if bound is None else bound >= float(stats.expon.ppf(q))

    return holds


def rms_change_holds(n: int) -> Holds:
    def holds(rng: np.random.Generator) -> bool | None:
        base = errors(rng, n)
        more = base + 0.5 * rng.standard_normal(base.shape)
        truth = float(np.sqrt(ERROR_RMS**2 + 0.25)) - ERROR_RMS
        return inside(rms_increase(more, base, rng)[1], truth)

    return holds


def importance_holds(beta: float, dimension: int = 40) -> Holds:
    """A linear failure beyond ``beta`` sigma, whose exact probability is the normal tail."""
    a = np.full(dimension, dimension**-0.5)

    def holds(rng: np.random.Generator) -> bool | None:
        shift = failure_shift(lambda x: beta - x @ a, dimension, rng)
        x, log_weight = shifted_normals(rng, 2000, shift)
        return inside(importance_sampling(x @ a > beta, log_weight).interval, float(stats.norm.sf(beta)))

    return holds


def scaled_holds(beta: float, scales: Sequence[float] = (1.5, 2.0, 2.5, 3.0), n: int = 500) -> Holds:
    """The same failure from counts of wider samples."""

    def holds(rng: np.random.Generator) -> bool | None:
        counts = [int(rng.binomial(n, stats.norm.sf(beta / s))) for s in scales]
        return inside(scaled_sigma(scales, counts, [n] * len(scales)).interval, float(stats.norm.sf(beta)))

    return holds


def cases() -> tuple[Case, ...]:
    """Every interval of the reports, at the n of the shipped designs."""
    three = float(stats.norm.ppf(0.99865))
    normal = np.random.Generator.standard_normal
    return (
        Case("mean.normal_20", lambda rng: inside(mean_interval(rng.standard_normal(20)), 0.0)),
        Case("mean.exponential_20", lambda rng: inside(mean_interval(rng.exponential(size=20)), 1.0), unclaimed=True),
        Case("sd.normal_100", lambda rng: inside(sd_interval(rng.standard_normal(100)), 1.0)),
        Case("sd.normal_30", lambda rng: inside(sd_interval(rng.standard_normal(30)), 1.0)),
        Case("rms.images_500", lambda rng: inside(rms_interval(errors(rng, 500), rng), ERROR_RMS), cost=4),
        Case("rms.images_100", lambda rng: inside(rms_interval(errors(rng, 100), rng), ERROR_RMS), cost=2),
        Case("rms_increase.samples_300", rms_change_holds(300), cost=4),
        Case("drop.images_500_lost_1_percent", drop_holds(500, 0.01, 0.0), exact_side=True),  # 5 labels differ
        Case("drop.images_500_lost_1.5_gained_0.5_percent", drop_holds(500, 0.015, 0.005), exact_side=True),
        Case("drop.images_500_lost_5_gained_2_percent", drop_holds(500, 0.05, 0.02)),
        Case("drop.dies_100_images_50", die_drop_holds(100, 50), cost=2),
        Case("drop.dies_20_images_50", die_drop_holds(20, 50), cost=2),
        Case("drop.dies_6_images_50", die_drop_holds(6, 50), cost=2),
        Case("median.n_60", lambda rng: inside(quantile_interval(rng.exponential(size=60), 0.5), float(np.log(2))),
             exact_side=True),
        Case("quantile_upper.p95_n_100", quantile_holds(100, 0.95), exact_side=True),
        Case("quantile_upper.p99_n_500", quantile_holds(500, 0.99), exact_side=True),
        Case("tolerance.normal_30", tolerance_holds(30, normal, three), exact_side=True),
        Case("tolerance.normal_100", tolerance_holds(100, normal, three), exact_side=True),
        Case("tolerance.normal_300", tolerance_holds(300, normal, three), exact_side=True),
        *(Case(f"tolerance.student5_{n}", tolerance_holds(n, student, float(stats.t.ppf(0.99865, 5))), unclaimed=True)
          for n in (100, 300)),
        *(Case(f"tolerance.lognormal_{n}", tolerance_holds(n, skewed, float(np.exp(0.25 * three))), unclaimed=True)
          for n in (100, 300)),
        Case("importance_sampling.linear_4_sigma", importance_holds(4.0), cost=4),
        Case("scaled_sigma.linear_3_sigma", scaled_holds(3.0), cost=8),
        Case("scaled_sigma.linear_3.5_sigma", scaled_holds(3.5), cost=8),
        Case("capability.normal_100", capability_holds(100), exact_side=True),
    )  # fmt: skip


# --- shares: summed over all outcomes -------------------------------------------------------------------------------


def share_coverage(interval: Callable[[int, int], tuple[float, float]], n: int, shares: Array) -> Array:
    """Probability (shares,) that the interval of a share holds it, exactly."""
    k = np.arange(n + 1)
    edges = np.array([interval(int(i), n) for i in k])
    held = (edges[:, 0] <= shares[:, None]) & (shares[:, None] <= edges[:, 1])
    return np.asarray((stats.binom.pmf(k, n, shares[:, None]) * held).sum(axis=1))


def share_rows(machine: str) -> Iterator[Row]:
    """Least and mean coverage of the intervals of a share, over true shares from 80 to 99.5 %."""
    shares = np.linspace(0.80, 0.995, 400)
    for n in (60, 100, 500):
        for name, interval in (("wilson", wilson), ("clopper_pearson", clopper_pearson)):
            coverage = PERCENT * share_coverage(interval, n, shares)
            spread = {"ours": (float(coverage.min()), float(coverage.max()))}
            mean, exact = float(coverage.mean()), name == "clopper_pearson"
            holds = coverage.min() >= LEVEL if exact else abs(mean - LEVEL) <= WIDTH
            yield Row(
                f"coverage.{name}.n_{n}.percent", mean, machine, bar=LEVEL, holds=bool(holds), n=len(shares),
                spread=spread,
            )  # fmt: skip


def gate_rows(machine: str) -> Iterator[Row]:
    """Probability that a yield gate passes a circuit whose yield is just its limit: the most over all it must stop."""
    for limit, n in ((90.0, 60), (90.0, 100), (98.0, 500), (99.0, 299), (99.865, 2218), (99.865, 4000)):
        share = limit / PERCENT
        k = np.arange(n + 1)
        passes = np.array([clopper_pearson_lower(int(i), n) >= share for i in k])
        wrong = PERCENT * float(stats.binom.pmf(k, n, share)[passes].sum())
        yield Row(f"gate.yield_{limit:g}.n_{n}.false_pass_percent", wrong, machine, bar=5.0, holds=wrong <= 5.0, n=1)


def drop_gate_rows(seed: int, repetitions: int, machine: str) -> Iterator[Row]:
    """Share of networks that lose exactly the limit of 1 point and whose interval stays within it."""
    for lost, gained in ((0.01, 0.0), (0.015, 0.005), (0.03, 0.02)):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(1e4 * lost),)))
        passed = sum(paired_drop(*labels(rng, 500, lost, gained)).interval[1] <= 0.01 for _ in range(repetitions))
        wrong = PERCENT * passed / repetitions
        low, high = (PERCENT * edge for edge in clopper_pearson(passed, repetitions))
        name = f"gate.drop_1_point.images_500_lost_{PERCENT * lost:g}_percent.false_pass_percent"
        yield Row(name, wrong, machine, bar=5.0, holds=low <= 5.0, n=repetitions, spread={"ours": (low, high)})


def sequential_rows(seed: int, repetitions: int, machine: str) -> Iterator[Row]:
    """A yield judged at 20 looks: wrong passes and fails at the limit, exactly and drawn, and dies until decided."""
    for target, dies in ((0.9, 100), (0.98, 500), (0.99, 600), (0.99865, 4000)):
        plan, name = SequentialPlan.of(target, dies), f"sequential.yield_{PERCENT * target:g}.planned_{dies}"
        wrong_pass, wrong_fail, _ = plan.decided(target)
        for what, share in (("false_pass", wrong_pass), ("false_fail", wrong_fail)):
            yield Row(f"{name}.{what}_percent", PERCENT * share, machine, bar=5.0, holds=share <= 0.05)
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(dies,)))
        drawn = [plan.judge(rng.random(dies) < target) for _ in range(repetitions)]
        passed = sum(r.decision == "pass" for r in drawn)
        low, high = (PERCENT * edge for edge in clopper_pearson(passed, repetitions))
        yield Row(f"{name}.drawn_false_pass_percent", PERCENT * passed / repetitions, machine, bar=5.0,
                  holds=low <= 5.0, n=repetitions, spread={"ours": (low, high)})  # fmt: skip
        better = 1 - (1 - target) / 4
        passing, _, mean = plan.decided(better)
        k = np.arange(dies + 1)
        fixed = np.array([clopper_pearson_lower(int(i), dies) >= target for i in k])
        alone = float(stats.binom.pmf(k, dies, better)[fixed].sum())
        yield Row(f"{name}.quarter_of_the_fails.pass_percent", PERCENT * passing, machine)
        yield Row(f"{name}.quarter_of_the_fails.fixed_number_pass_percent", PERCENT * alone, machine)
        yield Row(f"{name}.quarter_of_the_fails.mean_dies", mean, machine)
        yield Row(f"{name}.no_fail.dies", float(plan.fewest_to_pass or -1), machine)
        plain = np.array([clopper_pearson_lower(i, n) >= target for n in plan.looks for i in range(n + 1)])
        start = np.concatenate([[0], np.cumsum([n + 1 for n in plan.looks])])
        peeked = 0
        for _ in range(repetitions):
            passes = np.cumsum(rng.random(dies) < target)
            peeked += any(plain[start[j] + passes[n - 1]] for j, n in enumerate(plan.looks))
        low, high = (PERCENT * edge for edge in clopper_pearson(peeked, repetitions))
        yield Row(f"{name}.plain_bound_at_every_look.false_pass_percent", PERCENT * peeked / repetitions, machine,
                  n=repetitions, spread={"ours": (low, high)})  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(__doc__ or "", "python benchmarks/coverage.py --repetitions 4000 --seed 1")
    add_count(made, "--repetitions", 4000, "samples drawn for each interval, fewer for bootstraps")
    add_count(made, "--seed", 1, "seed of all draws")
    options = made.parse_args(arguments)

    def rows() -> Iterator[Row]:
        machine = machine_name()
        yield from share_rows(machine)
        yield from gate_rows(machine)
        yield from sequential_rows(options.seed, options.repetitions, machine)
        yield from drop_gate_rows(options.seed, options.repetitions, machine)
        for case in cases():
            note(case.name)
            yield from simulated(case, options.seed, options.repetitions, machine)

    return show(rows(), options.json)


if __name__ == "__main__":
    sys.exit(main())
