"""Networks of 64 to 512 states with 2 ohm wires in ngspice: settling from rest, equilibria, noise, memory.

The circuit is that of ``data/designs/digits_large.toml`` at each size, its weights trained on the digits (ideal
mathematics), programmed and quantised to 8 bits. Times run from deck text to checked readings, one worker, nothing
cached; the reduction, once a weight set, is a row of its own. The flat deck is the referee where it finishes.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Row, add_count, interleave, machine_name, note, parser, show, speed_row, time_row, value_row

from analog_deq.equilibrium.network_noise import network_covariance
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.netlists.neuron import NeuronCells
from analog_deq.pipeline.inputs import load_inputs, matching_proxy
from analog_deq.pipeline.stages import calibrate, fit
from analog_deq.proxy.mapping import ConductanceMapping
from analog_deq.records import Deck, Plot, Progress
from analog_deq.reduction import reduce_array
from analog_deq.resources import shipped
from analog_deq.spec import DesignSpec
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator, find_simulator
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.train.loop import train_network
from analog_deq.train.models import IdealModel
from analog_deq.train.scoring import network_readout
from analog_deq.train.tasks import load_task
from analog_deq.verify.dies import draw_die
from analog_deq.verify.dynamics import round_decade
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.supply import with_exact_supply
from analog_deq.verify.sweeps import Bed, Sweep, run_sweeps

SIZES = (64, 128, 256, 512)
REST_BARS = {128: 0.5, 256: 4.0, 512: 60.0}
"""Seconds an image from rest."""
EQUILIBRIUM_BARS = {128: 0.015, 256: 0.1}
EQUILIBRIA = {64: 128, 128: 128, 256: 64, 512: 16}
FLAT_BAR, AGREE_BAR = 100.0, 1e-6
FLAT, PLAIN = "flat deck", "flat deck, ngspice's own options"
FLAT_IMAGES = 2
TIGHT = 1e-8
TIMEOUT_S = 3600.0
NOISE_BAR = 0.1
"""Relative distance of the proxy's noise from ngspice's that a sign-off allows."""


@dataclass(frozen=True, slots=True)
class Case:
    """One trained network: lowered, its proxy, DAC outputs ``x`` (images, inputs), pre-activations ``h``, labels."""

    network: LoweredNetwork
    model: DeployedNetwork
    x: np.ndarray
    h: np.ndarray
    accuracy: float
    reduction_s: float
    simulator: Simulator

    @property
    def states(self) -> int:
        return self.network.states

    def run(self, deck: Deck) -> tuple[Plot, ...]:
        """Plots of a deck, simulated in a folder that is gone afterwards."""
        with tempfile.TemporaryDirectory() as folder:
            return run_deck(deck, simulator=self.simulator, folder=Path(folder), timeout_s=TIMEOUT_S).plots

    def settle(self, images: int, *, flat: bool = False, defaults: bool = False) -> np.ndarray:
        """Readings (images, N) at the end of the window, each image from rest, all in one deck.

        With ``defaults`` ngspice has its own options (trapezoidal rule, ``reltol`` 1e-3, Sparse), none of ours.
        """
        rest = self.model.proxy.integrator.values["s0_v"]
        deck = self.network.transients(self.x[:images], rest, flat=flat)
        if defaults:
            deck = replace(deck, text=re.sub(r"(?m)^\.options .*\n", "", deck.text))
        plots = self.run(deck)
        pairs = zip(plots, self.x, strict=False)
        return np.array([self.network.read_trajectory(plot, x, flat=flat)[1][-1] for plot, x in pairs])

    def sweep(self, images: int, *, reltol: float = 1e-6) -> np.ndarray:
        """Equilibrium readings (images, N), by the sweeps that verify runs."""
        with tempfile.TemporaryDirectory() as folder:
            bed = Bed(self.simulator, Path(folder), 1, TIMEOUT_S)
            task = Sweep(self.network, self.x[:images], self.h[:images])
            return run_sweeps([task], bed, Progress(), reltol=reltol)[0].states.z

    def noise(self, node: int, *, flat: bool = False) -> np.ndarray:
        """(frequency, density) of one node's differential row at the first image, V/sqrt(Hz)."""
        low, high = self.model.proxy.noise.domain["frequency_hz"]
        (plot,) = self.run(self.network.noise(self.x[0], [node], low, round_decade(high), flat=flat))
        return np.stack([plot.sweep, np.real(plot["onoise_spectrum"])])

    def memory_mb(self) -> float:
        """Largest resident memory of ngspice on this network's settling deck, in a process that starts nothing else."""
        deck = self.network.transients(self.x[:1], self.model.proxy.integrator.values["s0_v"])
        code = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, capture_output=True); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (("deck.cir", deck.text), *deck.files):
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / name).write_text(text)
            call = [sys.executable, "-c", code, str(self.simulator.executable), "-n", "-b", "-r", "out.raw", "deck.cir"]
            done = subprocess.run(call, cwd=folder, check=True, capture_output=True, text=True)
        return int(done.stdout) / 1024


