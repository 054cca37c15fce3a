"""The memristor mapping on one design."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analog_deq.calibration.mismatch import synapse_errors
from analog_deq.draws import Stream, deviations, generator
from analog_deq.errors import SpecError
from analog_deq.mappings.memristor import calibration
from analog_deq.mappings.memristor.fitting import fit
from analog_deq.mappings.memristor.lower import LoweredMemristor
from analog_deq.mappings.memristor.model import DeployedMemristor, MemristorModel, weight_mapping
from analog_deq.mappings.memristor.netlist import MemristorCells, load_cells, physical
from analog_deq.mappings.memristor.proxy import MemristorProxy
from analog_deq.mappings.memristor.spec import MemristorSpec, read_family
from analog_deq.records import Progress
from analog_deq.spec import DesignSpec
from analog_deq.verify.sweeps import Bed

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class MemristorFamily:
    """The mapping with the settings and cells of one design."""

    design: DesignSpec
    spec: MemristorSpec
    cells: MemristorCells

    @classmethod
    def of(cls, design: DesignSpec) -> MemristorFamily:
        """The family of a design; SpecError for a wrong key, or a cell that does not fit."""
        spec = read_family(design)
        cells = load_cells(spec)
        held, array = cells.synapse.contract.state["g"], design.crossbar
        if not held.min * (1 - 1e-9) <= array.g_min_siemens < array.g_max_siemens <= held.max * (1 + 1e-9):
            raise SpecError(
                f"crossbar: {spec.synapse} holds {held.min:g} to {held.max:g} S, not {array.g_min_siemens:g} to "
                f"{array.g_max_siemens:g}; keep g_min_siemens and g_max_siemens inside"
            )
        return cls(design, spec, cells)

    @property
    def hardware(self) -> dict[str, Any]:
        keep = {"operating", "crossbar", "mismatch", "sizes"}
        return {
            "family": self.spec.model_dump(mode="json"), **self.design.model_dump(mode="json", include=keep),
            "cells": {cell.name: cell.sha256 for cell in self.cells.all}, "seed": self.design.seed,
        }  # fmt: skip

    @property
    def units(self) -> dict[str, dict[str, str]]:
        return calibration.UNITS

    def calibrate(self, bed: Bed, progress: Progress) -> dict[str, pd.DataFrame]:
        return calibration.run(calibration.measurements(self.design, self.spec, self.cells), bed, progress)

    def fit(self, tables: Mapping[str, pd.DataFrame]) -> MemristorProxy:
        return fit(tables, self.design, self.spec, self.cells.synapse.contract.noise)

    def read_proxy(self, content: dict[str, Any]) -> MemristorProxy:
        return MemristorProxy.model_validate(content)

    def model(self, proxy: MemristorProxy) -> MemristorModel:
        return MemristorModel(self.design, self.spec, proxy)

    def program(self, proxy: MemristorProxy, weights: Tensor) -> Tensor:
        return torch.stack(weight_mapping(self.design, self.spec).program(weights))

    def deploy(self, proxy: MemristorProxy, programmed: Array) -> DeployedMemristor:
        return DeployedMemristor(self.design, self.spec, proxy, programmed)

    def draw(self, die: int) -> int:
        return die  # a device's error depends on what it is programmed to, which only lowering knows

    def lower(self, proxy: MemristorProxy, programmed: Array, klu: bool, die: int | None = None) -> LoweredMemristor:
        if die is None:
            seen = physical(np.stack(proxy.synapse.seen_arrays(programmed[0], programmed[1])))
            return LoweredMemristor(self.design, self.spec, self.cells, proxy, programmed, klu, seen)
        rng = generator(self.design.seed, Stream.VERIFY_DIE, die)
        sigmas = self.cells.sigmas(self.spec, self.design.mismatch.model_dump())
        drawn = deviations(rng, sigmas, self.design.sizes.states)
        g = physical(programmed)
        errors = synapse_errors(rng, self.cells.synapse, g)
        if self.spec.read_noise:
            _, _, relative = proxy.errors(torch.as_tensor(g))
            own = errors.get("dg", np.zeros_like(g))
            params = self.cells.synapse.contract.params
            noisy = own + relative.numpy() * rng.standard_normal(g.shape) * (g + own)
            errors["dg"] = np.clip(np.maximum(noisy, params["g"].min - g), params["dg"].min, params["dg"].max)
        return LoweredMemristor(self.design, self.spec, self.cells, proxy, programmed, klu, None, errors, drawn)
