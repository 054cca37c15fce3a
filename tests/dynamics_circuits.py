"""Small networks with chosen loops, through the real netlist generators, as the checks of the sheet get them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers import design, proxy

from analog_deq.netlists.neuron import load_cells
from analog_deq.proxy.mapping import ConductanceMapping
from analog_deq.records import Progress
from analog_deq.spec import CalibrationPlan, Cells
from analog_deq.spice.simulator import Simulator
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.train.deployed import DeployedNetwork, Readout
from analog_deq.train.tasks.task import Task
from analog_deq.verify.bent import Settler
from analog_deq.verify.limits import Limits
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.sweeps import Bed, Sweep

LOOP = 1.2
"""Largest weight that 100 uS hold at R_F = 10 kohm, nearly."""


def rows(*ids: str) -> Limits:
    """A limits file that asks for ``ids`` and judges none."""
    units = {"net.settle_previous_err": "%", "net.start_spread": "%FS", "net.stability_margin": "1/s"} | dict.fromkeys(
        ("net.readout_threshold", "net.readout_fixed"), "%FS"
    )
    check = tuple({"id": name, "quantity": name, "unit": units.get(name, "s")} for name in ids)
    return Limits(schema=1, check=check)  # type: ignore[call-arg,arg-type]


def sheet_run(
    w: np.ndarray,
    x: np.ndarray,
    simulator: Simulator,
    root: Path,
    limits: Limits,
    *,
    weight_class: str = "free",
    cells: Cells | None = None,
    deviations: Mapping[str, Any] | None = None,
    **verify: Any,
) -> SheetRun:
    """A run of the network z = act(W z + x): one input a state with weight 1, no bias.

    ``deviations`` are parameters of every neuron's cells, one number each (``driver.fp``).
    Proxy: the tests' own, whatever the ``cells``.
    """
    n = len(w)
    spec = design(
        n, n, 2, certificate={"weight_class": weight_class},
        crossbar={"levels": 0}, verify={"transient_window_s": 6e-6, **verify},
    )  # fmt: skip
    mapping = ConductanceMapping.of(spec.neuron, spec.crossbar)
    logical = torch.as_tensor(np.concatenate([np.eye(n), np.zeros((1, n)), w.T]))
    g_pos, g_neg = (g.numpy() for g in mapping.program(logical))
    fitted, loaded = proxy(), load_cells(cells or Cells())
    model = DeployedNetwork.nominal(spec, fitted, g_pos, g_neg)
    network = LoweredNetwork.nominal(spec, loaded, g_pos, g_neg, simulator.klu, fitted)
    if deviations:
        network = replace(network, deviations={k: np.full(n, v) for k, v in deviations.items()})
    samples = torch.as_tensor(x)
    labels = torch.zeros(len(x), dtype=torch.long)
    index = np.arange(len(x))
    task = Task("classification", samples, labels, samples, labels, index, index)
    readout = np.eye(2, n)
    checkpoint = Checkpoint(g_pos, g_neg, readout, np.zeros(2), model.certificate(), "", "", 0, {}, {})
    inputs, solved = model.inputs(samples).numpy(), model.solve(samples, domain_share=None)
    bed, settler = Bed(simulator, root), Settler(model, False, False)
    equilibria = settler.settle([Sweep(network, inputs, solved.h.numpy())], [samples], bed, Progress())[0]
    readings = Readout(torch.as_tensor(readout), torch.zeros(2, dtype=torch.float64), 8)
    return SheetRun(
        spec, fitted, CalibrationPlan.model_construct(), checkpoint, loaded, task, limits, bed, Progress(), False,
        model, readings, network, settler, inputs, solved, equilibria, (), (), (),
    )  # fmt: skip


def skew(n: int, size: float = LOOP) -> np.ndarray:
    """Skew-symmetric weights: eigenvalues up to ``i size cot(pi / 2n)``, an equilibrium for every input."""
    upper = np.triu(np.full((n, n), size), 1)
    return upper - upper.T
