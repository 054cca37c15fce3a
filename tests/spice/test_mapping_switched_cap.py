"""The switched-capacitor mapping in ngspice: closed forms of one neuron, a small network against its proxy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from analog_deq.mappings.registry import load_family
from analog_deq.mappings.switched_cap.calibration import at
from analog_deq.mappings.switched_cap.closure import closure
from analog_deq.mappings.switched_cap.family import SwitchedCap
from analog_deq.mappings.switched_cap.fit import SwitchedCapProxy
from analog_deq.mappings.switched_cap.lower import SwitchedCapLowered
from analog_deq.mappings.switched_cap.netlist import Deviations
from analog_deq.mappings.switched_cap.spec import BOLTZMANN
from analog_deq.netlists.deck import build_deck
from analog_deq.records import OK, Progress, Tran
from analog_deq.spec import DesignSpec
from analog_deq.spice.simulator import Simulator
from analog_deq.verify.sweeps import Bed

pytestmark = pytest.mark.spice

INPUTS, STATES = 3, 4
FULL = 100.0  # %FS of one unit
PLAN = {
    "loads_f": [0.2e-12, 1e-12, 2e-12, 3e-12, 5e-12], "drives": 7, "h_max": 3.0, "points": 81, "periods": 8,
    "rows_f": [0.1e-12, 0.3e-12, 0.8e-12], "per_decade": 20, "dies": 8,
}  # fmt: skip


def design(**crossbar: Any) -> DesignSpec:
    content = {
        "schema": 1, "name": "small", "seed": 3, "mapping": "switched_cap", "family": {"plan": PLAN},
        "sizes": {"inputs": INPUTS, "states": STATES, "outputs": 2}, "verify": {"transient_window_s": 3e-6},
        "crossbar": {"g_min_siemens": 1e-6, "g_max_siemens": 1e-4, "r_line_ohm": 2.0, **crossbar},
    }  # fmt: skip
    return DesignSpec.model_validate(content)


@dataclass(frozen=True)
class Rig:
    """A calibrated family and a small trained-like network on it."""

    family: SwitchedCap
    proxy: SwitchedCapProxy
    tables: dict[str, pd.DataFrame]
    programmed: np.ndarray
    x: np.ndarray
    bed: Bed

    def lower(self, die: Any = None, **crossbar: float) -> SwitchedCapLowered:
        """The network in ngspice, with other wires when asked."""
        family = SwitchedCap.of(design(**crossbar))
        return family.lower(self.proxy, self.programmed, self.bed.simulator.klu, die)


@pytest.fixture(scope="module")
def rig(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    bed = Bed(simulator, Path(tmp_path_factory.mktemp("runs")), jobs=1)
    family = load_family(design())
    assert isinstance(family, SwitchedCap)
    tables = family.calibrate(bed, Progress())
    proxy = family.fit(tables)
    rng = np.random.default_rng(0)
    w = rng.normal(size=(STATES, STATES))
    w *= 0.85 / np.linalg.norm(w, 2)
    weights = np.concatenate([0.5 * rng.normal(size=(INPUTS, STATES)), 0.2 * rng.normal(size=(1, STATES)), w.T])
    programmed = family.program(proxy, torch.as_tensor(weights)).numpy()
    x = family.deploy(proxy, programmed).inputs(torch.as_tensor(rng.uniform(-1, 1, (2, INPUTS)))).numpy()
    return Rig(family, proxy, tables, programmed, x, bed)


def test_no_sample_of_the_calibration_fails(rig: Rig) -> None:
    for frame in rig.tables.values():
        assert (frame["status"] == OK).all()
        assert not frame.drop(columns=["status", "output"], errors="ignore").isna().any().any()


def test_gain_of_the_charge_amplifier_is_the_closed_form(rig: Rig) -> None:
    """dv/dV = -(C / C_F) / (1 + (1 + (C + C_P) / C_F) / A0) with the macromodel's A0 of 1e4, at every load."""
    settings = rig.family.settings
    rows = rig.tables["transfer"]
    last = rows[rows["period"] == rows["period"].max()]
    for load, group in last.groupby("load"):
        slope = np.polyfit(group["drive"], -group["v"] / settings.scales.v_unit_v, 1)[0]
        assert slope == pytest.approx(closure(float(str(load)), 1e-4, settings), abs=2e-6)


