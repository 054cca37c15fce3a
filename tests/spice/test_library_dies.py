"""Dies drawn by the model library: a switch gives the dies of the mismatch section, and off means off."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analog_deq.characterise.campaign import Question, characterise
from analog_deq.characterise.check import check_cell
from analog_deq.characterise.corners import typical_corner
from analog_deq.characterise.registry import measurements_of
from analog_deq.errors import NetlistError, SpecError
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.library import load_cell
from analog_deq.resources import shipped
from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice
DIES = 12


def offsets(cell: Cell, simulator: Simulator, root: Path, dies: tuple[int, ...] = tuple(range(DIES))) -> pd.Series:
    """Offset of each die, by its number; the nominal one under -1."""
    asked = Question(cell, (typical_corner(cell),), measurements_of(cell.role, ("static",)), dies, seed=4)
    rows = characterise(asked, simulator=simulator, root=root).tables["quantities"]
    return rows[rows["quantity"] == "offset"].set_index("die")["value"]


def switched(folder: Path) -> Cell:
    """ota_sky130 with its mismatch turned on by the library's switch instead of its section."""
    source = shipped("netlists/cells")
    shutil.copy(source / "ota_sky130.cir", folder / "ota_sky130.cir")
    text = (source / "ota_sky130.toml").read_text()
    assert 'mode = "section"\nsuffix = "_mm"\n' in text
    switch = 'mode = "switch"\nswitch = { param = "MC_MM_SWITCH", on = 1, off = 0 }\n'
    (folder / "ota_sky130.toml").write_text(text.replace('mode = "section"\nsuffix = "_mm"\n', switch))
    return load_cell(folder / "ota_sky130.toml")


def test_section_and_switch_draw_the_same_dies(simulator: Simulator, tmp_path: Path) -> None:
    by_section = offsets(load_cell("ota_sky130"), simulator, tmp_path / "a")
    by_switch = offsets(switched(tmp_path), simulator, tmp_path / "b")
    np.testing.assert_array_equal(by_section.to_numpy(), by_switch.to_numpy())
    dies = by_section.drop(index=-1)
    assert dies.nunique() == DIES
    assert 0.3e-3 < dies.std() < 3e-3  # 0.94 mV over 1,000 dies


def test_a_die_alone_is_the_die_of_the_campaign(simulator: Simulator, tmp_path: Path) -> None:
    every = offsets(load_cell("ota_sky130"), simulator, tmp_path / "a")
    alone = offsets(load_cell("ota_sky130"), simulator, tmp_path / "b", dies=(7,))
    assert alone[7] == every[7]
    assert alone[-1] == every[-1]


def test_a_relative_library_may_not_reach_out_of_the_cells_folder(tmp_path: Path) -> None:
    folder = tmp_path / "cell"
    folder.mkdir()
    (tmp_path / "secret.spice").write_text(".param secret=1\n")
    (folder / "lib.spice").write_text(".lib tt\n.include ../secret.spice\n.model nch nmos level=1\n.endl tt\n")
    (folder / "a.cir").write_text("* a\n.subckt a in_p in_n out vdd vss\nM1 out in_p vss vss nch W=1u L=1u\n.ends\n")
    (folder / "a.toml").write_text(
        'schema = 1\n[cell]\nname = "a"\nrole = "opamp"\nnetlist = "a.cir"\nsubckt = "a"\n[pins]\nin_p = "in_p"\n'
        'in_n = "in_n"\nout = "out"\nvdd = "vdd"\nvss = "vss"\n[models]\nlib = "lib.spice"\n[corners]\n'
        'tt = { section = "tt" }\n[mismatch]\nmode = "none"\n[noise]\nnative = true\n'
    )
    with pytest.raises((NetlistError, SpecError), match=r"secret\.spice"):
        load_cell(folder / "a.toml")


def test_check_asks_for_the_mismatch_section_too(simulator: Simulator, tmp_path: Path) -> None:
    source = shipped("netlists/cells")
    shutil.copy(source / "ota_sky130.cir", tmp_path / "ota_sky130.cir")
    text = (source / "ota_sky130.toml").read_text().replace('suffix = "_mm"', 'suffix = "_nowhere"')
    (tmp_path / "ota_sky130.toml").write_text(text)
    with pytest.raises((SpecError, NetlistError), match="tt_nowhere"):
        check_cell(load_cell(tmp_path / "ota_sky130.toml"), simulator=simulator)