@dataclass(frozen=True, slots=True)
class Bench:
    """What all sizes share: design, cells, and the proxy calibrated in ngspice now."""

    design: DesignSpec
    cells: NeuronCells
    proxy: ProxyParameters
    simulator: Simulator

    @classmethod
    def calibrated(cls, simulator: Simulator) -> Bench:
        path = shipped("data/designs") / "digits_large.toml"
        inputs = load_inputs(path, {})
        with tempfile.TemporaryDirectory() as folder:
            runs, progress = Path(folder), Progress()
            tables = calibrate(path, runs=runs, jobs=1, progress=progress).outputs["tables"]
            proxy = matching_proxy(fit(tables, design=path, runs=runs, progress=progress).outputs["proxy"], inputs)
        return cls(inputs.design, inputs.cells, proxy, simulator)

    def case(self, states: int) -> Case:
        """Trained, programmed and reduced at ``states``."""
        design = self.design.model_copy(update={"sizes": self.design.sizes.model_copy(update={"states": states})})
        task = load_task(design)
        trained, _ = train_network(design, task, IdealModel(design), label=f"{states} states", progress=Progress())
        with torch.no_grad():
            g_pos, g_neg = ConductanceMapping.of(design.neuron, design.crossbar).program(trained.weights())
        own: dict[str, Any] = {"r_line_ohm": design.crossbar.r_line_ohm, "r_dac_ohm": design.crossbar.r_dac_ohm}
        start = time.perf_counter()
        reduced = reduce_array(g_pos.numpy(), g_neg.numpy(), **own)
        seconds = time.perf_counter() - start
        network = LoweredNetwork(
            design, self.cells, g_pos.numpy(), g_neg.numpy(), self.simulator.klu,
            self.proxy.driver.values["r_out_ohm"], reduced=reduced,
        )  # fmt: skip
        model = DeployedNetwork.nominal(design, self.proxy, g_pos.numpy(), g_neg.numpy())
        solved = model.solve(task.x_test)
        outputs = network_readout(design, trained).outputs(solved.reading)
        accuracy = 100 * task.score(outputs, task.y_test).value
        return Case(
            network, model, model.inputs(task.x_test).numpy(), solved.h.numpy(), accuracy, seconds, self.simulator
        )


