"""Gradients of the digits network against differences of ngspice: nominal, distorted, symmetric."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
NODES, BATCH = 6, 8


@pytest.fixture(scope="module")
def circuits() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("measured_cell")
    finally:
        sys.path.remove(str(FOLDER))


def off(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float((found - truth).norm() / truth.norm())


def test_the_nominal_proxy_has_the_gradient_of_ngspice(
    simulator: Simulator, tmp_path: Path, circuits: ModuleType
) -> None:
    """In the drive of every node and image, and along conductances; both by differences that do not depend on step."""
    cell = circuits.make_cell(circuits.make_setting(simulator, tmp_path, nodes=NODES), 0, batch=BATCH)
    truth = circuits.true_gradient(cell)
    for options in ({}, {"spice": True}, {"spice": True, "linearize": "measured"}):
        assert off(circuits.estimate(cell, **options).theta, truth) < 3e-3
    assert off(circuits.estimate(cell, adjoint="neumann(1)").theta, truth) > 0.05
    whole, half = (circuits.true_drive_gradient(cell, step, nodes=1) for step in (1e-3, 5e-4))
    assert off(half, whole) < 1e-5
    directions = circuits.random_directions(cell, 3, 0)
    slopes = circuits.true_slopes(cell, directions)
    assert off(circuits.along(circuits.estimate(cell).g, directions), slopes) < 0.02
    q = circuits.true_drive_gradient(cell)
    assert off(circuits.along(circuits.from_drive(cell, q, circuits.measured(cell)).g, directions), slopes) < 0.02
    # an unsymmetric matrix: two nudged phases are no gradient
    assert off(circuits.propagate(cell, 0.01).theta, truth) > 0.05


def test_a_circuit_out_of_its_proxy_wants_the_measured_state(
    simulator: Simulator, tmp_path: Path, circuits: ModuleType
) -> None:
    setting = circuits.make_setting(simulator, tmp_path, nodes=NODES)
    cell = circuits.make_cell(setting, 0, cells=circuits.distorted(setting.cells), batch=BATCH)
    assert circuits.rms_distance(cell) > 0.05
    truth = circuits.true_gradient(cell)
    ideal = circuits.estimate(cell).theta
    measured = circuits.estimate(cell, spice=True, linearize="measured").theta
    assert off(measured, truth) < 0.8 * off(ideal, truth)
    assert torch.cosine_similarity(measured, truth, dim=0) > torch.cosine_similarity(ideal, truth, dim=0)


def test_propagation_in_ngspice_is_its_gradient_when_the_matrix_is_symmetric(
    simulator: Simulator, tmp_path: Path, circuits: ModuleType
) -> None:
    """Without wires to 1e-3; with them the scaled rows take most of the asymmetry away."""
    plain = circuits.make_setting(simulator, tmp_path, nodes=NODES, r_line_ohm=0.0)
    cell = circuits.make_cell(plain, 0, symmetric=True, batch=BATCH)
    truth = circuits.true_gradient(cell)
    assert cell.asymmetry()[0] < 1e-3
    assert off(circuits.propagate(cell, 0.01).theta, truth) < 1e-3
    assert off(circuits.propagate(cell, 0.3).theta, truth) > 0.01  # its curvature
    wires = circuits.make_setting(simulator, tmp_path, nodes=NODES, r_line_ohm=2.0)
    cell = circuits.make_cell(wires, 0, symmetric=True, batch=BATCH)
    truth = circuits.true_gradient(cell)
    scaled, bare = (off(circuits.propagate(cell, 0.01, scaled=s).theta, truth) for s in (True, False))
    assert scaled < 2e-3
    assert bare > 2 * scaled
