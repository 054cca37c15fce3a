"""scikit-learn's 1,797 real 8x8 handwritten digits (UCI optical recognition test set, in the wheel)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from analog_deq.draws import Stream, generator
from analog_deq.errors import SpecError
from analog_deq.spec import DesignSpec

FULL_SCALE = 16.0


@dataclass(frozen=True, slots=True)
class Task:
    """Inputs (images, M) in [0, 1] and labels; ``*_index`` are the images' numbers in the source data."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    train_index: np.ndarray
    test_index: np.ndarray


def load_digits_task(design: DesignSpec) -> Task:
    """Train and test split of the digits; the test images are never seen by training or trimming.

    SpecError when the design's sizes are not 64 inputs and 10 classes, or it verifies more than there is.
    """
    if (design.sizes.inputs, design.sizes.classes) != (64, 10):
        raise SpecError(
            f"sizes.inputs = {design.sizes.inputs}, sizes.classes = {design.sizes.classes}: "
            "the digits task has 64 inputs and 10 classes"
        )
    data = load_digits()
    order = generator(design.seed, Stream.SPLIT).permutation(len(data.target))
    test_count = round(design.training.test_fraction * len(order))
    for key, value, most, what in (
        ("images_per_die", design.verify.images_per_die, test_count, "test images"),
        ("trim_images", design.verify.trim_images, len(order) - test_count, "training images"),
        ("noise_nodes", design.verify.noise_nodes, design.sizes.states, "state nodes"),
    ):
        if value > most:
            raise SpecError(f"verify.{key} = {value}: the design has only {most} {what}; lower it")
    test, train = order[:test_count], order[test_count:]
    x = torch.as_tensor(data.data / FULL_SCALE, dtype=torch.float64)
    y = torch.as_tensor(data.target, dtype=torch.long)
    return Task(x[train], y[train], x[test], y[test], train, test)
