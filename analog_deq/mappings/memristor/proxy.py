"""The fitted parameters of the family, and the complex responses they stand for."""

from __future__ import annotations

import math

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from analog_deq.fit.parameters import ConductanceSpread, Distribution, Form, Goodness, SynapseLaw
from analog_deq.mappings.mapping import FamilyProxy
from analog_deq.mappings.memristor.pair import PairActivation

Array = np.ndarray


SINH_TOLERANCE = 1e-3
"""Share of a by which b may differ from that of a sinh."""


class PairTable(BaseModel):
    """z of the difference h and the mean c: ``sum_m T_m(h) c^m``, h on a uniform grid, |c| at most ``c_max``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: float
    step: float
    tables: list[list[float]]
    c_max: float
    goodness: Goodness

    def activation(self) -> PairActivation:
        """The torch function, without mismatch."""
        return PairActivation.nominal(self.start, self.step, self.tables)


class MemristorProxy(FamilyProxy):
    """All that training and prediction know of the circuit.

    ``amplifier`` is its offset and gain, ``loop`` its two poles, ``poles`` those of pair and driver, ``noise`` their
    sources. ``synapse`` gives the conductance that a programmed device shows at the read voltage, ``law`` how its
    current bends below it, ``spread`` its error over dies, ``read`` the relative noise of one read by target.
    """

    amplifier: Form
    loop: Form
    pair: PairTable
    driver: Form
    poles: Form
    noise: Form
    synapse: SynapseLaw
    law: Form
    spread: ConductanceSpread
    read: Form
    mismatch: Distribution
    pair_mismatch: Distribution

    def goodness(self) -> dict[str, Goodness]:
        names = (
            "amplifier", "loop", "pair", "driver", "poles", "noise", "synapse", "law", "spread", "mismatch",
            "pair_mismatch",
        )  # fmt: skip
        return {name: getattr(self, name).goodness for name in names}

    @property
    def bend(self) -> tuple[float, float]:
        """The two coefficients of the read law; (0, 0) of a device on a straight line."""
        return self.law.values["a"], self.law.values["b"]

    @property
    def sinh_v(self) -> float | None:
        """Voltage v0 of ``sinh`` where the law is one: a = q / 6, b = q^2 / 120 of q = (v_read / v0)^2; else None."""
        a, b = self.bend
        square = 6 * a
        if a <= 0 or abs(b - square**2 / 120) > SINH_TOLERANCE * a:
            return None
        return float(self.synapse.read_v / math.sqrt(square))

    @property
    def targets(self) -> Array:
        """Programmed conductances (S) at which spread and read noise are known."""
        return np.array(self.spread.targets)

    def errors(self, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean and standard deviation (S) of what devices programmed to ``g`` show more, and relative read noise."""
        at, count = g.detach().numpy(), range(len(self.targets))
        columns = [[self.spread.values[f"{name}_{k}"] for k in count] for name in ("mean", "sigma")]
        mean, sigma = (torch.as_tensor(np.interp(at, self.targets, column)) for column in columns)
        return mean, sigma, torch.as_tensor(self._by_log(at, "sigma"))

    def flicker(self, g: Array) -> Array:
        """1/f noise of devices programmed to ``g``: density of the relative current squared, times frequency."""
        return self._by_log(g, "flicker")

    def _by_log(self, g: Array, name: str) -> Array:
        """A power law between targets: noise falls with the conductance so."""
        level = [max(self.read.values[f"{name}_{k}"], 1e-30) for k in range(len(self.targets))]
        return np.asarray(np.exp(np.interp(np.log(g), np.log(self.targets), np.log(level))))


def open_loop(frequency_hz: Array, inverse_a0: float, gbw_hz: float, f2_hz: float) -> Array:
    """Complex gain of the op-amp: ``1 / (1/A0 + j f / GBW) / (1 + j f / f2)``."""
    return np.asarray(1 / (inverse_a0 + 1j * frequency_hz / gbw_hz) / (1 + 1j * frequency_hz / f2_hz))


def amplifier_response(
    frequency_hz: Array, load: float | Array, gain: Array, r_ohm: float, c_f: float, c_in_f: float
) -> tuple[Array, Array]:
    """(transfer of an input current over the ideal -R_F, noise gain of a voltage at the op-amp's input), complex.

    With ``Y_F = 1/R + j w C`` and ``Y_T = G + Y_F + j w C_in``: ``(1/R) / (Y_F + Y_T / A)`` and ``Y_T / (Y_F + Y_T /
    A)``; at DC ``1 / (1 + (1 + R G) / A0)`` and ``1 + R G`` over the same.
    """
    w = 2 * math.pi * frequency_hz
    feedback = 1 / r_ohm + 1j * w * c_f
    total = load + feedback + 1j * w * c_in_f
    bottom = feedback + total / gain
    return np.asarray(1 / r_ohm / bottom), np.asarray(total / bottom)
