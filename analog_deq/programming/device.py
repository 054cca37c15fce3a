"""One array of devices through its life: programmed at t = 0, waiting, read. Every draw has its own generator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analog_deq.errors import OutOfDomainError
from analog_deq.programming.statistics import DeviceStatistics
from analog_deq.programming.write import write_verify

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Programmed:
    """Devices after programming: what they are (``error_s`` in siemens, ``deviation`` of drift), never changing.

    ``target_s`` is what was asked for; ``passes`` and ``accepted`` are of write and verify. Time and reads are
    arguments of the methods: the same object tells any age, and reads differ only by their generator.
    """

    statistics: DeviceStatistics
    target_s: Array
    error_s: Array
    deviation: Array
    passes: Array
    accepted: Array

    def at(self, t_s: float | None = None) -> Array:
        """Conductances (S) ``t_s`` seconds after programming; by default when its statistics begin.

        OutOfDomainError for an age the device was not measured at, or of a device without a law of drift.
        """
        own = self.statistics
        written = self.target_s + self.error_s
        if own.drift is None:
            if t_s is not None:
                raise OutOfDomainError(f"{t_s:g} s after programming: this device has no law of drift")
            return np.maximum(written, own.floor_siemens)
        oldest = own.oldest_s or float("inf")
        age = own.drift.t0_s if t_s is None else t_s
        if not own.drift.t0_s <= age <= oldest:
            raise OutOfDomainError(
                f"{age:g} s after programming: the law holds from {own.drift.t0_s:g} to {oldest:g} s"
            )
        share = self.target_s / own.g_max_siemens
        if own.drift.form == "power":
            written = np.maximum(written, own.floor_siemens)
            return own.drift.at(written, share, self.deviation, age)
        return np.maximum(own.drift.at(written, share, self.deviation, age), own.floor_siemens)

    def read_sigma(self, read_s: float, wait_s: float) -> Array:
        """Relative standard deviation of one read of each device; 0 where the statistics know of no read noise."""
        own = self.statistics
        if own.read is None:
            return np.zeros_like(self.target_s)
        return own.read.sigma(self.target_s, own.g_max_siemens, read_s, wait_s)

    def read(self, t_s: float | None, read_s: float, rng: np.random.Generator) -> Array:
        """Conductances (S) that a read at ``t_s`` sees: :meth:`at` with the noise of this read."""
        wait = t_s if t_s is not None else (1.0 if self.statistics.drift is None else self.statistics.drift.t0_s)
        noise = self.read_sigma(read_s, wait) * rng.standard_normal(self.target_s.shape)
        return np.asarray(np.maximum(self.at(t_s) * (1 + noise), 0.0))


def program(
    statistics: DeviceStatistics,
    target_s: Array,
    *,
    passes: int = 1,
    tolerance_s: float | None = None,
    read_s: float = 1e-6,
    write_rng: np.random.Generator,
    drift_rng: np.random.Generator,
) -> Programmed:
    """Devices written to ``target_s`` (S), any shape, verified up to ``passes`` times to ``tolerance_s`` (S).

    The verify read has the read noise of the device at t0. Errors that would take a conductance below the device's
    floor stop there.
    """
    share = target_s / statistics.g_max_siemens
    sigma = statistics.write.at(share) * (target_s if statistics.write.relative else 1.0)
    begin = 1.0 if statistics.drift is None else statistics.drift.t0_s
    noise = np.zeros_like(target_s)
    if statistics.read is not None:
        noise = statistics.read.sigma(target_s, statistics.g_max_siemens, read_s, begin) * target_s
    written = write_verify(sigma, noise, tolerance_s, passes, write_rng)
    error = np.maximum(written.error, statistics.floor_siemens - target_s)
    deviation = np.zeros_like(target_s)
    if statistics.drift_spread is not None:
        deviation = statistics.drift_spread.at(share) * np.clip(drift_rng.standard_normal(target_s.shape), -5.0, 5.0)
    return Programmed(statistics, target_s, error, deviation, written.passes, written.accepted)
