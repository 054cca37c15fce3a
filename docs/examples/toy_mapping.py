"""A sixth mapping, as small as one can be: resistors, ideal current meters, an RC low-pass, and tanh sources.

Nothing here is a circuit anybody would build; everything here is what a mapping has to say. docs/mappings.md walks
through it, and the tests run it from calibration to verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analog_deq.draws import Stream, generator
from analog_deq.equilibrium.cell import Tanh
from analog_deq.equilibrium.certificate import Certificate, certify
from analog_deq.equilibrium.settle import integrate, settling_time
from analog_deq.equilibrium.white_noise import white_covariance
from analog_deq.errors import SpecError
from analog_deq.fit.parameters import Goodness
from analog_deq.mappings.mapping import Equilibria, FamilyProxy, MappingKind, Settled
from analog_deq.netlists.deck import SPICE_OPTIONS, build_deck, number
from analog_deq.proxy.mapping import ConductanceMapping, quantise
from analog_deq.records import OK, Alter, Command, Dc, Deck, Noise, Op, Plot, Progress, Tran
from analog_deq.spec import DesignSpec
from analog_deq.train.deployed import ProxyStates
from analog_deq.train.models import States
from analog_deq.train.network import Network
from analog_deq.train.solving import settle
from analog_deq.verify.sweeps import Bed
from analog_deq.waveforms import settling_time as measured_settling

Array = np.ndarray
FOUR_KT = 4 * 1.380649e-23 * 300.15


# ---- 1. settings: what only this family knows, from the design's [family] table


class ToySettings(BaseModel):
    """Scales and the low-pass of one node: v = transresistance i, tau = r c, z = tanh(v / v_unit)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    transresistance_ohm: float = Field(gt=0)
    r_ohm: float = Field(gt=0)
    c_f: float = Field(gt=0)
    z_unit_v: float = Field(default=0.2, gt=0)
    v_unit_v: float = Field(default=0.2, gt=0)


# ---- 2. netlist: one node, and the whole network


def node_lines(i: int, own: ToySettings) -> list[str]:
    """Node i: the current into s_i is metered, becomes a voltage, is low-passed, and drives its two rows."""
    return [
        f"Vs{i} s{i} 0 0",
        f"Hv{i} v{i} 0 Vs{i} {number(own.transresistance_ohm)}",
        f"Rh{i} v{i} h{i} {number(own.r_ohm)}",
        f"Ch{i} h{i} 0 {number(own.c_f)}",
        f"Bp{i} zp{i} 0 V={number(own.z_unit_v)}*tanh(v(h{i})/{number(own.v_unit_v)})",
        f"En{i} zn{i} 0 zp{i} 0 -1",
    ]


def network_lines(own: ToySettings, g: Array) -> list[str]:
    """Every node and every resistor; logical row k is x_k, then the bias ``b``, then the states."""
    rows, n = g.shape[1:]
    names = [f"x{k}" for k in range(rows - n - 1)] + ["b"]
    drive = [(f"{name}p", f"{name}n") for name in names] + [(f"zp{i}", f"zn{i}") for i in range(n)]
    lines = [line for i in range(n) for line in node_lines(i, own)]
    for k, pair in enumerate(drive):
        for sign, node in enumerate(pair):
            lines += [f"Rg{sign}_{k}_{i} {node} s{i} {number(1 / g[sign, k, i])}" for i in range(n)]
    return lines + [f"E{name} {name}n 0 {name}p 0 -1" for name in names]


# ---- 3. the proxy: fitted numbers, and how good they are on rows the fit did not see


class ToyProxy(FamilyProxy):
    """h = transresistance i / v_unit, z = tanh(h); tau in seconds."""

    transresistance_ohm: float
    tau_s: float
    curve: Goodness

    def goodness(self) -> dict[str, Goodness]:
        return {"curve": self.curve}


# ---- 4. the family: calibrate, fit, train, deploy, lower


