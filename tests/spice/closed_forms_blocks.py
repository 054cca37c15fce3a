"""Measurements of activations, drivers, integrators and summers against closed forms, on cells written here.

``rows`` is the table: the tests hold each row to its tolerance, the documentation prints it. No formula here uses the
package: constants and laws are written anew. A tolerance is relative, or absolute where 0 is expected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from analog_deq.characterise.campaign import Question, characterise
from analog_deq.characterise.corners import select_corners
from analog_deq.characterise.registry import measurements_of
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.library import load_cell
from analog_deq.spice.simulator import Simulator

BOLTZMANN, CHARGE = 1.380649e-23, 1.602176634e-19
KELVIN = 300.15
FOUR_KT = 4 * BOLTZMANN * KELVIN
TOLERANCES = (("settle_0p1", 1e-3), ("settle_0p01", 1e-4))

S, X0, SHIFT, LIFT = 0.2, 0.16, 0.01, 0.005
R_OUT, C_OUT, R_IN, C_IN = 10e3, 1e-12, 1e6, 3e-12
TAIL, R_PAIR, C_PAIR, RATIO = 40e-6, 5e3, 100e-15, 1.1
R_LOOP, L_LOOP, C_LOOP = 50.0, 1e-6, 100e-12
CORNER_HZ = 1e4
GAIN, LIMIT, VOS, R_DRIVE, R_LOAD, C_LOAD, IQ = 2.0, 0.5, 3e-3, 50.0, 1e3, 10e-12, 100e-6
A, SWING, R_F, C_F, V_OFF = 1e3, 0.8, 16e3, 12.5e-12, 1e-3
A0, GBW, R_SUM, R_SOURCE, R_OPEN = 1e4, 50e6, 10e3, 2e3, 100.0

BODIES: Mapping[str, str] = {
    "tanh": f"B1 u 0 v={S}*tanh((v(in)-{SHIFT})*300.15/({X0}*(temper+273.15)))+{LIFT}\n"
    f"R1 u out {R_OUT}\nC1 out 0 {C_OUT}\nR2 in 0 {R_IN}\nC2 in 0 {C_IN}",
    "bipolar": f"Q1 out_n in e qn\nQ2 out_p 0 e qn area={{area}}\nI1 e vss {TAIL}\n"
    f"R1 vdd out_n {R_PAIR}\nR2 vdd out_p {R_PAIR}\nC1 out_n 0 {C_PAIR}\nC2 out_p 0 {C_PAIR}\n"
    ".model qn npn is=1e-16 bf=1e9",
    "supplied": f"B1 u 0 v={S}*((v(vdd)-v(vss))/1.8)**2*tanh((v(in)-0.01*(v(vdd)-v(vss)))/{X0})\n"
    f"R1 u out {R_OUT}\nC1 out 0 {C_OUT}\nR2 vdd vss 18k noisy=0",
    "atan": "B1 u 0 v=0.2*atan(v(in)/0.1)\nR1 u out 1k\nC1 out 0 1p",
    "sine": "B1 u 0 v=0.2*sin(v(in)/0.25)\nR1 u out 1k\nC1 out 0 1p",
    "rlc": f"B1 u 0 v=v(in)\nR1 u a {R_LOOP}\nL1 a out {L_LOOP}\nC1 out 0 {C_LOOP}",
    "flicker": "B1 u 0 v=0.2*tanh(v(in)/0.16)+v(k)-0.6\nR1 u out 1\nC1 out 0 1n\nI1 0 k 1u\nD1 k 0 dk\n"
    f".model dk d is=1e-16 kf={2 * CHARGE * CORNER_HZ!r} af=1",
    "driver": f"B1 d 0 v={LIMIT}*tanh({GAIN / 2 / LIMIT}*(v(in_p)-v(in_n)+{VOS}))+0.5e-2*(v(in_p)+v(in_n))/2"
    "+0.5e-3*(v(vdd)-0.9)+0.5e-4*(v(vss)+0.9)\n"
    f"E1 e 0 d 0 -1\nR1 d out_p {R_DRIVE}\nR2 e out_n {R_DRIVE}\nR3 in_p in_n {R_IN} noisy=0\nC3 in_p in_n {C_IN}\n"
    f"I1 vdd vss {IQ}",
    "integrator": f"B1 out 0 v={SWING}*tanh({A / SWING}*(v(ref)-v(in)+{V_OFF}))\nR1 in out {R_F}\nC1 in out {C_F}",
    "loaded": f"E1 out 0 0 in 1e7\nR1 in out {R_F}\nC1 in out {C_F}\nR2 in 0 {R_F / 3!r}",
    "summer": f"G1 0 n ref in 1e-3\nR1 n 0 {A0 * 1e3} noisy=0\nC1 n 0 {1e-3 / (2 * math.pi * GBW)!r}\nE1 out 0 n 0 1\n"
    f"R2 in out {R_SUM}\nI1 vdd vss {IQ}",
    "resistive": f"E1 m 0 ref in {A0}\nR1 m out {R_OPEN}\nR2 in out {R_SUM}\nC2 in out 1p",
}  # fmt: skip
"""Subcircuit of each test cell; each has the parameter ``area``, which only the bipolar pair uses."""

ROLES: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("tanh", "atan", "sine", "rlc", "flicker"), ("activation", "in out")),
    "bipolar": ("activation", "in out_p out_n vdd vss"),
    "supplied": ("activation", "in out vdd vss"),
    "driver": ("driver", "in_p in_n out_p out_n vdd vss"),
    "integrator": ("integrator", "in out ref"),
    "loaded": ("integrator", "in out"),
    "summer": ("summer", "in out ref vdd vss"),
    "resistive": ("summer", "in out ref"),
}
CONDITIONS: Mapping[str, Mapping[str, str]] = {
    "atan": {"in_range": '{ typ = 0.5, unit = "V" }'},
    "sine": {"in_range": '{ typ = 0.5, min = -0.25, max = 0.5, unit = "V" }'},
    "driver": {
        "gain": f'{{ typ = {GAIN}, unit = "V/V" }}',
        "load": f'{{ typ = {C_LOAD}, unit = "F" }}',
        "load_r": f'{{ typ = {R_LOAD}, unit = "ohm" }}',
    },
    "summer": {"source_r": f'{{ typ = {R_SOURCE}, unit = "ohm" }}'},
}


def write_cell(
    folder: Path,
    name: str,
    body: str | None = None,
    *,
    as_a: tuple[str, str] | None = None,
    conditions: Mapping[str, str] | None = None,
    native: bool = True,
    sigma: float = 0.0,
) -> Cell:
    """A cell of ``BODIES`` (or ``body``) in its role: +-0.9 V if it has rails. ``sigma`` is the mismatch of ``dm``."""
    role, pins = as_a or ROLES[name]
    named = {pin: pin for pin in pins.split()}
    if role == "activation" and "out" in named:
        named = {("out_p" if pin == "out" else pin): pin for pin in named}
    given = dict(CONDITIONS.get(name, {}) if conditions is None else conditions)
    given["temp"] = '{ min = -40.0, typ = 27.0, max = 125.0, unit = "C" }'
    if "vdd" in named:
        given["vdd"] = '{ min = 0.81, typ = 0.9, max = 0.99, unit = "V" }'
        given["vss"] = '{ min = -0.99, typ = -0.9, max = -0.81, unit = "V" }'
    text = BODIES[name] if body is None else body
    (folder / f"{name}.cir").write_text(f"* {name}\n.subckt {name} {pins} area=1.0 dm=0.0\n{text}\n.ends {name}\n")
    drawn = f'[mismatch.params.dm]\ndistribution = "normal"\nsigma = {sigma!r}\nunit = "V"\nrelative = false\n'
    (folder / f"{name}.toml").write_text(f"""schema = 1
