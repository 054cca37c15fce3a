"""Every shipped synapse in ngspice against its published law, written here anew: read, noise, spread, drift."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq

from analog_deq.draws import Stream, deviations, generator
from analog_deq.netlists.contract import Cell
from analog_deq.netlists.deck import build_deck, number
from analog_deq.netlists.library import load_cell
from analog_deq.records import Dc, Noise, Op
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice

Array = np.ndarray
FOUR_KT = 4 * 1.380649e-23 * 300.15
LINEAR = ("resistor_synapse", "rram_cmo", "pcm")
SYNAPSES = (*LINEAR, "sinh_synapse", "rram_hfox", "rram_hfox_1day", "mos_synapse")
DAY = 86400.0
US = 1e-6


class Reader:
    """Reads synapses in one deck: current of each at one voltage, over a sweep, or its noise."""

    def __init__(self, simulator: Simulator, folder: Path) -> None:
        self.simulator, self.folder = simulator, folder

    def _run(
        self, cell: Cell, lines: Sequence[str], command: Op | Dc | Noise, save: Sequence[str], temp: float
    ) -> Array:
        deck = build_deck(
            cell.name, [cell.include_line, *lines], [command], save=save, options={"reltol": 1e-7, "abstol": 1e-16},
            files=[cell.file], temperature_celsius=temp,
        )  # fmt: skip
        return run_deck(deck, simulator=self.simulator, folder=self.folder, timeout_s=60.0).plots[0].data

    def currents(
        self, cell: Cell, instances: Sequence[Mapping[str, float]], volts: float = 0.2, temp: float = 27.0
    ) -> Array:
        """Current (instances,) into the row of every instance, ``volts`` across it."""
        lines = []
        for k, params in enumerate(instances):
            lines += [f"V{k} r{k} 0 {volts!r}", cell.instance(f"X{k}", {"row": f"r{k}", "col": "0"}, params)]
        return -np.real(self._run(cell, lines, Op(), [f"i(v{k})" for k in range(len(instances))], temp)[0])

    def curve(self, cell: Cell, params: Mapping[str, float]) -> tuple[Array, Array]:
        """(voltages, currents) from -0.2 to 0.2 V, the column 0.1 V above ground: only the difference may count."""
        lines = ["Vc c 0 0.1", "Vr r c 0", cell.instance("X1", {"row": "r", "col": "c"}, params)]
        data = self._run(cell, lines, Dc("Vr", -0.2, 0.2, 0.05), ["i(vr)"], 27.0)
        return np.linspace(-0.2, 0.2, len(data)), -data[:, -1]

    def voltage_noise(
        self, cell: Cell, params: Mapping[str, float], amperes: float, hertz: tuple[float, float]
    ) -> Array:
        """(frequency, V^2/Hz) across the instance, ``amperes`` through it."""
        lines = [f"I1 0 r {number(amperes)} AC 1", cell.instance("X1", {"row": "r", "col": "0"}, params)]
        data = self._run(cell, lines, Noise("v(r)", "I1", 20, *hertz), [], 27.0)
        return np.stack([np.real(data[:, 0]), np.real(data[:, 1]) ** 2])


@pytest.fixture
def read(simulator: Simulator, tmp_path: Path) -> Reader:
    return Reader(simulator, tmp_path)


def levels(cell: Cell, count: int = 5) -> list[float]:
    state = cell.contract.state["g"]
    return [float(g) for g in np.geomspace(state.min, state.max, count)]


def behind_access(g: float, volts: float) -> float:
    """Current of a sinh filament behind 500 ohm, g in all at 0 V."""
    filament = 1 / (1 / g - 500.0)
    return float(brentq(lambda i: i - filament * 0.43 * math.sinh((volts - 500.0 * i) / 0.43), -1e-4, 1e-4, xtol=1e-18))


LAWS: Mapping[str, Callable[[float, float], float]] = {
    **{name: lambda g, v: g * v for name in LINEAR},
    "sinh_synapse": behind_access,
    **{name: lambda g, v: g * 0.43 * math.sinh(v / 0.43) for name in ("rram_hfox", "rram_hfox_1day")},
    "mos_synapse": lambda g, v: g * v * (1 + 0.04 * abs(v)),
}


@pytest.mark.parametrize("name", SYNAPSES)
def test_read_law_from_the_lowest_to_the_highest_state(read: Reader, name: str) -> None:
    cell = load_cell(name)
    for g in levels(cell):
        volts, current = read.curve(cell, {"g": g})
        expected = np.array([LAWS[name](g, float(v)) for v in volts])
        np.testing.assert_allclose(current, expected, rtol=2e-6, atol=2e-12)  # gmin of ngspice: 1e-12 S


def test_nonlinearity_at_the_read_voltage_is_what_the_descriptions_say(read: Reader) -> None:
    said = {"rram_hfox": (3.6, 3.6), "sinh_synapse": (3.1, 3.6), "mos_synapse": (0.8, 0.8), "pcm": (0.0, 0.0)}
    for name, (low, high) in said.items():
        cell = load_cell(name)
        excess = [100 * (read.currents(cell, [{"g": g}])[0] / (0.2 * g) - 1) for g in levels(cell, 3)]
        np.testing.assert_allclose([min(excess), max(excess)], [low, high], atol=0.05, err_msg=name)


@pytest.mark.parametrize("name", SYNAPSES)
def test_thermal_noise_is_that_of_its_conductance(read: Reader, name: str) -> None:
    cell = load_cell(name)
    for g in levels(cell, 3):
        _, density = read.voltage_noise(cell, {"g": g}, 0.0, (1.0, 10.0))
        np.testing.assert_allclose(density, FOUR_KT / g, rtol=1e-3)


@pytest.mark.parametrize("name", SYNAPSES)
def test_conductance_stays_positive_in_every_corner_of_the_declared_ranges(read: Reader, name: str) -> None:
    cell = load_cell(name)
    corners: list[dict[str, float]] = [{}]
    for key, spec in cell.contract.params.items():
        corners = [{**corner, key: value} for corner in corners for value in (spec.min, spec.max)]
    for volts in (0.2, -0.2):
        assert (read.currents(cell, corners, volts) * volts > 0).all()


@pytest.mark.parametrize(("name", "floor"), [("rram_hfox", 1e-7), ("rram_cmo", 1e-6), ("pcm", 1e-8)])
def test_a_draw_below_the_floor_is_cut_off_there(read: Reader, name: str, floor: float) -> None:
    cell = load_cell(name)
    dg = cell.contract.params["dg"].min
    g = -0.9 * dg  # a state that the worst draw would make negative
    assert read.currents(cell, [{"g": g, "dg": dg}], 0.01)[0] / 0.01 == pytest.approx(floor, rel=5e-4)


# --- programming spread ---------------------------------------------------------------------------------------------


def wan(coefficients: Sequence[float]) -> Callable[[Array], Array]:
    return lambda g: US * np.polyval(coefficients, g / 40e-6)


SPREADS: Mapping[str, Callable[[Array], Array]] = {
    "resistor_synapse": lambda g: 0.02 * g,
    "sinh_synapse": lambda g: 0.02 * g,
    "rram_hfox": wan([-16.815, 45.393, -43.853, 16.030, 0.348]),
    "rram_hfox_1day": wan([-16.458, 47.095, -50.773, 22.086, 0.701]),
    "rram_cmo": lambda g: 0.01129027418 * g + 0.0112185391 * US,
    "pcm": lambda g: US * (0.26348 + 1.9650 * (g / 25e-6) - 1.1731 * (g / 25e-6) ** 2),
    "mos_synapse": lambda g: 110e-6 * 0.8 / 1.1 * 3.36e-3 / math.sqrt(0.8 * 1.1) + 0 * g,
}
TABLE = {  # g/gmax: microsiemens, read off the published curves
    "rram_hfox": {0: 0.35, 0.1: 1.56, 0.25: 2.26, 0.5: 2.02, 0.75: 1.53, 1.0: 1.10},
    "rram_hfox_1day": {0: 0.70, 0.1: 2.45, 0.25: 3.72, 0.5: 3.91, 0.75: 3.37, 1.0: 2.65},
    "pcm": {1.0: 1.06},
}


@pytest.mark.parametrize(("name", "row"), TABLE.items())
def test_spread_is_the_published_one(name: str, row: Mapping[float, float]) -> None:
    cell = load_cell(name)
    top = cell.contract.state["g"].max
    for share, microsiemens in row.items():
        assert cell.sigma("dg", share * top) / US == pytest.approx(microsiemens, abs=0.006)


@pytest.mark.parametrize("name", SYNAPSES)
def test_drawn_instances_spread_as_published_in_ngspice(read: Reader, name: str) -> None:
    """600 draws a level through the contract, read at 10 mV; relative errors of a sd are 2.9 %, so 4 sd are 12 %."""
    cell, dies = load_cell(name), 600
    parameter = "dvt" if name == "mos_synapse" else "dg"
    state = cell.contract.state["g"]
    grid = np.linspace(0.4, 1.0, 3) * state.max
    rng = generator(11, Stream.CONDUCTANCE_DIE)
    for g, expected in zip(grid, SPREADS[name](grid), strict=True):
        drawn = deviations(rng, {parameter: 1.0}, dies)[parameter] * cell.sigma(parameter, float(g))
        read_back = read.currents(cell, [{"g": float(g), parameter: float(d)} for d in drawn], 0.01) / 0.01
        assert np.std(read_back) == pytest.approx(expected, rel=0.12)
        assert np.mean(read_back) == pytest.approx(g, abs=4.5 * expected / math.sqrt(dies) + 1e-3 * g)


# --- drift and read noise -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 1.0])
def test_pcm_drifts_by_its_power_law(read: Reader, share: float) -> None:
    cell, g = load_cell("pcm"), 25e-6 * share
    nu = float(np.clip(-0.0155 * math.log(share) + 0.0244, 0.049, 0.1))
    assert cell.sigma("dnu", g) == pytest.approx(np.clip(-0.0125 * math.log(share) - 0.0059, 0.008, 0.045))
    times = cell.contract.drift.times_s  # type: ignore[union-attr]
    instances = [{"g": g, "t": t, "dnu": dnu} for t in times for dnu in (0.0, 0.02, -0.2)]
    expected = [g * (t / 20) ** -max(nu + dnu, 0.0) for t in times for dnu in (0.0, 0.02, -0.2)]
    np.testing.assert_allclose(read.currents(cell, instances) / 0.2, expected, rtol=1e-6)


def test_cmo_relaxes_with_the_logarithm_of_time(read: Reader) -> None:
    cell, g = load_cell("rram_cmo"), 50.0
    cases = [(t, dz) for t in (1.0, 3600.0, DAY) for dz in (-2.0, 0.0, 1.0)]
    expected = [g - 0.08900206 * math.log(t) + dz * (0.04201137 * math.log(t) + 0.41183342) for t, dz in cases]
    got = read.currents(cell, [{"g": g * US, "t": t, "dz": dz} for t, dz in cases]) / 0.2
    np.testing.assert_allclose(got / US, expected, rtol=1e-6)


def pcm_noise(g: float, t: float) -> float:
    return min(0.2, 0.0088 * (g / 25e-6) ** -0.65) * math.sqrt(math.log((t + 250e-9) / 500e-9))


def cmo_noise(g: float, t: float) -> float:
    return 0.0277316483 * math.log10(g / US) / (g / US) * math.sqrt(math.log((t + 1e-6) / 2e-6))


@pytest.mark.parametrize(
    ("name", "g", "relative"),
    [
        *(("pcm", g, pcm_noise) for g in (25e-6, 2.5e-6, 2.5e-7, 1e-7)),
        *(("rram_cmo", g, cmo_noise) for g in (9e-5, 1e-5)),
    ],
)
def test_read_noise_integrates_to_the_published_spread(
    read: Reader, name: str, g: float, relative: Callable[[float, float], float]
) -> None:
    """The 1/f spectrum in the netlist, integrated over the band of one read, is the published formula."""
    cell = load_cell(name)
    wait, window = cell.contract.noise.wait_s, cell.contract.noise.read_s
    band = (1 / (wait + window), 1 / (2 * window))
    measured = read.voltage_noise(cell, {"g": g}, 0.2 * g, (1e-2, 1e7))
    frequency = np.geomspace(*band, 2000)
    density = np.exp(np.interp(np.log(frequency), *np.log(measured)))
    thermal = FOUR_KT / g * (band[1] - band[0])
    flicker = np.trapezoid(density * frequency, np.log(frequency)) - thermal
    assert math.sqrt(flicker) / 0.2 == pytest.approx(relative(g, wait), rel=2e-3)
    slope = np.diff(np.log(density[:400])) / np.diff(np.log(frequency[:400]))
    np.testing.assert_allclose(slope, -1.0, atol=1e-3)


def test_cells_without_their_read_noise_in_the_netlist_say_it_in_the_contract() -> None:
    extra = load_cell("rram_hfox").contract.noise.extra
    assert extra is not None
    assert extra.sigma == 0.01


# --- the transistor -------------------------------------------------------------------------------------------------


def test_transistor_conductance_follows_threshold_mobility_and_corner(read: Reader) -> None:
    cell, beta = load_cell("mos_synapse"), 80e-6
    for params, expected in (
        ({"dvt": 0.01}, 2e-5 - beta * 0.01),
        ({"dvtn": -0.03}, 2e-5 + beta * 0.03),
        ({"kn": 1.2}, 2.4e-5),
    ):
        got = read.currents(cell, [{"g": 2e-5, **params}], 0.01)[0] / 0.01
        assert got == pytest.approx(expected * 1.0004, rel=1e-5)
    slow = read.currents(cell.at("ss"), [{"g": 2e-5}], 0.01)[0] / 0.01
    assert slow == pytest.approx(0.9 * (2e-5 - beta * 0.05) * 1.0004, rel=1e-5)


def test_transistor_pinches_off_beyond_its_overdrive(read: Reader) -> None:
    cell, g = load_cell("mos_synapse"), 8e-6  # overdrive 0.1 V: linear to 0.2 V, then beta/2 (overdrive + v/2)^2
    for volts in (0.3, -0.3):
        expected = 40e-6 * (0.1 + 0.15) ** 2 * (1 + 0.04 * 0.3)
        assert abs(read.currents(cell, [{"g": g}], volts)[0]) == pytest.approx(expected, rel=1e-5)


def test_transistor_loses_mobility_and_threshold_with_temperature(read: Reader) -> None:
    cell = load_cell("mos_synapse")
    hot = read.currents(cell, [{"g": 2e-5}], 0.01, temp=125.0)[0] / 0.01
    expected = 80e-6 * (398.15 / 300.15) ** -1.5 * (2e-5 / 80e-6 + 0.098) * 1.0004
    assert hot == pytest.approx(expected, rel=1e-4)
