"""Measurements of synapses: each quantity against its closed form, and what a model lacks is never a number."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from closed_forms_synapse import BODIES, LEVELS, TC1, V0, V_READ, measure, one, rows, wan_sigma, write_cell

from analog_deq.characterise.blocks import die_normals
from analog_deq.characterise.campaign import Question, characterise
from analog_deq.characterise.corners import typical_corner
from analog_deq.characterise.measurements.linearity import law
from analog_deq.characterise.measurements.read_noise import in_band
from analog_deq.characterise.measurements.synapse import levels
from analog_deq.characterise.registry import measurements_of
from analog_deq.netlists.library import list_cells, load_cell
from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice

SHIPPED = [name for name in list_cells() if load_cell(name).role == "synapse"]


@pytest.fixture(scope="module")
def table(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return rows(simulator, tmp_path_factory.mktemp("rows"))


def test_every_quantity_has_a_closed_form(table: list[dict]) -> None:
    quantities = {q.id for m in measurements_of("synapse") for q in m.quantities}
    assert quantities == {row["quantity"] for row in table}


def test_every_row_meets_its_closed_form(table: list[dict]) -> None:
    missed = [
        f"{row['quantity']} of {row['circuit']}: {row['measured']!r}, {row['formula']} = {row['expected']!r}"
        for row in table
        if not abs(row["measured"] / row["expected"] - 1) <= row["tolerance"]
    ]
    assert not missed, "\n".join(missed)


def statuses(frame: pd.DataFrame, quantity: str) -> set[str]:
    chosen = frame[frame["quantity"] == quantity]
    assert len(chosen) > 0
    assert (chosen["value"].isna() == (chosen["status"] != "ok")).all()
    return set(chosen["status"])


def test_what_an_ideal_resistor_lacks_is_not_modelled(simulator: Simulator, tmp_path: Path) -> None:
    cell = write_cell(tmp_path, "plain", "R1 row col {1/(g+dg)}")
    found = measure(cell, simulator, tmp_path / "runs")
    assert statuses(found, "nonlinearity") == {"not modelled: the model is linear in voltage"}
    assert statuses(found, "asymmetry") == {"not modelled: the model's current is odd in voltage"}
    assert statuses(found, "offset_current") == {"not modelled: nothing in the model drives a current at 0 V"}
    assert statuses(found, "conductance_tc") == {"not modelled: temperature does not move the conductance"}
    assert statuses(found, "noise_corner") == {"not modelled: the noise is white down to 10 mHz"}
    for quantity in ("drift", "aged_conductance"):
        assert statuses(found, quantity) == {"not modelled: the contract has no [drift]"}
    for quantity in ("conductance", "conductance_error", "read_noise", "thermal_noise", "thermal_ratio", "read_power"):
        assert statuses(found, quantity) == {"ok"}


NOISE = ("read_noise", "noise_corner", "thermal_noise", "thermal_ratio")


@pytest.mark.parametrize(
    ("body", "noise", "reason"),
    [
        (BODIES["sinh"], "native = true", "no device of the netlist carries noise"),
        (BODIES["flicker"], "native = false", "the contract says that the netlist is noiseless"),
    ],
)
def test_a_noiseless_cell_has_no_noise_figures(
    simulator: Simulator, tmp_path: Path, body: str, noise: str, reason: str
) -> None:
    cell = write_cell(tmp_path, "silent", body, noise=noise)
    found = measure(cell, simulator, tmp_path / "runs", ["read_noise"])
    for quantity in NOISE:
        assert statuses(found, quantity) == {f"not modelled: {reason}"}


def test_declared_read_noise_stands_alone_where_the_netlist_has_none(simulator: Simulator, tmp_path: Path) -> None:
    extra = 'native = false\nextra = { kind = "relative_read", sigma = 0.013 }'
    cell = write_cell(tmp_path, "declared", BODIES["flicker"], noise=extra)
    found = measure(cell, simulator, tmp_path / "runs", ["read_noise"])
    assert found.loc[found["quantity"] == "read_noise", "value"].to_numpy() == pytest.approx(1.3, rel=1e-12)
    assert all(s.startswith("not modelled") for q in NOISE[1:] for s in statuses(found, q))


def test_a_level_that_does_not_conduct_is_undefined_and_the_others_are_measured(
    simulator: Simulator, tmp_path: Path
) -> None:
    body = f"B1 row col i={{max(g-2e-5,0)}}*{V0}*sinh(v(row,col)/{V0})"
    cell = write_cell(tmp_path, "gap", body, drift='[drift]\nparam = "t"\ntimes_s = [20.0, 30.0]')
    found = measure(cell, simulator, tmp_path / "runs")
    for quantity, why in {
        "nonlinearity": "the cell conducts no current",
        "conductance_tc": "the cell conducts no current",
        "drift": "the cell conducts no current at first",
    }.items():
        low = found[(found["quantity"] == quantity) & found["at"].str.startswith("g=10uS")]
        assert set(low["status"]) == {f"undefined: {why}"}
    assert one(found, "conductance_error", LEVELS[0]) == pytest.approx(-100.0)
    assert one(found, "drift", LEVELS[1], t="30s") == pytest.approx(1.0)
    assert one(found, "nonlinearity", LEVELS[1]) == pytest.approx(100 * (math.sinh(0.8) / 0.8 - 1), rel=1e-5)


def test_a_corner_beyond_the_sweep_and_a_single_time_are_undefined(simulator: Simulator, tmp_path: Path) -> None:
    loud = "R1 row col rf {1/(g+dg)}\n.model rf r kf=1.0 af=2"
    cell = write_cell(tmp_path, "loud", loud, drift='[drift]\nparam = "t"\ntimes_s = [20.0]')
    found = measure(cell, simulator, tmp_path / "runs", ["read_noise", "drift"])
    assert statuses(found, "noise_corner") == {"undefined: 1/f noise has not reached the white floor at 1 THz"}
    assert statuses(found, "drift") == {"undefined: drift.times_s has one time only"}
    assert statuses(found, "aged_conductance") == {"ok"}


def test_a_cell_of_few_levels_is_measured_at_each_and_no_other(tmp_path: Path) -> None:
    three = write_cell(tmp_path, "three", BODIES["resistor"], state='param = "g"\nlevels = 3')
    assert levels(three) == pytest.approx((1e-5, 5.5e-5, 1e-4))
    sixteen = write_cell(tmp_path, "sixteen", BODIES["resistor"], state='param = "g"\nlevels = 16')
    steps = [(g - 1e-5) / 6e-6 for g in levels(sixteen)]
    assert len(steps) == 5
    assert steps == pytest.approx(np.round(steps), abs=1e-9)
    assert (levels(sixteen)[0], levels(sixteen)[-1]) == (1e-5, 1e-4)


def test_the_state_may_be_a_parameter_of_any_name(simulator: Simulator, tmp_path: Path) -> None:
    write_cell(tmp_path, "named", BODIES["resistor"])
    renamed = {"g=1e-5": "gset=1e-5", "(g+dg)": "(gset+dg)", 'param = "g"': 'param = "gset"', "\ng = {": "\ngset = {"}
    for suffix in ("cir", "toml"):
        path = tmp_path / f"named.{suffix}"
        text = path.read_text()
        for old, new in renamed.items():
            text = text.replace(old, new)
        path.write_text(text)
    found = measure(load_cell(tmp_path / "named.toml"), simulator, tmp_path / "runs", ["conductance"])
    assert one(found, "conductance", LEVELS[3]) == pytest.approx(LEVELS[3], rel=1e-9)


def test_linearity_reaches_to_the_largest_read_voltage(simulator: Simulator, tmp_path: Path) -> None:
    write_cell(tmp_path, "wide", BODIES["sinh"])
    path = tmp_path / "wide.toml"
    path.write_text(path.read_text().replace(f"typ = {V_READ}", f"typ = {V_READ}, max = 0.4"))
    found = measure(load_cell(path), simulator, tmp_path / "runs", ["linearity"])
    assert one(found, "nonlinearity", LEVELS[0], v="400mV") == pytest.approx(
        100 * (math.sinh(0.4 / V0) * V0 / 0.4 - 1), rel=2e-6
    )
    power = LEVELS[0] * V0 * math.sinh(V_READ / V0) * V_READ
    assert one(found, "read_power", LEVELS[0], v="200mV") == pytest.approx(power, rel=1e-8)


def test_power_counts_what_leaks_before_the_column(simulator: Simulator, tmp_path: Path) -> None:
    """A leak from the row to ground costs power and is not part of the conductance the summing node sees."""
    cell = write_cell(tmp_path, "leaky", "R1 row col {1/(g+dg)}\nR2 row 0 1e5")
    found = measure(cell, simulator, tmp_path / "runs", ["conductance", "linearity"])
    assert one(found, "conductance", LEVELS[0]) == pytest.approx(LEVELS[0], rel=1e-9)
    assert one(found, "read_power", LEVELS[0]) == pytest.approx(V_READ**2 * (LEVELS[0] + 1e-5), rel=1e-9)


def test_an_offset_current_is_no_part_of_the_temperature_coefficient(simulator: Simulator, tmp_path: Path) -> None:
    cell = write_cell(tmp_path, "biased", BODIES["resistor"] + "\nI1 row col 1e-6")
    found = measure(cell, simulator, tmp_path / "runs", ["temperature_coefficient"])
    for g in LEVELS:
        assert one(found, "conductance_tc", g) == pytest.approx(-100 * TC1, rel=1e-5)


def test_each_die_strays_by_its_draw_times_the_sigma_of_the_level(simulator: Simulator, tmp_path: Path) -> None:
    cell = load_cell("rram_hfox")
    found = measure(cell, simulator, tmp_path, ["conductance"], dies=12)
    found = found[found["quantity"] == "conductance"]
    for g in (20.5e-6, 40e-6):
        at = found[found["at"] == f"g={g * 1e6:g}uS"]
        nominal = at.loc[at["variant"] == "nominal", "value"].item()
        strayed = at.loc[at["variant"] == "die", "value"].to_numpy() - nominal
        normals = np.array([die_normals(cell, 3, die)["dg"] for die in range(12)])
        np.testing.assert_allclose(strayed, normals * wan_sigma(g), rtol=1e-4)


def test_a_die_measured_alone_is_the_die_of_the_campaign(simulator: Simulator, tmp_path: Path) -> None:
    cell = load_cell("pcm")
    chosen = measurements_of("synapse")

    def ask(dies: tuple[int, ...], root: Path) -> pd.DataFrame:
        question = Question(cell, (typical_corner(cell),), chosen, dies, seed=3)
        found = characterise(question, simulator=simulator, root=root).tables["quantities"]
        found = found[(found["variant"] == "die") & (found["die"] == 37)]
        return found[["quantity", "at", "value", "status"]].reset_index(drop=True)

    alone = ask((37,), tmp_path / "a")
    assert len(alone) > 50
    assert (alone["status"] == "ok").sum() > 40
    pd.testing.assert_frame_equal(alone, ask(tuple(range(36, 40)), tmp_path / "b"), check_exact=True)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_synapses_carry_the_thermal_noise_of_their_conductance(
    simulator: Simulator, tmp_path: Path, name: str
) -> None:
    cell = load_cell(name)
    found = measure(cell, simulator, tmp_path)
    assert found["status"].str.startswith(("ok", "not modelled")).all(), found["status"].unique()
    for g in levels(cell):
        assert one(found, "thermal_ratio", g) == pytest.approx(1.0, rel=1e-4)
        assert one(found, "conductance", g) == pytest.approx(g, rel=1e-5)


def test_law_subtracts_nothing_but_takes_sign_and_size_apart() -> None:
    v = np.linspace(-0.2, 0.2, 41)
    nonlinearity, asymmetry = law(v, 1e-5 * v * (1 + 0.5 * v**2), 1e-5, "")
    assert nonlinearity.value == pytest.approx(2.0)
    assert asymmetry.status.startswith("not modelled")
    assert law(v, 1e-5 * v * (1 - 0.5 * v**2), 1e-5, "")[0].value == pytest.approx(2.0)
    one_sided = law(v, 1e-5 * v * np.where(v > 0, 1.1, 1.0), 1e-5, "")
    assert [x.value for x in one_sided] == pytest.approx([10.0, 100 * 0.1 / 2.1])


def test_in_band_is_exact_for_white_and_for_1_over_f() -> None:
    f = np.logspace(-2, 6, 81)
    assert in_band(f, np.full_like(f, 3.0), 0.5, 2.5e5) == pytest.approx(3 * math.sqrt(2.5e5 - 0.5), rel=1e-12)
    assert in_band(f, 1 / np.sqrt(f), 0.3, 3e5) == pytest.approx(math.sqrt(math.log(1e6)), rel=1e-12)
