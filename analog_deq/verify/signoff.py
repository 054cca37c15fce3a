"""Judge measurements against limits.

Fail closed: a limit without a measurement, a value that is not a number, an interval that is missing, a corner that was
asked for and not simulated, or an invalid sample where none is allowed is a fail with a reason. A sample too small for
its claim is inconclusive, not a pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from analog_deq.errors import SpecError
from analog_deq.statistics import Interval, SequentialResult, clopper_pearson_lower, clopper_pearson_upper, dies_needed
from analog_deq.verify.limits import LimitCheck
from analog_deq.verify.limits import Limits as Limits
from analog_deq.verify.limits import read_limits as read_limits
from analog_deq.verify.verdict import Check as Check
from analog_deq.verify.verdict import Status as Status
from analog_deq.verify.verdict import VerifyReport as VerifyReport
from analog_deq.verify.verdict import Worst as Worst


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured quantity.

    ``n`` counts every sample tried, valid or not; ``failed_samples`` of them gave no valid result. For a percentage
    judged as a yield, ``value`` is the share of all ``n`` that pass. ``unjudged`` is the status of one that no limit
    can judge; ``detail`` says why. ``by_corner`` has the value at each corner, the typical one first, None where the
    simulation failed; ``value`` is then the typical corner's. ``too_few`` says why the sample is too small for the
    statement, and what would do: such a row is inconclusive. ``stopped`` is what a campaign that stops early decided of
    a yield; its bounds are judged instead of those of ``n``.
    """

    id: str
    value: float | None
    unit: str
    n: int
    interval: Interval | None = None
    worst: Worst | None = None
    detail: str = ""
    failed_samples: int = 0
    unjudged: Literal["info", "not_modelled"] | None = None
    by_corner: Mapping[str, float | None] = field(default_factory=dict)
    too_few: str = ""
    stopped: SequentialResult | None = None

    def __post_init__(self) -> None:
        if self.n < 0 or not 0 <= self.failed_samples <= max(self.n, 0):
            raise ValueError(f"{self.id}: {self.failed_samples} failed of {self.n} samples is impossible")
        if self.interval is not None and self.interval[0] > self.interval[1]:
            raise ValueError(f"{self.id}: interval {self.interval} has its ends swapped")


def judge(measurements: Iterable[Measurement], limits: Limits, today: date) -> tuple[Check, ...]:
    """A check for every row of ``limits``, in its order, then the measurements without a limit as information.

    A waiver that has expired on the day ``today`` does not count.
    Raises ValueError for two measurements of one id, SpecError when a unit differs from the limit's.
    """
    measured: dict[str, Measurement] = {}
    for measurement in measurements:
        if measurement.id in measured:
            raise ValueError(f"{measurement.id} was measured twice; pass one measurement an id")
        measured[measurement.id] = measurement
    checks = [_judge_one(limit, measured.pop(limit.id, None), today) for limit in limits.check]
    return (*checks, *(_without_limit(m) for m in measured.values()))


def _judge_one(limit: LimitCheck, m: Measurement | None, today: date) -> Check:
    waived, lapsed = _waiver(limit, today)
    severity = limit.severity if limit.limited else "info"
    if m is None:
        status: Status = "fail" if limit.judged else "not_measured"
        return Check(
            limit.id, limit.quantity, limit.unit, None, limit.min, limit.max, 0, None, status, None,
            "; ".join(["not measured in this run", *_expired(lapsed)]), severity, limit.judge, waived=waived,
            typ=limit.typ, lapsed=lapsed, confidence=limit.confidence,
        )  # fmt: skip
    if m.unit != limit.unit:
        raise SpecError(
            f"{limit.id}: the limit is in {limit.unit!r} but the measurement in {m.unit!r}; "
            "write the limit in the measured unit"
        )
    interval, reasons = _finite_interval(m)
    value, corners = _number(m.value), _corners(m)
    worst_corner, margin = _worst_corner(limit, corners)
    if not corners and value is not None and limit.limited:
        margin = _margin(limit, value, value)
    if m.unjudged is not None:
        status = m.unjudged
    elif not limit.judged:
        status = "not_measured" if value is None else "info"
        if margin is not None and margin < 0:
            reasons.append("outside its guide value; reported, not judged")
    else:
        status, margin, interval, more = _verdict_of(limit, m, value, interval, corners, margin)
        reasons = more + reasons
    if value is None and m.unjudged is None:
        reasons.insert(0, "no value was measured" if m.value is None else f"the measured value is {m.value}")
    if m.failed_samples:
        reasons.append(f"{m.failed_samples} of {m.n} samples gave no valid result")
    if m.detail:
        reasons.append(m.detail)
    return Check(
        limit.id, limit.quantity, limit.unit, value, limit.min, limit.max, m.n, interval, status, margin,
        "; ".join([*reasons, *_expired(lapsed)]), severity, limit.judge, m.worst, m.failed_samples, waived, limit.typ,
        corners, worst_corner, lapsed, limit.confidence,
    )  # fmt: skip


