"""Weights scaled to the conductance range: digits at 8 to 64 levels, R_F as designed, scaled for all, scaled by column.

``after``: the network is trained with analogue conductances and quantised afterwards. ``through``: trained through the
quantiser. Accuracies are of the nominal proxy; one scaled network is then settled in ngspice, its images, noise and
settling against the proxy.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from rows import Row, add_count, machine_name, note, parser, show, value_row
from trained_digits import base_design, reference_proxy

from analog_deq.fit.parameters import ProxyParameters
from analog_deq.netlists.neuron import load_cells
from analog_deq.records import Progress
from analog_deq.spec import DesignSpec
from analog_deq.spice.simulator import Simulator, find_simulator
from analog_deq.statistics import wilson
from analog_deq.train.loop import train_network
from analog_deq.train.models import ProxyModel
from analog_deq.train.network import Network
from analog_deq.train.scoring import deploy, network_readout
from analog_deq.train.tasks import Task, load_task
from analog_deq.verify.dynamics import run_noise, run_transients
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sweeps import Bed, Sweep, run_sweeps

PERCENT = 100.0
MODES = ("none", "global", "column")
TIMEOUT_S = 600.0
TRANSIENTS = 5


def trained(design: DesignSpec, proxy: ProxyParameters, task: Task) -> Network:
    """The design's network, trained through its proxy."""
    return train_network(design, task, ProxyModel(design, proxy), label="proxy", progress=Progress())[0]


def correct(design: DesignSpec, proxy: ProxyParameters, task: Task, network: Network) -> tuple[int, float]:
    """Correct labels of the test images on the nominal proxy, and the median share of the range a weight uses."""
    model = deploy(design, proxy, network)
    reading = model.solve(task.x_test, domain_share=None).reading
    right = int((network_readout(design, network).predict(reading) == task.y_test).sum())
    largest = network.weights().detach().abs().amax(0)
    scale = proxy.r_feedback_ohm * design.neuron.z_unit_v / design.neuron.v_unit_v
    share = 1.0 if model.share is None else torch.as_tensor(model.share)
    span = design.crossbar.g_max_siemens - design.crossbar.g_min_siemens
    return right, float((largest / (scale * share * span)).max())


def accuracies(levels: Sequence[int], seeds: int, states: int, machine: str) -> Iterator[Row]:
    """Rows of accuracy by way, scaling and levels, over seeds; the interval is of all their images together."""
    proxy = reference_proxy()
    for mode in MODES:
        right: dict[str, list[int]] = {}
        for seed in range(seeds):
            note(f"{mode}, seed {seed}")
            free = base_design(states, seed, crossbar={"levels": 0}, scaling={"mode": mode})
            task = load_task(free)
            network = trained(free, proxy, task)
            count, used = correct(free, proxy, task, network)
            right.setdefault("analogue", []).append(count)
            if seed == 0:
                yield value_row(f"scaling.{mode}.largest_weight_share_of_range", machine, used, 1)
            for level in levels:
                own = base_design(states, seed, crossbar={"levels": level}, scaling={"mode": mode})
                right.setdefault(f"after.levels_{level}", []).append(correct(own, proxy, task, network)[0])
                through = trained(own, proxy, task)
                right.setdefault(f"through.levels_{level}", []).append(correct(own, proxy, task, through)[0])
        images = len(task.y_test)
        for name, counts in right.items():
            low, high = wilson(sum(counts), images * seeds)
            accuracy = PERCENT * sum(counts) / (images * seeds)
            yield value_row(
                f"scaling.{mode}.{name}.accuracy_percent", machine, accuracy, seeds,
                interval=(PERCENT * low, PERCENT * high),
            )  # fmt: skip
            yield value_row(
                f"scaling.{mode}.{name}.accuracy_min_percent", machine, PERCENT * min(counts) / images, seeds
            )


def in_ngspice(levels: int, states: int, images: int, simulator: Simulator, machine: str) -> Iterator[Row]:
    """Rows of one network with a share of R_F in each column, in ngspice against its proxy."""
    proxy = reference_proxy()
    design = base_design(states, 0, crossbar={"levels": levels}, scaling={"mode": "column"})
    note(f"column scaling at {levels} levels in ngspice")
    task = load_task(design)
    network = trained(design, proxy, task)
    model = deploy(design, proxy, network)
    weights = network.weights().detach()
    mapping = ProxyModel(design, proxy).mapping
    share = mapping.feedback_share(weights, design.scaling)
    g_pos, g_neg = (g.numpy() for g in mapping.scaled(share).program(weights))
    lowered = LoweredNetwork.nominal(
        design, load_cells(design.cells), g_pos, g_neg, simulator.klu, proxy, None if share is None else share.numpy()
    )
    x = task.x_test[:images]
    solved = model.solve(x, domain_share=None)
    with tempfile.TemporaryDirectory() as folder:
        bed = Bed(simulator, Path(folder), 1, TIMEOUT_S)
        result = run_sweeps([Sweep(lowered, model.inputs(x).numpy(), solved.h.numpy())], bed, Progress())[0]
        yield value_row("scaling.ngspice.failed", machine, float(np.sum(~result.ok)), images, bar=0)
        error = PERCENT * (result.states.z - solved.reading.numpy())[result.ok]
        yield value_row(
            "scaling.ngspice.fixed_point_rms_percent_fs", machine, float(np.sqrt(np.mean(error**2))), images, bar=0.2
        )
        yield value_row(
            "scaling.ngspice.fixed_point_max_percent_fs", machine, float(np.abs(error).max()), images, bar=0.5
        )
        labels = network_readout(design, network).predict(torch.as_tensor(np.nan_to_num(result.states.z)))
        right = PERCENT * float(np.mean((labels == task.y_test[:images]).numpy() & result.ok))
        yield value_row("scaling.ngspice.accuracy_percent", machine, right, images)
        noisy = run_noise(lowered, model, task.x_test, 0, bed, Progress())
        ratio = noisy.rms_proxy / noisy.rms_spice
        span = (float(ratio.min()), float(ratio.max()))
        yield value_row("scaling.ngspice.noise_ratio", machine, float(ratio.mean()), len(ratio), interval=span)
        few = np.arange(TRANSIENTS)
        settled = run_transients(
            lowered, model, task.x_test, few, result.states.z, result.states.ports_v, bed, Progress()
        )
        off = np.array([PERCENT * abs(s.t_proxy_s / s.t_spice_s - 1) for s in settled if s.status == "ok"])
        yield value_row("scaling.ngspice.settling_error_max_percent", machine, float(off.max()), len(off), bar=5.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(__doc__ or "", "python benchmarks/scaling.py --seeds 3 --levels 16 32 64")
    add_count(made, "--seeds", 3, "training seeds")
    add_count(made, "--states", 32, "neurons")
    add_count(made, "--images", 100, "images settled in ngspice")
    made.add_argument("--levels", type=int, nargs="+", default=[8, 16, 32, 64], help="conductance levels (8 16 32 64)")
    options = made.parse_args(arguments)

    def rows() -> Iterator[Row]:
        simulator = find_simulator()
        machine = machine_name(simulator)
        torch.set_num_threads(1)
        yield from in_ngspice(options.levels[0], options.states, options.images, simulator, machine)
        yield from accuracies(options.levels, options.seeds, options.states, machine)

    return show(rows(), options.json)


if __name__ == "__main__":
    sys.exit(main())
