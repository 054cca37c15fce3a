"""The memristor mapping under its devices' statistics: the flat netlist as referee, dies, and a day of drift.

A design is calibrated, trained and simulated as ``analog-deq run`` does it. Every device is an element where wires are
varied; dies differ in programming, amplifiers and pairs, then in one read's noise too, then a day later. A day later
R_F is raised by the mean decay of the programmed weights, one number for all dies; and once left as it was.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Row, add_count, machine_name, note, parser, show, value_row

from analog_deq.mappings.mapping import Family
from analog_deq.mappings.registry import load_family
from analog_deq.pipeline import families
from analog_deq.pipeline.family_files import load_family_inputs, read_family_proxy
from analog_deq.records import Progress
from analog_deq.spec import DesignSpec, read_design
from analog_deq.spice.simulator import find_simulator
from analog_deq.statistics import mean_interval, rms_interval
from analog_deq.train.checkpoint import read_checkpoint
from analog_deq.train.deployed import Readout
from analog_deq.train.tasks.task import Task
from analog_deq.verify.sweeps import Bed

ROOT = Path(__file__).resolve().parents[1]
WIRES_OHM = (0.0, 1.0, 2.0, 5.0)
RMS_BAR, MAX_BAR = 0.2, 0.5
DAY_S = 86400.0
PERCENT = 100.0


def changed(design: DesignSpec, **family: Any) -> DesignSpec:
    """The design with other entries in its ``[family]`` table."""
    return design.model_copy(update={"family": {**design.family, **family}})


class Trained:
    """A design after its training: programmed array, readout, and where simulations run."""

    def __init__(self, name: str, bed: Bed) -> None:
        path = ROOT / f"data/designs/{name}.toml"
        inputs = load_family_inputs(read_design(path), path)
        progress = Progress()
        tables = families.calibrate(inputs, bed, None, progress).outputs["tables"]
        proxy_path = families.fit(inputs, tables, bed.root, None, progress).outputs["proxy"]
        checkpoint = read_checkpoint(
            families.train(inputs, proxy_path, bed.root, None, False, progress).outputs["checkpoint"]
        )
        self.design, self.bed, self.task = inputs.design, bed, inputs.task()
        self.proxy = read_family_proxy(proxy_path, inputs)
        self.programmed = np.stack([checkpoint.g_pos, checkpoint.g_neg])
        self.readout = Readout(
            torch.as_tensor(checkpoint.readout_weight), torch.as_tensor(checkpoint.readout_bias),
            inputs.design.converters.adc_bits,
        )  # fmt: skip

    def images(self, count: int) -> tuple[torch.Tensor, np.ndarray]:
        """The first test images and their labels."""
        task: Task = self.task
        return task.x_test[:count], task.y_test[:count].numpy()

    def right(self, z: np.ndarray, ok: np.ndarray, y: np.ndarray) -> float:
        """Share of right labels in percent; an image without an equilibrium counts as wrong."""
        found = self.readout.predict(torch.as_tensor(np.nan_to_num(z))).numpy()
        return PERCENT * float(np.mean((found == y) & ok))


def wires(trained: Trained, images: int, machine: str) -> Iterator[Row]:
    """Fixed points of the proxy against the netlist with every device and wire."""
    x, y = trained.images(images)
    for r in WIRES_OHM:
        array = trained.design.crossbar.model_copy(update={"r_line_ohm": r})
        family = load_family(trained.design.model_copy(update={"crossbar": array}))
        deployed = family.deploy(trained.proxy, trained.programmed)
        solved = deployed.solve(x, domain_share=None)
        lowered = family.lower(trained.proxy, trained.programmed, trained.bed.simulator.klu)
        found = lowered.run_equilibria(deployed.inputs(x).numpy(), solved, trained.bed, Progress(), flat=True)
        error = PERCENT * (found.z - solved.reading.numpy())[found.ok]
        row = f"memristor.{trained.design.name}.flat_{r:g}_ohm"
        rms = float(np.sqrt(np.mean(error**2)))
        interval = rms_interval(error, np.random.default_rng(0))
        yield value_row(f"{row}.rms_percent_fs", machine, rms, len(error), bar=RMS_BAR, interval=interval)
        yield value_row(f"{row}.max_percent_fs", machine, float(np.abs(error).max()), len(error), bar=MAX_BAR)
        yield value_row(f"{row}.accuracy_percent", machine, trained.right(found.z, found.ok, y), len(y))
        yield value_row(f"{row}.failed", machine, float(np.sum(~found.ok)), len(y), bar=0)


def dies(
    trained: Trained, kind: str, family: Family, proxy: Any, images: int, count: int, machine: str
) -> Iterator[Row]:
    """Accuracy of dies in ngspice, and how far they are from the nominal network of today."""
    x, y = trained.images(images)
    today = load_family(trained.design).deploy(trained.proxy, trained.programmed)
    solved, inputs = today.solve(x, domain_share=None), today.inputs(x).numpy()
    accuracy, errors, failed = [], [], 0
    for die in range(count):
        lowered = family.lower(proxy, trained.programmed, trained.bed.simulator.klu, family.draw(die))
        found = lowered.run_equilibria(inputs, solved, trained.bed, Progress())
        accuracy.append(trained.right(found.z, found.ok, y))
        errors.append((found.z - solved.reading.numpy())[found.ok].ravel())
        failed += int(np.sum(~found.ok))
    row = f"memristor.{trained.design.name}.dies_{kind}"
    mean = float(np.mean(accuracy))
    yield value_row(f"{row}.accuracy_percent", machine, mean, count, interval=mean_interval(accuracy))
    yield value_row(f"{row}.worst_accuracy_percent", machine, float(min(accuracy)), count)
    rms = PERCENT * float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))
    yield value_row(f"{row}.rms_percent_fs", machine, rms, count)
    yield value_row(f"{row}.failed", machine, float(failed), count * images, bar=0)


def in_time(trained: Trained, machine: str) -> Iterator[Row]:
    """Settling, energy, power and noise of the nominal circuit, beside what the proxy says."""
    design, bed = trained.design, trained.bed
    verify = design.verify
    family = load_family(design)
    deployed = family.deploy(trained.proxy, trained.programmed)
    lowered = family.lower(trained.proxy, trained.programmed, bed.simulator.klu)
    x, _ = trained.images(verify.transients)
    inputs, solved = deployed.inputs(x).numpy(), deployed.solve(x, domain_share=None)
    found = lowered.run_equilibria(inputs, solved, bed, Progress())
    settled = lowered.run_settling(inputs, found.z, verify.settle_tolerance_fs, bed, Progress())
    times, predicted = np.array([s.t_s for s in settled]), deployed.settling_s(x, verify.settle_tolerance_fs)
    row, n = f"memristor.{design.name}", len(x)
    yield value_row(f"{row}.settling_p95_s", machine, float(np.quantile(times, 0.95)), n)
    share = abs(float(np.quantile(predicted, 0.95) / np.quantile(times, 0.95)) - 1)
    yield value_row(f"{row}.settling_p95_error_relative", machine, share, n, bar=0.05)
    yield value_row(f"{row}.energy_j", machine, float(np.mean([s.energy_j for s in settled])), n)
    yield value_row(f"{row}.supply_w", machine, float(np.mean(found.supply_w)), n)
    nodes = [int(k) for k in np.linspace(0, design.sizes.states - 1, verify.noise_nodes).round()]
    ratios = [
        deployed.noise_rms(x[k : k + 1])[0][nodes] / lowered.run_noise(inputs[k], nodes, bed, Progress())
        for k in range(verify.noise_images)
    ]
    for name, value in (("least", np.min(ratios)), ("largest", np.max(ratios))):
        yield value_row(f"{row}.noise_{name}_ratio", machine, float(value), len(ratios) * len(nodes))
    rms = float(np.sqrt(np.mean(deployed.noise_rms(x[: verify.noise_images]) ** 2)))
    yield value_row(f"{row}.noise_rms_units", machine, rms, verify.noise_images)


def aged(trained: Trained, share: float = 1.0) -> tuple[Family, Any, float]:
    """The family a day later with its own calibration, R_F raised by ``share`` (0 or 1) of the mean decay; the gain."""
    design = trained.design
    device = design.family["synapse"]
    later = {"synapse": f"{device}_1day"} if device == "rram_hfox" else {"age_s": DAY_S}
    family = load_family(changed(design, **later))
    proxy: Any = family.fit(family.calibrate(trained.bed, Progress()))
    gain = 1.0
    if share:
        both: tuple[Any, Any] = (trained.proxy, proxy)
        young, old = (np.stack(p.synapse.seen_arrays(*trained.programmed)) for p in both)
        gain = float(np.abs(young[0] - young[1]).sum() / np.abs(old[0] - old[1]).sum())
        family = load_family(changed(design, **later, r_feedback_ohm=design.family["r_feedback_ohm"] * gain))
        proxy = family.fit(family.calibrate(trained.bed, Progress()))
    return family, proxy, gain


def rows(names: list[str], images: int, die_images: int, count: int, bed: Bed) -> Iterator[Row]:
    """Everything, design by design."""
    machine = machine_name(bed.simulator)
    for name in names:
        note(f"{name}: calibrated, fitted, trained")
        trained = Trained(name, bed)
        x, _ = trained.images(die_images)
        nominal: Any = load_family(trained.design).deploy(trained.proxy, trained.programmed)
        for key, value in nominal.stability(x).items():
            yield value_row(f"memristor.{name}.{key}", machine, float(value), len(x))
        yield from in_time(trained, machine)
        yield from wires(trained, images, machine)
        quiet, noisy = (load_family(changed(trained.design, read_noise=on)) for on in (False, True))
        untouched = load_family(changed(trained.design, read_noise=False, offset_left=1.0))
        yield from dies(trained, "programming", quiet, trained.proxy, die_images, count, machine)
        yield from dies(trained, "without_auto_zero", untouched, trained.proxy, die_images, count, machine)
        yield from dies(trained, "read_noise", noisy, trained.proxy, die_images, count, machine)
        family, proxy, gain = aged(trained)
        yield value_row(f"memristor.{name}.gain_after_a_day", machine, gain, 1)
        yield from dies(trained, "after_a_day", family, proxy, die_images, count, machine)
        if gain > 1.01:
            family, proxy, _ = aged(trained, 0.0)
            yield from dies(trained, "after_a_day_same_gain", family, proxy, die_images, count, machine)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the script."""
    made = parser(__doc__ or "", "python benchmarks/memristor_devices.py --design pcm16")
    made.add_argument("--design", action="append", help="memristor16, pcm16 (both)")
    made.add_argument("--runs", type=Path, default=Path("runs"), help="folder of stages and simulations")
    add_count(made, "--images", 100, "test images with every wire an element")
    add_count(made, "--die-images", 100, "test images of each die")
    add_count(made, "--dies", 24, "dies of each kind")
    options = made.parse_args(arguments)
    torch.set_num_threads(1)
    bed = Bed(find_simulator(), options.runs, jobs=1)
    names = options.design or ["memristor16", "pcm16"]
    return show(rows(names, options.images, options.die_images, options.dies, bed), options.json)


if __name__ == "__main__":
    sys.exit(main())