@dataclass(frozen=True, slots=True)
class Toy:
    """The mapping on one design."""

    design: DesignSpec
    own: ToySettings

    @property
    def hardware(self) -> dict[str, Any]:
        return self.own.model_dump() | self.design.crossbar.model_dump()

    @property
    def units(self) -> dict[str, dict[str, str]]:
        return {"curve": {"current": "A", "h": "V", "z": "V"}}

    def calibrate(self, bed: Bed, progress: Progress) -> dict[str, pd.DataFrame]:
        reach = 4 * self.own.v_unit_v / self.own.transresistance_ohm
        deck = build_deck(
            "toy node", [*node_lines(0, self.own), "Ii 0 s0 0"], [Dc("Ii", -reach, reach, reach / 40)],
            save=["v(h0)", "v(zp0)"], options=SPICE_OPTIONS,
        )  # fmt: skip
        outcome = bed.run([deck], progress)[0]
        if outcome.run is None:  # a failed sample stays as a row that says why
            return {"curve": pd.DataFrame([{"current": np.nan, "h": np.nan, "z": np.nan, "status": outcome.status}])}
        plot = outcome.run.plots[0]
        rows = pd.DataFrame({"current": plot.sweep, "h": np.real(plot["v(h0)"]), "z": np.real(plot["v(zp0)"])})
        return {"curve": rows.assign(status=OK)}

    def fit(self, tables: Mapping[str, pd.DataFrame]) -> ToyProxy:
        rows = tables["curve"].query("status == @OK")
        train, held = rows.iloc[0::2], rows.iloc[1::2]
        r = float((train["h"] * train["current"]).sum() / (train["current"] ** 2).sum())

        def error(part: pd.DataFrame) -> float:
            predicted = np.tanh(r * part["current"] / self.own.v_unit_v)
            return float((predicted - part["z"] / self.own.z_unit_v).abs().max())

        goodness = Goodness(
            unit="units of z", train=error(train), held_out=error(held), n_train=len(train), n_held_out=len(held),
            tolerance=1e-3,
        )  # fmt: skip
        return ToyProxy(transresistance_ohm=r, tau_s=self.own.r_ohm * self.own.c_f, curve=goodness)

    def read_proxy(self, content: dict[str, Any]) -> ToyProxy:
        return ToyProxy.model_validate(content)

    def _mapping(self, proxy: ToyProxy) -> ConductanceMapping:
        array, scale = self.design.crossbar, proxy.transresistance_ohm * self.own.z_unit_v / self.own.v_unit_v
        return ConductanceMapping(array.g_min_siemens, array.g_max_siemens, array.levels, scale)

    def program(self, proxy: ToyProxy, weights: torch.Tensor) -> torch.Tensor:
        return torch.stack(self._mapping(proxy).program(weights))

    def model(self, proxy: ToyProxy) -> ToyModel:
        return ToyModel(self, proxy)

    def deploy(self, proxy: ToyProxy, programmed: Array) -> ToyDeployed:
        g = torch.as_tensor(programmed)
        return ToyDeployed(self, proxy, g, self._mapping(proxy).scale_ohm * (g[0] - g[1]))

    def draw(self, die: int) -> Array:
        rng = generator(self.design.seed, Stream.VERIFY_DIE, die)
        sizes = self.design.sizes
        shape = (2, sizes.inputs + 1 + sizes.states, sizes.states)
        return np.asarray(1 + 0.01 * np.clip(rng.standard_normal(shape), -5, 5))

    def lower(self, proxy: ToyProxy, programmed: Array, klu: bool, die: Array | None = None) -> ToyLowered:
        return ToyLowered(self, programmed if die is None else programmed * die, klu)


