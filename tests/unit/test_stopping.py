"""Mismatch dies that stop early: which dies run, what is judged, what the report says. No simulator."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from analog_deq.records import Progress
from analog_deq.verify.limits import Limits
from analog_deq.verify.signoff import Measurement, judge
from analog_deq.verify.stopping import run_until_decided, stopping_plans, with_decisions


def limits(*yields: tuple[str, float], stop_early: bool = True, **keys: Any) -> Limits:
    rows = [
        {"id": name, "quantity": "q", "unit": "%", "min": least, "judge": "yield", **keys} for name, least in yields
    ]
    return Limits.model_validate({"schema": 1, "campaign": {"stop_early": stop_early}, "check": rows})


def campaign(sheet: Limits, passes: dict[str, np.ndarray], dies: int = 100) -> tuple[list[int], dict[str, Any]]:
    """Numbers of the dies that ran and what was decided, for dies that pass as given."""

    def passing(ran: Sequence[Any]) -> dict[str, np.ndarray]:
        return {name: passed[[r.die for r in ran]] for name, passed in passes.items()}

    def simulate(chosen: range) -> list[Any]:
        return [SimpleNamespace(die=die) for die in chosen]

    results, found = run_until_decided(simulate, passing, stopping_plans(sheet, dies), dies, Progress())
    return [r.die for r in results], found


TRIMMED, UNTRIMMED = "net.yield_mismatch", "net.yield_untrimmed"
GOOD = np.ones(100, dtype=bool)


def test_without_the_key_every_planned_die_runs() -> None:
    ran, found = campaign(limits((TRIMMED, 90), stop_early=False), {TRIMMED: GOOD})
    assert (ran, found) == (list(range(100)), {})
    assert campaign(limits((TRIMMED, 90), severity="info"), {TRIMMED: GOOD}) == (list(range(100)), {})


def test_dies_stop_when_every_row_is_decided_and_each_keeps_its_own_look() -> None:
    bad = np.arange(100) % 2 == 0
    ran, found = campaign(limits((TRIMMED, 90), (UNTRIMMED, 90)), {TRIMMED: GOOD, UNTRIMMED: bad})
    assert ran == list(range(45))
    assert (found[TRIMMED].decision, found[TRIMMED].dies) == ("pass", 45)
    assert found[UNTRIMMED].decision == "fail"
    assert found[UNTRIMMED].dies < 45


def test_dies_that_other_checks_use_run_in_any_case() -> None:
    def simulate(chosen: range) -> list[Any]:
        return [SimpleNamespace(die=die) for die in chosen]

    plans = stopping_plans(limits((TRIMMED, 90)), 100)
    ran, found = run_until_decided(simulate, lambda ran: {TRIMMED: GOOD[: len(ran)]}, plans, 100, Progress(), least=52)
    assert (len(ran), found[TRIMMED].dies) == (55, 45)


def judged(passed: np.ndarray, least: float = 90.0, dies: int = 100) -> Any:
    sheet = limits((TRIMMED, least))
    ran, found = campaign(sheet, {TRIMMED: passed}, dies)
    share = 100.0 * float(np.mean(passed[ran]))
    (m,) = with_decisions([Measurement(TRIMMED, share, "%", len(ran))], found)
    return judge([m], sheet, date(2026, 1, 1))[0]


def test_the_report_says_how_many_dies_ran_and_at_what_level() -> None:
    check = judged(GOOD)
    assert (check.status, check.n) == ("pass", 45)
    assert check.margin >= 0
    for part in ("45 of 45 pass", "45 of 100 planned dies", "at most 5 %", "one-sided bounds"):
        assert part in check.detail


def test_a_row_that_stays_open_is_inconclusive_and_a_bad_one_fails() -> None:
    six = np.ones(100, dtype=bool)
    six[[3, 20, 41, 60, 77, 90]] = False
    assert judged(six).status == "inconclusive"
    check = judged(np.arange(100) % 4 > 0)
    assert (check.status, check.interval[1] < 90.0) == ("fail", True)
    assert check.n < 100


@pytest.mark.parametrize("fails", [1, 2])
def test_too_few_planned_dies_are_inconclusive_whatever_they_show(fails: int) -> None:
    passed = np.ones(20, dtype=bool)
    passed[:fails] = False
    check = judged(passed, dies=20)
    assert (check.status, check.n) == ("inconclusive", 20)