[cell]
name = "{name}"
role = "{role}"
netlist = "{name}.cir"
subckt = "{name}"
[pins]
{chr(10).join(f'{key} = "{pin}"' for key, pin in named.items())}
[params]
area = {{ unit = "1", default = 1.0, min = 0.5, max = 2.0 }}
dm = {{ unit = "V", default = 0.0, min = -0.1, max = 0.1 }}
[mismatch]
mode = "{"params" if sigma else "none"}"
{drawn if sigma else ""}
[noise]
native = {str(native).lower()}
[corners]
tt = {{}}
ff = {{ params = {{ area = {RATIO} }} }}
[conditions]
{chr(10).join(f"{key} = {value}" for key, value in given.items())}
""")
    return load_cell(folder / f"{name}.toml")


def measure(
    cell: Cell, simulator: Simulator, root: Path, names: Sequence[str] = (), corners: str = "typ", dies: int = 0
) -> pd.DataFrame:
    """The ``quantities`` table of a cell, ranged first whatever is asked for."""
    chosen = tuple(select_corners(cell, corners))
    ranging = [m.name for m in measurements_of(cell.role) if m.ranging]
    asked = tuple(dict.fromkeys([*ranging, *names])) if names else ()
    question = Question(cell, chosen, measurements_of(cell.role, asked), tuple(range(dies)), seed=3)
    return characterise(question, simulator=simulator, root=root).tables["quantities"]


def one(table: pd.DataFrame, quantity: str, at: str = "", corner: str | None = None) -> float:
    """Value of a quantity of the nominal cell at a condition; at the first corner unless named."""
    corner = table["corner"].iloc[0] if corner is None else corner
    rows = table[(table["quantity"] == quantity) & (table["corner"] == corner) & (table["variant"] == "nominal")]
    rows = rows[rows["at"] == at]
    assert len(rows) == 1, f"no {quantity} at {at!r}, {corner}: {list(table.loc[table['quantity'] == quantity, 'at'])}"
    assert rows["status"].item() == "ok", f"{quantity} at {at!r}: {rows['status'].item()}"
    return float(rows["value"].item())


def derivative(f: Callable[[float], float], x: float) -> float:
    """Fourth-order central difference of a formula."""
    h = 1e-3 * abs(x)
    return (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h)


class Rows(list[dict[str, Any]]):
    """The rows so far; ``add`` appends one, ``pole`` those of every step and of noise behind a single pole."""

    def add(
        self, quantity: str, circuit: str, formula: str, expected: float, measured: float, tolerance: float
    ) -> None:
        self.append({
            "quantity": quantity, "circuit": circuit, "formula": formula, "expected": expected, "measured": measured,
            "tolerance": tolerance,
        })  # fmt: skip

    def pole(self, circuit: str, table: pd.DataFrame, tau: float, steps: Sequence[str], more: str = "") -> None:
        self.add("bandwidth", circuit, "1/(2 pi tau)", 1 / (2 * math.pi * tau), one(table, "bandwidth", more), 2e-5)
        self.add("peaking", circuit, "0 for one pole", 0.0, one(table, "peaking", more), 1e-6)
        for step in steps:
            for edge in ("rise", "fall"):
                at = f"step={step} {edge} {more}".strip()
                where = f"{circuit}, {step} {edge}"
                self.add("delay", where, "tau ln 2", tau * math.log(2), one(table, "delay", at), 2e-3)
                for name, tolerance in TOLERANCES:
                    self.add(
                        name, where, "-tau ln(tolerance)", -tau * math.log(tolerance), one(table, name, at), 2e-3
                    )  # fmt: skip
                self.add("overshoot", where, "0 for one pole", 0.0, one(table, "overshoot", at), 2e-6)


def rows(simulator: Simulator, folder: Path) -> list[dict[str, Any]]:
    """Every check: quantity, circuit, formula, expected and measured value, tolerance."""
    found = Rows()

    def table(name: str, corners: str = "typ", names: Sequence[str] = ()) -> pd.DataFrame:
        return measure(write_cell(folder, name), simulator, folder / "runs", names, corners)

    _tanh(found, table("tanh", "typ"))
    _bipolar(found, table("bipolar", "tt_27C_1p8V,ff_27C_1p8V,tt_125C_1p8V,tt_27C_1p98V"))
    _shapes(found, table)
    _driver(found, table("driver"))
    _integrator(found, table)
    _summer(found, table)
    return found


def _tanh(found: Rows, t: pd.DataFrame) -> None:
    where = f"S tanh((x - a) T0/(x0 T)) + b, S {S} V, x0 {X0} V, a {SHIFT} V, b {LIFT} V, behind {R_OUT:g} ohm, 1 pF"

    def y(x: float, kelvin: float = KELVIN) -> float:
        return S * math.tanh((x - SHIFT) * KELVIN / (X0 * kelvin)) + LIFT

    def slope(kelvin: float) -> float:
        u = KELVIN / (X0 * kelvin)
        return S * u / math.cosh(SHIFT * u) ** 2

    def level(kelvin: float) -> float:
        return (y(1.0, kelvin) - y(-1.0, kelvin)) / 2

    add = found.add
    add("slope", where, "S/x0 sech(a/x0)^2", slope(KELVIN), one(t, "slope"), 1e-6)
    add("saturation_high", where, "S + b", y(1.0), one(t, "saturation_high"), 1e-7)
    add("saturation_low", where, "-S + b", y(-1.0), one(t, "saturation_low"), 1e-8)
    add("input_offset", where, "a - x0 atanh(b/S)", SHIFT - X0 * math.atanh(LIFT / S), one(t, "input_offset"), 1e-6)
    add("output_offset", where, "b - S tanh(a/x0)", y(0.0), one(t, "output_offset"), 1e-6)
    add("tanh_deviation", where, "0", 0.0, one(t, "tanh_deviation"), 1e-3)
    add("backslide", where, "0", 0.0, one(t, "backslide"), 1e-9)
    add("slope_tempco", where, "d ln(slope)/dT", 100 * derivative(slope, KELVIN) / slope(KELVIN),
        one(t, "slope_tempco"), 1e-3)  # fmt: skip
    add("saturation_tempco", where, "d ln(S tanh(1 V T0/(x0 T)))/dT", 100 * derivative(level, KELVIN) / level(KELVIN),
        one(t, "saturation_tempco"), 1e-2)  # fmt: skip
    add("offset_tempco", where, "-d(y(0)/slope)/dT", derivative(lambda k: -y(0.0, k) / slope(k), KELVIN),
        one(t, "offset_tempco"), 2e-3)  # fmt: skip
    found.pole(where, t, R_OUT * C_OUT, ("100mV", "250mV"))
    add("noise_density", where, "sqrt(4kTR)", math.sqrt(FOUR_KT * R_OUT), one(t, "noise_density", "f=1kHz"), 1e-5)
    add("noise_density", where, "sqrt(4kTR)", math.sqrt(FOUR_KT * R_OUT), one(t, "noise_density", "f=100kHz"), 1e-4)
    _kt_over_c(found, t, where, BOLTZMANN * KELVIN / C_OUT)
    add("input_resistance", where, "1 Mohm", R_IN, one(t, "input_resistance"), 1e-6)
    add("input_capacitance", where, "3 pF", C_IN, one(t, "input_capacitance", "f=100kHz"), 1e-6)
    add("output_impedance", where, "10 kohm", R_OUT, one(t, "output_impedance", "f=0"), 1e-6)
    z = R_OUT / math.hypot(1.0, 2 * math.pi * 1e5 * R_OUT * C_OUT)
    add("output_impedance", where, "|R/(1 + jwRC)|", z, one(t, "output_impedance", "f=100kHz"), 1e-6)


def _kt_over_c(found: Rows, t: pd.DataFrame, where: str, square: float, formula: str = "kT/C", more: str = "") -> None:
    total, inside = (f"band=1Hz..{top} {more}".strip() for top in ("1000*bandwidth", "bandwidth"))
    found.add("noise_rms", where, f"sqrt({formula})", math.sqrt(square), one(t, "noise_rms", total), 1e-3)
    if more:
        return
    found.add("noise_rms", where, f"sqrt({formula} / 2)", math.sqrt(square / 2), one(t, "noise_rms", inside), 1e-3)


def _bipolar(found: Rows, t: pd.DataFrame) -> None:
    add = found.add
    for corner, kelvin in (("tt_27C_1p8V", KELVIN), ("tt_125C_1p8V", 398.15)):
        where, vt = f"bipolar pair, 40 uA into 5 kohm, {kelvin - 273.15:g} C", BOLTZMANN * kelvin / CHARGE
        add("slope", where, "I R q/2kT", TAIL * R_PAIR / (2 * vt), one(t, "slope", corner=corner), 2e-5)
        add("slope_tempco", where, "-1/T", -100 / kelvin, one(t, "slope_tempco", corner=corner), 1e-3)
        add("offset_tempco", where, "k/q ln(area)", 0.0, one(t, "offset_tempco", corner=corner), 1e-9)
        noise = 2 * CHARGE * TAIL * R_PAIR**2 + 8 * BOLTZMANN * kelvin * R_PAIR
        add("noise_density", where, "sqrt(2qIR^2 + 8kTR)", math.sqrt(noise),
            one(t, "noise_density", "f=1kHz", corner), 2e-5)  # fmt: skip
    where, vt = "bipolar pair, 40 uA into 5 kohm", BOLTZMANN * KELVIN / CHARGE
    add("saturation_high", where, "I R", TAIL * R_PAIR, one(t, "saturation_high"), 1e-6)
    add("saturation_low", where, "-I R", -TAIL * R_PAIR, one(t, "saturation_low"), 1e-6)
    add("tanh_deviation", where, "0: the pair is a tanh", 0.0, one(t, "tanh_deviation"), 1e-4)
    add("output_impedance", where, "2 R", 2 * R_PAIR, one(t, "output_impedance", "f=0"), 1e-6)
    add("supply_current", where, "I", TAIL, one(t, "supply_current"), 1e-6)
    add("supply_power", where, "I (Vdd - Vss)", TAIL * 1.8, one(t, "supply_power"), 1e-6)
    add("supply_power", f"{where}, 1.98 V", "I (Vdd - Vss)", TAIL * 1.98,
        one(t, "supply_power", corner="tt_27C_1p98V"), 1e-6)  # fmt: skip
    add("bandwidth", where, "1/(2 pi R C)", 1 / (2 * math.pi * R_PAIR * C_PAIR), one(t, "bandwidth"), 2e-5)
    where = f"bipolar pair, areas 1 and {RATIO}"
    offset = vt * math.log(RATIO)
    add("input_offset", where, "kT/q ln(area)", offset, one(t, "input_offset", corner="ff_27C_1p8V"), 1e-4)
    add("offset_tempco", where, "k/q ln(area)", offset / KELVIN, one(t, "offset_tempco", corner="ff_27C_1p8V"), 2e-3)
    half = -TAIL * R_PAIR * math.tanh(offset / (2 * vt))
    add("output_offset", where, "-I R tanh(q Vos/2kT)", half, one(t, "output_offset", corner="ff_27C_1p8V"), 1e-4)


def fitted_tanh_deviation(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> float:
    """Largest distance from the least-squares tanh, by another minimiser than the measurement's."""
    y = f(x)

    def model(p: np.ndarray) -> np.ndarray:
        return p[0] * np.tanh((x - p[2]) / p[1]) + p[3]

    start = [np.ptp(y) / 2, np.ptp(x) / 6, float(x[np.argmin(np.abs(y))]), float(np.mean(y)) / 10]
    best = minimize(lambda p: float(np.sum((model(p) - y) ** 2)), start, method="Nelder-Mead",
                    options={"xatol": 1e-10, "fatol": 1e-16, "maxiter": 20000, "maxfev": 20000})  # fmt: skip
    return float(np.max(np.abs(model(best.x) - y)))


