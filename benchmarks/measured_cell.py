"""The digits network in ngspice as a circuit whose true gradient is measured, and estimators of that gradient.

Weights are random and of class A, inputs are real digits, the loss is the cross-entropy of a random linear readout of
the states. The true gradient is that of ngspice itself, by central differences: complete in the drive of every node
and image (a current into each summing node, one node at a time for all images at once), and in conductances along
random directions. The proxy is the nominal one whatever circuit is measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analog_deq.equilibrium.cell import System
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.equilibrium.symmetry import row_scaling
from analog_deq.equilibrium.weights import NormBounded
from analog_deq.fit.fit import fit_proxy
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.netlists.neuron import NeuronCells
from analog_deq.pipeline.inputs import load_inputs
from analog_deq.proxy.activation import TableActivation
from analog_deq.proxy.array import TorchMap, linear_map
from analog_deq.proxy.mapping import ConductanceMapping
from analog_deq.resources import shipped
from analog_deq.spec import DesignSpec, Tolerances
from analog_deq.spice.simulator import Simulator
from analog_deq.tables import PROXY_TABLES, read_table
from analog_deq.train.tasks import load_task
from analog_deq.verify.in_the_loop import SpiceForward
from analog_deq.verify.sweeps import Bed

NODES, BATCH = 16, 32
RELTOL = 1e-8
NUDGE_STEP, G_STEP_SIEMENS = 1e-3, 1e-7
"""Half steps of the differences: of h, and of every conductance at once."""
TOL = 1e-10
DISTORTED: Mapping[str, tuple[tuple[str, str], ...]] = {
    "opamp": (("vos=0", "vos=2e-3"), ("a0=1e4", "a0=200")), "activation": (("rl=5e3", "rl=4e3"),)
}  # fmt: skip
"""Op-amps of gain 200 instead of 10,000 and 2 mV of offset, activations that saturate at 0.8: a proxy out of date."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What all circuits share: design without levels, nominal proxy, shipped cells, digits, simulator, run folder."""

    design: DesignSpec
    proxy: ProxyParameters
    cells: NeuronCells
    x: Tensor
    labels: Tensor
    bed: Bed


def make_setting(simulator: Simulator, folder: Path, *, nodes: int = NODES, r_line_ohm: float = 2.0) -> Setting:
    """The digits design at ``nodes`` states with analogue conductances, room for a step at both ends of their range."""
    inputs = load_inputs(shipped("data/designs") / "digits.toml", {})
    design = inputs.design
    tables = {
        name: read_table(shipped("calibration/reference") / "digits" / f"{name}.parquet") for name in PROXY_TABLES
    }
    proxy = fit_proxy(tables, design, Tolerances(), {}, {})
    array = {"levels": 0, "g_min_siemens": 2e-6, "g_max_siemens": 99e-6, "r_line_ohm": r_line_ohm}
    design = design.model_copy(
        update={
            "sizes": design.sizes.model_copy(update={"states": nodes}),
            "crossbar": design.crossbar.model_copy(update=array),
            "verify": design.verify.model_copy(update={"noise_nodes": min(nodes, design.verify.noise_nodes)}),
        }
    )
    task = load_task(design)
    return Setting(design, proxy, inputs.cells, task.x_test, task.y_test, Bed(simulator, folder, jobs=1))


def distorted(cells: NeuronCells) -> NeuronCells:
    """The cells with other netlists under the same names, as :data:`DISTORTED` says."""
    changed = {}
    for slot, edits in DISTORTED.items():
        cell = cells.named[slot]
        text = cell.netlist
        for old, new in edits:
            if f" {old}" not in text:
                raise ValueError(f"{cell.name}: {old!r} is not in its netlist")
            text = text.replace(f" {old}", f" {new}", 1)
        changed[slot] = replace(cell, netlist=text, sha256=hashlib.sha256(text.encode()).hexdigest())
    return replace(cells, **changed)


