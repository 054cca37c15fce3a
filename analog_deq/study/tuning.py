"""Fine-tuning on one die with the circuit in the loop, by the gradient of the fitted proxy or of ideal mathematics.

The loss is taken at the states that ngspice measured; the Jacobian is that of a model re-solved at the same inputs.
``fitted``: the nominal proxy with the weights as programmed. ``ideal``: tanh units and the weights as intended, the
reading taken for the state, as one would who has no model of the circuit.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor

from analog_deq.draws import Stream, generator
from analog_deq.equilibrium.cell import System, Tanh
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.proxy.activation import TableActivation
from analog_deq.proxy.array import linear_map
from analog_deq.proxy.mapping import ConductanceMapping, quantise
from analog_deq.study.lab import Lab
from analog_deq.study.plan import TUNING_BATCH, TUNING_RATE, TUNING_STEPS
from analog_deq.train.network import Network
from analog_deq.verify.in_the_loop import SpiceForward

TOLERANCE = 1e-8
FIRST_BATCH = 10**6
Gradient = Literal["fitted", "ideal"]


def tune(
    lab: Lab, network: Network, circuit: SpiceForward, gradient: Gradient, *, steps: int = TUNING_STEPS,
    batch: int = TUNING_BATCH, rate: float = TUNING_RATE,
) -> Network:  # fmt: skip
    """``network`` trained on, as a copy, on the die that ``circuit`` is.

    Adam on half a cosine from ``rate``, weights quantised straight through. A sample whose equilibrium ngspice does
    not find counts for nothing in its step. The batches are measured in a scratch folder: nobody reads them again.
    """
    network, bed = deepcopy(network), circuit.bed
    lab.folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=lab.folder) as scratch:
        circuit.bed = replace(bed, root=Path(scratch))
        try:
            _descend(lab, network, circuit, gradient, steps, batch, rate)
        finally:
            circuit.bed = bed
    return network


def _descend(
    lab: Lab, network: Network, circuit: SpiceForward, gradient: Gradient, steps: int, batch: int, rate: float
) -> None:
    design, task = lab.design, lab.task
    mapping = ConductanceMapping.of(design.neuron, design.crossbar, lab.hardware.proxy.r_feedback_ohm)
    model = Fitted(lab) if gradient == "fitted" else Ideal()
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    order = generator(design.seed, Stream.TRAINING, FIRST_BATCH)
    lab.progress.start(f"tune by the {gradient} gradient", steps)
    for _ in range(steps):
        chosen = torch.as_tensor(order.integers(0, len(task.x_train), batch))
        x = task.x_train[chosen]
        programmed = torch.stack(mapping.program(network.weights()))
        circuit.program(*programmed.detach())
        reading, ok = model.read(network, programmed, x, circuit)
        outputs = network.outputs(quantise(reading, design.converters.adc_bits))
        loss = task.loss(outputs[ok], task.y_train[chosen][ok], design.training.label_smoothing)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        lab.progress.advance(failed=int((~ok).sum()))


class Fitted:
    """The nominal proxy: what is programmed, its map exact at the present weights, the measured activation."""

    def __init__(self, lab: Lab) -> None:
        self.design, self.proxy = lab.design, lab.hardware.proxy
        self.act = TableActivation.nominal(self.proxy.activation)

    def read(self, network: Network, programmed: Tensor, x: Tensor, circuit: SpiceForward) -> tuple[Tensor, Tensor]:
        """Readings (samples, N) measured, with the proxy's gradient, and which of them are valid."""
        g_pos, g_neg = self.proxy.synapse.seen(programmed)
        effective = linear_map(self.design, self.proxy, g_pos, g_neg, checked=True)
        x_read = quantise(x, self.design.converters.dac_bits)
        u = x_read @ effective.w_input.T + effective.bias
        z, ok = measured(System(effective.w_state, u, self.act), x, circuit)
        return effective.readout(z, x_read), ok


class Ideal:
    """Ideal mathematics: z = tanh(W z + W_x x + b) with the weights as intended."""

    def read(self, network: Network, programmed: Tensor, x: Tensor, circuit: SpiceForward) -> tuple[Tensor, Tensor]:
        """Readings (samples, N) measured, with the ideal network's gradient, and which of them are valid."""

        def readings(x: Tensor, draw: Any = None, *, nudge: Tensor | None = None) -> Tensor:
            return torch.as_tensor(circuit.measure(x, nudge=nudge).reading)

        u = x @ network.w_input.T + network.bias
        return measured(System(network.w_state(), u, Tanh()), x, readings)


def measured(system: System, x: Tensor, forward: Any) -> tuple[Tensor, Tensor]:
    """States that ``forward`` measures, with the gradient of ``system`` at its own equilibria; NaN where not valid."""
    z, report = equilibrium(
        system, x, forward=forward, solver="newton", adjoint="dense", tol=TOLERANCE, max_iterations=100, on_fail="mask"
    )
    return z, report.converged
