"""Characterising cells: a foundry's op-amp over 45 PVT points, and ten thousand dies of the neuron in one campaign.

``pvt`` is the two-stage sky130 op-amp over process x temperature x supply: its open-loop response (gain, GBW, unity
crossing, margins) as ``analog-deq characterise --corners full`` measures it, and then its whole datasheet. The peer is
the straightforward loop: the same testbench, a process for each point, each loading the whole model library, one after
the other; it runs once, for it takes minutes. Both read the same quantities.

``dies`` is the Monte-Carlo of ``analog-deq calibrate digits`` with 10,000 dies: transfer and pole of every one.
"""

from __future__ import annotations

import os
import re
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rows import Row, add_count, machine_name, note, parser, show, speed_row, time_row, value_row

from analog_deq.calibration.campaign import run_campaign
from analog_deq.calibration.measurement import Bench
from analog_deq.calibration.mismatch import NeuronMismatch
from analog_deq.characterise.blocks import Block, prepare
from analog_deq.characterise.campaign import CampaignResult, Question, characterise
from analog_deq.characterise.corners import full_grid
from analog_deq.characterise.registry import measurements_of
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.library import load_cell
from analog_deq.netlists.model_library import resolve_library
from analog_deq.pipeline.inputs import load_inputs
from analog_deq.provenance import Provenance
from analog_deq.resources import shipped
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator, find_simulator
from analog_deq.tables import COLUMNS, SCHEMA, CalibrationTable, write_table

PVT_BAR_S = 60.0
AGREE_BAR = 1e-6
NOMINAL = (("nominal", -1),)


def question(cell: Cell, names: tuple[str, ...]) -> Question:
    """Some measurements of a cell at all its corners."""
    return Question(cell, tuple(full_grid(cell)), measurements_of(cell.role, names))


