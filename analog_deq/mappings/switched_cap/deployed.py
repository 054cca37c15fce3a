"""A programmed network as a discrete map: fixed points, periods to settle, noise of the readings.

One period of the clock takes the held pre-activations w towards ``h = W sigma(w) + W_x x + c``, by the share of charge
that master and slave exchange (:mod:`analog_deq.mappings.switched_cap.sharing`). Its fixed point does not depend on
the share, and is that of the networks of every other mapping, ``z = sigma(W z + W_x x + c)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analog_deq.equilibrium.certificate import Certificate, certify
from analog_deq.errors import EquilibriumError
from analog_deq.mappings.switched_cap.closure import unsettled
from analog_deq.mappings.switched_cap.fit import SwitchedCapProxy
from analog_deq.mappings.switched_cap.noise import reading_covariance
from analog_deq.mappings.switched_cap.proxy import ChargeMap, charge_map
from analog_deq.mappings.switched_cap.sharing import Sharing
from analog_deq.mappings.switched_cap.spec import Settings
from analog_deq.proxy.activation import TableActivation
from analog_deq.proxy.mapping import quantise
from analog_deq.spec import DesignSpec
from analog_deq.train.deployed import ProxyStates
from analog_deq.train.solving import settle

Array = np.ndarray
TIGHT = 1e-10
MAX_PERIODS = 100_000


@dataclass(frozen=True, slots=True)
class SwitchedCapDeployed:
    """A programmed array on the nominal proxy."""

    design: DesignSpec
    settings: Settings
    proxy: SwitchedCapProxy
    map: ChargeMap
    act: TableActivation

    @classmethod
    def of(
        cls, design: DesignSpec, settings: Settings, proxy: SwitchedCapProxy, programmed: Array
    ) -> SwitchedCapDeployed:
        """Proxy of ``programmed`` (2, rows, N) farads. OutOfDomainError for a column beyond the calibrated loads."""
        map_ = charge_map(settings, proxy, torch.as_tensor(programmed), design.sizes.inputs)
        proxy.amplifier.require("load_f", map_.load.numpy())
        return cls(design, settings, proxy, map_, TableActivation.nominal(proxy.activation))

    @property
    def sharing(self) -> Sharing:
        """How much of its way a held state goes in a period."""
        return Sharing.of(self.proxy.sharing)

    def inputs(self, x: Tensor) -> Tensor:
        """What the DACs make of inputs (images, M)."""
        return quantise(x, self.design.converters.dac_bits)

    def drive(self, x: Tensor) -> Tensor:
        """Pre-activations (images, N) of inputs and bias alone."""
        return self.inputs(x) @ self.map.w_input.T + self.map.bias

    def solve(self, x: Tensor, *, domain_share: float | None = 0.0) -> ProxyStates:
        """Fixed points of inputs (images, M); OutOfDomainError as the protocol says."""
        with torch.no_grad():
            u = self.drive(x)
            z = settle(self.map.w_state, u, self.act, self.design.certificate.weight_class, tol=TIGHT)
            h = z @ self.map.w_state.T + u
            if domain_share is not None:
                self.act.require_inside(h, domain_share)
        return ProxyStates(z, h, z)

    def step(self, w: Tensor, u: Tensor) -> Tensor:
        """One period of the clock from held pre-activations ``w`` (images, N)."""
        return self.sharing.period(w, self.act.value(w) @ self.map.w_state.T + u)

    def periods(self, x: Tensor, tolerance: float) -> Array:
        """Index (images,) of the first period from which every reading stays within ``tolerance`` of its end."""
        with torch.no_grad():
            end, u = self.solve(x, domain_share=None).z, self.drive(x)
            w = torch.zeros_like(end)
            last_outside = torch.full((len(x),), -1)
            quiet, k = 0, 0
            while quiet < 20:  # a decaying oscillation may leave once more
                outside = ((self.act.value(w) - end).abs() > tolerance).any(1)
                last_outside = torch.where(outside, torch.full_like(last_outside, k), last_outside)
                quiet = 0 if bool(outside.any()) else quiet + 1
                w, k = self.step(w, u), k + 1
                if k > MAX_PERIODS:
                    raise EquilibriumError(f"the clocked map has not settled after {MAX_PERIODS} periods")
        return np.asarray(last_outside.numpy() + 1)

    def settling_s(self, x: Tensor, tolerance: float) -> Array:
        """Predicted time (images,): whole periods from rest until the reading within the tolerance is taken."""
        return (self.periods(x, tolerance) + 1) * self.settings.clock.period_s

    def certificate(self) -> Certificate:
        """Of the effective matrix; class A contracts under the clocked map too, whatever the share is near rest."""
        return certify(self.map.w_state, self.act.max_slope)

    def noise_rms(self, x: Tensor) -> Array:
        """Predicted rms (images, N) of a reading."""
        h = self.solve(x, domain_share=None).h
        covariance = reading_covariance(self.settings, self.proxy, self.map, self.act.slope(h), self.sharing.share(h))
        return np.asarray(covariance.diagonal(dim1=-2, dim2=-1).sqrt().numpy())

    def correction(self, w: Array, residual: Array) -> Array:
        """(I - J)^-1 residual (N,): how far the fixed point is when a period moves the held ``w`` by ``residual``."""
        held = torch.as_tensor(w)
        loop = np.eye(len(w)) - self.map.w_state.numpy() * self.act.slope(held).numpy()
        return np.asarray(np.linalg.solve(loop, residual / self.sharing.share(held).numpy()))

    def missing(self) -> Array:
        """Share (N,) of each column's step that a transfer phase leaves undone."""
        return np.asarray(unsettled(self.map.load.numpy(), self.proxy.settling, self.settings.clock.transfer_s))
