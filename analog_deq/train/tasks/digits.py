"""scikit-learn's 1,797 real 8x8 handwritten digits (UCI optical recognition test set, in the wheel)."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

from analog_deq.spec import DesignSpec
from analog_deq.train.tasks.task import Task, require_counts, require_sizes, shuffled

FULL_SCALE = 16.0


def load_digits_task(design: DesignSpec) -> Task:
    """Train and test split of the digits; the test images are never seen by training or trimming.

    SpecError when the design's sizes are not 64 inputs and 10 outputs, or it verifies more than there is.
    """
    require_sizes(design, 64, 10, "the digits task has 64 inputs and 10 classes")
    data = load_digits()
    train, test = shuffled(design, len(data.target))
    require_counts(design, len(train), len(test))
    x = torch.as_tensor(data.data / FULL_SCALE, dtype=torch.float64)
    y = torch.as_tensor(data.target, dtype=torch.long)
    return Task("classification", x[train], y[train], x[test], y[test], train, test)
