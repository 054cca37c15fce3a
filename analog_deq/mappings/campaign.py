"""The verification of one trained network of any family: simulated, compared with its proxy, measured for judging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, as_tensor

from analog_deq.draws import Stream, generator
from analog_deq.errors import SpecError
from analog_deq.mappings.area import count_elements
from analog_deq.mappings.mapping import Deployed, Equilibria, Family, Lowered
from analog_deq.records import OK, Progress
from analog_deq.spec import DesignSpec
from analog_deq.statistics import wilson
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.train.deployed import ProxyStates, Readout
from analog_deq.train.tasks.task import Score, Task
from analog_deq.verify import compare
from analog_deq.verify.dies import die_images
from analog_deq.verify.dynamics import NoiseResult, Settling
from analog_deq.verify.lower import MeasuredStates
from analog_deq.verify.signoff import Measurement
from analog_deq.verify.sweeps import Bed, SweepResult
from analog_deq.verify.verdict import Worst

Array = np.ndarray
PERCENT = 100.0


@dataclass(frozen=True, slots=True)
class FamilyResult:
    """Everything measured of one network: what is judged, and what reports and tables draw from.

    ``die_accuracy`` (dies,) in per cent, ``die_drop`` the points a die loses to software on its own images.
    ``elements`` counts the parts of the whole circuit by kind, and its capacitance in farads.
    """

    measurements: tuple[Measurement, ...]
    equilibria: Equilibria
    proxy: ProxyStates
    score: Score
    settled: tuple[Settling, ...]
    noise: tuple[NoiseResult, ...]
    die_accuracy: Array
    die_drop: Array
    elements: dict[str, float]
    samples: pd.DataFrame


def verify_family(
    family: Family, proxy: Any, checkpoint: Checkpoint, task: Task, bed: Bed, progress: Progress, *, flat: bool = False
) -> FamilyResult:
    """Equilibria of the test images, flat referee, transients, noise and dies of a checkpoint, in ngspice.

    SpecError for a task that is not a classification.
    """
    if task.regression:
        raise SpecError(
            f"mapping {family.design.mapping!r}: only classification tasks are verified in this mapping yet"
        )
    design, programmed = family.design, np.stack([checkpoint.g_pos, checkpoint.g_neg])
    deployed: Deployed = family.deploy(proxy, programmed)
    lowered: Lowered = family.lower(proxy, programmed, bed.simulator.klu)
    readout = Readout(
        as_tensor(checkpoint.readout_weight), as_tensor(checkpoint.readout_bias), design.converters.adc_bits
    )
    count = design.verify.images or len(task.x_test)
    x, y = task.x_test[:count], task.y_test[:count].numpy()
    solved = deployed.solve(x, domain_share=None)
    reading, inputs = solved.reading.numpy(), deployed.inputs(x).numpy()
    progress.note(f"equilibria of {len(x)} test images")
    found = lowered.run_equilibria(inputs, solved, bed, progress, flat=flat)
    swept = _as_sweep(found)
    measurements = compare.fixed_points(swept, reading, design.seed)
    measurements += compare.labels(swept, reading, readout, y, design.seed)
    measurements.append(_anchor(lowered, found, inputs, solved, design, flat, bed, progress))
    usable = np.flatnonzero(found.ok)
    rng = generator(design.seed, Stream.VERIFY_CHOICE, 10**6)
    images = np.sort(rng.choice(usable, min(design.verify.transients, len(usable)), replace=False))
    progress.note(f"transients of {len(images)} images from rest")
    settled = _settle(deployed, lowered, found, x, inputs, images, design, bed, progress)
    measurements += compare.settling(settled, design.verify.settle_tolerance_fs)
    progress.note("noise of the whole network")
    noise = _noise(deployed, lowered, x, inputs, images, design, bed, progress)
    measurements.append(compare.noise(noise))
    progress.note(f"{design.verify.dies} mismatch dies")
    die_rows, frames, accuracy, drop = _dies(family, proxy, programmed, deployed, task, readout, bed, progress)
    measurements += die_rows
    measurements += compare.certificate(checkpoint.certificate, design.certificate.weight_class)
    measurements.append(_fit(proxy))
    frames.insert(0, _sample_frame(-1, np.arange(len(x)), found, reading, readout, y))
    samples = pd.concat(frames, ignore_index=True)
    measurements.append(_failed(samples, settled, noise))
    spice = np.where(found.ok, readout.predict(as_tensor(np.nan_to_num(found.z))).numpy(), -1)
    return FamilyResult(
        tuple(measurements), found, solved, Score.of_labels(int(np.sum(spice == y)), len(y)), tuple(settled), noise,
        accuracy, drop, count_elements(lowered.flat_deck(inputs[0])), samples,
    )  # fmt: skip


def _as_sweep(found: Equilibria) -> SweepResult:
    blank = np.full((len(found.z), 0), np.nan)
    return SweepResult(MeasuredStates(found.z, blank, found.z, found.supply_w), found.status)


def _anchor(
    lowered: Lowered,
    found: Equilibria,
    inputs: Array,
    solved: ProxyStates,
    design: DesignSpec,
    flat: bool,
    bed: Bed,
    progress: Progress,
) -> Measurement:
    """Distance of a few images' equilibria from those of the netlist with every element."""
    few = np.flatnonzero(found.ok)[: design.verify.anchor_images]
    if flat or not len(few):
        detail = "every image ran on the full netlist" if flat else "no equilibrium"
        return Measurement("net.anchor_err", None, "%FS", len(few), detail=detail, unjudged="info")
    rows = torch.as_tensor(few)
    guess = ProxyStates(solved.z[rows], solved.h[rows], solved.reading[rows])
    anchor = lowered.run_equilibria(inputs[few], guess, bed, progress, flat=True)
    value = PERCENT * float(np.abs(anchor.z - found.z[few])[anchor.ok].max()) if anchor.ok.any() else None
    detail = f"images {', '.join(map(str, few))}"
    return Measurement("net.anchor_err", value, "%FS", len(few), detail=detail, failed_samples=int(np.sum(~anchor.ok)))


