"""The switched-capacitor network beyond `mappings.py`: wires by the flat deck, clock rate, noise of the loop.

ngspice has no noise analysis of a clocked circuit. The loop's noise is therefore also simulated: white noise drawn in
NumPy, written into the deck as piecewise-linear sources, at the op-amps' inputs, in series with every switch and behind
the activations, in a network of three neurons clocked for hundreds of periods.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Row, add_count, machine_name, note, parser, show, value_row

from analog_deq.draws import Stream, generator
from analog_deq.mappings.switched_cap.family import SwitchedCap
from analog_deq.mappings.switched_cap.fit import SwitchedCapProxy
from analog_deq.mappings.switched_cap.lower import SwitchedCapLowered
from analog_deq.mappings.switched_cap.noise import slope_form
from analog_deq.mappings.switched_cap.spec import BOLTZMANN
from analog_deq.netlists.deck import number
from analog_deq.pipeline import families
from analog_deq.pipeline.family_files import load_family_inputs, read_family_proxy
from analog_deq.records import Deck, Progress
from analog_deq.spec import DesignSpec, read_design
from analog_deq.spice.simulator import find_simulator
from analog_deq.train.checkpoint import read_checkpoint
from analog_deq.verify.sweeps import Bed

ROOT = Path(__file__).resolve().parents[1]
PERCENT, KELVIN = 100.0, 300.15
WIRES_OHM = (0.0, 1.0, 2.0, 5.0)
PHASES_S = (100e-9, 70e-9, 50e-9, 40e-9, 30e-9)
NOISE_STEP_S, SUBSTEPS = 0.3e-9, 3
"""Time between noise samples, and time steps in it at least: the first step after each corner is of first order, and
damps what the op-amp's 200 MHz would pass."""
PERIODS, SKIPPED = 16, 8
"""Periods of a noise transient, and those left out while the loop forgets its quiet start."""
EN = 5e-9
PARTS = ("wires", "clock", "noise")


def rows(parts: Sequence[str], bed: Bed, images: int, transients: int, machine: str) -> Iterator[Row]:
    """Figures of the chosen parts."""
    path = ROOT / "data/designs/switched_cap16.toml"
    inputs, quiet = load_family_inputs(read_design(path), path), Progress()
    tables = families.calibrate(inputs, bed, None, quiet).outputs["tables"]
    proxy_path = families.fit(inputs, tables, bed.root, None, quiet).outputs["proxy"]
    proxy = read_family_proxy(proxy_path, inputs)
    assert isinstance(proxy, SwitchedCapProxy)
    trained = families.train(inputs, proxy_path, bed.root, None, True, quiet)
    checkpoint = read_checkpoint(trained.outputs["checkpoint"])
    programmed, x = np.stack([checkpoint.g_pos, checkpoint.g_neg]), inputs.task().x_test[:images]
    if "wires" in parts:
        yield from wires(inputs.design, proxy, programmed, x, bed, machine)
    if "clock" in parts:
        yield from clock(inputs.design, proxy, programmed, x[:1], bed, machine)
    if "noise" in parts:
        yield from noise(inputs.design, proxy, bed, transients, machine)


def lowered(design: DesignSpec, proxy: Any, programmed: np.ndarray, bed: Bed, **family: Any) -> SwitchedCapLowered:
    """The network with other settings of its ``[family]`` table."""
    chosen = SwitchedCap.of(design.model_copy(update={"family": {**design.family, **family}}))
    return chosen.lower(proxy, programmed, bed.simulator.klu)


def with_wires(design: DesignSpec, r_ohm: float) -> DesignSpec:
    """The design with wires of ``r_ohm`` a segment."""
    return design.model_copy(update={"crossbar": design.crossbar.model_copy(update={"r_line_ohm": r_ohm})})


