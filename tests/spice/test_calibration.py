"""Calibration in ngspice: measured figures are the circuit's, a failing die costs itself only, runs repeat exactly."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import design, loop_density, plan
from scipy import stats

from analog_deq.calibration.campaign import CampaignResult, run_campaign
from analog_deq.calibration.measurement import AbstractMeasurement, Bench
from analog_deq.calibration.mismatch import ConductanceMismatch, Die, NeuronMismatch
from analog_deq.calibration.noise import NoiseDensity
from analog_deq.calibration.settling import Settling
from analog_deq.calibration.supply import SupplyCurrent
from analog_deq.calibration.synapse import SynapseCurve
from analog_deq.calibration.synapse_noise import SynapseNoise
from analog_deq.calibration.transfer import Transfer
from analog_deq.netlists.neuron import load_cells
from analog_deq.resources import shipped
from analog_deq.spec import Cells
from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice

A0, GBW, VOS, R_OUT, EN = 1e4, 200e6, 1e-3, 10.0, 5e-9  # of the shipped cells


def bench(overrides: dict[str, str] | None = None, **changes: Any) -> Bench:
    return Bench(design(), plan(**changes), load_cells(Cells(), overrides))


def campaign(
    simulator: Simulator, root: Path, what: Bench, *measurements: AbstractMeasurement, jobs: int = 2
) -> CampaignResult:
    return run_campaign(what, simulator=simulator, root=root, jobs=jobs, timeout_s=20.0, measurements=measurements)


# --- figures --------------------------------------------------------------------------------------------------------


def test_the_noise_plateau_is_johnson_noise_and_the_noise_gain(simulator, tmp_path):
    loads = [0.1e-3, 0.4e-3, 2e-3]
    noise = {"loads_siemens": loads, "biases_h": [0.0], "start_hz": 1e3, "stop_hz": 1e6, "per_decade": 5}
    rows = campaign(simulator, tmp_path, bench(noise=noise), NoiseDensity()).tables["noise"]
    for load in loads:
        part = rows[(rows["load"] == load) & (rows["output"] == "v") & (rows["frequency"] < 5e3)]
        assert len(part) >= 3
        assert (part["density"] ** 2).to_numpy() == pytest.approx(float(loop_density(load, EN)), rel=5e-3)


def test_static_transfer_has_the_finite_gain_and_the_output_resistance(simulator, tmp_path):
    small = bench(transfer={"points": 41, "loads_siemens": [0.2e-3, 1e-3, 3e-3]})
    rows = campaign(simulator, tmp_path, small, Transfer()).tables["transfer"]
    middle = small.plan.transfer.points // 2
    for load, part in rows[rows["driver_load"] == 0].groupby("load"):
        near = part.iloc[middle - 5 : middle + 6]
        gain = np.polyfit(near["drive"], near["v"], 1)[0]
        assert gain == pytest.approx(-1 / (1 + (1 + 10e3 * load) / A0), rel=1e-4)
    base = rows[(rows["driver_load"] == 0) & (rows["load"] == 1e-3)]["zp"].to_numpy()
    for g in (0.5e-3, 2e-3):
        loaded = rows[rows["driver_load"] == g]["zp"].to_numpy()
        assert loaded == pytest.approx(base / (1 + R_OUT * g), rel=1e-6, abs=1e-9)
    assert (rows[["i_vdd", "i_vss"]] > 2.9e-4).all().all()  # 200 uA and 100 uA of idle current, from each rail


def test_settling_follows_the_pole_and_its_load(simulator, tmp_path):
    rows = campaign(simulator, tmp_path, bench(), Settling()).tables["settling"]
    assert (rows["status"] == "ok").all()
    pole = 10e3 * 20e-12 + (1 + 10e3 * rows["load"]) / (2 * np.pi * GBW)
    assert rows["tau"].to_numpy() == pytest.approx(pole, rel=0.01)
    expected = rows["delay"] - rows["tau"] * np.log(rows["tolerance"])
    assert rows["t_settle"].to_numpy() == pytest.approx(expected, rel=2e-3)
    assert (rows["overshoot"] < 1e-4).all()
    assert set(np.sign(rows["step"])) == {-1.0, 1.0}


# --- mismatch -------------------------------------------------------------------------------------------------------


def within_chi_square(values: np.ndarray, sigma: float) -> bool:
    """Sample deviation inside its two-sided 99.9 % interval around ``sigma``."""
    n = len(values)
    low, high = sigma * np.sqrt(stats.chi2.ppf([0.0005, 0.9995], n - 1) / (n - 1))
    return bool(low < np.std(values, ddof=1) < high)


def test_offset_spread_is_the_op_amp_offset_times_the_noise_gain(simulator, tmp_path):
    """200 dies: the spread as predicted from the contract, and each die as predicted from what was injected."""
    load = 1.5e-3
    what = bench(mismatch={"dies": 200, "block": 100, "points": 9, "load_siemens": load})
    result = campaign(simulator, tmp_path, what, NeuronMismatch())
    assert (result.samples, result.failed) == (200, 0)
    curves = result.tables["mismatch"]
    offset = curves[curves["drive"].abs() < 1e-12].set_index("die")["v"]
    assert within_chi_square(offset.to_numpy(), (1 + 10e3 * load) * VOS)
    assert not within_chi_square(offset.to_numpy(), (1 + 10e3 * load) * VOS * 1.25)
    dies = NeuronMismatch().samples(what)
    noise_gain = np.array([1 + 10e3 * (1 + die.deviations["r_feedback"]) * load for die in dies])
    vos = np.array([die.deviations["opamp.vos"] for die in dies])
    assert offset.sort_index().to_numpy() == pytest.approx(vos * noise_gain / (1 + noise_gain / A0), rel=1e-3, abs=1e-6)
    tau = result.tables["mismatch_dynamic"].set_index("die").sort_index()["tau"].to_numpy()
    r, c = (np.array([1 + die.deviations[key] for die in dies]) for key in ("r_feedback", "c_feedback"))
    pole = 10e3 * r * 20e-12 * c + (1 + 10e3 * r * load) / (2 * np.pi * GBW)
    assert tau / tau.mean() == pytest.approx(pole / pole.mean(), abs=5e-4)


def test_conductance_spread_is_the_contracts(simulator, tmp_path):
    what = bench(mismatch={"dies": 200})
    rows = campaign(simulator, tmp_path, what, ConductanceMismatch()).tables["conductance"]
    relative = (rows["measured"] / rows["target"] - 1).to_numpy()
    assert len(relative) == 800
    assert within_chi_square(relative, 0.02)
    injected = np.concatenate([die.errors["dg"] for die in ConductanceMismatch().samples(what)])
    assert relative == pytest.approx(injected, abs=1e-6)


def test_a_spread_that_follows_the_state_is_the_contracts(simulator, tmp_path):
    """HfOx: 0.7 to 2.3 uS, an absolute error of each cell, cut off at 0.1 uS, where the device ends."""
    levels = [1e-6, 10e-6, 20e-6, 40e-6]
    d = design(crossbar={"g_max_siemens": 40e-6})
    changes = {"mismatch": {"dies": 200, "conductances_siemens": levels}}
    what = Bench(d, plan(**changes), load_cells(Cells(synapse="rram_hfox")))
    rows = campaign(simulator, tmp_path, what, ConductanceMismatch()).tables["conductance"]
    chord = 4.3 * np.sinh(0.1 / 0.43)  # i = g v0 sinh(v/v0), read at 0.1 V
    injected = np.array([die.errors["dg"] for die in ConductanceMismatch().samples(what)])
    targets, measured = rows["target"].to_numpy(), rows["measured"].to_numpy()
    assert measured == pytest.approx((targets + injected.ravel()) * chord, rel=1e-5)
    for k, g in enumerate(levels):
        share = g / 40e-6
        sigma = 1e-6 * (0.348 + 16.030 * share - 43.853 * share**2 + 45.393 * share**3 - 16.815 * share**4)
        assert within_chi_square(injected[:, k], sigma), g
        assert not within_chi_square(injected[:, k], 1.4 * sigma), g
    assert (injected[:, 0] + 1e-6).min() == pytest.approx(1e-7)
    assert (injected[:, 0] <= -0.9e-6 * (1 - 1e-9)).sum() > 5  # a tenth of them at 1 uS


# --- single cells -----------------------------------------------------------------------------------------------------


def test_the_read_law_of_a_synapse_is_swept_to_full_scale(simulator, tmp_path):
    d = design(crossbar={"g_max_siemens": 40e-6})
    what = Bench(d, plan(), load_cells(Cells(synapse="rram_hfox")))
    rows = campaign(simulator, tmp_path, what, SynapseCurve()).tables["synapse"]
    assert (rows["g"].min(), rows["g"].max(), rows["g"].nunique()) == (1e-6, pytest.approx(40e-6), 33)
    assert (rows["v"].min(), rows["v"].max()) == pytest.approx((-0.2, 0.2))
    assert rows["current"].to_numpy() == pytest.approx(
        rows["g"] * 0.43 * np.sinh(rows["v"] / 0.43), rel=1e-5, abs=1e-15
    )
    plain = campaign(simulator, tmp_path / "r", bench(), SynapseCurve()).tables["synapse"]
    assert plain["current"].to_numpy() == pytest.approx(plain["g"] * plain["v"], rel=1e-9, abs=1e-18)


def test_the_noise_of_a_synapse_is_johnson_noise_or_more(simulator, tmp_path):
    plain = campaign(simulator, tmp_path, bench(), SynapseNoise()).tables["synapse_noise"]
    thermal = np.sqrt(4 * 1.380649e-23 * 300.15 * plain["g"])
    assert plain["density"].to_numpy() == pytest.approx(thermal, rel=1e-5)
    d = design(crossbar={"g_max_siemens": 25e-6})
    what = Bench(d, plan(), load_cells(Cells(synapse="pcm")))
    rows = campaign(simulator, tmp_path / "pcm", what, SynapseNoise()).tables["synapse_noise"]
    top = rows[(rows["g"] == rows["g"].max()) & (rows["frequency"] < 1.01e3)]
    excess = (0.0088 * 25e-6 * 0.1) ** 2 / top["frequency"]  # q^2 i^2 / f at full scale, read at 0.1 V
    expected = np.sqrt(4 * 1.380649e-23 * 300.15 * 25e-6 + excess)
    assert top["density"].to_numpy() == pytest.approx(expected, rel=0.01)


def test_each_cell_is_seen_to_draw_its_own_current_or_none(simulator, tmp_path):
    what = bench({"activation": "diode_limiter"})
    rows = campaign(simulator, tmp_path, what, SupplyCurrent()).tables["supply"]
    assert list(rows["slot"].unique()) == ["opamp", "activation", "driver"]
    largest = rows.groupby("slot")[["i_vdd", "i_vss"]].max()
    assert largest.loc["activation"].tolist() == [0.0, 0.0]
    still = rows[rows["drive"].abs() < 1e-12].set_index("slot")
    assert still.loc["opamp", "i_vdd"] == pytest.approx(200e-6, rel=1e-3)
    assert still.loc["driver", "i_vss"] == pytest.approx(100e-6, rel=1e-3)
    pair = campaign(simulator, tmp_path / "pair", bench(), SupplyCurrent()).tables["supply"]
    tail = pair[pair["slot"] == "activation"]
    assert tail["i_vdd"].to_numpy() == pytest.approx(40e-6, rel=1e-3)


# --- a sample that fails --------------------------------------------------------------------------------------------

TRIP = """
* With trip = 1 the source is the root of a negative number wherever xt is, so there is no operating point.
Bt 0 xt I=1e-3*sqrt(1-2*{trip}+0*v(xt))
Rt xt 0 1e3
"""

TRIP_PARAM = """
[params.trip]
description = "1 makes the cell's operating point impossible"
unit = "1"
default = 0.0
min = 0.0
max = 1.0
"""


@pytest.fixture
def tripping(tmp_path: Path) -> str:
    """The shipped op-amp with a part that cannot converge when told so."""
    cells = shipped("netlists/cells")
    netlist = (cells / "opamp_macro.cir").read_text()
    netlist = netlist.replace("sw=0.7\n", "sw=0.7 trip=0\n", 1).replace(".ends", f"{TRIP.strip()}\n.ends")
    contract = (cells / "opamp_macro.toml").read_text().replace("[params.vos]", TRIP_PARAM.strip() + "\n\n[params.vos]")
    folder = tmp_path / "cell"
    folder.mkdir()
    (folder / "opamp_macro.cir").write_text(netlist)
    (folder / "opamp.toml").write_text(contract)
    return str(folder / "opamp.toml")


class Tripped(NeuronMismatch):
    """Dies of which some have an impossible op-amp."""

    def __init__(self, *indices: int) -> None:
        self.indices = indices

    def samples(self, bench: Bench) -> list[Die]:
        return [
            dataclasses.replace(die, deviations={**die.deviations, "opamp.trip": 1.0})
            if die.index in self.indices
            else die
            for die in super().samples(bench)
        ]


def test_one_die_that_does_not_converge_costs_itself_only(simulator, tmp_path, tripping):
    what = bench({"opamp": tripping}, mismatch={"dies": 8, "block": 8, "points": 9})
    clean = campaign(simulator, tmp_path / "clean", what, NeuronMismatch())
    assert (clean.failed, clean.runs) == (0, 1)
    result = campaign(simulator, tmp_path / "tripped", what, Tripped(5))
    assert (result.samples, result.failed) == (8, 1)
    assert result.runs == 1 + 2 + 2 + 2  # 8 -> 4 + 4 -> 2 + 2 -> 1 + 1
    for name, values in (("mismatch", ["v", "zp", "zn"]), ("mismatch_dynamic", ["tau", "delay"])):
        rows, reference = result.tables[name], clean.tables[name]
        bad = rows[rows["status"] != "ok"]
        assert bad["die"].tolist() == [5]  # one failed row, never a missing one
        assert bad["status"].iloc[0].split(":")[0] in {"convergence", "simulation"}
        assert bad[values].isna().all().all()
        assert rows["die"].drop_duplicates().tolist() == list(range(8))
        kept, same = rows[rows["die"] != 5], reference[reference["die"] != 5]
        assert kept[values].to_numpy() == pytest.approx(same[values].to_numpy(), rel=1e-4, abs=1e-7)


def test_every_die_may_fail(simulator, tmp_path, tripping):
    what = bench({"opamp": tripping}, mismatch={"dies": 8, "block": 4, "points": 9})
    result = campaign(simulator, tmp_path, what, Tripped(*range(8)))
    assert result.failed == 8
    assert result.tables["mismatch"]["die"].tolist() == list(range(8))
    assert (result.tables["mismatch_dynamic"]["status"] != "ok").all()


# --- repeats --------------------------------------------------------------------------------------------------------


def test_results_are_equal_to_the_bit_whatever_the_number_of_jobs(simulator, tmp_path):
    changes = {"mismatch": {"dies": 12, "block": 5, "points": 9}, "transfer": {"points": 21}}
    measurements = (Transfer(), NeuronMismatch(), ConductanceMismatch())
    alone = campaign(simulator, tmp_path / "a", bench(**changes), *measurements, jobs=1)
    together = campaign(simulator, tmp_path / "b", bench(**changes), *measurements, jobs=2)
    assert (alone.reused, together.reused) == (0, 0)
    assert list(alone.tables) == list(together.tables)
    for name, rows in alone.tables.items():
        pd.testing.assert_frame_equal(rows, together.tables[name], check_exact=True)
    again = campaign(simulator, tmp_path / "a", bench(**changes), *measurements, jobs=2)
    assert again.reused == again.runs == alone.runs
    for name, rows in alone.tables.items():
        pd.testing.assert_frame_equal(rows, again.tables[name], check_exact=True)