def _waiver(limit: LimitCheck, today: date) -> tuple[str, str]:
    """What a waiver that holds says, and what one that expired says."""
    waiver = limit.waiver
    if waiver is None:
        return "", ""
    said = f"{waiver.reason} ({waiver.by}, until {waiver.expires})"
    return (said, "") if waiver.holds(today) else ("", said)


def _expired(lapsed: str) -> list[str]:
    return [f"its waiver has expired: {lapsed}"] if lapsed else []


def _corners(m: Measurement) -> dict[str, float | None]:
    return {name: _number(value) for name, value in m.by_corner.items()}


def _asked(limit: LimitCheck, corners: Mapping[str, float | None]) -> list[str]:
    """Names of the corners a row holds to its limits."""
    if limit.corners == "all":
        return list(corners)
    return list(corners)[:1] if limit.corners == "typical" else list(limit.corners)


def _worst_corner(limit: LimitCheck, corners: Mapping[str, float | None]) -> tuple[str, float | None]:
    """Of the corners asked for, the one with the smallest margin, and that margin."""
    margins = {name: _margin(limit, v, v) for name in _asked(limit, corners) if (v := corners.get(name)) is not None}
    if not margins or not limit.limited:
        return "", None
    worst = min(margins, key=lambda name: margins[name])
    return worst, margins[worst]


def _over_corners(limit: LimitCheck, corners: Mapping[str, float | None]) -> tuple[Status, list[str]]:
    """Status of a row over the corners it asks for."""
    asked = _asked(limit, corners)
    absent = [name for name in asked if name not in corners]
    failed = [name for name in asked if name in corners and corners[name] is None]
    outside = [name for name in asked if (v := corners.get(name)) is not None and _margin(limit, v, v) < 0]
    reasons = [f"{name} was not simulated; write it in [campaign] corners" for name in absent]
    reasons += [f"no valid result at {name}" for name in failed]
    reasons += [f"outside at {len(outside)} of {len(asked)} corners: {', '.join(outside)}"] if outside else []
    return ("fail" if reasons else "pass"), reasons


def _verdict_of(
    limit: LimitCheck,
    m: Measurement,
    value: float | None,
    interval: Interval | None,
    corners: Mapping[str, float | None],
    at_value: float | None,
) -> tuple[Status, float | None, Interval | None, list[str]]:
    """Status, margin, interval shown, and the reasons, of a check that is judged.

    ``at_value`` is the margin of the value, or of the worst corner.
    """
    if value is None:
        return "fail", at_value, interval, []
    if m.n == 0:
        return "fail", at_value, interval, ["no sample was taken"]
    if m.failed_samples and limit.failed_sample_fails:
        return "fail", at_value, interval, ["an invalid sample fails this check"]
    if m.too_few:
        return "inconclusive", at_value, interval, [m.too_few]
    if limit.judge == "yield":
        return _judge_yield(limit, m, value)
    if limit.judge == "interval":
        if interval is None:
            return "fail", at_value, None, ["judged on its confidence interval, but none was measured"]
        margin = _margin(limit, *interval)
        if margin >= 0:
            return "pass", margin, interval, []
        low, high = interval
        if (limit.max is not None and low > limit.max) or (limit.min is not None and high < limit.min):
            return "fail", margin, interval, ["the whole interval is outside the limit"]
        return "inconclusive", margin, interval, ["the interval straddles the limit; more samples narrow it"]
    if corners or isinstance(limit.corners, tuple):
        status, reasons = _over_corners(limit, corners)
        return status, at_value, interval, reasons
    return ("pass" if _margin(limit, value, value) >= 0 else "fail"), at_value, interval, []