def speed(case: Case, machine: str, repeats: int, images: int) -> Iterator[Row]:
    """Times of settling from rest and of equilibria, and whether both end in the same states."""
    n, name = case.states, f"large_networks.{case.states}"
    yield value_row(f"{name}.accuracy.percent", machine, case.accuracy, len(case.x))
    yield value_row(f"{name}.reduction.s_per_weight_set", machine, case.reduction_s, 1)
    ends: dict[int, np.ndarray] = {}
    count = min(EQUILIBRIA.get(n, 64), len(case.x))

    def settle(k: int) -> None:
        ends[k] = case.settle(k)

    found: list[np.ndarray] = []
    sides = {"one": lambda: settle(1), "many": lambda: settle(images), "sweep": lambda: found.append(case.sweep(count))}
    seconds = interleave(sides, repeats)
    yield time_row(f"{name}.rest.first_image.s", machine, seconds["one"])
    yield time_row(f"{name}.rest.s_per_image", machine, seconds["many"], bar=REST_BARS.get(n), per=images)
    yield time_row(f"{name}.equilibria.s_per_image", machine, seconds["sweep"], bar=EQUILIBRIUM_BARS.get(n), per=count)
    gap = float(np.abs(ends[images] - found[-1][:images]).max())
    yield value_row(f"{name}.rest_against_equilibrium.units", machine, gap, images, bar=AGREE_BAR)
    proxy = case.model.solve(load_task(case.model.design).x_test[:count]).reading.numpy()
    error = 100 * (case.sweep(min(count, 16), reltol=TIGHT) - proxy[:16])
    yield value_row(f"{name}.proxy_error.rms_percent_fs", machine, float(np.sqrt(np.mean(error**2))), len(error))
    yield value_row(f"{name}.memory.mb", machine, case.memory_mb(), 1)


def against_flat(case: Case, machine: str, images: int) -> Iterator[Row]:
    """Settling from rest beside the flat deck: time and end states; then equilibria and supply, nominal and a die."""
    name = f"large_networks.{case.states}.flat"
    ends: dict[str, np.ndarray] = {}

    def settle(side: str, count: int) -> None:
        ends[side] = case.settle(count, flat=side == "flat")

    sides = {"ours": lambda: settle("ours", images), "flat": lambda: settle("flat", FLAT_IMAGES)}
    seconds = interleave(sides, 1)
    per = (images, FLAT_IMAGES)
    both = [seconds["ours"][0] + case.reduction_s]
    yield speed_row(f"{name}.rest.s_per_image", machine, seconds["ours"], seconds["flat"], FLAT, bar=FLAT_BAR, per=per)
    yield speed_row(f"{name}.rest_with_reduction.s_per_image", machine, both, seconds["flat"], FLAT, per=per)
    gap = float(np.abs(ends["ours"][:FLAT_IMAGES] - ends["flat"][:images]).max())
    yield value_row(f"{name}.end_state.units", machine, gap, min(images, FLAT_IMAGES), bar=AGREE_BAR)
    start = time.perf_counter()
    plain = case.settle(1, flat=True, defaults=True)
    alone = [time.perf_counter() - start]
    yield speed_row(f"{name}.rest.defaults.s_per_image", machine, seconds["ours"], alone, PLAIN, per=(images, 1))
    gap = float(np.abs(plain - ends["flat"][:1]).max())
    yield value_row(f"{name}.defaults_end_state.units", machine, gap, 1)
    yield from equilibria_against_flat(case, machine)


def equilibria_against_flat(case: Case, machine: str) -> Iterator[Row]:
    """States, supply power and time of equilibria, nominal and on a die, at tight tolerance."""
    name = f"large_networks.{case.states}.flat"
    images = 2
    for label, network in (("nominal", case.network), ("die", draw_die(case.network, 0))):
        sweep = Sweep(network, case.x[:images], case.h[:images])
        with tempfile.TemporaryDirectory() as folder:
            bed = Bed(case.simulator, Path(folder), 1, TIMEOUT_S)
            ours = run_sweeps([sweep], bed, Progress(), reltol=TIGHT)
            flat = run_sweeps([sweep], bed, Progress(), flat=True, reltol=TIGHT)[0]
            (exact,) = with_exact_supply([sweep], ours, bed, Progress(), reltol=TIGHT)
        gap = float(np.abs(exact.states.z - flat.states.z).max())
        power = float(np.abs(exact.states.supply_w / flat.states.supply_w - 1).max())
        yield value_row(f"{name}.equilibria_{label}.units", machine, gap, images, bar=AGREE_BAR)
        yield value_row(f"{name}.supply_{label}.relative", machine, power, images, bar=AGREE_BAR)


