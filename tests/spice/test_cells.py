"""Every shipped cell against its closed form, in ngspice, through the same contract the network uses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from analog_deq.netlists.contract import ROLES, Cell
from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.library import list_cells, load_cell
from analog_deq.records import Ac, Command, Dc, Noise, Op, Plot, Tran
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice

RAILS = ["Vdd vdd 0 0.9", "Vss vss 0 -0.9"]
TIGHT: Mapping[str, float | str | bool] = {"reltol": 1e-6, "method": "gear"}
FOUR_KT = 4 * 1.380649e-23 * 300.15


class Bench:
    """Runs one deck holding one cell between the rails."""

    def __init__(self, simulator: Simulator, folder: Path) -> None:
        self.simulator, self.folder = simulator, folder

    def __call__(
        self,
        cell: Cell,
        nodes: Mapping[str, str],
        circuit: Sequence[str],
        commands: Sequence[Command],
        save: Sequence[str] = (),
        params: Mapping[str, float] | None = None,
    ) -> tuple[Plot, ...]:
        full = {**{pin: pin for pin in ("vdd", "vss") if pin in ROLES[cell.role]}, **nodes}
        lines = [cell.include_line, *RAILS, *circuit, cell.instance("X1", full, params)]
        deck = build_deck(cell.name, lines, commands, save=save, options=TIGHT, files=[cell.file], bound=1e8)
        return run_deck(deck, simulator=self.simulator, folder=self.folder, timeout_s=60.0).plots


@pytest.fixture
def bench(simulator: Simulator, tmp_path: Path) -> Bench:
    return Bench(simulator, tmp_path)


def crossing(x: np.ndarray, y: np.ndarray, level: float) -> float:
    """First x at which ``y`` passes ``level``, linearly interpolated."""
    index = int(np.flatnonzero((y[:-1] - level) * (y[1:] - level) <= 0)[0])
    return float(x[index] + (level - y[index]) * (x[index + 1] - x[index]) / (y[index + 1] - y[index]))


OPEN_LOOP = ["Vi ip 0 0 AC 1", "Lf out inn 1e6", "Cf inn 0 1e3", "Cl out 0 0.5e-12"]
OPAMP = {"in_p": "ip", "in_n": "inn", "out": "out"}


def open_loop(bench: Bench, cell: Cell, r_load_ohm: float) -> tuple[float, float, float, float]:
    """(DC gain, GBW from the -20 dB/dec region, unity crossing, phase margin in degrees), 0.5 pF load."""
    circuit = [*OPEN_LOOP, f"Rl out 0 {r_load_ohm!r}"]
    plot = bench(cell, OPAMP, circuit, [Ac(100, 1.0, 1e10)], ["v(out)"])[0]
    gain, frequency = plot["v(out)"], plot.sweep
    unity = crossing(np.log(frequency), np.log(np.abs(gain)), 0.0)
    phase = np.degrees(np.unwrap(np.angle(gain)))
    at_1mhz = int(np.argmin(np.abs(frequency - 1e6)))
    margin = 180.0 + float(np.interp(unity, np.log(frequency), phase)) - float(phase[0])
    return abs(gain[0]), abs(gain[at_1mhz]) * frequency[at_1mhz], math.exp(unity), margin


@pytest.mark.parametrize("name", list_cells())
def test_every_cell_runs_with_its_defaults(bench: Bench, name: str) -> None:
    cell = load_cell(name)
    pins = [pin for pin in ROLES[cell.role] if pin not in ("vdd", "vss")]
    loads = [f"R{pin} {pin} 0 1e5" for pin in pins]
    plot = bench(cell, {pin: pin for pin in pins}, loads, [Op()], [f"v({pin})" for pin in pins])[0]
    assert np.isfinite(plot.data).all()


@pytest.mark.parametrize("conductance", [1e-4, 1e-3, 6e-3])
def test_macro_closed_loop_gain(bench: Bench, conductance: float) -> None:
    r_feedback, a0 = 16e3, 1e4
    circuit = [
        f"Rin in s {1 / conductance!r}",
        f"Rf s out {r_feedback!r}",
        f"Vi in 0 {0.1 / (r_feedback * conductance)!r}",
    ]
    plot = bench(load_cell("opamp_macro"), {"in_p": "0", "in_n": "s", "out": "out"}, circuit, [Op()], ["v(out)"])[0]
    loaded = a0 * r_feedback / (r_feedback + 50.0)  # ro divides with the feedback resistor
    expected = -0.1 / (1 + (1 + r_feedback * conductance) / loaded)
    assert plot["v(out)"][0] == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("params", [{}, {"a0": 5e3, "gbw": 50e6, "f2": 300e6}])
def test_macro_gain_and_bandwidth(bench: Bench, params: dict[str, float]) -> None:
    given = {"a0": 1e4, "gbw": 200e6, "f2": 600e6} | params
    circuit = [*OPEN_LOOP, "Rl out 0 1e6"]
    plot = bench(load_cell("opamp_macro"), OPAMP, circuit, [Ac(20, 1.0, 1e10)], ["v(out)"], params)[0]
    frequency = plot.sweep
    poles = (1 + 1j * frequency * given["a0"] / given["gbw"]) * (1 + 1j * frequency / given["f2"])
    output = 1 / (1 + 50 / 1e6 + 2j * math.pi * frequency * 50 * 0.5e-12)
    inner = frequency < 1e9
    np.testing.assert_allclose(plot["v(out)"][inner], (given["a0"] / poles * output)[inner], rtol=1e-4)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("slew", [200e6, 50e6])
def test_macro_slews_then_clamps(bench: Bench, sign: float, slew: float) -> None:
    swing, stop = 0.7, 8 * 0.7 / slew
    circuit = [f"Vi ip 0 PWL(0 0 1e-12 {sign!r})", "Rl out 0 1e6"]
    nodes = {"in_p": "ip", "in_n": "0", "out": "out"}
    plot = bench(
        load_cell("opamp_macro"), nodes, circuit, [Tran(stop / 200, stop, stop / 2000)], ["v(out)"], {"sr": slew}
    )[0]
    out = sign * plot["v(out)"]
    rise = crossing(plot.sweep, out, 0.8 * swing) - crossing(plot.sweep, out, 0.4 * swing)
    assert 0.4 * swing / rise == pytest.approx(slew, rel=0.02)
    assert swing < out[-1] <= swing + 0.05
    assert out.max() <= swing + 0.051


def test_macro_offset_adds_to_the_positive_input(bench: Bench) -> None:
    nodes = {"in_p": "0", "in_n": "out", "out": "out"}
    plot = bench(load_cell("opamp_macro"), nodes, ["Rl out 0 1e9"], [Op()], ["v(out)"], {"vos": 3e-3})[0]
    assert plot["v(out)"][0] == pytest.approx(3e-3, rel=2e-4)


@pytest.mark.parametrize("volts", [0.3, -0.3])
def test_macro_load_current_comes_from_the_rail_that_gives_it(bench: Bench, volts: float) -> None:
    nodes = {"in_p": "in", "in_n": "out", "out": "out"}
    circuit = [f"Vi in 0 {volts!r}", "Rl out 0 1e4"]
    plot = bench(load_cell("opamp_macro"), nodes, circuit, [Op()], ["v(out)", "i(Vdd)", "i(Vss)"])[0]
    load = float(plot["v(out)"][0]) / 1e4
    assert -plot["i(vdd)"][0] == pytest.approx(200e-6 + max(load, 0.0), rel=1e-6)
    assert plot["i(vss)"][0] == pytest.approx(200e-6 + max(-load, 0.0), rel=1e-6)


@pytest.mark.parametrize("density", [5e-9, 20e-9])
def test_macro_noise_is_its_parameter_and_nothing_else(bench: Bench, density: float) -> None:
    nodes = {"in_p": "in", "in_n": "out", "out": "out"}
    plot = bench(
        load_cell("opamp_macro"), nodes, ["Vi in 0 0 AC 1", "Cl out 0 1e-13"], [Noise("v(out)", "Vi", 10, 1e3, 1e6)],
        params={"en": density},
    )[0]  # fmt: skip
    np.testing.assert_allclose(plot["onoise_spectrum"], density, rtol=1e-3)


def test_transistor_opamp_meets_its_targets(bench: Bench) -> None:
    for r_load_ohm in (10e3, 16e3):
        a0, _, unity_hz, margin_deg = open_loop(bench, load_cell("opamp_2stage"), r_load_ohm)
        assert 20 * math.log10(a0) >= 70.0
        assert 100e6 <= unity_hz <= 300e6
        assert margin_deg >= 55.0


def test_transistor_opamp_swings_half_a_volt_into_10_kohm(bench: Bench) -> None:
    circuit = ["Vi in 0 0", "Rin in s 10e3", "Rf s out 10e3"]
    nodes = {"in_p": "0", "in_n": "s", "out": "out"}
    plot = bench(load_cell("opamp_2stage"), nodes, circuit, [Dc("Vi", -0.55, 0.55, 0.05)], ["v(out)"])[0]
    np.testing.assert_allclose(plot["v(out)"], -plot.sweep, atol=1e-3)


def test_transistor_opamp_obeys_the_closed_loop_formula_of_the_macro(bench: Bench) -> None:
    cell, r_feedback, conductance = load_cell("opamp_2stage"), 16e3, 1e-3
    a0 = open_loop(bench, cell, r_feedback)[0]
    circuit = [f"Rin in s {1 / conductance!r}", f"Rf s out {r_feedback!r}", "Vi in 0 0", "Cl out 0 0.5e-12"]
    plot = bench(cell, {"in_p": "0", "in_n": "s", "out": "out"}, circuit, [Dc("Vi", -1e-3, 1e-3, 1e-3)], ["v(out)"])[0]
    gain = (plot["v(out)"][2] - plot["v(out)"][0]) / 2e-3
    assert gain / (-r_feedback * conductance) == pytest.approx(1 / (1 + (1 + r_feedback * conductance) / a0), abs=2e-5)


def test_transistor_opamp_offset_is_systematic_plus_its_parameter(bench: Bench) -> None:
    nodes = {"in_p": "0", "in_n": "out", "out": "out"}
    outputs = [
        bench(load_cell("opamp_2stage"), nodes, ["Rl out 0 16e3"], [Op()], ["v(out)"], {"vos": vos})[0]["v(out)"][0]
        for vos in (0.0, 2e-3)
    ]
    assert abs(outputs[0]) < 1e-3
    assert outputs[1] - outputs[0] == pytest.approx(2e-3, rel=1e-3)


PAIR = {"in": "in", "out_p": "op", "out_n": "on"}


def pair(bench: Bench, **params: float) -> tuple[np.ndarray, np.ndarray]:
    plot = bench(load_cell("diffpair"), PAIR, ["Vi in 0 0"], [Dc("Vi", -0.64, 0.64, 0.01)], ["v(op)", "v(on)"], params)[
        0
    ]
    return plot.sweep, plot["v(op)"] - plot["v(on)"]


def test_pair_rises_saturates_and_is_odd(bench: Bench) -> None:
    volts, out = pair(bench)
    unit = out / 0.2
    assert (np.diff(out) > 0).all()
    np.testing.assert_allclose(unit[[0, -1]], [-1.0, 1.0], atol=1e-3)
    np.testing.assert_allclose(unit, -unit[::-1], atol=0.004)  # one gate is grounded: its common mode is not odd
    middle = len(volts) // 2
    slope = (unit[middle + 1] - unit[middle - 1]) / (volts[middle + 1] - volts[middle - 1]) * 0.16
    assert slope == pytest.approx(1.0, abs=0.01)


def test_pair_mismatch_parameters_do_what_they_say(bench: Bench) -> None:
    volts, nominal = pair(bench)
    _, shifted = pair(bench, dvt=0.01)
    np.testing.assert_allclose(shifted[1:], nominal[:-1], atol=2e-6)
    _, scaled = pair(bench, diss=0.05)
    np.testing.assert_allclose(scaled[[0, -1]], [-0.21, 0.21], atol=2e-4)
    _, loads = pair(bench, drl=0.02)
    centre = len(volts) // 2
    assert loads[centre] == pytest.approx(nominal[centre] + 0.02 * 40e-6 * 5e3, rel=0.02)  # the pair's own rout


def test_pair_draws_its_tail_current(bench: Bench) -> None:
    plot = bench(load_cell("diffpair"), PAIR, ["Vi in 0 0.1"], [Op()], ["i(Vdd)", "i(Vss)"])[0]
    assert -plot["i(vdd)"][0] == pytest.approx(40e-6, rel=1e-4)
    assert plot["i(vss)"][0] == pytest.approx(40e-6, rel=1e-4)


DRIVER = {"in_p": "a", "in_n": "b", "out_p": "op", "out_n": "on"}


def test_driver_gain_output_resistance_offset_and_rails(bench: Bench) -> None:
    circuit = ["Va a 0 0.15", "Vb b 0 0.05", "Rp op 0 990", "Rn on 0 490"]
    save = ["v(op)", "v(on)", "i(Vdd)", "i(Vss)"]
    plot = bench(load_cell("driver_macro"), DRIVER, circuit, [Op()], save, {"vos": 1e-3})[0]
    assert plot["v(op)"][0] == pytest.approx(0.101 * 0.99, rel=1e-9)
    assert plot["v(on)"][0] == pytest.approx(-0.101 * 0.98, rel=1e-9)
    assert -plot["i(vdd)"][0] == pytest.approx(100e-6 + 0.101 / 1000, rel=1e-6)
    assert plot["i(vss)"][0] == pytest.approx(100e-6 + 0.101 / 500, rel=1e-6)


@pytest.mark.parametrize("pole_hz", [500e6, 10e6])
def test_driver_pole(bench: Bench, pole_hz: float) -> None:
    circuit = ["Va a 0 0 AC 1", "Vb b 0 0"]
    plot = bench(load_cell("driver_macro"), DRIVER, circuit, [Ac(10, 1e5, 1e10)], ["v(op)", "v(on)"], {"fp": pole_hz})[
        0
    ]
    expected = 1 / (1 + 1j * plot.sweep / pole_hz)
    np.testing.assert_allclose(plot["v(op)"], expected, rtol=1e-9)
    np.testing.assert_allclose(plot["v(on)"], -expected, rtol=1e-9)


@pytest.mark.parametrize("density", [5e-9, 20e-9])
def test_driver_noise_is_its_input_noise_and_that_of_its_output_resistor(bench: Bench, density: float) -> None:
    circuit = ["Va a 0 0 AC 1", "Vb b 0 0"]
    analysis = [Noise("v(op)", "Va", 10, 1e3, 1e6)]
    plot = bench(load_cell("driver_macro"), DRIVER, circuit, analysis, params={"en": density})[0]
    np.testing.assert_allclose(plot["onoise_spectrum"], math.hypot(density, math.sqrt(FOUR_KT * 10)), rtol=1e-3)


@pytest.mark.parametrize(("g", "dg"), [(1e-6, 0.0), (1e-4, 0.0), (2e-5, 0.05), (2e-5, -0.05)])
def test_synapse_current_and_noise(bench: Bench, g: float, dg: float) -> None:
    cell, nodes, params = load_cell("resistor_synapse"), {"row": "r", "col": "0"}, {"g": g, "dg": dg}
    current = bench(cell, nodes, ["Vr r 0 0.2"], [Op()], ["i(Vr)"], params)[0]["i(vr)"][0]
    assert -current == pytest.approx(0.2 * g * (1 + dg), rel=1e-9)
    drive = ["I1 0 r 0 AC 1", "Cr r 0 1e-15"]
    plot = bench(cell, nodes, drive, [Noise("v(r)", "I1", 10, 1e3, 1e5)], params=params)[0]
    np.testing.assert_allclose(plot["onoise_spectrum"], math.sqrt(FOUR_KT / (g * (1 + dg))), rtol=1e-3)


def test_opamps_swap_without_another_change(bench: Bench) -> None:
    cells = [load_cell(name) for name in list_cells() if load_cell(name).role == "opamp"]
    assert len(cells) >= 2
    circuit = ["Ii 0 s 5e-6", "Rf s out 16e3", "Cf s out 12.5e-12"]
    outputs = [
        bench(cell, {"in_p": "0", "in_n": "s", "out": "out"}, circuit, [Op()], ["v(out)"])[0]["v(out)"][0]
        for cell in cells
    ]
    np.testing.assert_allclose(outputs, -16e3 * 5e-6, rtol=1e-3)
