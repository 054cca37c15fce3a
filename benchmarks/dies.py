"""Mismatched dies of the trained digits network in ngspice, 2 ohm wires: trim, auto-zero, and a die's own proxy.

First the same dies four times: as they are, with the current trim, with auto-zeroed op-amps, with both; accuracy and
the distance of their states from the nominal circuit's. Then proxies whose parameters are extracted from measurements
at a die's own terminals, against that die in ngspice, and how good the meter must be for it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rows import Row, add_count, machine_name, note, parser, show, value_row
from trained_digits import Trained, base_design, reference_proxy, train

from analog_deq.draws import Stream, generator
from analog_deq.netlists.autozero import SWITCH_SIGMA, write_autozero_cell
from analog_deq.netlists.neuron import load_cells
from analog_deq.records import Progress
from analog_deq.resources import shipped
from analog_deq.spec import AutoZero, DesignSpec, read_plan
from analog_deq.spice.simulator import find_simulator
from analog_deq.statistics import mean_interval
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.verify.dies import DieResult, Meter, draw_die, extracted_model, run_dies
from analog_deq.verify.sweeps import Bed, Sweep, run_sweeps

PERCENT = 100.0
EXTRACTED_BAR = 0.3
"""%FS rms that a die's own proxy may be off."""
METERS = (
    Meter(volts=10e-6), Meter(volts=100e-6), Meter(volts=1e-3), Meter(conductance=1e-3), Meter(conductance=1e-2),
)  # fmt: skip
TIMEOUT_S = 600.0
ZERO_S, WINDOW_S = 1e-6, 40e-6
ZEROED_BAR = 1e-4
"""Units of z by which a die that zeroed itself in time may end off its static equivalent."""


def study(net: Trained, dies: int, bed: Bed, machine: str) -> Iterator[Row]:
    """Rows of the same dies without and with auto-zero, each without and with trim."""
    everything = run_sweeps([nominal_sweep(net, bed)], bed, Progress())[0]
    nominal = everything.states.z
    yield value_row("dies.nominal.failed", machine, float(np.sum(~everything.ok)), len(nominal), bar=0)
    yield value_row("dies.nominal.accuracy_percent", machine, PERCENT * net.accuracy(nominal), len(nominal))
    count = net.design.verify.trim_images
    trim_images = generator(net.design.seed, Stream.VERIFY_CHOICE, 10**6 + 1).choice(
        len(net.task.x_train), count, replace=False
    )
    x_trim = net.task.x_train[torch.as_tensor(trim_images)]
    for zeroed in (None, AutoZero()):
        note(f"{dies} dies, {'auto-zeroed' if zeroed else 'as they are'}")
        design = net.design.model_copy(update={"autozero": zeroed})
        own = Trained(design, net.proxy, net.cells, net.task, net.g_pos, net.g_neg, net.readout)
        lowered = own.lowered(bed.simulator.klu)
        results = run_dies(lowered, own.model(), net.task.x_test, x_trim, range(dies), bed, Progress())
        for trimmed in (False, True):
            label = {(0, 0): "none", (0, 1): "trim", (1, 0): "autozero", (1, 1): "autozero_trim"}[
                int(zeroed is not None), int(trimmed)
            ]
            yield from die_rows(f"dies.{label}", net, results, trimmed, nominal, machine)


def nominal_sweep(net: Trained, bed: Bed) -> Sweep:
    """Every test image on the nominal network."""
    model = net.model()
    x = net.task.x_test
    return Sweep(net.lowered(bed.simulator.klu), model.inputs(x).numpy(), model.solve(x, domain_share=None).h.numpy())


