"""Measurements of a regression: its relative error in ngspice, what the circuit adds to it, and the error of each die.

Errors are in per cent of the task's scale, the RMS of its training targets about their means.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from analog_deq.draws import Stream, generator
from analog_deq.statistics import mean_interval, rms_increase, rms_interval, wilson
from analog_deq.train.deployed import Readout
from analog_deq.train.tasks.task import Task
from analog_deq.verify.dies import DieResult
from analog_deq.verify.signoff import Measurement
from analog_deq.verify.sweeps import SweepResult
from analog_deq.verify.verdict import Worst

Array = np.ndarray
PERCENT = 100.0


def reading_errors(task: Task, readout: Readout, reading: Array, images: Array | None = None) -> Array:
    """Errors (images, outputs) in per cent from readings (images, N) of test samples; NaN where a reading is.

    ``images`` are the samples' numbers; without them the readings are of all test samples.
    """
    y = task.y_test if images is None else task.y_test[torch.as_tensor(images)]
    return PERCENT * task.errors(readout.outputs(torch.as_tensor(reading)), y)


def errors(result: SweepResult, reading: Array, task: Task, readout: Readout, seed: int) -> list[Measurement]:
    """Relative error in ngspice with its bootstrap interval, and its paired increase over the proxy's readings."""
    ok = result.ok
    spice, software = (reading_errors(task, readout, r) for r in (result.states.z, reading))
    n, failed = len(ok), int(np.sum(~ok))
    if failed == n:
        return [
            Measurement("net.rel_err", None, "%", n, failed_samples=failed),
            Measurement("net.rel_err_increase", None, "points", n, failed_samples=failed),
        ]
    per_sample = np.where(ok, np.nan_to_num(spice**2).mean(axis=1), -1.0)
    worst = Worst("nominal", None, int(np.argmax(per_sample)), "equilibrium")
    increase, span = rms_increase(spice[ok], software[ok], generator(seed, Stream.STATISTICS, 4))
    interval = rms_interval(spice[ok], generator(seed, Stream.STATISTICS, 3))
    own = f"RMS over samples and outputs; the proxy's own is {rms(software[ok]):.3g} %"
    return [
        Measurement("net.rel_err", rms(spice[ok]), "%", n, interval, worst, own, failed),
        Measurement(
            "net.rel_err_increase", increase, "points", n, span, worst, "ngspice minus proxy, same samples", failed
        ),
    ]


def rms(values: Array) -> float:
    """Root mean square of all entries."""
    return float(np.sqrt(np.mean(values**2)))


def die_errors(results: Sequence[DieResult], task: Task, readout: Readout) -> tuple[Array, Array]:
    """Relative error in % of each die without and with trim, (dies,); infinite when a sample of the die failed."""
    columns = []
    for pick in ("untrimmed", "trimmed"):
        rows = []
        for result in results:
            sweep: SweepResult = getattr(result, pick)
            found = reading_errors(task, readout, sweep.states.z, result.images)
            rows.append(rms(found) if sweep.ok.all() else np.inf)
        columns.append(np.array(rows))
    return columns[0], columns[1]


def passing_dies(results: Sequence[DieResult], task: Task, readout: Readout, max_error: float) -> dict[str, Array]:
    """Which dies pass, (dies,) by yield row: relative error at most ``max_error`` (a share)."""
    untrimmed, trimmed = (error <= PERCENT * max_error for error in die_errors(results, task, readout))
    return {"net.yield_mismatch": trimmed, "net.yield_untrimmed": untrimmed}


def dies(results: Sequence[DieResult], task: Task, readout: Readout, max_error: float) -> list[Measurement]:
    """Yield over dies, each passing when its relative error is at most ``max_error`` (a share), and their errors."""
    untrimmed, trimmed = die_errors(results, task, readout)
    n = len(results)
    failed = int(np.sum(np.isinf(trimmed)))

    def share(row: str) -> tuple[float, tuple[float, float]]:
        passing = int(np.sum(passes[row]))
        low, high = wilson(passing, n)
        return PERCENT * passing / n, (PERCENT * low, PERCENT * high)

    low = results[int(np.argmax(trimmed))]
    found = reading_errors(task, readout, low.trimmed.states.z, low.images)
    image = int(low.images[np.argmax(np.nan_to_num(found**2, nan=np.inf).mean(axis=1))])
    worst = Worst("mismatch die, trimmed", low.die, image, "equilibrium")
    rule = f"a die passes with a relative error of at most {PERCENT * max_error:g} % on its {len(low.images)} samples"
    clipped = f"{rule}; {sum(r.clipped for r in results)} trims clipped"
    valid, before = trimmed[np.isfinite(trimmed)], untrimmed[np.isfinite(untrimmed)]
    mean = float(valid.mean()) if valid.size else None
    interval = mean_interval(valid) if valid.size > 1 else None
    against = f"mean over dies; untrimmed {before.mean():.3g} %" if before.size else "untrimmed: no valid die"
    passes = passing_dies(results, task, readout, max_error)
    with_trim, without = share("net.yield_mismatch"), share("net.yield_untrimmed")
    largest = float(trimmed.max()) if not failed else None
    return [
        Measurement("net.yield_mismatch", with_trim[0], "%", n, with_trim[1], worst, clipped),
        Measurement("net.yield_untrimmed", without[0], "%", n, without[1], None, rule),
        Measurement("net.die_rel_err", mean, "%", n, interval, worst, against, failed),
        Measurement("net.die_rel_err_max", largest, "%", n, None, worst, "", failed),
    ]