def _judge_yield(
    limit: LimitCheck, m: Measurement, value: float
) -> tuple[Status, float | None, Interval | None, list[str]]:
    assert limit.min is not None, "LimitCheck demands a min of a yield"
    exact = value * m.n / 100.0
    passes = round(exact)
    if abs(exact - passes) > 1e-6 * m.n or not 0 <= passes <= m.n:
        return "fail", None, None, [f"{value:g} % is not a share of {m.n} samples, so no bound can be stated"]
    if passes > m.n - m.failed_samples:
        return "fail", None, None, ["samples without a valid result were counted as passing"]
    if m.stopped is not None:
        return _judge_stopped(limit, m, m.stopped, passes)
    low = 100.0 * clopper_pearson_lower(passes, m.n, limit.confidence)
    high = 100.0 * clopper_pearson_upper(passes, m.n, limit.confidence)
    reasons = [f"{passes} of {m.n} pass; {100 * limit.confidence:g} % one-sided bounds {low:.2f} to {high:.2f} %"]
    margin = low - limit.min
    if margin >= 0:
        return "pass", margin, (low, high), reasons
    if high < limit.min:
        return "fail", margin, (low, high), reasons
    fails = m.n - passes
    needed = dies_needed(limit.min / 100.0, limit.confidence, fails)
    so_far = f"with {fails} not passing" if fails else "even with none failing"
    reasons.append(f"too few samples for {limit.min:g} %: {so_far}, {needed} in all are needed")
    return "inconclusive", margin, (low, high), reasons


def _judge_stopped(
    limit: LimitCheck, m: Measurement, stopped: SequentialResult, passes: int
) -> tuple[Status, float | None, Interval | None, list[str]]:
    """As :func:`_judge_yield`, of a campaign that was judged several times."""
    assert limit.min is not None, "LimitCheck demands a min of a yield"
    low, high = (100.0 * bound for bound in stopped.bounds)
    level = f"{100 * limit.confidence:g} % one-sided bounds {low:.2f} to {high:.2f} %"
    status: Status = "inconclusive" if stopped.decision == "undecided" else stopped.decision
    return status, low - limit.min, (low, high), [f"{passes} of {m.n} pass; {stopped.statement()}; {level}"]


def _without_limit(m: Measurement) -> Check:
    interval, reasons = _finite_interval(m)
    value = _number(m.value)
    status: Status = m.unjudged or ("not_measured" if value is None else "info")
    detail = "; ".join([*reasons, *([m.detail] if m.detail else []), "no limit in the limits file"])
    return Check(
        m.id, m.id, m.unit, value, None, None, m.n, interval, status, None, detail, "info", "each",
        m.worst, m.failed_samples, by_corner=_corners(m),
    )  # fmt: skip


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _finite_interval(m: Measurement) -> tuple[Interval | None, list[str]]:
    if m.interval is None:
        return None, []
    low, high = m.interval
    if not (math.isfinite(low) and math.isfinite(high)):
        return None, [f"its interval ({low}, {high}) is not finite"]
    return (float(low), float(high)), []


def _margin(limit: LimitCheck, low: float, high: float) -> float:
    """Distance from the nearest limit to the span ``low`` to ``high``; a missing limit is infinitely far."""
    below = math.inf if limit.min is None else low - limit.min
    above = math.inf if limit.max is None else limit.max - high
    return min(below, above)