def _settle(
    deployed: Deployed,
    lowered: Lowered,
    found: Equilibria,
    x: Tensor,
    inputs: Array,
    images: Array,
    design: DesignSpec,
    bed: Bed,
    progress: Progress,
) -> list[Settling]:
    if not len(images):
        return []
    tolerance = design.verify.settle_tolerance_fs
    predicted = deployed.settling_s(x[torch.as_tensor(images)], tolerance)
    measured = lowered.run_settling(inputs[images], found.z[images], tolerance, bed, progress)
    return [
        Settling(int(image), s.status, s.t_s, float(t), s.end_error, s.energy_j, 0.0)
        for image, s, t in zip(images, measured, predicted, strict=True)
    ]


def _noise(
    deployed: Deployed,
    lowered: Lowered,
    x: Tensor,
    inputs: Array,
    images: Array,
    design: DesignSpec,
    bed: Bed,
    progress: Progress,
) -> tuple[NoiseResult, ...]:
    nodes = [int(k) for k in np.linspace(0, design.sizes.states - 1, design.verify.noise_nodes).round()]
    chosen = images[: design.verify.noise_images] if len(images) else np.array([0])
    results = []
    for image in chosen:
        rms = lowered.run_noise(inputs[image], nodes, bed, progress)
        proxy = deployed.noise_rms(x[image : image + 1])[0][nodes]
        status = OK if np.isfinite(rms).all() else "no valid noise"
        blank = np.empty((0, len(nodes)))
        results.append(NoiseResult(int(image), tuple(nodes), status, np.empty(0), blank, rms, proxy))
    return tuple(results)


def _dies(
    family: Family,
    proxy: Any,
    programmed: Array,
    deployed: Deployed,
    task: Task,
    readout: Readout,
    bed: Bed,
    progress: Progress,
) -> tuple[list[Measurement], list[pd.DataFrame], Array, Array]:
    """Yield over dies and their distance from the nominal proxy; frames of samples; accuracy (%) and points lost."""
    design = family.design
    verify = design.verify
    frames, drops, errors, lost = [], [], [], 0
    for die in range(verify.dies):
        images, solved, found = _settle_die(family, proxy, programmed, deployed, task, die, bed, progress)
        y = task.y_test.numpy()[images]
        frame = _sample_frame(die, images, found, solved.reading.numpy(), readout, y)
        frames.append(frame)
        software = float(np.mean(readout.predict(solved.reading).numpy() == y))
        drops.append(software - _share_right(frame))
        errors.append((found.z - solved.reading.numpy())[found.ok].ravel())
        lost += not found.ok.all()
    passing, n = int(np.sum(np.array(drops) <= verify.die_max_drop + 1e-9)), verify.dies
    low, high = wilson(passing, n)
    accuracy = np.array([PERCENT * _share_right(frame) for frame in frames])
    worst = int(np.argmax(drops))
    where = Worst("mismatch die", worst, int(frames[worst]["image"].iloc[0]), "equilibrium")
    rule = f"a die passes within {PERCENT * verify.die_max_drop:g} points of software on {verify.images_per_die} images"
    share, interval = PERCENT * passing / n, (PERCENT * low, PERCENT * high)
    flat = np.concatenate(errors)
    rms = PERCENT * float(np.sqrt(np.mean(flat**2))) if flat.size else None
    return (
        [
            Measurement("net.yield_mismatch", share, "%", n, interval, where, rule),
            Measurement(
                "net.acc_die_min", float(accuracy.min()), "%", n, None, where, f"mean {accuracy.mean():.2f} %", lost
            ),
            Measurement("net.die_err", rms, "%FS", n, None, where, "from the nominal proxy", lost),
        ],
        frames,
        accuracy,
        PERCENT * np.array(drops),
    )