def noise(case: Case, machine: str) -> Iterator[Row]:
    """``.noise`` of one node beside the flat deck: time, total and spectrum."""
    name = f"large_networks.{case.states}.noise"
    found: dict[bool, np.ndarray] = {}

    def side(flat: bool) -> None:
        found[flat] = case.noise(case.states // 2, flat=flat)

    seconds = interleave({"ours": lambda: side(False), "flat": lambda: side(True)}, 1)
    yield speed_row(f"{name}.s_per_node", machine, seconds["ours"], seconds["flat"], FLAT)
    totals = [np.sqrt(np.trapezoid(found[flat][1] ** 2, found[flat][0])) for flat in (False, True)]
    yield value_row(f"{name}.total.relative", machine, float(abs(totals[0] / totals[1] - 1)), 1, bar=AGREE_BAR)
    gap = float(np.abs(found[False][1] / found[True][1] - 1).max())
    yield value_row(f"{name}.spectrum.relative", machine, gap, found[True].shape[1], bar=AGREE_BAR)


def noise_beside_proxy(case: Case, machine: str) -> Iterator[Row]:
    """``.noise`` of one node where no flat deck finishes: time, and the proxy's total (Lyapunov) over ngspice's."""
    name, node, design = f"large_networks.{case.states}.noise", case.states // 2, case.network.design
    start = time.perf_counter()
    frequency, density = case.noise(node)
    yield time_row(f"{name}.s_per_node", machine, [time.perf_counter() - start])
    total = float(np.sqrt(np.trapezoid(density**2, frequency))) / (2 * design.neuron.z_unit_v)
    model = case.model
    slope = model.act.slope(torch.as_tensor(case.h[:1]))
    predicted = network_covariance(design, model.proxy, model.w_state, model.map.load, slope, model.tau_s)[0]
    ratio = float(predicted[node, node].sqrt()) / total
    yield value_row(f"{name}.proxy_over_ngspice", machine, ratio, 1)
    yield value_row(f"{name}.off_by", machine, abs(ratio - 1), 1, bar=NOISE_BAR)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(__doc__ or "", "python benchmarks/large_networks.py --states 128 256 --parts speed")
    made.add_argument("--states", type=int, nargs="+", default=list(SIZES), help="sizes of the timed networks")
    made.add_argument("--parts", nargs="+", choices=("speed", "flat", "noise"), default=["speed", "flat", "noise"])
    made.add_argument("--flat-states", type=int, nargs="+", default=[64], help="sizes settled on the flat deck too")
    made.add_argument(
        "--noise-states", type=int, nargs="+", default=[32], help="sizes whose noise the flat deck checks"
    )
    made.add_argument(
        "--alone-states", type=int, nargs="+", default=[128, 256], help="sizes whose noise only the proxy checks"
    )
    add_count(made, "--repeats", 2, "times each side is timed")
    add_count(made, "--images", 4, "images of a transient deck")
    options = made.parse_args(arguments)

    def rows() -> Iterator[Row]:
        torch.set_num_threads(1)
        simulator = find_simulator()
        machine = machine_name(simulator)
        bench = Bench.calibrated(simulator)
        for states in options.states if "speed" in options.parts else ():
            note(f"{states} states: settling from rest and equilibria")
            yield from speed(bench.case(states), machine, options.repeats, options.images)
        for states in options.flat_states if "flat" in options.parts else ():
            note(f"{states} states beside the flat deck")
            yield from against_flat(bench.case(states), machine, options.images)
        for states in options.noise_states if "noise" in options.parts else ():
            note(f".noise of {states} states beside the flat deck")
            yield from noise(bench.case(states), machine)
        for states in options.alone_states if "noise" in options.parts else ():
            note(f".noise of {states} states beside the proxy")
            yield from noise_beside_proxy(bench.case(states), machine)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        yield value_row("large_networks.python_memory.mb", machine, peak, 1)

    return show(rows(), options.json)


if __name__ == "__main__":
    sys.exit(main())
