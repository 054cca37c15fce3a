"""Tasks: one file each, registered here."""

from __future__ import annotations

from analog_deq.spec import DesignSpec
from analog_deq.train.tasks.digits import Task, load_digits_task

TASKS = {"digits": load_digits_task}


def load_task(design: DesignSpec) -> Task:
    """Data of a design's task, split by the design's seed."""
    return TASKS[design.task](design)