def _settle_die(
    family: Family,
    proxy: Any,
    programmed: Array,
    deployed: Deployed,
    task: Task,
    die: int,
    bed: Bed,
    progress: Progress,
) -> tuple[Array, ProxyStates, Equilibria]:
    """Which images one die is tried on, what the nominal proxy says of them, and where ngspice settles."""
    images = die_images(family.design, len(task.x_test), die)
    x = task.x_test[torch.as_tensor(images)]
    solved = deployed.solve(x, domain_share=None)
    lowered = family.lower(proxy, programmed, bed.simulator.klu, family.draw(die))
    return images, solved, lowered.run_equilibria(deployed.inputs(x).numpy(), solved, bed, progress)


def samples_again(
    family: Family,
    proxy: Any,
    checkpoint: Checkpoint,
    task: Task,
    die: int,
    bed: Bed,
    progress: Progress,
    *,
    flat: bool = False,
) -> pd.DataFrame:
    """The rows of ``samples.csv`` of one die (-1: the nominal circuit), simulated as the campaign does."""
    programmed = np.stack([checkpoint.g_pos, checkpoint.g_neg])
    deployed: Deployed = family.deploy(proxy, programmed)
    readout = Readout(
        as_tensor(checkpoint.readout_weight), as_tensor(checkpoint.readout_bias), family.design.converters.adc_bits
    )
    if die >= 0:
        images, solved, found = _settle_die(family, proxy, programmed, deployed, task, die, bed, progress)
    else:
        images = np.arange(family.design.verify.images or len(task.x_test))
        x = task.x_test[: len(images)]
        solved = deployed.solve(x, domain_share=None)
        lowered: Lowered = family.lower(proxy, programmed, bed.simulator.klu)
        found = lowered.run_equilibria(deployed.inputs(x).numpy(), solved, bed, progress, flat=flat)
    return _sample_frame(die, images, found, solved.reading.numpy(), readout, task.y_test.numpy()[images])


def _sample_frame(
    die: int, images: Array, found: Equilibria, reading: Array, readout: Readout, y: Array
) -> pd.DataFrame:
    predicted = readout.predict(as_tensor(np.nan_to_num(found.z))).numpy()
    return pd.DataFrame(
        {
            "die": die, "image": images, "status": found.status, "label": y,
            "predicted": np.where(found.ok, predicted, -1),
            "rms_error_percent_fs": PERCENT * np.sqrt(np.mean((found.z - reading) ** 2, axis=1)),
            "supply_w": found.supply_w,
        }
    )  # fmt: skip


def _share_right(frame: pd.DataFrame) -> float:
    return float((frame["label"] == frame["predicted"]).mean())


def _fit(proxy: Any) -> Measurement:
    """The fitted part that uses the largest share of its tolerance."""
    goodness = proxy.goodness()
    name = max(goodness, key=lambda part: goodness[part].held_out / goodness[part].tolerance)
    used = goodness[name]
    detail = f"{name}: {used.held_out:.3g} of {used.tolerance:.3g} {used.unit}, the worst of {len(goodness)} parts"
    return Measurement("fit.held_out", PERCENT * used.held_out / used.tolerance, "%", used.n_held_out, detail=detail)


def _failed(samples: pd.DataFrame, settled: list[Settling], noise: tuple[NoiseResult, ...]) -> Measurement:
    failed = int((samples["status"] != OK).sum()) + sum(s.status != OK for s in settled)
    failed += sum(r.status != OK for r in noise)
    total = len(samples) + len(settled) + len(noise)
    return Measurement("run.failed", float(failed), "", total, detail="simulations without a valid result")
