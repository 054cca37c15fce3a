"""Decks for people: each runs with a bare ngspice, and says what the report says."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import Finished, checks_of
from helpers import Nodal, array_resistors

from analog_deq.pipeline.inputs import load_inputs, matching_checkpoint, matching_proxy
from analog_deq.proxy.mapping import quantise
from analog_deq.records import Plot
from analog_deq.spice.rawfile import read_plots
from analog_deq.train.checkpoint import read_checkpoint
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.verify.replay import Replay

pytestmark = [pytest.mark.pipeline, pytest.mark.spice]

STATES, Z_UNIT = 8, 0.2
NETWORK = ("network", "--checkpoint", "net.safetensors", "--proxy", "proxy.json")
ONE_THREAD = {**os.environ, "OMP_THREAD_LIMIT": "1"}


def simulate(work: Path, invoke, *arguments: str) -> tuple[Plot, ...]:
    """Plots of the deck that ``netlist`` writes, simulated by ngspice alone in the folder of the deck."""
    out = work / f"deck-{time.monotonic_ns()}" / "deck.cir"  # a deck adds to an out.raw that is already there
    done = invoke("netlist", *arguments, "--design", "tiny.toml", "--out", str(out), cwd=work)
    assert done.exit_code == 0, done.stderr
    ended = subprocess.run(
        ["ngspice", "-n", "-b", out.name], cwd=out.parent, env=ONE_THREAD, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "ANALOG_DEQ_DONE" in ended.stdout
    return read_plots(out.parent / "out.raw")


def readings(plot: Plot, point: int) -> np.ndarray:
    """z of every node, from the voltages of its two rows as they stand in the deck."""
    rows = np.real(plot.columns([f"v(z{sign}{i})" for i in range(STATES) for sign in "pn"]))[point]
    return (rows[0::2] - rows[1::2]) / (2 * Z_UNIT)


def replay_of(work: Path) -> Replay:
    inputs = load_inputs(work / "tiny.toml", {})
    net = matching_checkpoint(work / "net.safetensors", inputs, work / "proxy.json")
    return Replay(
        inputs.design, matching_proxy(work / "proxy.json", inputs), net, inputs.cells, inputs.task(), True, False
    )


def predicted(replay: Replay, image: int) -> np.ndarray:
    """The proxy's readings of a test image."""
    net = replay.checkpoint
    model = DeployedNetwork.nominal(replay.design, replay.proxy, net.g_pos, net.g_neg)
    return model.solve(replay.task.x_test[image : image + 1]).reading.numpy()[0]


@pytest.mark.parametrize(
    ("role", "vector"), [("opamp", "v(v0)"), ("activation", "v(zp0)"), ("driver", "v(zp0)"), ("synapse", "i(vg0)")]
)
def test_the_testbench_of_each_cell_runs(work: Path, invoke, role: str, vector: str) -> None:
    (plot, *_) = simulate(work, invoke, "cell", "--cell", role)
    assert np.isfinite(plot[vector]).all()
    assert np.abs(plot[vector]).max() > 0


def test_the_programmed_crossbar_carries_the_currents_of_its_conductances(work: Path, invoke) -> None:
    (plot,) = simulate(work, invoke, "crossbar", "--checkpoint", "net.safetensors")
    net = read_checkpoint(work / "net.safetensors")
    rows = [f"u{q}" for q in range(2 * 65)] + [f"z{sign}{i}" for i in range(STATES) for sign in "+-"]
    held = dict.fromkeys(rows, 0.1) | {f"s{i}": 0.0 for i in range(STATES)}
    # the deck drives the DAC lines behind their 10 ohm, and the state rows directly; the columns end in 0 V
    currents = Nodal(array_resistors(net.g_pos, net.g_neg, 2.0, 10.0)).currents(held)
    expected = [-currents[f"s{i}"] for i in range(STATES)]
    measured = [float(np.real(plot[f"i(vs{i})"][0])) for i in range(STATES)]
    np.testing.assert_allclose(measured, expected, rtol=1e-6)


def test_the_crossbar_of_the_calibration_runs(work: Path, invoke) -> None:
    plots = simulate(work, invoke, "crossbar")
    assert len(plots) == 2 * (2 + 2)  # one operating point for each driven row of 2 + 2 logical rows
    assert all(np.isfinite(plot["i(vs0)"]).all() for plot in plots)


