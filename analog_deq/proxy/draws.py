"""Mismatch of a whole network drawn from the proxy's fitted distributions: one frozen draw a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analog_deq.fit.parameters import Distribution, ProxyParameters
from analog_deq.programming.design import read_die
from analog_deq.programming.device import program
from analog_deq.programming.statistics import DeviceStatistics
from analog_deq.proxy.activation import TableActivation
from analog_deq.proxy.autozero import residual_offset
from analog_deq.spec import DesignSpec, Programming

SMALLEST = 1e-3


@dataclass(frozen=True, slots=True)
class NetworkDraw:
    """One die as the proxy sees it: relative conductance errors (rows, N) and per-neuron parameters (N,)."""

    g_pos: Tensor
    g_neg: Tensor
    r_feedback: Tensor
    tau: Tensor
    bias: Tensor
    sat: Tensor
    in_scale: Tensor
    out_offset: Tensor

    def activation(self, nominal: TableActivation) -> TableActivation:
        """The die's activation; its input offset is part of ``bias``, which the trim has corrected."""
        return nominal.varied(self.sat, self.in_scale, torch.zeros_like(self.sat), self.out_offset)


def draw_network(
    proxy: ProxyParameters,
    design: DesignSpec,
    rows: int,
    rng: np.random.Generator,
    *,
    trimmed: bool = True,
    programmed: Tensor | None = None,
) -> NetworkDraw:
    """A die of ``rows`` logical rows. With ``trimmed`` the op-amp and input offsets are corrected to the trim's step.

    What a trim leaves is uniform within half a step of its current DAC; without it the offset, or what an auto-zero
    leaves of it, acts through the noise gain of a median load. ``programmed`` (2, rows, N), in siemens, is needed where
    the spread depends on it; an error that would take a conductance below ``SMALLEST`` of itself stops there.
    """
    n, fitted = design.sizes.states, proxy.mismatch
    values = _normal(rng, fitted, n)
    column = {name: torch.as_tensor(values[:, k]) for k, name in enumerate(fitted.names)}
    if programmed is None:
        if proxy.conductance.targets:
            raise ValueError("the spread of these conductances depends on their values; pass them as programmed")
        programmed = torch.zeros(2, rows, n, dtype=torch.float64)
    seen = proxy.synapse.seen(programmed).numpy()
    if design.programming is not None and proxy.device is not None:
        warm = proxy.device.temperature_factor(design.operating.temperature_celsius)
        aged = _aged(proxy.device, design.programming, programmed.numpy(), rng)
        g = np.maximum(warm * aged / seen - 1, SMALLEST - 1)
    else:
        mean, sigma = proxy.conductance.relative(programmed.numpy(), seen)
        g = np.maximum(mean + sigma * rng.standard_normal((2, rows, n)), SMALLEST - 1)
    r_feedback, v_unit = proxy.r_feedback_ohm, design.neuron.v_unit_v
    if trimmed:
        step = 2 * design.trim.range_a / (2**design.trim.bits - 1)
        bias = torch.as_tensor(rng.uniform(-0.5, 0.5, n) * step * r_feedback / v_unit)
    else:
        load = float(np.mean(proxy.integrator.domain["load_siemens"]))
        vos = column["vos_v"]
        if design.autozero is not None:
            left = residual_offset(vos.numpy(), design.autozero, design.operating.temperature_celsius, rng)
            vos = torch.as_tensor(left)
        bias = -(1 + r_feedback * load) * vos / v_unit + column["in_offset"]
    return NetworkDraw(
        torch.as_tensor(g[0]), torch.as_tensor(g[1]), column["r_feedback"], column["tau"], bias,
        column["sat"], column["in_scale"], column["out_offset"],
    )  # fmt: skip


def _aged(device: DeviceStatistics, spec: Programming, target_s: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Conductances of memristors programmed to ``target_s``, at the design's age, as one read sees them."""
    write, drift = rng.spawn(2)
    written = program(
        device, target_s, passes=spec.passes, tolerance_s=spec.tolerance_siemens, read_s=spec.verify_s,
        write_rng=write, drift_rng=drift,
    )  # fmt: skip
    return read_die(written, spec, rng)


def _normal(rng: np.random.Generator, fitted: Distribution, size: int) -> np.ndarray:
    """(size, parameters) draws. A parameter that never varied, or only with another, makes the covariance singular."""
    state = rng.bit_generator.state
    try:
        return rng.multivariate_normal(
            fitted.mean, fitted.covariance, size=size, method="cholesky", check_valid="ignore"
        )
    except np.linalg.LinAlgError:
        rng.bit_generator.state = state
        return rng.multivariate_normal(fitted.mean, fitted.covariance, size=size, method="eigh", check_valid="ignore")
