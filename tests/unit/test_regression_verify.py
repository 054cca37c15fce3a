"""Measurements of a regression from made-up readings whose errors are known: nominal, per die, and failed samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analog_deq.equilibrium.certificate import certify
from analog_deq.records import OK
from analog_deq.train.deployed import Readout
from analog_deq.train.tasks.task import Task, target_scale
from analog_deq.verify import compare, regression
from analog_deq.verify.dies import DieResult
from analog_deq.verify.lower import MeasuredStates
from analog_deq.verify.samples import failed_samples, sample_table, spice_score
from analog_deq.verify.sweeps import SweepResult

N, IMAGES = 3, 40
READOUT = Readout(torch.eye(N, dtype=torch.float64), torch.zeros(N, dtype=torch.float64), 24)


def task() -> Task:
    y = torch.as_tensor(np.random.default_rng(0).uniform(-0.5, 0.5, (IMAGES, N)))
    return Task("regression", y, y, y, y, np.arange(IMAGES), np.arange(IMAGES), target_scale(y))


def sweep(z: np.ndarray, failed: tuple[int, ...] = ()) -> SweepResult:
    """A sweep that settled at readings ``z``, but for the samples ``failed``."""
    status = np.full(len(z), OK, dtype=object)
    z = z.copy()
    for k in failed:
        status[k], z[k] = "simulation: no convergence", np.nan
    blank = np.full((len(z), N), np.nan)
    return SweepResult(MeasuredStates(z, np.full((len(z), 3 * N), np.nan), blank, np.full(len(z), 1e-3)), status)


def off(share: float, images: np.ndarray | None = None) -> np.ndarray:
    """Readings whose relative error is ``share``: targets with alternating errors."""
    y = task().y_test.numpy() if images is None else task().y_test.numpy()[images]
    return y + share * task().scale * (-1.0) ** np.arange(y.size).reshape(y.shape)


def by_id(measurements: list) -> dict:
    return {m.id: m for m in measurements}


def test_the_relative_error_and_what_the_circuit_adds_to_it() -> None:
    found = by_id(regression.errors(sweep(off(0.05)), off(0.04), task(), READOUT, 1))
    assert found["net.rel_err"].value == pytest.approx(5.0, rel=1e-5)
    assert found["net.rel_err_increase"].value == pytest.approx(1.0, rel=1e-4)
    assert found["net.rel_err"].n == IMAGES
    assert "the proxy's own is 4 %" in found["net.rel_err"].detail
    low, high = found["net.rel_err"].interval
    assert low <= 5.0 + 1e-4
    assert high >= 5.0 - 1e-4


def test_the_worst_sample_is_named() -> None:
    z = off(0.01)
    z[17] += 0.2
    assert by_id(regression.errors(sweep(z), z, task(), READOUT, 1))["net.rel_err"].worst.input == 17


def test_failed_samples_are_counted_and_never_averaged_as_zero() -> None:
    found = by_id(regression.errors(sweep(off(0.05), failed=(3, 4)), off(0.05), task(), READOUT, 1))
    assert found["net.rel_err"].value == pytest.approx(5.0, rel=1e-5)
    assert (found["net.rel_err"].n, found["net.rel_err"].failed_samples) == (IMAGES, 2)
    none = by_id(regression.errors(sweep(off(0.05), failed=tuple(range(IMAGES))), off(0.05), task(), READOUT, 1))
    assert [m.value for m in none.values()] == [None, None]
    assert all(m.failed_samples == IMAGES for m in none.values())


def die(number: int, before: float, after: float, failed: tuple[int, ...] = ()) -> DieResult:
    images = np.arange(10) + number
    return DieResult(number, images, sweep(off(before, images)), sweep(off(after, images), failed), np.zeros(N), 0)


def test_dies_pass_by_their_own_error_on_their_own_samples() -> None:
    results = [die(0, 0.2, 0.02), die(1, 0.08, 0.06), die(2, 0.3, 0.12)]
    untrimmed, trimmed = regression.die_errors(results, task(), READOUT)
    assert untrimmed == pytest.approx([20, 8, 30], rel=1e-4)
    assert trimmed == pytest.approx([2, 6, 12], rel=1e-4)
    found = by_id(regression.dies(results, task(), READOUT, 0.1))
    assert found["net.yield_mismatch"].value == pytest.approx(200 / 3)
    assert found["net.yield_untrimmed"].value == pytest.approx(100 / 3)
    assert found["net.die_rel_err"].value == pytest.approx(20 / 3, rel=1e-4)
    assert found["net.die_rel_err_max"].value == pytest.approx(12, rel=1e-4)
    assert found["net.die_rel_err_max"].worst.die == 2


def test_a_die_with_a_failed_sample_does_not_pass() -> None:
    results = [die(0, 0.02, 0.02), die(1, 0.02, 0.02, failed=(4,))]
    found = by_id(regression.dies(results, task(), READOUT, 0.1))
    assert found["net.yield_mismatch"].value == 50
    assert found["net.die_rel_err"].value == pytest.approx(2, rel=1e-4)
    assert (found["net.die_rel_err"].failed_samples, found["net.die_rel_err_max"].value) == (1, None)
    worst = found["net.yield_mismatch"].worst
    assert (worst.die, worst.input) == (1, 5)  # the sample that failed
    alone = by_id(regression.dies([die(1, 0.02, 0.02, failed=(4,))], task(), READOUT, 0.1))
    assert (alone["net.die_rel_err"].value, alone["net.yield_mismatch"].value) == (None, 0)


def test_every_simulated_equilibrium_is_a_row_with_its_relative_error() -> None:
    rows = sample_table(task(), sweep(off(0.05), failed=(7,)), off(0.04), [die(2, 0.2, 0.1)], READOUT)
    assert len(rows) == IMAGES + 20
    assert "label" not in rows
    nominal = rows[rows["die"] == -1].reset_index(drop=True)
    assert nominal["relative_error_percent"].drop(7).to_numpy() == pytest.approx(5.0, rel=1e-4)
    assert np.isnan(nominal["relative_error_percent"][7])
    assert rows[rows["trim"] == "trimmed"]["relative_error_percent"].to_numpy() == pytest.approx(10.0, rel=1e-4)

    class Result:
        samples, transients, noise = rows, (), ()

    assert failed_samples(Result(), task())["image"].tolist() == [7]  # a large error is no failure of a simulation


def test_the_score_in_ngspice_is_over_what_settled() -> None:
    made = sweep(off(0.05), failed=(0,))
    score = spice_score(task(), made, READOUT.outputs(torch.as_tensor(made.states.z)).numpy())
    assert score is not None
    assert (score.n, score.value) == (IMAGES - 1, pytest.approx(0.05, rel=1e-4))
    nothing = sweep(off(0.05), failed=tuple(range(IMAGES)))
    assert spice_score(task(), nothing, np.full((IMAGES, N), np.nan)) is None


def test_what_is_certified_is_measured_by_class() -> None:
    contracting = certify(0.3 * torch.eye(3, dtype=torch.float64), 1.0)
    (gamma,) = compare.certificate(contracting, "A")
    assert (gamma.id, gamma.value) == ("net.gamma", pytest.approx(0.3))
    assert compare.certificate(contracting, "free") == []
