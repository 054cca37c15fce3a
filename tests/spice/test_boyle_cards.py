"""Generated Boyle cards in ngspice: every figure they were asked for is measured again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analog_deq.netlists.boyle import BoyleParameters, write_boyle
from analog_deq.netlists.contract import Cell, read_contract
from analog_deq.netlists.deck import build_deck, number
from analog_deq.netlists.library import load_cell
from analog_deq.records import Ac, Analysis, Dc, Noise, Op, Plot, Tran
from analog_deq.resources import shipped
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice

SHIPPED = BoyleParameters()
CARDS = {
    "shipped": SHIPPED,
    "bipolar": BoyleParameters(
        "bipolar", a0=2e5, gbw_hz=1e6, slew_v_per_s=0.5e6, phase_margin_deg=60.0, r_out_ohm=75.0, r_in_ohm=0.9e6,
        i_bias_a=80e-9, offset_v=-1e-3, supply_current_a=1.7e-3, headroom_v=1.0, noise_v_per_rthz=20e-9, cmrr_db=90.0,
        psrr_db=96.0, vdd_v=15.0, vss_v=-15.0,
    ),
    "slow": BoyleParameters(
        "slow", a0=1e5, gbw_hz=10e3, slew_v_per_s=20e3, phase_margin_deg=45.0, r_out_ohm=5e3, r_in_ohm=1e9,
        i_bias_a=10e-12, offset_sigma_v=0.0, supply_current_a=1e-6, headroom_v=0.05, noise_v_per_rthz=200e-9,
        cmrr_db=60.0, psrr_db=70.0, vdd_v=1.5, vss_v=-1.5,
    ),
}  # fmt: skip


class Bench:
    """One generated card between its supplies, which are Vdd and Vss."""

    def __init__(self, parameters: BoyleParameters, simulator: Simulator, folder: Path) -> None:
        self.p, self.simulator, self.folder = parameters, simulator, folder
        self.cell: Cell = read_contract(write_boyle(parameters, folder / "card"))

    def run(
        self, nodes: str, circuit: Sequence[str], command: Analysis, save: str = "", rails: tuple[str, str] = ("", ""),
        celsius: float = 27.0,
    ) -> Plot:  # fmt: skip
        """``nodes``: those of in_p, in_n and out. ``rails``: AC values of the supplies."""
        wired = dict(zip(("in_p", "in_n", "out"), nodes.split(), strict=True)) | {"vdd": "vdd", "vss": "vss"}
        supplies = [f"Vdd vdd 0 {self.p.vdd_v!r} {rails[0]}", f"Vss vss 0 {self.p.vss_v!r} {rails[1]}"]
        lines = [self.cell.include_line, *supplies, *circuit, self.cell.instance("X1", wired)]
        deck = build_deck(
            "boyle", lines, [command], save=save.split(), options={"reltol": 1e-6, "method": "gear"},
            files=[self.cell.file], bound=1e8, temperature_celsius=celsius,
        )  # fmt: skip
        return run_deck(deck, simulator=self.simulator, folder=self.folder, timeout_s=60.0).plots[0]

    def gain(self, circuit: Sequence[str], rails: tuple[str, str] = ("", "")) -> tuple[np.ndarray, np.ndarray]:
        """(frequency, v(out)) with the loop closed at DC only; the circuit drives ``ip`` and carries the AC."""
        loop = ["Lf out inn 1e9", "Cf inn 0 1e3", *circuit]
        plot = self.run("ip inn out", loop, Ac(20, 1e-2, 1e11), "v(out)", rails)
        return plot.sweep, plot["v(out)"]


@pytest.fixture(params=list(CARDS))
def bench(request: pytest.FixtureRequest, simulator: Simulator, tmp_path: Path) -> Bench:
    return Bench(CARDS[request.param], simulator, tmp_path)


def test_gain_bandwidth_and_second_pole(bench: Bench) -> None:
    p, (hertz, gain) = bench.p, bench.gain(["Vi ip 0 0 AC 1"])
    expected = p.a0 / (1 + 1j * hertz * p.a0 / p.gbw_hz) / (1 + 1j * hertz / p.second_pole_hz)
    inner = hertz < p.gbw_hz
    np.testing.assert_allclose(np.abs(gain)[inner], np.abs(expected)[inner], rtol=0.02)
    region = (hertz > 10 * p.gbw_hz / p.a0) & (hertz < 0.03 * p.second_pole_hz) & (hertz < 0.1 * p.gbw_hz)
    assert region.sum() > 10
    np.testing.assert_allclose((np.abs(gain) * hertz)[region], p.gbw_hz, rtol=0.02)
    unity = np.exp(np.interp(0.0, -np.log(np.abs(gain)), np.log(hertz)))
    margin = 180 + np.interp(unity, hertz, np.degrees(np.unwrap(np.angle(gain))))
    wanted = p.phase_margin_deg or 90 - math.degrees(math.atan(unity / p.second_pole_hz))
    assert margin == pytest.approx(wanted, abs=2.0)  # the feed-forward zero at 50 GBW or above takes up to 1.1


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_slew_rate_of_both_edges(bench: Bench, sign: float) -> None:
    p = bench.p
    swing = min(p.vdd_v, -p.vss_v) - p.headroom_v
    step = 2 * swing
    stop = 2 * step / p.slew_v_per_s
    circuit = [f"Vi i 0 PWL(0 {-sign * swing!r} {stop / 1e4!r} {sign * swing!r})"]
    plot = bench.run("i out out", circuit, Tran(stop / 500, stop, stop / 2000), "v(out)")
    # Up to 0.3 of the swing the input is 3 SR / (2 pi GBW) ahead or more, where the pair is steered to a per cent.
    window = (sign * plot["v(out)"] > -0.6 * swing) & (sign * plot["v(out)"] < 0.3 * swing)
    rate = np.polyfit(plot.sweep[window], sign * plot["v(out)"][window], 1)[0]
    assert rate == pytest.approx(p.slew_v_per_s, rel=0.02)


def test_offset_bias_current_and_supply_current(bench: Bench) -> None:
    p = bench.p
    plot = bench.run("0 out out", [], Op(), "v(out) i(Vdd) i(Vss)")
    assert plot["v(out)"][0] == pytest.approx(p.offset_v, abs=1e-6)
    assert -plot["i(vdd)"][0] == pytest.approx(p.supply_current_a, rel=1e-3)
    assert plot["i(vss)"][0] == pytest.approx(p.supply_current_a, rel=1e-3)
    plot = bench.run("i out out", ["Vi i 0 0"], Op(), "i(Vi)")
    assert -plot["i(vi)"][0] == pytest.approx(p.i_bias_a, rel=0.02, abs=2e-12)


def test_input_and_output_resistance(bench: Bench) -> None:
    p = bench.p
    loop = ["Vp p 0 0", "Ed n 0 p 0 -1", "Rl out 0 1e9"]  # differential drive about zero, open loop
    step = 1e-5
    plot = bench.run("p n out", loop, Dc("Vp", -step, step, step), "i(Vp)")
    current = -(plot["i(vp)"][2] - plot["i(vp)"][0])
    assert 2 * 2 * step / current == pytest.approx(p.r_in_ohm, rel=0.02)
    circuit = ["Vi ip 0 0", "Io 0 out 0 AC 1"]
    _, impedance = bench.gain(circuit)
    assert abs(impedance[0]) == pytest.approx(p.r_out_ohm, rel=0.01)


@pytest.mark.parametrize("celsius", [-40.0, 27.0, 125.0])
def test_output_stops_at_its_headroom(bench: Bench, celsius: float) -> None:
    p = bench.p
    for sign, rail in ((1.0, p.vdd_v), (-1.0, p.vss_v)):
        drive = [f"Vi i 0 {sign * 0.5 * min(p.vdd_v, -p.vss_v)!r}"]
        out = bench.run("i 0 out", drive, Op(), "v(out)", celsius=celsius)["v(out)"][0]
        assert out == pytest.approx(rail - sign * p.headroom_v, abs=5e-3)


def test_common_mode_and_supply_rejection(bench: Bench) -> None:
    p = bench.p
    hertz, gain = bench.gain(["Vi ip 0 0 AC 1"])
    decade = hertz < 0.1 * p.gbw_hz
    common = bench.run(
        "ip inn out", ["Vi ip 0 0 AC 1", "Lf out inn 1e9", "Cf inn ip 1e3"], Ac(20, 1e-2, 1e11), "v(out)"
    )["v(out)"]
    rejection = 20 * np.log10(np.abs(gain / common)[decade])
    np.testing.assert_allclose(rejection[5:], p.cmrr_db, atol=0.2)
    for rails in (("AC 1", ""), ("", "AC 1")):
        _, supply = bench.gain(["Vi ip 0 0"], rails)
        np.testing.assert_allclose(20 * np.log10(np.abs(gain / supply)[decade]), p.psrr_db, atol=0.2)


def test_noise_density_where_the_pair_and_its_base_currents_make_most_of_it(
    simulator: Simulator, tmp_path: Path
) -> None:
    p = replace(SHIPPED, i_bias_a=0.5e-6, r_in_ohm=200e3, noise_v_per_rthz=3.3e-9)
    plot = Bench(p, simulator, tmp_path).run("i out out", ["Vi i 0 0 AC 1"], Noise("v(out)", "Vi", 10, 1e3, 1e6))
    np.testing.assert_allclose(plot["onoise_spectrum"], 3.3e-9, rtol=0.003)


def test_noise_density(bench: Bench) -> None:
    top = bench.p.gbw_hz / 100
    plot = bench.run("i out out", ["Vi i 0 0 AC 1"], Noise("v(out)", "Vi", 10, top / 1e3, top))
    np.testing.assert_allclose(plot["onoise_spectrum"], bench.p.noise_v_per_rthz, rtol=0.005)


@pytest.mark.parametrize("share", [0.4, -0.4])
def test_load_current_comes_from_the_rail_that_gives_it(bench: Bench, share: float) -> None:
    p = bench.p
    volts, load = share * p.vdd_v, 100 * p.r_out_ohm
    plot = bench.run("i out out", [f"Vi i 0 {volts!r}", f"Rl out 0 {number(load)}"], Op(), "i(Vdd) i(Vss)")
    assert -plot["i(vdd)"][0] == pytest.approx(p.supply_current_a + max(volts, 0) / load, rel=2e-3)
    assert plot["i(vss)"][0] == pytest.approx(p.supply_current_a + max(-volts, 0) / load, rel=2e-3)


def test_the_shipped_card_is_the_generators(tmp_path: Path) -> None:
    path = write_boyle(SHIPPED, tmp_path)
    for suffix in (".cir", ".toml"):
        made = path.with_suffix(suffix).read_text()
        assert made == (shipped("netlists/cells") / f"opamp_boyle{suffix}").read_text(), "make it again: write_boyle"
    assert load_cell("opamp_boyle").role == "opamp"


def test_a_faster_card_is_faster_and_only_that(simulator: Simulator, tmp_path: Path) -> None:
    """Twice the bandwidth and slew rate, all else kept: the ratio of two measured cards, free of any common error."""
    gains = []
    for factor in (1.0, 2.0):
        p = replace(SHIPPED, gbw_hz=factor * 200e6, slew_v_per_s=factor * 200e6, f2_hz=2e9)
        hertz, gain = Bench(p, simulator, tmp_path / str(factor)).gain(["Vi ip 0 0 AC 1"])
        gains.append(np.abs(gain))
    assert gains[1][0] / gains[0][0] == pytest.approx(1.0, rel=1e-3)
    region = (hertz > 1e6) & (hertz < 2e7)
    np.testing.assert_allclose(gains[1][region] / gains[0][region], 2.0, rtol=5e-3)
