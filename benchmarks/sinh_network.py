"""Equilibria of networks whose synapses bend, i = G V0 sinh(v / V0), with 2 ohm wires: reduced against flat.

Three ways to the same state: currents of the bent cells added to one reduction (ours, started at the proxy's own bent
states or at its linear ones), and the secant, which reduces the array again for every image and pass. Weights are
trained, the cells are ``sinh_synapse`` at its V0 of 0.43 V and at 0.25 V, where the bend is three times as large.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rows import Row, add_count, machine_name, note, parser, show, speed_row, value_row
from trained_digits import Trained, base_design, reference_proxy, train

from analog_deq.records import Progress
from analog_deq.resources import shipped
from analog_deq.spice.simulator import Simulator, find_simulator
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.verify.bent import BentDie, Settler, bent_passes, start_ports
from analog_deq.verify.bent_array import BentArray
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sweeps import Bed, Sweep, run_sweeps

AGREE_BAR = 1e-6
TIGHT = 1e-8
SECANT_PASSES = 5
TIMEOUT_S = 600.0
MANY = 100
"""Images of the sweep that is timed; the flat deck sweeps as many as its errors are taken on."""


def strong_cell(folder: Path, v0: float) -> Path:
    """``sinh_synapse`` with another V0, as a contract in ``folder``."""
    source = shipped("netlists/cells")
    folder.mkdir(parents=True, exist_ok=True)
    for end, old, new in ((".toml", r"default = 0\.43", f"default = {v0}"), (".cir", r"v0=0\.43", f"v0={v0}")):
        text, count = re.subn(old, new, (source / f"sinh_synapse{end}").read_text())
        assert count == 1, end
        (folder / f"sinh_synapse{end}").write_text(text)
    return folder / "sinh_synapse.toml"


def secant_errors(network: LoweredNetwork, die: BentDie, x: np.ndarray, h: np.ndarray, exact: np.ndarray, bed: Bed):
    """Largest error (units of z) after each pass of the secant: G_eff = i(v)/v at the cells, reduced again."""
    errors = np.zeros((SECANT_PASSES, len(x)))
    for k in range(len(x)):
        effective = die.array.g
        for turn in range(SECANT_PASSES):
            pair = np.swapaxes(effective.reshape(-1, 2, network.states), 0, 1)
            own = replace(network, seen=pair, reduced=None)
            result = run_sweeps([Sweep(own, x[k : k + 1], h[k : k + 1])], bed, Progress(), reltol=TIGHT)[0]
            errors[turn, k] = np.abs(result.states.z[0] - exact[k]).max()
            array = BentArray.of(
                *pair, r_line_ohm=network.design.crossbar.r_line_ohm, r_dac_ohm=network.design.crossbar.r_dac_ohm
            )
            terminals = np.concatenate([result.states.ports_v, network.source_volts(x[k : k + 1])], axis=1)
            across = array.solve(terminals, np.zeros((1, array.g.size)))[0][0]
            safe = np.where(np.abs(across) < 1e-9, 1e-9, across)
            effective = die.curves.current(safe[None])[0] / safe
    return errors.max(axis=1)


def timed(action: Callable[[], object], repeats: int) -> list[float]:
    """Wall seconds of each call."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return seconds


def size_rows(
    net: Trained, synapse: str, label: str, simulator: Simulator, machine: str, images: int, repeats: int
) -> Iterator[Row]:
    """Rows of one size and cell: error per pass of each way, then times."""
    network, model = net.lowered(simulator.klu, synapse), net.model()
    x = net.task.x_test[:images]
    inputs, h = model.inputs(x).numpy(), model.solve(x, domain_share=None).h.numpy()
    sweep = Sweep(network, inputs, h)
    name = f"sinh_network.{label}"

    def fresh(action: Callable[[Bed], object]) -> object:
        with tempfile.TemporaryDirectory() as folder:
            return action(Bed(simulator, Path(folder), 1, TIMEOUT_S))

    note(f"{label}: the flat deck, {images} images")
    flat = fresh(lambda bed: run_sweeps([sweep], bed, Progress(), flat=True, reltol=TIGHT)[0])
    exact = flat.states.z
    yield value_row(f"{name}.flat.failed", machine, float(np.sum(~flat.ok)), images, bar=0)

    def errors(start: np.ndarray, die: BentDie, bed: Bed) -> list[float]:
        turns = bent_passes([sweep], [die], [start], bed, Progress(), reltol=TIGHT, still=1e-8)
        return [float(np.abs(result[0].states.z - exact).max()) for result in turns]

    def both(bed: Bed) -> dict[str, Sequence[float]]:
        die = BentDie.measured(network, bed, Progress())
        started = {"from_proxy": start_ports(model, die, x), "from_linear": linear_start(model, x)}
        found: dict[str, Sequence[float]] = {way: errors(start, die, bed) for way, start in started.items()}
        found["secant"] = list(secant_errors(network, die, inputs, h, exact, bed))
        return found

    for way, per_pass in fresh(both).items():
        for turn, error in enumerate(per_pass, 1):
            last = way != "secant" and turn == len(per_pass)
            yield value_row(f"{name}.{way}.pass_{turn}_units", machine, error, images, bar=AGREE_BAR if last else None)
    many = net.task.x_test[:MANY]
    wide = Sweep(network, model.inputs(many).numpy(), model.solve(many, domain_share=None).h.numpy())
    settler = Settler(model, False, True)
    ours = timed(lambda: fresh(lambda bed: settler.settle([wide], [many], bed, Progress())), repeats)
    peer = timed(lambda: fresh(lambda bed: run_sweeps([sweep], bed, Progress(), flat=True)), 1)
    yield speed_row(
        f"{name}.s_per_image", machine, ours, peer, f"flat deck, sweep of {images} images", per=(MANY, images)
    )


def linear_start(model: DeployedNetwork, x) -> np.ndarray:
    """Ports (images, 3N) at the states of the linear proxy, summing nodes at 0."""
    reading = model.solve(x, domain_share=None).reading.numpy() * model.design.neuron.z_unit_v
    rows = np.repeat(reading, 2, axis=1) * np.tile([1.0, -1.0], reading.shape[1])
    return np.concatenate([np.zeros_like(reading), rows], axis=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(__doc__ or "", "python benchmarks/sinh_network.py --states 16 --images 8")
    add_count(made, "--images", 8, "images whose errors are taken against the flat deck")
    add_count(made, "--repeats", 3, "times our side is timed")
    made.add_argument("--states", type=int, nargs="+", default=[16, 32], help="sizes (16 32)")
    options = made.parse_args(arguments)

    def rows() -> Iterator[Row]:
        simulator = find_simulator()
        machine, proxy = machine_name(simulator), reference_proxy()
        with tempfile.TemporaryDirectory() as folder:
            strong = str(strong_cell(Path(folder) / "cells", 0.25))
            for states in options.states:
                note(f"training {states} states")
                net = train(base_design(states), proxy)
                for v0, synapse in (("v0_0.43", "sinh_synapse"), ("v0_0.25", strong)):
                    label = f"n{states}.{v0}"
                    yield from size_rows(net, synapse, label, simulator, machine, options.images, options.repeats)

    return show(rows(), options.json)


if __name__ == "__main__":
    sys.exit(main())
