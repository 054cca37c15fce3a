"""The comparison of gradient estimators: its truth, its statistics and its estimators on a small noisy cell."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from analog_deq.errors import EquilibriumError
from analog_deq.netlists.neuron import load_cells
from analog_deq.spec import Cells

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """The script and its parts, imported as they import each other."""
    sys.path.insert(0, str(FOLDER))
    try:
        names = ("estimators", "noisy_cell", "gradient_figures", "measured_cell")
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def noisy(modules: dict[str, ModuleType]) -> ModuleType:
    return modules["noisy_cell"]


def small(noisy: ModuleType, kind: str, deviation: float = 0.0):
    cell = noisy.make_cell(kind, nodes=6, batch=4)
    return cell.with_noise(deviation) if deviation else cell


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


# --- the truth --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["free", "A", "symmetric"])
def test_without_noise_the_trajectory_gives_the_implicit_gradient(noisy: ModuleType, kind: str) -> None:
    cell = small(noisy, kind)
    still, reads = noisy.through_time(cell, 1, torch.Generator().manual_seed(0))
    assert distance(still, noisy.estimate(cell)) < 2e-3  # exp of the window, and the solver's tolerance
    assert float((reads[0] - cell.rest()).abs().max()) < 1e-4
    far, _ = noisy.through_time(cell, 1, torch.Generator().manual_seed(0), steps=20)
    assert distance(far, noisy.estimate(cell)) > 0.05  # a window of one time constant is too short


def test_the_trajectory_gives_the_gradient_of_its_own_noise(noisy: ModuleType) -> None:
    """Backward pass against a difference of losses with the same noise, in one weight and one bias."""
    cell = small(noisy, "free", 0.3)
    gradient, _ = noisy.through_time(cell, 1, torch.Generator().manual_seed(2))

    def loss(name: str, index: tuple[int, ...], by: float) -> float:
        value = getattr(cell, name).clone()
        value[index] += by
        moved = dataclasses.replace(cell, **{name: value})
        noise = torch.Generator().manual_seed(2)
        z = cell.rest()[None]  # the start is held where it was
        for _ in range(noisy.STEPS):
            kick = cell.intensity * noisy.STEP**0.5 * torch.randn(z.shape, generator=noise)
            z = torch.lerp(z, torch.tanh(z @ moved.w.mT + moved.u), noisy.STEP) + kick
        return float(moved.loss(z)[0])

    for name, index, place in (("w", (1, 2), 1 * 6 + 2), ("bias", (3,), len(gradient[0]) - 3)):
        measured = (loss(name, index, 1e-2) - loss(name, index, -1e-2)) / 2e-2
        assert float(gradient[0, place]) == pytest.approx(measured, rel=0.03, abs=2e-3)


def test_reads_move_as_the_lyapunov_equation_says(noisy: ModuleType) -> None:
    cell = small(noisy, "free", 0.05)
    reads = noisy.read(cell, 1024, torch.Generator().manual_seed(1))
    # Euler's steps of 0.05 make it 1.3 % too large
    assert float((reads.std(0) / noisy.deviations(cell)).mean()) == pytest.approx(1.0, abs=0.03)
    predicted = noisy.lyapunov_noise(cell, 1024, torch.Generator().manual_seed(1))
    assert float((predicted.std(0) / noisy.deviations(cell)).mean()) == pytest.approx(1.0, abs=0.02)
    assert float(noisy.deviations(cell).square().mean().sqrt()) == pytest.approx(0.05, rel=1e-5)


# --- statistics -------------------------------------------------------------------------------------------------------


def test_bias_does_not_count_the_noise_of_the_means(modules: dict[str, ModuleType]) -> None:
    bias = modules["gradient_figures"].bias
    generator = torch.Generator().manual_seed(0)
    truth = torch.ones(500)
    inside, plain = 0, []
    for _ in range(40):
        reference = truth + torch.randn(256, 500, generator=generator)
        estimates = 1.1 * truth + torch.randn(64, 500, generator=generator)
        value, low, high = bias(estimates, reference)
        plain.append(distance(estimates.mean(0), reference.mean(0)))
        assert low <= value <= high
        inside += low <= 0.1 <= high
    assert inside >= 34  # of 40; 95 % would be 38
    assert min(plain) > 0.14  # the norm of the difference of means reads half as much again
    none = [bias(truth + torch.randn(64, 500, generator=generator), reference)[0] for _ in range(10)]
    assert max(none) < 0.07  # five deviations of the squared norm, 1e-3
    assert bias(1.1 * truth[None], truth[None])[0] == pytest.approx(0.1, rel=1e-6)


def test_an_exact_estimate_is_compared_with_a_drawn_truth(modules: dict[str, ModuleType]) -> None:
    figures = modules["gradient_figures"]
    reference = torch.ones(50) + 0.1 * torch.randn(400, 50, generator=torch.Generator().manual_seed(3))
    assert figures.bias(0.8 * torch.ones(1, 50), reference)[0] == pytest.approx(0.2, rel=0.02)
    assert figures.cosine(torch.ones(1, 50), reference)[0] == pytest.approx(1.0, abs=1e-3)
    assert figures.spread(torch.ones(1, 50), reference) == 0.0
    assert figures.spread(reference, reference) == pytest.approx(0.1, rel=0.02)


# --- estimators -------------------------------------------------------------------------------------------------------


def test_truncated_gradients_tend_to_the_implicit_one(noisy: ModuleType) -> None:
    cell = small(noisy, "A")
    exact = noisy.estimate(cell)
    error = [distance(noisy.estimate(cell, adjoint=f"neumann({k})"), exact) for k in (1, 3, 9)]
    assert error[0] > 0.1 > error[1] > 10 * error[2]
    rest = cell.rest()[None]
    assert distance(noisy.estimate(cell, measured=rest, adjoint="unroll(3)"), exact) == pytest.approx(error[1], rel=0.1)
    assert distance(noisy.unrolled_loss(cell, rest, 30), exact) < 1e-3


def test_propagation_is_the_implicit_gradient_of_a_symmetric_cell_only(noisy: ModuleType) -> None:
    cell = small(noisy, "symmetric")
    assert distance(noisy.estimate(cell, adjoint="nudge(0.03)"), noisy.estimate(cell)) < 5e-3
    with pytest.raises(EquilibriumError, match="symmetric"):
        noisy.estimate(small(noisy, "free"), adjoint="nudge(0.03)")


def test_the_measured_state_decides_the_loss_and_linearize_the_jacobian(noisy: ModuleType) -> None:
    cell = small(noisy, "free", 0.3)
    reads = noisy.read(cell, 3, torch.Generator().manual_seed(0))
    solved = noisy.estimate(cell, 3, measured=reads)
    assert distance(solved, noisy.estimate(cell, 3, measured=reads, linearize="measured")) > 0.05
    # noise at the read is the same thing as a measured state there
    assert distance(solved, noisy.estimate(cell, 3, noise_at_read=reads - cell.rest())) < 1e-4
    for k in range(3):
        assert distance(solved[k : k + 1], noisy.estimate(cell, measured=reads[k : k + 1])) < 1e-4


def test_the_differentiated_covariance_vanishes_with_the_noise(noisy: ModuleType) -> None:
    quiet = small(noisy, "free", 1e-4)
    assert distance(noisy.through_covariance(quiet, 2, torch.Generator().manual_seed(0)), noisy.estimate(quiet)) < 5e-3
    loud = small(noisy, "free", 0.3)
    both = noisy.through_covariance(loud, 5, torch.Generator().manual_seed(0))
    assert both.shape == (5, noisy.estimate(loud).shape[1])  # more draws than a chunk


def test_fresh_noise_in_every_step_is_amplified_by_the_loop(noisy: ModuleType) -> None:
    cell = small(noisy, "free", 0.03)
    generator = torch.Generator().manual_seed(0)
    wanted = float(noisy.deviations(cell).square().mean().sqrt())
    std = {
        matched: float(noisy.fresh_noise_states(cell, 800, generator, matched=matched).std(0).square().mean().sqrt())
        for matched in (True, False)
    }
    assert std[True] == pytest.approx(wanted, rel=0.05)
    assert std[False] > 1.1 * wanted


# --- rows -------------------------------------------------------------------------------------------------------------


def test_noisy_rows_and_their_table(modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    script, noisy = modules["estimators"], modules["noisy_cell"]
    monkeypatch.setattr(noisy, "make_cell", functools.partial(noisy.make_cell, nodes=6, batch=4))
    monkeypatch.setattr(noisy, "STEPS", 120)
    sizes = dataclasses.replace(script.QUICK, reference=64, draws=32, few=16)
    rows = list(script.noisy_rows("m", sizes, (("symmetric", 0.16),)))
    found = {json.loads(row.to_json())["id"]: row for row in rows}
    assert len(found) == len(rows)
    prefix = "estimators.noisy.symmetric.0.16"
    assert found[f"{prefix}.lyapunov.bias_relative"].bar > script.DEFAULT_BAR
    assert found[f"{prefix}.second_equilibrium_units"].ours < 1e-4
    implicit, nudged = (found[f"{prefix}.{k}.bias_relative"].ours for k in ("ift", "ep_0.03"))
    assert nudged == pytest.approx(implicit, abs=0.01)
    spread = {
        k: found[f"{prefix}.{k}.std_relative"].ours for k in ("pat_solved", "pat_measured", "ep_0.1_noisy_phases")
    }
    assert spread["pat_solved"] < spread["pat_measured"] < spread["ep_0.1_noisy_phases"]
    lines = "\n".join(modules["gradient_figures"].tables(rows))
    assert "noisy cell, symmetric, state noise 0.16" in lines
    assert "ep_0.03_settled_phases" in lines


def test_tables_of_circuits_and_scans(modules: dict[str, ModuleType]) -> None:
    value_row = importlib.import_module("rows").value_row
    rows = [
        value_row("estimators.circuit.die.ep_0.01.bias_relative", "m", 0.125, 2),
        value_row("estimators.circuit.die.ep_0.01.cosine", "m", 0.5, 2),
        value_row("estimators.circuit.die.gamma", "m", 0.9, 2),
        value_row("estimators.scan.ngspice.reltol_1e-06.beta_0.1.bias_relative", "m", 0.25, 1),
    ]
    lines = list(modules["gradient_figures"].tables(rows))
    assert [line.split() for line in lines if "ep_0.01" in line] == [["ep_0.01", "0.1250", "0.50000"]]
    assert any("0.1: 0.25" in line for line in lines)


def test_a_distorted_cell_is_another_cell_of_the_same_name(
    modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    circuits, cells = modules["measured_cell"], load_cells(Cells())
    changed = circuits.distorted(cells)
    assert " a0=200 " in changed.opamp.netlist
    assert changed.opamp.sha256 != cells.opamp.sha256
    assert (changed.opamp.name, changed.synapse) == (cells.opamp.name, cells.synapse)
    monkeypatch.setattr(circuits, "DISTORTED", {"driver": (("nothing=1", "nothing=2"),)})
    with pytest.raises(ValueError, match="not in its netlist"):
        circuits.distorted(cells)