def _shapes(found: Rows, table: Callable[..., pd.DataFrame]) -> None:
    add = found.add
    t, where = table("atan", names=["transfer"]), "0.2 V atan(x/0.1 V), |x| <= 0.5 V"
    top = 0.2 * math.atan(5.0)
    off = fitted_tanh_deviation(lambda x: 0.2 * np.arctan(x / 0.1), np.linspace(-0.5, 0.5, 401))
    add("saturation_high", where, "0.2 atan(5)", top, one(t, "saturation_high"), 1e-8)
    add("tanh_deviation", where, "least squares by Nelder and Mead", 100 * off / top, one(t, "tanh_deviation"), 1e-4)
    t, where = table("sine", names=["transfer"]), "0.2 V sin(x/0.25 V), -0.25 V <= x <= 0.5 V"
    scale = (1 + math.sin(1.0)) / 2
    add("backslide", where, "(1 - sin 2)/FS", 100 * (1 - math.sin(2.0)) / scale, one(t, "backslide"), 1e-4)
    add("saturation_low", where, "-0.2 sin 1", -0.2 * math.sin(1.0), one(t, "saturation_low"), 1e-8)

    t, where = table("supplied"), "S (V/1.8)^2 tanh((x - 0.01 V)/x0), V the supply"
    add("saturation_supply", where, "2/V", 200 / 1.8, one(t, "saturation_supply"), 1e-4)
    sharp = 2 / 1.8 - 0.02 * math.tanh(0.018 / X0) / X0
    add("slope_supply", where, "2/V - 0.02 tanh(0.01 V/x0)/x0", 100 * sharp, one(t, "slope_supply"), 1e-3)
    # the offset is -y(0)/slope(0) = x0 tanh(u)/sech(u)^2 with u = 0.01 V/x0; its derivative by V
    add("offset_supply", where, "d(x0 sinh u cosh u)/dV, u = 0.01 V/x0",
        0.01 * math.cosh(2 * 0.018 / X0), one(t, "offset_supply"), 1e-3)  # fmt: skip
    add("supply_current", where, "1.8 V/18 kohm", 1e-4, one(t, "supply_current"), 1e-6)
    add("supply_power", where, "V^2/R", 1.8**2 / 18e3, one(t, "supply_power"), 1e-6)

    t, where = table("rlc", names=["step_response"]), f"second order, {R_LOOP:g} ohm, 1 uH, 100 pF"
    w0, q = 1 / math.sqrt(L_LOOP * C_LOOP), math.sqrt(L_LOOP / C_LOOP) / R_LOOP
    b = 1 - 1 / (2 * q * q)
    add("bandwidth", where, "w0 sqrt(b + sqrt(b^2 + 1))/2 pi, b = 1 - 1/2Q^2",
        w0 * math.sqrt(b + math.sqrt(b * b + 1)) / (2 * math.pi), one(t, "bandwidth"), 1e-4)  # fmt: skip
    damping = math.sqrt(1 - 1 / (4 * q * q))
    add("peaking", where, "Q/sqrt(1 - 1/4Q^2)", 20 * math.log10(q / damping), one(t, "peaking"), 1e-2)
    shoot = math.exp(-math.pi / (2 * q * damping))
    for edge in ("rise", "fall"):
        add("overshoot", f"{where}, {edge}", "exp(-pi/sqrt(4Q^2 - 1))", shoot,
            one(t, "overshoot", f"step=100mV {edge}"), 1e-3)  # fmt: skip

    t, where = table("flicker", names=["noise"]), "diode at 1 uA, KF = 2q 10 kHz"
    add("noise_corner", where, "KF/2q", CORNER_HZ, one(t, "noise_corner"), 2e-3)


