"""A programmed network on the nominal proxy: exact map, equilibria, readings. What verify compares ngspice with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analog_deq.equilibrium.certificate import Certificate, certify
from analog_deq.fit.forms import closed_loop_tau
from analog_deq.fit.parameters import ProxyParameters, tau_coefficients
from analog_deq.proxy.activation import TableActivation
from analog_deq.proxy.array import EffectiveMap, effective_map
from analog_deq.proxy.mapping import quantise
from analog_deq.spec import DesignSpec
from analog_deq.tiling import Tile
from analog_deq.train.solving import settle
from analog_deq.train.timing import read_from_rest

TOLERANCE = 1e-10
FLAT_SLOPE = 1e-3
"""Slope of z over h below which the end of a measured curve counts as flat; 1 is the slope at the middle."""


@dataclass(frozen=True, slots=True)
class ProxyStates:
    """Internal states z, pre-activations h and row readings (images, N) of one solve."""

    z: Tensor
    h: Tensor
    reading: Tensor


@dataclass(frozen=True, slots=True)
class DeployedNetwork:
    """An array programmed with given conductances, as the proxy sees it (nominal, or one die's parameters).

    ``share`` (N,) is each neuron's share of R_F, in a design that scales it.
    """

    design: DesignSpec
    proxy: ProxyParameters
    map: EffectiveMap
    act: TableActivation
    tau_scale: np.ndarray
    share: np.ndarray | None = None

    @classmethod
    def nominal(
        cls,
        design: DesignSpec,
        proxy: ProxyParameters,
        g_pos: np.ndarray,
        g_neg: np.ndarray,
        share: np.ndarray | None = None,
        tiles: Sequence[Tile] | None = None,
    ) -> DeployedNetwork:
        """The array programmed to ``g_pos`` and ``g_neg``, without mismatch: its conductances are those measured.

        ``tiles`` other than the design's own spread the layer over them.

        OutOfDomainError for a conductance outside the calibrated range.
        """
        proxy.conductance.require("target_siemens", np.concatenate([g_pos, g_neg]))
        relative = 0.0 if share is None else share - 1
        positive, negative = proxy.synapse.seen_arrays(g_pos, g_neg)
        effective = effective_map(design, proxy, positive, negative, r_feedback=relative, tiles=tiles)
        act = TableActivation.nominal(proxy.activation)
        return cls(design, proxy, effective, act, np.ones(design.sizes.states), share)

    @property
    def w_state(self) -> Tensor:
        return torch.as_tensor(self.map.w_state)

    @property
    def tau_s(self) -> Tensor:
        """Time constant of each neuron under its load."""
        load = self.map.load if self.share is None else self.map.load * self.share
        tau = closed_loop_tau(load, *tau_coefficients(self.proxy.tau))
        return torch.as_tensor(tau * self.tau_scale)

    def certificate(self) -> Certificate:
        """What is certified of the matrix as mapped, quantised and drawn; the fitted delay stands for a second pole."""
        delay_s = self.proxy.tau.values["delay_s"]
        pole = delay_s if delay_s > 0.0 else None
        return certify(self.w_state, self.act.max_slope, self.tau_s, second_pole_s=pole)

    def inputs(self, x: Tensor) -> Tensor:
        """What the DACs make of inputs (images, M)."""
        return quantise(x, self.design.converters.dac_bits)

    def drive(self, x: Tensor) -> Tensor:
        """u = W_x x + c of DAC outputs."""
        return self.inputs(x) @ torch.as_tensor(self.map.w_input).T + torch.as_tensor(self.map.bias)

    def extrapolated(self, h: Tensor) -> Tensor:
        """True where a pre-activation (..., N) is beyond what calibration can say of the neuron.

        In a design whose neurons may saturate that is only where the measured curve does not end flat.
        """
        outside = self.act.outside(h)
        if not self.design.training.saturation:
            return outside
        low, high = self.act.end_slopes
        return outside & torch.where(h < 0, low > FLAT_SLOPE, high > FLAT_SLOPE)

    def require_inside(self, h: Tensor, share: float) -> None:
        """OutOfDomainError when more than ``share`` of ``h`` is :meth:`extrapolated`."""
        if bool(self.extrapolated(h).any()):
            self.act.require_inside(h, share)

    def solve(self, x: Tensor, *, domain_share: float | None = 0.0, nudge: Tensor | None = None) -> ProxyStates:
        """Equilibria of inputs (images, M). OutOfDomainError when more than ``domain_share`` of h is out of range.

        ``domain_share`` None accepts any (for baselines that were never told about the range). ``nudge`` (images, N) is
        added to the pre-activations.
        """
        with torch.no_grad():
            u = self.drive(x) if nudge is None else self.drive(x) + nudge
            z = settle(self.w_state, u, self.act, self.design.certificate.weight_class, tol=TOLERANCE)
            h = z @ self.w_state.T + u
            if domain_share is not None:
                self.require_inside(h, domain_share)
            reading = torch.as_tensor(self.map.readout(z.numpy(), self.inputs(x).numpy()))
            if nudge is not None:
                reading = reading + nudge @ torch.as_tensor(self.map.r_nudge).T
        return ProxyStates(z, h, reading)

    def read_from_rest(self, x: Tensor, read_s: float, window_s: float = 0.0) -> Tensor:
        """Readings (images, N) ``read_s`` after the inputs step on the circuit at rest; with a window their mean."""
        with torch.no_grad():
            delay = self.proxy.tau.values["delay_s"]
            z, _ = read_from_rest(
                self.w_state, self.drive(x), self.act, self.tau_s, read_s=read_s, window_s=window_s, delay_s=delay
            )
            return torch.as_tensor(self.map.readout(z.numpy(), self.inputs(x).numpy()))


@dataclass(frozen=True, slots=True)
class Readout:
    """Digital readout: class scores or values from quantised readings."""

    weight: Tensor
    bias: Tensor
    adc_bits: int

    def outputs(self, reading: Tensor) -> Tensor:
        """Class scores or values (images, outputs) of row readings (images, N)."""
        return quantise(reading, self.adc_bits) @ self.weight.T + self.bias

    def predict(self, reading: Tensor) -> Tensor:
        """Labels (images,) of row readings (images, N)."""
        return self.outputs(reading).argmax(-1)


def refit_readout(reading: Tensor, answers: Tensor, adc_bits: int, ridge: float) -> Readout:
    """Ridge regression of ``answers`` (images, outputs) on quantised readings (images, N).

    ``ridge`` is relative to the mean power of the readings. Labels are answered one-hot.
    """
    z = quantise(reading, adc_bits)
    z1 = torch.cat([z, torch.ones(len(z), 1, dtype=z.dtype)], dim=1)
    gram = z1.T @ z1
    penalty = ridge * gram.diagonal().mean() * torch.eye(z1.shape[1], dtype=z.dtype)
    solution = torch.linalg.solve(gram + penalty, z1.T @ answers)
    return Readout(solution[:-1].T.contiguous(), solution[-1], adc_bits)
