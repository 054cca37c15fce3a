"""What a converter reads of a simulated step: at a fixed time, and when a detector says that the circuit has settled.

Both beside the equilibrium. The readers are those that training uses (:mod:`analog_deq.equilibrium.readout`), here on
ngspice's waveforms, whose rates are their differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from analog_deq.equilibrium.dynamics import Waveform
from analog_deq.equilibrium.latency import modal_rate
from analog_deq.equilibrium.readout import Reading, read_at, read_quiet, read_window
from analog_deq.records import OK
from analog_deq.units import engineering
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.signoff import Measurement
from analog_deq.verify.starts import Path
from analog_deq.verify.verdict import Worst

Array = np.ndarray
PERCENT = 100.0
THRESHOLD, FIXED = "net.readout_threshold", "net.readout_fixed"


@dataclass(frozen=True, slots=True)
class ReadOut:
    """Readings ``z`` (steps, N) of one way to read and when, in s (steps,); NaN where there is none."""

    name: str
    how: str
    z: Array
    time_s: Array


def detector_level(run: SheetRun) -> float:
    """The rate in 1/s below which the detector calls a reading still: tolerance x slowest rate of the proxy.

    Near an equilibrium a deviation d of rate r moves with ``|dz/dt| = r d``; with the slowest rate of all test images,
    a reading that is still is within the tolerance.
    """
    slopes = run.model.act.slope(run.solved.h)
    slowest = float(modal_rate(run.model.w_state, slopes, run.model.tau_s, modes=1).min())
    return run.design.verify.settle_tolerance_fs * slowest


def fixed_time_s(run: SheetRun) -> tuple[float, float]:
    """When and over how long the design reads: as trained, or at the end of the simulated window."""
    training, verify = run.design.training, run.design.verify
    if training.read_time_s is None:
        return verify.transient_window_s, 0.0
    return training.read_time_s, training.read_window_s or 0.0


def read_outs(run: SheetRun, paths: Sequence[Path]) -> tuple[ReadOut, ReadOut]:
    """Threshold-detected and fixed-time readings of every step; the detector holds for one time constant."""
    n = run.network.states
    level, hold = detector_level(run), float(run.model.tau_s.max())
    at_s, window_s = fixed_time_s(run)
    quiet_z, fixed_z = np.full((len(paths), n), np.nan), np.full((len(paths), n), np.nan)
    quiet_t, fixed_t = np.full(len(paths), np.nan), np.full(len(paths), np.nan)
    for k, path in enumerate(paths):
        if path.status != OK:
            continue
        wave = _wave(path)
        if level > 0:
            reading = read_quiet(wave, level, hold_s=hold, on_fail="mask")
            if np.isfinite(float(reading.t_s)):
                quiet_z[k], quiet_t[k] = _of(reading)
        if at_s + window_s <= path.time_s[-1] * (1 + 1e-9):
            fixed = read_window(wave, at_s, window_s) if window_s else read_at(wave, min(at_s, path.time_s[-1]))
            fixed_z[k], fixed_t[k] = _of(fixed)
    mean = f", mean of {engineering(window_s, 's', 3)}" if window_s else ""
    return (
        ReadOut(THRESHOLD, f"all |dz/dt| at most {level:.3g} 1/s for {engineering(hold, 's', 3)}", quiet_z, quiet_t),
        ReadOut(FIXED, f"{engineering(at_s, 's')} after the step{mean}", fixed_z, fixed_t),
    )


def read_out_errors(run: SheetRun, paths: Sequence[Path], read: ReadOut) -> Measurement:
    """Largest distance of a reading from the equilibrium; a step that is never read has failed."""
    images = np.array([path.start.image for path in paths], dtype=int)
    error = np.abs(read.z - run.equilibria.states.z[images]).max(axis=1, initial=0.0)
    good = np.isfinite(error)
    n, lost = len(paths), int(np.sum(~good))
    if not good.any():
        return Measurement(read.name, None, "%FS", n, detail=f"{read.how}: no step is read", failed_samples=lost)
    k = int(np.nanargmax(np.where(good, error, -1.0)))
    rms = PERCENT * float(np.sqrt(np.mean((read.z - run.equilibria.states.z[images])[good] ** 2)))
    times = read.time_s[good]
    median, last = engineering(float(np.median(times)), "s"), engineering(float(times.max()), "s")
    detail = f"{read.how}; median {median}, last {last}; rms {rms:.3g} %FS"
    if not run.task.regression:
        changed, right, still_right = _labels(run, images[good], read.z[good])
        detail += (
            f"; {changed} of {int(good.sum())} labels differ from the equilibrium's, accuracy {still_right:.2f} % "
            f"against {right:.2f} % there"
        )
    where = Worst(f"nominal, from image {paths[k].start.before}", None, int(images[k]), paths[k].start.name)
    return Measurement(read.name, PERCENT * float(error[k]), "%FS", n, None, where, detail, lost)


def _labels(run: SheetRun, images: Array, z: Array) -> tuple[int, float, float]:
    """Labels that differ from the equilibrium's, and the accuracy in % there and as read."""
    at_rest = run.readout.predict(torch.as_tensor(run.equilibria.states.z[images])).numpy()
    as_read = run.readout.predict(torch.as_tensor(z)).numpy()
    label = run.task.y_test.numpy()[images]
    right, still_right = (PERCENT * float(np.mean(labels == label)) for labels in (at_rest, as_read))
    return int(np.sum(at_rest != as_read)), right, still_right


def _wave(path: Path) -> Waveform:
    rate = np.gradient(path.z, path.time_s, axis=0)
    return Waveform(*(torch.as_tensor(values) for values in (path.time_s.copy(), path.z[:, None], rate[:, None])))


def _of(reading: Reading) -> tuple[Array, float]:
    return reading.value.numpy()[0], float(reading.t_s)
