"""What a node network trains on, and the nominal proxy of one that is programmed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from analog_deq.draws import Stream, generator
from analog_deq.equilibrium.certificate import Certificate, certify
from analog_deq.mappings.node.array import folded_admittance
from analog_deq.mappings.node.dynamics import noise_covariance, settling_times, trajectory
from analog_deq.mappings.node.fit import NodeProxy
from analog_deq.mappings.node.proxy import Load, NodeNetwork, max_slope, program
from analog_deq.mappings.node.spec import NodeSettings
from analog_deq.mappings.node.variation import MISMATCH
from analog_deq.proxy.activation import TableActivation
from analog_deq.proxy.mapping import quantise
from analog_deq.spec import DesignSpec
from analog_deq.train.deployed import ProxyStates
from analog_deq.train.models import States
from analog_deq.train.network import Network

Array = np.ndarray
NOISE_STRIDE = 4
"""Training reads the noise spectra at every fourth frequency: 1 % of the rms."""


def own_siemens(proxy: NodeProxy, settings: NodeSettings) -> float:
    """Conductance of a node's own load at 0 V."""
    return float(Load.nominal(proxy.load).at_zero) / settings.v_unit_v


def build_network(
    design: DesignSpec, settings: NodeSettings, proxy: NodeProxy, conductances: Tensor, act: TableActivation, load: Load
) -> NodeNetwork:
    """The network of conductances (2, rows, N), siemens."""
    r_out = proxy.driver.values["r_out_ohm"]
    admittance = folded_admittance(conductances, design.crossbar, r_out)
    return NodeNetwork.of(admittance, design.sizes.inputs, settings, r_out, act, load)


def vary(act: TableActivation, load: Load, values: Array) -> tuple[TableActivation, Load]:
    """Activation and load with each neuron's mismatch parameters, ``values`` (N, parameters) in their fitted order."""
    sat, scale, shift, out, gain, moved, amps = (torch.as_tensor(values[:, k]) for k in range(len(MISMATCH)))
    return act.varied(sat, scale, shift, out), load.varied(1 + gain, moved, amps)


class NodeModel(nn.Module):
    """The fitted circuit on a batch: quantised conductances, exact array, one mismatch draw, read noise."""

    def __init__(self, design: DesignSpec, settings: NodeSettings, proxy: NodeProxy, sigma_g: float) -> None:
        super().__init__()
        self.design, self.settings, self.proxy, self.sigma_g = design, settings, proxy, sigma_g
        self.act, self.load = TableActivation.nominal(proxy.activation), Load.nominal(proxy.load)
        self.own = own_siemens(proxy, settings)
        rows = design.sizes.inputs + 1 + design.sizes.states
        idle = 2 * rows * design.crossbar.g_min_siemens
        self.max_slope = max_slope(proxy, self.own, idle, settings.v_unit_v)

    def forward(self, network: Network, x: Tensor, step: int) -> States:
        """Noisy, quantised reading of the equilibrium on one drawn die. A passive node never leaves its range."""
        design, training = self.design, self.design.training
        g = program(network.weights(), self.settings, design.crossbar, self.own)
        act, load = self.act, self.load
        if training.mismatch_draws:
            rng = generator(design.seed, Stream.TRAINING, step + 1)
            g = g * torch.as_tensor(1 + np.maximum(self.sigma_g * rng.standard_normal(g.shape), -0.9))
            act, load = self._draw(rng)
        circuit = build_network(design, self.settings, self.proxy, g, act, load)
        x_read = quantise(x, design.converters.dac_bits)
        h = circuit.solve(circuit.drive(x_read))
        reading = circuit.reading(h, act.value(h), x_read)
        if training.read_noise:
            reading = reading + self._noise(g.detach(), h.detach().mean(0, keepdim=True), step, len(x))
        return States(quantise(reading, design.converters.adc_bits), torch.zeros((), dtype=x.dtype))

    def _draw(self, rng: np.random.Generator) -> tuple[TableActivation, Load]:
        fitted, n = self.proxy.mismatch, self.design.sizes.states
        drawn = rng.multivariate_normal(fitted.mean, fitted.covariance, size=n, method="eigh", check_valid="ignore")
        return vary(self.act, self.load, drawn)

    def _noise(self, g: Tensor, h: Tensor, step: int, batch: int) -> Tensor:
        with torch.no_grad():
            circuit = build_network(self.design, self.settings, self.proxy, g, self.act, self.load)
        covariance = circuit_noise(self.design, self.proxy, circuit, h, stride=NOISE_STRIDE)[0]
        rng = generator(self.design.seed, Stream.READ_NOISE, step)
        drawn = rng.multivariate_normal(
            np.zeros(len(covariance)), covariance, size=batch, method="eigh", check_valid="ignore"
        )
        return torch.as_tensor(drawn)


