"""Drift of a synapse's conductance after programming: the contract's time parameter set to each of its times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analog_deq.characterise.measurement import (
    AbstractCellMeasurement,
    CellBench,
    Copy,
    Curve,
    Quantity,
    Testbench,
    Value,
    not_modelled,
    undefined,
)
from analog_deq.characterise.measurements import synapse as s
from analog_deq.records import Dc, Plot

NO_DRIFT = "the contract has no [drift]"


class Drift(AbstractCellMeasurement):
    """Small-signal conductance at each level and time; over dies also the spread that grows with time."""

    name = "drift"
    roles = ("synapse",)
    copies = 8
    quantities = (
        Quantity("drift", "1", "low", "conductance over its value at the first time"),
        Quantity("aged_conductance", "S", "low", "small-signal conductance at a time after programming"),
    )

    def testbench(self, bench: CellBench) -> Testbench:
        lines, places = [s.row_line()], []
        for k, g in enumerate(s.levels(bench.cell)):
            for j, given in enumerate(_given(bench)):
                places.append(f"l{k}t{j}")
                lines += [line for copy in bench.copies for line in s.cell_lines(bench, copy, places[-1], g, **given)]
        small = s.SMALL * s.read_v(bench)
        sweep = [Dc(s.ROW, -small, small, small)]
        return Testbench("drift of a synapse", lines, sweep, s.saved(bench, places), options=s.DC_OPTIONS)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        drift = bench.cell.contract.drift
        found = []
        for k, g in enumerate(s.levels(bench.cell)):
            at = s.text("g", g, "S")
            if drift is None:
                found += [not_modelled(q.id, NO_DRIFT, at) for q in self.quantities]
                continue
            aged = _conductances(bench, copy, plots, k)
            when = [f"{at} {s.text('t', t, 's')}" for t in drift.times_s]
            found += [Value("aged_conductance", value, there) for value, there in zip(aged, when, strict=True)]
            if len(aged) == 1 or aged[0] == 0:
                why = "drift.times_s has one time only" if len(aged) == 1 else "the cell conducts no current at first"
                found.append(undefined("drift", why, at))
            else:
                found += [
                    Value("drift", value / aged[0], there) for value, there in zip(aged[1:], when[1:], strict=True)
                ]
        return found

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        drift = bench.cell.contract.drift
        if drift is None:
            return []
        return [
            Curve(
                "aged_conductance",
                np.array(drift.times_s),
                np.array(_conductances(bench, copy, plots, k)),
                s.text("g", g, "S"),
            )
            for k, g in enumerate(s.levels(bench.cell))
        ]


def _given(bench: CellBench) -> list[dict[str, float]]:
    drift = bench.cell.contract.drift
    return [{}] if drift is None else [{drift.param: time_s} for time_s in drift.times_s]


def _conductances(bench: CellBench, copy: Copy, plots: Sequence[Plot], level: int) -> list[float]:
    return [s.slope(plots[0], copy, f"l{level}t{j}") for j in range(len(_given(bench)))]
