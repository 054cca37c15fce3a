"""A cell of every role in place of the shipped one, by one line or one option, from its calibration to a verdict."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import brentq
from swapping import own_cell, run_swapped, scaled, write_small

from analog_deq.errors import SpecError
from analog_deq.netlists.library import load_cell
from analog_deq.netlists.model_library import resolve_library
from analog_deq.pipeline.inputs import load_inputs
from analog_deq.proxy.activation import numpy_activation
from analog_deq.tables import read_table
from analog_deq.train.checkpoint import read_checkpoint

pytestmark = [pytest.mark.pipeline, pytest.mark.spice]

THERMAL_V = 1.380649e-23 * 300.15 / 1.602176634e-19
SOUND = ("net.fixed_point_err", "net.fixed_point_max", "net.residual", "net.anchor_err", "net.converged",
         "net.settle_err", "net.settle_end", "net.die_fixed_point_err", "run.failed", "run.numeric")  # fmt: skip
"""Rows that say the proxy and ngspice agree on the circuit, whatever it computes."""


def assert_sound(checks: dict) -> None:
    assert {key: checks[key]["status"] for key in SOUND} == dict.fromkeys(SOUND, "pass")
    assert checks["net.fixed_point_err"]["value"] < 0.02  # % of full scale: a tenth of the limit


# ------------------------------------------------------------------ the integrator's place


def test_an_ota(tmp_path: Path, invoke) -> None:
    """Five transistors of 0.47 mS need a design of high resistance; its loop gain is low, and known."""
    design, plan = scaled(20e-9, 2e-6, 50.0)
    write_small(tmp_path, {**design, "[crossbar]": "v_unit_v = 0.1\n\n[crossbar]"}, plan)
    own_cell(tmp_path / "cells", "resistor_synapse", "ohms", {}, {"min = 1e-6": "min = 1e-9"})
    swapped = run_swapped(tmp_path, invoke, "--cell", "ota=ota_5t", "--cell", "synapse=cells/ohms.toml")
    assert_sound(swapped.checks)
    # gm = sqrt(kp W/L Itail), into the output conductance of both transistors and R_F, whose other end stands still
    gm, g_out = np.sqrt(110e-6 * 50 * 40e-6), (0.04 + 0.05) * 20e-6
    assert 1 / swapped.proxy.integrator.values["inverse_a0"] == pytest.approx(gm / (g_out + 1 / 500e3), rel=0.1)
    assert swapped.proxy.noise.values["inverse_a0"] == swapped.proxy.integrator.values["inverse_a0"]
    assert swapped.proxy.not_modelled == {}


def test_an_op_amp_on_foundry_models(tmp_path: Path, invoke) -> None:
    """Sky130 models: 10 uA op-amp of 15 MHz in a 2 us integrator; its 1/f noise is most of what the loop holds."""
    try:
        resolve_library("package:sky130/src/sky130_fd_pr/combined_models/continuous/sky130.lib.spice", tmp_path)
    except SpecError as error:
        pytest.skip(str(error))
    loads = "[1e-6, 3e-6, 6e-6, 12e-6, 20e-6]"
    design, plan = scaled(20e-9, 2e-6, 50.0)
    design |= {"20e-12": "4e-12", "[crossbar]": "v_unit_v = 0.1\n\n[crossbar]",
               "[verify]": "[verify]\ntransient_window_s = 120e-6"}  # fmt: skip
    plan |= {key: loads for key in plan if "e-3" in key}
    plan |= {"window_s = 3e-6": "window_s = 30e-6", "dies = 24\nblock = 24": "dies = 8\nblock = 8\npoints = 17"}
    plan |= {"[transfer]": "[transfer]\npoints = 81"}
    plan = {key: value.replace("load_siemens = 2e-05", "load_siemens = 8e-6") for key, value in plan.items()}
    write_small(tmp_path, design, plan)
    own_cell(tmp_path / "cells", "resistor_synapse", "ohms", {}, {"min = 1e-6": "min = 1e-9"})
    cells = ("--cell", "opamp=opamp_sky130", "--cell", "synapse=cells/ohms.toml")
    swapped = run_swapped(tmp_path, invoke, *cells)
    assert_sound(swapped.checks)
    noise = swapped.proxy.noise.values
    corner = noise["loop_flicker_v2"] / noise["en_v_per_rthz"] ** 2
    assert corner > 10e3
    assert swapped.checks["net.noise_ratio"]["status"] == "pass"
    # the deck of the worst sample runs alone: its models lie beside it, and the line starts ngspice as they need it
    row = swapped.checks["net.fixed_point_err"]
    place = (swapped.file("report.json").parent / row["worst"]["deck"]).parent
    line = json.loads((place / "replay.json").read_text())["run"]
    assert line == "ngspice -n -D ng_nomodcheck -D ngbehavior=hsa -b deck.cir"
    subprocess.run(line, shell=True, cwd=place, check=True, capture_output=True)
    assert (swapped.file("report.json").parent / row["worst"]["deck"]).with_name("out.raw").stat().st_size > 0


def test_an_integrator_with_feedback_of_its_own(tmp_path: Path, invoke) -> None:
    """9 kohm and 10 pF where the design says 10 kohm and 20 pF; one line of the design names it."""
    own_cell(tmp_path / "cells", "integrator_rc", "leaky", {"r=10e3 c=20e-12": "r=9e3 c=10e-12"},
             {"default = 10e3": "default = 9e3", "default = 20e-12": "default = 10e-12"})  # fmt: skip
    write_small(tmp_path, {"[crossbar]": '[cells]\nintegrator = "cells/leaky.toml"\n\n[crossbar]'})
    swapped = run_swapped(tmp_path, invoke)
    assert_sound(swapped.checks)
    proxy = swapped.proxy
    assert proxy.r_feedback_ohm == pytest.approx(9e3, rel=1e-4)
    assert proxy.tau.values["tau0_s"] == pytest.approx(9e3 * 10e-12, rel=0.02)
    assert set(proxy.cells) == {"integrator", "activation", "driver", "synapse"}
    # its own dr spreads the transresistance by 0.5 %; the design's R_F and C_F are not there to spread
    sigma = dict(zip(proxy.mismatch.names, np.sqrt(np.diag(proxy.mismatch.covariance)), strict=True))
    assert 0.0025 < sigma["r_feedback"] < 0.0085
    deck = max(swapped.decks("transfer and frequency response of mismatched neurons"), key=len)  # of calibration
    assert "Rf0 " not in deck
    assert "Cf0 " not in deck
    assert " dr=" in deck


def test_a_summer_gets_the_designs_capacitor(tmp_path: Path, invoke) -> None:
    write_small(tmp_path)
    swapped = run_swapped(tmp_path, invoke, "--cell", "summer=summer_tia")
    assert_sound(swapped.checks)
    assert swapped.checks["net.noise_ratio"]["status"] == "pass"
    assert swapped.proxy.r_feedback_ohm == pytest.approx(10e3, rel=1e-4)
    assert swapped.proxy.tau.values["tau0_s"] == pytest.approx(10e3 * 20e-12, rel=0.01)
    deck = max(swapped.decks("transfer and frequency response of mismatched neurons"), key=len)  # of calibration
    assert "Rf0 " not in deck
    capacitors = [float(line.split()[3]) for line in deck.splitlines() if line.startswith("Cf")]
    assert len(capacitors) == 24
    assert np.std(capacitors) / 20e-12 == pytest.approx(0.005, rel=0.6)  # the design's C_F, and its spread


# ------------------------------------------------------------------ activation and driver


def test_a_diode_limiter_has_one_output_and_no_supply(tmp_path: Path, invoke) -> None:
    write_small(tmp_path)
    swapped = run_swapped(tmp_path, invoke, "--cell", "activation=diode_limiter")
    checks = swapped.checks
    assert_sound(checks)
    # (in - v)/r = 2 is sinh(v / n Vt); the driver sends out +v and -v, so z = v / z_unit
    for h in (-3.0, -0.7, 0.2, 1.0, 3.5):
        v = brentq(lambda v, h=h: (h * 0.16 - v) / 1e3 - 0.84e-6 * np.sinh(v / (1.05 * THERMAL_V)), -1, 1)
        assert numpy_activation(swapped.proxy.activation, np.array([h]))[0] == pytest.approx(v / 0.2, abs=2e-3)
    # what it draws is not known, so neither is the energy: no zero, no pass, and the reason everywhere
    reason = "activation 'diode_limiter' has no supply current"
    energy = checks["net.energy"]
    assert (energy["status"], energy["value"], energy["interval"]) == ("not_modelled", None, None)
    assert f"not modelled: {reason}; of what is modelled: " in energy["detail"]
    assert swapped.proxy.power is None
    assert swapped.report["summary"]["not modelled, power"] == reason
    assert reason in swapped.file("report.html").read_text().replace("&#39;", "'")
    assert "not modelled" in swapped.file("signoff.md").read_text()
    assert pd.read_csv(swapped.file("samples.csv"))["supply_w"].isna().all()


def test_a_driver_of_ones_own(tmp_path: Path, invoke) -> None:
    """Other pin order, an output resistance of 40 ohm and no pole."""
    cells = tmp_path / "cells"
    netlist = {
        "in_p in_n out_p out_n vdd vss vos=0 fp=500e6 ro=10": "vss out_n in_n vdd in_p out_p vos=0 fp=500e6 ro=40"
    }
    own_cell(cells, "driver_macro", "buffer", netlist, {"default = 10.0": "default = 40.0"})
    write_small(tmp_path)
    swapped = run_swapped(tmp_path, invoke, "--cell", "driver=cells/buffer.toml")
    assert_sound(swapped.checks)
    assert swapped.proxy.driver.values["r_out_ohm"] == pytest.approx(40.0, rel=1e-6)
    assert swapped.checks["net.energy"]["value"] > 0


# ------------------------------------------------------------------ synapses


def test_a_synapse_whose_error_is_multiplied_in_is_read_where_it_is_not_what_was_programmed(tmp_path, invoke) -> None:
    """2 kohm in series: G = g / (1 + 2000 g), 17 % less at 100 uS; the array is made of what is there."""
    own_cell(tmp_path / "cells", "resistor_synapse", "access", {"R1 row col {1/(g*(1+dg))}":
             "R1 row m {1/(g*(1+dg))}\nR2 m col 2000"}, {})  # fmt: skip
    write_small(tmp_path)
    swapped = run_swapped(tmp_path, invoke, "--cell", "synapse=cells/access.toml")
    assert_sound(swapped.checks)
    law = swapped.proxy.synapse
    g = np.array([1e-6, 33e-6, 100e-6])
    assert law.seen(torch.as_tensor(g)).numpy() == pytest.approx(g / (1 + 2000 * g), rel=1e-4)
    assert law.linear
    assert len(swapped.decks("every synapse of one die, read back")) == 1


def test_a_cell_whose_spread_follows_its_state(tmp_path: Path, invoke) -> None:
    """PCM: absolute programming error and an error of the drift exponent; linear, so the reduced array holds."""
    design, plan = scaled(0.5e-6, 25e-6, 4.0)
    write_small(tmp_path, design, {**plan, "dies = 24\nblock = 24": "dies = 96\nblock = 96"})
    swapped = run_swapped(tmp_path, invoke, "--cell", "synapse=pcm")
    checks, spread = swapped.checks, swapped.proxy.conductance
    assert_sound(checks)
    (path,) = swapped.folder.glob("runs/calibrate/*/conductance.parquet")
    rows = read_table(path).valid
    for k, g in enumerate(spread.targets[1:], 1):  # the lowest is cut off at the device's floor
        sigma = float(load_cell("pcm").sigma("dg", g))
        n = int((rows["target"] == g).sum()) // 2
        assert spread.values[f"sigma_{k}"] == pytest.approx(sigma, rel=4 / np.sqrt(2 * n))
    assert (rows["measured"] > 0).all()
    assert rows.loc[rows["target"] == spread.targets[0], "measured"].min() == pytest.approx(1e-8, rel=1e-3)
    assert checks["net.die_err_trimmed"]["value"] > 2.0  # % of full scale: such synapses do spread
    # its 1/f noise is far above 4kTG: only the full netlist has it, and the proxy, which has not, is found out
    assert swapped.proxy.synapse.excess_noise > 10
    assert checks["net.noise_ratio"]["status"] == "fail"
    (noise,) = swapped.decks("output noise of the whole network")
    assert noise.count(" pcm g=") == 2 * 4 * (64 + 1 + 4)


def test_a_design_programs_ages_zeroes_and_scales_from_its_own_keys(tmp_path: Path, invoke) -> None:
    """A day after programming; the parameters of the flat dies carry the age, and the checkpoint the shares of R_F."""
    design, plan = scaled(0.5e-6, 25e-6, 4.0)
    keys = (
        "[programming]\nage_s = 86400.0\npasses = 5\ntolerance_siemens = 0.5e-6\n\n[autozero]\n\n"
        '[scaling]\nmode = "column"\n\n[crossbar]'
    )
    write_small(tmp_path, {**design, "[crossbar]": keys}, plan)
    swapped = run_swapped(tmp_path, invoke, "--cell", "synapse=pcm")
    assert_sound(swapped.checks)
    assert swapped.proxy.device is not None
    (path,) = swapped.folder.glob("runs/train/*/net.safetensors")
    checkpoint = read_checkpoint(path)
    share = checkpoint.r_feedback_share
    assert share is not None
    assert share.max() < 1.0
    assert share.min() < share.max()
    (read,) = swapped.decks("every synapse of one die, read back")
    assert read.count(" t=86400.0") == read.count(" pcm ") > 0
    (die,) = [deck for deck in swapped.decks("equilibria of the whole network") if "vos=" in deck][:1]
    offsets = [abs(float(value)) for value in re.findall(r"opamp_macro.*? vos=(\S+)", die)]
    assert max(offsets) < 5 * 97e-6  # what the auto-zero leaves of 1 mV

    write_small(tmp_path, {"[crossbar]": "[programming]\nage_s = 86400.0\n\n[crossbar]"})
    refused = invoke("run", "small.toml", cwd=tmp_path)
    assert refused.exit_code == 2
    assert "no statistics of its own" in refused.stderr


@pytest.mark.parametrize("cell", ["sinh_synapse", "rram_hfox"])
def test_a_synapse_that_is_not_linear_is_simulated_as_it_is(tmp_path: Path, invoke, cell: str) -> None:
    """i = g v0 sinh(v/v0), v0 0.43 V: 2.7 % apart between 0.1 V, where it is read, and 0.2 V. Flat when asked for."""
    design, plan = scaled(1e-6, 40e-6, 2.5)
    write_small(tmp_path, {**design, "r_line_ohm = 2.0": "r_line_ohm = 0.0"}, {**plan, "[0.0, 2.0]": "[0.0]"})
    flat = ("--flat",) if cell == "sinh_synapse" else ()
    swapped = run_swapped(tmp_path, invoke, "--cell", f"synapse={cell}", *flat)
    checks, law = swapped.checks, swapped.proxy.synapse
    assert ("equilibria on the reduced deck, cells as their own currents" in swapped.stderr) == (cell == "rram_hfox")

    def chord(v: float) -> float:
        return 0.43 / v * np.sinh(v / 0.43)

    if cell == "rram_hfox":  # the other has an access resistance
        assert law.bend == pytest.approx(chord(0.2) / chord(0.1) - 1, rel=1e-3)
        seen = law.seen(torch.tensor([1e-6, 20e-6], dtype=torch.float64)).numpy()
        assert seen / [1e-6, 20e-6] == pytest.approx(np.full(2, chord(0.1)), rel=1e-4)
    assert not law.linear
    decks = swapped.decks("equilibria of the whole network", kept=False)
    cells_in = sum(f" {cell} " in deck for deck in decks)
    if cell == "sinh_synapse":
        assert cells_in >= len(decks) - 1  # all but the anchor, which is the linear one
    else:
        assert cells_in == 1  # the anchor: it judges all the others
        assert checks["net.anchor_err"]["status"] == "pass"
        assert checks["net.anchor_err"]["value"] < 1e-4  # % of full scale
    # the proxy is linear, and the difference is shown as what it is
    assert 0.2 < checks["net.fixed_point_err"]["value"] < 2
    assert checks["net.fixed_point_err"]["status"] == "fail"
    if cell == "sinh_synapse":
        assert checks["net.anchor_err"]["status"] == "info"
        assert "bends by 2." in checks["net.anchor_err"]["detail"]
    for key in ("net.converged", "net.settle_end", "run.failed", "run.numeric"):
        assert checks[key]["status"] == "pass", key


# ------------------------------------------------------------------ what a cell leaves out

IDEAL = """\
* ideal: a voltage source of gain 1e5. No supply, no noise, no mismatch.
.subckt ideal p n o
E1 x 0 p n 1e5
R1 x o 1 noisy=0
.ends
"""

IDEAL_CONTRACT = """\
schema = 1
[cell]
name = "ideal"
role = "opamp"
netlist = "ideal.cir"
subckt = "ideal"
[pins]
in_p = "p"
in_n = "n"
out = "o"
[mismatch]
mode = "none"
[noise]
native = false
"""


def test_an_ideal_op_amp_is_no_zero(tmp_path: Path, invoke) -> None:
    """Neither its noise nor its supply nor its spread is judged; the rest of the sign-off is."""
    (tmp_path / "ideal.cir").write_text(IDEAL)
    (tmp_path / "ideal.toml").write_text(IDEAL_CONTRACT)
    write_small(tmp_path)
    swapped = run_swapped(tmp_path, invoke, "--cell", "opamp=ideal.toml")
    checks = swapped.checks
    assert_sound(checks)
    assert swapped.proxy.not_modelled == {
        "noise": "opamp 'ideal' carries no noise",
        "mismatch": "opamp 'ideal' (mode 'none') gives no mismatch to draw",
        "power": "opamp 'ideal' has no supply current",
    }
    for key in ("net.energy", "net.noise_ratio"):
        assert (checks[key]["status"], checks[key]["value"]) == ("not_modelled", None)
    for key in ("net.yield_mismatch", "net.yield_untrimmed", "net.die_err_trimmed"):
        assert "mismatch not modelled: opamp 'ideal'" in checks[key]["detail"]
        assert checks[key]["value"] is not None  # the other cells and the passives still spread
    assert swapped.exit_code == 4  # a limit on noise cannot be shown to hold
    offset = swapped.proxy.mismatch.names.index("vos_v")
    assert swapped.proxy.mismatch.covariance[offset][offset] < 1e-16


def test_a_design_beyond_its_synapse_is_refused_before_anything_runs(tmp_path: Path, invoke) -> None:
    write_small(tmp_path)
    done = invoke("run", "small.toml", "--cell", "synapse=rram_hfox", cwd=tmp_path)
    assert done.exit_code == 2
    assert "crossbar.g_max_siemens = 0.0001: synapse 'rram_hfox' holds 1e-06 to 4e-05 S" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_slots_and_their_roles(tmp_path: Path, invoke) -> None:
    """A summer keeps the design's C_F, an op-amp on the command line takes the place of the design's integrator."""
    write_small(tmp_path, {"[crossbar]": '[cells]\nintegrator = "summer_tia"\n\n[crossbar]'})
    shown = ("netlist", "cell", "--design", "small.toml", "--out", "bench/deck.cir")
    assert invoke(*shown, "--cell", "integrator", cwd=tmp_path).exit_code == 0
    deck = (tmp_path / "bench" / "deck.cir").read_text()
    assert ("\nRf0 " in deck, "\nCf0 " in deck, " summer_tia" in deck) == (False, True, True)
    absent = invoke(*shown, "--cell", "opamp", cwd=tmp_path)
    assert "one of integrator, activation, driver, synapse" in absent.stderr
    inputs = load_inputs(tmp_path / "small.toml", {"ota": "ota_5t"})
    assert list(inputs.cells.named) == ["opamp", "activation", "driver", "synapse"]
    assert inputs.cells.passives == ("r_feedback", "c_feedback")
    both = ("--cell", "opamp=opamp_macro", "--cell", "integrator=integrator_rc")
    refused = invoke("calibrate", "small.toml", *both, cwd=tmp_path)
    assert "takes the place of an op-amp; drop one of the two" in refused.stderr
    wrong = invoke("calibrate", "small.toml", "--cell", "opamp=summer_tia", cwd=tmp_path)
    assert "role is 'summer'; name a cell of role 'opamp' or 'ota'" in wrong.stderr