@dataclass(slots=True)
class ToyModel:
    """What a network trains on: the quantised weights on tanh nodes."""

    family: Toy
    proxy: ToyProxy
    max_slope: float = 1.0

    def __call__(self, network: Network, x: torch.Tensor, step: int) -> States:
        design, mapping = self.family.design, self.family._mapping(self.proxy)
        g_pos, g_neg = mapping.program(network.weights())
        w = mapping.scale_ohm * (g_pos - g_neg)
        m = design.sizes.inputs
        u = quantise(x, design.converters.dac_bits) @ w[:m] + w[m]
        z = settle(w[m + 1 :].T, u, Tanh(), design.certificate.weight_class, tol=1e-6)
        return States(quantise(z, design.converters.adc_bits), torch.zeros((), dtype=z.dtype))


@dataclass(frozen=True, slots=True)
class ToyDeployed:
    """The nominal proxy of a programmed network; ``w`` (rows, N) is what the conductances ``g`` hold."""

    family: Toy
    proxy: ToyProxy
    g: torch.Tensor
    w: torch.Tensor

    def inputs(self, x: torch.Tensor) -> torch.Tensor:
        return quantise(x, self.family.design.converters.dac_bits)

    def _system(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        m = self.family.design.sizes.inputs
        return self.w[m + 1 :].T, self.inputs(x) @ self.w[:m] + self.w[m]

    def solve(self, x: torch.Tensor, *, domain_share: float | None = 0.0) -> ProxyStates:
        w, u = self._system(x)
        z = settle(w, u, Tanh(), self.family.design.certificate.weight_class, tol=1e-10)
        return ProxyStates(z, z @ w.T + u, z)  # tanh is right everywhere, so no state is ever out of domain

    def certificate(self) -> Certificate:
        w, _ = self._system(torch.zeros(1, self.family.design.sizes.inputs, dtype=self.w.dtype))
        return certify(w, 1.0, torch.full((len(w),), self.proxy.tau_s, dtype=self.w.dtype))

    def settling_s(self, x: torch.Tensor, tolerance: float) -> Array:
        (w, u), tau = self._system(x), torch.full((self.w.shape[1],), self.proxy.tau_s, dtype=self.w.dtype)
        window = self.family.design.verify.transient_window_s
        t, h = integrate(w, u, Tanh(), tau, t_end_s=window, dt_s=self.proxy.tau_s / 40)
        return settling_time(t, torch.tanh(h), self.solve(x).z, tolerance, on_fail="mask").numpy()

    def noise_rms(self, x: torch.Tensor) -> Array:
        w, _ = self._system(x)
        slope = Tanh().slope(self.solve(x).h)
        own, n = self.family.own, len(w)
        # 4kTG of every resistor through the transresistance, and 4kTR of the low-pass; one-sided, in units of h
        loop = FOUR_KT * (self.g.sum((0, 1)) * self.proxy.transresistance_ohm**2 + own.r_ohm) / own.v_unit_v**2
        tau = torch.full((n,), self.proxy.tau_s, dtype=w.dtype)
        covariance = white_covariance(w, slope, tau, loop, torch.zeros(n, dtype=w.dtype))
        return np.asarray(covariance.diagonal(dim1=-2, dim2=-1).sqrt())


@dataclass(frozen=True, slots=True)
class ToyLowered:
    """One die as decks of the whole network. Every deck here is flat: without wires nothing is there to reduce."""

    family: Toy
    g: Array
    klu: bool

    def _volts(self, x: Array) -> Array:
        return np.concatenate([x, np.ones((len(x), 1))], axis=1) * self.family.own.z_unit_v

    def _deck(self, x: Array, analysis: Command, extra: tuple[str, ...] = (), klu: bool = True) -> Deck:
        names = [f"x{k}p" for k in range(x.shape[1])] + ["bp"]
        volts, n = self._volts(x), self.g.shape[2]
        sources = [f"V{name} {name} 0 dc {number(v)} ac 1" for name, v in zip(names, volts[0], strict=True)]
        commands: list[Command] = [analysis]
        for row in volts[1:]:
            commands += [Alter(tuple((f"v{name}", float(v)) for name, v in zip(names, row, strict=True))), analysis]
        options = SPICE_OPTIONS | ({"klu": True} if self.klu and klu else {})
        noise = isinstance(analysis, Noise)
        saved = [] if noise else [f"v(zp{i})" for i in range(n)] + [f"i(v{name})" for name in names]
        lines = [*network_lines(self.family.own, self.g), *sources, *extra]
        return build_deck("toy network", lines, commands, save=saved, options=options)

    def _supply_w(self, plot: Plot, volts: Array) -> Array:
        """What the input lines deliver (points,); a source's current enters its + terminal. The B sources are ideal."""
        names = [f"i(vx{k}p)" for k in range(len(volts) - 1)] + ["i(vbp)"]
        return np.asarray(-np.real(plot.columns(names)) @ volts)

    def run_equilibria(
        self, x: Array, guess: ProxyStates | None, bed: Bed, progress: Progress, *, flat: bool = False
    ) -> Equilibria:
        n, own = self.g.shape[2], self.family.own
        z, supply = np.full((len(x), n), np.nan), np.full(len(x), np.nan)
        outcome = bed.run([self._deck(x, Op())], progress)[0]
        status = np.full(len(x), outcome.status, dtype=object)
        if outcome.run is not None:
            for k, plot in enumerate(outcome.run.plots):
                z[k] = np.real(plot.columns([f"v(zp{i})" for i in range(n)]))[0] / own.z_unit_v
                supply[k] = self._supply_w(plot, self._volts(x)[k])[0]
        return Equilibria(z, status, supply)

    def run_settling(self, x: Array, ends: Array, tolerance: float, bed: Bed, progress: Progress) -> list[Settled]:
        window, n = self.family.design.verify.transient_window_s, self.g.shape[2]
        rest = (".ic " + " ".join(f"v(h{i})=0" for i in range(n)),)
        outcome = bed.run([self._deck(x, Tran(window / 400, window, window / 400), rest)], progress)[0]
        if outcome.run is None:
            return [Settled(outcome.status)] * len(x)
        results = []
        for k, plot in enumerate(outcome.run.plots):
            z = np.real(plot.columns([f"v(zp{i})" for i in range(n)])) / self.family.own.z_unit_v
            away = np.abs(z - ends[k]).max(axis=1)
            t_s = measured_settling(plot.sweep, away, 0.0, tolerance)
            until = plot.sweep <= t_s
            energy = np.trapezoid(self._supply_w(plot, self._volts(x)[k])[until], plot.sweep[until])
            status = OK if np.isfinite(t_s) else "not settled"
            results.append(Settled(status, t_s, float(energy), float(away[-1])))
        return results

    def run_noise(self, x: Array, nodes: list[int], bed: Bed, progress: Progress) -> Array:
        rms = np.full(len(nodes), np.nan)
        decks = [self._deck(x[None], Noise(f"v(zp{i})", "Vbp", 10, 1e2, 1e10), klu=False) for i in nodes]
        for k, outcome in enumerate(bed.run(decks, progress)):
            if outcome.run is not None:
                plot = outcome.run.plots[0]
                power = np.trapezoid(np.real(plot["onoise_spectrum"]) ** 2, plot.sweep)
                rms[k] = np.sqrt(power) / self.family.own.z_unit_v
        return rms

    def flat_deck(self, x: Array) -> Deck:
        return self._deck(x[None], Op())


# ---- 5. the registered line: registry.KINDS names this object


def _load(design: DesignSpec) -> Toy:
    if design.crossbar.r_line_ohm != 0:
        raise SpecError("crossbar.r_line_ohm: the toy mapping has no wires; write 0")
    try:
        return Toy(design, ToySettings.model_validate(design.family))
    except ValidationError as error:
        first = error.errors()[0]
        raise SpecError(f"family.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


MAPPING = MappingKind("toy", "toy: ideal meters and tanh sources", "Be built. Wires are refused.", _load)
