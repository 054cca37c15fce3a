"""Measurements of op-amps and OTAs: closed forms; what a model lacks is no number; windows, dies, supplies, loads."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from closed_forms_amplifier import A0, BUFFER, CM, GBW, GM, OTA, RAILED, STAGE, VOS, rows, write_amplifier
from closed_forms_blocks import measure, one

from analog_deq.characterise.blocks import die_normals
from analog_deq.characterise.campaign import Question, characterise
from analog_deq.characterise.corners import select_corners
from analog_deq.characterise.registry import measurements_of
from analog_deq.netlists.library import load_cell
from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice

QUIET = STAGE + BUFFER
"""A stage without noise and an ideal output."""


@pytest.fixture(scope="module")
def table(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return rows(simulator, tmp_path_factory.mktemp("rows"))


def test_every_quantity_has_a_closed_form(table: list[dict]) -> None:
    quantities = {q.id for role in ("opamp", "ota") for m in measurements_of(role) for q in m.quantities}
    assert quantities == {row["quantity"] for row in table}


def test_every_row_meets_its_closed_form(table: list[dict]) -> None:
    missed = [
        f"{row['quantity']} of {row['circuit']}: {row['measured']!r}, {row['formula']} = {row['expected']!r}"
        for row in table
        if not abs(row["measured"] - row["expected"]) <= row["tolerance"] * (abs(row["expected"]) or 1.0)
    ]
    assert not missed, "\n".join(missed)


def statuses(frame: pd.DataFrame, *quantities: str) -> set[str]:
    chosen = frame[frame["quantity"].isin(quantities)]
    assert set(chosen["quantity"]) == set(quantities)
    assert (chosen["value"].isna() == (chosen["status"] != "ok")).all()
    return set(chosen["status"])


def test_what_an_ideal_model_lacks_is_not_modelled(simulator: Simulator, tmp_path: Path) -> None:
    cell = write_amplifier(tmp_path, "bare", f"G1 0 n in_p in_n {GM}\n{QUIET}", as_a=("opamp", "in_p in_n out"))
    found = measure(cell, simulator, tmp_path / "runs")
    no_pins = {"not modelled: the cell has no supply pins"}
    assert statuses(found, "supply_current", "supply_power", "psrr_vdd", "psrr_vss") == no_pins
    assert statuses(found, "cmrr") == {"not modelled: the output does not depend on the common mode"}
    assert statuses(found, "input_high", "input_low") == {"not modelled: the common mode is rejected alike everywhere"}
    assert statuses(found, "swing_high") == {"not modelled: the output follows beyond 9.992 V"}
    assert statuses(found, "output_impedance") == {"not modelled: the output is an ideal voltage source"}
    assert statuses(found, "differential_resistance") == {"not modelled: no conductance between the inputs"}
    assert statuses(found, "differential_capacitance") == {"not modelled: no capacitance between the inputs"}
    assert all("nothing limits the slope" in s for s in statuses(found, "slew_rise", "slew_fall"))
    noise = ("input_noise_density", "noise_corner", "input_noise_rms", "noise_rms")
    assert statuses(found, *noise) == {"not modelled: no device of the netlist carries noise"}
    assert statuses(found, "offset") == {"not modelled: the model has neither a systematic nor a random offset"}
    assert statuses(found, "gain_margin") == {"undefined: the phase never reaches -180 degrees"}


def test_rails_that_feed_nothing_and_reach_nothing_are_not_modelled(simulator: Simulator, tmp_path: Path) -> None:
    body = f"G1 0 n in_p in_n {GM}\n{QUIET}\nC2 vdd vss 1p\nR2 n 0 1e9"
    cell = write_amplifier(tmp_path, "idle", body, as_a=RAILED, native=False)
    found = measure(cell, simulator, tmp_path / "runs")
    assert statuses(found, "supply_current", "supply_power") == {"not modelled: no current flows in the rails"}
    assert statuses(found, "psrr_vdd") == {"not modelled: the output does not depend on vdd"}
    assert statuses(found, "psrr_vss") == {"not modelled: the output does not depend on vss"}
    # R2 makes noise; the contract says that the netlist carries none
    assert statuses(found, "noise_rms") == {"not modelled: the contract says that the netlist is noiseless"}


def test_white_noise_has_no_corner(simulator: Simulator, tmp_path: Path) -> None:
    found = measure(write_amplifier(tmp_path, "pole"), simulator, tmp_path / "runs", ["noise"])
    assert statuses(found, "noise_corner") == {"not modelled: the noise is white down to 1 Hz"}


def test_a_slow_slew_makes_the_window_grow(simulator: Simulator, tmp_path: Path) -> None:
    """1.08 V at 0.02 V/us: a window of 8/GBW is over after a hundredth of it."""
    c_pole = GM / (2 * math.pi * GBW)
    body = f"B1 0 n i={2e4 * c_pole!r}*tanh({GM / (2e4 * c_pole)!r}*(v(in_p)-v(in_n)))\n"
    body += f"R1 n 0 1e9 noisy=0\nC1 n 0 {c_pole!r}\n{BUFFER}"
    found = measure(write_amplifier(tmp_path, "slow", body, as_a=RAILED), simulator, tmp_path / "runs")
    assert one(found, "slew_rise", "step=1.08V load=1pF") == pytest.approx(2e4, rel=1e-3)
    assert set(found.loc[found["quantity"] == "slew_fall", "stretch"]) == {256.0}
    assert set(found.loc[found["quantity"] == "dc_gain", "stretch"]) == {1.0}


def test_an_unstable_amplifier_has_no_settling_time(simulator: Simulator, tmp_path: Path) -> None:
    pole = f"1k\nC{{k}} {{k}} 0 {1 / (0.6e3 * math.pi * GBW)!r}\n"
    body = (
        f"B1 0 n i=1e-4*tanh({GM / 1e-4}*(v(in_p)-v(in_n)))\n{STAGE}E2 a 0 n 0 1\nR2 a b {pole.format(k='b')}"
        f"E3 c 0 b 0 1\nR3 c d {pole.format(k='d')}E1 out 0 d 0 1"
    )
    found = measure(write_amplifier(tmp_path, "ringing", body, as_a=RAILED), simulator, tmp_path / "runs")
    assert statuses(found, "settle_0p1", "settle_0p01", "overshoot") == {
        "undefined: the response rings on without decaying"
    }
    # at DC it is an amplifier all the same
    assert statuses(found, "swing_high") == {"not modelled: the output follows beyond 0.9892 V"}
    assert one(found, "phase_margin") < 0
    assert one(found, "gain_margin") < 0


def test_a_step_the_output_cannot_make_is_named_and_may_be_declared(simulator: Simulator, tmp_path: Path) -> None:
    body = f"G1 0 n in_p in_n {GM}\n{STAGE}B2 out 0 v=0.3*tanh(v(n)/0.3)"
    found = measure(write_amplifier(tmp_path, "small", body, as_a=RAILED), simulator, tmp_path / "runs")
    large = found[found["at"].str.contains("step=1.08V")]
    assert len(large) == 2 + 2 * 3
    assert all("a smaller step is declared by conditions.step" in s for s in large["status"])
    assert (found.loc[found["at"].str.contains("step=10mV"), "status"] == "ok").all()
    declared = write_amplifier(tmp_path, "small", body, as_a=RAILED, conditions={"step": '{ typ = 0.2, unit = "V" }'})
    again = measure(declared, simulator, tmp_path / "runs", ["step_response"])
    assert (
        again.loc[again["at"].str.contains("step=200mV") & (again["quantity"] == "overshoot"), "status"] == "ok"
    ).all()


@pytest.mark.parametrize(
    ("body", "quantity", "reason"),
    [
        (f"G1 0 n in_n in_p {GM}\n{QUIET}", "dc_gain", "in_p and in_n are swapped"),
        (f"G1 0 n in_p in_n {GM / 1e4}\n{QUIET}", "unity_gain", "the gain is below 1 at every frequency"),
    ],
)
def test_an_amplifier_that_is_none_is_refused(
    simulator: Simulator, tmp_path: Path, body: str, quantity: str, reason: str
) -> None:
    found = measure(write_amplifier(tmp_path, "wrong", body, as_a=RAILED), simulator, tmp_path / "runs")
    assert reason in "".join(statuses(found, quantity))
    assert not (found.loc[found["quantity"] == "swing_high", "status"] == "ok").any()


def test_each_die_has_the_offset_that_was_drawn(simulator: Simulator, tmp_path: Path) -> None:
    """40 dies fill one deck of 32 and part of another."""
    sigma, dies = 5e-3, 40
    cell = write_amplifier(tmp_path, "pole", sigma=sigma)
    found = measure(cell, simulator, tmp_path / "runs", ["static", "noise"], dies=dies)
    assert (found.loc[found["quantity"] == "offset", "status"] == "ok").all()
    drawn = found[(found["quantity"] == "offset") & (found["variant"] == "die")].sort_values("die")
    normals = [die_normals(cell, 3, die)["dm"] for die in range(dies)]
    expected = (VOS + sigma * np.array(normals)) / (1 - CM / 2 + 1 / A0)
    np.testing.assert_allclose(drawn["value"], expected, rtol=1e-6)
    quiet = found[(found["quantity"] == "input_noise_density") & (found["variant"] == "die")]
    assert len(quiet) == 2 * dies
    assert quiet["value"].nunique() < len(quiet)  # an offset leaves the noise of a linear stage alone
    assert np.ptp(quiet["value"]) < 1e-6 * quiet["value"].mean()


def test_inputs_stand_at_in_cm_and_the_output_at_mid_supply(simulator: Simulator, tmp_path: Path) -> None:
    """A single supply: offset 1 mV + (v_cm - 1.2 V)/10 at the inputs, 10 kohm from the output to ground."""
    body = f"B1 0 n i={GM}*(v(in_p)-v(in_n)+1e-3+0.1*(v(in_p)-1.2))\n{STAGE}{BUFFER}\nI1 vdd 0 1u"
    more = {"in_cm": '{ typ = 1.2, unit = "V" }'}
    cell = write_amplifier(tmp_path, "single", body, as_a=RAILED, conditions=more)
    toml = tmp_path / "single.toml"
    text = toml.read_text()
    for old, new in (
        ("min = 0.81, typ = 0.9, max = 0.99", "typ = 1.8"),
        ("min = -0.99, typ = -0.9, max = -0.81", "typ = 0"),
    ):
        assert old in text
        text = text.replace(old, new)
    toml.write_text(text)
    cell = load_cell(toml)
    found = measure(cell, simulator, tmp_path / "runs", ["static", "rejection"])
    # the output is 0.9 V above the netlist's ground, and A0 volts of it cost 1 V at the input
    assert one(found, "offset") == pytest.approx((1e-3 - 0.9 / A0) / (1 + 1 / A0), rel=1e-6)
    assert one(found, "supply_power") == pytest.approx(1.8e-6, rel=1e-6)
    gain = 20 * math.log10((1 + 0.1 / 2) / 0.1)  # half of a differential signal is at in_p
    assert one(found, "cmrr", "f=0") == pytest.approx(gain, rel=1e-6)


def test_an_ota_drives_the_load_it_is_given(simulator: Simulator, tmp_path: Path) -> None:
    """Twice the capacitor, half the bandwidth and the slew rate; a resistor to mid-supply takes gain."""
    c_pole = GM / (2 * math.pi * GBW)
    body = f"B1 0 out i=1e-4*tanh({GM / 1e-4}*(v(in_p)-v(in_n)))\nR1 out 0 {A0 / GM!r}"
    loads = {"one": c_pole, "two": 2 * c_pole}
    gbw, slew = {}, {}
    for name, farad in loads.items():
        more = {"load": f'{{ typ = {farad!r}, unit = "F" }}', "load_r": f'{{ typ = {A0 / GM!r}, unit = "ohm" }}'}
        found = measure(
            write_amplifier(tmp_path, name, body, as_a=OTA, conditions=more), simulator, tmp_path / "runs",
            ["step_response"],
        )  # fmt: skip
        assert one(found, "dc_gain") == pytest.approx(20 * math.log10(A0 / 2), rel=1e-6)
        gbw[name] = one(found, "gbw")
        rates = found[(found["quantity"] == "slew_rise") & (found["status"] == "ok")]
        assert "||2Mohm" in rates["at"].item()
        slew[name] = rates["value"].item()
    assert gbw["one"] == pytest.approx(GBW, rel=1e-4)
    assert gbw["two"] == pytest.approx(GBW / 2, rel=1e-4)
    assert slew["two"] == pytest.approx(slew["one"] / 2, rel=1e-3)


@pytest.mark.parametrize("name", ["opamp_macro", "opamp_boyle", "opamp_2stage", "ota_5t"])
def test_shipped_amplifiers_have_a_value_or_a_reason_at_their_corners(
    simulator: Simulator, tmp_path: Path, name: str
) -> None:
    cell = load_cell(name)
    found = measure(cell, simulator, tmp_path / "runs", corners="quick", dies=2)
    reasons = found.loc[found["status"] != "ok", ["quantity", "status"]]
    unexplained = reasons[~reasons["status"].str.startswith(("not modelled: ", "undefined: "))]
    assert unexplained.empty, unexplained
    assert found.groupby(["corner", "variant", "die"]).size().nunique() == 1  # every copy answers everything


def test_the_nominal_cell_leaves_its_curves(simulator: Simulator, tmp_path: Path) -> None:
    cell = load_cell("opamp_2stage")
    corners = tuple(select_corners(cell, "typ"))
    question = Question(cell, corners, measurements_of("opamp"), (0,), seed=1)
    curves = characterise(question, simulator=simulator, root=tmp_path).tables["curves"]
    assert set(curves["curve"]) >= {
        "open_loop_gain_db", "output_swing", "common_mode_error", "step_response", "psrr_vdd_db", "cmrr_db",
        "input_noise_density", "unity_noise_density", "output_impedance",
    }  # fmt: skip
    step = curves[(curves["curve"] == "step_response") & (curves["at"] == "step=1.08V load=1pF")]
    assert step["y"].max() == pytest.approx(0.54, rel=0.05)
    assert step["y"].min() == pytest.approx(-0.54, rel=0.1)
    assert (np.diff(step["x"]) > 0).all()
