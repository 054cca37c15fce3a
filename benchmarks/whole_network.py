"""Verification of the 32-state network with 2 ohm wires: the exactly reduced deck against the flat deck.

The circuit is that of ``data/designs/digits.toml``. Its weights are random, of class A, strongly fed back, and
programmed like trained ones; ``--checkpoint`` and ``--proxy`` take a trained network instead. Times run from deck
text to checked readings, one worker, nothing cached; the reduction itself, once a weight set, is a row of its own.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rows import Row, add_count, interleave, machine_name, note, parser, show, speed_row, time_row, value_row
from scipy.interpolate import CubicSpline

from analog_deq.errors import SpecError
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.pipeline.inputs import Inputs, load_inputs, matching_proxy
from analog_deq.pipeline.stages import fit
from analog_deq.proxy.mapping import ConductanceMapping
from analog_deq.records import Deck, Progress
from analog_deq.resources import shipped
from analog_deq.spec import DesignSpec
from analog_deq.spice.runner import SimulationRun, run_deck
from analog_deq.spice.simulator import Simulator, find_simulator
from analog_deq.train.checkpoint import read_checkpoint
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.train.network import Network
from analog_deq.train.tasks import load_task
from analog_deq.verify.dies import draw_die
from analog_deq.verify.dynamics import round_decade
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sweeps import Bed, Sweep, run_sweeps

SPEED_BAR = 30.0
AGREE_BAR = 1e-6
"""Of full scale, 1 unit of z, for readings; relative for noise."""
IMAGE_BAR_S = 5e-3
"""What "a few milliseconds per image" is held to."""
TIGHT = 1e-8
EQUILIBRIA, FLAT_EQUILIBRIA = 200, 16
"""Images swept by each side; a flat sweep of 200 would be minutes."""
ALIGNED, SPREAD = 1.0, 1.0
"""Feedback is T = a signs signs^T + Gauss: the aligned part gives it a slow mode, like a trained network's."""
FLAT = "flat deck"
TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Circuit:
    """The network under test: DAC outputs ``x`` (images, inputs), pre-activations ``h`` to order them, rest voltage."""

    network: LoweredNetwork
    x: np.ndarray
    h: np.ndarray
    rest_v: float
    band_hz: tuple[float, float]
    simulator: Simulator

    def run(self, deck: Deck) -> SimulationRun:
        """A deck, simulated in a folder that is gone afterwards."""
        with tempfile.TemporaryDirectory() as folder:
            return run_deck(deck, simulator=self.simulator, folder=Path(folder), timeout_s=TIMEOUT_S)

    def settle(self, images: int, *, flat: bool, reltol: float = 1e-4) -> list[tuple[np.ndarray, np.ndarray]]:
        """Time and readings of the first images from rest, in one deck."""
        run = self.run(self.network.transients(self.x[:images], self.rest_v, flat=flat, reltol=reltol))
        pairs = zip(run.plots, self.x, strict=False)
        return [self.network.read_trajectory(plot, x, flat=flat)[:2] for plot, x in pairs]

    def sweep(
        self, images: int, *, flat: bool, reltol: float = 1e-6, network: LoweredNetwork | None = None
    ) -> np.ndarray:
        """Equilibrium readings (images, N) of the first images, by the sweeps that verify runs."""
        with tempfile.TemporaryDirectory() as folder:
            bed = Bed(self.simulator, Path(folder), 1, TIMEOUT_S)
            task = Sweep(network or self.network, self.x[:images], self.h[:images])
            return run_sweeps([task], bed, Progress(), flat=flat, reltol=reltol)[0].states.z

    def noise(self, nodes: Sequence[int], *, flat: bool) -> tuple[np.ndarray, np.ndarray]:
        """Frequency (F,) and output noise density (F, nodes) at the first image, V/sqrt(Hz)."""
        low, high = self.band_hz
        plots = self.run(self.network.noise(self.x[0], list(nodes), low, high, flat=flat)).plots
        return plots[0].sweep, np.stack([np.real(plot["onoise_spectrum"]) for plot in plots], axis=1)


def reference_proxy(inputs: Inputs) -> ProxyParameters:
    """The proxy fitted to the shipped reference tables of the design."""
    with tempfile.TemporaryDirectory() as folder:
        made = fit(None, design=_design_file(), runs=Path(folder), progress=Progress())
        return matching_proxy(made.outputs["proxy"], inputs)


