"""Measurements of synapses against closed forms, on cells written here whose answer a textbook knows.

``rows`` is the table: the tests hold each row to its tolerance, the documentation prints it. No formula here uses the
package: constants, laws and published spreads are written anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analog_deq.characterise.campaign import Question, characterise
from analog_deq.characterise.corners import select_corners
from analog_deq.characterise.registry import measurements_of
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.library import load_cell
from analog_deq.spice.simulator import Simulator
from analog_deq.units import parse_spice_number

BOLTZMANN = 1.380649e-23
V_READ, READ_S, WAIT_S = 0.2, 1e-6, 10.0
SMALL_V = V_READ / 1000
BAND_HZ = 1 / (2 * READ_S) - 1 / (WAIT_S + READ_S)

TC1 = 2e-3
V0, BEND, OFFSET_A = 0.25, 0.3, 3e-9
Q_FLICKER = 1e-3
NU, T0_S = 0.05, 20.0
BETA, VT, LAMBDA, IS_A, GMIN_S = 80e-6, 0.4, 0.04, 1e-12, 1e-15

BODIES: Mapping[str, str] = {
    "resistor": f"R1 row col {{1/(g+dg)}} tc1={TC1!r}",
    "sinh": f"B1 row col i=(g+dg)*{V0}*sinh(v(row,col)/{V0})",
    "bent": f"B1 row col i=(g+dg)*v(row,col)*(1+{BEND}*v(row,col))+{OFFSET_A!r}",
    "flicker": f"R1 row col rf {{1/(g+dg)}}\n.model rf r kf={Q_FLICKER**2!r} af=2",
    "drifting": f"R1 row col {{exp({NU}*ln(t/{T0_S}))/(g+dg)}}",
    # the gate stands above the column, the bulk 1 V below: for v < 0 row and column swap as source and drain
    "triode": f"E1 gate col k 0 1\nI1 0 k {{{VT}+(g+dg)/{BETA!r}}}\nRk k 0 1 noisy=0\n"
    "M1 row gate col bulk nch W=8e-6 L=1e-6\n"
    f".model nch nmos level=1 vto={VT} kp={BETA / 8!r} lambda={LAMBDA} is={IS_A!r}",
}  # fmt: skip
"""Subcircuit of each test cell: ``g`` is its small-signal conductance, ``dg`` its absolute error, ``t`` its age."""

LEVELS = (1e-5, 3.25e-5, 5.5e-5, 7.75e-5, 1e-4)


def write_cell(
    folder: Path, name: str, body: str, *, bulk: bool = False, noise: str = "native = true", **more: str
) -> Cell:
    """Synapse of 10 to 100 uS, 0.2 V read; ``more`` are TOML sections: ``state``, ``drift``, ``mismatch``."""
    pins = "row col bulk" if bulk else "row col"
    (folder / f"{name}.cir").write_text(f"* {name}\n.subckt {name} {pins} g=1e-5 dg=0 t=20\n{body}\n.ends {name}\n")
    mismatch = more.get("mismatch", 'mode = "none"')
    tie = '[tie]\nbulk = { source = "voltage", from = "0", value = -1.0 }\n' if bulk else ""
    (folder / f"{name}.toml").write_text(f"""schema = 1