def _driver(found: Rows, t: pd.DataFrame) -> None:
    add = found.add
    where, share = f"2 x 0.5 V tanh, {R_DRIVE:g} ohm into {R_LOAD:g} ohm and 10 pF a side", R_LOAD / (R_LOAD + R_DRIVE)
    rest = math.tanh(GAIN / 2 / LIMIT * VOS)
    gain = GAIN * share * (1 - rest**2)
    add("gain", where, "g RL/(RL + Ro)", gain, one(t, "gain"), 1e-5)
    add("gain_error", where, "RL/(RL + Ro) - 1", 100 * (gain / GAIN - 1), one(t, "gain_error"), 1e-4)
    add("input_offset", where, "-Vos", -VOS, one(t, "input_offset"), 1e-5)
    bend = math.sqrt(1 - 0.99 * (1 - rest**2))
    add("swing_high", where, "2 S tanh where sech^2 = 0.99", 2 * LIMIT * share * bend, one(t, "swing_high"), 2e-4)
    add("swing_low", where, "-2 S tanh where sech^2 = 0.99", -2 * LIMIT * share * bend, one(t, "swing_low"), 2e-4)
    found.pole(where, t, R_DRIVE * share * C_LOAD, ("180mV", "450mV"))
    for quantity, leak in (("cmrr", 1e-2), ("psrr_vdd", 1e-3), ("psrr_vss", 1e-4)):
        for at in ("f=0", "f=100kHz"):
            add(quantity, where, "A_d/A", 20 * math.log10(GAIN * (1 - rest**2) / leak), one(t, quantity, at), 1e-6)
    add("noise_density", where, "sqrt(8kTRo) RL/(RL + Ro)", math.sqrt(2 * FOUR_KT * R_DRIVE) * share,
        one(t, "noise_density", "f=1kHz"), 1e-5)  # fmt: skip
    _kt_over_c(found, t, where, 2 * BOLTZMANN * KELVIN / C_LOAD * share, "2kT/C RL/(RL + Ro)")
    add("supply_current", where, "Iq", IQ, one(t, "supply_current"), 1e-9)
    add("supply_power", where, "Iq (Vdd - Vss)", IQ * 1.8, one(t, "supply_power"), 1e-9)
    add("input_resistance", where, "1 Mohm", R_IN, one(t, "input_resistance"), 1e-6)
    add("input_capacitance", where, "3 pF", C_IN, one(t, "input_capacitance", "f=100kHz"), 1e-6)
    for at in ("f=0", "f=100kHz"):
        add("output_impedance", where, "2 Ro, unloaded", 2 * R_DRIVE, one(t, "output_impedance", at), 1e-6)