def test_sharing_noise_is_kt_over_c_of_the_capacitors_that_the_transient_shows(rig: Rig) -> None:
    """With a = C_M / (C_M + C_S) of the clocked transient, .noise must give kT C_M / (C_S (C_M + C_S))."""
    a, master = rig.proxy.hold.values["share"], rig.family.settings.capacitors.master_f
    expected = BOLTZMANN * 300.15 * a**2 / (master * (1 - a))
    assert rig.proxy.noise["share"].values["constant_v2"] == pytest.approx(expected, rel=0.02)


def reset_charge_variance(load_f: float, rig: Rig) -> float:
    """Variance (C^2) of the charge on the plates of the summing node in phase 1, from the loop's transfer functions.

    The op-amp, A(f) with two poles behind 50 ohm, drives s through the reset switch; s carries C_P, C_F and the load,
    the latter two in series with their switches. Sources: the op-amp's 5 nV/rtHz and 4kTR of the three switches.
    """
    part, switches = rig.family.settings.capacitors, rig.family.settings.switches
    f = np.geomspace(1e3, 1e11, 40_000)
    jw = 2j * np.pi * f
    gain = 1 / (1e-4 + 1j * f / 200e6) / (1 + 1j * f / 600e6)
    row_ohm = switches.r_on_ohm * rig.family.settings.plan.mean_f / load_f
    branches = [(part.parasitic_f, 0.0), (part.feedback_f, switches.r_on_ohm), (load_f, row_ohm)]
    y = [jw * c / (1 + jw * r * c) for c, r in branches]
    total, series = sum(y), 50.0 + switches.r_reset_ohm
    loop = 1 + gain + series * total  # v(s) (1 + A + R Y) = A en + e_reset + R i
    density = 25e-18 * np.abs(gain / loop * total / jw) ** 2
    density += 4 * BOLTZMANN * 300.15 * switches.r_reset_ohm * np.abs(total / jw / loop) ** 2
    for (_, r), branch in zip(branches, y, strict=True):
        s = series * branch / loop  # a source e in a branch pushes e * branch into s
        density += 4 * BOLTZMANN * 300.15 * r * np.abs((s * total - branch) / jw) ** 2
    return float(np.trapezoid(density, f))


def test_charge_frozen_by_the_reset_is_that_of_the_loop_of_op_amp_and_switches(rig: Rig) -> None:
    rows = rig.tables["noise"]
    for load, group in rows[rows["output"] == "charge"].groupby("load"):
        measured = float(np.trapezoid(group["density"] ** 2, group["frequency"])) * 1e-24
        assert measured == pytest.approx(reset_charge_variance(float(str(load)), rig), rel=0.03)


def test_auto_zero_takes_the_offset_out(rig: Rig) -> None:
    """20 mV at the op-amp, times a noise gain of 3, would be 0.37 units; auto-zeroed, only 1 / A0 of it is left."""
    lowered = rig.lower()
    skewed = [Deviations({"opamp.vos": 0.02}), *lowered.circuit.neurons[1:]]
    shifted = replace(lowered, circuit=replace(lowered.circuit, neurons=skewed))
    z = [low.run_equilibria(rig.x[:1], None, rig.bed, Progress()).z[0] for low in (lowered, shifted)]
    assert np.abs(z[1] - z[0]).max() < 2e-4


def test_network_rests_where_the_proxy_says_flat_folded_and_with_wires(rig: Rig) -> None:
    x = rig.x
    solved = rig.family.deploy(rig.proxy, rig.programmed).solve(torch.as_tensor(x))
    folded = rig.lower(r_line_ohm=0.0).run_equilibria(x, None, rig.bed, Progress())
    assert folded.ok.all()
    error = FULL * (folded.z - solved.reading.numpy())
    assert np.sqrt(np.mean(error**2)) < 0.02
    assert np.abs(error).max() < 0.05
    for r in (0.0, 5.0):
        flat = rig.lower(r_line_ohm=r).run_equilibria(x, None, rig.bed, Progress(), flat=True)
        assert np.abs(flat.z - folded.z).max() < 1e-6  # wires do not move settled charge
        assert flat.supply_w == pytest.approx(folded.supply_w, rel=1e-3)


def test_a_wrong_guess_does_not_move_the_equilibrium(rig: Rig) -> None:
    lowered = rig.lower()
    solved = lowered.deployed.solve(torch.as_tensor(rig.x))
    wrong = replace(solved, h=solved.h + 0.3 * torch.sign(solved.h))
    good, bad = (lowered.run_equilibria(rig.x, guess, rig.bed, Progress()) for guess in (solved, wrong))
    assert bad.ok.all()
    assert np.abs(good.z - bad.z).max() < 1e-5


