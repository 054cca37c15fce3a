"""The node families through the protocol of a family: what rc and gmc have in common, which is all but settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from analog_deq.draws import Stream, deviations, generator
from analog_deq.mappings.node.calibration import BAND, UNITS, NodeBench
from analog_deq.mappings.node.fit import NodeProxy, fit_node
from analog_deq.mappings.node.lower import NodeLowered
from analog_deq.mappings.node.model import NodeDeployed, NodeModel, own_siemens
from analog_deq.mappings.node.netlist import NodeCells
from analog_deq.mappings.node.proxy import program
from analog_deq.mappings.node.spec import NodeSettings
from analog_deq.mappings.node.variation import fit_neuron
from analog_deq.records import Progress
from analog_deq.spec import DesignSpec
from analog_deq.verify.sweeps import Bed

Array = np.ndarray
SMALLEST = 1e-3
"""An error that would take a conductance below this share of itself stops there."""


@dataclass(frozen=True, slots=True)
class NodeDie:
    """Mismatch of one die: each neuron's parameters (N,) by key, relative errors (2, rows, N) of the conductances."""

    deviations: Mapping[str, Array]
    dg: Array


@dataclass(frozen=True, slots=True)
class NodeFamily:
    """A node mapping on one design."""

    design: DesignSpec
    settings: NodeSettings
    cells: NodeCells

    @classmethod
    def of(cls, design: DesignSpec, settings: NodeSettings) -> NodeFamily:
        return cls(design, settings, NodeCells.of(settings))

    @property
    def hardware(self) -> dict[str, Any]:
        return {
            "operating": self.design.operating.model_dump(mode="json"),
            "settings": self.settings.model_dump(mode="json"), "seed": self.design.seed,
            "cells": {slot: cell.sha256 for slot, cell in self.cells.named.items()},
        }  # fmt: skip

    @property
    def units(self) -> dict[str, dict[str, str]]:
        return UNITS

    def calibrate(self, bed: Bed, progress: Progress) -> dict[str, pd.DataFrame]:
        return NodeBench(self.design, self.cells).tables(bed, progress)

    def fit(self, tables: Mapping[str, pd.DataFrame]) -> NodeProxy:
        return fit_node(self.design.mapping, tables, self.settings)

    def read_proxy(self, content: dict[str, Any]) -> NodeProxy:
        return NodeProxy.model_validate(content)

    def model(self, proxy: NodeProxy) -> NodeModel:
        return NodeModel(self.design, self.settings, proxy, self._sigma_g)

    def program(self, proxy: NodeProxy, weights: Tensor) -> Tensor:
        return program(weights, self.settings, self.design.crossbar, own_siemens(proxy, self.settings))

    def deploy(self, proxy: NodeProxy, programmed: Array) -> NodeDeployed:
        return NodeDeployed.of(self.design, self.settings, proxy, programmed)

    def draw(self, die: int) -> NodeDie:
        sizes = self.design.sizes
        rng = generator(self.design.seed, Stream.VERIFY_DIE, die)
        drawn = deviations(rng, self.cells.sigmas(), sizes.states)
        shape = (2, sizes.inputs + 1 + sizes.states, sizes.states)
        return NodeDie(drawn, np.maximum(self._sigma_g * rng.standard_normal(shape), SMALLEST - 1))

    def lower(self, proxy: NodeProxy, programmed: Array, klu: bool, die: NodeDie | None = None) -> NodeLowered:
        off: Mapping[str, Array] = {} if die is None else die.deviations
        return NodeLowered(self.design, self.cells, programmed, klu, BAND, off, None if die is None else die.dg)

    def extract(self, proxy: NodeProxy, programmed: Array, die: NodeDie, bed: Bed, progress: Progress) -> NodeDeployed:
        """The proxy of one die from measurements at its terminals: each neuron's curves, each cell's conductance.

        Nothing of what was drawn is read. SimulationError when a measurement fails.
        """
        bench, settings = NodeBench(self.design, self.cells), self.settings
        curves = bench.measure_neurons(die.deviations, bed, progress)
        values = np.array([fit_neuron(c, proxy.activation, proxy.load, settings).values for c in curves])
        seen = bench.measure_conductances(programmed, die.dg, bed, progress)
        return NodeDeployed.of(self.design, settings, proxy, seen, values)

    @property
    def _sigma_g(self) -> float:
        return self.cells.named["synapse"].mismatch_sigmas.get("dg", 0.0)
