"""Crossbar netlists in ngspice: signs, rows and columns pinned; every wire where the reduction has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import conductances

from analog_deq.errors import NetlistError
from analog_deq.netlists.crossbar import CrossbarParameters, flat_lines, ideal_currents, mesh_lines, terminal
from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.library import load_cell
from analog_deq.records import Op
from analog_deq.reduction import mesh, reduce_array
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice

OPTIONS: dict[str, float | str | bool] = {"reltol": 1e-12, "abstol": 1e-18, "vntol": 1e-15, "gmin": 1e-18}


def column_currents(
    simulator: Simulator, folder: Path, parameters: CrossbarParameters, logical_v: np.ndarray, flat: bool = True
) -> np.ndarray:
    """Currents out of the columns into virtual grounds, every logical row driven at +V and -V."""
    cell = load_cell("resistor_synapse")
    physical = np.stack([logical_v, -logical_v], axis=1).ravel()
    n, sources = parameters.columns, parameters.sources
    if flat:
        lines = [cell.include_line, *flat_lines(parameters, cell)]
        lines += [f"Vx{q} {terminal(q, sources)} 0 {float(v)!r}" for q, v in enumerate(physical)]
    else:
        reduced = reduce_array(
            parameters.g_pos, parameters.g_neg, r_line_ohm=parameters.r_line_ohm, r_dac_ohm=parameters.r_dac_ohm
        )
        lines = mesh_lines(mesh(reduced.y_ports), n)
        lines += [f"Vx{q} {terminal(q, sources)} 0 {float(physical[q])!r}" for q in range(sources, len(physical))]
        amps = -reduced.y_sources @ physical[:sources]
        lines += [f"Ij{i} 0 s{i} {float(a)!r}" for i, a in enumerate(amps[:n])]
    lines += [f"Vs{i} s{i} 0 0" for i in range(n)]
    deck = build_deck(
        "columns", lines, [Op()], save=[f"i(vs{i})" for i in range(n)], options=OPTIONS, files=[cell.file]
    )  # fmt: skip
    plot = run_deck(deck, simulator=simulator, folder=folder, timeout_s=30.0).plots[0]
    return np.array([float(np.real(plot[f"i(vs{i})"][0])) for i in range(n)])


def test_signs_rows_and_columns_on_an_asymmetric_array(simulator, tmp_path):
    """Input 1: +40 uS into column 0, -20 uS into column 1. State 0: -30 uS into column 1. Bias: +5 uS into column 0."""
    g_pos, g_neg = np.full((5, 2), 1e-6), np.full((5, 2), 1e-6)  # logical rows: x0 x1 bias z0 z1
    g_pos[1, 0] += 40e-6
    g_neg[1, 1] += 20e-6
    g_pos[2, 0] += 5e-6
    g_neg[3, 1] += 30e-6
    volts = np.array([0.05, 0.12, 0.2, -0.15, 0.08])
    found = column_currents(simulator, tmp_path, CrossbarParameters(g_pos, g_neg, 0.0, 1e-6), volts)
    by_hand = [0.12 * 40e-6 + 0.2 * 5e-6, -0.12 * 20e-6 + 0.15 * 30e-6]
    assert found == pytest.approx(by_hand, rel=1e-8)
    assert found == pytest.approx(ideal_currents(g_pos, g_neg, volts), rel=1e-8)


@pytest.mark.parametrize("seed", range(2))
def test_without_wires_the_columns_add_up(simulator, tmp_path, seed):
    g_pos, g_neg = conductances(7, 3, seed=seed)
    volts = np.random.default_rng(seed).uniform(-0.2, 0.2, 7)
    found = column_currents(simulator, tmp_path, CrossbarParameters(g_pos, g_neg, 0.0, 1e-6), volts)
    assert found == pytest.approx(ideal_currents(g_pos, g_neg, volts), rel=1e-7)


@pytest.mark.parametrize("r_line", [0.0, 2.0, 50.0])
def test_flat_and_reduced_netlists_agree(simulator, tmp_path, r_line):
    g_pos, g_neg = conductances(7, 3, seed=5)
    parameters = CrossbarParameters(g_pos, g_neg, r_line, 10.0)
    volts = np.random.default_rng(1).uniform(-0.2, 0.2, 7)
    flat = column_currents(simulator, tmp_path, parameters, volts)
    reduced = column_currents(simulator, tmp_path, parameters, volts, flat=False)
    scale = np.abs(flat).max()
    assert np.abs(reduced - flat).max() <= 1e-9 * scale
    assert np.abs(flat - ideal_currents(g_pos, g_neg, volts)).max() > 1e-4 * scale  # 10 ohm DACs and wires do act


def test_flat_wires_are_those_of_the_reduction_row_by_row(simulator, tmp_path):
    """One driven row at a time: a swapped wire or an end fed from the wrong side would show in one row only."""
    g_pos, g_neg = conductances(5, 2, seed=6)
    parameters = CrossbarParameters(g_pos, g_neg, 20.0, 10.0)
    reduced = reduce_array(g_pos, g_neg, r_line_ohm=20.0, r_dac_ohm=10.0)
    transfer = -np.concatenate([reduced.y_sources[:2].T, reduced.y_ports[:2, 2:].T])
    for k in range(5):
        volts = np.zeros(5)
        volts[k] = 0.2
        expected = 0.2 * (transfer[2 * k] - transfer[2 * k + 1])
        found = column_currents(simulator, tmp_path, parameters, volts)
        assert np.abs(found - expected).max() <= 1e-9 * 0.2 * transfer.max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"g_pos": np.array([[1e-6], [0.0]])}, r"g_pos\[\(1, 0\)\]"),
        ({"g_neg": np.array([[np.nan], [1e-6]])}, r"g_neg\[\(0, 0\)\]"),
        ({"g_neg": np.full((3, 1), 1e-6)}, "g_neg has shape"),
        ({"r_line_ohm": -1.0}, "r_line_ohm = -1.0"),
        ({"r_dac_ohm": 0.0}, "r_dac_ohm = 0.0"),
    ],
)
def test_an_array_that_cannot_be_built(change, message):
    good = {"g_pos": np.full((2, 1), 1e-6), "g_neg": np.full((2, 1), 1e-6), "r_line_ohm": 0.0, "r_dac_ohm": 10.0}
    CrossbarParameters(**good)
    with pytest.raises(NetlistError, match=message):
        CrossbarParameters(**{**good, **change})


def test_a_mesh_branch_must_conduct():
    with pytest.raises(NetlistError, match=r"branch \(0, 1\)"):
        mesh_lines([(0, 1, -1e-6)], 1)
