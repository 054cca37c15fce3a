"""The training loop, the same for every model and baseline."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analog_deq.draws import Stream, generator
from analog_deq.records import Progress
from analog_deq.spec import DesignSpec
from analog_deq.train.models import Model
from analog_deq.train.network import Network
from analog_deq.train.tasks.task import Task

PENALTY = 1.0


@dataclass(frozen=True, slots=True)
class TrainLog:
    """Loss at every tenth step."""

    steps: tuple[int, ...]
    loss: tuple[float, ...]


def train_network(
    design: DesignSpec,
    task: Task,
    model: Model,
    *,
    feedback: bool = True,
    start: Network | None = None,
    ideal_steps: int = 0,
    label: str,
    progress: Progress,
) -> tuple[Network, TrainLog]:
    """A network trained with Adam and a cosine schedule from the design's seed, or from the parameters of ``start``.

    The order of the data is the same for every model. ``ideal_steps`` asks for so many steps of the first training on
    ideal mathematics, at its own rate, instead of the design's steps.
    """
    training = design.training
    steps, rate = ideal_steps or training.steps, training.learning_rate
    if ideal_steps:
        rate = training.pretrain_learning_rate
    torch.manual_seed(design.seed)
    network = new_network(design, model, feedback=feedback, start=start)
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    order = generator(design.seed, Stream.TRAINING, 0)
    progress.start(f"train {label}", steps)
    shown, losses = [], []
    for step in range(steps):
        batch = torch.as_tensor(order.integers(0, len(task.x_train), training.batch))
        seen = model(network, task.x_train[batch], step)
        fit = task.loss(network.outputs(seen.z), task.y_train[batch], training.label_smoothing)
        loss: Tensor = fit + PENALTY * seen.penalty
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 10 == 0:
            shown.append(step)
            losses.append(float(loss.detach()))
        progress.advance()
    return network, TrainLog(tuple(shown), tuple(losses))


def new_network(design: DesignSpec, model: Model, *, feedback: bool = True, start: Network | None = None) -> Network:
    """A network at its start values for the slopes of ``model``, with the parameters of ``start`` when one is given."""
    init = torch.Generator().manual_seed(design.seed)
    network = Network(design, init, feedback=feedback, max_slope=model.max_slope)
    if start is not None:
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(start.get_parameter(name))
    return network
