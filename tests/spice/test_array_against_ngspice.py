"""The exact array against the flat deck in ngspice: every wire, end, short, open cell, selector and bend, to 1e-9."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from analog_deq.array import column_currents, in_series, pair_volts, signed_pairs, sinh_read, terminal_admittance
from analog_deq.cli import cli
from analog_deq.netlists.array import ArrayParameters, flat_array
from analog_deq.netlists.deck import build_deck
from analog_deq.records import Alter, Op
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice

OPTIONS: dict[str, float | str | bool] = {"reltol": 1e-12, "abstol": 1e-20, "vntol": 1e-15, "gmin": 1e-20}
LIMIT = 1e-9


def simulated(simulator: Simulator, folder: Path, parameters: ArrayParameters, volts: np.ndarray) -> np.ndarray:
    """Column currents (inputs, columns) from the flat deck, one .op for each input."""
    columns = parameters.g.shape[1]
    commands: list[Alter | Op] = []
    for vector in volts:
        commands += [Alter(tuple((f"vw{q}", float(v)) for q, v in enumerate(vector))), Op()]
    names = [f"i(vs{i})" for i in range(columns)]
    deck = build_deck("flat array", flat_array(parameters), commands, save=names, options=OPTIONS)
    plots = run_deck(deck, simulator=simulator, folder=folder, timeout_s=60.0).plots
    return np.array([[float(np.real(plot[name][0])) for name in names] for plot in plots])


def conductances(rows: int, columns: int, seed: int, opened: float = 0.0, shorted: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    g = np.exp(rng.uniform(np.log(1e-6), np.log(1e-4), (rows, columns)))
    g[rng.random(g.shape) < opened] = 0.0
    g[rng.random(g.shape) < shorted] = np.inf
    return g


CASES: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "word and bit lines differ": (conductances(9, 5, 1), {"r_word_ohm": 3.0, "r_bit_ohm": 11.0}),
    "no wires, sources and senses": (conductances(4, 6, 2), {"r_source_ohm": 50.0, "r_sense_ohm": 7.0}),
    "word lines only": (conductances(6, 4, 3), {"r_word_ohm": 20.0}),
    "bit lines only, both ends": (conductances(6, 4, 4), {"r_bit_ohm": 20.0, "both_bit_ends": True}),
    "all four ends": (
        conductances(7, 8, 5),
        {"r_word_ohm": 5.0, "r_bit_ohm": 2.0, "r_source_ohm": 10.0, "r_sense_ohm": 1.0, "both_word_ends": True,
         "both_bit_ends": True},
    ),
    "opens and shorts": (
        conductances(8, 8, 6, opened=0.2, shorted=0.1), {"r_word_ohm": 5.0, "r_bit_ohm": 2.0, "r_source_ohm": 10.0}
    ),
    "64 by 64": (conductances(64, 64, 7), {"r_word_ohm": 1.0, "r_bit_ohm": 2.0}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_column_currents(simulator, tmp_path, case):
    g, wiring = CASES[case]
    volts = np.random.default_rng(0).uniform(-0.2, 0.2, (3, len(g)))
    found = column_currents(torch.as_tensor(g), torch.as_tensor(volts), **wiring).numpy()
    expected = simulated(simulator, tmp_path, ArrayParameters(g, **wiring), volts)
    assert np.abs(found / expected - 1).max() <= LIMIT


def test_every_terminal_current(simulator, tmp_path):
    """Sources and senses all at a voltage of their own: the whole admittance, not only the transfer."""
    g, wiring = CASES["all four ends"]
    rows, columns = g.shape
    volts = np.random.default_rng(1).uniform(-0.2, 0.2, rows + columns)
    values = [(f"vw{q}", float(v)) for q, v in enumerate(volts[:rows])]
    values += [(f"vs{i}", float(v)) for i, v in enumerate(volts[rows:])]
    names = [f"i({name})" for name, _ in values]
    lines = flat_array(ArrayParameters(g, **wiring))
    deck = build_deck("terminals", lines, [Alter(tuple(values)), Op()], save=names, options=OPTIONS)
    plot = run_deck(deck, simulator=simulator, folder=tmp_path, timeout_s=60.0).plots[0]
    into = -np.array([float(np.real(plot[name][0])) for name in names])
    found = terminal_admittance(torch.as_tensor(g), **wiring).numpy() @ volts
    assert np.abs(found - into).max() <= LIMIT * np.abs(into).max()


def test_signed_weights_with_selectors(simulator, tmp_path):
    """Pairs of rows at +V and -V behind selectors of 500 ohm; input 1 has only negative weights."""
    rng = np.random.default_rng(2)
    weight = rng.uniform(-1e-4, 1e-4, (4, 3))
    weight[1] = -np.abs(weight[1])
    pos, neg = (torch.as_tensor(1e-6 + np.clip(sign * weight, 0, None)) for sign in (1, -1))
    g = in_series(signed_pairs(pos, neg), 500.0)
    volts = torch.tensor([[0.0, 0.2, 0.0, 0.0], [0.1, -0.1, 0.2, 0.05]], dtype=torch.float64)
    found = column_currents(g, pair_volts(volts), r_word_ohm=2.0, r_bit_ohm=2.0).numpy()
    expected = simulated(
        simulator, tmp_path, ArrayParameters(g.numpy(), r_word_ohm=2.0, r_bit_ohm=2.0), pair_volts(volts).numpy()
    )
    assert np.abs(found / expected - 1).max() <= LIMIT
    assert (found[0] < 0).all()


@pytest.mark.parametrize("both", [False, True])
def test_cells_that_bend(simulator, tmp_path, both):
    g, wiring = conductances(8, 6, 8), {"r_word_ohm": 5.0, "r_bit_ohm": 9.0, "both_word_ends": both}
    volts = np.random.default_rng(3).uniform(-0.6, 0.6, (3, 8))
    found = sinh_read(torch.as_tensor(g), torch.as_tensor(volts), v0=0.1, **wiring).currents.numpy()
    expected = simulated(simulator, tmp_path, ArrayParameters(g, sinh_v=0.1, **wiring), volts)
    assert np.abs(found - expected).max() <= LIMIT * np.abs(expected).max()
    linear = column_currents(torch.as_tensor(g), torch.as_tensor(volts), **wiring).numpy()
    assert np.abs(found - linear).max() > 0.1 * np.abs(expected).max()  # the bend is no detail here


@pytest.mark.parametrize("options", [(), ("--both-word-ends", "--r-source", "5"), ("--sinh", "0.4")])
def test_anybody_can_run_the_deck_of_the_command(simulator, tmp_path, options):
    rng = np.random.default_rng(4)
    np.savetxt(tmp_path / "R.csv", rng.uniform(1e3, 1e5, (4, 3)), delimiter=",")
    np.savetxt(tmp_path / "V.csv", rng.uniform(-1, 1, (2, 4)), delimiter=",")
    files = {"--resistances": "R.csv", "--inputs": "V.csv", "--deck": "array.cir"}
    arguments = [part for name, file in files.items() for part in (name, str(tmp_path / file))]
    result = CliRunner().invoke(cli, ["crossbar", *arguments, "--r-word", "1", "--r-bit", "2", *options, "--json"])
    found = np.array(json.loads(result.stdout)["column_currents_a"])
    ngspice = shutil.which("ngspice")
    assert ngspice is not None
    printed = subprocess.run(
        [ngspice, "-b", "array.cir"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    currents = [float(value) for value in re.findall(r"i\(vs\d+\) = (\S+)", printed)]
    assert len(currents) == 6
    assert np.abs(found.ravel() / currents - 1).max() <= LIMIT