[cell]
name = "{name}"
role = "synapse"
netlist = "{name}.cir"
subckt = "{name}"
[pins]
row = "row"
col = "col"
{tie}[params]
g = {{ unit = "S", default = 1e-5, min = 1e-7, max = 1e-3 }}
dg = {{ unit = "S", default = 0.0, min = -1e-4, max = 1e-4 }}
t = {{ unit = "s", default = 20.0, min = 1.0, max = 1e9 }}
[state.g]
{more.get("state", 'param = "g"')}
unit = "S"
min = 1e-5
max = 1e-4
[mismatch]
{mismatch}
[noise]
{noise}
read_s = {READ_S!r}
wait_s = {WAIT_S!r}
{more.get("drift", "")}
[conditions]
temp = {{ min = -40.0, typ = 27.0, max = 125.0, unit = "C" }}
read = {{ typ = {V_READ}, unit = "V" }}
""")
    return load_cell(folder / f"{name}.toml")


def measure(
    cell: Cell, simulator: Simulator, root: Path, names: Sequence[str] = (), corners: str = "typ", dies: int = 0
) -> pd.DataFrame:
    """The ``quantities`` table of a cell."""
    chosen = tuple(select_corners(cell, corners))
    question = Question(cell, chosen, measurements_of("synapse", tuple(names)), tuple(range(dies)), seed=3)
    return characterise(question, simulator=simulator, root=root).tables["quantities"]


def one(table: pd.DataFrame, quantity: str, g: float, corner: str = "tt_27C", **words: str) -> float:
    """Value of a quantity of the nominal cell at a level and, when given, at the other words of ``at``."""
    rows = table[(table["quantity"] == quantity) & (table["corner"] == corner) & (table["variant"] == "nominal")]
    for row in rows.itertuples():
        at = dict(word.split("=") for word in row.at.split())
        if math.isclose(parse_spice_number(at["g"]), g, rel_tol=1e-5) and all(
            at[k] == text for k, text in words.items()
        ):
            assert row.status == "ok", f"{quantity} at {row.at}: {row.status}"
            return float(row.value)
    raise AssertionError(f"no {quantity} at g={g:g} {words} among {list(rows['at'])}")


def rows(simulator: Simulator, folder: Path) -> list[dict[str, Any]]:
    """Every check: quantity, circuit, formula, expected and measured value, relative tolerance."""
    found: list[dict[str, Any]] = []

    def add(quantity: str, circuit: str, formula: str, expected: float, measured: float, tolerance: float) -> None:
        found.append({
            "quantity": quantity, "circuit": circuit, "formula": formula, "expected": expected, "measured": measured,
            "tolerance": tolerance,
        })  # fmt: skip

    def table(name: str, corners: str = "typ", **contract: Any) -> pd.DataFrame:
        cell = write_cell(folder, name, BODIES[name], **contract)
        return measure(cell, simulator, folder / "runs", corners=corners)

    resistor = table("resistor", "full")
    for corner, celsius in (("tt_27C", 27.0), ("tt_m40C", -40.0), ("tt_125C", 125.0)):
        for g in LEVELS[::2]:
            where = f"resistor {g * 1e6:g} uS, TC1 {TC1:g}/K, {celsius:g} C"
            warm = g / (1 + TC1 * (celsius - 27.0))
            four_kt = 4 * BOLTZMANN * (celsius + 273.15)
            thermal = 100 * math.sqrt(four_kt * BAND_HZ / warm) / V_READ
            add("conductance", where, "g / (1 + TC1 (T - 27))", warm, one(resistor, "conductance", g, corner), 1e-8)
            add(
                "conductance_tc", where, "-TC1 / (1 + TC1 (T - 27))", -100 * TC1 * warm / g,
                one(resistor, "conductance_tc", g, corner), 2e-5,
            )  # fmt: skip
            add(
                "thermal_noise", where, "sqrt(4kTG)", math.sqrt(four_kt * warm),
                one(resistor, "thermal_noise", g, corner), 1e-5,
            )  # fmt: skip
            add("thermal_ratio", where, "1 (Nyquist)", 1.0, one(resistor, "thermal_ratio", g, corner), 1e-5)
            add("read_noise", where, "sqrt(4kT/G (f2 - f1)) / V", thermal, one(resistor, "read_noise", g, corner), 1e-5)
    g = LEVELS[2]
    add("conductance_error", "resistor, TC1, -40 C", "1 / (1 + TC1 (T - 27)) - 1", 100 * (1 / (1 - 67 * TC1) - 1),
        one(resistor, "conductance_error", g, "tt_m40C"), 1e-7)  # fmt: skip
    add("read_power", "resistor", "g V^2", g * V_READ**2, one(resistor, "read_power", g), 1e-8)

    law = table("sinh")
    bend = V0 * math.sinh(V_READ / V0) / V_READ
    slope = V0 * math.sinh(SMALL_V / V0) / SMALL_V
    for g in (LEVELS[0], LEVELS[-1]):
        where = f"sinh law, {g * 1e6:g} uS, V0 {V0} V"
        add("conductance", where, "g V0 sinh(v/V0) / v at 0.2 mV", g * slope, one(law, "conductance", g), 1e-8)
        add("nonlinearity", where, "V0 sinh(V/V0) / V - 1", 100 * (bend - 1), one(law, "nonlinearity", g), 2e-6)
        add("read_power", where, "g V0 V sinh(V/V0)", g * bend * V_READ**2, one(law, "read_power", g), 1e-8)

    bent = table("bent")
    where = f"i = g v (1 + {BEND} v) + 3 nA"
    add("conductance", where, "g", g, one(bent, "conductance", g), 1e-8)
    add("offset_current", where, "3 nA", OFFSET_A, one(bent, "offset_current", g), 1e-8)
    add("asymmetry", where, "0.3 V", 100 * BEND * V_READ, one(bent, "asymmetry", g), 1e-8)
    add("nonlinearity", where, "0.3 V", 100 * BEND * V_READ, one(bent, "nonlinearity", g), 1e-6)

    flicker = table("flicker", noise='native = true\nextra = { kind = "relative_read", sigma = 0.002 }')
    four_kt = 4 * BOLTZMANN * 300.15
    for g in (LEVELS[0], LEVELS[-1]):
        where = f"resistor {g * 1e6:g} uS, S/i^2 = Q^2/f, Q 0.1 %, extra 0.2 %"
        one_over_f = Q_FLICKER**2 * math.log((WAIT_S + READ_S) / (2 * READ_S))
        white = four_kt * BAND_HZ / (g * V_READ**2)
        add("read_noise", where, "sqrt(Q^2 ln((t+T)/(2T)) + 4kT (f2-f1)/(G V^2) + extra^2)",
            100 * math.sqrt(one_over_f + white + 0.002**2), one(flicker, "read_noise", g), 1e-5)  # fmt: skip
        add("noise_corner", where, "Q^2 G V^2 / 4kT", Q_FLICKER**2 * g * V_READ**2 / four_kt,
            one(flicker, "noise_corner", g), 1e-4)  # fmt: skip
        add("thermal_ratio", where, "1 (Nyquist)", 1.0, one(flicker, "thermal_ratio", g), 1e-5)

    times = (20.0, 1e3, 1e6)
    drift = table("drifting", drift=f'[drift]\nparam = "t"\ntimes_s = {list(times)}')
    for t, text in zip(times[1:], ("1ks", "1Ms"), strict=True):
        where = f"resistor with G = g (t/20 s)^-{NU}, t = {t:g} s"
        add("drift", where, "(t/t0)^-nu", (t / T0_S) ** -NU, one(drift, "drift", g, t=text), 1e-8)
        add("aged_conductance", where, "g (t/t0)^-nu", g * (t / T0_S) ** -NU,
            one(drift, "aged_conductance", g, t=text), 1e-8)  # fmt: skip

    triode = table("triode", bulk=True)
    for g in (LEVELS[1], LEVELS[-1]):
        where, vov = f"Level-1 triode, {g * 1e6:g} uS, lambda {LAMBDA}", g / BETA
        add("conductance", where, "beta (Vgs - Vt) (1 + lambda v) at 0.2 mV", g * (1 + LAMBDA * SMALL_V),
            one(triode, "conductance", g), 1e-6)  # fmt: skip
        add("asymmetry", where, "-V / (2 (Vgs - Vt))", -100 * V_READ / (2 * vov), one(triode, "asymmetry", g), 1e-6)
        add("nonlinearity", where, "(1 + V / (2 (Vgs - Vt))) (1 + lambda V) - 1, over that of the small signal",
            100 * ((1 + V_READ / (2 * vov)) * (1 + LAMBDA * V_READ) / (1 + LAMBDA * SMALL_V) - 1),
            one(triode, "nonlinearity", g), 1e-6)  # fmt: skip
    add(
        "offset_current",
        "Level-1 triode, bulk at -1 V",
        "-(Is + gmin 1 V)",
        -IS_A - GMIN_S,
        one(triode, "offset_current", g),
        1e-6,
    )
    return found + spread_rows(simulator, folder)


def wan_sigma(g: float) -> float:
    """Wan et al., Nature 608, 504 (2022): HfOx 1T1R 1 s after programming, in siemens, for gmax = 40 uS."""
    r = g / 40e-6
    return 1e-6 * (0.348 + 16.030 * r - 43.853 * r**2 + 45.393 * r**3 - 16.815 * r**4)


def falcone_sigma(g: float) -> float:
    """Falcone et al. (2025): CMO/HfOx, acceptance range 2 %, and its relaxation after 1 s, in siemens."""
    return math.hypot(0.01129 * g + 0.0112e-6, 0.41e-6)


def nandakumar_sigma(g: float) -> float:
    """Nandakumar et al., ICECS (2019): PCM, in siemens, for gmax = 25 uS."""
    r = g / 25e-6
    return 1e-6 * (0.26348 + 1.9650 * r - 1.1731 * r**2)


DIES = 200


def spread_rows(simulator: Simulator, folder: Path) -> list[dict[str, Any]]:
    """Programming spread of the published devices: the sd over dies against the polynomial of the publication.

    The tolerance is four standard errors of a standard deviation, 4 / sqrt(2 (n - 1)).
    """
    found = []
    cases = {"rram_hfox": wan_sigma, "rram_cmo": falcone_sigma, "pcm": nandakumar_sigma}
    for name, sigma in cases.items():
        cell = load_cell(name)
        dies = measure(cell, simulator, folder / "runs", ["conductance"], dies=DIES)
        dies = dies[(dies["variant"] == "die") & (dies["quantity"] == "conductance")]
        for g in (cell.contract.state["g"].max / 2 + cell.contract.state["g"].min / 2, cell.contract.state["g"].max):
            values = dies.loc[dies["at"] == f"g={g * 1e6:g}uS", "value"].to_numpy()
            found.append({
                "quantity": "conductance", "circuit": f"{name} {g * 1e6:g} uS, sd of {len(values)} dies",
                "formula": "published polynomial in g/gmax", "expected": sigma(g),
                "measured": float(np.std(values, ddof=1)), "tolerance": 4 / math.sqrt(2 * (DIES - 1)),
            })  # fmt: skip
    return found
