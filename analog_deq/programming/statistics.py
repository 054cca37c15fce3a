"""Published statistics of a device, as numbers: how it is written, how it drifts, how noisy a read of it is."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

Array = np.ndarray
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Spread(_Frozen):
    """Standard deviation against r = target / g_max: a polynomial in r, or ``a + b ln r`` within ``low..high``.

    ``relative``: a share of the target, else in siemens (or in the drift parameter's own unit).
    """

    form: Literal["polynomial", "log"]
    values: Annotated[tuple[Finite, ...], Field(min_length=1)]
    relative: bool = False

    def at(self, share: Array) -> Array:
        """Standard deviation at ``share`` = r, same shape, never negative."""
        if self.form == "polynomial":
            return np.maximum(np.polynomial.polynomial.polyval(share, self.values), 0.0)
        a, b, low, high = self.values
        return np.clip(a + b * np.log(share), max(low, 0.0), high)


class ReadLaw(_Frozen):
    """Noise of a read, relative to its current.

    "power": 1/f, S/i^2 = q^2/f with q = a r^b up to ``high``, values (a, b, high). "log10": 1/f with
    q = a log10(g) / g, g in microsiemens, values (a,). "relative": the same sigma for every read, values (sigma,).
    """

    form: Literal["power", "log10", "relative"]
    values: tuple[Finite, ...]

    @model_validator(mode="after")
    def _complete(self) -> ReadLaw:
        wanted = {"power": 3, "log10": 1, "relative": 1}[self.form]
        if len(self.values) != wanted:
            raise ValueError(f"form {self.form!r} has {wanted} values, not {len(self.values)}")
        return self

    def flicker(self, g_siemens: Array, g_max_siemens: float) -> Array:
        """q, the square root of the relative density at 1 Hz; 0 of a law that knows no spectrum."""
        if self.form == "power":
            a, b, high = self.values
            return np.minimum(a * (g_siemens / g_max_siemens) ** b, high)
        if self.form == "log10":
            micro = 1e6 * g_siemens
            return np.abs(self.values[0] * np.log10(micro) / micro)
        return np.zeros_like(g_siemens)

    def sigma(self, g_siemens: Array, g_max_siemens: float, read_s: float, wait_s: float) -> Array:
        """Relative standard deviation of a read of ``read_s`` seconds, ``wait_s`` after programming.

        A 1/f noise is integrated from 1 / (wait + read) to 1 / (2 read): slower than the one is drift, faster than the
        other averages out. It is what two reads differ by, and frozen within one.
        """
        if self.form == "relative":
            return np.full(np.shape(g_siemens), self.values[0])
        octaves = math.log((wait_s + read_s) / (2 * read_s))
        return self.flicker(g_siemens, g_max_siemens) * math.sqrt(max(octaves, 0.0))


class DriftLaw(_Frozen):
    """Change of a conductance with time since ``t0_s``, and the instance parameter its spread belongs to.

    "power": G (t/t0)^-nu, nu = (a + b ln r within low..high) + deviation, at least 0; values (a, b, low, high), r of
    the target. "log": G + a ln(t/t0) + deviation (b ln(t/t0) + c), values (a, b, c) in siemens.
    """

    form: Literal["power", "log"]
    values: tuple[Finite, ...]
    t0_s: Positive
    deviation: str

    @model_validator(mode="after")
    def _complete(self) -> DriftLaw:
        wanted = {"power": 4, "log": 3}[self.form]
        if len(self.values) != wanted:
            raise ValueError(f"form {self.form!r} has {wanted} values, not {len(self.values)}")
        return self

    def at(self, written: Array, share: Array, deviation: Array, t_s: float) -> Array:
        """Conductances at ``t_s`` of what was ``written`` at t0, for targets r = ``share``; siemens."""
        span = math.log(t_s / self.t0_s)
        if self.form == "power":
            a, b, low, high = self.values
            nu = np.maximum(np.clip(a + b * np.log(share), low, high) + deviation, 0.0)
            return np.asarray(written * np.exp(-nu * span))
        a, b, c = self.values
        return np.asarray(written + a * span + deviation * (b * span + c))


NOMINAL_CELSIUS = 27.0
"""Temperature at which a programmed conductance is what it was programmed to; ngspice's own nominal temperature."""


class TemperatureLaw(_Frozen):
    """Resistance of a device against its temperature, R = R_ref (1 + tc1 (T - T_ref) + tc2 (T - T_ref)^2).

    What is programmed is the conductance at ``NOMINAL_CELSIUS``; ``source`` says where the coefficients come from.
    """

    tc1_per_k: Finite
    tc2_per_k2: Finite = 0.0
    reference_celsius: Finite = NOMINAL_CELSIUS
    source: Annotated[str, Field(min_length=1)]

    def _resistance(self, celsius: float) -> float:
        dt = celsius - self.reference_celsius
        return 1 + self.tc1_per_k * dt + self.tc2_per_k2 * dt**2

    @property
    def at_nominal(self) -> tuple[float, float]:
        """(tc1, tc2) of the same curve written about ``NOMINAL_CELSIUS``, as ngspice's resistor takes them."""
        dt = NOMINAL_CELSIUS - self.reference_celsius
        whole = self._resistance(NOMINAL_CELSIUS)
        return (self.tc1_per_k + 2 * self.tc2_per_k2 * dt) / whole, self.tc2_per_k2 / whole

    def factor(self, celsius: float) -> float:
        """Conductance at ``celsius`` over that at ``NOMINAL_CELSIUS``; not above 0 where the law has no meaning.

        >>> round(TemperatureLaw(tc1_per_k=1e-3, source="an example").factor(127.0), 6)
        0.909091
        """
        return self._resistance(NOMINAL_CELSIUS) / self._resistance(celsius)


class DeviceStatistics(_Frozen):
    """Everything about a device that its conductance after programming, waiting and a read depends on."""

    g_max_siemens: Positive
    floor_siemens: Positive
    write: Spread
    read: ReadLaw | None = None
    drift: DriftLaw | None = None
    drift_spread: Spread | None = None
    oldest_s: Positive | None = None
    temperature: TemperatureLaw | None = None

    def temperature_factor(self, celsius: float) -> float:
        """Conductance at ``celsius`` over the programmed one; 1 of a device without a law."""
        return 1.0 if self.temperature is None else self.temperature.factor(celsius)
