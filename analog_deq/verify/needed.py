"""How many samples each claim of a limits file needs, said before anything is simulated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analog_deq.spec import VerifySpec
from analog_deq.statistics import dies_needed, paired_drop, samples_for_quantile, sequential_dies_needed
from analog_deq.statistics.normal import FEW_NORMALITY, THREE_SIGMA
from analog_deq.verify.cell_campaign import DIES as CELL_DIES
from analog_deq.verify.cell_rows import CELL_ROWS
from analog_deq.verify.cell_spread import CONFIDENCE
from analog_deq.verify.limits import LimitCheck, Limits
from analog_deq.verify.stopping import YIELDS

PERCENT = 100.0
LARGEST_DROP_SAMPLE = 10**5
QUANTILES = {"net.settle_p99": 0.99}
"""Rows that state a distribution-free upper bound of a quantile."""
SPREADS = frozenset(row.id for row in CELL_ROWS if row.statistic == "bound")
"""Rows that bound the magnitude of nearly all dies of a cell."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a claim needs at the best: samples without a fail, or without a label that differs.

    ``has`` is what the run will take, None where its check decides that; ``samples`` names them.
    """

    id: str
    claim: str
    samples: str
    needed: int
    has: int | None

    @property
    def enough(self) -> bool:
        """False when the claim cannot pass whatever is measured: it will be inconclusive."""
        return self.has is None or self.has >= self.needed

    def statement(self) -> str:
        """One sentence, as it is printed before the run."""
        text = f"{self.id}: {self.claim} needs {self.needed} {self.samples} at the best"
        if self.has is None:
            return f"{text}; its check says how many there are"
        ends = "" if self.enough else ": too few, it will be inconclusive"
        return f"{text}; this run has {self.has}{ends}"


def needs(limits: Limits, spec: VerifySpec, images: int, accuracy: float | None) -> tuple[Need, ...]:
    """A need for every judged row that states something of a population: yields, quantile bounds, intervals.

    ``images`` are the test samples, ``accuracy`` the share of them that software gets right, None for a regression.
    """
    found = [_need(row, limits, spec, images, accuracy) for row in limits.check if row.judged]
    return tuple(need for need in found if need is not None)


def _need(row: LimitCheck, limits: Limits, spec: VerifySpec, images: int, accuracy: float | None) -> Need | None:
    level = f"with {PERCENT * row.confidence:g} %"
    if row.judge == "yield" and row.min is not None:
        target = row.min / PERCENT
        claim = f">= {row.min:g} % {level}"
        if row.id in YIELDS:
            if limits.campaign.stop_early:
                needed = sequential_dies_needed(target, spec.dies, row.confidence)
                return Need(row.id, f"{claim}, stopping early,", "dies without a fail", needed, spec.dies)
            return Need(row.id, claim, "dies without a fail", dies_needed(target, row.confidence), spec.dies)
        known = images if row.id in {"net.class_agreement", "net.converged"} else None
        return Need(row.id, claim, "samples without a fail", dies_needed(target, row.confidence), known)
    if row.id in QUANTILES:
        q = QUANTILES[row.id]
        claim = f"a bound of the {PERCENT * q:g} % quantile {level}"
        return Need(row.id, claim, "settling times", samples_for_quantile(q, row.confidence), spec.transitions)
    if row.id in SPREADS:
        free = samples_for_quantile(THREE_SIGMA, (1 + CONFIDENCE) / 2)
        claim = f"a bound of {PERCENT * THREE_SIGMA:g} % of dies on either side with {PERCENT * CONFIDENCE:g} %"
        return Need(row.id, claim, f"dies that pass for normal (else {free})", FEW_NORMALITY, CELL_DIES)
    if row.id == "net.acc_drop" and row.judge == "interval" and row.max is not None and accuracy is not None:
        claim = f"<= {row.max:g} points {level}"
        return Need(row.id, claim, "inputs, no label differing,", inputs_for_drop(row.max / PERCENT, accuracy), images)
    return None


def inputs_for_drop(limit: float, accuracy: float) -> int:
    """Fewest inputs whose paired interval stays within ``limit`` when hardware and software never differ.

    ``accuracy`` is the share both get right. 100,000 when more would be needed.

    >>> inputs_for_drop(0.01, 0.95) <= 500 < inputs_for_drop(0.001, 0.95)
    True
    """

    def enough(n: int) -> bool:
        same = np.arange(n) < round(accuracy * n)
        return paired_drop(same, same).interval[1] <= limit

    low, high = 1, 2
    while high < LARGEST_DROP_SAMPLE and not enough(high):
        low, high = high, 2 * high
    if high >= LARGEST_DROP_SAMPLE:
        return LARGEST_DROP_SAMPLE
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
