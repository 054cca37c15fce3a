"""The family as training and prediction see it: programming, a drawn die, the equilibrium, its time and noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from analog_deq.draws import Stream, generator
from analog_deq.equilibrium.certificate import Certificate, certify
from analog_deq.equilibrium.noise import sample_noise
from analog_deq.errors import OutOfDomainError
from analog_deq.mappings.memristor.closure import ColumnMap, Solved, admittance, by_column, close, solve
from analog_deq.mappings.memristor.dynamics import Circuit, amplifier_tau, damping
from analog_deq.mappings.memristor.pair import PairActivation, bent, bent_slope
from analog_deq.mappings.memristor.proxy import MemristorProxy
from analog_deq.mappings.memristor.spec import MemristorSpec
from analog_deq.proxy.mapping import ConductanceMapping, quantise
from analog_deq.spec import DesignSpec
from analog_deq.train.deployed import ProxyStates
from analog_deq.train.models import States
from analog_deq.train.network import Network
from analog_deq.waveforms import settling_time

Array = np.ndarray
RANGE_MARGIN = 0.85
"""Share of the calibrated h and c beyond which training pays a penalty."""
NOISE_EVERY = 25
SMALLEST = 1e-3
"""Least share of itself that a drawn error leaves of a conductance."""


def weight_mapping(design: DesignSpec, spec: MemristorSpec) -> ConductanceMapping:
    """w = R_F z_unit / v_unit (g_p - g_n)."""
    array = design.crossbar
    scale = spec.r_feedback_ohm * spec.z_unit_v / spec.v_unit_v
    return ConductanceMapping(array.g_min_siemens, array.g_max_siemens, array.levels, scale)


def row_resistance(design: DesignSpec, r_out_ohm: float) -> Tensor:
    """(R,) ohm between a row's source and its wire: the DACs', then the drivers'."""
    sizes = design.sizes
    r = torch.full((sizes.inputs + 1 + sizes.states,), design.crossbar.r_dac_ohm, dtype=torch.float64)
    r[-sizes.states :] = r_out_ohm
    return r


def column_map(
    design: DesignSpec,
    spec: MemristorSpec,
    proxy: MemristorProxy,
    seen: Tensor,
    *,
    vos_v: Tensor | float = 0.0,
    r_feedback: Tensor | float = 0.0,
) -> tuple[ColumnMap, Tensor]:
    """The map of an array of conductances ``seen`` (R, 2N), with errors of the amplifiers; its admittance."""
    r_out = proxy.driver.values["r_out_ohm"]
    y = admittance(seen, r_line_ohm=design.crossbar.r_line_ohm, r_source_ohm=row_resistance(design, r_out))
    columns = torch.ones(seen.shape[-1], dtype=torch.float64)
    amplifier = proxy.amplifier.values
    found = close(
        y, design.sizes.states, r_feedback_ohm=spec.r_feedback_ohm * (1 + r_feedback) * columns,
        summing_v=(amplifier["s0_v"] + vos_v) * columns, inverse_a0=amplifier["inverse_a0"], r_out_ohm=r_out,
        z_unit_v=spec.z_unit_v, v_unit_v=spec.v_unit_v, law=proxy.bend,
    )  # fmt: skip
    return found, y


@dataclass(frozen=True, slots=True)
class DrawnDie:
    """One die as the proxy sees it: conductances (R, 2N), columns' and pairs' parameters."""

    seen: Tensor
    vos_v: Tensor
    r_feedback: Tensor
    act: PairActivation


def draw_die(
    proxy: MemristorProxy, spec: MemristorSpec, act: PairActivation, programmed: Tensor, rng: np.random.Generator
) -> DrawnDie:
    """Devices, amplifiers and pairs drawn from their fitted distributions; ``programmed`` (R, 2N)."""
    columns = programmed.shape[1]
    seen = proxy.synapse.seen(programmed)
    mean, sigma, read = proxy.errors(programmed)
    error = mean + sigma * torch.as_tensor(rng.standard_normal(tuple(programmed.shape)))
    if spec.read_noise:
        error = error + read * (seen.detach() + error) * torch.as_tensor(rng.standard_normal(tuple(programmed.shape)))
    seen = seen + torch.maximum(error, (SMALLEST - 1) * seen.detach())
    own = rng.multivariate_normal(proxy.mismatch.mean, proxy.mismatch.covariance, columns, check_valid="ignore")
    pair = rng.multivariate_normal(
        proxy.pair_mismatch.mean, proxy.pair_mismatch.covariance, columns // 2, check_valid="ignore"
    )
    vos, r_feedback = (torch.as_tensor(part) for part in own.T.copy())
    return DrawnDie(seen, vos, r_feedback, act.varied(*(torch.as_tensor(part) for part in pair.T.copy())))