def _integrator(found: Rows, table: Callable[..., pd.DataFrame]) -> None:
    add = found.add
    t, where = table("integrator"), f"amplifier of gain {A:g}, {R_F:g} ohm || 12.5 pF"
    less = 1 / (1 + 1 / A)
    add("transresistance", where, "-R/(1 + 1/A)", -R_F * less, one(t, "transresistance"), 1e-6)
    add("output_offset", where, "Vos/(1 + 1/A)", V_OFF * less, one(t, "output_offset"), 1e-5)
    # (1 + 1/A)/(1 + 1/A') = 0.99 with A' = A (1 - (v/L)^2)
    bent = 1 / (A * ((1 + 1 / A) / 0.99 - 1))
    add("swing_high", where, "L sqrt(1 - A'/A), (1 + 1/A)/(1 + 1/A') = 0.99", SWING * math.sqrt(1 - bent),
        one(t, "swing_high"), 1e-3)  # fmt: skip
    add("swing_low", where, "-L sqrt(1 - A'/A)", -SWING * math.sqrt(1 - bent), one(t, "swing_low"), 1e-3)
    add("leak_conductance", where, "(1 + 1/A)/R", 1 / (R_F * less), one(t, "leak_conductance"), 1e-6)
    add("integrating_capacitance", where, "C (1 + 1/A)", C_F / less, one(t, "integrating_capacitance"), 1e-4)
    add("leak_time", where, "R C", R_F * C_F, one(t, "leak_time"), 1e-4)
    unity = math.sqrt((R_F * less / 1e3) ** 2 - 1) / (2 * math.pi * R_F * C_F)
    add(
        "unity_frequency",
        where,
        "sqrt((Z/1 kohm)^2 - 1)/(2 pi R C)",
        unity,
        one(t, "unity_frequency", "source=1kohm"),
        1e-4,
    )
    add("time_constant", where, "R C", R_F * C_F, one(t, "time_constant"), 1e-4)
    add("tau_error", where, "0 for one pole", 0.0, one(t, "tau_error"), 1e-2)
    add("fit_rms", where, "0 for one pole", 0.0, one(t, "fit_rms"), 1e-2)
    add("input_impedance", where, "R/(1 + A)", R_F / (1 + A), one(t, "input_impedance", "f=0"), 1e-5)
    found.pole(where, t, R_F * C_F, ("200mV", "500mV"))
    add("noise_density", where, "sqrt(4kTR)/(1 + 1/A)", math.sqrt(FOUR_KT * R_F) * less,
        one(t, "noise_density", "f=1kHz"), 1e-5)  # fmt: skip
    _kt_over_c(found, t, where, BOLTZMANN * KELVIN / C_F * less**2)
    t = table("loaded", names=["noise"])
    where = f"ideal integrator, {R_F:g} ohm || 12.5 pF, R/3 at its input"
    _kt_over_c(found, t, where, BOLTZMANN * KELVIN / C_F * 4, "kT/C (1 + R/Rin)")