@pytest.mark.parametrize("flat", [False, True], ids=["reduced", "flat"])
def test_the_network_settles_on_its_equilibrium(work: Path, tiny: Finished, invoke, flat: bool) -> None:
    image, more = 4, ("--flat",) if flat else ()
    (waveform,) = simulate(work, invoke, *NETWORK, "--image", str(image), *more)
    (rest,) = simulate(work, invoke, *NETWORK, "--image", str(image), "--analysis", "equilibrium", *more)
    end, equilibrium = readings(waveform, -1), readings(rest, 0)
    assert np.abs(readings(waveform, 0) - equilibrium).max() > 0.05  # it starts somewhere else
    np.testing.assert_allclose(end, equilibrium, rtol=0, atol=1e-4)
    samples = pd.read_csv(tiny.signoff / "samples.csv").set_index(["die", "trim", "image"])
    recorded = samples.loc[(-1, "none", image), "rms_error_percent_fs"]
    error = 100 * np.sqrt(np.mean((end - predicted(replay_of(work), image)) ** 2))
    assert error == pytest.approx(recorded, abs=100 * 1e-4)


def test_a_die_is_another_circuit(work: Path, invoke) -> None:
    (nominal,) = simulate(work, invoke, *NETWORK, "--analysis", "equilibrium")
    (die,) = simulate(work, invoke, *NETWORK, "--analysis", "equilibrium", "--die", "1")
    assert 1e-3 < np.abs(readings(die, 0) - readings(nominal, 0)).max() < 0.5


def by_hand(folder: Path, deck: str) -> str:
    """The line, kept beside a deck, that runs it without this package, from the folder of the sign-off."""
    place = (folder / deck).parent
    return f"cd {place} && {json.loads((place / 'replay.json').read_text())['run']}"


@pytest.mark.parametrize("check", ["net.fixed_point_max", "net.yield_mismatch"])
def test_a_deck_run_by_hand_gives_the_recorded_value_again(
    work: Path, tiny: Finished, tmp_path: Path, check: str
) -> None:
    """The deck is one ``.op`` from a cold start, the record a point of a sweep: alike to ngspice's own tolerance."""
    row = checks_of(tiny.folder)[check]
    folder = tmp_path / "report"
    subprocess.run(["cp", "-r", str(tiny.signoff), str(folder)], check=True)
    line = by_hand(folder, row["worst"]["deck"])
    subprocess.run(line, shell=True, env=ONE_THREAD, check=True, capture_output=True)
    (plot,) = read_plots(folder / Path(row["worst"]["deck"]).parent / "out.raw")
    replay, worst = replay_of(work), row["worst"]
    image = replay.task.x_test[worst["input"] : worst["input"] + 1]
    states = replay.network(worst["die"]).read_states(plot, quantise(image, replay.design.converters.dac_bits).numpy())
    error = 100 * (states.z[0] - predicted(replay, worst["input"]))
    trim = "none" if worst["die"] is None else "trimmed"
    samples = pd.read_csv(folder / "samples.csv").set_index(["die", "trim", "image"])
    sample = samples.loc[(-1 if worst["die"] is None else worst["die"], trim, worst["input"])]
    # what is left of the error is of the size of ngspice's own tolerance: Newton stops within 1e-6 of a node's 0.8 V,
    # which is 4e-6 of a state's 0.2 V
    assert np.sqrt(np.mean(error**2)) == pytest.approx(sample["rms_error_percent_fs"], rel=5e-4, abs=4e-4)
    assert states.supply_w[0] == pytest.approx(sample["supply_w"], rel=5e-4)
    if check == "net.fixed_point_max":
        assert np.abs(error).max() == pytest.approx(row["value"], rel=5e-4, abs=4e-4)


def test_every_worst_row_has_a_deck_that_runs(tiny: Finished, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    subprocess.run(["cp", "-r", str(tiny.signoff), str(folder)], check=True)
    lines = {by_hand(folder, check["worst"]["deck"]) for check in checks_of(folder).values() if check["replay"]}
    assert len(lines) >= 4
    for line in lines:
        ended = subprocess.run(line, shell=True, env=ONE_THREAD, capture_output=True, text=True, check=True)
        assert "ANALOG_DEQ_DONE" in ended.stdout, line
    assert len(list(folder.glob("decks/*/out.raw"))) == len(lines)
