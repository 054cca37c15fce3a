"""Every shipped cell against its closed form, in ngspice, through the same contract the network uses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq

from analog_deq.netlists.contract import Cell
from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.library import cell_files, list_cells, load_cell
from analog_deq.records import Ac, Command, Dc, Noise, Op, Plot, Tran
from analog_deq.resources import shipped
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice

RAILS = ["Vdd vdd 0 0.9", "Vss vss 0 -0.9"]
TIGHT: Mapping[str, float | str | bool] = {"reltol": 1e-6, "method": "gear"}
CORNERS = ("tt", "ff", "ss", "sf", "fs")
NAMES = [n for n in list_cells() if "\n[models]" not in (shipped("netlists/cells") / f"{n}.toml").read_text()]
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
        others: Sequence[Cell] = (),
        celsius: float = 27.0,
    ) -> tuple[Plot, ...]:
        full = {"vdd": "vdd", "vss": "vss", **nodes} if "vdd" in cell.contract.pins else nodes
        lines = [*(c.include_line for c in (cell, *others)), *RAILS, *circuit]
        lines += cell.instance("X1", full, params).splitlines()
        deck = build_deck(
            cell.name, lines, commands, save=save, options=TIGHT, files=cell_files([cell, *others]), bound=1e8,
            temperature_celsius=celsius,
        )  # fmt: skip
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


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_runs_at_every_corner_and_declared_temperature(bench: Bench, name: str) -> None:
    cell = load_cell(name)
    pins = [pin for pin in cell.contract.pins if pin not in ("vdd", "vss")]
    loads = [f"R{pin} {pin} 0 1e5" for pin in pins]
    temperature = cell.contract.conditions["temp"]
    for process in cell.processes:
        for celsius in (temperature.min, temperature.typ, temperature.max):
            assert celsius is not None
            nodes, save = {pin: pin for pin in pins}, [f"v({pin})" for pin in pins]
            plot = bench(cell.at(process), nodes, loads, [Op()], save, celsius=celsius)[0]
            assert np.abs(plot.data).max() < 1.0


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


def test_transistor_opamp_is_fast_where_the_process_is(bench: Bench) -> None:
    gain, unity = {}, {}
    for process in CORNERS:
        gain[process], _, unity[process], margin = open_loop(bench, load_cell("opamp_2stage").at(process), 10e3)
        assert margin >= 55.0
        assert 20 * math.log10(gain[process]) >= 70.0
    assert unity["ff"] > unity["tt"] > unity["ss"]
    # A PMOS pair: gm = sqrt(kp I) at a fixed tail current, and the corner of kp is 10 %.
    assert unity["ff"] / unity["ss"] == pytest.approx(math.sqrt(1.1 / 0.9), rel=0.03)
    assert unity["sf"] > unity["tt"] > unity["fs"]


OTA = {"in_p": "p", "in_n": "n", "out": "out"}


def ota_curve(bench: Bench, process: str = "tt", **params: float) -> tuple[np.ndarray, np.ndarray, float]:
    """(differential input, output current at out = 0, supply current at balance)."""
    circuit = ["Vp p 0 0", "Vn n 0 0", "Vo out 0 0"]
    save, sweep = ["i(Vo)", "i(Vdd)"], Dc("Vp", -0.2, 0.2, 0.001)
    plot = bench(load_cell("ota_5t").at(process), OTA, circuit, [sweep], save, params)[0]
    return plot.sweep, plot["i(vo)"], -float(plot["i(vdd)"][len(plot.sweep) // 2])


def test_ota_transconductance_and_limits_are_those_of_the_square_law(bench: Bench) -> None:
    tail, beta = 40e-6, 110e-6 * 50
    volts, current, supply = ota_curve(bench)
    centre = len(volts) // 2
    gm = (current[centre + 1] - current[centre - 1]) / (volts[centre + 1] - volts[centre - 1])
    assert gm == pytest.approx(math.sqrt(beta * tail), rel=0.03)  # lambda adds 2 %
    np.testing.assert_allclose(current[[0, -1]], [-tail, tail], rtol=0.02)
    inner = np.abs(volts) < 0.08  # the pair is steered through sqrt(2 tail/beta) = 0.12 V
    law = volts[inner] * np.sqrt(beta * tail * (1 - beta * volts[inner] ** 2 / (4 * tail)))
    np.testing.assert_allclose(current[inner] - current[centre], law, atol=0.02 * tail)
    assert supply == pytest.approx(2 * tail, rel=0.01)


def test_ota_corners_move_gm_as_the_root_of_mobility(bench: Bench) -> None:
    slopes = {}
    for process in CORNERS:
        volts, current, _ = ota_curve(bench, process)
        slopes[process] = np.gradient(current, volts)[len(volts) // 2]
    assert slopes["ff"] / slopes["ss"] == pytest.approx(math.sqrt(1.1 / 0.9), rel=0.01)
    assert slopes["sf"] / slopes["fs"] == pytest.approx(math.sqrt(0.9 / 1.1), rel=0.01)


@pytest.mark.parametrize(("shift", "node", "sign"), [("dvtn", "x1_ibias", 1.0), ("dvtp", "x1.x", -1.0)])
def test_ota_thresholds_move_its_two_mirrors(bench: Bench, shift: str, node: str, sign: float) -> None:
    circuit = ["Vp p 0 0", "Vn n 0 0", "Vo out 0 0"]
    before, after = (
        bench(load_cell("ota_5t"), OTA, circuit, [Op()], [f"v({node})"], {shift: volts})[0][f"v({node})"][0]
        for volts in (0.0, 0.05)
    )
    assert after - before == pytest.approx(sign * 0.05, abs=5e-4)


def test_ota_mismatch_parameters_are_input_offsets_and_a_tail_error(bench: Bench) -> None:
    volts, nominal, _ = ota_curve(bench)
    zero = np.interp(0.0, nominal, volts)
    _, pair_current, _ = ota_curve(bench, dvt=2e-3)
    assert np.interp(0.0, pair_current, volts) - zero == pytest.approx(-2e-3, rel=0.01)  # adds to in_p
    _, mirror_current, _ = ota_curve(bench, dvtm=2e-3)
    shift = -2e-3 * math.sqrt(50e-6 / 110e-6)  # gm of the mirror over gm of the pair, equal currents and sizes
    assert np.interp(0.0, mirror_current, volts) - zero == pytest.approx(shift, rel=0.03)
    _, stronger, _ = ota_curve(bench, dvtm=2e-3, kp=1.44)
    _, balanced, _ = ota_curve(bench, kp=1.44)
    moved = np.interp(0.0, stronger, volts) - np.interp(0.0, balanced, volts)
    assert moved == pytest.approx(1.2 * shift, rel=0.03)
    _, _, supply = ota_curve(bench, dib=0.1)
    assert supply == pytest.approx(40e-6 * 2.1, rel=0.01)


def test_ota_output_stays_linear_over_its_stated_range(bench: Bench) -> None:
    circuit = ["Vp p 0 0", "Vn n 0 0", "Vo out 0 0"]
    plot = bench(load_cell("ota_5t"), OTA, circuit, [Dc("Vo", -0.5, 0.8, 0.01)], ["i(Vo)"])[0]
    conductance = -np.gradient(plot["i(vo)"], plot.sweep)
    stated = (plot.sweep > -0.405) & (plot.sweep < 0.705)
    # lambda_n + lambda_p at half the tail current
    np.testing.assert_allclose(conductance[stated], (0.04 + 0.05) * 20e-6, rtol=0.15)
    assert conductance[[0, -1]].min() > 4e-6


def test_ota_unity_gain_frequency_is_gm_over_c(bench: Bench) -> None:
    circuit = ["Vi p 0 0 AC 1", "Lf out n 1e6", "Cf n 0 1e3", "Cl out 0 5e-12"]
    plot = bench(load_cell("ota_5t"), OTA, circuit, [Ac(20, 1e4, 1e8)], ["v(out)"])[0]
    at_1mhz = int(np.argmin(np.abs(plot.sweep - 1e6)))
    product = abs(plot["v(out)"][at_1mhz]) * 1e6
    assert product == pytest.approx(4.77e-4 / (2 * math.pi * 5e-12), rel=0.03)  # drain capacitances add 1-2 %


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


def test_pair_corners_move_its_slope_as_the_root_of_mobility_and_keep_its_limits(bench: Bench) -> None:
    slopes = {}
    for process in CORNERS:
        plot = bench(
            load_cell("diffpair").at(process), PAIR, ["Vi in 0 0"], [Dc("Vi", -0.64, 0.64, 0.01)], ["v(op)", "v(on)"]
        )[0]
        out = plot["v(op)"] - plot["v(on)"]
        np.testing.assert_allclose(out[[0, -1]], [-0.2, 0.2], rtol=1e-5)
        slopes[process] = out[65] - out[63]
    assert slopes["ff"] == slopes["fs"] > slopes["tt"] > slopes["ss"] == slopes["sf"]
    assert slopes["ff"] / slopes["ss"] == pytest.approx(math.sqrt(1.1 / 0.9), rel=0.03)


LIMITER = {"in": "in", "out_p": "out"}


def limiter_law(volts: float, r: float = 1e3, plus: float = 0.42e-6, minus: float = 0.42e-6) -> float:
    """Output voltage of the diode limiter at 27 degrees, by bisection of its two exponentials."""
    thermal = 1.05 * 1.380649e-23 * 300.15 / 1.602176634e-19

    def residual(out: float) -> float:
        return (volts - out) / r - plus * math.expm1(out / thermal) + minus * math.expm1(-out / thermal)

    return float(brentq(residual, -1.0, 1.0, xtol=1e-15))


@pytest.mark.parametrize(
    ("params", "law"),
    [
        ({}, {}),
        ({"dis": 0.05, "dr": 0.1}, {"r": 1.1e3, "plus": 1.05 * 0.42e-6, "minus": 0.95 * 0.42e-6}),
        ({"r": 1e4, "is": 1e-9}, {"r": 1e4, "plus": 1e-9, "minus": 1e-9}),
    ],
)
def test_limiter_follows_its_two_diodes(bench: Bench, params: dict[str, float], law: dict[str, float]) -> None:
    plot = bench(load_cell("diode_limiter"), LIMITER, ["Vi in 0 0"], [Dc("Vi", -1, 1, 0.05)], ["v(out)"], params)[0]
    np.testing.assert_allclose(plot["v(out)"], [limiter_law(float(v), **law) for v in plot.sweep], atol=2e-6)


def test_limiter_slope_scale_and_noise(bench: Bench) -> None:
    cell = load_cell("diode_limiter")
    plot = bench(cell, LIMITER, ["Vi in 0 0"], [Dc("Vi", -0.64, 0.64, 0.01)], ["v(out)"])[0]
    middle = len(plot.sweep) // 2
    assert (plot["v(out)"][middle + 1] - plot["v(out)"][middle - 1]) / 0.02 == pytest.approx(0.970, abs=1e-3)
    assert plot["v(out)"][-1] == pytest.approx(0.190, abs=1e-3)
    noise = bench(cell, LIMITER, ["Vi in 0 0 AC 1"], [Noise("v(out)", "Vi", 10, 1e3, 1e5)])[0]["onoise_spectrum"]
    # The resistor's 4kTr through the divider; a diode at 0 V adds no shot noise in SPICE (2qI, I = 0).
    np.testing.assert_allclose(noise, math.sqrt(FOUR_KT * 1e3) * 0.970, rtol=2e-3)


INTEGRATOR = {"in": "s", "out": "out", "ref": "ref"}


@pytest.mark.parametrize("params", [{}, {"r": 2e3, "c": 5e-12}, {"dr": -0.1, "dc": 0.2}])
def test_integrator_decays_with_its_time_constant(bench: Bench, params: dict[str, float]) -> None:
    """Slow root of 1 + s b + s^2 R C / (2 pi GBW) with b = R C + (1 + R G) / (2 pi GBW).

    The DC value is -R I / (1 + (1 + R G) / A0). An opamp_macro beside it in the deck must not disturb the one inside.
    """
    r = params.get("r", 10e3) * (1 + params.get("dr", 0.0))
    c = params.get("c", 20e-12) * (1 + params.get("dc", 0.0))
    g, unity = 1e-3, 2 * math.pi * 200e6
    b = r * c + (1 + r * g) / unity
    tau = b / 2 + math.sqrt(b * b / 4 - r * c / unity)
    circuit = ["Vr ref 0 0.05", f"Ii ref s PWL(0 0 1e-12 {0.1 / r!r})", f"Rg s ref {1 / g!r}", "Rl out 0 1e6"]
    command = Tran(tau / 100, 6 * tau, tau / 200)
    others = [load_cell("opamp_macro")]
    plot = bench(load_cell("integrator_rc"), INTEGRATOR, circuit, [command], ["v(out)", "v(s)"], params, others)[0]
    out = plot["v(out)"] - 0.05
    final = -0.1 / (1 + (1 + r * g) * (1 + 50 / r) / 1e4)
    settled = plot.sweep > 5.5 * tau
    np.testing.assert_allclose(out[settled], final, rtol=5e-3)
    inner = (plot.sweep > 0.5 * tau) & (plot.sweep < 2.5 * tau)
    rate = np.polyfit(plot.sweep[inner], np.log(np.abs(out[inner] / final - 1)), 1)[0]
    assert -1 / rate == pytest.approx(tau, rel=0.01)
    assert abs(plot["v(s)"][-1] - 0.05) < 1e-3  # a virtual ground at ref


@pytest.mark.parametrize("name", ["integrator_rc", "summer_tia"])
def test_feedback_errors_and_offset_act_as_declared(bench: Bench, name: str) -> None:
    circuit = ["Vr ref 0 0", "Ii ref s 10e-6", "Rg s ref 1e4"]
    for params, expected in (({}, -0.1), ({"dr": 0.02}, -0.102), ({"vos": 2e-3}, -0.1 + 2e-3 * (1 + 1.0))):
        plot = bench(load_cell(name), INTEGRATOR, circuit, [Op()], ["v(out)"], params)[0]
        assert plot["v(out)"][0] == pytest.approx(expected, rel=1e-3)


def test_summer_adds_the_currents_of_its_inputs_and_has_the_closed_loop_bandwidth(bench: Bench) -> None:
    circuit = ["Vr ref 0 0", "Va a 0 0.2", "Vb b 0 -0.1 AC 1", "Ra a s 20e3", "Rb b s 40e3", "Rl out 0 1e6"]
    cell = load_cell("summer_tia")
    plots = bench(cell, INTEGRATOR, circuit, [Op(), Ac(50, 1e4, 1e9)], ["v(out)"])
    loop = (1 + 10e3 * (1 / 20e3 + 1 / 40e3)) / 1e4
    assert plots[0]["v(out)"][0] == pytest.approx(-10e3 * (0.2 / 20e3 - 0.1 / 40e3) / (1 + loop), rel=1e-4)
    gain, hertz = np.abs(plots[1]["v(out)"]), plots[1].sweep
    pole = 200e6 / (1 + 10e3 * (1 / 20e3 + 1 / 40e3))
    low = hertz < 0.1 * pole
    np.testing.assert_allclose(gain[low], 0.25 / np.abs(1 + 1j * hertz[low] / pole), rtol=5e-3)


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


def test_opamps_swap_without_another_change(bench: Bench) -> None:
    cells = [cell for cell in map(load_cell, NAMES) if cell.role == "opamp"]
    assert len(cells) >= 2
    circuit = ["Ii 0 s 5e-6", "Rf s out 16e3", "Cf s out 12.5e-12"]
    outputs = [
        bench(cell, {"in_p": "0", "in_n": "s", "out": "out"}, circuit, [Op()], ["v(out)"])[0]["v(out)"][0]
        for cell in cells
    ]
    np.testing.assert_allclose(outputs, -16e3 * 5e-6, rtol=1e-3)
