"""What trains: weights as whole unit capacitors, and the proxy with its quantiser, mismatch draws and read noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from analog_deq.draws import Stream, generator
from analog_deq.equilibrium.noise import sample_noise
from analog_deq.mappings.switched_cap.fit import SwitchedCapProxy
from analog_deq.mappings.switched_cap.noise import reading_covariance
from analog_deq.mappings.switched_cap.proxy import charge_map
from analog_deq.mappings.switched_cap.sharing import Sharing
from analog_deq.mappings.switched_cap.spec import Settings
from analog_deq.proxy.activation import TableActivation
from analog_deq.proxy.mapping import quantise
from analog_deq.spec import DesignSpec
from analog_deq.train.models import RANGE_MARGIN, TOLERANCE, States
from analog_deq.train.network import Network
from analog_deq.train.solving import settle

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class UnitMapping:
    """Weights to capacitors: whole units on the positive or the negative line of a row, none on the other."""

    unit_f: float
    units: int
    weight_per_farad: float

    @classmethod
    def of(cls, settings: Settings) -> UnitMapping:
        """Mapping of a design's capacitors."""
        return cls(settings.capacitors.unit_f, settings.capacitors.units, settings.weight_per_farad)

    @property
    def w_max(self) -> float:
        """Largest weight."""
        return self.units * self.unit_f * self.weight_per_farad

    def program(self, weights: Tensor) -> Tensor:
        """Capacitances (2, rows, N) in farads of weights (rows, N); gradients pass straight through the rounding.

        Weights beyond :attr:`w_max` saturate, with zero gradient.
        """
        exact = weights.clamp(-self.w_max, self.w_max) / (self.unit_f * self.weight_per_farad)
        whole = exact + (torch.round(exact) - exact).detach()
        return torch.stack([whole.clamp(min=0), (-whole).clamp(min=0)]) * self.unit_f


class SwitchedCapModel(nn.Module):
    """What trains: whole unit capacitors, the measured activation, one mismatch draw a batch, sampled read noise."""

    def __init__(self, design: DesignSpec, settings: Settings, proxy: SwitchedCapProxy) -> None:
        super().__init__()
        self.design, self.settings, self.proxy = design, settings, proxy
        self.nominal = TableActivation.nominal(proxy.activation)
        self.max_slope = float(self.nominal.max_slope)
        self.mapping = UnitMapping.of(settings)
        self.sharing = Sharing.of(proxy.sharing)

    def forward(self, network: Network, x: Tensor, step: int) -> States:
        """Noisy, quantised reading of the fixed point on one drawn die."""
        design, training = self.design, self.design.training
        c = self.mapping.program(network.weights())
        act, offset, gain = (
            self.nominal,
            torch.zeros(len(network.bias), dtype=x.dtype),
            torch.ones(len(network.bias), dtype=x.dtype),
        )
        if training.mismatch_draws:
            rng = generator(design.seed, Stream.TRAINING, step + 1)
            part = self.settings.capacitors
            area = (c.detach() / part.density_f_per_um2).clamp(min=1e-30)
            error = torch.as_tensor(rng.standard_normal(c.shape)).clamp(-5, 5) * part.matching_um / area.sqrt()
            c = c * torch.where(c.detach() > 0, 1 + error, torch.ones_like(error))
            die = torch.as_tensor(self._draw(rng, len(network.bias)))
            gain, offset = die[:, 0], die[:, 1]
            one = torch.ones((), dtype=x.dtype)
            act = self.nominal.varied(die[:, 2], one, torch.zeros_like(one), die[:, 3])
        map_ = charge_map(self.settings, self.proxy, c, x.shape[1])
        w = map_.w_state * gain[:, None]
        u = (quantise(x, design.converters.dac_bits) @ map_.w_input.T + map_.bias) * gain + offset
        z = settle(w, u, act, design.certificate.weight_class, tol=TOLERANCE, gradient=training.gradient)
        h = z @ w.T + u
        penalty = torch.zeros((), dtype=x.dtype)
        if not training.saturation:
            limit = RANGE_MARGIN * min(-self.nominal.start, self.proxy.activation.end)
            penalty = torch.relu(h.abs() - limit).square().mean()
        if training.read_noise:
            share = self.sharing.share(h.detach()).mean(0)
            covariance = reading_covariance(self.settings, self.proxy, map_, act.slope(h.detach()).mean(0), share)
            rng_torch = torch.Generator().manual_seed(design.seed * 7_919 + step)
            z = z + sample_noise(covariance, rng_torch, samples=len(x))
        return States(quantise(z, design.converters.adc_bits), penalty)

    def _draw(self, rng: np.random.Generator, neurons: int) -> Array:
        spread = self.proxy.mismatch
        factor = np.linalg.cholesky(np.array(spread.covariance) + 1e-18 * np.eye(len(spread.mean)))
        return np.asarray(np.array(spread.mean) + rng.standard_normal((neurons, len(spread.mean))) @ factor.T)
