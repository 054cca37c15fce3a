"""The op-amp integrator through the protocol of a family; see the package's docstring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analog_deq.calibration.campaign import run_campaign
from analog_deq.calibration.measurement import Bench
from analog_deq.equilibrium.certificate import Certificate
from analog_deq.equilibrium.network_noise import network_covariance
from analog_deq.fit.fit import fit_proxy
from analog_deq.fit.parameters import Goodness, ProxyParameters
from analog_deq.mappings.mapping import Equilibria, FamilyProxy, Settled
from analog_deq.netlists.neuron import NeuronCells, load_cells
from analog_deq.provenance import Provenance
from analog_deq.proxy.mapping import ConductanceMapping
from analog_deq.records import OK, Deck, Progress
from analog_deq.resources import shipped
from analog_deq.spec import CalibrationPlan, DesignSpec, read_plan
from analog_deq.tables import COLUMNS, PROXY_TABLES, SCHEMA, CalibrationTable
from analog_deq.train.deployed import DeployedNetwork, ProxyStates
from analog_deq.train.models import ProxyModel
from analog_deq.verify.dies import draw_die, needs_reading, read_dies
from analog_deq.verify.dynamics import proxy_trajectories, round_decade, run_transients
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.supply import with_exact_supply
from analog_deq.verify.sweeps import Bed, Sweep, run_sweeps

Array = np.ndarray


class OpampProxy(FamilyProxy):
    """The package's own proxy parameters."""

    parameters: ProxyParameters

    def goodness(self) -> dict[str, Goodness]:
        return self.parameters.forms()


@dataclass(frozen=True, slots=True)
class OpampIntegrator:
    """The mapping on one design, with its plan and cells."""

    design: DesignSpec
    plan: CalibrationPlan
    cells: NeuronCells

    @classmethod
    def of(cls, design: DesignSpec) -> OpampIntegrator:
        """The family with the shipped plan and cells that the design names."""
        return cls(design, read_plan(shipped("calibration/plans") / f"{design.plan}.toml"), load_cells(design.cells))

    @property
    def hardware(self) -> dict[str, Any]:
        return {
            "hardware": self.design.hardware(), "plan": self.plan.model_dump(mode="json"),
            "cells": {slot: cell.sha256 for slot, cell in self.cells.named.items()},
        }  # fmt: skip

    @property
    def units(self) -> dict[str, dict[str, str]]:
        return {name: COLUMNS[name] for name in PROXY_TABLES}

    def calibrate(self, bed: Bed, progress: Progress) -> dict[str, pd.DataFrame]:
        return run_campaign(
            Bench(self.design, self.plan, self.cells), simulator=bed.simulator, root=bed.root, jobs=bed.jobs,
            timeout_s=bed.timeout_s, limits=bed.limits, progress=progress, executor=bed.executor,
        ).tables  # fmt: skip

    def fit(self, tables: Mapping[str, pd.DataFrame]) -> OpampProxy:
        loaded = {}
        for name, rows in tables.items():
            provenance = Provenance(
                schema_name=SCHEMA, schema_version=1, seed=self.design.seed, units=COLUMNS[name], inputs={}
            )
            loaded[name] = CalibrationTable(name, rows, provenance)
        hashes = {slot: cell.sha256 for slot, cell in self.cells.named.items()}
        fitted = fit_proxy(
            loaded, self.design, self.plan.tolerances, hashes, {}, not_modelled=self.cells.not_modelled,
            relative_spread=self.cells.relative_spread,
        )  # fmt: skip
        return OpampProxy(parameters=fitted)

    def read_proxy(self, content: dict[str, Any]) -> OpampProxy:
        return OpampProxy.model_validate(content)

    def model(self, proxy: OpampProxy) -> ProxyModel:
        return ProxyModel(self.design, proxy.parameters)

    def program(self, proxy: OpampProxy, weights: Tensor) -> Tensor:
        own_ohm = proxy.parameters.r_feedback_ohm
        return torch.stack(ConductanceMapping.of(self.design.neuron, self.design.crossbar, own_ohm).program(weights))

    def deploy(self, proxy: OpampProxy, programmed: Array) -> Deployed:
        return Deployed(DeployedNetwork.nominal(self.design, proxy.parameters, programmed[0], programmed[1]))

    def draw(self, die: int) -> int:
        return die  # draw_die draws from the nominal network, which only lowering makes

    def lower(self, proxy: OpampProxy, programmed: Array, klu: bool, die: int | None = None) -> Lowered:
        nominal = LoweredNetwork.nominal(self.design, self.cells, programmed[0], programmed[1], klu, proxy.parameters)
        model = DeployedNetwork.nominal(self.design, proxy.parameters, programmed[0], programmed[1])
        return Lowered(nominal if die is None else draw_die(nominal, die), nominal, model)


