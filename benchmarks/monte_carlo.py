"""Monte-Carlo calibration of the neuron: blocks of copies in a deck against one ngspice process per draw.

The draws are those of ``analog-deq calibrate``: every mismatched parameter of one neuron, written into the deck as
numbers. Both sides use the same deck generator, one worker and nothing cached. There are two peers. ``tuned`` is our
own driver with one copy in a deck: no start-up files, one thread, every check. ``installed`` is plain
``ngspice -b -r out.raw deck.cir`` with the start-up file and the threads that the distribution chose, and no checks.
A deck holds both analyses of its draws (``.dc`` and ``.ac``), so a peer starts exactly one process a draw. The
``stage`` rows are the whole Monte-Carlo part of the calibration, neurons and synapses; the bar is on all of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rows import Row, add_count, machine_name, note, parser, positive, show, speed_row, time_row, value_row

from analog_deq.calibration.measurement import Bench
from analog_deq.calibration.mismatch import ConductanceMismatch, Die, NeuronMismatch
from analog_deq.pipeline.inputs import load_inputs
from analog_deq.records import Deck, Plot
from analog_deq.resources import shipped
from analog_deq.spice.rawfile import read_plots
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator, find_simulator

BAR = 20.0
AGREE_BAR = 1e-6
"""Units of h and z."""
BLOCKS = (16, 64, 128, 256)
PEERS = {
    "tuned": "an ngspice process per draw, our driver",
    "installed": "ngspice -b per draw, as installed",
}
SHORT = {"DC transfer characteristic": "static", "AC Analysis": "ac"}
Generator = Callable[[Sequence[Die]], tuple[Deck, ...]]
Run = tuple[tuple[Plot, ...], float]
"""Plots of a deck and the wall seconds of the process alone."""


@dataclass(frozen=True, slots=True)
class Pass:
    """All draws simulated once: seconds of building, of each deck with its driver, of its process alone; and plots.

    ``deck_s`` and ``process_s`` (decks of a block,) are summed over blocks; ``plots`` is by block, then deck.
    """

    build_s: float
    deck_s: np.ndarray
    process_s: np.ndarray
    plots: tuple[tuple[tuple[Plot, ...], ...], ...] = ()

    @property
    def total_s(self) -> float:
        """From draws to checked arrays."""
        return self.build_s + float(self.deck_s.sum())


def tuned(deck: Deck, simulator: Simulator, folder: Path) -> Run:
    """A deck through the driver of the package."""
    run = run_deck(deck, simulator=simulator, folder=folder)
    return run.plots, run.wall_s


def installed(deck: Deck, simulator: Simulator, folder: Path) -> Run:
    """A deck through ngspice as a person would start it."""
    work = Path(tempfile.mkdtemp(dir=folder))
    for name, content in (("deck.cir", deck.text), *deck.files):
        (work / name).write_text(content)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(work), "LC_ALL": "C"}
    command = [str(simulator.executable), "-b", "-r", "out.raw", "deck.cir"]
    began = time.perf_counter()
    subprocess.run(command, cwd=work, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    wall_s = time.perf_counter() - began
    return read_plots(work / "out.raw"), wall_s


def one_pass(
    decks: Generator,
    dies: Sequence[Die],
    block: int,
    simulator: Simulator,
    run: Callable[[Deck, Simulator, Path], Run] = tuned,
) -> Pass:
    """Every die once, ``block`` copies to a deck, one process at a time, in fresh folders."""
    build_s = 0.0
    deck_s, process_s, plots = [], [], []
    for start in range(0, len(dies), block):
        began = time.perf_counter()
        made = decks(dies[start : start + block])
        build_s += time.perf_counter() - began
        walls, runs = [], []
        with tempfile.TemporaryDirectory() as folder:
            for deck in made:
                began = time.perf_counter()
                runs.append(run(deck, simulator, Path(folder)))
                walls.append(time.perf_counter() - began)
        deck_s.append(walls)
        process_s.append([wall_s for _, wall_s in runs])
        plots.append(tuple(plot for plot, _ in runs))
    return Pass(build_s, np.sum(deck_s, axis=0), np.sum(process_s, axis=0), tuple(plots))


def case_rows(
    name: str, machine: str, sides: Mapping[str, Sequence[Pass]], decks: Sequence[int], draws: tuple[int, int]
) -> Iterator[Row]:
    """Rows of some ``decks`` of a block against each peer: from draws to checked arrays, and the processes alone.

    Building is shared out equally among the decks; ``draws`` are (ours, a peer's); ``sides`` hold ours and the peers.
    """
    chosen = list(decks)

    def whole(run: Pass) -> float:
        return run.build_s * len(chosen) / len(run.deck_s) + float(run.deck_s[chosen].sum())

    def process(run: Pass) -> float:
        return float(run.process_s[chosen].sum())

    for peer, peer_name in PEERS.items():
        for suffix, seconds, bar in (("s_per_draw", whole, BAR), ("process_s_per_draw", process, None)):
            if bar is not None or peer == "tuned":  # the processes alone compare only with one and the same settings
                mine, theirs = [seconds(run) for run in sides["ours"]], [seconds(run) for run in sides[peer]]
                row = f"monte_carlo.{name}.{peer}.{suffix}"
                yield speed_row(row, machine, mine, theirs, peer_name, bar=bar, per=draws)


def stage_rows(
    bench: Bench,
    simulator: Simulator,
    machine: str,
    neurons: Mapping[str, Sequence[Pass]],
    counts: tuple[int, int],
    repeats: int,
) -> Iterator[Row]:
    """The whole Monte-Carlo part of calibrate: a die is a neuron and a synapse at every level, each in its deck."""
    synapses = ConductanceMismatch()
    samples = synapses.samples(bench)
    times: dict[str, list[float]] = {side: [] for side in neurons}
    for k in range(repeats):
        for side in neurons:
            part = samples if side == "ours" else samples[: counts[1]]
            size = synapses.block_size(bench) if side == "ours" else 1
            run = installed if side == "installed" else tuned
            done = one_pass(lambda block: synapses.decks(bench, block), part, size, simulator, run)
            times[side].append(done.total_s / len(part) + neurons[side][k].total_s / counts[side != "ours"])
    for peer, peer_name in PEERS.items():
        yield speed_row(f"monte_carlo.stage.{peer}.s_per_die", machine, times["ours"], times[peer], peer_name, bar=BAR)


def static_difference(bench: Bench, ours: Pass, peer: Pass, block: int) -> float:
    """Largest difference of v in units of h and of z, over the draws of the peer."""
    neuron, worst = bench.design.neuron, 0.0
    for draw, plots in enumerate(peer.plots):
        alone, together, k = plots[0][0], ours.plots[draw // block][0][0], draw % block
        v, zp, zn = (np.real(together[f"v({s}{k})"] - alone[f"v({s}0)"]) for s in ("v", "zp", "zn"))
        gaps = np.abs(v) / neuron.v_unit_v, np.abs(zp - zn) / (2 * neuron.z_unit_v)
        worst = max(worst, *(float(gap.max()) for gap in gaps))
    return worst


def tau_difference(bench: Bench, ours: Pass, peer: Pass, dies: Sequence[Die], block: int) -> float:
    """Largest relative difference of the measured time constant. Copies of a block share one adaptive time step."""
    measurement, worst = NeuronMismatch(), 0.0
    together = [
        tau
        for k, plots in enumerate(ours.plots)
        for tau in measurement.tabulate(bench, dies[k * block : (k + 1) * block], plots)["mismatch_dynamic"]["tau"]
    ]
    for draw, plots in enumerate(peer.plots):
        alone = measurement.tabulate(bench, dies[draw : draw + 1], plots)["mismatch_dynamic"]["tau"].iloc[0]
        worst = max(worst, abs(together[draw] / alone - 1))
    return worst


def measure(bench: Bench, simulator: Simulator, repeats: int, draws: int, blocks: Sequence[int]) -> Iterator[Row]:
    """Rows of the benchmark; the peer simulates the first ``draws`` of the dies that our side simulates."""
    machine, measurement = machine_name(simulator), NeuronMismatch()
    dies, block = measurement.samples(bench), measurement.block_size(bench)
    few, counts = dies[:draws], (len(dies), min(draws, len(dies)))

    def decks(part: Sequence[Die]) -> tuple[Deck, ...]:
        return measurement.decks(bench, part)

    names = ["_and_".join(SHORT.get(p.name, p.name) for p in deck.plots) for deck in decks(dies[:1])]
    note(f"{counts[0]} draws in blocks of {block} beside {counts[1]} in a process each, {repeats} times")
    passes: dict[str, list[Pass]] = {side: [] for side in ("ours", *PEERS)}
    for _ in range(repeats):
        passes["ours"].append(one_pass(decks, dies, block, simulator))
        passes["tuned"].append(one_pass(decks, few, 1, simulator))
        passes["installed"].append(one_pass(decks, few, 1, simulator, installed))
    for k, name in enumerate(names):
        yield from case_rows(name, machine, passes, [k], counts)
    yield from stage_rows(bench, simulator, machine, passes, counts, repeats)
    ours, peer = passes["ours"][0], passes["tuned"][0]
    gap = static_difference(bench, ours, peer, block)
    yield value_row("monte_carlo.agreement.v_z_units", machine, gap, counts[1], bar=AGREE_BAR)
    gap = tau_difference(bench, ours, peer, dies, block)
    yield value_row("monte_carlo.agreement.tau_relative", machine, gap, counts[1])
    if blocks:
        note(f"blocks of {', '.join(map(str, blocks))} draws")
    seconds: dict[int, list[float]] = {size: [] for size in blocks}
    for _ in range(repeats):
        for size in blocks:
            seconds[size].append(one_pass(decks, dies, size, simulator).total_s)
    for size, times in seconds.items():
        yield time_row(f"monte_carlo.block_{size}.s_per_draw", machine, times, per=len(dies))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(__doc__ or "", "python benchmarks/monte_carlo.py --json")
    add_count(made, "--repeats", 7, "times each side is timed")
    add_count(made, "--draws", 64, "draws of a peer, a process each")
    made.add_argument(
        "--blocks", type=positive, nargs="*", default=BLOCKS, metavar="N", help=f"block sizes to try {BLOCKS}"
    )
    options = made.parse_args(arguments)

    def rows() -> Iterator[Row]:
        inputs = load_inputs(shipped("data/designs") / "digits.toml", {})
        bench = Bench(inputs.design, inputs.plan, inputs.cells)
        yield from measure(bench, find_simulator(), options.repeats, options.draws, options.blocks)

    return show(rows(), options.json)


if __name__ == "__main__":
    sys.exit(main())
