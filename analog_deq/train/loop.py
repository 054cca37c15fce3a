"""The training loop, the same for every model and baseline."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from analog_deq.draws import Stream, generator
from analog_deq.records import Progress
from analog_deq.spec import DesignSpec
from analog_deq.train.models import Model
from analog_deq.train.network import Network
from analog_deq.train.tasks.digits import Task

PENALTY = 1.0


@dataclass(frozen=True, slots=True)
class TrainLog:
    """Loss at every tenth step."""

    steps: tuple[int, ...]
    loss: tuple[float, ...]


def train_network(
    design: DesignSpec, task: Task, model: Model, *, feedback: bool = True, label: str, progress: Progress
) -> tuple[Network, TrainLog]:
    """A network trained from the design's seed with Adam and a cosine schedule; same data order for every model."""
    training = design.training
    torch.manual_seed(design.seed)
    init = torch.Generator().manual_seed(design.seed)
    network = Network(design, init, feedback=feedback, max_slope=model.max_slope)
    optimiser = torch.optim.Adam(network.parameters(), lr=training.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.steps)
    order = generator(design.seed, Stream.TRAINING, 0)
    progress.start(f"train {label}", training.steps)
    steps, losses = [], []
    for step in range(training.steps):
        batch = torch.as_tensor(order.integers(0, len(task.x_train), training.batch))
        seen = model(network, task.x_train[batch], step)
        fit = cross_entropy(network.logits(seen.z), task.y_train[batch], label_smoothing=training.label_smoothing)
        loss: Tensor = fit + PENALTY * seen.penalty
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 10 == 0:
            steps.append(step)
            losses.append(float(loss.detach()))
        progress.advance()
    return network, TrainLog(tuple(steps), tuple(losses))