@dataclass(frozen=True, slots=True)
class Deployed:
    """The nominal proxy of a programmed network."""

    model: DeployedNetwork

    def inputs(self, x: Tensor) -> Tensor:
        return self.model.inputs(x)

    def solve(self, x: Tensor, *, domain_share: float | None = 0.0) -> ProxyStates:
        return self.model.solve(x, domain_share=domain_share)

    def certificate(self) -> Certificate:
        return self.model.certificate()

    def settling_s(self, x: Tensor, tolerance: float) -> Array:
        return proxy_trajectories(self.model, x, tolerance)[2]

    def noise_rms(self, x: Tensor) -> Array:
        model = self.model
        slope = model.act.slope(model.solve(x).h)
        covariance = network_covariance(model.design, model.proxy, model.w_state, model.map.load, slope, model.tau_s)
        return np.asarray(covariance.diagonal(dim1=-2, dim2=-1).sqrt().numpy())


@dataclass(frozen=True, slots=True)
class Lowered:
    """One die, the nominal circuit it came from, and the proxy of the latter."""

    network: LoweredNetwork
    nominal: LoweredNetwork
    model: DeployedNetwork

    def run_equilibria(
        self, x: Array, guess: ProxyStates | None, bed: Bed, progress: Progress, *, flat: bool = False
    ) -> Equilibria:
        network = self.network
        if network is not self.nominal and needs_reading(self.nominal) and not flat:
            (network,), lost = read_dies([network], bed, progress)
            if lost:
                blank = np.full((len(x), network.states), np.nan)
                return Equilibria(blank, np.full(len(x), lost[0], dtype=object), np.full(len(x), np.nan))
        h = np.zeros((len(x), network.states)) if guess is None else guess.h.numpy()
        sweep = Sweep(network, x, h)
        found = run_sweeps([sweep], bed, progress, flat=flat)[0]
        if not flat:
            (found,) = with_exact_supply([sweep], [found], bed, progress)
        supply = found.states.supply_w.copy()
        if not flat and self.network is self.nominal:
            supply += network.dac_power_w(x, found.states.ports_v)
        return Equilibria(found.states.z, found.status, supply)

    def run_settling(self, x: Array, ends: Array, tolerance: float, bed: Bed, progress: Progress) -> list[Settled]:
        design = self.network.design
        chosen = design.model_copy(
            update={"verify": design.verify.model_copy(update={"settle_tolerance_fs": tolerance})}
        )
        network = replace(self.network, design=chosen)
        volts = run_sweeps([Sweep(network, x, np.zeros_like(ends))], bed, progress)[0].states.ports_v
        tensor = torch.as_tensor(x)
        images = np.arange(len(x))
        results = run_transients(network, self.model, tensor, images, ends, volts, bed, progress)
        return [
            Settled(r.status, r.t_spice_s, r.energy_j + r.dac_energy_j, r.end_error) if r.status == OK
            else Settled(r.status) for r in results
        ]  # fmt: skip

    def run_noise(self, x: Array, nodes: list[int], bed: Bed, progress: Progress) -> Array:
        band = self.model.proxy.noise.domain["frequency_hz"]
        outcome = bed.run([self.network.noise(x, nodes, band[0], round_decade(band[1]))], progress)[0]
        if outcome.run is None:
            return np.full(len(nodes), np.nan)
        density = np.stack([np.real(p["onoise_spectrum"]) for p in outcome.run.plots], axis=1)
        rms = np.sqrt(np.trapezoid(density**2, outcome.run.plots[0].sweep, axis=0))
        return np.asarray(rms / (2 * self.network.design.neuron.z_unit_v))

    def flat_deck(self, x: Array) -> Deck:
        return self.network.equilibria(x[None], flat=True)
