"""Fine-tuning on measured states: physics-aware training with the circuit, or its simulation, in the loop.

Each step programs the array, has the equilibria of a batch measured, takes the loss at the measured readings, and sends
its gradient back through the proxy: the Jacobian is that of the proxy re-solved at the same inputs. The value of the
loss is the circuit's; only its direction of descent is modelled (Wright et al., Nature 601, 2022).

The distance |z measured - z proxy| is logged beside the mismatch sigma of a state. While it is smaller, the proxy knows
the circuit better than one die knows the next; beyond it, the circuit is not the one the proxy was fitted to, and the
log asks for a new calibration and fit. Training goes on: a wrong gradient often still descends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, fields
from typing import Literal

import torch
from torch import Tensor, nn

from analog_deq.draws import Stream, generator
from analog_deq.equilibrium.cell import System
from analog_deq.equilibrium.certificate import Certificate, certify
from analog_deq.equilibrium.report import EquilibriumReport
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.errors import SimulationError
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.proxy.activation import TableActivation
from analog_deq.proxy.array import linear_map
from analog_deq.proxy.mapping import ConductanceMapping, quantise
from analog_deq.records import Progress
from analog_deq.spec import DesignSpec
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.train.deployed import DeployedNetwork, Readout
from analog_deq.train.loop import PENALTY
from analog_deq.train.measured import MeasuredForward, StepRecord, refit_request
from analog_deq.train.models import RANGE_MARGIN
from analog_deq.train.projection import project
from analog_deq.train.solving import NEWTON_STEPS, PICARD_STEPS, settle
from analog_deq.train.spread import Spread, mismatch_spread
from analog_deq.train.stage import require_class
from analog_deq.train.tasks import Task

TOLERANCE = 1e-8
SPREAD_EVERY = 20
"""Steps between two looks at the mismatch sigma; it moves with the weights, and they move slowly."""
FIRST_BATCH = 10**6
PERCENT = 100.0


@dataclass(frozen=True, slots=True)
class FineTuning:
    """Steps, samples a step, Adam's first step size, and where the proxy's Jacobian is taken."""

    steps: int = 60
    batch: int = 64
    learning_rate: float = 3e-3
    linearize: Literal["solved", "measured"] = "solved"


@dataclass(frozen=True, slots=True)
class FineTuned:
    """What the array and the readout hold in the end, the certificate of the mapped matrix, and the log."""

    g_pos: Tensor
    g_neg: Tensor
    readout: Readout
    certificate: Certificate
    log: tuple[StepRecord, ...]


class ProgrammedNetwork(nn.Module):
    """The trainable copy of a checkpoint: weights (logical rows, N) as its conductances hold them, and its readout.

    The feedback matrix stays in the class that the checkpoint's weights hold, for the norm weights they hold it with,
    at no larger a bound than the design's or their own (:meth:`keep_certified`).
    """

    def __init__(
        self, design: DesignSpec, checkpoint: Checkpoint, mapping: ConductanceMapping, max_slope: float
    ) -> None:
        super().__init__()
        pair = (torch.as_tensor(checkpoint.g_pos), torch.as_tensor(checkpoint.g_neg))
        self.weights = nn.Parameter(mapping.scale_ohm * (pair[0] - pair[1]))
        free = design.training.readout == "trained"
        self.readout = nn.Parameter(torch.as_tensor(checkpoint.readout_weight).clone(), requires_grad=free)
        self.readout_bias = nn.Parameter(torch.as_tensor(checkpoint.readout_bias).clone(), requires_grad=free)
        self.states, self.max_slope = design.sizes.states, max_slope
        start = certify(self.weights.detach()[-self.states :].T, max_slope)
        self.weight_class, self.norm_weights = start.weight_class, torch.as_tensor(start.weights, dtype=torch.float64)
        asked = design.certificate
        self.bound = max(asked.gamma, start.gamma) if start.margin is None else min(asked.margin, start.margin)

    def keep_certified(self) -> None:
        """Brings the feedback matrix back into its class after a step."""
        with torch.no_grad():
            rows = self.weights[-self.states :]
            rows.copy_(project(rows.T, self.weight_class, self.norm_weights, self.bound, self.max_slope).T)


def fine_tune(
    design: DesignSpec,
    proxy: ProxyParameters,
    task: Task,
    checkpoint: Checkpoint,
    forward: MeasuredForward,
    settings: FineTuning,
    *,
    progress: Progress,
    resume: Mapping[str, Tensor] | None = None,
    after_step: Callable[[dict[str, Tensor]], None] = lambda state: None,
) -> FineTuned:
    """The network of ``checkpoint``, trained on from there on states that ``forward`` measures.

    ``proxy`` may be of other hardware than ``forward`` measures: then its gradient is wrong and its value is not. The
    samples of step k depend on the design's seed and k alone. ``after_step`` receives everything the next step starts
    from, and ``resume`` takes it: a resumed run gives the same bits as an uninterrupted one.

    Raises:
        SimulationError: every sample of a step failed. Single failures are left out of the loss and counted.
        EquilibriumError: the final mapped matrix does not hold the design's certificate.
        OutOfDomainError: the array's conductances or loads left the calibrated range.
    """
    run = _Run(design, proxy, checkpoint, forward, settings)
    log = run.restore(resume) if resume is not None else []
    progress.start("fine-tune on measured states", settings.steps)
    progress.advance(len(log))
    asked = any(record.refit for record in log)
    for step in range(len(log), settings.steps):
        record = run.step(task, step, log[-1] if log else None)
        log.append(record)
        if record.refit and not asked:
            progress.note(refit_request(record))
            asked = True
        progress.advance(failed=int(record.failed > 0))
        after_step(run.state(log))
    return run.finish(tuple(log))


class _Run:
    """The mutable part of a fine-tuning: network, optimiser, and the latest mismatch spread."""

    def __init__(
        self, design: DesignSpec, proxy: ProxyParameters, checkpoint: Checkpoint, forward: MeasuredForward,
        settings: FineTuning,
    ) -> None:  # fmt: skip
        self.design, self.proxy, self.forward, self.settings = design, proxy, forward, settings
        self.act = TableActivation.nominal(proxy.activation)
        self.mapping = ConductanceMapping.of(design.neuron, design.crossbar, proxy.r_feedback_ohm)
        self.network = ProgrammedNetwork(design, checkpoint, self.mapping, float(self.act.max_slope))
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(trained, lr=settings.learning_rate)

    def step(self, task: Task, step: int, before: StepRecord | None) -> StepRecord:
        began = time.perf_counter()
        design, training = self.design, self.design.training
        rng = generator(design.seed, Stream.FINE_TUNING, FIRST_BATCH + step)
        batch = torch.as_tensor(rng.integers(0, len(task.x_train), self.settings.batch))
        x, y = task.x_train[batch], task.y_train[batch]
        programmed = torch.stack(self.mapping.program(self.network.weights))
        g_pos, g_neg = self.proxy.synapse.seen(programmed)
        self.forward.program(*programmed.detach())
        effective = linear_map(design, self.proxy, g_pos, g_neg, checked=True)
        x_read = quantise(x, design.converters.dac_bits)
        u = x_read @ effective.w_input.T + effective.bias
        states, report = self._equilibrium(System(effective.w_state, u, self.act), x)
        ok, last = report.converged, self.forward.last
        assert last is not None, "just measured"
        if not ok.any():
            raise SimulationError(f"step {step}: none of {len(ok)} equilibria was found; the first: {last.status[0]}")
        z = states[ok]
        reading = effective.readout(z, x_read[ok])
        outputs = quantise(reading, design.converters.adc_bits) @ self.network.readout.T + self.network.readout_bias
        loss = task.loss(outputs, y[ok], training.label_smoothing)
        if not training.saturation:
            limit = RANGE_MARGIN * min(-self.act.start, self.proxy.activation.end)
            loss = loss + PENALTY * torch.relu((z @ effective.w_state.T + u[ok]).abs() - limit).square().mean()
        for group in self.optimiser.param_groups:
            # the rate falls on half a cosine, as in training: the last steps settle, and there are few of them
            group["lr"] = self.settings.learning_rate * (1 + math.cos(math.pi * step / self.settings.steps)) / 2
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.network.keep_certified()
        distance = PERCENT * (z.detach() - report.solved[ok]).abs()
        if before is None or step % SPREAD_EVERY == 0:
            spread = mismatch_spread(design, self.proxy, programmed.detach(), x_read)
            sigma, most = PERCENT * spread.sigma, self._limit(spread)
        else:
            sigma, most = before.sigma_percent_fs, before.limit_percent_fs
        return StepRecord(
            step, float(loss.detach()), float(distance.square().mean().sqrt()), float(distance.max()), sigma, most,
            int((~ok).sum()), last.decks, last.reused, time.perf_counter() - began,
        )  # fmt: skip

    def _equilibrium(self, system: System, x: Tensor) -> tuple[Tensor, EquilibriumReport]:
        """Measured states with the proxy's gradient; solved as training solves, so that every class is reached."""
        weight_class = self.design.certificate.weight_class
        if weight_class == "A":
            return equilibrium(
                system, x, forward=self.forward, linearize=self.settings.linearize, tol=TOLERANCE,
                max_iterations=PICARD_STEPS, adjoint=self.design.training.gradient, on_fail="mask",
            )  # fmt: skip
        with torch.no_grad():
            solved = settle(system.w.detach(), system.u.detach(), system.act, weight_class, tol=TOLERANCE)
        return equilibrium(
            system, x, z0=solved, solver="newton", forward=self.forward, linearize=self.settings.linearize,
            tol=TOLERANCE, max_iterations=NEWTON_STEPS, adjoint=self.design.training.gradient, on_fail="mask",
        )  # fmt: skip

    def _limit(self, spread: Spread) -> float:
        return PERCENT * (spread.sigma if self.forward.die is None else spread.largest)

    def state(self, log: list[StepRecord]) -> dict[str, Tensor]:
        """Everything the next step depends on."""
        kept = {name: value.detach() for name, value in self.network.named_parameters()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                kept[f"adam.{name}.{key}"] = value
        kept["log"] = torch.tensor([[float(v) for v in astuple(record)] for record in log], dtype=torch.float64)
        return kept

    def restore(self, state: Mapping[str, Tensor]) -> list[StepRecord]:
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(state[name])
                prefix = f"adam.{name}."
                own = {key.removeprefix(prefix): v.clone() for key, v in state.items() if key.startswith(prefix)}
                if own:
                    self.optimiser.state[parameter] = own
        whole = {"step": int, "failed": int, "decks": int, "reused": bool}
        names = [field.name for field in fields(StepRecord)]
        return [
            StepRecord(**{n: whole.get(n, float)(v) for n, v in zip(names, row, strict=True)})
            for row in state["log"].tolist()
        ]

    def finish(self, log: tuple[StepRecord, ...]) -> FineTuned:
        design = self.design
        with torch.no_grad():
            g_pos, g_neg = self.mapping.program(self.network.weights)
        deployed = DeployedNetwork.nominal(design, self.proxy, g_pos.numpy(), g_neg.numpy())
        certificate = deployed.certificate()
        require_class(design, certificate)
        readout = Readout(
            self.network.readout.detach().clone(), self.network.readout_bias.detach().clone(),
            design.converters.adc_bits,
        )  # fmt: skip
        return FineTuned(g_pos, g_neg, readout, certificate, log)
