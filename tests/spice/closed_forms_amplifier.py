"""Measurements of op-amps and OTAs: closed forms on cells written here, hand analysis of the shipped Level-1 circuits.

``rows`` is the table: the tests hold each row to its tolerance, the documentation prints it. No formula here uses the
package. A tolerance is relative, or absolute where 0 is expected; those of the hand analyses say how far first-order
textbook formulas (no lambda in the currents, no junctions) are from the circuit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from closed_forms_blocks import BOLTZMANN, CHARGE, FOUR_KT, KELVIN, Rows, measure, one, write_cell
from scipy.optimize import brentq

from analog_deq.netlists.cell import Cell
from analog_deq.netlists.library import load_cell
from analog_deq.resources import shipped
from analog_deq.spice.simulator import Simulator

RAILED, BARE = ("opamp", "in_p in_n out vdd vss"), ("opamp", "in_p in_n out")
OTA = ("ota", "in_p in_n out vdd vss")
EDGES = ("rise", "fall")
TOLERANCES = (("settle_0p1", 1e-3), ("settle_0p01", 1e-4))

GM, A0, GBW = 1e-3, 2e3, 10e6
C_POLE = GM / (2 * math.pi * GBW)
VOS, CM, DD, SS, R_NOISE, IQ = 2e-3, 1e-3, 3e-4, 1e-4, 1500.0, 150e-6
UP, DOWN, WIDE = 20e6, 10e6, "6.0"
R_OUT, R_LOAD, R_D, R_C, C_D, C_C = 250.0, 1e3, 1e6, 3e6, 2e-12, 1e-12
TOP, LIFT, BEND, SHIFT = 0.6, 0.1, 0.05, 0.05
CORNER_HZ, GBW_SLOW = 3e3, 20e3
GM_OTA, R_OTA, C_OTA = 100e-6, 2e6, 5e-12

STAGE = f"R1 n 0 {A0 / GM!r} noisy=0\nC1 n 0 {C_POLE!r}\n"
"""Makes a current into n a gain of A0 with a gain-bandwidth product of GBW."""
BUFFER = "E1 out 0 n 0 1"

BODIES: Mapping[str, str] = {
    "pole": f"B1 0 n i={GM}*(v(in_p)-v(in_n)+{VOS}+dm+v(k)+{CM}*(v(in_p)+v(in_n))/2"
    f"+{DD}*(v(vdd)-0.9)+{SS}*(v(vss)+0.9))\n{STAGE}{BUFFER}\nR2 k 0 {R_NOISE}\nI1 vdd vss {IQ}",
    "slewing": f"B1 0 n i=v(in_p)>v(in_n) ? {UP * C_POLE!r}*tanh({GM / (UP * C_POLE)!r}*(v(in_p)-v(in_n)))"
    f" : {DOWN * C_POLE!r}*tanh({GM / (DOWN * C_POLE)!r}*(v(in_p)-v(in_n)))\n"
    f"R1 n 0 1e9 noisy=0\nC1 n 0 {C_POLE!r}\n{BUFFER}",
    "two_poles": f"G1 0 n in_p in_n {GM}\nR1 n 0 1e9 noisy=0\nC1 n 0 {C_POLE!r}\n"
    f"E2 a 0 n 0 1\nR2 a b 1k\nC2 b 0 {1 / (2e3 * math.pi * GBW)!r}\nE1 out 0 b 0 1",
    "three_poles": f"G1 0 n in_p in_n {GM}\nR1 n 0 1e9 noisy=0\nC1 n 0 {C_POLE!r}\n"
    f"E2 a 0 n 0 1\nR2 a b 1k\nC2 b 0 {1 / (8e3 * math.pi * GBW)!r}\n"
    f"E3 c 0 b 0 1\nR3 c d 1k\nC3 d 0 {1 / (8e3 * math.pi * GBW)!r}\nE1 out 0 d 0 1",
    "ports": f"G1 0 n in_p in_n {GM}\n{STAGE}E1 m 0 n 0 1\nR2 m out {R_OUT}\nR3 in_p in_n {R_D} noisy=0\n"
    f"C3 in_p in_n {C_D}\nR4 in_p 0 {R_C} noisy=0\nC4 in_p 0 {C_C}\nR5 in_n 0 {R_C} noisy=0\nC5 in_n 0 {C_C}",
    "limits": f"B1 0 n i={GM}*(v(in_p)-v(in_n)+{BEND}*(v(in_p)-{SHIFT})**3)\n{STAGE}"
    f"B2 out 0 v={TOP}*tanh(v(n)/{TOP})+{LIFT}",
    "flicker": f"B1 0 n i={GM}*(v(in_p)-v(in_n)+v(k)-0.5955)\n{STAGE}{BUFFER}\nI1 0 k 1u\nD1 k 0 dk\n"
    f".model dk d is=1e-16 kf={2 * CHARGE * CORNER_HZ!r} af=1",
    "slow": f"B1 0 n i={GM}*(v(in_p)-v(in_n)+v(k))\nR1 n 0 {A0 / GM!r} noisy=0\n"
    f"C1 n 0 {GM / (2 * math.pi * GBW_SLOW)!r}\n{BUFFER}\nR2 k 0 {R_NOISE}",
    "ota": f"G1 0 out in_p in_n {GM_OTA}\nR1 out 0 {R_OTA}",
}  # fmt: skip
"""Subcircuit of each test cell."""


def write_amplifier(folder: Path, name: str, body: str | None = None, **more: Any) -> Cell:
    """A cell of ``BODIES`` (or ``body``): +-0.9 V if it has rails; ``conditions`` and ``sigma`` as ``write_cell``."""
    as_a = more.pop("as_a", {"pole": RAILED, "limits": RAILED, "ota": OTA}.get(name, BARE))
    return write_cell(folder, name, BODIES[name] if body is None else body, as_a=as_a, **more)


def rows(simulator: Simulator, folder: Path) -> list[dict[str, Any]]:
    """Every check: quantity, circuit, formula, expected and measured value, tolerance."""
    found = Rows()

    def table(name: str, corners: str = "typ", **more: Any) -> pd.DataFrame:
        return measure(write_amplifier(folder, name, **more), simulator, folder / "runs", corners=corners)

    _pole(found, table("pole", "tt_27C_1p8V,tt_125C_1p8V,tt_27C_1p98V"))
    _slewing(found, table("slewing", conditions={"step": f'{{ typ = {WIDE}, unit = "V" }}'}))
    _poles(found, table)
    _ports(found, table)
    _limits(found, table("limits"))
    _ota(found, table("ota", conditions={"load": f'{{ typ = {C_OTA}, unit = "F" }}'}))
    _two_stage(found, simulator, folder)
    _five_transistors(found, measure(load_cell("ota_5t"), simulator, folder / "runs"))
    return found


def decibel(ratio: float) -> float:
    return 20 * math.log10(ratio)


def _pole(found: Rows, t: pd.DataFrame) -> None:
    add = found.add
    where = f"single pole, A0 {A0:g}, GBW 10 MHz, offset 2 mV, CMRR 1000, PSRR 3333 and 10000"
    # a signal at in_n alone is a common mode of one half
    loop = 1 - CM / 2
    add("dc_gain", where, "A0 (1 - 1/2 CMRR)", decibel(A0 * loop), one(t, "dc_gain"), 1e-6)
    add("gbw", where, "GBW", GBW * loop, one(t, "gbw"), 1e-4)
    unity = math.sqrt((A0 * loop) ** 2 - 1)
    add("unity_gain", where, "GBW sqrt(1 - 1/A0^2)", GBW / A0 * unity, one(t, "unity_gain"), 1e-3)
    add("phase_margin", where, "180 - atan sqrt(A0^2 - 1)", 180 - math.degrees(math.atan(unity)),
        one(t, "phase_margin"), 1e-4)  # fmt: skip
    add("offset", where, "Vos/(1 - 1/2 CMRR + 1/A0)", VOS / (loop + 1 / A0), one(t, "offset"), 1e-6)
    moved = (VOS + DD * 0.09 - SS * 0.09) / (loop + 1 / A0)
    add("offset", f"{where}, 1.98 V", "(Vos + dV/PSRR)/(1 - 1/2 CMRR + 1/A0)", moved,
        one(t, "offset", corner="tt_27C_1p98V"), 1e-6)  # fmt: skip
    for corner, volts in (("tt_27C_1p8V", 1.8), ("tt_27C_1p98V", 1.98)):
        add("supply_current", f"{where}, {volts} V", "Iq", IQ, one(t, "supply_current", corner=corner), 1e-9)
        add("supply_power", f"{where}, {volts} V", "Iq V", IQ * volts, one(t, "supply_power", corner=corner), 1e-9)
    for name, leak in (("psrr_vdd", DD), ("psrr_vss", SS), ("cmrr", CM)):
        for at in ("f=0", "f=100kHz"):
            add(name, where, "A_d/A", decibel(1 / leak), one(t, name, at), 1e-6)
    tau = 1 / (2 * math.pi * GBW * (loop + 1 / A0))
    for step in ("10mV", "1.08V"):
        for edge in EDGES:
            at = f"step={step} load=1pF {edge}"
            for name, tolerance in TOLERANCES:
                add(name, f"{where}, {step} {edge}", "-tau ln(tolerance)", -tau * math.log(tolerance),
                    one(t, name, at), 1e-3)  # fmt: skip
            add("overshoot", f"{where}, {step} {edge}", "0 for one pole", 0.0, one(t, "overshoot", at), 1e-6)
    band, total = "band=1Hz..100kHz", "band=1Hz..1THz unity load=1pF"
    for corner, kelvin in (("tt_27C_1p8V", KELVIN), ("tt_125C_1p8V", 398.15)):
        at, square = f"{where}, {kelvin - 273.15:g} C", 4 * BOLTZMANN * kelvin * R_NOISE
        # in_n moves for the noise, and takes half the common mode along
        density = math.sqrt(square) / loop
        for f in ("f=1kHz", "f=100kHz"):
            add("input_noise_density", f"{at}, {f[2:]}", "sqrt(4kTR)/(1 - 1/2 CMRR)", density,
                one(t, "input_noise_density", f, corner), 1e-4)  # fmt: skip
        add("input_noise_rms", at, "sqrt(4kTR 100 kHz)", density * math.sqrt(1e5 - 1),
            one(t, "input_noise_rms", band, corner), 1e-4)  # fmt: skip
        gain = 1 / (loop + 1 / A0)
        add("noise_rms", at, "sqrt(4kTR pi/2 f)", gain * math.sqrt(square / (4 * tau)),
            one(t, "noise_rms", total, corner), 1e-3)  # fmt: skip


def _slewing(found: Rows, t: pd.DataFrame) -> None:
    """dx/dt = -SR tanh(x/v0) for the error x: sinh(x/v0) falls with tau = v0/SR = 1/(2 pi GBW)."""
    tau, step = 1 / (2 * math.pi * GBW), float(WIDE)
    for edge, rate in (("rise", UP), ("fall", DOWN)):
        where, v0 = f"tanh-limited pair, {rate / 1e6:g} V/us, GBW 10 MHz, {WIDE} V {edge}", rate * tau
        passed = tau * math.log(math.sinh(0.8 * step / v0) / math.sinh(0.2 * step / v0))
        measured = one(t, f"slew_{edge}", "step=6V load=1pF")
        found.add(f"slew_{edge}", where, "0.6 S/(tau ln(sinh(0.8 S/v0)/sinh(0.2 S/v0)))", 0.6 * step / passed,
                  measured, 2e-4)  # fmt: skip
        found.add(f"slew_{edge}", where, "I/C", rate, measured, 0.02)
        for name, tolerance in TOLERANCES:
            settled = tau * math.log(math.sinh(step / v0) / math.sinh(tolerance * step / v0))
            found.add(name, where, "tau ln(sinh(S/v0)/sinh(tol S/v0))", settled,
                      one(t, name, f"step=6V load=1pF {edge}"), 1e-3)  # fmt: skip


def last_exit(error: Callable[[np.ndarray], np.ndarray], band: float, stop: float) -> float:
    """Last time a closed-form error is ``band``."""
    t = np.linspace(0, stop, 400001)
    k = int(np.flatnonzero(np.abs(error(t)) > band)[-1])
    return float(brentq(lambda x: abs(float(error(np.array([x]))[0])) - band, t[k], t[k + 1]))


def _poles(found: Rows, table: Callable[..., pd.DataFrame]) -> None:
    add = found.add
    t, where = table("two_poles"), "poles at 0 and GBW, GBW 10 MHz"
    add("gbw", where, "GBW", GBW, one(t, "gbw"), 1e-3)
    x = math.sqrt((math.sqrt(5) - 1) / 2)
    add("unity_gain", where, "GBW sqrt((sqrt(5) - 1)/2)", GBW * x, one(t, "unity_gain"), 1e-3)
    add("phase_margin", where, "90 - atan sqrt((sqrt(5) - 1)/2)", 90 - math.degrees(math.atan(x)),
        one(t, "phase_margin"), 1e-3)  # fmt: skip
    wg, zeta = 2 * math.pi * GBW, 0.5
    damped = wg * math.sqrt(1 - zeta**2)

    def error(time: np.ndarray) -> np.ndarray:
        return np.exp(-zeta * wg * time) * (np.cos(damped * time) + zeta * wg / damped * np.sin(damped * time))

    for edge in EDGES:
        at = f"step=10mV load=1pF {edge}"
        add("overshoot", f"{where}, {edge}", "exp(-pi zeta/sqrt(1 - zeta^2)), zeta 1/2",
            math.exp(-math.pi * zeta / math.sqrt(1 - zeta**2)), one(t, "overshoot", at), 1e-3)  # fmt: skip
        for name, tolerance in TOLERANCES:
            add(name, f"{where}, {edge}", "last exit of the damped sine", last_exit(error, tolerance, 60 / wg),
                one(t, name, at), 1e-3)  # fmt: skip
    t, where = table("three_poles"), "poles at 0 and twice at 4 GBW, GBW 10 MHz"
    x = brentq(lambda y: y * (1 + (y / 4) ** 2) - 1, 0.1, 1.0)
    add("phase_margin", where, "90 - 2 atan(x/4), x (1 + x^2/16) = 1", 90 - 2 * math.degrees(math.atan(x / 4)),
        one(t, "phase_margin"), 1e-3)  # fmt: skip
    add("gain_margin", where, "2 w2/wg", decibel(8), one(t, "gain_margin"), 1e-3)


def _ports(found: Rows, table: Callable[..., pd.DataFrame]) -> None:
    add = found.add
    conditions = {
        "load": '{ typ = 10e-12, unit = "F" }',
        "load_r": f'{{ typ = {R_LOAD}, unit = "ohm" }}',
    }
    t, where = table("ports", conditions=conditions), f"A0 {A0:g} behind {R_OUT:g} ohm, load 1 kohm || 10 pF"
    add("dc_gain", where, "A0 RL/(RL + Ro)", decibel(A0 * R_LOAD / (R_LOAD + R_OUT)), one(t, "dc_gain"), 1e-6)
    add("gbw", where, "GBW RL/(RL + Ro)", GBW * R_LOAD / (R_LOAD + R_OUT), one(t, "gbw"), 1e-4)
    loop = A0 / (1 + 1j * 1e5 * A0 / GBW)
    z = {
        "open f=0": (R_OUT, "Ro"), "open f=100kHz": (R_OUT, "Ro"),
        "closed f=0": (R_OUT / (1 + A0), "Ro/(1 + A0)"), "closed f=100kHz": (abs(R_OUT / (1 + loop)), "|Ro/(1 + A)|"),
    }  # fmt: skip
    for at, (ohm, formula) in z.items():
        add("output_impedance", f"{where}, {at}", formula, ohm, one(t, "output_impedance", at), 1e-5)
    for f in (1e3, 1e5):  # the load resistor is the testbench's and makes none
        density = math.sqrt(FOUR_KT * R_OUT) * abs(1 + 1j * f * A0 / GBW) / A0
        add("input_noise_density", f"{where}, {f:g} Hz", "sqrt(4kTRo)/|A|", density,
            one(t, "input_noise_density", f"f={f / 1e3:g}kHz"), 1e-3)  # fmt: skip
    where = "1 Mohm || 2 pF between the inputs, 3 Mohm || 1 pF from each to ground"
    siemens = 1 / R_D + 1 / (2 * R_C)
    add("differential_resistance", where, "Rd || 2 Rc", 1 / siemens, one(t, "differential_resistance"), 1e-6)
    add("differential_capacitance", where, "Cd + Cc/2", C_D + C_C / 2,
        one(t, "differential_capacitance", "f=100kHz"), 1e-6)  # fmt: skip
    t, where = table("slow"), "GBW 20 kHz, 1500 ohm at the input, 100 kHz"
    add("input_noise_density", where, "sqrt(4kTR)", math.sqrt(FOUR_KT * R_NOISE),
        one(t, "input_noise_density", "f=100kHz"), 1e-4)  # fmt: skip
    t, where = table("flicker"), "diode at 1 uA, KF = 2q 3 kHz, in series with the input"
    add("noise_corner", where, "KF/2q", CORNER_HZ, one(t, "noise_corner"), 2e-3)
    thermal = BOLTZMANN * KELVIN / CHARGE / 1e-6
    for f in (1e3, 1e5):
        shot = math.sqrt(2 * CHARGE * 1e-6 * (1 + CORNER_HZ / f)) * thermal
        add("input_noise_density", f"{where}, {f:g} Hz", "(kT/qI) sqrt(2qI (1 + fc/f))", shot,
            one(t, "input_noise_density", f"f={f / 1e3:g}kHz"), 1e-3)  # fmt: skip


def _limits(found: Rows, t: pd.DataFrame) -> None:
    """Gain A0 (1 - ((v - lift)/L)^2) of a tanh stage; an offset that is a cubic of the common mode."""
    where = f"A0 {A0:g}, {TOP} V tanh around {LIFT} V, offset {BEND} (v_cm - {SHIFT} V)^3"
    rest = A0 * (1 - (LIFT / TOP) ** 2)
    left = 1 / ((1 + 1 / rest) / 0.99 - 1)
    reach = TOP * math.sqrt(1 - left / A0)
    for name, side in (("swing_high", 1), ("swing_low", -1)):
        found.add(name, where, "lift +- L sqrt(1 - A'/A0), A'(1 + A)/(A (1 + A')) = 0.99", LIFT + side * reach,
                  one(t, name, "load=1pF"), 2e-3)  # fmt: skip
    # the sweep holds the output at 0, where the gain is that at rest; the offset's slope is 3 b (v_cm - shift)^2
    limit = math.sqrt(0.01 * (1 + 1 / rest) / (3 * BEND))
    for name, side in (("input_high", 1), ("input_low", -1)):
        found.add(name, where, "shift +- sqrt(0.01 (1 + 1/A)/3b)", SHIFT + side * limit, one(t, name), 1e-3)


def _ota(found: Rows, t: pd.DataFrame) -> None:
    add, where = found.add, "transconductance 100 uS, 2 Mohm, load 5 pF"
    gain = GM_OTA * R_OTA
    add("dc_gain", where, "gm R", decibel(gain), one(t, "dc_gain"), 1e-6)
    add("gbw", where, "gm/(2 pi C)", GM_OTA / (2 * math.pi * C_OTA), one(t, "gbw"), 1e-4)
    tau = C_OTA / (GM_OTA + 1 / R_OTA)
    for step in ("10mV", "630mV"):
        for edge in EDGES:
            for name, tolerance in TOLERANCES:
                add(name, f"{where}, {step} {edge}", "-C/(gm + 1/R) ln(tolerance)", -tau * math.log(tolerance),
                    one(t, name, f"step={step} load=5pF {edge}"), 1e-3)  # fmt: skip
    add("output_impedance", where, "R", R_OTA, one(t, "output_impedance", "open f=0"), 1e-6)
    add("output_impedance", where, "1/(gm + 1/R)", R_OTA / (1 + gain), one(t, "output_impedance", "closed f=0"), 1e-6)
    add("input_noise_density", where, "sqrt(4kT/R)/gm", math.sqrt(FOUR_KT / R_OTA) / GM_OTA,
        one(t, "input_noise_density", "f=1kHz"), 1e-4)  # fmt: skip
    add("noise_rms", where, "sqrt(kT/C/(1 + gm R))", math.sqrt(BOLTZMANN * KELVIN / C_OTA / (1 + gain)),
        one(t, "noise_rms", "band=1Hz..1THz unity load=5pF"), 1e-3)  # fmt: skip


def square_law_gm(kp: float, shape: float, ampere: float) -> float:
    return math.sqrt(2 * kp * shape * ampere)


KP_N, KP_P, LAMBDA, OVERLAP = 110e-6, 50e-6, (0.04, 0.05), 2.2e-10


def pair_noise(gm_pair: float, gm_mirror: float) -> float:
    """Input noise of a loaded pair: 4kT 2/3 per gm, two devices of the pair and two of the mirror."""
    return math.sqrt(2 * FOUR_KT * 2 / 3 / gm_pair * (1 + gm_mirror / gm_pair))


def _two_stage(found: Rows, simulator: Simulator, folder: Path) -> None:
    add, ib, cc = found.add, 25e-6, 0.6e-12
    t, where = measure(load_cell("opamp_2stage"), simulator, folder / "runs"), "opamp_2stage, hand analysis"
    gm1, gm3 = square_law_gm(KP_P, 150, 1.5 * ib), square_law_gm(KP_N, 37.5, 1.5 * ib)
    gm6, miller = square_law_gm(KP_N, 300, 12 * ib), cc + 240e-6 * OVERLAP
    lambdas = sum(LAMBDA)
    gain = gm1 / (1.5 * ib * lambdas) * gm6 / (12 * ib * lambdas)
    add("gbw", where, "gm1/(2 pi (Cc + Cgd6))", gm1 / (2 * math.pi * miller), one(t, "gbw"), 0.02)
    add("dc_gain", where, "gm1/(gds2 + gds4) gm6/(gds6 + gds7)", decibel(gain), one(t, "dc_gain"), 0.02)
    add("supply_power", where, "16 Ib V", 16 * ib * 1.8, one(t, "supply_power"), 0.02)
    add("offset", where, "0: W6/W4 = 2 W7/W5", 0.0, one(t, "offset"), 1e-5)
    add("output_impedance", where, "1/(gds6 + gds7)", 1 / (12 * ib * lambdas),
        one(t, "output_impedance", "open f=0"), 0.04)  # fmt: skip
    add("input_noise_density", where, "sqrt(16 kT/3 gm1 (1 + gm3/gm1))", pair_noise(gm1, gm3),
        one(t, "input_noise_density", "f=1kHz"), 0.03)  # fmt: skip
    # at 10 pF the parasitics are small; what the rising output couples into the bias line through M7 starves the tail
    for suffix in ("cir", "toml"):
        text = (shipped("netlists/cells") / f"opamp_2stage.{suffix}").read_text()
        (folder / f"opamp_2stage.{suffix}").write_text(text.replace("0.6e-12", "10e-12"))
    t = measure(load_cell(folder / "opamp_2stage.toml"), simulator, folder / "runs", ["step_response"])
    where, slow = "opamp_2stage with Cc = 10 pF, hand analysis", 10e-12 + 240e-6 * OVERLAP
    add("gbw", where, "gm1/(2 pi (Cc + Cgd6))", gm1 / (2 * math.pi * slow), one(t, "gbw"), 0.02)
    kick = 3 * (720e-6 + 180e-6) * OVERLAP
    for edge, sign in (("rise", 1), ("fall", -1)):
        add(f"slew_{edge}", where, f"3 Ib/(Cc + Cgd6 {'-+'[sign > 0]} 3 (Cgd5 + Cgd7))", 3 * ib / (slow + sign * kick),
            one(t, f"slew_{edge}", "step=1.08V load=1pF"), 0.05)  # fmt: skip


def _five_transistors(found: Rows, t: pd.DataFrame) -> None:
    add, tail, where = found.add, 40e-6, "ota_5t, hand analysis"
    gm1, gm3 = square_law_gm(KP_N, 50, tail / 2), square_law_gm(KP_P, 50, tail / 2)
    load = 1e-12 + 2 * 40e-6 * OVERLAP
    lambdas = sum(LAMBDA)
    add("gbw", where, "gm1/(2 pi (CL + Cgd2 + Cgd4))", gm1 / (2 * math.pi * load), one(t, "gbw"), 0.02)
    add("dc_gain", where, "gm1/(gds2 + gds4)", decibel(gm1 / (tail / 2 * lambdas)), one(t, "dc_gain"), 0.02)
    add("supply_power", where, "2 I V", 2 * tail * 1.8, one(t, "supply_power"), 0.02)
    add("input_noise_density", where, "sqrt(16 kT/3 gm1 (1 + gm3/gm1))", pair_noise(gm1, gm3),
        one(t, "input_noise_density", "f=1kHz"), 0.02)  # fmt: skip
    for edge in EDGES:
        add(f"slew_{edge}", where, "I/(CL + Cgd2 + Cgd4)", tail / load,
            one(t, f"slew_{edge}", "step=630mV load=1pF"), 0.05)  # fmt: skip
