"""Two sign-offs, or two corners of one, held beside each other: what moved, by how much, and whether it got worse.

A change is *worse* when the value comes nearer to its nearest limit, or passes it further. It is *beyond* when the
confidence intervals of the two sides do not overlap, which is stricter than a test at the same confidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from analog_deq.errors import SpecError
from analog_deq.statistics import Interval
from analog_deq.verify.verdict import Check, VerifyReport

Move = Literal["worse", "better", "moved", "same", "new", "gone"]
JUDGED = {"pass": 0, "inconclusive": 1, "not_modelled": 1, "fail": 2}
"""Statuses of a check that is held to its limits, the better first; what is not listed was reported only."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a row: its value with limits and status. ``status`` is empty where the check is absent."""

    value: float | None = None
    min: float | None = None
    max: float | None = None
    n: int = 0
    interval: Interval | None = None
    status: str = ""
    decides: bool = False
    waived: str = ""

    @classmethod
    def of(cls, check: Check | None) -> Side:
        """A check of a report, or its absence."""
        if check is None:
            return cls()
        return cls(
            check.value, check.min, check.max, check.n, check.interval, check.status, check.decides, check.waived
        )  # fmt: skip

    @property
    def rank(self) -> int | None:
        """How bad, of a check that is judged and decides; None of one that cannot hold back a verdict."""
        return JUDGED.get(self.status) if self.decides else None

    def margin(self, value: float) -> float | None:
        """Distance of ``value`` from the nearest limit, negative outside; None without limits."""
        below = math.inf if self.min is None else value - self.min
        above = math.inf if self.max is None else self.max - value
        return None if math.isinf(min(below, above)) else min(below, above)


@dataclass(frozen=True, slots=True)
class Delta:
    """One check on both sides, ``a`` before and ``b`` after; the limits of ``b`` say which way is worse."""

    id: str
    quantity: str
    unit: str
    a: Side
    b: Side

    @property
    def change(self) -> float | None:
        """``b`` minus ``a`` in ``unit``; None where a side has no value."""
        return None if self.a.value is None or self.b.value is None else self.b.value - self.a.value

    @property
    def relative(self) -> float | None:
        """The change as a share of ``a``; None where that is 0 or a side has no value."""
        return None if self.change is None or not self.a.value else self.change / abs(self.a.value)

    @property
    def beyond(self) -> bool | None:
        """Whether the two intervals are apart; None where a side has none."""
        if self.a.interval is None or self.b.interval is None:
            return None
        return self.b.interval[0] > self.a.interval[1] or self.b.interval[1] < self.a.interval[0]

    @property
    def move(self) -> Move:
        """Which way the value went; ``moved`` where no limit says which way is worse."""
        if not self.a.status:
            return "new"
        if not self.b.status:
            return "gone"
        if self.a.value == self.b.value:
            return "same"
        if self.b.value is None or self.a.value is None:
            return "worse" if self.b.value is None else "better"
        limits = self.b if self.b.margin(0.0) is not None else self.a
        before, after = limits.margin(self.a.value), limits.margin(self.b.value)
        if before is None or after is None or before == after:
            return "moved"
        return "worse" if after < before else "better"

    @property
    def status_changed(self) -> bool:
        """Whether the two statuses differ, or only one side has the check."""
        return self.a.status != self.b.status

    @property
    def limits_changed(self) -> bool:
        """Whether both sides have the check and its limits differ."""
        both = bool(self.a.status and self.b.status)
        return both and (self.a.min, self.a.max) != (self.b.min, self.b.max)

    @property
    def regressed(self) -> bool:
        """Whether a check that decides got a worse status, is newly failing, or is no longer judged at all."""
        before, after = self.a.rank, self.b.rank
        if after is not None:
            return after > (before or 0)
        return before is not None and not self.b.waived and before < JUDGED["fail"]

    def to_dict(self) -> dict[str, Any]:
        """The row in plain types."""
        sides = {
            name: {
                "value": side.value, "limit": {"min": side.min, "max": side.max}, "n": side.n,
                "interval": side.interval, "status": side.status or None, "decides": side.decides,
                "waived": side.waived,
            }
            for name, side in (("a", self.a), ("b", self.b))
        }  # fmt: skip
        return {
            "id": self.id, "quantity": self.quantity, "unit": self.unit, **sides, "change": self.change,
            "relative": self.relative, "beyond_intervals": self.beyond, "move": self.move,
            "regressed": self.regressed,
        }  # fmt: skip


def compare_checks(a: VerifyReport, b: VerifyReport) -> tuple[Delta, ...]:
    """Every check of either report: regressions first, then other changes of status, then by what moved, then by id.

    SpecError when a check has another unit on the other side.
    """
    before, after = ({check.id: check for check in report.checks} for report in (a, b))
    rows = []
    for name in dict.fromkeys([*after, *before]):
        old, new = before.get(name), after.get(name)
        shown = new or old
        assert shown is not None, "the name comes from one of the two"
        if old is not None and new is not None and old.unit != new.unit:
            raise SpecError(f"{name}: in {old.unit!r} on one side and {new.unit!r} on the other; they do not compare")
        rows.append(Delta(name, shown.quantity, shown.unit, Side.of(old), Side.of(new)))
    return tuple(sorted(rows, key=_importance))


def compare_corners(report: VerifyReport, a: str, b: str) -> tuple[Delta, ...]:
    """Every check of one report that was measured at both corners ``a`` and ``b``, each corner held to the limits.

    SpecError, naming the corners there are, when one of them was not simulated.
    """
    known = list(dict.fromkeys(name for check in report.checks for name in check.by_corner))
    for name in (a, b):
        if name not in known:
            there = ", ".join(known) or "none: the limits file's [campaign] corners says which to simulate"
            raise SpecError(f"--corner {name}: not in this report; its corners are {there}")
    rows = [
        Delta(check.id, check.quantity, check.unit, _at(check, a), _at(check, b))
        for check in report.checks
        if a in check.by_corner and b in check.by_corner
    ]
    return tuple(sorted(rows, key=_importance))


def _at(check: Check, corner: str) -> Side:
    """A check at one corner. It passes there when its value is within the limits; a failed corner fails."""
    value = check.by_corner[corner]
    side = Side(value, check.min, check.max, check.n, None, check.status, check.decides, check.waived)
    if check.status not in JUDGED:
        return side
    margin = None if value is None else side.margin(value)
    status = "fail" if value is None or (margin is not None and margin < 0) else "pass"
    return Side(value, check.min, check.max, check.n, None, status, check.decides, check.waived)


def _importance(row: Delta) -> tuple[object, ...]:
    moves = ("worse", "better", "moved", "new", "gone", "same")
    return (not row.regressed, not row.status_changed, not row.beyond, moves.index(row.move), row.id)


def differing_inputs(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[str, ...]:
    """What two reports' provenances do not share, by name: inputs by their hash, versions, seed, form of the array."""
    names = [name for name in dict.fromkeys([*a, *b]) if name not in {"inputs", "schema_name", "schema_version"}]
    differ = [name for name in names if a.get(name) != b.get(name)]
    old, new = a.get("inputs", {}), b.get("inputs", {})
    return (*differ, *(name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)))
