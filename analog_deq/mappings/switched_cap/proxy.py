"""The network as a discrete map in torch: effective weights, training model, equilibria, periods to settle, noise.

One period of the clock takes the held pre-activations w to ``w' = (1 - a) w + a (W sigma(w) + W_x x + c)`` with a the
share of charge that master and slave exchange. Its fixed point does not depend on a, and is that of the networks of
every other mapping, ``z = sigma(W z + W_x x + c)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from analog_deq.draws import Stream, generator
from analog_deq.equilibrium.certificate import Certificate, certify
from analog_deq.equilibrium.noise import sample_noise
from analog_deq.errors import EquilibriumError
from analog_deq.mappings.switched_cap.fit import SwitchedCapProxy, time_constant, unsettled
from analog_deq.mappings.switched_cap.spec import Settings
from analog_deq.proxy.activation import TableActivation
from analog_deq.proxy.mapping import quantise
from analog_deq.spec import DesignSpec
from analog_deq.train.deployed import ProxyStates
from analog_deq.train.models import RANGE_MARGIN, TOLERANCE, States
from analog_deq.train.network import Network
from analog_deq.train.solving import settle

Array = np.ndarray
TIGHT = 1e-10
MAX_PERIODS = 100_000
MAX_DOUBLINGS = 40


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


@dataclass(frozen=True, slots=True)
class ChargeMap:
    """h = w_state z + w_input x + bias, and the array's capacitance (N,) at each summing node, farads."""

    w_state: Tensor
    w_input: Tensor
    bias: Tensor
    load: Tensor


def charge_map(
    settings: Settings, proxy: SwitchedCapProxy, c: Tensor, inputs: int, feedback: Tensor | float = 0.0
) -> ChargeMap:
    """The exact map of capacitors ``c`` (2, inputs + 1 + N, N), in farads; differentiable.

    Charge conservation between the instant the reset switch opens and the end of the transfer:

        h = (1 - e) [weight_per_farad (C+ - C-)^T (x, 1, z) + q / (C_F v_unit)] / (1 + (1 + (C_T + C_P) / C_F) / A0)

    with C_T all that hangs on the column, e the share not yet settled, q the charge of the opening reset switch.
    ``feedback`` (N,) is the relative error of each C_F.
    """
    part, values = settings.capacitors, proxy.amplifier.values
    load = c.sum((0, 1))
    c_f = part.feedback_f * (1 + torch.as_tensor(feedback, dtype=c.dtype))
    settled = proxy.settling.values
    tau = settled["tau0_s"] + settled["tau_load_s_per_f"] * load
    done = 1 - torch.exp(-(settings.clock.transfer_s - settled["delay_s"]) / tau)
    gain = done / (1 + (1 + (load + part.parasitic_f) / c_f) * values["inverse_a0"])
    unit = settings.scales.v_unit_v
    rows = (c[0] - c[1]) * settings.scales.z_unit_v / (unit * c_f) * gain
    offset = values["charge_c"] / (c_f * unit) * gain
    return ChargeMap(rows[inputs + 1 :].T, rows[:inputs].T, rows[inputs] + offset, load)


def period_covariance(jacobian: Tensor, drawn: Tensor) -> Tensor:
    """Stationary covariance ``C = J C J^T + Q`` (..., N, N) of ``w' = J w + noise`` with covariance Q a period.

    Smith's doubling, C <- C + J C J^T, J <- J^2 (Smith 1968). EquilibriumError when J is not a contraction.
    """
    c, f = drawn, jacobian
    for _ in range(MAX_DOUBLINGS):
        c = c + f @ c @ f.mT
        f = f @ f
        size = float(f.detach().abs().amax())
        if not size < 1e12:
            break
        if size * size * f.shape[-1] < 1e-18:
            return 0.5 * (c + c.mT)
    raise EquilibriumError("period_covariance: the clocked map is no contraction; there is no stationary noise")


