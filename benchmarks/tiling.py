"""Layers cut into tiles, convolutions fed back, and digital partial sums: what each does to the states in ngspice.

A network of 64 states trained on the digits (``data/designs/digits_large.toml``) untiled, in tiles, and with its inputs
read through ADCs tile by tile; then convolutional networks of 64 and 72 states (3 x 3 kernels drawn from the seed, not
trained) unrolled onto tiles. Errors are of row readings, in per cent of full scale; no times are taken.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from large_networks import TIGHT, TIMEOUT_S, Bench, Case
from rows import Row, add_count, machine_name, parser, show, value_row

from analog_deq.proxy.mapping import ConductanceMapping
from analog_deq.records import Progress
from analog_deq.reduction import reduce_array
from analog_deq.spec import DesignSpec
from analog_deq.spice.simulator import find_simulator
from analog_deq.tiling import Converter, Tile, cut, partial_sums, unrolled, unrolled_mask
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sweeps import Bed, Sweep, run_sweeps

STATES = 64
TILE = 32
SPAN = 1.5
"""A converter's range over the largest current of the images."""
CONVOLUTIONS = {"1x8x8": (1, 8, 8), "2x6x6": (2, 6, 6)}
NORM = 0.8
"""Largest absolute row sum of the feedback: the equilibrium is unique."""


def settled(
    network: LoweredNetwork, x: np.ndarray, h: np.ndarray, *, flat: bool = False, **nudge: np.ndarray
) -> np.ndarray:
    """Equilibrium readings (images, N) in ngspice."""
    with tempfile.TemporaryDirectory() as folder:
        bed = Bed(find_simulator(), Path(folder), 1, TIMEOUT_S)
        return run_sweeps([Sweep(network, x, h, **nudge)], bed, Progress(), flat=flat, reltol=TIGHT)[0].states.z


def rms(error: np.ndarray) -> float:
    return float(100 * np.sqrt(np.mean(error**2)))


def tiles(case: Case, machine: str, images: int) -> Iterator[Row]:
    """The trained layer whole and in tiles, against the array without wires, the proxy and the flat deck."""
    whole, x, h = case.network, case.x[:images], case.h[:images]
    rows, columns = whole.g_pos.shape
    cuts = cut(rows, columns, TILE, TILE)
    ideal_array = whole.design.crossbar.model_copy(update={"r_line_ohm": 0.0})
    ideal = replace(whole, design=whole.design.model_copy(update={"crossbar": ideal_array}), reduced=None)
    tiled = replace(whole, tiles=cuts, reduced=None)
    states = {name: settled(net, x, h) for name, net in (("ideal", ideal), ("whole", whole), ("tiled", tiled))}
    name = "tiling.digits64"
    yield value_row(f"{name}.tiles", machine, len(cuts), 1)
    for side in ("whole", "tiled"):
        yield value_row(
            f"{name}.{side}_against_no_wires.rms_percent_fs", machine, rms(states[side] - states["ideal"]), images
        )
    yield value_row(
        f"{name}.tiled_against_whole.rms_percent_fs", machine, rms(states["tiled"] - states["whole"]), images
    )
    model = DeployedNetwork.nominal(tiled.design, case.model.proxy, tiled.g_pos, tiled.g_neg, tiles=cuts)
    proxy = model.solve(torch.as_tensor(x)).reading.numpy()
    yield value_row(f"{name}.proxy_error.rms_percent_fs", machine, rms(states["tiled"] - proxy), images, bar=0.2)
    gap = float(np.abs(settled(tiled, x[:2], h[:2], flat=True) - states["tiled"][:2]).max())
    yield value_row(f"{name}.flat.units", machine, gap, 2, bar=1e-6)


