"""Measurements of activations, drivers, integrators and summers: closed forms, and what a model lacks is no number."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from closed_forms_blocks import ROLES, measure, one, rows, write_cell

from analog_deq.characterise.blocks import die_normals
from analog_deq.characterise.measurement import Quantity
from analog_deq.characterise.registry import MEASUREMENTS, measurements_of
from analog_deq.netlists.library import list_cells, load_cell
from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice

BLOCKS = sorted({role for role, _ in ROLES.values()})
ONE_SIDED, RAILED = ("activation", "in out"), ("activation", "in out vdd vss")


def test_an_id_is_one_quantity_whatever_measures_it() -> None:
    known: dict[str, set[Quantity]] = {}
    for measurement in MEASUREMENTS:
        for q in measurement.quantities:
            known.setdefault(q.id, set()).add(q)
    assert not [(i, sorted(q.description for q in qs)) for i, qs in known.items() if len(qs) > 1]


@pytest.fixture(scope="module")
def table(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return rows(simulator, tmp_path_factory.mktemp("rows"))


def test_every_quantity_has_a_closed_form(table: list[dict]) -> None:
    quantities = {q.id for role in BLOCKS for m in measurements_of(role) for q in m.quantities}
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


@pytest.mark.parametrize(
    ("body", "native", "reason"),
    [
        ("B1 u 0 v=tanh(v(in))\nR1 u out 1k noisy=0\nC1 out 0 1p", True, "no device of the netlist carries noise"),
        ("B1 u 0 v=tanh(v(in))\nR1 u out 1k\nC1 out 0 1p", False, "the contract says that the netlist is noiseless"),
    ],
)
def test_a_noiseless_cell_has_no_noise_figures(
    simulator: Simulator, tmp_path: Path, body: str, native: bool, reason: str
) -> None:
    cell = write_cell(tmp_path, "silent", body, as_a=ONE_SIDED, native=native)
    found = measure(cell, simulator, tmp_path / "runs", ["noise"])
    assert statuses(found, "noise_density", "noise_rms", "noise_corner") == {f"not modelled: {reason}"}


def test_white_noise_has_no_corner(simulator: Simulator, tmp_path: Path) -> None:
    found = measure(write_cell(tmp_path, "tanh"), simulator, tmp_path / "runs", ["noise"])
    assert statuses(found, "noise_corner") == {"not modelled: the noise is white down to 1 Hz"}


def test_a_cell_without_rails_has_no_supply_figures(simulator: Simulator, tmp_path: Path) -> None:
    found = measure(write_cell(tmp_path, "tanh"), simulator, tmp_path / "runs", ["power", "dependence"])
    supply = ("supply_current", "supply_power", "slope_supply", "saturation_supply", "offset_supply")
    assert statuses(found, *supply) == {"not modelled: the cell has no supply pins"}


def test_rails_that_feed_nothing_and_move_nothing_are_not_modelled(simulator: Simulator, tmp_path: Path) -> None:
    body = "B1 u 0 v=0.2*tanh(v(in)/0.16)\nR1 u out 1k\nC1 out 0 1p\nC2 vdd vss 1p"
    found = measure(write_cell(tmp_path, "idle", body, as_a=RAILED), simulator, tmp_path / "runs")
    assert statuses(found, "supply_current", "supply_power") == {"not modelled: no current flows in the rails"}
    assert statuses(found, "slope_supply") == {"not modelled: the supply does not move the slope"}
    assert statuses(found, "saturation_supply") == {"not modelled: the supply does not move the saturation"}
    assert statuses(found, "slope_tempco") == {"not modelled: temperature does not move the slope"}
    assert statuses(found, "offset_tempco") == {"not modelled: temperature does not move the offset"}
    assert statuses(found, "input_resistance") == {"not modelled: no current flows into the input"}
    assert statuses(found, "input_capacitance") == {"not modelled: no capacitance at the input"}


def test_a_model_without_speed_has_a_transfer_and_no_settling(simulator: Simulator, tmp_path: Path) -> None:
    cell = write_cell(tmp_path, "instant", "B1 u 0 v=0.2*tanh(v(in)/0.16)\nR1 u out 1k", as_a=ONE_SIDED)
    found = measure(cell, simulator, tmp_path / "runs")
    assert one(found, "slope") == pytest.approx(0.2 / 0.16, rel=1e-6)
    (why,) = statuses(found, "bandwidth")
    assert why.startswith("not modelled: the model's response falls by less than 3 dB")
    unlimited = ("delay", "settle_0p1", "settle_0p01", "overshoot", "noise_rms")
    assert statuses(found, *unlimited) == {"not modelled: the model's bandwidth is infinite"}
    assert one(found, "noise_density", "f=1kHz") == pytest.approx(math.sqrt(4 * 1.380649e-23 * 300.15 * 1e3), rel=1e-4)


def test_an_output_that_does_not_move_or_cross_zero_is_undefined(simulator: Simulator, tmp_path: Path) -> None:
    stuck = measure(
        write_cell(tmp_path, "stuck", "V1 u 0 0.1\nR1 u out 1k\nR2 in 0 1k", as_a=ONE_SIDED),
        simulator, tmp_path / "runs",
    )  # fmt: skip
    assert statuses(stuck, "slope", "bandwidth") <= {
        "undefined: the output does not move",
        "undefined: the cell has no small-signal gain at rest",
        "undefined: the cell could not be ranged at this corner",
    }
    high = measure(
        write_cell(tmp_path, "high", "B1 u 0 v=1+0.2*tanh(v(in)/0.16)\nR1 u out 1k\nC1 out 0 1p", as_a=ONE_SIDED),
        simulator, tmp_path / "runs", ["transfer"],
    )  # fmt: skip
    assert statuses(high, "input_offset") == {"undefined: the output does not cross zero in the input range"}
    assert one(high, "output_offset") == pytest.approx(1.0)
    assert one(high, "tanh_deviation") < 1e-3


def test_an_unlimited_driver_has_no_swing_and_an_unstated_gain_no_error(simulator: Simulator, tmp_path: Path) -> None:
    found = measure(load_cell("driver_macro"), simulator, tmp_path, ["transfer", "rejection"])
    assert one(found, "gain") == pytest.approx(2.0, rel=1e-9)
    (swing,) = statuses(found, "swing_high", "swing_low")
    assert swing == "undefined: the gain changes by less than 1 % in the range of the sweep"
    assert all(s.startswith("not modelled: no path from") for s in statuses(found, "cmrr", "psrr_vdd", "psrr_vss"))


def test_a_slewing_cell_gets_a_longer_window(simulator: Simulator, tmp_path: Path) -> None:
    """dv/dt = SR tanh((x - v)/v0) settles at t = (v0/SR) ln(sinh(X/v0)/sinh(tolerance X/v0))."""
    v0, slew, step = 5e-3, 1e6, 0.25
    body = f"B1 0 n i={1e-12 * slew!r}*tanh((v(in)-v(n))/{v0})\nC1 n 0 1p\nE1 out 0 n 0 1"
    found = measure(
        write_cell(tmp_path, "slewing", body, as_a=ONE_SIDED), simulator, tmp_path / "runs", ["step_response"]
    )
    assert found.loc[found["quantity"] == "settle_0p1", "stretch"].iloc[0] >= 4
    for name, tolerance in (("settle_0p1", 1e-3), ("settle_0p01", 1e-4)):
        expected = v0 / slew * math.log(math.sinh(step / v0) / math.sinh(tolerance * step / v0))
        for edge in ("rise", "fall"):
            assert one(found, name, f"step=250mV {edge}") == pytest.approx(expected, rel=3e-3)


def test_a_steep_transfer_is_swept_in_finer_steps(simulator: Simulator, tmp_path: Path) -> None:
    body = "B1 u 0 v=0.2*tanh((v(in)-0.0123)/1e-3)\nR1 u out 1k\nC1 out 0 1p"
    found = measure(write_cell(tmp_path, "steep", body, as_a=ONE_SIDED), simulator, tmp_path / "runs", ["transfer"])
    assert found.loc[found["quantity"] == "input_offset", "stretch"].iloc[0] > 1
    assert one(found, "input_offset") == pytest.approx(0.0123, rel=1e-4)
    assert one(found, "tanh_deviation") < 0.01
    assert one(found, "saturation_high") == pytest.approx(0.2, rel=1e-6)


@pytest.mark.parametrize("ohm", [100.0, 1e4, 1e7])
def test_the_input_current_finds_its_own_range(simulator: Simulator, tmp_path: Path, ohm: float) -> None:
    body = f"B1 out 0 v=0.8*tanh(1.25e4*(v(ref)-v(in)))\nR1 in out {ohm}\nC1 in out {1e-7 / ohm!r}"
    cell = write_cell(tmp_path, "ranged", body, as_a=("integrator", "in out ref"))
    found = measure(cell, simulator, tmp_path / "runs", ["transfer", "integration"])
    assert one(found, "transresistance") == pytest.approx(-ohm / (1 + 1e-4), rel=1e-6)
    assert one(found, "time_constant") == pytest.approx(1e-7, rel=1e-4)
    assert 0.75 < one(found, "swing_high") < 0.8


def test_a_transistor_level_integrator_is_measured_where_it_works(simulator: Simulator, tmp_path: Path) -> None:
    """Its op-amp turns its sign when the input is driven beyond a rail: a second, false operating point."""
    netlist = load_cell("opamp_2stage").netlist.rstrip()
    body = f"X1 ref in out vdd vss opamp_2stage\nR1 in out 16k\nC1 in out 12.5p\n{netlist}"
    cell = write_cell(tmp_path, "folded", body, as_a=("integrator", "in out ref vdd vss"))
    found = measure(cell, simulator, tmp_path / "runs", corners="quick")
    assert set(found.loc[found["status"] != "ok", "quantity"]) == {"noise_corner"}, found["status"].unique()
    for corner in found["corner"].unique():
        assert one(found, "transresistance", corner=corner) == pytest.approx(-16e3, rel=2e-3)
        assert 0.5 < one(found, "swing_high", corner=corner) < 0.9
        assert one(found, "time_constant", corner=corner) == pytest.approx(200e-9, rel=0.02)
        assert abs(one(found, "tau_error", corner=corner)) < 1.0
        assert one(found, "integrating_capacitance", corner=corner) == pytest.approx(12.5e-12, rel=5e-3)


def test_a_single_supply_activation_rests_at_mid_supply(simulator: Simulator, tmp_path: Path) -> None:
    body = "B1 u 0 v=0.9+0.2*tanh((v(in)-0.91)/0.16)\nR1 u out 1k\nC1 out 0 1p\nI1 vdd vss 1u"
    cell = write_cell(tmp_path, "lifted", body, as_a=RAILED)
    toml = tmp_path / "lifted.toml"
    text = toml.read_text().replace(
        "vdd = { min = 0.81, typ = 0.9, max = 0.99", "vdd = { min = 1.8, typ = 1.8, max = 1.8"
    )
    toml.write_text(
        text.replace("vss = { min = -0.99, typ = -0.9, max = -0.81", "vss = { min = 0.0, typ = 0.0, max = 0.0")
    )
    found = measure(load_cell(toml), simulator, tmp_path / "runs", ["transfer", "step_response", "power"])
    assert cell.role == "activation"
    assert one(found, "input_offset") == pytest.approx(0.01, rel=1e-4)
    assert one(found, "output_offset") == pytest.approx(-0.2 * math.tanh(0.01 / 0.16), rel=1e-6)
    assert one(found, "delay", "step=90mV rise") == pytest.approx(1e-9 * math.log(2), rel=2e-3)
    assert one(found, "supply_power") == pytest.approx(1.8e-6, rel=1e-6)


def test_each_die_of_a_block_carries_its_own_draw(simulator: Simulator, tmp_path: Path) -> None:
    body = "B1 u 0 v=0.2*tanh((v(in)-{dm})/0.16)\nR1 u out 10k\nC1 out 0 1p"
    cell = write_cell(tmp_path, "drawn", body, as_a=ONE_SIDED, sigma=5e-3)
    found = measure(cell, simulator, tmp_path / "runs", ["transfer", "step_response", "noise"], dies=33)
    dies = found[found["variant"] == "die"]
    offset = dies[dies["quantity"] == "input_offset"].set_index("die")["value"]
    drawn = [5e-3 * die_normals(cell, 3, die)["dm"] for die in range(33)]
    np.testing.assert_allclose(offset.loc[list(range(33))], drawn, atol=2e-8)
    settled = dies[(dies["quantity"] == "settle_0p1") & (dies["at"] == "step=100mV rise")]["value"]
    np.testing.assert_allclose(settled, -1e-8 * math.log(1e-3), rtol=2e-3)
    density = dies[(dies["quantity"] == "noise_density") & (dies["at"] == "f=1kHz")]["value"]
    np.testing.assert_allclose(density, math.sqrt(4 * 1.380649e-23 * 300.15 * 1e4), rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in list_cells() if load_cell(name).role in BLOCKS])
def test_shipped_cells_are_measured_at_every_kind_of_corner(simulator: Simulator, tmp_path: Path, name: str) -> None:
    cell = load_cell(name)
    found = measure(cell, simulator, tmp_path, corners="quick", dies=2 if cell.contract.mismatch.params else 0)
    reasons = set(found.loc[found["status"] != "ok", "status"])
    expected = ("not modelled: ", "undefined: the contract states no gain", "undefined: the gain changes by less")
    assert all(reason.startswith(expected) for reason in reasons), reasons
    measured = {q.id for m in measurements_of(cell.role) for q in m.quantities}
    for corner in found["corner"].unique():
        assert set(found.loc[found["corner"] == corner, "quantity"]) == measured


def test_steps_converge_at_every_corner_of_a_transistor_cell(simulator: Simulator, tmp_path: Path) -> None:
    found = measure(load_cell("diffpair"), simulator, tmp_path, ["step_response"], corners="full")
    assert found["corner"].nunique() == 45
    assert set(found["status"]) == {"ok"}