def period_noise(settings: Settings, proxy: SwitchedCapProxy, map_: ChargeMap, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Jacobian J and drawn covariance Q (..., N, N) of one period, for slopes (..., N) = dz/dh.

    A period draws (a) the charge frozen when the reset switch opens, kT C and the op-amp's noise, over C_F; (b) the
    op-amp's and the switches' noise in v when the master samples; (c) the noise of the held states' own stages, white
    over the transfer's bandwidth 1/(4 tau), through W; (d) the sharing, kT C_M / (C_S (C_M + C_S)). (a)-(c) enter
    with the share a. Variances of (a), (b), (d) as measured a phase; Gregorian and Temes 1986, ch. 7.
    """
    part, unit = settings.capacitors, settings.scales.v_unit_v
    share = proxy.hold.values["share"]
    total = map_.load.detach() + part.feedback_f + part.parasitic_f
    charge, master = proxy.noise["charge"].values, proxy.noise["master"].values
    frozen = (charge["per_f"] * total + charge["per_f2"] * total**2) / part.feedback_f**2
    sampled = master["constant_v2"] + master["per_f"] * total
    own = (frozen + sampled) / unit**2
    w = map_.w_state.detach()
    tau = torch.as_tensor(time_constant(map_.load.detach().numpy(), proxy.settling), dtype=w.dtype)
    white = slope_form(proxy.noise["state"].values, slope)
    through = (w * white[..., None, :]) @ w.mT / (2 * (tau[:, None] + tau))
    shared = proxy.noise["share"].values["constant_v2"] / unit**2
    eye = torch.eye(len(w), dtype=w.dtype)
    drawn = share**2 * (torch.diag(own) + through) + shared * eye
    return (1 - share) * eye + share * w * slope[..., None, :], drawn


def slope_form(values: dict[str, float], slope: Tensor) -> Tensor:
    """a + b s + c s^2 with s = |slope|; never below 0, since fitted coefficients are signed."""
    s = slope.abs()
    return (values["constant"] + values["per_slope"] * s + values["per_slope2"] * s.square()).clamp(min=0.0)


def reading_covariance(settings: Settings, proxy: SwitchedCapProxy, map_: ChargeMap, slope: Tensor) -> Tensor:
    """Covariance (..., N, N) of the readings at one sampling instant, units of z squared."""
    c = period_covariance(*period_noise(settings, proxy, map_, slope))
    wide = slope_form(proxy.noise["row"].values, slope)
    return slope[..., :, None] * c * slope[..., None, :] + torch.diag_embed(wide)


class SwitchedCapModel(nn.Module):
    """What trains: whole unit capacitors, the measured activation, one mismatch draw a batch, sampled read noise."""

    def __init__(self, design: DesignSpec, settings: Settings, proxy: SwitchedCapProxy) -> None:
        super().__init__()
        self.design, self.settings, self.proxy = design, settings, proxy
        self.nominal = TableActivation.nominal(proxy.activation)
        self.max_slope = float(self.nominal.max_slope)
        self.mapping = UnitMapping.of(settings)

    def forward(self, network: Network, x: Tensor, step: int) -> States:
        """Noisy, quantised reading of the fixed point on one drawn die."""
        design, training = self.design, self.design.training
        c = self.mapping.program(network.weights())
        act, offset, gain = self.nominal, torch.zeros(len(network.bias), dtype=x.dtype), 1.0
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
        w = map_.w_state * torch.as_tensor(gain).reshape(-1, 1)
        u = (quantise(x, design.converters.dac_bits) @ map_.w_input.T + map_.bias) * gain + offset
        z = settle(w, u, act, design.certificate.weight_class, tol=TOLERANCE, gradient=training.gradient)
        h = z @ w.T + u
        penalty = torch.zeros((), dtype=x.dtype)
        if not training.saturation:
            limit = RANGE_MARGIN * min(-self.nominal.start, self.proxy.activation.end)
            penalty = torch.relu(h.abs() - limit).square().mean()
        if training.read_noise:
            covariance = reading_covariance(self.settings, self.proxy, map_, act.slope(h.detach()).mean(0))
            rng_torch = torch.Generator().manual_seed(design.seed * 7_919 + step)
            z = z + sample_noise(covariance, rng_torch, samples=len(x))
        return States(quantise(z, design.converters.adc_bits), penalty)

    def _draw(self, rng: np.random.Generator, neurons: int) -> Array:
        spread = self.proxy.mismatch
        factor = np.linalg.cholesky(np.array(spread.covariance) + 1e-18 * np.eye(len(spread.mean)))
        return np.asarray(np.array(spread.mean) + rng.standard_normal((neurons, len(spread.mean))) @ factor.T)


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
        share = self.proxy.hold.values["share"]
        return (1 - share) * w + share * (self.act.value(w) @ self.map.w_state.T + u)

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
        """Of the effective matrix; class A contracts under the clocked map too, whatever the share a."""
        return certify(self.map.w_state, self.act.max_slope)

    def noise_rms(self, x: Tensor) -> Array:
        """Predicted rms (images, N) of a reading."""
        slope = self.act.slope(self.solve(x, domain_share=None).h)
        covariance = reading_covariance(self.settings, self.proxy, self.map, slope)
        return np.asarray(covariance.diagonal(dim1=-2, dim2=-1).sqrt().numpy())

    def correction(self, z_slope: Array, residual: Array) -> Array:
        """(I - J)^-1 residual (N,): how far the fixed point is when a period moves w by ``residual``."""
        share = self.proxy.hold.values["share"]
        w = self.map.w_state.numpy()
        return np.asarray(np.linalg.solve(share * (np.eye(len(w)) - w * z_slope), residual))

    def missing(self) -> Array:
        """Share (N,) of each column's step that a transfer phase leaves undone."""
        return np.asarray(unsettled(self.map.load.numpy(), self.proxy.settling, self.settings.clock.transfer_s))
