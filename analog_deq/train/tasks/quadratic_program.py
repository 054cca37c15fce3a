"""Box-constrained quadratic programs of one matrix: q in, the minimiser out. A circuit can be built to solve them.

    x* = argmin 1/2 x'Qx + q'x  with  |x_i| <= 1

Q (16, 16) is symmetric with eigenvalues from 1/28 to 1, q is Gaussian; about half of the bounds are active.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from analog_deq.spec import DesignSpec
from analog_deq.train.tasks.task import Task, require_counts, require_sizes, split_task

SIZE, SAMPLES, TRAIN, CONDITION = 16, 3000, 2600, 28.0
Q_SIGMA, FULL_SCALE = 0.3, 0.9
STEPS = 1500


@functools.cache
def qp_instance(instance: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Q (16, 16), q (3000, 16) and minimisers (3000, 16) of one instance, by FISTA."""
    rng = np.random.default_rng(1000 + instance)
    vectors, _ = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))
    values = np.logspace(-math.log10(CONDITION), 0, SIZE)
    matrix = vectors @ np.diag(values) @ vectors.T
    q = Q_SIGMA * rng.standard_normal((SAMPLES, SIZE))
    return matrix, q, solve_qp(matrix, q)


def solve_qp(matrix: np.ndarray, q: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """Minimisers (samples, N) of the box-constrained programs of ``q`` (samples, N); ``matrix`` has norm at most 1.

    FISTA with step 1 (Beck and Teboulle, SIAM J. Imaging Sci. 2(1), 2009) and its momentum restarted where it points
    uphill (O'Donoghue and Candes, Found. Comput. Math. 15, 2015).
    """
    x = np.zeros_like(q)
    y, t = x, np.ones((len(q), 1))
    for _ in range(steps):
        following = np.clip(y - (y @ matrix + q), -1.0, 1.0)
        uphill = ((y - following) * (following - x)).sum(1, keepdims=True) > 0
        t = np.where(uphill, 1.0, t)
        t_next = (1 + np.sqrt(1 + 4 * t**2)) / 2
        y = following + (t - 1) / t_next * (following - x)
        x, t = following, t_next
    return x


def kkt_residual(matrix: np.ndarray, q: np.ndarray, x: np.ndarray) -> float:
    """Largest |x - clip(x - (Qx + q))|: zero at the minimisers and nowhere else."""
    return float(np.abs(x - np.clip(x - (x @ matrix + q), -1.0, 1.0)).max())


def load_qp_task(design: DesignSpec) -> Task:
    """Inputs q / 0.9, targets x*, of the design's instance. SpecError unless it has 16 inputs and outputs."""
    require_sizes(design, SIZE, SIZE, f"the qp16 task has {SIZE} inputs and {SIZE} outputs")
    test = design.task_options.test_samples
    require_counts(design, TRAIN, test)
    _, q, minimiser = qp_instance(design.task_options.instance)
    return split_task(q / FULL_SCALE, minimiser, TRAIN, test)


def analytic_weights(instance: int, gain: float) -> tuple[np.ndarray, np.ndarray]:
    """Feedback W = I - a Q and input weights W_x = -0.9 a I of the circuit that solves the instance.

    With a hard clip as activation its rest points are the minimisers, whatever ``gain`` a; a smooth saturating curve
    acts as a barrier of weight 1 / a.
    """
    matrix, _, _ = qp_instance(instance)
    return np.eye(SIZE) - gain * matrix, -gain * FULL_SCALE * np.eye(SIZE)