@dataclass(frozen=True, slots=True)
class MeasuredCell:
    """One programmed circuit, a batch of digits and a readout; ``mapped`` is the proxy's differentiable map."""

    forward: SpiceForward
    g: tuple[Tensor, Tensor]
    x: Tensor
    labels: Tensor
    readout: Tensor
    act: TableActivation
    mapped: Callable[[Tensor, Tensor], TorchMap]

    @property
    def map(self) -> TorchMap:
        """The nominal proxy's map of what is programmed."""
        return self.mapped(*self.g)

    def losses(self, z: Tensor) -> Tensor:
        """Cross-entropy of each image (B,)."""
        return torch.nn.functional.cross_entropy(z @ self.readout.T, self.labels, reduction="none")

    def loss_gradient(self, z: Tensor) -> Tensor:
        """d mean loss / dz (B, N)."""
        leaf = z.detach().requires_grad_()
        return torch.autograd.grad(self.losses(leaf).mean(), leaf)[0]

    def asymmetry(self) -> tuple[float, float]:
        """``|W - W^T| / |W|`` of the mapped matrix, and what is left of it when its rows are scaled."""
        w = self.map.w_state
        return float((w - w.mT).abs().amax() / w.abs().amax()), row_scaling(w)[1]


@dataclass(frozen=True, slots=True)
class Gradient:
    """``theta``: in the effective W, U and b, side by side (P,). ``g``: in the conductances (2, rows, N)."""

    theta: Tensor
    g: Tensor


def make_cell(
    setting: Setting, seed: int, *, symmetric: bool = False, cells: NeuronCells | None = None, die: int | None = None,
    trim: bool = False, batch: int = BATCH, reltol: float = RELTOL,
) -> MeasuredCell:  # fmt: skip
    """A circuit with weights of class A and gamma 0.9 drawn from ``seed``, slow as trained ones are, and its batch."""
    design, proxy = setting.design, setting.proxy
    n, m = design.sizes.states, design.sizes.inputs
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    act = TableActivation.nominal(proxy.activation)
    weight = NormBounded(n, 0.9, act.max_slope, generator=generator, symmetric=symmetric)
    signs = torch.randint(0, 2, (n,), generator=generator) * 2.0 - 1.0
    with torch.no_grad():
        weight.t.copy_(torch.outer(signs, signs) + normal(n, n))
        w = torch.cat([1.5 * normal(m, n) / m**0.5, 0.1 * normal(1, n), weight().mT])
    mapping = ConductanceMapping.of(design.neuron, design.crossbar, proxy.r_feedback_ohm)
    g_pos, g_neg = mapping.program(w)
    forward = SpiceForward(design, cells or setting.cells, proxy, setting.bed, die=die, reltol=reltol)
    forward.program(g_pos, g_neg)
    chosen = torch.randperm(len(setting.x), generator=generator)
    x, labels = setting.x[chosen[:batch]], setting.labels[chosen[:batch]]
    if trim:
        forward.trim(setting.x[chosen[batch : 2 * batch]])
    x, mapped = forward.model.inputs(x), partial(linear_map, design, proxy)
    return MeasuredCell(forward, (g_pos, g_neg), x, labels, 2.0 * normal(10, n) / n**0.5, act, mapped)


# --- the true gradient ----------------------------------------------------------------------------------------------


def true_drive_gradient(cell: MeasuredCell, step: float = NUDGE_STEP, nodes: int | None = None) -> Tensor:
    """d mean loss / d drive (B, N) of ngspice, by central differences of one node at a time; ``nodes`` first ones."""
    count, n = cell.x.shape[0], cell.g[0].shape[1]
    out = torch.zeros(count, nodes or n, dtype=torch.float64)
    for node in range(nodes or n):
        nudge = torch.zeros(count, n, dtype=torch.float64)
        nudge[:, node] = step
        up, down = (cell.losses(measured(cell, sign * nudge)) for sign in (1.0, -1.0))
        out[:, node] = (up - down) / (2.0 * step * count)
    return out


def true_gradient(cell: MeasuredCell) -> Tensor:
    """The gradient (P,) of ngspice in W, U and b: what a weight adds to a node's drive is known, ``z`` is measured."""
    q = true_drive_gradient(cell)
    return theta(q, measured(cell), cell.x)


