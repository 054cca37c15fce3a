"""What a task is: inputs, what is to be answered, the loss it is learned by, and the score it is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from analog_deq.draws import Stream, generator
from analog_deq.errors import SpecError
from analog_deq.spec import DesignSpec
from analog_deq.statistics import rms_interval, wilson

Kind = Literal["classification", "regression"]


@dataclass(frozen=True, slots=True)
class Score:
    """How a method did on ``n`` held-out samples, with a 95 % interval.

    Of a classification the share of right labels (Wilson interval), of a regression the relative RMS error (bootstrap
    over samples).
    """

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of_labels(cls, correct: int, n: int) -> Score:
        """Share of ``n`` labels that are right."""
        return cls(correct / n, *wilson(correct, n), n)

    @property
    def correct(self) -> int:
        """Right labels of a classification."""
        return round(self.value * self.n)


@dataclass(frozen=True, slots=True)
class Task:
    """Inputs (samples, M) in [-1, 1] and answers: labels (samples,), or targets (samples, outputs) in their own unit.

    ``scale`` is 1, or a regression's unit of error: the RMS of its training targets, each output about its own mean.
    ``*_index`` are the samples' numbers in the source data.
    """

    kind: Kind
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    train_index: np.ndarray
    test_index: np.ndarray
    scale: float = 1.0

    @property
    def regression(self) -> bool:
        return self.kind == "regression"

    def loss(self, outputs: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of class scores, or mean squared error of outputs in units of ``scale``."""
        if self.regression:
            return ((outputs - y) / self.scale).square().mean()
        return cross_entropy(outputs, y, label_smoothing=label_smoothing)

    def answers(self, y: Tensor, outputs: int) -> Tensor:
        """What a least-squares readout is fitted to, (samples, outputs): the targets, or the labels one-hot."""
        return y if self.regression else one_hot(y, outputs).to(torch.float64)

    def errors(self, outputs: Tensor, y: Tensor) -> np.ndarray:
        """Error of each output in units of ``scale``, (samples, outputs). Of a regression only."""
        return np.asarray(((outputs - y) / self.scale).numpy())

    def score(self, outputs: Tensor, y: Tensor) -> Score:
        """Score of outputs (samples, outputs) against answers ``y``."""
        if not self.regression:
            return Score.of_labels(int((outputs.argmax(-1) == y).sum()), len(y))
        return error_score(self.errors(outputs, y))


def error_score(errors: np.ndarray) -> Score:
    """Relative RMS error of ``errors`` (samples, outputs) with its bootstrap interval over samples."""
    value = float(np.sqrt(np.mean(errors**2)))
    interval = rms_interval(errors, np.random.default_rng(0))  # the same resamples for every method
    low, high = interval if interval is not None else (value, value)
    return Score(value, min(low, value), max(high, value), len(errors))


def target_scale(y: Tensor) -> float:
    """RMS of targets (samples, outputs), each output about its own mean."""
    return float((y - y.mean(0)).square().mean().sqrt())


def require_sizes(design: DesignSpec, inputs: int, outputs: int, what: str) -> None:
    """SpecError unless the design has the task's inputs and outputs."""
    sizes = design.sizes
    if (sizes.inputs, sizes.outputs) != (inputs, outputs):
        raise SpecError(f"sizes.inputs = {sizes.inputs}, sizes.outputs = {sizes.outputs}: {what}")


def require_counts(design: DesignSpec, train: int, test: int) -> None:
    """SpecError when the design verifies more samples or nodes than there are."""
    for key, value, most, what in (
        ("images_per_die", design.verify.images_per_die, test, "test images"),
        ("trim_images", design.verify.trim_images, train, "training images"),
        ("noise_nodes", design.verify.noise_nodes, design.sizes.states, "state nodes"),
    ):
        if value > most:
            raise SpecError(f"verify.{key} = {value}: the design has only {most} {what}; lower it")


def split_task(x: np.ndarray, y: np.ndarray, train: int, test: int) -> Task:
    """Regression on samples (samples, M) and targets (samples, outputs): the first ``train``, the last ``test``."""
    inputs, targets = torch.as_tensor(x), torch.as_tensor(y)
    index = np.arange(len(x))
    return Task(
        "regression", inputs[:train], targets[:train], inputs[-test:], targets[-test:], index[:train], index[-test:],
        target_scale(targets[:train]),
    )  # fmt: skip


def shuffled(design: DesignSpec, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (train, test) of a random split by the design's seed and test fraction."""
    order = generator(design.seed, Stream.SPLIT).permutation(samples)
    count = round(design.training.test_fraction * samples)
    return order[count:], order[:count]
