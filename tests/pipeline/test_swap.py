"""Another op-amp in the same design: a shipped transistor one, and a copy in a folder of one's own, pins reordered."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from harness import DESIGN, EXIT_CODES, PLAN, STAGES, Finished, checks_of, write_design

from analog_deq.netlists.network import port_names
from analog_deq.resources import shipped
from analog_deq.spice.rawfile import read_plots

pytestmark = [pytest.mark.pipeline, pytest.mark.spice]


def write_own_opamp(folder: Path) -> Path:
    """The shipped macro op-amp under another name, its subcircuit's pins in another order."""
    folder.mkdir()
    cells = shipped("netlists/cells")
    text = (cells / "opamp_macro.cir").read_text()
    text, count = re.subn(r"(?m)^\.subckt opamp_macro inp inn out vdd vss", ".subckt mine vss out inn vdd inp", text)
    assert count == 1
    (folder / "mine.cir").write_text(text.replace(".ends opamp_macro", ".ends mine"))
    contract = (cells / "opamp_macro.toml").read_text()
    for old, new in (("opamp_macro.cir", "mine.cir"), ("opamp_macro", "mine")):
        contract = contract.replace(f'"{old}"', f'"{new}"')
    (folder / "mycell.toml").write_text(contract)
    return folder / "mycell.toml"


def equilibrium(folder: Path, design: str, image: int, invoke, runs: Path) -> np.ndarray:
    """Node voltages of the whole network at rest, from the deck of ``netlist`` run by ngspice alone."""
    (checkpoint,), (proxy,) = runs.glob("train/*/net.safetensors"), runs.glob("fit/*/proxy.json")
    out = folder / f"{design}-{image}" / "deck.cir"
    done = invoke(
        "netlist", "network", "--design", design, "--checkpoint", str(checkpoint), "--proxy", str(proxy),
        "--analysis", "equilibrium", "--image", str(image), "--out", str(out), cwd=folder,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    subprocess.run(
        ["ngspice", "-n", "-b", "deck.cir"],
        cwd=out.parent, env={**os.environ, "OMP_THREAD_LIMIT": "1"}, check=True, capture_output=True,
    )  # fmt: skip
    (plot,) = read_plots(out.parent / "out.raw")
    return np.real(plot.columns([f"v({name})" for name in port_names(8)]))[0]


def test_reordered_pins_make_the_same_network(tiny: Finished, tmp_path: Path, invoke) -> None:
    write_design(tmp_path)
    write_own_opamp(tmp_path / "cells")
    done = invoke("run", "tiny.toml", "--cell", "opamp=cells/mycell.toml", cwd=tmp_path)
    assert done.exit_code == tiny.returncode, done.stderr
    assert "reused" not in done.stderr
    # the same circuit, so the same trained network; its equilibria are those of the original
    own, shipped_one = checks_of(tmp_path), checks_of(tiny.folder)
    for key, check in shipped_one.items():
        assert own[key]["value"] == pytest.approx(check["value"], rel=1e-6, abs=1e-7), key
        assert own[key]["status"] == check["status"], key
    (tmp_path / "own.toml").write_text(DESIGN + '\n[cells]\nopamp = "cells/mycell.toml"\n')
    for image in (0, 7):
        volts = equilibrium(tmp_path, "own.toml", image, invoke, tmp_path / "runs")
        reference = equilibrium(tmp_path, "tiny.toml", image, invoke, tiny.folder / "runs")
        assert np.abs(reference).max() > 0.05
        np.testing.assert_allclose(volts, reference, rtol=0, atol=1e-9)


def test_a_transistor_opamp_runs_through(tiny: Finished, tmp_path: Path, invoke) -> None:
    """Its gain falls with its swing and its supply current is not of the macro's form, so two tolerances are wider."""
    write_design(tmp_path)
    (tmp_path / "plan.toml").write_text(f"{PLAN}\n[tolerances]\ngain = 2e-3\npower = 0.1\n")
    done = invoke("run", "tiny.toml", "--cell", "opamp=opamp_2stage", cwd=tmp_path)
    assert done.exit_code in EXIT_CODES.values(), done.stderr
    assert [stage for stage in STAGES if f"== {stage}\n" in done.stderr] == list(STAGES)
    checks, macro = checks_of(tmp_path), checks_of(tiny.folder)
    for key in ("net.fixed_point_err", "net.residual", "net.anchor_err", "net.converged", "net.settle_err",
                "net.settle_end", "net.noise_ratio", "net.gamma", "fit.extrapolation"):  # fmt: skip
        assert checks[key]["status"] == "pass", key
    # another circuit: its current mirrors draw what the macro's 200 uA do not
    assert not 0.95 < checks["net.energy"]["value"] / macro["net.energy"]["value"] < 1.05