def test_from_rest_the_clock_reaches_the_shot_fixed_point_in_the_predicted_period(rig: Rig) -> None:
    lowered = rig.lower()
    ends = lowered.run_equilibria(rig.x, None, rig.bed, Progress())
    settled = lowered.run_settling(rig.x, ends.z, 4e-3, rig.bed, Progress())
    predicted = lowered.deployed.settling_s(torch.as_tensor(rig.x), 4e-3)
    for one, t in zip(settled, predicted, strict=True):
        assert one.status == OK
        assert one.t_s == pytest.approx(t)
        assert one.end_error < 1e-6
        assert one.energy_j == pytest.approx(ends.supply_w[0] * one.t_s, rel=0.05)


def test_every_reading_on_the_way_is_the_proxys(rig: Rig) -> None:
    """2e-4 units from rest to the end; with a constant share of charge it would be 1e-3."""
    lowered = rig.lower()
    deployed, rest = lowered.deployed, np.full(STATES, -rig.proxy.hold.values["offset_h"])
    outcomes = rig.bed.run([lowered.periods_deck(row, rest, 12) for row in rig.x], Progress())
    u = deployed.drive(torch.as_tensor(rig.x))
    w, worst = torch.zeros_like(u), 0.0
    found = np.stack([lowered.readings(outcome.run.plots[0], 12) for outcome in outcomes])  # type: ignore[union-attr]
    for k in range(12):
        worst = max(worst, float(np.abs(found[:, k] - deployed.act.value(w).numpy()).max()))
        w = deployed.step(w, u)
    assert worst < 2e-4


def test_noise_of_the_loop(rig: Rig) -> None:
    lowered = rig.lower()
    measured = lowered.run_noise(rig.x[0], list(range(STATES)), rig.bed, Progress())
    predicted = lowered.deployed.noise_rms(torch.as_tensor(rig.x[:1]))[0]
    assert (predicted / measured) == pytest.approx(np.ones(STATES), abs=0.12)


def test_dac_power_is_what_the_sources_of_the_flat_deck_deliver(rig: Rig) -> None:
    lowered = rig.lower(r_line_ohm=0.0)
    circuit, x = lowered.circuit, rig.x[0]
    period = circuit.bench.settings.clock.period_s
    names = [f"vx{q}{sign}" for q in range(circuit.inputs) for sign in "pn"]
    deck = build_deck(
        "DAC power", circuit.flat(x), [Tran(5e-9, 2 * period, 5e-9)], save=[f"i({n})" for n in names],
        options={"reltol": 1e-4, "method": "gear"}, files=circuit.bench.cells.files,
    )  # fmt: skip
    plot = rig.bed.run([deck], Progress())[0].run.plots[0]  # type: ignore[union-attr]
    volts = np.array([s * v for v in circuit.levels(x) for s in (1, -1)])
    power = -sum(v * np.real(plot[f"i({n})"]) for n, v in zip(names, volts, strict=True))
    energy = np.concatenate([[0], np.cumsum(np.diff(plot.sweep) * (power[1:] + power[:-1]) / 2)])
    one = np.interp([period, 2 * period], plot.sweep, energy)
    assert (one[1] - one[0]) / period == pytest.approx(float(circuit.dac_power_w(x)), rel=0.02)


def test_a_die_moves_the_states_by_what_its_capacitors_and_cells_say(rig: Rig) -> None:
    die = rig.family.draw(0)
    assert rig.family.draw(0).neurons == die.neurons
    nominal = rig.lower().run_equilibria(rig.x, None, rig.bed, Progress())
    lowered = rig.lower(die)
    found = lowered.run_equilibria(rig.x, None, rig.bed, Progress())
    assert found.ok.all()
    moved = np.abs(found.z - nominal.z)
    assert 1e-3 < moved.max() < 0.15
    spread = lowered.circuit.c[rig.programmed > 0] / rig.programmed[rig.programmed > 0] - 1
    area = rig.programmed[rig.programmed > 0] / 2e-15
    assert np.std(spread * np.sqrt(area)) == pytest.approx(0.01, rel=0.35)  # some 30 capacitors


def test_readings_are_those_of_the_rows_when_the_masters_sample(rig: Rig) -> None:
    lowered = rig.lower()
    deck = lowered.periods_deck(rig.x[0], np.zeros(STATES), 2)
    plot = rig.bed.run([deck], Progress())[0].run.plots[0]  # type: ignore[union-attr]
    t = lowered.circuit.bench.settings.clock.read_s(1)
    z = (at(plot, "v(zp0)", t) - at(plot, "v(zn0)", t)) / 0.4
    assert lowered.readings(plot, 2)[1, 0] == pytest.approx(float(z))
