"""The reduced array against a dense nodal solve of every cell and wire, and the laws a passive network obeys."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import Nodal, array_resistors, conductances, port_order
from hypothesis import given, settings
from hypothesis import strategies as st

from analog_deq.errors import SpecError
from analog_deq.netlists.crossbar import ideal_currents
from analog_deq.reduction import PortAdmittance, mesh, reduce_array, thin

R_DAC = 10.0

sizes = st.tuples(st.integers(0, 3), st.integers(1, 4))  # inputs, states; every array has a bias row
lines = st.one_of(st.just(0.0), st.floats(1e-3, 100.0))


def array(inputs: int, states: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return conductances(inputs + 1 + states, states, seed=seed)


def dense(g_pos: np.ndarray, g_neg: np.ndarray, r_line: float, both_ends: bool = False) -> np.ndarray:
    """Admittance between all terminals, one unit voltage at a time."""
    states = g_pos.shape[1]
    names = port_order(states, 2 * (g_pos.shape[0] - states))
    network = Nodal(array_resistors(g_pos, g_neg, r_line, R_DAC, both_ends))
    columns = [network.currents({**dict.fromkeys(names, 0.0), name: 1.0}) for name in names]
    return np.array([[column[name] for column in columns] for name in names])


def assembled(reduced: PortAdmittance) -> np.ndarray:
    return np.block([[reduced.y_ports, reduced.y_sources], [reduced.y_sources.T, reduced.y_drive]])


@settings(max_examples=40, deadline=None)
@given(sizes, lines, st.booleans(), st.integers(0, 2**31))
def test_every_block_equals_the_dense_nodal_solve(size, r_line, both_ends, seed):
    g_pos, g_neg = array(*size, seed)
    reduced = reduce_array(g_pos, g_neg, r_line_ohm=r_line, r_dac_ohm=R_DAC, both_word_ends=both_ends)
    expected = dense(g_pos, g_neg, r_line, both_ends)
    # a wire of 1 mohm beside a cell of 1 uS costs nine digits to cancellation
    tolerance = 1e-12 * max(1.0, 1.0 / r_line if r_line else 1.0)
    assert np.abs(assembled(reduced) - expected).max() <= tolerance * max(1.0, np.abs(expected).max())


@settings(max_examples=25, deadline=None)
@given(sizes, lines, st.booleans(), st.integers(0, 2**31))
def test_laws_of_a_passive_network(size, r_line, both_ends, seed):
    reduced = reduce_array(*array(*size, seed), r_line_ohm=r_line, r_dac_ohm=R_DAC, both_word_ends=both_ends)
    full = assembled(reduced)
    # eliminating wires of 1 / r_line beside cells of 1 uS loses digits in proportion
    small = 1e-10 * np.abs(full).max() * max(1.0, 1.0 / r_line if r_line else 1.0)
    assert np.abs(full - full.T).max() <= small  # reciprocity
    assert np.abs(full.sum(axis=1)).max() <= small  # no element of the array goes to ground
    assert np.linalg.eigvalsh((full + full.T) / 2).min() >= -small  # it delivers no power
    assert (full - np.diag(np.diag(full))).max() <= small


@pytest.mark.parametrize("r_line", [0.0, 2.0, 50.0])
def test_the_mesh_is_the_same_network_of_positive_resistors(r_line):
    g_pos, g_neg = array(3, 4, seed=1)
    reduced = reduce_array(g_pos, g_neg, r_line_ohm=r_line, r_dac_ohm=R_DAC)
    branches = mesh(reduced.y_ports)
    assert all(g > 0 for _, _, g in branches)
    rebuilt = np.zeros_like(reduced.y_ports)
    for a, b, g in branches:
        rebuilt[a, a] += g
        if b >= 0:
            rebuilt[b, b] += g
            rebuilt[a, b] -= g
            rebuilt[b, a] -= g
    assert np.abs(rebuilt - reduced.y_ports).max() <= 1e-12 * reduced.y_ports.max()


def test_a_wrong_reduction_makes_no_mesh():
    reduced = reduce_array(*array(2, 3, seed=2), r_line_ohm=2.0, r_dac_ohm=R_DAC)
    flipped = reduced.y_ports.copy()
    flipped[0, 4] = flipped[4, 0] = 1e-6
    with pytest.raises(SpecError, match="negative branch"):
        mesh(flipped)
    leaking = reduced.y_ports.copy()
    leaking[1, 1] -= 1e-3
    with pytest.raises(SpecError, match=r"port 1 .* negative ground conductance"):
        mesh(leaking)


def test_one_by_one_array_by_hand():
    """Bias pair g1, g2 behind r_dac + wire, state pair g3, g4 behind a wire; one column of wires below."""
    g1, g2, g3, g4, r, r_dac = 3e-5, 7e-6, 5e-5, 2e-5, 4.0, 10.0
    reduced = reduce_array(np.array([[g1], [g3]]), np.array([[g2], [g4]]), r_line_ohm=r, r_dac_ohm=r_dac)
    # walk down the column, one row terminal driven: Thevenin of the part above, then the next cell in parallel
    cells = [1 / g1 + r_dac + r, 1 / g2 + r_dac + r, 1 / g3 + r, 1 / g4 + r]
    for driven in range(4):
        volts, above = 0.0, np.inf
        for q, resistance in enumerate(cells):
            source = 1.0 if q == driven else 0.0
            total = 1 / resistance + (0.0 if np.isinf(above) else 1 / above)
            volts = (source / resistance + (0.0 if np.isinf(above) else volts / above)) / total
            above = 1 / total + r
        into_column = volts / above
        found = -reduced.y_sources[0, driven] if driven < 2 else -reduced.y_ports[0, driven - 1]
        assert found == pytest.approx(into_column, rel=1e-12)
    assert reduced.y_ports[0, 0] == pytest.approx(1 / above, rel=1e-12)


def test_without_wires_the_closed_form_holds():
    g_pos, g_neg = array(3, 4, seed=3)
    reduced = reduce_array(g_pos, g_neg, r_line_ohm=0.0, r_dac_ohm=R_DAC)
    states, n = 4, 4
    rows = np.stack([g_pos, g_neg], axis=1).reshape(-1, n)
    drives, fed = rows[: -2 * n], rows[-2 * n :]
    share = 1 / (1 + R_DAC * drives.sum(axis=1))  # of a DAC row's voltage that reaches its cells
    assert np.allclose(-reduced.y_sources[:n], (drives * share[:, None]).T, rtol=1e-12, atol=0)
    assert np.allclose(-reduced.y_ports[:n, n:], fed.T, rtol=1e-12, atol=0)
    own = np.diag(rows.sum(axis=0)) - drives.T @ (R_DAC * share[:, None] * drives)
    assert np.allclose(reduced.y_ports[:states, :states], own, rtol=1e-11, atol=1e-18)
    assert np.allclose(reduced.y_ports[n:, n:], np.diag(fed.sum(axis=1)), rtol=1e-12, atol=1e-18)
    assert np.allclose(reduced.y_sources[n:], 0.0, atol=1e-18)


def test_signs_rows_and_columns_on_an_asymmetric_array():
    """Input 1 with weight +4 into column 0 and -2 into column 1; everything else is balanced."""
    base, unit = 1e-6, 10e-6
    g_pos, g_neg = np.full((5, 2), base), np.full((5, 2), base)  # rows: x0 x1 bias z0 z1
    g_pos[1, 0] += 4 * unit
    g_neg[1, 1] += 2 * unit
    g_neg[3, 1] += 3 * unit  # z0 inhibits neuron 1, not the reverse
    reduced = reduce_array(g_pos, g_neg, r_line_ohm=0.0, r_dac_ohm=1e-6)
    logical = np.array([0.1, 0.3, 1.0, -0.5, 0.2])
    physical = np.stack([logical, -logical], axis=1).ravel()
    into_s = -(reduced.y_sources[:2] @ physical[:6] + reduced.y_ports[:2, 2:] @ physical[6:])
    assert into_s == pytest.approx([0.3 * 4 * unit, -0.3 * 2 * unit + 0.5 * 3 * unit], rel=1e-9)
    assert into_s == pytest.approx(ideal_currents(g_pos, g_neg, logical), rel=1e-9)


def test_a_row_fed_from_both_ends_by_hand():
    """One column: its two segments are in parallel. Many columns: the far cell is a segment from its driver."""
    one = reduce_array(
        np.full((2, 1), 3e-5), np.full((2, 1), 1e-9), r_line_ohm=4.0, r_dac_ohm=10.0, both_word_ends=True
    )
    only_source = 1 / (1 / 3e-5 + 10.0 + 2.0 + 4 * 4.0)  # down the column beside cells of 1 nS: four segments
    assert -one.y_sources[0, 0] == pytest.approx(only_source, rel=1e-3)
    g = np.full((14, 12), 1e-9)
    g[-1, -1] = 1e-2  # the last state's own row, its last cell
    ends = [reduce_array(g, np.full_like(g, 1e-9), r_line_ohm=5.0, r_dac_ohm=10.0, both_word_ends=b) for b in (0, 1)]
    # +row, -row beneath it: two column segments; along the row 12 segments, or 12 beside 1
    far = [1 / -y.y_ports[11, 12 + 2 * 11] - 100.0 - 2 * 5.0 for y in ends]
    assert far == pytest.approx([60.0, 5 * 12 / 13], rel=1e-3)


def test_small_wires_tend_to_none():
    g_pos, g_neg = array(3, 4, seed=4)
    without = assembled(reduce_array(g_pos, g_neg, r_line_ohm=0.0, r_dac_ohm=R_DAC))
    far, near = (
        np.abs(assembled(reduce_array(g_pos, g_neg, r_line_ohm=r, r_dac_ohm=R_DAC)) - without).max() for r in (1.0, 0.1)
    )
    assert near < far
    assert near / far == pytest.approx(0.1, rel=0.05)  # first order in r


@pytest.mark.parametrize("bad", [0.0, -1e-6, np.nan, np.inf])
def test_conductances_must_be_positive_numbers(bad):
    g_pos, g_neg = array(1, 2, seed=5)
    g_neg[2, 1] = bad
    with pytest.raises(SpecError, match=r"\(5, 1\)"):
        reduce_array(g_pos, g_neg, r_line_ohm=0.0, r_dac_ohm=R_DAC)


def test_shapes_that_are_no_array():
    g_pos, g_neg = array(1, 2, seed=6)
    with pytest.raises(SpecError, match="differ in shape"):
        reduce_array(g_pos, g_neg[:-1], r_line_ohm=0.0, r_dac_ohm=R_DAC)
    with pytest.raises(SpecError, match="cannot hold 4 state rows"):
        reduce_array(np.full((3, 4), 1e-5), np.full((3, 4), 1e-5), r_line_ohm=0.0, r_dac_ohm=R_DAC)


@pytest.mark.parametrize("r_line", [0.0, 2.0, 20.0])
def test_the_thin_form_gives_the_same_rows_and_column_currents(r_line):
    """Virtual grounds at 0 V, drivers as sources behind their resistance: same currents, same rows once corrected."""
    n, r_out = 4, 25.0
    full = reduce_array(*array(3, n, seed=8), r_line_ohm=r_line, r_dac_ohm=R_DAC)
    rng = np.random.default_rng(0)
    level, volts = rng.uniform(-0.2, 0.2, 2 * n), rng.uniform(-0.2, 0.2, full.y_sources.shape[1])

    def solve(ports: PortAdmittance) -> tuple[np.ndarray, np.ndarray]:
        y_zz, injected = ports.y_ports[n:, n:], ports.y_sources @ volts
        rows = np.linalg.solve(np.eye(2 * n) + r_out * y_zz, level - r_out * injected[n:])
        return rows, ports.y_ports[:n, n:] @ rows + injected[:n]

    reduced = thin(full, r_out)
    rows, currents = solve(full)
    thin_rows, thin_currents = solve(reduced.ports)
    assert np.abs(reduced.correction @ thin_rows - rows).max() <= 1e-14
    assert np.abs(thin_currents - currents).max() <= 1e-12 * np.abs(currents).max()
    assert all(g > 0 for _, _, g in mesh(reduced.ports.y_ports))
