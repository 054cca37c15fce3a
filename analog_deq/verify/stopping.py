"""Mismatch dies that stop coming once every yield row is decided, with error rates that do not grow with the looks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from analog_deq.records import Progress
from analog_deq.statistics import SequentialPlan, SequentialResult
from analog_deq.verify.dies import DieResult
from analog_deq.verify.limits import Limits
from analog_deq.verify.signoff import Measurement

Array = np.ndarray
YIELDS = ("net.yield_mismatch", "net.yield_untrimmed")
"""Rows whose samples are the mismatch dies."""


def stopping_plans(limits: Limits, dies: int) -> dict[str, SequentialPlan]:
    """A plan of ``dies`` dies for each judged yield row over dies; empty unless the limits file says ``stop_early``."""
    if not limits.campaign.stop_early:
        return {}
    rows = [row for row in limits.check if row.id in YIELDS and row.judge == "yield" and row.judged]
    return {row.id: SequentialPlan.of((row.min or 0.0) / 100, dies, row.confidence) for row in rows}


def run_until_decided(
    simulate: Callable[[range], list[DieResult]],
    passing: Callable[[Sequence[DieResult]], Mapping[str, Array]],
    plans: Mapping[str, SequentialPlan],
    dies: int,
    progress: Progress,
    *,
    least: int = 0,
) -> tuple[list[DieResult], dict[str, SequentialResult]]:
    """The dies that ran, and what each row of ``plans`` decided; without plans all ``dies`` run at once.

    ``simulate`` runs the dies of a range, ``passing`` says which of them pass, by row. A row is judged by the dies up
    to the look that decided it, whatever the others still need. At least ``least`` dies run, for other checks to use.
    """
    if not plans:
        return simulate(range(dies)), {}
    results: list[DieResult] = []
    for look in sorted({look for plan in plans.values() for look in plan.looks}):
        results += simulate(range(len(results), look))
        passed = passing(results)
        found = {name: plan.judge(passed[name]) for name, plan in plans.items()}
        if len(results) >= least and all(result.stop for result in found.values()):
            break
    progress.note(
        f"{len(results)} of {dies} planned dies ran: every yield row is decided"
        if len(results) < dies
        else f"all {dies} planned dies ran"
    )
    return results, found


def with_decisions(measurements: Iterable[Measurement], found: Mapping[str, SequentialResult]) -> list[Measurement]:
    """The measurements, each of ``found`` with what its stopped campaign decided."""
    return [replace(m, stopped=found[m.id]) if m.id in found else m for m in measurements]
