"""Checks of the sheet at corners, against closed forms, the flat deck, and cells that were made worse on purpose."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dynamics_circuits import sheet_run, skew
from helpers import C_FEEDBACK, R_FEEDBACK, conductances, design, plan, proxy

from analog_deq.characterise.corners import Corner
from analog_deq.netlists.contract_schema import ProcessCorner
from analog_deq.netlists.neuron import NeuronCells, load_cells
from analog_deq.records import Progress
from analog_deq.spec import Cells
from analog_deq.spice.simulator import Simulator
from analog_deq.verify.checks.cells import CELLS, SYNAPSES
from analog_deq.verify.checks.corner_network import CornerNetworks
from analog_deq.verify.checks.coverage import Coverage
from analog_deq.verify.checks.integrator import Integrator
from analog_deq.verify.checks.noise_flips import READS, NoiseFlips
from analog_deq.verify.checks.reproducible import Reproducible
from analog_deq.verify.corners import networks_at
from analog_deq.verify.found import Found
from analog_deq.verify.limits import Limits
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.signoff import judge
from analog_deq.verify.sweeps import Bed, Sweep, run_sweeps
from analog_deq.verify.verdict import Check

pytestmark = pytest.mark.spice

A0, GBW, SLEW, RO, F2 = 1e4, 200e6, 200e6, 50.0, 600e6
SLOW = ("tt_27C_1p8V", "ss_27C_1p8V")
TODAY = date(2026, 1, 1)
Rows = Mapping[str, tuple[str, Mapping[str, Any]]]


def limits(rows: Rows, corners: str | tuple[str, ...] = "typ") -> Limits:
    """Rows id -> (unit, limits)."""
    check = [{"id": name, "quantity": name, "unit": unit, **more} for name, (unit, more) in rows.items()]
    return Limits.model_validate({"schema": 1, "campaign": {"corners": corners}, "check": check})


def run_of(simulator: Simulator, root: Path, sheet: Limits, cells: NeuronCells | None = None) -> SheetRun:
    """A run of a small network; its ``cells`` replaced where given."""
    x = np.random.default_rng(0).uniform(-0.8, 0.8, (6, 4))
    run = replace(sheet_run(0.5 * skew(4), x, simulator, root, sheet), plan=plan())
    return run if cells is None else replace(run, cells=cells, network=replace(run.network, cells=cells))


def with_corner(cells: NeuronCells, slot: str, **params: float) -> NeuronCells:
    """The cells, one of which has a slow corner ``ss`` of its own with these parameters."""
    cell = getattr(cells, slot)
    corners = {"tt": ProcessCorner(), "ss": ProcessCorner(params=params)}
    return replace(cells, **{slot: replace(cell, contract=cell.contract.model_copy(update={"corners": corners}))})


def judged(found: Found, sheet: Limits) -> dict[str, Check]:
    return {check.id: check for check in judge(found.measurements, sheet, TODAY)}


def test_the_macro_op_amp_measures_its_own_parameters(simulator: Simulator, tmp_path: Path) -> None:
    sheet = limits({
        "cell.dc_gain": ("dB", {}), "cell.gbw": ("Hz", {}), "cell.pm": ("deg", {}), "cell.slew_r": ("V/s", {}),
        "cell.slew_f": ("V/s", {}), "cell.offset": ("V", {"max": 4e-3}), "cell.noise_density": ("V/rtHz", {}),
        "cell.power": ("W", {}), "cell.psrr": ("dB", {"min": 40}),
    })  # fmt: skip
    found = CELLS.measure(run_of(simulator, tmp_path, sheet))
    value = {m.id: m.value for m in found.measurements}
    divider = R_FEEDBACK / (R_FEEDBACK + RO)  # the design's load on the output resistance
    assert value["cell.dc_gain"] == pytest.approx(20 * math.log10(A0 * divider), abs=1e-3)
    assert value["cell.gbw"] == pytest.approx(GBW * divider, rel=1e-3)
    assert value["cell.slew_r"] == pytest.approx(SLEW, rel=0.02)
    assert value["cell.slew_f"] == pytest.approx(SLEW, rel=0.02)
    assert value["cell.noise_density"] == pytest.approx(5e-9, rel=1e-3)
    assert value["cell.power"] == pytest.approx(1.8 * 200e-6, rel=1e-3)
    unity = GBW * divider * 0.95  # a little below GBW by the second pole
    lag = math.atan(unity / F2) + math.atan(unity * 2 * math.pi * RO * 1e-12)  # and 1 pF on the output resistance
    assert value["cell.pm"] == pytest.approx(90 - math.degrees(lag), abs=0.5)
    checks = judged(found, sheet)
    assert checks["cell.offset"].status == "pass"
    assert 3e-3 < checks["cell.offset"].value < 4e-3  # 3.44 sigma of 1 mV, the factor's own error included
    assert checks["cell.psrr"].status == "not_modelled"
    assert set(found.tables["cells"]["slot"]) == {"opamp"}


def test_a_design_without_an_op_amp_says_so_in_the_unit_of_the_row(simulator: Simulator, tmp_path: Path) -> None:
    sheet = limits({"cell.gbw": ("Hz", {"min": 80e6}), "cell.driver_bandwidth": ("Hz", {"min": 50e6})})
    cells = load_cells(Cells(integrator="integrator_rc"))
    checks = judged(CELLS.measure(run_of(simulator, tmp_path, sheet, cells)), sheet)
    assert checks["cell.gbw"].status == "not_modelled"
    assert checks["cell.driver_bandwidth"].status == "pass"


def test_a_quarter_of_the_bandwidth_at_one_corner_fails_there(simulator: Simulator, tmp_path: Path) -> None:
    sheet = limits({"cell.gbw": ("Hz", {"min": 80e6}), "cell.dc_gain": ("dB", {"min": 60})}, SLOW)
    slow = with_corner(load_cells(Cells()), "opamp", gbw=GBW / 4)
    run = run_of(simulator, tmp_path, sheet, slow)
    found = CELLS.measure(run)
    checks = judged(found, sheet)
    gbw = checks["cell.gbw"]
    assert (gbw.status, gbw.worst_corner) == ("fail", "ss_27C_1p8V")
    assert gbw.by_corner["ss_27C_1p8V"] == pytest.approx(gbw.by_corner["tt_27C_1p8V"] / 4, rel=1e-3)
    assert checks["cell.dc_gain"].status == "pass"
    (outcome,) = run.bed.run([found.decks["cell.gbw"]], Progress())
    assert outcome.run is not None
    assert outcome.run.reused  # the deck beside the report is the one that was measured, at that corner
    assert "gbw=50000000.0" in found.decks["cell.gbw"].text


def test_twice_the_offset_fails(simulator: Simulator, tmp_path: Path) -> None:
    own = load_cells(Cells())
    mismatch = own.opamp.contract.mismatch
    vos = mismatch.params["vos"].model_copy(update={"sigma": 2e-3})
    twice = mismatch.model_copy(update={"params": {**mismatch.params, "vos": vos}})
    opamp = replace(own.opamp, contract=own.opamp.contract.model_copy(update={"mismatch": twice}))
    sheet = limits({"cell.offset": ("V", {"max": 4e-3})})
    check = judged(CELLS.measure(run_of(simulator, tmp_path, sheet, replace(own, opamp=opamp))), sheet)["cell.offset"]
    assert check.status == "fail"
    assert 6e-3 < check.value < 8e-3


def test_synapses_bend_and_spread_as_their_model_says(simulator: Simulator, tmp_path: Path) -> None:
    sheet = limits({"syn.nonlin": ("%", {"max": 2}), "syn.sigma_g": ("%", {"max": 2.5})})
    plain = judged(SYNAPSES.measure(run_of(simulator, tmp_path, sheet)), sheet)
    assert plain["syn.nonlin"].status == "not_modelled"
    assert plain["syn.sigma_g"].value == pytest.approx(2.0, rel=0.25)  # of the largest conductance, 100 dies
    assert plain["syn.sigma_g"].status == "pass"
    bent = SYNAPSES.measure(run_of(simulator, tmp_path, sheet, load_cells(Cells(synapse="sinh_synapse"))))
    v, v0 = 0.2, 0.43
    assert bent.measurements[0].value == pytest.approx(100 * (v0 / v * math.sinh(v / v0) - 1), rel=0.01)


def test_the_integrator_has_the_leak_and_the_time_constant_of_its_parts(simulator: Simulator, tmp_path: Path) -> None:
    sheet = limits({"int.leak": ("%", {}), "int.tau_err": ("%", {})}, SLOW)
    slow = with_corner(load_cells(Cells()), "opamp", a0=A0 / 10)
    found = Integrator().measure(run_of(simulator, tmp_path, sheet, slow))
    table = found.tables["integrator"]
    noise_gain = 1 + R_FEEDBACK * table["load_siemens"]
    a0 = table["corner"].map({SLOW[0]: A0, SLOW[1]: A0 / 10})
    assert table["leak_percent"].to_numpy() == pytest.approx((-100 * noise_gain / a0).to_numpy(), rel=0.02)
    typical = table[table["corner"] == SLOW[0]]
    expected = R_FEEDBACK * C_FEEDBACK + (1 + R_FEEDBACK * typical["load_siemens"]) / (2 * np.pi * GBW)
    assert typical["tau_s"].to_numpy() == pytest.approx(expected.to_numpy(), rel=5e-3)
    leak = found.measurements[0]
    assert leak.worst.corner == SLOW[1]


@pytest.mark.parametrize("synapse", ["resistor_synapse", "mos_synapse"])
def test_a_reduced_network_at_a_corner_is_the_flat_one(simulator: Simulator, tmp_path: Path, synapse: str) -> None:
    spec = design(4, 3, crossbar={"levels": 0, "g_min_siemens": 10e-6, "g_max_siemens": 40e-6})
    cells = with_corner(load_cells(Cells(synapse=synapse)), "driver", ro=60.0)
    if synapse == "resistor_synapse":  # its conductance moves with the corner, too
        cells = with_corner(cells, "synapse", dg=0.15)
    g_pos, g_neg = conductances(8, 4, low=12e-6, high=38e-6)
    network = LoweredNetwork.nominal(spec, cells, g_pos, g_neg, simulator.klu, proxy())
    corner = Corner("ss", 125.0, 0.81, -0.81)
    bed = Bed(simulator, tmp_path)
    (found,) = networks_at(network, [corner], plan(), bed, Progress())
    assert found.network is not None, found.status
    assert found.network.r_out_ohm == pytest.approx(60.0, rel=1e-3)
    assert np.abs(found.network.seen / np.stack([g_pos, g_neg]) - 1).min() > 0.05
    x = np.random.default_rng(1).uniform(-0.5, 0.5, (3, 3))
    sweep = Sweep(found.network, x, np.zeros((3, 4)))
    reduced, flat = (run_sweeps([sweep], bed, Progress(), flat=flat, reltol=1e-8)[0] for flat in (False, True))
    assert reduced.ok.all()
    assert flat.ok.all()
    limit = 1e-6 if synapse == "resistor_synapse" else 2e-3  # a transistor bends
    assert np.abs(reduced.states.z - flat.states.z).max() < limit


def test_the_network_at_corners(simulator: Simulator, tmp_path: Path) -> None:
    sheet = limits({
        "net.corner_converged": ("%", {"min": 100}), "net.corner_err": ("%FS", {}), "net.rail_use": ("%", {"max": 1}),
        "net.corner_acc_drop": ("points", {}), "net.corner_power": ("W", {}), "net.corner_gamma": ("", {}),
    }, ("ss_125C_1p62V", "ff_m40C_1p98V"))  # fmt: skip
    run = run_of(simulator, tmp_path, sheet)
    found = CornerNetworks().measure(run)
    checks, table = judged(found, sheet), found.tables["corners"]
    typical = table[table["corner"] == "tt_27C_1p8V"]
    assert np.array_equal(typical["supply_w"], run.equilibria.states.supply_w)  # the base campaign's, bit for bit
    assert (typical["rms_change_percent_fs"] == 0).all()
    assert (checks["net.corner_converged"].status, checks["net.rail_use"].status) == ("pass", "pass")
    error = checks["net.corner_err"].by_corner
    assert error["ss_125C_1p62V"] > 1
    assert error["ff_m40C_1p98V"] > 1
    power = checks["net.corner_power"].by_corner
    assert power["ff_m40C_1p98V"] / power["ss_125C_1p62V"] == pytest.approx(1.98 / 1.62, rel=0.05)
    # a transistor pair is steeper in the cold
    gamma = checks["net.corner_gamma"].by_corner if "net.corner_gamma" in checks else {}
    assert not gamma or gamma["ff_m40C_1p98V"] > gamma["ss_125C_1p62V"]


def test_a_proxy_of_another_circuit_is_not_covered(simulator: Simulator, tmp_path: Path) -> None:
    sheet = limits({"fit.coverage": ("%", {"min": 93, "judge": "yield"})})
    found = Coverage().measure(run_of(simulator, tmp_path, sheet))  # the tests' own proxy: a tanh that no cell has
    check = judged(found, sheet)["fit.coverage"]
    assert check.status == "fail"
    assert check.value < 20


def test_runs_twice_agree_bit_for_bit(simulator: Simulator, tmp_path: Path) -> None:
    sheet = limits({"run.reproducible": ("", {"max": 0})})
    run = run_of(simulator, tmp_path, sheet)
    kept = {path.name for path in (tmp_path / "spice").iterdir()}
    found = Reproducible().measure(run)
    assert judged(found, sheet)["run.reproducible"].status == "pass"
    assert {path.name for path in (tmp_path / "spice").iterdir()} == kept  # nothing from the cache, nothing into it
    table = found.tables["reproducible"]
    assert (table["values"] > 0).all()
    assert set(table["circuit"]) == {"nominal", "die 0"}


def test_the_noise_of_a_sum_of_one_row_is_that_row_s(simulator: Simulator, tmp_path: Path) -> None:
    run = run_of(simulator, tmp_path, limits({"fit.coverage": ("%", {})}))
    deck = run.network.noise(run.inputs[0], [2], 1e3, 1e10, sums=np.array([[0, 0, 3.0, 0], [0, 0, 1.0, 1.0]]))
    (outcome,) = run.bed.run([deck], Progress())
    row, three, pair = (plot["onoise_spectrum"].real for plot in outcome.run.plots)
    assert three == pytest.approx(3 * row, rel=1e-6)
    assert np.all(pair < 2.5 * row.max())


def test_labels_flip_with_the_noise_that_ngspice_finds(simulator: Simulator, tmp_path: Path) -> None:
    sheet = limits(
        {"net.flip_rate_noise": ("%", {"max": 50}), "net.margin_noise_ratio": ("", {"min": 0.9, "max": 1.1})}
    )
    run = run_of(simulator, tmp_path, sheet)
    found = NoiseFlips().measure(run)
    checks = judged(found, sheet)
    # the proxy is another circuit's: its covariance is right only once it is scaled to the rms of .noise
    assert checks["net.margin_noise_ratio"].status == "pass"
    assert checks["net.flip_rate_noise"].status == "pass"
    reads = found.tables["noise_reads"]
    share = 100 * reads["flips"].sum() / (READS * len(reads))
    assert checks["net.flip_rate_noise"].value == pytest.approx(share)
    low, high = checks["net.flip_rate_noise"].interval
    assert low <= share <= high
