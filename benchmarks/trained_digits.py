"""The digits network of a size and a seed, trained through the proxy of the shipped tables; for the benchmarks."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analog_deq.errors import SpecError
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.netlists.neuron import NeuronCells, load_cells
from analog_deq.pipeline.inputs import load_inputs, matching_checkpoint, matching_proxy
from analog_deq.pipeline.stages import fit
from analog_deq.records import Progress
from analog_deq.resources import shipped
from analog_deq.spec import DesignSpec
from analog_deq.train.deployed import DeployedNetwork, Readout
from analog_deq.train.loop import train_network
from analog_deq.train.models import ProxyModel
from analog_deq.train.scoring import network_readout, programmed
from analog_deq.train.tasks import Task, load_task
from analog_deq.verify.lower import LoweredNetwork

DESIGN = "digits"


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained network, what it was trained on, and its conductances (logical rows, N)."""

    design: DesignSpec
    proxy: ProxyParameters
    cells: NeuronCells
    task: Task
    g_pos: np.ndarray
    g_neg: np.ndarray
    readout: Readout

    def model(self) -> DeployedNetwork:
        """The nominal proxy of the programmed network."""
        return DeployedNetwork.nominal(self.design, self.proxy, self.g_pos, self.g_neg)

    def lowered(self, klu: bool, synapse: str | None = None) -> LoweredNetwork:
        """The nominal network as decks; ``synapse`` names another cell for its array, at the same conductances."""
        chosen = self.design.cells.model_copy(update={} if synapse is None else {"synapse": synapse})
        r_out = self.proxy.driver.values["r_out_ohm"]
        return LoweredNetwork(self.design, load_cells(chosen), self.g_pos, self.g_neg, klu, r_out)

    def accuracy(self, reading: np.ndarray, images: np.ndarray | slice = slice(None)) -> float:
        """Share of correct labels of readings (images, N) of test images."""
        y = self.task.y_test.numpy()[images]
        return float(np.mean(self.readout.predict(torch.as_tensor(np.nan_to_num(reading))).numpy() == y))


def base_design(states: int, seed: int = 0, **sections: Mapping[str, Any]) -> DesignSpec:
    """The shipped design with ``states`` neurons, its seed raised by ``seed``, and keys of sections replaced."""
    design = load_inputs(shipped("data/designs") / f"{DESIGN}.toml", {}).design
    sizes = design.sizes.model_copy(update={"states": states})
    changes: dict[str, Any] = {"sizes": sizes, "seed": design.seed + seed}
    for name, keys in sections.items():
        changes[name] = getattr(design, name).model_copy(update=dict(keys))
    return design.model_copy(update=changes)


def reference_proxy() -> ProxyParameters:
    """The proxy fitted to the shipped reference tables of the digits design."""
    path = shipped("data/designs") / f"{DESIGN}.toml"
    with tempfile.TemporaryDirectory() as folder:
        made = fit(None, design=path, runs=Path(folder), progress=Progress())
        return matching_proxy(made.outputs["proxy"], load_inputs(path, {}))


def train(design: DesignSpec, proxy: ProxyParameters) -> Trained:
    """The design's network, trained through the proxy as ``analog-deq train`` does."""
    torch.set_num_threads(1)
    task = load_task(design)
    network, _ = train_network(design, task, ProxyModel(design, proxy), label="proxy", progress=Progress())
    g_pos, g_neg = (g.numpy() for g in programmed(design, proxy, network))
    return Trained(design, proxy, load_cells(design.cells), task, g_pos, g_neg, network_readout(design, network))


def stored(checkpoint: Path, proxy_file: Path) -> Trained:
    """The network of a checkpoint of the shipped design, with the proxy it was trained through."""
    inputs = load_inputs(shipped("data/designs") / f"{DESIGN}.toml", {})
    found = matching_checkpoint(checkpoint, inputs, proxy_file)
    readout = Readout(
        torch.as_tensor(found.readout_weight), torch.as_tensor(found.readout_bias), inputs.design.converters.adc_bits
    )
    proxy = matching_proxy(proxy_file, inputs)
    return Trained(inputs.design, proxy, inputs.cells, load_task(inputs.design), found.g_pos, found.g_neg, readout)


def network_of(checkpoint: Path | None, proxy_file: Path | None) -> Trained:
    """The network of a checkpoint and its proxy, or without them the shipped design's, trained now."""
    if checkpoint is None:
        return train(base_design(32), reference_proxy())
    if proxy_file is None:
        raise SpecError("--proxy: missing; --checkpoint needs the proxy that the network was trained through")
    return stored(checkpoint, proxy_file)