def wires(
    design: DesignSpec, proxy: Any, programmed: np.ndarray, x: torch.Tensor, bed: Bed, machine: str
) -> Iterator[Row]:
    """Proxy, which knows no wires, against the flat deck with every wire."""
    for r in WIRES_OHM:
        low = lowered(with_wires(design, r), proxy, programmed, bed)
        found = low.run_equilibria(low.deployed.inputs(x).numpy(), None, bed, Progress(), flat=True)
        error = PERCENT * (found.z - low.deployed.solve(x, domain_share=None).reading.numpy())[found.ok]
        name, count = f"switched_cap.wires_{r:g}_ohm", int(found.ok.sum())
        yield value_row(f"{name}.rms_percent_fs", machine, float(np.sqrt(np.mean(error**2))), count, bar=0.2)
        yield value_row(f"{name}.max_percent_fs", machine, float(np.abs(error).max()), count, bar=0.5)


def clock(
    design: DesignSpec, proxy: Any, programmed: np.ndarray, x: torch.Tensor, bed: Bed, machine: str
) -> Iterator[Row]:
    """How far the flat network's fixed point moves as phases shorten, with ideal and 5 ohm wires; and the proxy."""
    settled: np.ndarray | None = None
    for phase in PHASES_S:
        spec = {**design.family.get("clock", {}), "phase_s": phase}
        for r in (0.0, 5.0):
            low = lowered(with_wires(design, r), proxy, programmed, bed, clock=spec)
            found = low.run_equilibria(low.deployed.inputs(x).numpy(), None, bed, Progress(), flat=True)
            name = f"switched_cap.phase_{1e9 * phase:.0f}_ns.wires_{r:g}_ohm"
            if not found.ok.all():
                note(f"{name}: {found.status[0]}")
                continue
            settled = found.z if settled is None else settled
            yield value_row(
                f"{name}.moved_max_percent_fs", machine, PERCENT * float(np.abs(found.z - settled).max()), 1
            )
            error = found.z - low.deployed.solve(x, domain_share=None).reading.numpy()
            yield value_row(f"{name}.proxy_max_percent_fs", machine, PERCENT * float(np.abs(error).max()), 1)


def noise(design: DesignSpec, proxy: Any, bed: Bed, transients: int, machine: str) -> Iterator[Row]:
    """rms of the held states of three neurons: drawn noise in transients, against the proxy's prediction."""
    low, x = small_network(design, proxy, bed)
    solved = low.deployed.solve(torch.as_tensor(x[None]), domain_share=None)
    slope = low.deployed.act.slope(solved.h)
    w, n = solved.h.numpy()[0], low.circuit.states
    found = low.run_equilibria(x[None], solved, bed, Progress())
    decks = [noisy_deck(low, x, w, slope.numpy()[0], proxy, design.seed, k) for k in range(transients)]
    outcomes = bed.run(decks, Progress())
    held = [low.held(o.run.plots[0], PERIODS)[SKIPPED:] for o in outcomes if o.run is not None]
    note(f"noise: {len(held)} of {transients} transients valid; equilibrium {found.status[0]}")
    samples = np.concatenate(held)
    rms = samples.std(axis=0)
    predicted = low.deployed.noise_rms(torch.as_tensor(x[None]))[0]
    measured = low.run_noise(x, list(range(n)), bed, Progress())
    row = proxy.noise["row"].values
    load = 1 + low.deployed.map.row_load.numpy() / row["c0_f"]
    wide = slope_form(row, slope)[0].numpy() / load
    loop = np.sqrt(predicted**2 - wide) / slope.numpy()[0]
    for i in range(n):
        yield value_row(f"switched_cap.loop_noise.state_{i}.transient_units", machine, float(rms[i]), len(samples))
        yield value_row(f"switched_cap.loop_noise.state_{i}.predicted_units", machine, float(loop[i]), 1)
    pooled = float(np.sqrt(np.mean((samples - samples.mean(axis=0)) ** 2 / loop**2)))
    yield value_row("switched_cap.loop_noise.transient_over_predicted", machine, pooled, samples.size)
    yield value_row(
        "switched_cap.loop_noise.predicted_over_held_phases", machine, float(np.mean(predicted / measured)), n
    )


