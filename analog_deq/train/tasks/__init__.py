"""Tasks: one file each, registered here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from analog_deq.spec import DesignSpec
from analog_deq.train.tasks.digits import load_digits_task
from analog_deq.train.tasks.quadratic_program import load_qp_task
from analog_deq.train.tasks.resistor_network import load_network_task
from analog_deq.train.tasks.task import Score, Task

__all__ = ["TASKS", "Score", "Task", "load_task"]

TASKS: Mapping[str, Callable[[DesignSpec], Task]] = {
    "digits": load_digits_task,
    "qp16": load_qp_task,
    "net16": load_network_task,
}


def load_task(design: DesignSpec) -> Task:
    """Data of a design's task, split by the design's seed or as the task says."""
    return TASKS[design.task](design)