def timed(asked: Question, simulator: Simulator, jobs: int) -> tuple[float, CampaignResult]:
    """Seconds of a campaign with nothing cached, and its tables."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        result = characterise(asked, simulator=simulator, root=Path(folder), jobs=jobs)
        return time.perf_counter() - began, result


def whole_library_loop(cell: Cell, simulator: Simulator) -> tuple[float, dict[str, float]]:
    """Seconds and GBW by corner of a loop over the corners, the library loaded whole by every process."""
    assert cell.contract.models is not None, "the loop is about loading models"
    library = resolve_library(cell.contract.models.lib, Path(cell.source).parent)
    (measurement,) = measurements_of(cell.role, ("open_loop",))
    found = {}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for corner in full_grid(cell):
            item = prepare(cell, Block(measurement, corner, NOMINAL), 0)
            own = tuple(f for f in item.deck.files if not f[0].startswith("models_"))
            lines = [
                f'.lib "{library}" {cell.at(corner.process).section}' if line.startswith(".include models_") else line
                for line in item.deck.text.splitlines()
            ]
            # .option scale of the library holds for the whole deck: the cell's own sizes are in micrometres either way
            deck = replace(item.deck, text="\n".join(lines) + "\n", files=own)
            run = run_deck(deck, simulator=simulator, folder=Path(folder))
            values = measurement.values(item.bench, item.bench.copies[0], run.plots)
            found[corner.name] = next(v.value for v in values if v.quantity == "gbw")
    return time.perf_counter() - began, found


def pvt_rows(simulator: Simulator, repeats: int, peer: bool) -> Iterator[Row]:
    """The op-amp over its corners, open loop and whole."""
    cell, machine, cores = load_cell("opamp_sky130"), machine_name(simulator), os.cpu_count() or 1
    short, whole = question(cell, ("open_loop",)), question(cell, ())
    seconds: dict[str, list[float]] = {"open_loop": [], "datasheet": []}
    result = None
    for _ in range(repeats):
        for name, asked in (("open_loop", short), ("datasheet", whole)):
            taken, done = timed(asked, simulator, cores)
            seconds[name].append(taken)
            result = done if name == "open_loop" else result
            yield value_row(f"cells.pvt.{name}.failed", machine, done.failed, done.copies, bar=0)
    for name, times in seconds.items():
        yield time_row(f"cells.pvt.{name}.s", machine, times, bar=PVT_BAR_S)
    if peer and result is not None:
        note("the loop with the whole library: a few minutes")
        taken, gbw = whole_library_loop(cell, simulator)
        yield speed_row(
            "cells.pvt.open_loop.vs_loop.s", machine, seconds["open_loop"], [taken], "whole library, a loop"
        )
        table = result.tables["quantities"]
        ours = table[table["quantity"] == "gbw"].set_index("corner")["value"]
        worst = max(abs(ours[name] / value - 1) for name, value in gbw.items())
        yield value_row("cells.pvt.agreement.gbw_relative", machine, worst, len(gbw), bar=AGREE_BAR)


class NgspiceMemory(threading.Thread):
    """Largest peak memory, in MiB, of any ngspice process seen while the block runs: VmHWM of /proc, every 10 ms.

    What the kernel reports of an ended child is no use: it counts the memory of the Python it was forked from.
    """

    def __enter__(self) -> NgspiceMemory:
        self.peak_mib, self.seen, self._done = 0.0, 0, threading.Event()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        while not self._done.wait(0.01):
            for status in Path("/proc").glob("[0-9]*/status"):
                try:
                    text = status.read_text()
                except OSError:
                    continue  # ended meanwhile
                if text.startswith("Name:\tngspice\n") and (peak := re.search(r"VmHWM:\s+(\d+) kB", text)):
                    self.peak_mib, self.seen = max(self.peak_mib, int(peak[1]) / 1024), self.seen + 1


def die_rows(simulator: Simulator, dies: int) -> Iterator[Row]:
    """One campaign of many dies: wall time, peak memory of this process and of an ngspice, size of the tables."""
    machine = machine_name(simulator)
    inputs = load_inputs(shipped("data/designs") / "digits.toml", {})
    mismatch = inputs.plan.mismatch.model_copy(update={"dies": dies})
    bench = Bench(inputs.design, inputs.plan.model_copy(update={"mismatch": mismatch}), inputs.cells)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with NgspiceMemory() as memory:
            result = run_campaign(
                bench, simulator=simulator, root=Path(folder), jobs=os.cpu_count(), measurements=(NeuronMismatch(),)
            )
        taken = time.perf_counter() - began
        size = 0
        for name, rows in result.tables.items():
            path = Path(folder) / f"{name}.parquet"
            provenance = Provenance(schema_name=SCHEMA, schema_version=1, units=COLUMNS[name])
            write_table(CalibrationTable(name, rows, provenance), path)
            size += path.stat().st_size
    yield time_row("cells.dies.s", machine, [taken])
    yield time_row("cells.dies.s_per_die", machine, [taken], per=dies)
    yield value_row("cells.dies.failed", machine, result.failed, dies, bar=0)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    yield value_row("cells.dies.peak_memory_python.MiB", machine, own, 1)
    yield value_row("cells.dies.peak_memory_ngspice.MiB", machine, memory.peak_mib, memory.seen)
    yield value_row("cells.dies.tables.MiB", machine, size / 2**20, sum(len(t) for t in result.tables.values()))
    poles = result.tables["mismatch_dynamic"]["tau"]
    yield value_row("cells.dies.tau_sd_relative", machine, float(np.std(poles) / np.mean(poles)), len(poles))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(__doc__ or "", "python benchmarks/cells.py --json")
    add_count(made, "--repeats", 3, "times the corners are timed")
    add_count(made, "--dies", 10_000, "dies of the campaign")
    made.add_argument("--no-peer", action="store_true", help="leave the loop with the whole library out")
    given = made.parse_args(arguments)

    def rows() -> Iterator[Row]:
        simulator = find_simulator()
        yield from die_rows(simulator, given.dies)  # first, so that the memory is its own
        yield from pvt_rows(simulator, given.repeats, peer=not given.no_peer)

    return show(rows(), given.json)


if __name__ == "__main__":
    sys.exit(main())
