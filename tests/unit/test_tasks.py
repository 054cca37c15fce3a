"""The generated tasks are what they claim: minimisers by their KKT conditions, voltages by Kirchhoff's law."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import design

from analog_deq.errors import EquilibriumError, SpecError
from analog_deq.spec import DesignSpec
from analog_deq.statistics import rms_increase, rms_interval
from analog_deq.train.tasks import load_task
from analog_deq.train.tasks.quadratic_program import (
    CONDITION,
    analytic_weights,
    kkt_residual,
    qp_instance,
    solve_qp,
)
from analog_deq.train.tasks.resistor_network import kirchhoff_residual, network_instance, solve_network
from analog_deq.train.tasks.task import Score, Task, error_score, target_scale


def regression(task: str, states: int = 16, **changes: Any) -> DesignSpec:
    return design(states, 16, 16, task=task, **changes)


def linear_error(task: Task) -> float:
    """Relative error of the best affine map of the inputs, fitted on the training samples."""
    train, test = (torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1) for x in (task.x_train, task.x_test))
    solution = torch.linalg.lstsq(train, task.y_train).solution
    return task.score(test @ solution, task.y_test).value


@pytest.mark.parametrize("instance", [0, 5])
def test_the_programs_are_solved_to_their_kkt_conditions(instance: int) -> None:
    matrix, q, x = qp_instance(instance)
    values = np.linalg.eigvalsh(matrix)
    assert (values[0], values[-1]) == pytest.approx((1 / CONDITION, 1.0))
    assert kkt_residual(matrix, q, x) < 1e-12
    gradient = x @ matrix + q
    inside, low, high = np.abs(x) < 1, x == -1, x == 1
    assert np.abs(gradient[inside]).max() < 1e-12
    assert gradient[low].min() >= 0
    assert gradient[high].max() <= 0
    assert 0.5 < np.mean(~inside) < 0.6  # about half of the bounds are active
    assert q.std() == pytest.approx(0.3, rel=0.02)


def test_few_steps_of_fista_do_not_pass_as_a_solution() -> None:
    matrix, q, _ = qp_instance(0)
    assert kkt_residual(matrix, q, solve_qp(matrix, q, steps=20)) > 1e-4


def test_a_hard_clip_circuit_of_any_gain_rests_at_the_minimisers() -> None:
    _, q, x = qp_instance(0)
    for gain in (1.0, 16.0):
        feedback, inputs = analytic_weights(0, gain)
        h = x @ feedback.T + (q / 0.9) @ inputs.T
        assert np.abs(np.clip(h, -1, 1) - x).max() < 1e-10
    assert np.abs(inputs).max() == pytest.approx(14.4)


@pytest.mark.parametrize("instance", [0, 5])
def test_the_voltages_obey_kirchhoff(instance: int) -> None:
    laplacian, source, v = network_instance(instance)
    assert np.abs(kirchhoff_residual(laplacian, source, v)).max() < 1e-12
    assert laplacian.sum(0) == pytest.approx(0.0, abs=1e-12)
    assert np.array_equal(laplacian, laplacian.T)
    assert int(np.sum(np.triu(laplacian, 1) != 0)) in range(20, 25)  # 16 of the ring, and chords that may coincide
    assert np.linalg.eigvalsh(laplacian)[1] > 0.1  # connected
    assert np.mean(source == 0) == pytest.approx(0.5, abs=0.01)
    # the currents into the shunts and only they balance the sources
    assert (0.3 * 0.05 * np.sinh(v / 0.05)).sum(1) == pytest.approx(source.sum(1), abs=1e-9)


def test_voltages_that_are_not_reached_are_refused() -> None:
    laplacian, source, _ = network_instance(0)
    with pytest.raises(EquilibriumError, match="is left after"):
        solve_network(laplacian, 1e4 * np.abs(source[:4]))


@pytest.mark.parametrize(("name", "expected"), [("qp16", 0.46), ("net16", 0.24)])
def test_linear_regression_misses_by_the_published_error(name: str, expected: float) -> None:
    errors = [linear_error(load_task(regression(name, task_options={"instance": k}))) for k in range(6)]
    assert np.mean(errors) == pytest.approx(expected, abs=0.01)
    assert np.std(errors) < 0.02


@pytest.mark.parametrize("name", ["qp16", "net16"])
def test_the_split_keeps_the_last_samples_for_the_test(name: str) -> None:
    task, other = load_task(regression(name)), load_task(regression(name, task_options={"instance": 1}))
    assert task.regression
    assert (len(task.x_train), len(task.x_test)) == (2600, 400)
    assert task.train_index.tolist() == list(range(2600))
    assert task.test_index.tolist() == list(range(2600, 3000))
    assert not torch.equal(task.x_test, other.x_test)
    few = load_task(regression(name, task_options={"test_samples": 60}, verify={"images_per_die": 50}))
    assert torch.equal(few.x_test, task.x_test[-60:])
    assert torch.equal(few.x_train, task.x_train)
    assert task.scale == pytest.approx(target_scale(task.y_train))


def test_a_design_must_fit_its_task() -> None:
    with pytest.raises(SpecError, match=r"sizes\.outputs = 10: the qp16 task has 16 inputs and 16 outputs"):
        load_task(design(16, 64, 10, task="qp16"))
    with pytest.raises(SpecError, match=r"verify\.images_per_die = 50: the design has only 20 test images"):
        load_task(regression("net16", task_options={"test_samples": 20}))


def test_the_score_of_a_regression_is_its_relative_rms() -> None:
    rng = np.random.default_rng(0)
    y = torch.as_tensor(3 + 2 * rng.standard_normal((500, 4)))
    task = Task("regression", y, y, y, y, np.arange(500), np.arange(500), target_scale(y))
    assert task.scale == pytest.approx(2.0, rel=0.05)
    mean = task.score(y.mean(0).expand_as(y), y)
    assert mean.value == pytest.approx(1.0)  # the constant answer errs by 100 %
    found = task.score(y + 0.2, y)
    assert found.value == pytest.approx(0.2 / task.scale)
    assert found.low <= found.value <= found.high
    assert float(task.loss(y + 0.2, y)) == pytest.approx((0.2 / task.scale) ** 2)
    assert torch.equal(task.answers(y, 4), y)


def test_the_score_of_a_classification_is_its_share_of_right_labels() -> None:
    y = torch.tensor([0, 1, 2, 2])
    task = Task("classification", y, y, y, y, np.arange(4), np.arange(4))
    outputs = torch.eye(3, dtype=torch.float64)[torch.tensor([0, 1, 2, 0])]
    score = task.score(outputs, y)
    assert (score.value, score.correct, score.n) == (0.75, 3, 4)
    assert score.low < 0.75 < score.high
    assert task.answers(y, 3).tolist() == torch.eye(3)[y].tolist()
    assert float(task.loss(10 * outputs, y)) == pytest.approx(10 / 4, rel=1e-3)  # one of four is wrong by 10


def test_error_intervals_narrow_with_samples_and_hold_one() -> None:
    rng = np.random.default_rng(1)
    wide, narrow = (error_score(rng.standard_normal((n, 4))) for n in (20, 2000))
    assert narrow.high - narrow.low < 0.3 * (wide.high - wide.low)
    alone = error_score(np.full((1, 4), 0.5))
    assert alone == Score(0.5, 0.5, 0.5, 1)


def test_a_paired_increase_sees_what_two_intervals_cannot() -> None:
    rng = np.random.default_rng(2)
    b = rng.standard_normal((300, 3)) * rng.lognormal(0, 0.7, (300, 1))
    a = b * 1.02  # 2 % more, everywhere
    value, interval = rms_increase(a, b, np.random.default_rng(0))
    assert value == pytest.approx(0.02 * np.sqrt(np.mean(b**2)))
    assert interval is not None
    assert 0 < interval[0] < value < interval[1]
    single = rms_interval(b, np.random.default_rng(0))
    assert single is not None
    assert interval[1] - interval[0] < 0.05 * (single[1] - single[0])
    assert rms_increase(a[:1], b[:1], np.random.default_rng(0))[1] is None
    with pytest.raises(ValueError, match="one shape"):
        rms_increase(a, b[:-1], np.random.default_rng(0))