def small_network(design: DesignSpec, proxy: Any, bed: Bed) -> tuple[SwitchedCapLowered, np.ndarray]:
    """A random contractive network of three inputs and three states, its columns loaded like a real one's, an input."""
    states = inputs = 3
    sizes = design.sizes.model_copy(update={"states": states, "inputs": inputs})
    family = SwitchedCap.of(with_wires(design.model_copy(update={"sizes": sizes}), 0.0))
    rng = generator(design.seed, Stream.STATISTICS)
    w = rng.normal(size=(states, states))
    w *= 0.8 / np.linalg.norm(w, 2)
    weights = np.concatenate([0.4 * rng.normal(size=(inputs, states)), np.zeros((1, states)), w.T])
    programmed = family.program(proxy, torch.as_tensor(weights)).numpy()
    low = family.lower(proxy, programmed, bed.simulator.klu)
    x = low.deployed.inputs(torch.as_tensor(rng.uniform(-0.5, 0.5, (1, inputs)))).numpy()[0]
    return low, x


def noisy_deck(
    low: SwitchedCapLowered, x: np.ndarray, w: np.ndarray, slope: np.ndarray, proxy: Any, seed: int, index: int
) -> Deck:
    """The network's transient with drawn noise in series with its op-amps, every switch and the drivers."""
    deck = low.periods_deck(x, w, PERIODS)
    settings = low.circuit.bench.settings
    count = int(np.ceil(PERIODS * settings.clock.period_s / NOISE_STEP_S)) + 2
    rng = generator(seed, Stream.READ_NOISE, index)
    models = [line.split() for line in deck.text.splitlines() if line.startswith(".model sw")]
    thermal = {m[1]: float(next(w for w in m if w.startswith("ron="))[4:]) for m in models}
    state = np.sqrt(slope_form(proxy.noise["state"].values, torch.as_tensor(slope)).numpy()) * settings.scales.z_unit_v
    lines, sources = [], []

    def series(line: str, place: int, density: float) -> str:
        words = line.split()
        node, inner = words[place], f"n{len(sources)}x"
        words[place] = inner
        volts = np.sqrt(density**2 / (2 * NOISE_STEP_S)) * rng.standard_normal(count)
        points = [f"{number(k * NOISE_STEP_S)} {number(round(v, 12))}" for k, v in enumerate(volts)]
        text = [f"Vn{len(sources)} {inner} {node} PWL("]
        text += [f"+ {' '.join(points[k : k + 8])}" for k in range(0, count, 8)]
        sources.append("\n".join([*text, "+ )"]))
        return " ".join(words)

    for line in deck.text.splitlines():
        name = line.split()[0] if line.split() else ""
        if name[:1] == "S":
            line = series(line, 1, np.sqrt(4 * BOLTZMANN * KELVIN * thermal[line.split()[-1]]))
        elif name[:2] == "Xo" and name[2:].isdigit():
            line = series(line, 1, EN)
        elif name[:2] == "Xd" and name[2:].isdigit():
            line = series(line, 1, float(state[int(name[2:])]))
        elif name == ".control":
            lines += sources
        elif name == "tran":
            step = number(NOISE_STEP_S / SUBSTEPS)
            line = f"tran {step} {line.split()[2]} 0 {step}"
        lines.append(line)
    return Deck("\n".join([*lines, ""]), deck.plots, deck.files, deck.bound, deck.arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures."""
    made = parser(__doc__.splitlines()[0], "python benchmarks/switched_cap.py --parts wires --images 3")
    made.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to run (all)")
    made.add_argument("--runs", type=Path, default=Path("runs"), help="folder of finished stages (runs)")
    add_count(made, "--images", 5, "images of each wire resistance")
    add_count(made, "--transients", 8, f"noise transients of {PERIODS} periods")
    options = made.parse_args(arguments)
    torch.set_num_threads(1)
    simulator = find_simulator()
    bed = Bed(simulator, options.runs, jobs=1, timeout_s=1200.0)
    found = rows(options.parts, bed, options.images, options.transients, machine_name(simulator))
    return show(found, options.json)


if __name__ == "__main__":
    sys.exit(main())
