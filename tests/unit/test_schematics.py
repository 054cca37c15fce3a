"""Schematics: every shipped cell has a drawing with its pins by name; one of the user's own is a box."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from analog_deq.netlists.library import load_cell
from analog_deq.netlists.neuron import load_cells
from analog_deq.resources import shipped
from analog_deq.spec import Cells, Neuron
from analog_deq.verify.report.schematics import draw_cell, schematics
from analog_deq.verify.report.schematics.cells import TEMPLATES

NEURON = Neuron(r_feedback_ohm=10e3, c_feedback_f=20e-12, c_input_f=0.2e-12, z_unit_v=0.2, v_unit_v=0.16)
OPTIONAL = {"vdd", "vss", "ref"}


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(e.itertext()).strip() for e in root.iter() if e.tag.endswith("text")]


@pytest.mark.parametrize("name", sorted(p.stem for p in shipped("netlists/cells").glob("*.toml")))
def test_a_shipped_cell_shows_its_pins(name: str) -> None:
    try:
        cell = load_cell(name)
    except Exception as error:
        pytest.skip(f"its model library is not here: {error}")
    drawing = draw_cell(cell.role, cell)
    assert drawing.svg is not None
    assert set(cell.contract.pins) - OPTIONAL <= set(texts(drawing.svg))
    assert cell.name in drawing.title


def test_templates_are_shipped_cells() -> None:
    assert set(TEMPLATES) <= {p.stem for p in shipped("netlists/cells").glob("*.toml")}


def test_a_cell_of_the_users_own_is_a_box_with_both_names_of_each_pin(tmp_path: Path) -> None:
    folder = shipped("netlists/cells")
    text = (folder / "opamp_2stage.toml").read_text()
    shutil.copy(folder / "opamp_2stage.cir", tmp_path / "opamp_2stage.cir")
    (tmp_path / "mine.toml").write_text(text)
    cell = load_cell(str(tmp_path / "mine.toml"))
    drawing = draw_cell("opamp", cell)
    assert drawing.svg is not None
    shown = set(texts(drawing.svg))
    for role, own in cell.contract.pins.items():
        assert {role, own} <= shown
    assert "outside the box" in drawing.caption


def test_network_and_neuron_state_the_designs_own_numbers() -> None:
    cells = load_cells(Cells(
        opamp="opamp_macro", activation="diffpair", driver="driver_macro", synapse="resistor_synapse"
    ))  # fmt: skip
    drawn = {d.name: d for d in schematics(cells.named, (64, 32, 10), NEURON)}
    assert list(drawn) == ["network", "neuron", "cell-opamp", "cell-activation", "cell-driver", "cell-synapse"]
    network, neuron = drawn["network"].svg or "", drawn["neuron"].svg or ""
    assert "194 rows" in network  # two each of 64 inputs, a bias and 32 states
    assert any("10 kΩ" in text for text in texts(neuron))
    assert any("20 pF" in text for text in texts(neuron))
    assert "200 ns" in drawn["neuron"].caption


def test_svg_follows_the_page_and_asks_for_nothing() -> None:
    drawing = draw_cell("synapse", load_cell("resistor_synapse"))
    svg = drawing.svg or ""
    assert "currentColor" in svg
    assert not re.search(r"#[0-9a-f]{6}|url\(|href|<style|<script|\bid=", svg)
    assert 'role="img"' in svg
    assert f'aria-label="{drawing.title}"' in svg
