"""A small crossbar in ngspice: the short-circuit current of every column for every driven row.

The fit compares these currents with the exact reduction that the proxy uses; it is the proxy's only tie to
real wires, so it is measured at several line resistances.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analog_deq.calibration.measurement import SPICE_OPTIONS, AbstractMeasurement, Bench, Rows
from analog_deq.draws import Stream, generator
from analog_deq.netlists.crossbar import CrossbarParameters, flat_lines, terminal
from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.library import cell_arguments, cell_files, include_lines
from analog_deq.records import Alter, Deck, Op, Plot

DRIVE_V = 0.2


class CrossbarCurrents(AbstractMeasurement):
    """Samples are line resistances in ohm. The last ``columns`` logical rows of the array are the state rows."""

    name = "crossbar"
    tables = ("crossbar",)

    def samples(self, bench: Bench) -> list[float]:
        return list(bench.plan.crossbar.r_lines_ohm)

    def block_size(self, bench: Bench) -> int:
        return 1

    def conductances(self, bench: Bench) -> np.ndarray:
        """Physical conductances (2 rows, columns): asymmetric, log-uniform over the programmable range."""
        plan, array = bench.plan.crossbar, bench.design.crossbar
        rng = generator(bench.design.seed, Stream.CROSSBAR)
        logs = rng.uniform(
            np.log(array.g_min_siemens), np.log(array.g_max_siemens), (2 * (plan.rows + plan.columns), plan.columns)
        )
        return np.exp(logs)

    def decks(self, bench: Bench, block: Sequence[float]) -> tuple[Deck, ...]:
        g = self.conductances(bench)
        array = bench.design.crossbar
        parameters = CrossbarParameters(g[0::2], g[1::2], block[0], array.r_dac_ohm)
        rows, columns = g.shape
        cells = [bench.cells.synapse]
        lines = [*include_lines(cells), *flat_lines(parameters, cells[0])]
        lines += [f"Vx{q} {terminal(q, parameters.sources)} 0 0" for q in range(rows)]
        lines += [f"Vs{i} s{i} 0 0" for i in range(columns)]
        commands: list[Alter | Op] = []
        for q in range(rows):
            off = ((f"vx{q - 1}", 0.0),) if q else ()
            commands += [Alter((*off, (f"vx{q}", DRIVE_V))), Op()]
        return (
            build_deck(
                "column currents of a small crossbar",
                lines,
                commands,
                save=[f"i(vs{i})" for i in range(columns)],
                options=SPICE_OPTIONS,
                files=cell_files(cells),
                temperature_celsius=bench.design.operating.temperature_celsius,
                arguments=cell_arguments(cells),
            ),
        )

    def tabulate(self, bench: Bench, block: Sequence[float], plots: Sequence[tuple[Plot, ...]]) -> Rows:
        g = self.conductances(bench)
        rows = [
            {
                "r_line": block[0], "row": q, "column": i, "drive": DRIVE_V,
                "current": float(np.real(plot[f"i(vs{i})"][0])), "g": float(g[q, i]),
            }
            for q, plot in enumerate(plots[0])
            for i in range(g.shape[1])
        ]  # fmt: skip
        return {"crossbar": pd.DataFrame(rows)}

    def axes(self, bench: Bench, sample: float) -> dict[str, dict[str, Any]]:
        return {"crossbar": {"r_line": sample}}
