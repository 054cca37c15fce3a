"""What each cause costs, from the shares of its game: %FS and points, with intervals, ranked by what to fix first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analog_deq.attribution.causes import Cause, Group
from analog_deq.attribution.shapley import Shares

Array = np.ndarray
Interval = tuple[float, float]
CONFIDENCE = 0.95

FRAME_COLUMNS = (
    "cause", "group", "share_fs", "share_fs_low", "share_fs_high", "alone_fs", "buys_fs", "points", "points_low",
    "points_high", "buys_points", "n", "sampling_se_fs2", "what", "fix",
)  # fmt: skip


def signed_root(square: float) -> float:
    """Root of a mean square, negative for a negative one: a cause that takes error away."""
    return float(np.sign(square) * np.sqrt(abs(square)))


@dataclass(frozen=True, slots=True)
class Cost:
    """One cause's cost in its group.

    ``share`` is its Shapley share of the mean squared state error (%FS^2) and of the loss (points, or %^2 of a
    regression), with 95 % intervals over ``n`` dies or images; ``alone`` what it adds to nothing, ``last`` what
    switching it off takes from everything. ``buys_fs`` is the RMS state error that is gone with it.
    """

    cause: Cause
    share: tuple[float, float]
    low: tuple[float, float]
    high: tuple[float, float]
    alone: tuple[float, float]
    last: tuple[float, float]
    buys_fs: float
    n: int
    sampling_se: tuple[float, float] = (0.0, 0.0)

    @property
    def share_fs(self) -> float:
        """Root of the share, %FS."""
        return signed_root(self.share[0])

    @property
    def interval_fs(self) -> Interval:
        """Its interval, %FS."""
        return signed_root(self.low[0]), signed_root(self.high[0])

    @property
    def points(self) -> float:
        """Share of the loss: points of accuracy, or the root of a regression's %^2."""
        return self.share[1]


@dataclass(frozen=True, slots=True)
class GroupCosts:
    """The causes of one group: ``total_fs`` is the RMS state error of all together, ``total_points`` their loss.

    ``against`` says what the errors are distances from. The shares of ``costs`` add up to the squares of the total.
    """

    group: Group
    against: str
    costs: tuple[Cost, ...]
    total_fs: float
    total_points: float
    exact: bool
    evaluations: int


def group_costs(group: Group, against: str, causes: Sequence[Cause], shares: Shares, *, labels: int = 0) -> GroupCosts:
    """Costs of ``causes`` from the shares of their game, whose metrics are the state error and the loss.

    ``labels`` counts the labels behind a unit's loss (0: a regression's): what so few cannot show is in the interval.
    """
    by_name = {cause.name: cause for cause in causes}
    total = shares.everyone.mean(axis=0)
    costs = []
    for k, name in enumerate(shares.players):
        share, low, high = _mean_interval(shares.phi[k], shares.sampling_se[k])
        if labels:
            unseen = _unseen_points(labels * shares.phi.shape[1])
            low[1], high[1] = min(low[1], share[1] - unseen), max(high[1], share[1] + unseen)
        last = shares.last[k].mean(axis=0)
        without = np.sqrt(max(total[0] - last[0], 0.0))
        costs.append(
            Cost(
                by_name[name], _pair(share), _pair(low), _pair(high), _pair(shares.first[k].mean(axis=0)), _pair(last),
                float(np.sqrt(total[0]) - without), shares.phi.shape[1], _pair(shares.sampling_se[k]),
            )
        )  # fmt: skip
    lost = float(total[1] - shares.none.mean(axis=0)[1])
    return GroupCosts(group, against, tuple(costs), float(np.sqrt(total[0])), lost, shares.exact, shares.evaluations)


def _unseen_points(labels: int) -> float:
    """Points that may change without any of so many labels showing it, at 97.5 % one-sided: 3.7 in n."""
    return 100.0 * float(1 - (0.5 - CONFIDENCE / 2) ** (1 / labels))


def _mean_interval(per_unit: Array, sampling_se: Array) -> tuple[Array, Array, Array]:
    """Mean (metrics,) over units and its t interval, widened by the error of sampling orders."""
    n = len(per_unit)
    mean = per_unit.mean(axis=0)
    if n < 2:
        return mean, np.full_like(mean, -np.inf), np.full_like(mean, np.inf)
    error = np.hypot(per_unit.std(axis=0, ddof=1) / np.sqrt(n), sampling_se)
    half = stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1) * error
    return mean, mean - half, mean + half


def _pair(values: Array) -> tuple[float, float]:
    return float(values[0]), float(values[1])


@dataclass(frozen=True, slots=True)
class Attribution:
    """Costs of all causes by group, and the untrimmed dies' error for comparison (%FS, None without dies)."""

    groups: tuple[GroupCosts, ...]
    untrimmed_fs: float | None = None

    def group(self, name: Group) -> GroupCosts | None:
        """Costs of one group; None when it was not worked out."""
        return next((g for g in self.groups if g.group == name), None)

    @property
    def to_fix(self) -> tuple[Cost, ...]:
        """Causes that training does not know, the dearest first: shares of the distance from what software promises."""
        costs = [cost for g in self.groups if g.group != "design" for cost in g.costs]
        return tuple(sorted(costs, key=lambda cost: -cost.share[0]))

    @property
    def known(self) -> tuple[Cost, ...]:
        """Nominal causes that training fits the weights to, the largest first."""
        found = self.group("design")
        return () if found is None else tuple(sorted(found.costs, key=lambda cost: -abs(cost.share[0])))

    @property
    def delivered_fs(self) -> float:
        """RMS distance of a state that is read from what software promises, %FS, the groups being independent."""
        return float(np.sqrt(sum(g.total_fs**2 for g in self.groups if g.group != "design")))

    def left_without(self, cost: Cost) -> float:
        """That distance with one cause's share gone, %FS."""
        return float(np.sqrt(max(self.delivered_fs**2 - cost.share[0], 0.0)))

    def frame(self) -> pd.DataFrame:
        """One row a cause, those to fix first on top: %FS, and points of accuracy (a regression: %^2 of its error)."""
        rows = [
            (
                c.cause.name, c.cause.group, c.share_fs, *c.interval_fs, signed_root(c.alone[0]), c.buys_fs, c.points,
                c.low[1], c.high[1], c.last[1], c.n, c.sampling_se[0], c.cause.what, c.cause.fix,
            )
            for c in (*self.to_fix, *self.known)
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=list(FRAME_COLUMNS))