def die_rows(
    name: str, net: Trained, results: Sequence[DieResult], trimmed: bool, nominal: np.ndarray, machine: str
) -> Iterator[Row]:
    """Accuracy and state error over dies; an image that failed counts as wrong, a die with one is counted."""
    accuracy, drop, error, failed = [], [], [], 0
    for result in results:
        sweep = result.trimmed if trimmed else result.untrimmed
        failed += int(not sweep.ok.all())
        images = result.images
        right = net.readout.predict(torch.as_tensor(np.nan_to_num(sweep.states.z))).numpy()
        y = net.task.y_test.numpy()[images]
        accuracy.append(PERCENT * float(np.mean(np.where(sweep.ok, right == y, False))))
        drop.append(PERCENT * net.accuracy(nominal[images], images) - accuracy[-1])
        error.append(PERCENT * float(np.sqrt(np.mean((sweep.states.z - nominal[images])[sweep.ok] ** 2))))
    n = len(results)
    yield value_row(f"{name}.failed_dies", machine, failed, n, bar=0)
    low, high = mean_interval(np.array(accuracy))
    yield value_row(f"{name}.accuracy_percent", machine, float(np.mean(accuracy)), n, interval=(low, high))
    yield value_row(f"{name}.accuracy_min_percent", machine, min(accuracy), n)
    low, high = mean_interval(np.array(drop))
    yield value_row(f"{name}.drop_points", machine, float(np.mean(drop)), n, interval=(low, high))
    yield value_row(f"{name}.drop_max_points", machine, max(drop), n)
    rms = float(np.sqrt(np.mean(np.square(error))))
    yield value_row(f"{name}.state_error_percent_fs", machine, rms, n, interval=(min(error), max(error)))
    if trimmed:
        yield value_row(f"{name}.trims_clipped", machine, sum(r.clipped for r in results), n * net.design.sizes.states)


def extraction(net: Trained, dies: int, images: int, bed: Bed, machine: str) -> Iterator[Row]:
    """Rows of proxies extracted from dies: error against that die in ngspice, one row a die, then worse meters."""
    note(f"proxies of {dies} dies from their own measurements")
    plan = read_plan(shipped("calibration/plans") / "neuron.toml")
    model, x = net.model(), net.task.x_test[:images]
    inputs, h = model.inputs(x).numpy(), model.solve(x, domain_share=None).h.numpy()
    lowered = net.lowered(bed.simulator.klu)
    networks = [draw_die(lowered, die) for die in range(dies)]
    truth = run_sweeps([Sweep(network, inputs, h) for network in networks], bed, Progress())
    nominal = model.solve(x, domain_share=None).reading.numpy()

    def errors(own: DeployedNetwork, k: int) -> np.ndarray:
        ok = truth[k].ok
        return PERCENT * (own.solve(x, domain_share=None).reading.numpy() - truth[k].states.z)[ok]

    rms, largest, unknown = [], [], []
    for k, network in enumerate(networks):
        error = errors(extracted_model(network, model, plan, bed, Progress()), k)
        rms.append(float(np.sqrt(np.mean(error**2))))
        largest.append(float(np.abs(error).max()))
        unknown.append(PERCENT * float(np.sqrt(np.mean((nominal - truth[k].states.z)[truth[k].ok] ** 2))))
        yield value_row(f"dies.extracted.die_{k}_rms_percent_fs", machine, rms[-1], len(x), bar=EXTRACTED_BAR)
    failed = float(sum(np.sum(~result.ok) for result in truth))
    yield value_row("dies.extracted.failed_images", machine, failed, dies * len(x), bar=0)
    spread = (min(rms), max(rms))
    mean = float(np.sqrt(np.mean(np.square(rms))))
    yield value_row("dies.extracted.rms_percent_fs", machine, mean, dies, bar=EXTRACTED_BAR, interval=spread)
    yield value_row("dies.extracted.max_percent_fs", machine, max(largest), dies)
    before = float(np.sqrt(np.mean(np.square(unknown))))
    yield value_row("dies.nominal_proxy.rms_percent_fs", machine, before, dies, interval=(min(unknown), max(unknown)))
    for meter in METERS:
        what = f"meter_{meter.volts * 1e6:g}uV" if meter.volts else f"meter_g_{PERCENT * meter.conductance:g}_percent"
        rms = []
        for k, network in enumerate(networks):
            own = extracted_model(
                network, model, plan, bed, Progress(), meter=meter, rng=generator(net.design.seed, Stream.STATISTICS, k)
            )
            rms.append(float(np.sqrt(np.mean(errors(own, k) ** 2))))
        value = float(np.sqrt(np.mean(np.square(rms))))
        yield value_row(f"dies.extracted.{what}.rms_percent_fs", machine, value, dies, interval=(min(rms), max(rms)))