def true_slopes(cell: MeasuredCell, directions: Tensor, step: float = G_STEP_SIEMENS) -> Tensor:
    """Slopes (K,) of ngspice's mean loss, per siemens, along ``directions`` (K, 2, rows, N) of all conductances."""
    ends = []
    for direction in directions:
        for sign in (1.0, -1.0):
            cell.forward.program(*(g + sign * step * d for g, d in zip(cell.g, direction, strict=True)))
            ends.append(cell.losses(measured(cell)).mean())
    cell.forward.program(*cell.g)
    pairs = torch.stack(ends).unflatten(0, (-1, 2))
    return (pairs[:, 0] - pairs[:, 1]) / (2.0 * step)


def random_directions(cell: MeasuredCell, count: int, seed: int) -> Tensor:
    """Random signs (K, 2, rows, N)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (count, 2, *cell.g[0].shape), generator=generator).double() * 2.0 - 1.0


def measured(cell: MeasuredCell, nudge: Tensor | None = None) -> Tensor:
    """States (B, N) that ngspice settles at; RuntimeError when an image failed."""
    z = cell.forward(cell.x, nudge=nudge)
    if not bool(torch.isfinite(z).all()):
        assert cell.forward.last is not None, "just measured"
        raise RuntimeError(f"{cell.forward.last.failed} images have no equilibrium in ngspice")
    return z


def theta(q: Tensor, z: Tensor, x: Tensor) -> Tensor:
    """Gradient (P,) in W, U and b of the gradient ``q`` (B, N) in the drive at states ``z``."""
    return torch.cat([(q.mT @ z).flatten(), (q.mT @ x).flatten(), q.sum(0)])


# --- estimators -----------------------------------------------------------------------------------------------------


def estimate(cell: MeasuredCell, *, spice: bool = False, **options: Any) -> Gradient:
    """The gradient of one call of ``equilibrium`` on the nominal proxy, its forward pass ngspice's when ``spice``."""
    leaves = tuple(g.clone().requires_grad_() for g in cell.g)
    effective = cell.mapped(*leaves)
    u = cell.x @ effective.w_input.mT + effective.bias
    if spice:
        options["forward"] = cell.forward
    z, _ = equilibrium(System(effective.w_state, u, cell.act), cell.x, **{"tol": TOL, **options})
    parts = (effective.w_state, effective.w_input, effective.bias, *leaves)
    w, w_input, bias, *pair = torch.autograd.grad(cell.losses(z).mean(), parts)
    return Gradient(torch.cat([w.flatten(), w_input.flatten(), bias]), torch.stack(pair))


def propagate(cell: MeasuredCell, beta: float, *, scaled: bool = True) -> Gradient:
    """Equilibrium propagation in ngspice: one free phase and two nudged ones, whatever the asymmetry of the matrix.

    What ``equilibrium(adjoint="nudge(beta)", forward=...)`` does, without its refusal: the largest entry of a nudge is
    ``beta`` in each image. ``scaled`` allows for the gains of rows (:func:`.row_scaling`).
    """
    a = row_scaling(cell.map.w_state)[0] if scaled else torch.ones(cell.g[0].shape[1], dtype=torch.float64)
    z = measured(cell)
    pull = a * cell.loss_gradient(z)
    size = pull.abs().amax(-1, keepdim=True)
    up, down = (measured(cell, sign * beta * pull / size) for sign in (1.0, -1.0))
    return from_drive(cell, (up - down) * (size / (2.0 * beta)) / a, z)


def from_drive(cell: MeasuredCell, q: Tensor, z: Tensor) -> Gradient:
    """The gradient that a gradient ``q`` (B, N) in the drive at states ``z`` means."""
    leaves = tuple(g.clone().requires_grad_() for g in cell.g)
    effective = cell.mapped(*leaves)
    drive = z @ effective.w_state.mT + cell.x @ effective.w_input.mT + effective.bias
    pair = torch.autograd.grad((q * drive).sum(), leaves)
    return Gradient(theta(q, z, cell.x), torch.stack(pair))


def along(gradient: Tensor, directions: Tensor) -> Tensor:
    """Slopes (K,) along ``directions`` that a gradient in the conductances predicts."""
    return (directions * gradient).flatten(1).sum(1)


def rms_distance(cell: MeasuredCell) -> float:
    """How far ngspice's states are from the nominal proxy's, rms in units of z."""
    return float(np.sqrt(np.mean((measured(cell).numpy() - cell.forward.model.solve(cell.x).z.numpy()) ** 2)))