class MemristorModel(nn.Module):
    """What a network trains on: quantised conductances, a drawn die a batch, wires, the pair, read noise.

    The penalty keeps differences and means of the amplifiers in the calibrated range, far from their swing.
    """

    def __init__(self, design: DesignSpec, spec: MemristorSpec, proxy: MemristorProxy) -> None:
        super().__init__()
        self.design, self.spec, self.proxy = design, spec, proxy
        self.act = proxy.pair.activation()
        self.mapping = weight_mapping(design, spec)
        law = bent_slope(torch.ones((), dtype=torch.float64), proxy.bend)
        by_h, by_c = self.act.bounds(proxy.pair.c_max)
        self.max_slope = (by_h + by_c) * max(float(law), 1.0)
        self.noise: Tensor | None = None

    def forward(self, network: Network, x: Tensor, step: int) -> States:
        """Noisy, quantised reading of the equilibrium on one drawn die."""
        design, training = self.design, self.design.training
        programmed = by_column(torch.stack(self.mapping.program(network.weights())))
        act, seen, vos, r_feedback = self.act, self.proxy.synapse.seen(programmed), torch.zeros(1), torch.zeros(1)
        if training.mismatch_draws:
            rng = generator(design.seed, Stream.TRAINING, step + 1)
            die = draw_die(self.proxy, self.spec, self.act, programmed, rng)
            act, seen, vos, r_feedback = die.act, die.seen, die.vos_v, die.r_feedback
        columns, y = column_map(design, self.spec, self.proxy, seen, vos_v=vos, r_feedback=r_feedback)
        driven = quantise(x, design.converters.dac_bits)
        solved = solve(columns, act, driven)
        reading = columns.reading(driven, solved.z)
        if training.read_noise:
            reading = reading + self._read_noise(columns, y, solved, step, len(x))
        limit_h, limit_c = RANGE_MARGIN * self.act.reach, RANGE_MARGIN * self.proxy.pair.c_max
        over = (torch.relu(part.abs() - limit) for part, limit in ((solved.h, limit_h), (solved.c, limit_c)))
        penalty = torch.stack([part.square().mean() for part in over]).sum()
        return States(quantise(reading, design.converters.adc_bits), penalty)

    def _read_noise(self, columns: ColumnMap, y: Tensor, solved: Solved, step: int, batch: int) -> Tensor:
        """Draws from the covariance at the batch's mean slopes, worked out anew every ``NOISE_EVERY`` steps."""
        if self.noise is None or step % NOISE_EVERY == 0:
            middle = Solved(*(part.detach().mean(0, keepdim=True) for part in (
                solved.z, solved.h, solved.c, solved.by_h, solved.by_c)))  # fmt: skip
            circuit = _circuit(self.design, self.spec, self.proxy, y.detach(), self.act)
            quiet = np.zeros(2 * self.design.sizes.states)
            self.noise = torch.as_tensor(circuit.noise_covariance(middle, 0, quiet))
        rng = torch.Generator().manual_seed(self.design.seed * 7_919 + step)
        return sample_noise(self.noise, rng, samples=batch)


def _circuit(design: DesignSpec, spec: MemristorSpec, proxy: MemristorProxy, y: Tensor, act: PairActivation) -> Circuit:
    kelvin = design.operating.temperature_celsius + 273.15
    return Circuit(y.numpy(), design.sizes.states, proxy, spec, act, kelvin)