def zeroed_in_time(net: Trained, dies: int, bed: Bed, machine: str) -> Iterator[Row]:
    """Rows of dies whose op-amps zero themselves in the transient, against the equilibrium of the static equivalent."""
    note(f"{dies} dies zeroed in time")
    model, x = net.model(), net.task.x_test[:1]
    inputs, h = model.inputs(x).numpy(), model.solve(x, domain_share=None).h.numpy()
    spec = AutoZero()
    cell = write_autozero_cell(bed.root / "cells", spec.c_hold_f, ZERO_S)
    lowered = net.lowered(bed.simulator.klu)
    timed = replace(lowered, cells=load_cells(net.design.cells.model_copy(update={"opamp": str(cell)})))
    timed = replace(timed, design=with_window(net.design))
    for k in range(dies):
        die = draw_die(lowered, k)
        rng = generator(net.design.seed, Stream.AUTO_ZERO, k)
        width = SWITCH_SIGMA * rng.standard_normal(net.design.sizes.states)
        own = replace(
            timed, g_pos=die.g_pos, g_neg=die.g_neg, seen=die.seen, reduced=die.reduced,
            deviations={**die.deviations, "opamp.dw": width},
        )  # fmt: skip
        deck = own.transients(inputs, 0.0)
        text = "".join(line for line in deck.text.splitlines(True) if not line.startswith(".ic"))
        outcome = bed.run([replace(deck, text=text)], Progress())[0]
        left = die.deviations["opamp.vos"] / (1 + spec.gain)
        left = left + spec.injection_sigma_c / SWITCH_SIGMA * width / spec.c_hold_f
        still = replace(die, deviations={**die.deviations, "opamp.vos": left})
        static, plain = run_sweeps([Sweep(still, inputs, h), Sweep(die, inputs, h)], bed, Progress())
        name = f"dies.zeroed_in_time.die_{k}"
        yield value_row(f"{name}.failed", machine, float(outcome.run is None or not static.ok.all()), 1, bar=0)
        if outcome.run is None:
            continue
        end = own.read_trajectory(outcome.run.plots[0], inputs[0])[1][-1]
        gap = float(np.abs(end - static.states.z[0]).max())
        yield value_row(f"{name}.off_static_units", machine, gap, net.design.sizes.states, bar=ZEROED_BAR)
        before = float(np.abs(plain.states.z[0] - static.states.z[0]).max())
        yield value_row(f"{name}.without_zeroing_units", machine, before, net.design.sizes.states)


def with_window(design: DesignSpec) -> DesignSpec:
    """The design with a transient window that holds the zeroing phase and a settling to 1e-6 after it."""
    return design.model_copy(update={"verify": design.verify.model_copy(update={"transient_window_s": WINDOW_S})})


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(__doc__ or "", "python benchmarks/dies.py --dies 60 --extracted 8")
    add_count(made, "--states", 32, "neurons")
    add_count(made, "--dies", 60, "dies of the trim and auto-zero study")
    add_count(made, "--extracted", 8, "dies whose proxies are extracted")
    add_count(made, "--zeroed", 3, "dies that zero themselves in a transient")
    add_count(made, "--images", 50, "images of each extracted die")
    options = made.parse_args(arguments)

    def rows() -> Iterator[Row]:
        simulator = find_simulator()
        machine = machine_name(simulator)
        note("training")
        net = train(base_design(options.states), reference_proxy())
        with tempfile.TemporaryDirectory() as folder:
            bed = Bed(simulator, Path(folder), 1, TIMEOUT_S)
            yield from zeroed_in_time(net, options.zeroed, bed, machine)
            yield from extraction(net, options.extracted, options.images, bed, machine)
            yield from study(net, options.dies, bed, machine)

    return show(rows(), options.json)


if __name__ == "__main__":
    sys.exit(main())