def random_conductances(design: DesignSpec) -> tuple[np.ndarray, np.ndarray]:
    """(g_pos, g_neg) of a class-A network drawn from the design's seed, quantised to the design's levels."""
    generator = torch.Generator().manual_seed(design.seed)
    network = Network(design, generator)
    n = design.sizes.states
    signs = torch.randint(0, 2, (n,), generator=generator).double() * 2 - 1
    with torch.no_grad():
        network.weight.t.copy_(ALIGNED * torch.outer(signs, signs))
        network.weight.t.add_(SPREAD * torch.randn(n, n, generator=generator, dtype=torch.float64))
        g_pos, g_neg = ConductanceMapping.of(design.neuron, design.crossbar).program(network.weights())
    return g_pos.numpy(), g_neg.numpy()


def build_circuit(checkpoint: Path | None, proxy_file: Path | None, simulator: Simulator) -> Circuit:
    """The circuit of a checkpoint with its proxy, or of random weights with the reference proxy."""
    if checkpoint is not None and proxy_file is None:
        raise SpecError("--proxy: missing; --checkpoint needs the proxy that the network was trained through")
    inputs = load_inputs(_design_file(), {})
    design = inputs.design
    proxy = reference_proxy(inputs) if proxy_file is None else matching_proxy(proxy_file, inputs)
    if checkpoint is None:
        g_pos, g_neg = random_conductances(design)
    else:
        net = read_checkpoint(checkpoint)
        g_pos, g_neg = net.g_pos, net.g_neg
    model = DeployedNetwork.nominal(design, proxy, g_pos, g_neg)
    x = load_task(design).x_test
    network = LoweredNetwork(design, inputs.cells, g_pos, g_neg, simulator.klu, proxy.driver.values["r_out_ohm"])
    low, high = proxy.noise.domain["frequency_hz"]
    return Circuit(
        network, model.inputs(x).numpy(), model.solve(x, domain_share=None).h.numpy(),
        proxy.integrator.values["s0_v"], (low, round_decade(high)), simulator,
    )  # fmt: skip


def _design_file() -> Path:
    return shipped("data/designs") / "digits.toml"


def transient_rows(machine: str, seconds: Mapping[str, Sequence[float]], images: int) -> Iterator[Row]:
    """Rows of settling from rest. ``seconds`` holds ``reduction`` and ``{side}_{n}`` for n = 1 and ``images``."""
    reduction_s = seconds["reduction"]
    ours, flat = seconds[f"reduced_{images}"], seconds[f"flat_{images}"]
    per = (images, images)
    yield time_row("whole_network.reduction.s_per_weight_set", machine, reduction_s)
    yield speed_row("whole_network.transient.s_per_image", machine, ours, flat, FLAT, bar=SPEED_BAR, per=per)
    both = [a + b for a, b in zip(ours, reduction_s, strict=True)]
    yield speed_row("whole_network.transient.with_reduction.s_per_image", machine, both, flat, FLAT, per=per)
    if images > 1:
        # what is left of a process when its cheapest start is taken off: the difference of two minima, not a minimum
        # of differences, which would reward noise
        more = (images - 1, images - 1)
        gain = [t - min(seconds["reduced_1"]) for t in ours]
        slow = [t - min(seconds["flat_1"]) for t in flat]
        yield speed_row("whole_network.transient.further_image.s", machine, gain, slow, FLAT, bar=SPEED_BAR, per=more)


def transients(circuit: Circuit, machine: str, repeats: int, images: int) -> Iterator[Row]:
    """Settling of the same images from rest, both decks, and one process with one image to tell start from work."""
    note(f"transients of {images} images from rest, {repeats} times")

    def reduce() -> None:
        net = circuit.network
        LoweredNetwork(net.design, net.cells, net.g_pos, net.g_neg, net.klu, net.r_out_ohm)

    sides: dict[str, Callable[[], object]] = {"reduction": reduce}
    for count in sorted({1, images}):
        for name, flat in (("reduced", False), ("flat", True)):
            sides[f"{name}_{count}"] = partial(circuit.settle, count, flat=flat)
    seconds = interleave(sides, repeats)
    yield from transient_rows(machine, seconds, images)
    yield from equilibria(circuit, machine, repeats, [t / images for t in seconds[f"flat_{images}"]])


def equilibria(circuit: Circuit, machine: str, repeats: int, flat_image_s: Sequence[float]) -> Iterator[Row]:
    """Equilibria of many images by sweeps, against the flat deck settling from rest and against a flat sweep."""
    note(f"equilibria of {EQUILIBRIA} images, {repeats} times")
    seconds = interleave(
        {
            "reduced": lambda: circuit.sweep(EQUILIBRIA, flat=False),
            "flat": lambda: circuit.sweep(FLAT_EQUILIBRIA, flat=True),
        },
        repeats,
    )
    yield from equilibrium_rows(machine, seconds, flat_image_s)


