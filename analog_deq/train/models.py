"""What a network runs on while it learns: ideal mathematics, the same with injected noise, or the fitted proxy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from analog_deq.draws import Stream, generator
from analog_deq.equilibrium.cell import Activation, Tanh
from analog_deq.equilibrium.network_noise import network_covariance
from analog_deq.equilibrium.noise import sample_noise
from analog_deq.fit.forms import closed_loop_tau
from analog_deq.fit.parameters import ProxyParameters, tau_coefficients
from analog_deq.proxy.activation import TableActivation
from analog_deq.proxy.array import linear_map
from analog_deq.proxy.draws import draw_network
from analog_deq.proxy.mapping import ConductanceMapping, quantise
from analog_deq.spec import DesignSpec
from analog_deq.train.network import Network
from analog_deq.train.solving import settle
from analog_deq.train.timing import read_from_rest, settling_loss

TOLERANCE = 1e-6
HOLD_STEPS = 25
"""Training steps for which shares of R_F stay, and between two looks at the domains of loads and wires."""
RANGE_MARGIN = 0.85
"""Share of the calibrated range of h beyond which the penalty acts."""


@dataclass(frozen=True, slots=True)
class States:
    """What the readout sees, and a penalty that keeps the circuit in its calibrated range."""

    z: Tensor
    penalty: Tensor


class Model(Protocol):
    """Runs a network on a batch. ``step`` counts optimiser steps, so that draws are reproducible."""

    max_slope: float

    def __call__(self, network: Network, x: Tensor, step: int) -> States: ...


class IdealModel(nn.Module):
    """tanh units, exact weights; with ``weight_noise`` and ``read_noise`` the usual noise-injection training.

    Weight noise has a standard deviation of ``weight_noise`` times the largest weight, pre-activation noise
    ``read_noise`` units; both fresh each step.
    """

    def __init__(self, design: DesignSpec, weight_noise: float = 0.0, read_noise: float = 0.0) -> None:
        super().__init__()
        self.weight_class, self.gradient = design.certificate.weight_class, design.training.gradient
        self.max_slope = 1.0
        self.act: Activation = Tanh()
        self.seed, self.weight_noise, self.read_noise = design.seed, weight_noise, read_noise

    def forward(self, network: Network, x: Tensor, step: int) -> States:
        """Equilibrium of ``z = tanh(W z + W_x x + b)``."""
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        w: Tensor = network.w_state()
        w_input: Tensor = network.w_input
        if self.weight_noise:
            w = w + self._noise(w, rng)
            w_input = w_input + self._noise(w_input, rng)
        u = x @ w_input.T + network.bias
        if self.read_noise:
            u = u + self.read_noise * torch.randn(u.shape, generator=rng, dtype=u.dtype)
        z = settle(w, u, self.act, self.weight_class, tol=TOLERANCE, gradient=self.gradient)
        return States(z, torch.zeros((), dtype=z.dtype))

    def _noise(self, w: Tensor, rng: torch.Generator) -> Tensor:
        scale = self.weight_noise * w.detach().abs().max()
        return scale * torch.randn(w.shape, generator=rng, dtype=w.dtype)


class ProxyModel(nn.Module):
    """The fitted circuit: quantised conductances, measured activation, wires, one mismatch draw a batch, read noise.

    The array's map is exact at every step, drawn die included, and so is its gradient. Every ``HOLD_STEPS`` steps each
    neuron's share of R_F is chosen anew, and loads and wires are held to their calibrated domain.
    """

    def __init__(self, design: DesignSpec, proxy: ProxyParameters) -> None:
        super().__init__()
        self.design, self.proxy = design, proxy
        self.nominal = TableActivation.nominal(proxy.activation)
        self.max_slope = float(self.nominal.max_slope)
        self.mapping = ConductanceMapping.of(design.neuron, design.crossbar, proxy.r_feedback_ohm)
        self.share: Tensor | None = None

    def forward(self, network: Network, x: Tensor, step: int) -> States:
        """Noisy, quantised reading of the equilibrium on one drawn die."""
        design, training = self.design, self.design.training
        weights = network.weights()
        if step % HOLD_STEPS == 0:
            self.share = self.mapping.feedback_share(weights, design.scaling)
        share = self.share
        relative = 0.0 if share is None else share.numpy() - 1
        programmed = torch.stack(self.mapping.scaled(share).program(weights))
        g_pos, g_neg = self.proxy.synapse.seen(programmed)
        if step % HOLD_STEPS == 0:
            linear_map(design, self.proxy, g_pos.detach(), g_neg.detach(), r_feedback=relative, checked=True)
        act, bias, scale = self.nominal, torch.zeros((), dtype=x.dtype), torch.ones((), dtype=x.dtype)
        slow = scale
        if training.mismatch_draws:
            rng = generator(design.seed, Stream.TRAINING, step + 1)
            draw = draw_network(self.proxy, design, g_pos.shape[0], rng, programmed=programmed.detach())
            g_pos, g_neg = g_pos * (1 + draw.g_pos), g_neg * (1 + draw.g_neg)
            act, bias, scale = draw.activation(self.nominal), draw.bias, 1 + draw.r_feedback
            slow = 1 + draw.tau
        effective = linear_map(design, self.proxy, g_pos, g_neg, r_feedback=relative)
        w = effective.w_state * scale[..., None]
        x_read = quantise(x, design.converters.dac_bits)
        u = (x_read @ effective.w_input.T + effective.bias) * scale + bias
        tau = closed_loop_tau(effective.load * (1.0 if share is None else share), *tau_coefficients(self.proxy.tau))
        tau = tau.detach() * slow
        if training.read_time_s is None:
            z = settle(w, u, act, design.certificate.weight_class, tol=TOLERANCE, gradient=training.gradient)
            h = z @ w.T + u
        else:
            z, h = read_from_rest(
                w, u, act, tau, read_s=training.read_time_s, window_s=training.read_window_s or 0.0,
                delay_s=self.proxy.tau.values["delay_s"],
            )  # fmt: skip
        penalty = torch.zeros((), dtype=x.dtype)
        if training.settle_budget_s is not None:
            tol = design.verify.settle_tolerance_fs
            penalty = settling_loss(w, act.slope(h), tau, budget_s=training.settle_budget_s, tol=tol)
        if not training.saturation:
            limit = RANGE_MARGIN * min(-self.nominal.start, self.proxy.activation.end)
            penalty = penalty + torch.relu(h.abs() - limit).square().mean()
        reading = effective.readout(z, x_read)
        if training.read_noise:
            reading = reading + self._read_noise(w.detach(), effective.load, act.slope(h.detach()), tau, step, len(x))
        return States(quantise(reading, design.converters.adc_bits), penalty)

    def _read_noise(self, w: Tensor, load: Tensor, slope: Tensor, tau: Tensor, step: int, batch: int) -> Tensor:
        low, high = self.proxy.noise.domain["load_siemens"]
        inside = np.clip(load.numpy(), low, high)  # a draw may leave the range by its mismatch; the noise barely moves
        window = self.design.training.read_window_s or 0.0
        covariance = network_covariance(
            self.design, self.proxy, w, inside, slope.mean(0), tau, window_s=window, share=self.share
        )
        rng = torch.Generator().manual_seed(self.design.seed * 7_919 + step)
        return sample_noise(covariance, rng, samples=batch)
