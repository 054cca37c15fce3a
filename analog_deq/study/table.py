"""Means over seeds with their t intervals, paired differences, targets, and all of it as Markdown.

The unit of replication is the seed: it changes the task instance, the start weights and the die at once. Differences
are paired by seed. Intervals are 95 %, not corrected for how many are shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analog_deq.records import OK
from analog_deq.statistics import Interval, mean_interval
from analog_deq.study.campaign import EarlyRow, Row, SpotRow, early_networks
from analog_deq.study.methods import METHODS
from analog_deq.study.plan import PAIRS, POINTS, READ_TIMES_TAU, TARGETS, TASKS, methods_at


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean over ``n`` seeds with its interval (None for one seed)."""

    value: float
    interval: Interval | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """Mean of at least one value."""
        return cls(sum(values) / len(values), mean_interval(values) if len(values) > 1 else None, len(values))

    @property
    def half(self) -> float:
        """Half the width of the interval; NaN without one."""
        return float("nan") if self.interval is None else (self.interval[1] - self.interval[0]) / 2

    def __str__(self) -> str:
        return f"{self.value:.4f}" + self._spread

    @property
    def signed(self) -> str:
        """As text with a sign, for a difference."""
        return f"{self.value:+.4f}" + self._spread

    @property
    def _spread(self) -> str:
        return "" if self.interval is None else f" ±{self.half:.4f}"


def by_seed(rows: Sequence[Row], task: str, point: str, method: str) -> dict[int, Row]:
    """Valid rows of one method, by seed."""
    return {
        row.seed: row for row in rows if (row.task, row.point, row.method) == (task, point, method) and row.status == OK
    }


def spice_mean(rows: Sequence[Row], task: str, point: str, method: str) -> Mean | None:
    """Mean error in ngspice; None when no seed has one."""
    values = [row.spice for row in by_seed(rows, task, point, method).values() if row.spice is not None]
    return Mean.of(values) if values else None


def paired(rows: Sequence[Row], task: str, point: str, a: str, b: str) -> Mean | None:
    """Mean of the error of ``a`` minus that of ``b`` in ngspice, over the seeds that have both; None without any."""
    left, right = (by_seed(rows, task, point, method) for method in (a, b))
    shared = sorted(left.keys() & right.keys())
    values = [(left[s].spice or 0.0) - (right[s].spice or 0.0) for s in shared]
    return Mean.of(values) if values else None


def method_table(rows: Sequence[Row], task: str) -> Iterator[str]:
    """Markdown: error of each method at each point, in ngspice and on the proxy of the same die; seeds by point."""
    points = [p for p in POINTS.values() if any(r.task == task and r.point == p.name for r in rows)]
    yield "| method | " + " | ".join(f"{p.name}, ngspice | proxy" for p in points) + " | seeds |"
    yield "|---" + "|---|---" * len(points) + "|---|"
    run = {name for p in points for name in methods_at(task, p)}
    for method in (name for name in METHODS if name in run):
        cells, counts = [], []
        for point in points:
            found = by_seed(rows, task, point.name, method).values()
            if not found:
                cells += ["", ""]
                counts.append("-")
                continue
            counts.append(str(len(found)))
            cells += [
                str(Mean.of([r.spice or 0.0 for r in found])),
                f"{Mean.of([r.proxy or 0.0 for r in found]).value:.4f}",
            ]
        yield f"| {method} | " + " | ".join(cells) + f" | {' / '.join(counts)} |"