def equilibrium_rows(
    machine: str, seconds: Mapping[str, Sequence[float]], flat_image_s: Sequence[float]
) -> Iterator[Row]:
    """Rows of sweeps. ``seconds`` holds ``reduced`` and ``flat``; ``flat_image_s`` is an image's settling from rest."""
    name = "whole_network.equilibria"
    ours = [t / EQUILIBRIA for t in seconds["reduced"]]
    flat = [t / FLAT_EQUILIBRIA for t in seconds["flat"]]
    yield time_row(f"{name}.s_per_image", machine, ours, bar=IMAGE_BAR_S)
    yield speed_row(f"{name}.against_rest.s_per_image", machine, ours, flat_image_s, f"{FLAT} from rest")
    peer = f"{FLAT}, sweep of {FLAT_EQUILIBRIA} images"
    yield speed_row(f"{name}.against_sweep.s_per_image", machine, ours, flat, peer)


def agreement(circuit: Circuit, machine: str) -> Iterator[Row]:
    """Reduced against flat at tight tolerance: equilibria of the nominal network and of a die, and a trajectory."""
    note("agreement of equilibria and of a trajectory at tight tolerance")
    images = 4
    for name, network in (("nominal", circuit.network), ("die", draw_die(circuit.network, 0))):
        ours, flat = (circuit.sweep(images, flat=f, reltol=TIGHT, network=network) for f in (False, True))
        gap = float(np.abs(ours - flat).max())
        yield value_row(f"whole_network.agreement.equilibria_{name}_units", machine, gap, images, bar=AGREE_BAR)
    (t, z), (t_flat, z_flat) = (circuit.settle(1, flat=f, reltol=TIGHT)[0] for f in (False, True))
    yield value_row("whole_network.agreement.trajectory_points_differing", machine, abs(len(t) - len(t_flat)), 1)
    at = CubicSpline(t_flat, z_flat)(t)  # one step more or less moves all later points
    gap = float(np.abs(z - at).max())
    yield value_row("whole_network.agreement.trajectory_units", machine, gap, len(t), bar=AGREE_BAR)


def noise(circuit: Circuit, machine: str, repeats: int, count: int) -> Iterator[Row]:
    """Output noise of ``count`` nodes: time of both decks, and agreement of integrals and spectra."""
    note(f".noise of {count} nodes, {repeats} times")
    nodes = [int(k) for k in np.linspace(0, circuit.network.states - 1, count).round()]
    results: dict[bool, tuple[np.ndarray, np.ndarray]] = {}

    def side(flat: bool) -> None:
        results[flat] = circuit.noise(nodes, flat=flat)

    seconds = interleave({"reduced": lambda: side(False), "flat": lambda: side(True)}, repeats)
    yield speed_row("whole_network.noise.s", machine, seconds["reduced"], seconds["flat"], FLAT)
    (frequency, ours), (_, flat) = results[False], results[True]
    spectrum = float(np.abs(ours / flat - 1).max())
    totals = [np.sqrt(np.trapezoid(density**2, frequency, axis=0)) for density in (ours, flat)]
    total = float(np.abs(totals[0] / totals[1] - 1).max())
    yield value_row("whole_network.agreement.noise_total_relative", machine, total, count, bar=AGREE_BAR)
    yield value_row("whole_network.agreement.noise_spectrum_relative", machine, spectrum, ours.size, bar=AGREE_BAR)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(__doc__ or "", "python benchmarks/whole_network.py --checkpoint net.safetensors --proxy proxy.json")
    add_count(made, "--repeats", 5, "times each side is timed")
    add_count(made, "--images", 3, "images of a transient deck")
    add_count(made, "--noise-nodes", 2, "nodes whose noise is simulated")
    add_count(made, "--noise-repeats", 2, "times .noise is timed; the flat one takes most of a minute")
    made.add_argument("--checkpoint", type=Path, help="a trained net.safetensors instead of random weights")
    made.add_argument("--proxy", type=Path, help="the proxy.json it was trained through (default: reference tables)")
    parts = ["agreement", "transients", "noise"]
    made.add_argument("--parts", nargs="+", choices=parts, default=parts, help="which of its parts (default: all)")
    options = made.parse_args(arguments)

    def rows() -> Iterator[Row]:
        simulator = find_simulator()
        circuit = build_circuit(options.checkpoint, options.proxy, simulator)
        machine = machine_name(simulator)
        if "agreement" in options.parts:
            yield from agreement(circuit, machine)
        if "transients" in options.parts:
            yield from transients(circuit, machine, options.repeats, options.images)
        if "noise" in options.parts:
            yield from noise(circuit, machine, options.noise_repeats, options.noise_nodes)

    return show(rows(), options.json)


if __name__ == "__main__":
    sys.exit(main())