def circuit_noise(design: DesignSpec, proxy: NodeProxy, circuit: NodeNetwork, h: Tensor, *, stride: int = 1) -> Array:
    """Covariance (B, N, N) of the readings at ``h``."""
    c_f = torch.full((circuit.states,), proxy.capacitance.values["c_f"], dtype=torch.float64)
    path = proxy.path.values["tau_s"], proxy.path.values["delay_s"]
    kelvin = design.operating.temperature_celsius + 273.15
    return noise_covariance(circuit, proxy.noise, h, c_f, path, kelvin, stride=stride)


@dataclass(frozen=True, slots=True)
class NodeDeployed:
    """A programmed network on the nominal proxy."""

    design: DesignSpec
    proxy: NodeProxy
    circuit: NodeNetwork

    @classmethod
    def of(
        cls,
        design: DesignSpec,
        settings: NodeSettings,
        proxy: NodeProxy,
        conductances: Array,
        neurons: Array | None = None,
    ) -> NodeDeployed:
        """The circuit of ``conductances`` (2, rows, N) siemens; ``neurons`` (N, parameters) is a die's mismatch."""
        act, load = TableActivation.nominal(proxy.activation), Load.nominal(proxy.load)
        if neurons is not None:
            act, load = vary(act, load, neurons)
        with torch.no_grad():
            circuit = build_network(design, settings, proxy, torch.as_tensor(conductances), act, load)
        return cls(design, proxy, circuit)

    def inputs(self, x: Tensor) -> Tensor:
        return quantise(x, self.design.converters.dac_bits)

    def solve(self, x: Tensor, *, domain_share: float | None = 0.0) -> ProxyStates:
        """Equilibria; a node cannot leave the calibrated range, which holds every voltage a row may have."""
        with torch.no_grad():
            inputs = self.inputs(x)
            h = self.circuit.solve(self.circuit.drive(inputs))
            if domain_share is not None:
                self.circuit.act.require_inside(h, domain_share)
            z = self.circuit.act.value(h)
            return ProxyStates(z, h, self.circuit.reading(h, z, inputs))

    def certificate(self) -> Certificate:
        """Of the row bounds of :meth:`NodeNetwork.bound`; they hold for the loop with its loads' non-linearity."""
        slowest = self.circuit.y.diagonal() + self.circuit.load.least / self.circuit.v_unit_v
        tau = self.proxy.capacitance.values["c_f"] / slowest
        return certify(self.circuit.bound(), 1.0, tau, second_pole_s=self.proxy.path.values["tau_s"])

    def settling_s(self, x: Tensor, tolerance: float) -> Array:
        c_f = torch.full((self.circuit.states,), self.proxy.capacitance.values["c_f"], dtype=torch.float64)
        window, path = self.design.verify.transient_window_s, self.proxy.path.values
        t, readings = trajectory(self.circuit, self.inputs(x), c_f, path["tau_s"], window)
        return settling_times(t, readings, self.solve(x, domain_share=None).reading, tolerance) + path["delay_s"]

    def noise_rms(self, x: Tensor) -> Array:
        h = self.solve(x, domain_share=None).h
        covariance = circuit_noise(self.design, self.proxy, self.circuit, h)
        return np.asarray(np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)))