def _summer(found: Rows, table: Callable[..., pd.DataFrame]) -> None:
    add = found.add
    t = table("summer")
    for source, gain in (("", 1.0), ("source=2kohm", 1 + R_SUM / R_SOURCE)):
        where = f"single-pole amplifier, A0 {A0:g}, GBW 50 MHz, 10 kohm{', source 2 kohm' if source else ''}"
        pole = GBW / gain * (1 + gain / A0)
        found.pole(where, t, 1 / (2 * math.pi * pole), ("180mV", "450mV"), source)
        square = FOUR_KT * R_SUM / (1 + gain / A0) ** 2
        add("noise_density", where, "sqrt(4kTR)/(1 + (1 + R/Rs)/A0)", math.sqrt(square),
            one(t, "noise_density", f"f=1kHz {source}".strip()), 1e-5)  # fmt: skip
        _kt_over_c(found, t, where, square * pole * math.pi / 2, "4kTR pi/2 f3dB", source)
    where = f"single-pole amplifier, A0 {A0:g}, GBW 50 MHz, 10 kohm"
    add("transresistance", where, "-R/(1 + 1/A0)", -R_SUM / (1 + 1 / A0), one(t, "transresistance"), 1e-6)
    add("output_offset", where, "0", 0.0, one(t, "output_offset"), 1e-9)
    add("input_impedance", where, "R/(1 + A0)", R_SUM / (1 + A0), one(t, "input_impedance", "f=0"), 1e-5)
    z = R_SUM / abs(1 + A0 / (1 + 1j * 1e5 * A0 / GBW))
    add("input_impedance", where, "|R/(1 + A(f))|", z, one(t, "input_impedance", "f=100kHz"), 1e-5)
    add("supply_power", where, "Iq (Vdd - Vss)", IQ * 1.8, one(t, "supply_power"), 1e-9)
    t, where = table("resistive", names=["impedance"]), f"gain {A0:g}, {R_OPEN:g} ohm open loop"
    add("output_impedance", where, "Ro/(1 + A)", R_OPEN / (1 + A0), one(t, "output_impedance", "f=0"), 1e-5)