def pair_table(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown: every paired difference, and whether its interval leaves 0 out."""
    yield "| task | point | a - b | difference | n | verdict |"
    yield "|---|---|---|---|---|---|"
    for pair in PAIRS:
        mean = paired(rows, pair.task, pair.point, pair.a, pair.b)
        if mean is None:
            continue
        verdict = direction(mean)
        if pair.claimed and mean.n > 1:
            verdict = f"**{verdict}** (claim {'holds' if verdict == 'better' else 'does not hold'})"
        yield f"| {pair.task} | {pair.point} | ({pair.a}) - ({pair.b}) | {mean.signed} | {mean.n} | {verdict} |"


def direction(mean: Mean) -> str:
    """``better`` (the error is smaller), ``worse``, or ``no difference shown``; ``one seed`` has no interval."""
    if mean.interval is None:
        return "one seed"
    if mean.interval[0] <= 0.0 <= mean.interval[1]:
        return "no difference shown"
    return "better" if mean.value < 0 else "worse"


def target_table(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown: the targets and what was reached."""
    yield "| task | point | method | target | reached in ngspice | n | holds |"
    yield "|---|---|---|---|---|---|---|"
    for target in TARGETS:
        mean = spice_mean(rows, target.task, target.point, target.method)
        if mean is not None:
            yield (
                f"| {target.task} | {target.point} | {target.method} | {target.error:g} | {mean} | {mean.n} | "
                f"{'yes' if mean.value <= target.error else 'NO'} |"
            )


def early_table(rows: Sequence[EarlyRow], task: str, *, refit: bool) -> Iterator[str]:
    """Markdown: error by read time on the nominal proxy, raw or with the readout refitted at that time."""
    yield "| network | " + " | ".join(f"{tau:g} tau" for tau in READ_TIMES_TAU) + " | settled | n |"
    yield "|---" * (len(READ_TIMES_TAU) + 3) + "|"
    for name in early_networks():
        found = [row for row in rows if (row.task, row.network) == (task, name)]
        if found:
            columns = zip(*(row.refit if refit else row.raw for row in found), strict=True)
            yield f"| {name} | " + " | ".join(str(Mean.of(column)) for column in columns) + f" | {len(found)} |"


def early_pairs(rows: Sequence[EarlyRow], task: str) -> Iterator[str]:
    """Markdown: what training for a read time gains there, and what it costs at the equilibrium; paired by seed."""
    yield "| read at | own readout: window - proxy | refitted: window - naive | settled, own readout | n |"
    yield "|---|---|---|---|---|"
    found = {(row.network, row.seed): row for row in rows if row.task == task}
    for k, tau in enumerate(READ_TIMES_TAU):
        name = f"window {tau:g}"
        seeds = [s for (network, s) in found if network == name and ("naive", s) in found and ("proxy", s) in found]
        if seeds:
            window, proxy, naive = ([found[key, s] for s in seeds] for key in (name, "proxy", "naive"))
            gain = Mean.of([a.raw[k] - b.raw[k] for a, b in zip(window, proxy, strict=True)])
            refit = Mean.of([a.refit[k] - b.refit[k] for a, b in zip(window, naive, strict=True)])
            cost = Mean.of([a.raw[-1] - b.raw[-1] for a, b in zip(window, proxy, strict=True)])
            yield f"| {tau:g} tau | {gain.signed} | {refit.signed} | {cost.signed} | {len(seeds)} |"


def spot_table(rows: Sequence[SpotRow]) -> Iterator[str]:
    """Markdown: transients in ngspice beside the proxy's trajectories."""
    yield "| task | network | seed | largest distance of a reading | error, ngspice | proxy | samples |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        yield (
            f"| {row.task} | {row.network} | {row.seed} | {row.largest:.4f} | {row.spice:.4f} | {row.proxy:.4f} | "
            f"{row.n} |"
        )


def lost_table(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown: what has no result or lost test samples; nothing when all is well."""
    lost = [row for row in rows if row.status != OK or row.failed]
    for row in lost:
        yield f"- {row.task} {row.point} {row.method}, seed {row.seed}: {row.failed} samples lost; {row.status}"


def report(rows: Sequence[Row], early: Sequence[EarlyRow], spots: Sequence[SpotRow]) -> str:
    """The whole result as Markdown."""
    lines: list[str] = []
    for task in TASKS:
        if any(row.task == task for row in rows):
            lines += [f"### {task}: relative RMS error", "", *method_table(rows, task), ""]
    lines += ["### Targets", "", *target_table(rows), "", "### Paired differences", "", *pair_table(rows), ""]
    for task in dict.fromkeys(row.task for row in early):
        lines += [f"### {task}: read before it settles", "", "Own readout:", "", *early_table(early, task, refit=False)]
        lines += ["", "Readout refitted at the read time:", "", *early_table(early, task, refit=True), ""]
        lines += ["Paired differences:", "", *early_pairs(early, task), ""]
    if spots:
        lines += ["### Transients in ngspice", "", *spot_table(spots), ""]
    lines += ["### Lost samples and runs", "", *(list(lost_table(rows)) or ["None."]), ""]
    return "\n".join(lines)
