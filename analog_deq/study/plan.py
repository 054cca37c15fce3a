"""What the flagship study compares, as data: circuits, methods, read times, pairs of methods and targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analog_deq.spec import DesignSpec

Changes = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Point:
    """A circuit: what differs from the design as shipped, and whether one drawn die of it is measured.

    ``params`` fixes parameters of a cell, ``slot -> name -> value``; one that would be drawn is drawn no more.
    ``sigmas`` replaces standard deviations in the same way. ``design`` replaces entries of the design's sections.
    """

    name: str
    title: str
    die: bool
    params: Changes = field(default_factory=dict)
    sigmas: Changes = field(default_factory=dict)
    design: Changes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two methods whose difference ``a - b`` is asked for; ``claimed``: its whole interval must lie below 0."""

    task: str
    point: str
    a: str
    b: str
    claimed: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """Largest error that a method's mean over seeds, measured in ngspice, may have."""

    task: str
    point: str
    method: str
    error: float


POINTS: Mapping[str, Point] = {
    point.name: point
    for point in (
        Point("nominal", "the circuit as designed, no die drawn", die=False),
        Point("mm10", "10 % per conductance, 1 mV per op-amp, the other parts' usual spread", die=True,
              sigmas={"synapse": {"dg": 0.1}}),
        Point("distorted", "early, asymmetric saturation; op-amp gain 400; 4-bit levels; 2 ohm wires; usual spread",
              die=True,
              params={"opamp": {"a0": 400.0}, "activation": {"rl": 3.6e3, "drl": 0.22, "dvt": 0.024}},
              design={"crossbar": {"levels": 16, "r_line_ohm": 2.0}}),
    )
}  # fmt: skip

READ_TIMES_TAU = (1.0, 2.0, 3.0, 5.0, 8.0)
"""Times from rest at which the state is read, in R_F C_F."""

TASKS = ("qp16", "net16")
SEEDS = 6
TUNING_STEPS, TUNING_BATCH, TUNING_RATE = 120, 64, 1e-2
"""The rate was chosen among 3e-3 and 1e-2 on instances 77 and 78, which are not among the seeds, by the fitted
gradient. The ideal one does a little better at ``LOWER_RATE`` on the distorted circuit, so it is run at both."""
LOWER_RATE = 3e-3
REFIT_SAMPLES = 400
BASE_SEED = 4000


def design_of(shipped: DesignSpec, point: Point, seed: int) -> DesignSpec:
    """A shipped design at a point: task instance, initial weights and die all follow from ``seed``.

    The readout is trained; where the design fixes it to the identity, that is where it starts.
    """
    changes: dict[str, Any] = {
        "seed": BASE_SEED + seed,
        "task_options": shipped.task_options.model_copy(update={"instance": seed}),
        "training": shipped.training.model_copy(update={"readout": "trained"}),
    }
    for section, entries in point.design.items():
        changes[section] = getattr(shipped, section).model_copy(update=dict(entries))
    return shipped.model_copy(update=changes)


EVERYWHERE = (
    "naive", "naive + nominal refit", "naive + die refit", "naive + trim + die refit", "noise injection", "proxy",
    "proxy + nominal refit", "proxy + trim + die refit", "PAT", "PAT + die refit", "feed-forward",
    "feed-forward + trim + die refit",
)  # fmt: skip
GRADIENTS = ("PAT, ideal gradient", "PAT, ideal gradient, lower rate")
GRADIENTS_FROM_NAIVE = (
    "PAT from naive", "PAT from naive, ideal gradient", "PAT from naive, ideal gradient, lower rate",
)  # fmt: skip
WITHOUT_DIE = tuple(name for name in EVERYWHERE if name != "naive + trim + die refit")
"""On the nominal circuit there is no die to trim; its "die refit" is a refit on the nominal circuit in ngspice."""


def methods_at(task: str, point: Point) -> tuple[str, ...]:
    """Names of the methods that are run on a task at a point; the gradients are compared on the distorted circuit."""
    if not point.die:
        return WITHOUT_DIE
    if point.name != "distorted":
        return EVERYWHERE
    return EVERYWHERE + GRADIENTS + (GRADIENTS_FROM_NAIVE if task == "net16" else ())


PAIRS = (
    *(
        Pair(task, point, a, b)
        for task in TASKS
        for point in POINTS
        for a, b in (
            ("proxy", "naive"),
            ("proxy", "naive + nominal refit"),
            ("proxy + nominal refit", "naive + nominal refit"),
            ("proxy + trim + die refit", "naive + die refit"),
            ("proxy + trim + die refit", "naive + trim + die refit"),
            ("PAT", "naive + die refit"),
            ("PAT", "proxy + trim + die refit"),
            ("PAT + die refit", "proxy + trim + die refit"),
        )
    ),
    *(Pair(task, point, "proxy", "feed-forward", claimed=task == "net16" and point == "nominal")
      for task in TASKS for point in POINTS),
    *(Pair(task, point, "proxy + trim + die refit", "feed-forward + trim + die refit")
      for task in TASKS for point in POINTS),
    *(Pair(task, "distorted", "PAT", other, claimed=task == "net16") for task in TASKS for other in GRADIENTS),
    *(Pair("net16", "distorted", "PAT from naive", other, claimed=True) for other in GRADIENTS_FROM_NAIVE[1:]),
)  # fmt: skip

TARGETS = (Target("qp16", "nominal", "proxy", 0.03), Target("qp16", "mm10", "PAT", 0.09))
