"""Node voltages of a network of resistors and non-linear shunts, from the currents fed into it.

    L v + i0 sinh(v / v0) = s,   i0 = 0.3 * 0.05, v0 = 0.05

L is the weighted Laplacian of a ring of 16 nodes with 8 random chords; half of the source currents are zero.
"""

from __future__ import annotations

import functools

import numpy as np

from analog_deq.errors import EquilibriumError
from analog_deq.spec import DesignSpec
from analog_deq.train.tasks.task import Task, require_counts, require_sizes, split_task

SIZE, CHORDS, SAMPLES, TRAIN = 16, 8, 3000, 2600
KNEE, SHUNT, FULL_SCALE, UNIT = 0.05, 0.3, 0.8, 0.1
STEPS, TOLERANCE = 400, 1e-12


@functools.cache
def network_instance(instance: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Laplacian (16, 16), source currents (3000, 16) and node voltages (3000, 16) of one instance."""
    rng = np.random.default_rng(2000 + instance)
    edges = [(i, (i + 1) % SIZE) for i in range(SIZE)]
    edges += [tuple(rng.choice(SIZE, 2, replace=False)) for _ in range(CHORDS)]
    laplacian = np.zeros((SIZE, SIZE))
    for (i, j), g in zip(edges, rng.uniform(0.5, 2.0, len(edges)), strict=True):
        laplacian[[i, j], [i, j]] += g
        laplacian[[i, j], [j, i]] -= g
    value = FULL_SCALE * rng.uniform(-1, 1, (SAMPLES, SIZE))
    source = value * (rng.random((SAMPLES, SIZE)) < 0.5)
    return laplacian, source, solve_network(laplacian, source)


def kirchhoff_residual(laplacian: np.ndarray, source: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Current (samples, nodes) that is left over at each node; zero at the solution."""
    return np.asarray(v @ laplacian + SHUNT * KNEE * np.sinh(v / KNEE) - source)


def solve_network(laplacian: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Node voltages (samples, N) by damped Newton, no node moving more than ``KNEE`` a step.

    EquilibriumError when a residual stays above ``TOLERANCE``.
    """
    v = np.zeros_like(source)
    for _ in range(STEPS):
        residual = kirchhoff_residual(laplacian, source, v)
        if np.abs(residual).max() < TOLERANCE:
            return v
        slope = SHUNT * np.cosh(v / KNEE)
        jacobian = laplacian + slope[:, :, None] * np.eye(len(laplacian))
        step = np.linalg.solve(jacobian, -residual[:, :, None])[:, :, 0]
        v = v + np.clip(step, -KNEE, KNEE)
    raise EquilibriumError(f"resistor network: a current of {np.abs(residual).max():.2g} is left after {STEPS} steps")


def load_network_task(design: DesignSpec) -> Task:
    """Inputs s / 0.8, targets v / 0.1, of the design's instance. SpecError unless it has 16 inputs and outputs."""
    require_sizes(design, SIZE, SIZE, f"the net16 task has {SIZE} inputs and {SIZE} outputs")
    test = design.task_options.test_samples
    require_counts(design, TRAIN, test)
    _, source, v = network_instance(design.task_options.instance)
    return split_task(source / FULL_SCALE, v / UNIT, TRAIN, test)
