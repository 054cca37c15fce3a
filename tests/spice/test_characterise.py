"""The campaign against real ngspice: repeatable to the bit, indifferent to workers, and fair to its failures."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analog_deq.characterise.campaign import CampaignResult, Question, characterise
from analog_deq.characterise.corners import select_corners
from analog_deq.characterise.registry import measurements_of
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.library import load_cell
from analog_deq.resources import shipped
from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice


def ask(cell: Cell, corners: str = "typ", names: tuple[str, ...] = ("open_loop",), dies: int = 0) -> Question:
    chosen = tuple(select_corners(cell, corners))
    return Question(cell, chosen, measurements_of(cell.role, names), tuple(range(dies)), sensitivity=dies > 0, seed=5)


def run(question: Question, simulator: Simulator, root: Path, **options: int) -> CampaignResult:
    return characterise(question, simulator=simulator, root=root, **options)


def test_a_nominal_run_repeats_bit_for_bit(simulator: Simulator, tmp_path: Path) -> None:
    question = ask(load_cell("opamp_2stage"), names=("open_loop", "step_response"))
    first = run(question, simulator, tmp_path / "a").tables
    again = run(question, simulator, tmp_path / "b").tables
    for name, table in first.items():
        pd.testing.assert_frame_equal(table, again[name], check_exact=True)
    assert (first["quantities"]["status"] == "ok").all()


def test_rows_do_not_depend_on_the_number_of_workers(simulator: Simulator, tmp_path: Path) -> None:
    question = ask(load_cell("opamp_2stage"), "quick", dies=40)
    one = run(question, simulator, tmp_path / "a", jobs=1)
    four = run(question, simulator, tmp_path / "b", jobs=4)
    pd.testing.assert_frame_equal(one.tables["quantities"], four.tables["quantities"], check_exact=True)
    assert one.failed == 0
    assert one.runs > 1


def test_a_finished_campaign_is_not_simulated_again(simulator: Simulator, tmp_path: Path) -> None:
    question = ask(load_cell("opamp_macro"), dies=3)
    first, again = run(question, simulator, tmp_path), run(question, simulator, tmp_path)
    assert (first.reused, again.reused) == (0, again.runs)
    pd.testing.assert_frame_equal(first.tables["quantities"], again.tables["quantities"], check_exact=True)


def test_corners_move_what_physics_says_they_move(simulator: Simulator, tmp_path: Path) -> None:
    """Level-1: at equal bias current gm goes with sqrt(KP) and KP with T^-1.5, so the cold amplifier is faster."""
    rows = run(ask(load_cell("opamp_2stage"), "full"), simulator, tmp_path).tables["quantities"]
    gbw = rows[rows["quantity"] == "gbw"].set_index("corner")["value"]
    assert len(gbw) == 45
    ratio = gbw["tt_m40C_1p8V"] / gbw["tt_125C_1p8V"]
    assert ratio == pytest.approx((398.15 / 233.15) ** 0.75, rel=0.05)


DIES = 8
BROKEN = 3


def fragile_cell(folder: Path) -> Cell:
    """opamp_macro whose netlist takes the root of a negative number for one die's offset: only that die fails."""
    from analog_deq.characterise.blocks import die_normals

    source = shipped("netlists/cells")
    for suffix in ("cir", "toml"):
        shutil.copy(source / f"opamp_macro.{suffix}", folder / f"opamp_macro.{suffix}")
    vos = 1e-3 * die_normals(load_cell("opamp_macro"), 5, BROKEN)["vos"]
    netlist = folder / "opamp_macro.cir"
    trap = f"Btrap trap 0 v = sqrt(abs({{vos-({vos!r})}}) - 1e-9)\n.ends"
    netlist.write_text(netlist.read_text().replace(".ends", trap, 1))
    return load_cell(folder / "opamp_macro.toml")


def test_one_failing_die_costs_itself_and_is_a_row(simulator: Simulator, tmp_path: Path) -> None:
    """Bisection isolates it: its row says why, every other die has its values."""
    question = ask(fragile_cell(tmp_path), dies=DIES)
    result = run(question, simulator, tmp_path / "runs")
    rows = result.tables["quantities"]
    dies = rows[(rows["variant"] == "die") & (rows["quantity"] == "gbw")].set_index("die")
    assert list(dies.index) == list(range(DIES))
    assert [die for die in dies.index if dies["status"][die] != "ok"] == [BROKEN]
    assert np.isnan(dies["value"][BROKEN])
    assert result.failed == 1


def test_a_cell_that_never_converges_is_a_counted_failure(simulator: Simulator, tmp_path: Path) -> None:
    source = shipped("netlists/cells")
    for suffix in ("cir", "toml"):
        shutil.copy(source / f"opamp_macro.{suffix}", tmp_path / f"opamp_macro.{suffix}")
    netlist = tmp_path / "opamp_macro.cir"
    netlist.write_text(netlist.read_text().replace(".ends", "Vloop1 lp 0 1\nVloop2 lp 0 2\n.ends", 1))
    result = run(ask(load_cell(tmp_path / "opamp_macro.toml")), simulator, tmp_path / "runs")
    rows = result.tables["quantities"]
    assert result.failed == 1
    assert len(rows) == 5
    assert rows["value"].isna().all()
    assert not rows["status"].str.startswith(("ok", "not modelled", "undefined")).any()