def digital(case: Case, machine: str, images: int) -> Iterator[Row]:
    """The inputs' part of the same layer read through converters, four tiles of 16 inputs, and injected as currents."""
    network, x, h = case.network, case.x[:images], case.h[:images]
    design, inputs = network.design, x.shape[1]
    wires = {"r_line_ohm": design.crossbar.r_line_ohm, "r_dac_ohm": design.crossbar.r_dac_ohm}
    own = (network.g_pos[inputs:], network.g_neg[inputs:])
    loop = replace(network, g_pos=own[0], g_neg=own[1], reduced=reduce_array(*own, **wires))
    volts = x * design.neuron.z_unit_v
    parts = cut(inputs, network.states, 16, network.states)
    layer = (network.g_pos[:inputs], network.g_neg[:inputs])
    wide = Converter(30, 1.0)
    exact = partial_sums(*layer, parts, volts, **wires, adc=wide, dac=wide).exact
    dark = np.zeros((images, 0))
    reference = settled(loop, dark, h, nudge_a=exact)
    analogue = settled(network, x, h)
    yield value_row(
        "tiling.partial_sums.exact_against_one_array.rms_percent_fs", machine, rms(reference - analogue), images
    )
    for bits in (6, 8, 10, 12):
        converter = Converter(bits, SPAN * float(np.abs(exact).max()))
        found = partial_sums(*layer, parts, volts, **wires, adc=converter, dac=converter)
        error = rms(settled(loop, dark, h, nudge_a=found.digital) - reference)
        yield value_row(f"tiling.partial_sums.{bits}_bits.rms_percent_fs", machine, error, images)


def convolution(bench: Bench, shape: tuple[int, int, int], machine: str, name: str, images: int) -> Iterator[Row]:
    """z = sigma(K * z + L * x + b) on maps of ``shape``, every tile with wires, against proxy and flat deck."""
    channels, height, width = shape
    n = channels * height * width
    sizes = bench.design.sizes.model_copy(update={"states": n, "inputs": n})
    design: DesignSpec = bench.design.model_copy(update={"sizes": sizes})
    rng = np.random.default_rng(design.seed)
    feedback = unrolled(kernel := rng.standard_normal((channels, channels, 3, 3)), height, width)
    scale = NORM / np.abs(feedback).sum(axis=1).max()
    inputs = unrolled(0.3 * rng.standard_normal(kernel.shape), height, width)
    weights = np.concatenate([inputs.T, np.full((1, n), 0.1), scale * feedback.T])
    g_pos, g_neg = (
        g.numpy() for g in ConductanceMapping.of(design.neuron, design.crossbar).program(torch.as_tensor(weights))
    )
    used = unrolled_mask(kernel, height, width).T
    cuts: tuple[Tile, ...] = cut(*g_pos.shape, 16, 16, np.concatenate([used, np.ones((1, n), dtype=bool), used]))
    x = rng.uniform(-1, 1, (images, n))
    model = DeployedNetwork.nominal(design, bench.proxy, g_pos, g_neg, tiles=cuts)
    solved = model.solve(torch.as_tensor(x))
    x = model.inputs(torch.as_tensor(x)).numpy()
    network = LoweredNetwork(
        design, bench.cells, g_pos, g_neg, bench.simulator.klu, bench.proxy.driver.values["r_out_ohm"], tiles=cuts
    )
    found = settled(network, x, solved.h.numpy())
    pairs = sum(tile.cells for tile in cuts)
    yield value_row(f"tiling.convolution_{name}.tiles", machine, len(cuts), 1)
    yield value_row(f"tiling.convolution_{name}.pairs_of_devices", machine, pairs, g_pos.size)
    error = rms(found - solved.reading.numpy())
    yield value_row(f"tiling.convolution_{name}.proxy_error.rms_percent_fs", machine, error, images, bar=0.2)
    gap = float(np.abs(settled(network, x[:2], solved.h.numpy()[:2], flat=True) - found[:2]).max())
    yield value_row(f"tiling.convolution_{name}.flat.units", machine, gap, 2, bar=1e-6)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(__doc__ or "", "python benchmarks/tiling.py --images 50")
    add_count(made, "--images", 50, "images settled")
    options = made.parse_args(arguments)

    def rows() -> Iterator[Row]:
        torch.set_num_threads(1)
        simulator = find_simulator()
        machine = machine_name(simulator)
        bench = Bench.calibrated(simulator)
        case = bench.case(STATES)
        yield from tiles(case, machine, options.images)
        yield from digital(case, machine, options.images)
        for name, shape in CONVOLUTIONS.items():
            yield from convolution(bench, shape, machine, name, options.images)

    return show(rows(), options.json)


if __name__ == "__main__":
    sys.exit(main())
