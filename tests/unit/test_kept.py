"""Inputs kept beside a report: a copy that says the same wherever it lies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from analog_deq.errors import SchemaError
from analog_deq.pipeline.family_files import load_family_inputs
from analog_deq.pipeline.inputs import Inputs, load_inputs
from analog_deq.pipeline.kept import keep_inputs, read_kept
from analog_deq.resources import shipped
from analog_deq.spec import read_design
from analog_deq.verify.limits import read_limits

DESIGNS = shipped("data/designs")
LIMITS = read_limits(shipped("data/limits") / "default.toml")


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """A proxy and a network; only their bytes matter here."""
    (tmp_path / "p.json").write_text("{}")
    (tmp_path / "n.safetensors").write_bytes(b"\0\1")
    return tmp_path / "p.json", tmp_path / "n.safetensors"


def keep(inputs, made: tuple[Path, Path], folder: Path) -> Path:
    keep_inputs(inputs, *made, LIMITS, flat=True, ngspice="46", solver="klu", folder=folder)
    return folder


def own_opamp(folder: Path) -> Path:
    """A copy of the shipped op-amp under a name of its own, its subcircuit in an included file."""
    cells = shipped("netlists/cells")
    folder.mkdir()
    (folder / "inner.cir").write_text((cells / "opamp_macro.cir").read_text())
    (folder / "mine.cir").write_text(".include inner.cir\n")
    text = (cells / "opamp_macro.toml").read_text().replace('"opamp_macro.cir"', '"mine.cir"')
    assert "mine.cir" in text
    (folder / "mine.toml").write_text(text)
    return folder / "mine.toml"


def test_the_same_inputs_come_back_after_the_folder_moved(made, tmp_path: Path) -> None:
    contract = own_opamp(tmp_path / "cells")
    inputs = load_inputs(DESIGNS / "digits.toml", {"opamp": str(contract)})
    folder = keep(inputs, made, tmp_path / "signoff")
    shutil.rmtree(contract.parent)
    shutil.move(folder, tmp_path / "elsewhere")
    kept = read_kept(tmp_path / "elsewhere")
    assert isinstance(kept.inputs, Inputs)
    assert kept.inputs.hardware_sha256() == inputs.hardware_sha256()
    assert kept.inputs.cell_hashes() == inputs.cell_hashes()
    assert kept.inputs.plan == inputs.plan
    assert kept.limits == LIMITS
    same = {"cells": inputs.design.cells}
    assert kept.inputs.design.model_copy(update=same) == inputs.design
    assert (kept.flat, kept.ngspice, kept.solver) == (True, "46", "klu")
    assert (kept.proxy.read_bytes(), kept.checkpoint.read_bytes()) == (made[0].read_bytes(), made[1].read_bytes())


@pytest.mark.parametrize("path", sorted(DESIGNS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_design_comes_back(path: Path, made, tmp_path: Path) -> None:
    design = read_design(path)
    inputs = load_inputs(path, {}) if design.mapping == "opamp_integrator" else load_family_inputs(design, path)
    kept = read_kept(keep(inputs, made, tmp_path / "signoff"))
    assert kept.inputs.design == inputs.design
    assert kept.inputs.hardware_sha256() == inputs.hardware_sha256()


def test_what_was_altered_is_refused(made, tmp_path: Path) -> None:
    folder = keep(load_inputs(DESIGNS / "digits.toml", {}), made, tmp_path / "signoff")
    run = folder / "inputs" / "run.json"
    content = json.loads(run.read_text())
    content["cells"]["opamp"] = "0" * 64
    run.write_text(json.dumps(content))
    with pytest.raises(SchemaError, match=r"the cell of opamp is another one"):
        read_kept(folder)
    run.write_text("[]")
    with pytest.raises(SchemaError, match=r"run\.json.*not readable"):
        read_kept(folder)
