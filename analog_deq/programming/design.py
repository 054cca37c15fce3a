"""A design's memristors: programmed, aged and read as its ``[programming]`` says, for one die."""

from __future__ import annotations

import numpy as np

from analog_deq.draws import Stream, generator
from analog_deq.programming.device import Programmed, program
from analog_deq.programming.statistics import DeviceStatistics
from analog_deq.spec import Programming

Array = np.ndarray


def program_die(statistics: DeviceStatistics, target_s: Array, spec: Programming, seed: int, die: int) -> Programmed:
    """Devices of one die written to ``target_s`` (S); writes and drift have streams of their own of (seed, die)."""
    return program(
        statistics, target_s, passes=spec.passes, tolerance_s=spec.tolerance_siemens, read_s=spec.verify_s,
        write_rng=generator(seed, Stream.PROGRAMMING, die), drift_rng=generator(seed, Stream.DRIFT, die),
    )  # fmt: skip


def read_die(programmed: Programmed, spec: Programming, rng: np.random.Generator) -> Array:
    """Conductances (S) of one read at the design's age, its noise from ``rng``."""
    return programmed.read(spec.age_s, spec.read_s, rng) if spec.read_noise else programmed.at(spec.age_s)


def instance_errors(
    programmed: Programmed, spec: Programming, time_param: str | None, rng: np.random.Generator
) -> dict[str, Array]:
    """Parameters of the cell's own netlist for such a read: error, drift deviation and age, of the targets' shape.

    The netlist makes the conductance of them. Read noise is put into the error: it scales the conductance of this
    read, and ``G(t) (1 + n)`` is what an error larger by n times the conductance gives.
    """
    own = programmed.statistics
    error = programmed.error_s.copy()
    if spec.read_noise:
        wait = spec.age_s if spec.age_s is not None else (1.0 if own.drift is None else own.drift.t0_s)
        noise = programmed.read_sigma(spec.read_s, wait) * rng.standard_normal(error.shape)
        power = own.drift is None or own.drift.form == "power"
        base = programmed.target_s + error if power else programmed.at(spec.age_s)
        error = np.maximum(error + noise * base, own.floor_siemens - programmed.target_s)
    errors = {"dg": error / programmed.target_s if own.write.relative else error}
    if own.drift is not None:
        errors[own.drift.deviation] = programmed.deviation
        if time_param is not None and spec.age_s is not None:
            errors[time_param] = np.full(error.shape, spec.age_s)
    return errors
