"""The family on one design: calibrate, fit, train, deploy, lower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from analog_deq.mappings.switched_cap.calibration import UNITS, calibrate
from analog_deq.mappings.switched_cap.deployed import SwitchedCapDeployed
from analog_deq.mappings.switched_cap.fit import SwitchedCapProxy, fit_tables
from analog_deq.mappings.switched_cap.lower import SwitchedCapLowered
from analog_deq.mappings.switched_cap.model import SwitchedCapModel, UnitMapping
from analog_deq.mappings.switched_cap.netlist import Bench, Cells, Deviations
from analog_deq.mappings.switched_cap.network import Circuit, Die
from analog_deq.mappings.switched_cap.spec import Settings, read_settings
from analog_deq.records import Progress
from analog_deq.spec import DesignSpec
from analog_deq.verify.sweeps import Bed

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class SwitchedCap:
    """The switched-capacitor mapping on one design."""

    design: DesignSpec
    settings: Settings
    bench: Bench

    @classmethod
    def of(cls, design: DesignSpec) -> SwitchedCap:
        """The family of a design; SpecError names the key of ``[family]`` that is wrong."""
        settings = read_settings(design)
        return cls(design, settings, Bench(settings, design.operating, Cells.of(settings)))

    @property
    def hardware(self) -> dict[str, Any]:
        return {
            "family": self.settings.model_dump(mode="json"), "operating": self.design.operating.model_dump(mode="json"),
            "seed": self.design.seed, "cells": {slot: c.sha256 for slot, c in self.bench.cells.named.items()},
        }  # fmt: skip

    @property
    def units(self) -> dict[str, dict[str, str]]:
        return UNITS

    def calibrate(self, bed: Bed, progress: Progress) -> dict[str, pd.DataFrame]:
        return calibrate(self.bench, self.design.seed, bed, progress)

    def fit(self, tables: Mapping[str, pd.DataFrame]) -> SwitchedCapProxy:
        return fit_tables(tables, self.settings)

    def read_proxy(self, content: dict[str, Any]) -> SwitchedCapProxy:
        return SwitchedCapProxy.model_validate(content)

    def model(self, proxy: SwitchedCapProxy) -> SwitchedCapModel:
        return SwitchedCapModel(self.design, self.settings, proxy)

    def program(self, proxy: SwitchedCapProxy, weights: Tensor) -> Tensor:
        return UnitMapping.of(self.settings).program(weights)

    def deploy(self, proxy: SwitchedCapProxy, programmed: Array) -> SwitchedCapDeployed:
        return SwitchedCapDeployed.of(self.design, self.settings, proxy, programmed)

    def draw(self, die: int) -> Die:
        return Die.draw(self.bench, self.design.seed, die, self.design.sizes.states)

    def lower(
        self, proxy: SwitchedCapProxy, programmed: Array, klu: bool, die: Die | None = None
    ) -> SwitchedCapLowered:
        nominal = tuple(Deviations() for _ in range(self.design.sizes.states))
        capacitors = programmed if die is None else die.capacitors(self.bench, programmed)
        array = self.design.crossbar
        circuit = Circuit(
            self.bench, capacitors, nominal if die is None else die.neurons, array.r_line_ohm, array.r_dac_ohm
        )
        return SwitchedCapLowered(circuit, self.deploy(proxy, programmed), klu)
