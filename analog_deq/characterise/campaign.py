"""The campaign: every measurement of a cell at every corner and on every die, as rows in which a failure is a row.

First the nominal cell is ranged at each corner (its bandwidth sets the time windows of everything else), then all
blocks run. A block whose window was too short runs again, longer; one that fails is halved until the failing copy
stands alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analog_deq.characterise.blocks import (
    DIE,
    NOMINAL,
    Block,
    PreparedBlock,
    partition,
    prepare,
    sensitivity_variants,
)
from analog_deq.characterise.corners import Corner
from analog_deq.characterise.measurement import (
    NOT_MODELLED,
    UNDEFINED,
    AbstractCellMeasurement,
    Curve,
    Value,
    WindowTooShortError,
)
from analog_deq.characterise.registry import measurements_of
from analog_deq.netlists.cell import Cell
from analog_deq.records import OK, Progress
from analog_deq.spice.execution import Outcome, simulate_all
from analog_deq.spice.process import Limits
from analog_deq.spice.simulator import Simulator
from analog_deq.tables import COLUMNS

LONGEST_STRETCH = 4.0**6
RETRY_TIMEOUT_S = 10.0
NO_RANGE = "the cell could not be ranged at this corner"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a cell. ``dies`` are simulated at ``die_corner``, sensitivities at the typical corner."""

    cell: Cell
    corners: tuple[Corner, ...]
    measurements: tuple[AbstractCellMeasurement, ...]
    dies: tuple[int, ...] = ()
    die_corner: Corner | None = None
    sensitivity: bool = False
    seed: int = 0

    def variants(self, corner: Corner) -> list[list[tuple[str, int]]]:
        """Groups of variants measured at a corner; each group is partitioned into blocks by itself."""
        groups = [[(NOMINAL, -1)]]
        if self.sensitivity and corner == self.corners[0]:
            groups.append(sensitivity_variants(self.cell.at(corner.process)))
        if self.dies and corner == (self.die_corner or self.corners[0]):
            groups.append([(DIE, die) for die in self.dies])
        return [group for group in groups if group]

    def blocks(self, measurement: AbstractCellMeasurement, corner: Corner, bandwidth_hz: float) -> list[Block]:
        """Every block of one measurement at one corner."""
        return [b for group in self.variants(corner) for b in partition(measurement, corner, group, bandwidth_hz)]


@dataclass(frozen=True, slots=True)
class CampaignResult:
    """Tables ``quantities`` and ``curves``; counts of copies measured and failed, ngspice runs, runs from the cache."""

    tables: dict[str, pd.DataFrame]
    copies: int
    failed: int
    runs: int
    reused: int


def characterise(
    question: Question,
    *,
    simulator: Simulator,
    root: Path,
    jobs: int | None = None,
    timeout_s: float = 120.0,
    progress: Progress | None = None,
    executor: Executor | None = None,
    limits: Limits | None = None,
) -> CampaignResult:
    """Simulate a question; rows come back in the order asked, whatever ran first and on however many workers.

    Raises NetlistError for a cell whose deck is malformed. A simulation that fails is a row with its reason.
    """
    options = {
        "simulator": simulator, "root": root, "stage": "spice", "jobs": jobs, "executor": executor, "limits": limits,
    }  # fmt: skip
    campaign = _Campaign(question, options, timeout_s, progress or Progress())
    ranges = [m for m in question.measurements if m.ranging]
    rest = [m for m in question.measurements if not m.ranging]
    # a question about a step response alone still needs to know how long to look
    ranging = ranges or [m for m in measurements_of(question.cell.role) if m.ranging]
    bandwidths = campaign.range(ranging)
    blocks: list[Block] = []
    for corner in question.corners:
        for m in ranges:
            blocks += question.blocks(m, corner, math.nan)
        bandwidth = bandwidths.get(corner.name, math.nan)
        for m in rest:
            wanted = question.blocks(m, corner, bandwidth)
            if ranging and math.isnan(bandwidth):
                # a failure of the ranging simulation is told here when no row of its own measurement tells it
                failure = "" if ranges else campaign.unranged.get(corner.name, "")
                campaign.refuse(wanted, f"{failure}; {NO_RANGE}" if failure else f"{UNDEFINED}: {NO_RANGE}")
            else:
                blocks += wanted
    campaign.run(blocks)
    return campaign.result()


