"""Devices at other temperatures in ngspice: each cell's conductance, the whole network, and what calibration finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import conductances, design, plan, synapse_noise_rows

from analog_deq.calibration.measurement import Bench
from analog_deq.calibration.mismatch import READ_V
from analog_deq.calibration.synapse import SynapseCurve
from analog_deq.draws import Stream, generator
from analog_deq.fit.variation import fit_synapse
from analog_deq.netlists.device import device_statistics
from analog_deq.netlists.library import load_cell
from analog_deq.netlists.neuron import load_cells
from analog_deq.programming.design import program_die, read_die
from analog_deq.records import Progress
from analog_deq.resources import shipped
from analog_deq.spec import Cells
from analog_deq.spice.simulator import Simulator
from analog_deq.verify.dies import draw_die, read_dies
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sweeps import Bed, Sweep, run_sweeps

pytestmark = pytest.mark.spice

STATES, INPUTS = 4, 4
KELVIN = 273.15
LAW = '\n[temperature]\ntc1_per_k = -2e-3\ntc2_per_k2 = 5e-6\nreference_celsius = 20.0\nsource = "of this test"\n'


def q(celsius: float, tc1: float, tc2: float, reference: float) -> float:
    """Resistance over that at the reference."""
    return 1 + tc1 * (celsius - reference) + tc2 * (celsius - reference) ** 2


def warm_copy(cell: str, folder: Path) -> str:
    """A user's copy of a shipped cell, with a law of its own in its contract and nothing else changed."""
    source = shipped("netlists/cells")
    (folder / f"{cell}.cir").write_text((source / f"{cell}.cir").read_text())
    (folder / "mine.toml").write_text((source / f"{cell}.toml").read_text() + LAW)
    return str(folder / "mine.toml")


def network(simulator: Simulator, synapse: str, celsius: float, **changes: object) -> LoweredNetwork:
    g_max = load_cell(synapse).contract.state["g"].max
    wires = {"g_min_siemens": 0.4 * g_max, "g_max_siemens": g_max, "r_line_ohm": 5.0}
    point = {"temperature_celsius": celsius}
    d = design(STATES, INPUTS, cells={"synapse": synapse}, operating=point, crossbar=wires, **changes)
    pair = conductances(INPUTS + 1 + STATES, STATES, low=0.4 * g_max, high=g_max)
    return LoweredNetwork(d, load_cells(Cells(synapse=synapse)), *pair, simulator.klu, 10.0)


@pytest.mark.parametrize("celsius", [-40.0, 27.0, 85.0])
def test_poly_conducts_as_the_pdk_says(simulator, tmp_path: Path, celsius: float) -> None:
    """sky130_fd_pr__res_high_po: 514 ppm/K and 1.22 ppm/K^2 about 30 C; 3.2 % less at 85 C than at 27 C."""
    nominal = network(simulator, "poly_synapse", celsius)
    (read,), lost = read_dies([nominal], Bed(simulator, tmp_path, 1), Progress())
    assert not lost
    expected = q(27.0, 514e-6, 1.22e-6, 30.0) / q(celsius, 514e-6, 1.22e-6, 30.0)
    assert read.seen / np.stack([nominal.g_pos, nominal.g_neg]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("cell", ["pcm", "rram_cmo", "rram_hfox"])
def test_a_programmed_die_conducts_as_its_statistics_say_at_its_temperature(simulator, tmp_path, cell) -> None:
    spec = {"read_noise": True} if cell == "rram_hfox" else {"age_s": 3600.0}
    warm = network(simulator, warm_copy(cell, tmp_path), 85.0, programming=spec)
    own = device_statistics(warm.cells.synapse)
    (die,), lost = read_dies([draw_die(warm, 3)], Bed(simulator, tmp_path, 1), Progress())
    assert not lost
    programmed = program_die(own, np.stack([warm.g_pos, warm.g_neg]), warm.design.programming, warm.design.seed, 3)
    expected = read_die(programmed, warm.design.programming, generator(warm.design.seed, Stream.READ_NOISE, 3))
    expected = expected * q(27.0, -2e-3, 5e-6, 20.0) / q(85.0, -2e-3, 5e-6, 20.0)
    if cell == "rram_hfox":
        expected = expected * 4.3 * np.sinh(0.1 / 0.43)  # its chord at the voltage of the read
    assert die.seen == pytest.approx(expected, rel=1e-6)
    assert own.temperature_factor(85.0) == pytest.approx(0.986245 / 0.891125, rel=1e-9)


def test_a_warm_network_is_the_same_flat_and_reduced(simulator, tmp_path: Path) -> None:
    """A die of memristors at 85 C; at 27 C, and without the law, it rests elsewhere."""
    bed = Bed(simulator, tmp_path, 1)
    x = np.round(np.random.default_rng(8).uniform(-1, 1, (3, INPUTS)) * 127) / 127
    states = {}
    for name, synapse, celsius in (("warm", warm_copy("pcm", tmp_path), 85.0), ("without", "pcm", 85.0)):
        die = draw_die(network(simulator, synapse, celsius, neuron={"r_feedback_ohm": 40e3, "c_feedback_f": 5e-12}), 3)
        (known,), _ = read_dies([die], bed, Progress())
        sweep = Sweep(known, x, np.zeros((3, STATES)))
        flat, ours = (run_sweeps([sweep], bed, Progress(), flat=f, reltol=1e-9)[0] for f in (True, False))
        assert ours.ok.all()
        assert np.abs(ours.states.z - flat.states.z).max() < 1e-6
        states[name] = flat.states.z
    assert np.abs(states["warm"] - states["without"]).max() > 1e-2


def test_calibration_at_85_c_finds_the_conductances_of_85_c(simulator, tmp_path: Path) -> None:
    """What the proxy sees: every programmed level times the closed form, and thermal noise of that conductance."""
    d = network(simulator, "poly_synapse", 85.0).design
    bench, measurement = Bench(d, plan(), load_cells(d.cells)), SynapseCurve()
    levels = measurement.samples(bench)
    outcome = Bed(simulator, tmp_path, 1).run(list(measurement.decks(bench, levels)), Progress())[0]
    assert outcome.run is not None
    rows = measurement.tabulate(bench, levels, [outcome.run.plots])["synapse"]
    noise = pd.concat([synapse_noise_rows()])
    law = fit_synapse(rows, noise, READ_V, 85.0 + KELVIN, 1e-6)
    (seen,) = law.seen_arrays(np.array([5e-5, 7.7e-5]))
    factor = q(27.0, 514e-6, 1.22e-6, 30.0) / q(85.0, 514e-6, 1.22e-6, 30.0)
    assert law.linear
    assert seen == pytest.approx(np.array([5e-5, 7.7e-5]) * factor, rel=1e-6)