@dataclass(frozen=True)
class DeployedMemristor:
    """The nominal proxy of an array programmed to ``programmed`` (2, R, N), in siemens."""

    design: DesignSpec
    spec: MemristorSpec
    proxy: MemristorProxy
    programmed: Array

    @cached_property
    def act(self) -> PairActivation:
        """The pair without mismatch."""
        return self.proxy.pair.activation()

    @cached_property
    def _reduced(self) -> tuple[ColumnMap, Tensor]:
        flat = by_column(torch.as_tensor(self.programmed))
        self.proxy.spread.require("target_siemens", flat.numpy())
        columns, y = column_map(self.design, self.spec, self.proxy, self.proxy.synapse.seen(flat))
        self.proxy.amplifier.require("load_siemens", columns.load.numpy())
        n = self.design.sizes.states
        rows = y.shape[0] - 2 * n
        self.proxy.driver.require("driver_load_siemens", y.diagonal()[rows - n : rows].numpy())
        return columns, y

    @property
    def columns(self) -> ColumnMap:
        """The effective map. OutOfDomainError for conductances or loads beyond what was calibrated."""
        return self._reduced[0]

    @property
    def circuit(self) -> Circuit:
        """Its equations in time."""
        return _circuit(self.design, self.spec, self.proxy, self._reduced[1], self.act)

    def inputs(self, x: Tensor) -> Tensor:
        """What the DACs make of inputs (images, M)."""
        return quantise(x, self.design.converters.dac_bits)

    def solved(self, x: Tensor) -> Solved:
        """Equilibria of inputs (images, M), with their slopes."""
        with torch.no_grad():
            return solve(self.columns, self.act, self.inputs(x))

    def solve(self, x: Tensor, *, domain_share: float | None = 0.0) -> ProxyStates:
        """Equilibria of inputs (images, M); OutOfDomainError: more than ``domain_share`` leave the pair's tables."""
        found = self.solved(x)
        if domain_share is not None:
            outside = (found.h.abs() > self.act.reach) | (found.c.abs() > self.proxy.pair.c_max)
            share = float(outside.double().mean())
            if share > domain_share:
                raise OutOfDomainError(
                    f"{100 * share:.3g} % of the states leave the calibrated range |h| <= {self.act.reach:.3g}, |c| <= "
                    f"{self.proxy.pair.c_max:.3g} (largest {float(found.h.abs().max()):.3g}, "
                    f"{float(found.c.abs().max()):.3g}; {100 * domain_share:.3g} % allowed); widen h_max or c_max"
                )
        return ProxyStates(found.z, found.h, self.columns.reading(self.inputs(x), found.z))

    def certificate(self) -> Certificate:
        """What is certified of the matrix as mapped and quantised.

        z = sig(h, c) moves with both: the matrix judged has each weight of h raised by that of c in the ratio of the
        pair's slopes, which bounds the rows of the true one from above. One time constant a neuron, the slower of its
        two amplifiers'; the other poles are the second one.
        """
        by_h, by_c = self.act.bounds(self.proxy.pair.c_max)
        fed = max(float(bent_slope(torch.ones(()), self.proxy.bend)), 1.0)
        h_z, c_z = self.columns.difference[2], self.columns.mean[2]
        matrix = h_z + torch.sign(h_z) * c_z.abs() * (by_c / by_h)
        tau = torch.tensor([amplifier_tau(float(g), self.proxy, self.spec) for g in self.columns.load])
        tau = tau.to(torch.float64)
        slopes = torch.full((len(h_z),), by_h * fed, dtype=torch.float64)
        pole = sum(self.proxy.poles.values.values())
        return certify(matrix, slopes, torch.maximum(tau[0::2], tau[1::2]), second_pole_s=pole)

    def settling_s(self, x: Tensor, tolerance: float) -> Array:
        """Predicted time (images,) from rest until every reading stays within ``tolerance`` of its end."""
        ends = self.solve(x, domain_share=None).reading.numpy()
        stop = self.design.verify.transient_window_s
        t, readings = self.circuit.trajectory(self.inputs(x).numpy(), ends, self.columns, stop, tolerance)
        away = np.abs(readings - ends).max(axis=2)
        return np.array([settling_time(t, away[:, k], 0.0, tolerance) for k in range(len(ends))])

    def noise_rms(self, x: Tensor) -> Array:
        """Predicted rms (images, N) of each reading, in units of z; 1/f noise of the devices at their row's voltage."""
        solved = self.solved(x)
        driven = torch.cat([self.inputs(x), torch.ones(len(x), 1, dtype=torch.float64), solved.z], 1)
        rows = bent(driven, self.proxy.bend).numpy() * self.spec.z_unit_v
        flat = by_column(torch.as_tensor(self.programmed))
        seen, relative = self.proxy.synapse.seen(flat).numpy(), self.proxy.flicker(flat.numpy())
        circuit = self.circuit
        found = []
        for k in range(len(x)):
            flicker = np.sum(relative * (seen * rows[k][:, None]) ** 2, axis=0)
            found.append(np.sqrt(np.diag(circuit.noise_covariance(solved, k, flicker))))
        return np.stack(found)

    def stability(self, x: Tensor) -> dict[str, float]:
        """Margins: slowest mode of the whole circuit at the equilibria (1/s, negative), amplifiers' phase and time."""
        solved, circuit = self.solved(x), self.circuit
        slowest = max(float(np.linalg.eigvals(circuit.jacobian(solved, k)).real.max()) for k in range(len(x)))
        phase, tau = damping(self.columns.load.numpy(), self.proxy, self.spec)
        return {"abscissa_per_s": slowest, "amplifier_phase_margin_deg": phase, "amplifier_tau_s": tau}
