"""A check in the words and widths of a page: engineering units, four significant figures, the allowance it uses."""

from __future__ import annotations

from dataclasses import dataclass

from analog_deq.units import engineering
from analog_deq.verify.verdict import Check

WORDS = {
    "pass": "pass", "fail": "FAIL", "inconclusive": "inconclusive", "info": "info", "not_measured": "not measured",
    "not_modelled": "not modelled",
}  # fmt: skip
"""What a status is called where people read it."""
OPEN = ("fail", "inconclusive", "not_modelled")
"""Statuses that hold a verdict back, the gravest first."""
MOST_USED = 200.0
"""Per cent of an allowance at which a bar ends."""


@dataclass(frozen=True, slots=True)
class Row:
    """A check in the words of the page. ``used`` is the share of the allowance taken, in per cent."""

    check: Check
    status: str
    value: str
    low: str
    typ: str
    high: str
    limit: str
    interval: str
    margin: str
    used: float | None
    where: str


def row_of(check: Check) -> Row:
    """The texts of one row."""
    unit = check.unit
    limits = []
    if check.min is not None:
        limits.append(f"≥ {_number(check.min, unit)}")
    if check.max is not None:
        limits.append(f"≤ {_number(check.max, unit)}")
    interval = "-" if check.interval is None else _span(*check.interval, unit)
    margin = "-" if check.margin is None else f"{'+' if check.margin >= 0 else ''}{_number(check.margin, unit, 3)}"
    return Row(
        check, WORDS[check.status], _number(check.value, unit), _number(check.min, unit), _number(check.typ, unit),
        _number(check.max, unit), " and ".join(limits) or "none", interval, margin, _used(check), _where(check),
    )  # fmt: skip


def is_open(check: Check) -> bool:
    """Whether the page lists it among what keeps the design from passing."""
    return check.status in OPEN and (check.decides or check.status != "not_modelled")


def gravity(row: Row) -> tuple[bool, int]:
    """Sort key: what decides the verdict comes first, and a fail before an inconclusive."""
    return not row.check.decides, OPEN.index(row.check.status)


def allowance_used(check: Check, margin: float | None) -> float | None:
    """Share of the allowance that ``margin`` leaves used, 100 at the limit; None where no allowance can be named.

    >>> row = Check("a", "", "%", 1.0, None, 4.0, 1, None, "pass", 3.0, "", "error", "each")
    >>> allowance_used(row, 3.0), allowance_used(row, -1.0)
    (25.0, 125.0)
    """
    if margin is None or (check.min is None and check.max is None):
        return None
    if check.min is not None and check.max is not None:
        allowance = (check.max - check.min) / 2
    elif check.max is not None:
        allowance = abs(check.max)
    elif check.unit == "%" and check.min is not None:
        allowance = 100.0 - check.min
    else:
        allowance = abs(check.min or 0.0)
    if allowance == 0:
        return 0.0 if margin >= 0 else MOST_USED
    return max(0.0, min(MOST_USED, 100.0 * (1.0 - margin / allowance)))


def _used(check: Check) -> float | None:
    return None if check.status in {"info", "not_measured", "not_modelled"} else allowance_used(check, check.margin)


def _where(check: Check) -> str:
    """The worst condition in one line: corner, die, input."""
    parts = [check.worst_corner] if check.worst_corner else []
    if check.worst is not None:
        condition = check.worst.condition
        parts += [condition] if condition and condition not in parts else []
        parts += [f"die {check.worst.die}"] if check.worst.die is not None else []
        parts += [f"input {check.worst.input}"] if check.worst.input is not None else []
        return ", ".join(parts) or "the only condition"
    return ", ".join(parts)


def _number(value: float | None, unit: str, digits: int = 4) -> str:
    return engineering(value, unit, digits)


def _span(low: float, high: float, unit: str) -> str:
    """``0.04 to 0.05 %FS``: the unit once where both ends share it."""
    first, last = _number(low, unit, 3), _number(high, unit, 3)
    head, _, tail = first.partition(" ")
    return f"{head} to {last}" if last.endswith(f" {tail}") else f"{first} to {last}"