class _Campaign:
    """State of one campaign: what has been simulated, and the rows so far, keyed by their place in the question.

    ``unranged``: the status of each corner's ranging simulation that failed.
    """

    def __init__(self, question: Question, options: dict[str, Any], timeout_s: float, progress: Progress) -> None:
        self.question, self.options, self.timeout_s, self.progress = question, options, timeout_s, progress
        self.rows: dict[tuple[int, ...], list[dict[str, Any]]] = {}
        self.curves: dict[tuple[int, ...], list[pd.DataFrame]] = {}
        self.unranged: dict[str, str] = {}
        self.copies = self.failed = self.runs = self.reused = 0
        order = [v for corner in question.corners for group in question.variants(corner) for v in group]
        self._variant_rank = {v: k for k, v in enumerate(dict.fromkeys(order))}

    def range(self, ranges: Sequence[AbstractCellMeasurement]) -> dict[str, float]:
        """Bandwidth of the nominal cell at each corner, by the ranging measurement of its role.

        Infinite where the model has none: such a cell has no speed, but everything else.
        """
        if not ranges or all(m.ranging for m in self.question.measurements):
            return {}
        blocks = [Block(ranges[0], corner, ((NOMINAL, -1),)) for corner in self.question.corners]
        prepared = [prepare(self.question.cell, block, self.question.seed) for block in blocks]
        found = {}
        for item, outcome in zip(prepared, self._simulate(prepared, self.timeout_s), strict=True):
            if outcome.run is None:
                self.unranged[item.block.corner.name] = outcome.status
                continue
            values = ranges[0].values(item.bench, item.bench.copies[0], outcome.run.plots)
            hertz = {q.id for q in ranges[0].quantities if q.unit == "Hz"}
            speeds = [v for v in values if v.quantity in hertz]
            valid = [v.value for v in speeds if v.status == OK]
            if not valid and any(v.status.startswith(NOT_MODELLED) for v in speeds):
                valid = [math.inf]
            if valid:
                found[item.block.corner.name] = valid[0]
        return found

    def run(self, blocks: Sequence[Block]) -> None:
        """Simulate blocks until each copy has its rows."""
        pending, limit_s = list(blocks), self.timeout_s
        while pending:
            prepared = [prepare(self.question.cell, block, self.question.seed) for block in pending]
            again: list[Block] = []
            for item, outcome in zip(prepared, self._simulate(prepared, limit_s), strict=True):
                if outcome.run is not None:
                    again += self._measure(item, outcome)
                elif len(item.block.variants) > 1:
                    again += item.block.halves()
                else:
                    folder = None if outcome.error is None else outcome.error.folder
                    self.refuse([item.block], outcome.status, folder.name if folder else "")
            if again:
                self.progress.note(f"{len(again)} blocks are simulated again: a copy failed, or a window was too short")
                limit_s = max(RETRY_TIMEOUT_S, limit_s / 2)
            pending = again

    def refuse(self, blocks: Sequence[Block], status: str, deck: str = "") -> None:
        """Rows of blocks without a valid simulation: NaN and the reason, one for each quantity."""
        for block in blocks:
            for variant in block.variants:
                values = [Value(q.id, math.nan, "", status) for q in block.measurement.quantities]
                self._add(block, variant, values, deck)
                self.failed += 1

    def result(self) -> CampaignResult:
        """The tables, in the order of the question."""
        rows = [row for key in sorted(self.rows) for row in self.rows[key]]
        table = pd.DataFrame(rows, columns=[*COLUMNS["quantities"], "status"])
        empty = pd.DataFrame(columns=[*COLUMNS["curves"], "status"])
        frames = [frame for key in sorted(self.curves) for frame in self.curves[key]]
        curves = pd.concat(frames, ignore_index=True) if frames else empty
        return CampaignResult({"quantities": table, "curves": curves}, self.copies, self.failed, self.runs, self.reused)

    def _simulate(self, prepared: Sequence[PreparedBlock], limit_s: float) -> list[Outcome]:
        outcomes = simulate_all(
            [item.deck for item in prepared], timeout_s=limit_s, progress=self.progress, **self.options
        )
        self.runs += len(prepared)
        self.reused += sum(1 for o in outcomes if o.run is not None and o.run.reused)
        return outcomes

    def _measure(self, item: PreparedBlock, outcome: Outcome) -> list[Block]:
        assert outcome.run is not None, "only valid runs are measured"
        m, folder = item.block.measurement, outcome.run.folder.name
        found: list[tuple[tuple[str, int], list[Value], list[Curve]]] = []
        try:
            for drawn, copy, plots in item.plots_of(outcome.run.plots):
                values = m.values(item.bench, drawn, plots)
                curves = m.curves(item.bench, drawn, plots) if copy.variant == NOMINAL else []
                found.append(((copy.variant, copy.die), values, curves))
        except WindowTooShortError as error:
            if item.block.stretch < LONGEST_STRETCH:
                return [item.block.longer()]
            if len(item.block.variants) > 1:
                return item.block.halves()
            self.refuse([item.block], f"{UNDEFINED}: {error}", folder)
            return []
        for variant, values, curves in found:
            self._add(item.block, variant, values, folder)
            self._keep(item.block, variant, curves)
        return []

    def _key(self, block: Block, variant: tuple[str, int]) -> tuple[int, ...]:
        q = self.question
        return (q.corners.index(block.corner), q.measurements.index(block.measurement), self._variant_rank[variant])

    def _add(self, block: Block, variant: tuple[str, int], values: Sequence[Value], deck: str) -> None:
        corner, units = block.corner, {q.id: q.unit for q in block.measurement.quantities}
        self.copies += 1
        self.rows[self._key(block, variant)] = [
            {
                "quantity": v.quantity, "at": v.at, "value": v.value, "unit": units[v.quantity],
                "measurement": block.measurement.name, "corner": corner.name, "process": corner.process,
                "temperature": corner.temperature_celsius, "vdd": corner.vdd_v, "vss": corner.vss_v,
                "variant": variant[0], "die": variant[1], "block_first": block.span[0],
                "block_last": block.span[1], "stretch": block.stretch,
                "bandwidth": block.bandwidth_hz, "deck": deck, "status": v.status,
            }
            for v in values
        ]  # fmt: skip

    def _keep(self, block: Block, variant: tuple[str, int], curves: Sequence[Curve]) -> None:
        self.curves[self._key(block, variant)] = [
            pd.DataFrame({"curve": c.name, "at": c.at, "corner": block.corner.name, "x": c.x, "y": c.y, "status": OK})
            for c in curves
        ]
