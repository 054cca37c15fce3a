"""Shared by the tests: designs, synthetic calibration tables, a proxy fitted to them, and dense nodal analysis.

The tables follow closed forms, so every fit has a known answer and no test of training needs ngspice. The nodal
solver is written from the circuit's description, not from the package's code: it is what the package is held to.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analog_deq.fit.fit import fit_proxy
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.provenance import Provenance
from analog_deq.records import OK
from analog_deq.spec import CalibrationPlan, DesignSpec, Tolerances
from analog_deq.tables import COLUMNS, SCHEMA, CalibrationTable

BOLTZMANN = 1.380649e-23
KELVIN = 300.15

R_FEEDBACK, C_FEEDBACK, Z_UNIT, V_UNIT = 10e3, 20e-12, 0.2, 0.16
S0, A0, R_OUT = 20e-6, 8000.0, 10.0
TAU0, TAU_LOAD, DELAY = 201e-9, 9e-6, 1.2e-9
EN, WHITE, WHITE_SLOPE2, CORNER, DRIVER_HZ = 5e-9, 4e-15, 2e-14, 2e4, 4e8
P0, P_DRIVE, P_LOAD = 6e-4, 1e-4, 0.9
SIGMA_VOS, SIGMA_R, SIGMA_TAU, SIGMA_G = 1e-3, 5e-3, 7e-3, 0.02
SAT, CURVE = 0.98, 1.15
LOADS = (0.02e-3, 0.2e-3, 0.5e-3, 1.0e-3, 1.5e-3, 2.5e-3, 4.0e-3)
R_LINES = (0.0, 2.0, 20.0)


def design(states: int = 4, inputs: int = 3, classes: int = 2, **changes: Any) -> DesignSpec:
    """A small design; ``changes`` replace whole sections, merged key by key."""
    content: dict[str, Any] = {
        "schema": 1, "name": "test", "seed": 5,
        "sizes": {"inputs": inputs, "states": states, "classes": classes},
        "neuron": {
            "r_feedback_ohm": R_FEEDBACK, "c_feedback_f": C_FEEDBACK, "c_input_f": 0.2e-12, "z_unit_v": Z_UNIT,
            "v_unit_v": V_UNIT,
        },
        "crossbar": {"g_min_siemens": 1e-6, "g_max_siemens": 100e-6, "levels": 64, "r_line_ohm": 2.0},
    }  # fmt: skip
    for key, value in changes.items():
        content[key] = {**content.get(key, {}), **value} if isinstance(value, Mapping) else value
    return DesignSpec.model_validate(content)


def conductances(
    rows: int, columns: int, seed: int = 0, low: float = 1e-6, high: float = 100e-6
) -> tuple[np.ndarray, np.ndarray]:
    """Random (g_pos, g_neg), log-uniform: nothing about them is symmetric."""
    rng = np.random.default_rng(seed)
    g = np.exp(rng.uniform(np.log(low), np.log(high), (2, rows, columns)))
    return g[0], g[1]


# --- dense nodal analysis -------------------------------------------------------------------------------------------


def array_resistors(
    g_pos: np.ndarray, g_neg: np.ndarray, r_line: float, r_dac: float, both_ends: bool = False
) -> Iterator[tuple[str, str, float]]:
    """(node, node, siemens) of every element of the array, as the module docs draw it.

    Physical rows x+, x-, ..., b+, b-, z+_0, z-_0, ... are entered from the left, with ``both_ends`` from the right too;
    columns leave at the bottom.
    """
    rows, n = g_pos.shape
    for k in range(rows):
        for sign, g in (("+", g_pos), ("-", g_neg)):
            q = 2 * k + (sign == "-")
            state = k - (rows - n)
            start = f"u{q}" if state < 0 else f"z{sign}{state}"
            if state < 0:
                yield start, f"entry{q}", 1 / r_dac
                start = f"entry{q}"
            if both_ends and r_line:
                yield start, f"row{q},{n - 1}", 1 / r_line
            for i in range(n):
                if r_line == 0:
                    yield start, f"s{i}", float(g[k, i])
                    continue
                yield (start if i == 0 else f"row{q},{i - 1}"), f"row{q},{i}", 1 / r_line
                yield f"row{q},{i}", f"col{q},{i}", float(g[k, i])
                yield f"col{q},{i}", (f"col{q + 1},{i}" if q + 1 < 2 * rows else f"s{i}"), 1 / r_line


def tiled_resistors(
    g_pos: np.ndarray, g_neg: np.ndarray, spans: list[tuple[slice, slice]], r_line: float, r_dac: float
) -> Iterator[tuple[str, str, float]]:
    """:func:`array_resistors` of a layer in tiles (logical rows, columns): one DAC a row, wires are each tile's own."""
    rows, n = g_pos.shape
    for q in range(2 * (rows - n)):
        yield f"u{q}", f"entry{q}", 1 / r_dac
    for t, (own, columns) in enumerate(spans):
        for k in range(rows)[own]:
            for sign, g in (("+", g_pos), ("-", g_neg)):
                q, state = 2 * k + (sign == "-"), k - (rows - n)
                before = f"entry{q}" if state < 0 else f"z{sign}{state}"
                for i in range(n)[columns]:
                    yield before, f"row{t},{q},{i}", 1 / r_line
                    before = f"row{t},{q},{i}"
                    yield before, f"col{t},{q},{i}", float(g[k, i])
                    last = q + 1 == 2 * own.stop
                    yield f"col{t},{q},{i}", f"s{i}" if last else f"col{t},{q + 1},{i}", 1 / r_line


class Nodal:
    """Dense nodal analysis: resistors between named nodes, some of which are held at a voltage."""

    def __init__(self, resistors: Iterator[tuple[str, str, float]]) -> None:
        elements = list(resistors)
        self.index: dict[str, int] = {}
        for a, b, _ in elements:
            for node in (a, b):
                self.index.setdefault(node, len(self.index))
        self.laplacian = np.zeros((len(self.index), len(self.index)))
        for a, b, g in elements:
            i, j = self.index[a], self.index[b]
            self.laplacian[[i, j], [i, j]] += g
            self.laplacian[[i, j], [j, i]] -= g

    def currents(self, held: Mapping[str, float]) -> dict[str, float]:
        """Current from each held node into the network, all other nodes floating."""
        fixed = [self.index[name] for name in held]
        free = [k for k in range(len(self.index)) if k not in set(fixed)]
        v = np.zeros(len(self.index))
        v[fixed] = list(held.values())
        if free:
            v[free] = np.linalg.solve(
                self.laplacian[np.ix_(free, free)], -self.laplacian[np.ix_(free, fixed)] @ v[fixed]
            )
        return {name: float(self.laplacian[self.index[name]] @ v) for name in held}


def port_order(states: int, sources: int) -> list[str]:
    """Names of the terminals in the order of the package: s, then z+ and z- of each state, then the DAC lines."""
    return (
        [f"s{i}" for i in range(states)]
        + [f"z{sign}{i}" for i in range(states) for sign in "+-"]
        + [f"u{q}" for q in range(sources)]
    )


# --- closed forms of the synthetic circuit --------------------------------------------------------------------------


def sigma(h: np.ndarray) -> np.ndarray:
    """The synthetic activation: odd, saturating, slope below 1 everywhere."""
    return np.asarray(SAT * np.tanh(h / CURVE))


def sigma_slope(h: np.ndarray | float) -> np.ndarray:
    return np.asarray(SAT / CURVE / np.cosh(np.asarray(h) / CURVE) ** 2)


def loop_density(load: np.ndarray | float, en: float = EN) -> np.ndarray:
    """White density of v below the pole, V^2/Hz."""
    y = 1 / R_FEEDBACK + np.asarray(load)
    return np.asarray((4 * BOLTZMANN * KELVIN * y + (en * y) ** 2) * R_FEEDBACK**2)


def integrator_v(
    drive: np.ndarray, load: float, *, vos: float = 0.0, r_error: float = 0.0, a0: float = A0
) -> tuple[np.ndarray, np.ndarray]:
    """(v, s): Kirchhoff's law at the summing node with s = s0 + vos - v / a0 and R_F (1 + r_error)."""
    y = 1 / (R_FEEDBACK * (1 + r_error))
    v = ((S0 + vos) * (y + load) - drive / R_FEEDBACK) / (y + (y + load) / a0)
    return v, S0 + vos - v / a0


def transfer_rows(points: int = 161, h_max: float = 4.0, loads: tuple[float, ...] = LOADS) -> pd.DataFrame:
    drive = np.linspace(-h_max, h_max, points) * V_UNIT
    middle = loads[len(loads) // 2]
    frames = []
    for load, driver in [(g, 0.0) for g in loads] + [(middle, g) for g in (0.5e-3, 1e-3, 2e-3)]:
        v, s = integrator_v(drive, load)
        z = sigma(-v / V_UNIT) * Z_UNIT / (1 + R_OUT * driver)
        supply = (P0 + P_DRIVE * np.abs(drive) + P_LOAD * driver * 2 * np.abs(z)) / 2
        frames.append(
            pd.DataFrame(
                {
                    "load": load, "driver_load": driver, "drive": drive, "v": v, "s": s, "zp": z, "zn": -z,
                    "i_vdd": supply / 0.9, "i_vss": supply / 0.9,
                }
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def power_rows(transfer: pd.DataFrame) -> pd.DataFrame:
    rows = transfer[["load", "driver_load", "drive", "zp", "zn"]].copy()
    return rows.assign(p_vdd=0.9 * transfer["i_vdd"], p_vss=0.9 * transfer["i_vss"])


def settling_rows(loads: tuple[float, ...] = LOADS) -> pd.DataFrame:
    rows = []
    for load in loads:
        tau = TAU0 + TAU_LOAD * load
        for step in (0.05, -0.05, 0.25, -0.25):
            final, _ = integrator_v(np.array([step * V_UNIT]), load)
            rows += [
                {
                    "load": load, "step": step * V_UNIT, "tolerance": tolerance, "final": float(final[0]) - S0,
                    "t_settle": DELAY - tau * math.log(tolerance), "overshoot": 0.0, "tau": tau, "delay": DELAY,
                    "fit_rms": 0.0,
                }
                for tolerance in (1e-2, 1e-3)
            ]  # fmt: skip
    return pd.DataFrame(rows)


def noise_rows(
    loads: tuple[float, ...] = LOADS[1::2] + LOADS[2::2],
    biases: tuple[float, ...] = (0.0, 0.7, 1.5),
    *,
    loop_error: np.ndarray | float = 0.0,
    white_error: np.ndarray | float = 0.0,
) -> pd.DataFrame:
    """Spectra at v and z; the errors are relative, one a (load, bias) pair in sorted order."""
    f = np.logspace(3, 11, 161)
    pairs = [(load, bias) for load in sorted(loads) for bias in biases]
    frames = []
    for (load, bias), e_loop, e_white in zip(
        pairs, np.broadcast_to(loop_error, len(pairs)), np.broadcast_to(white_error, len(pairs)), strict=True
    ):
        tau = TAU0 + TAU_LOAD * load
        at_v = loop_density(load) * (1 + e_loop) / (1 + (2 * np.pi * f * tau) ** 2)
        slope2 = float(sigma_slope(bias)) ** 2
        stage = (WHITE + WHITE_SLOPE2 * slope2) * (1 + e_white) * (1 + CORNER / f) / (1 + (f / DRIVER_HZ) ** 2)
        at_z = slope2 * at_v / V_UNIT**2 + stage
        for output, density in (("v", np.sqrt(at_v)), ("z", np.sqrt(at_z) * 2 * Z_UNIT)):
            frames.append(
                pd.DataFrame(
                    {"load": load, "bias": bias * V_UNIT, "output": output, "frequency": f, "density": density}
                )
            )
    return pd.concat(frames, ignore_index=True)


def mismatch_rows(dies: int = 32, load: float = 1.5e-3) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """(curves, step responses, what was injected) of synthetic dies."""
    rng = np.random.default_rng(11)
    injected = pd.DataFrame(
        {
            "die": np.arange(dies), "vos_v": SIGMA_VOS * rng.standard_normal(dies),
            "r_feedback": SIGMA_R * rng.standard_normal(dies), "tau": SIGMA_TAU * rng.standard_normal(dies),
            "sat": 1 + 0.01 * rng.standard_normal(dies), "in_scale": 1 + 0.008 * rng.standard_normal(dies),
            "in_offset": 0.012 * rng.standard_normal(dies), "out_offset": 0.004 * rng.standard_normal(dies),
        }
    )  # fmt: skip
    drive = np.linspace(-4, 4, 33) * V_UNIT
    curves, steps = [], []
    for die in injected.itertuples():
        v, _ = integrator_v(drive, load, vos=die.vos_v, r_error=die.r_feedback)
        z = (die.sat * sigma(die.in_scale * -v / V_UNIT + die.in_offset) + die.out_offset) * Z_UNIT
        curves.append(pd.DataFrame({"die": die.die, "load": load, "drive": drive, "v": v, "zp": z, "zn": -z}))
        tau = (TAU0 + TAU_LOAD * load) * (1 + die.tau)
        steps.append({"die": die.die, "load": load, "step": 0.04, "tau": tau, "delay": DELAY, "fit_rms": 0.0})
    return pd.concat(curves, ignore_index=True), pd.DataFrame(steps), injected


def conductance_rows(dies: int = 200, seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    levels = np.array([1e-6, 10e-6, 50e-6, 100e-6])
    return pd.DataFrame(
        {
            "die": np.repeat(np.arange(dies), len(levels)), "target": np.tile(levels, dies), "read": 0.1,
            "measured": np.tile(levels, dies) * (1 + SIGMA_G * rng.standard_normal(dies * len(levels))),
        }
    )  # fmt: skip


def synapse_rows(bend: float = 0.0, series_ohm: float = 0.0, levels: int = 33) -> pd.DataFrame:
    """I(V) at programmed conductances: g behind a series resistance, and a cubic that adds ``bend`` at 0.2 V."""
    v = np.linspace(-0.2, 0.2, 9)
    shape = v * (1 + bend * (v / 0.2) ** 2)
    return pd.concat(
        pd.DataFrame({"g": g, "v": v, "current": g / (1 + g * series_ohm) * shape})
        for g in np.linspace(1e-6, 100e-6, levels)
    )


def synapse_noise_rows(corner_hz: float = 0.0) -> pd.DataFrame:
    """Thermal current noise of the synapse, with a 1/f part below ``corner_hz``."""
    f = np.logspace(3, 11, 41)
    return pd.concat(
        pd.DataFrame({"g": g, "frequency": f, "density": np.sqrt(4 * BOLTZMANN * KELVIN * g * (1 + corner_hz / f))})
        for g in (1e-6, 50.5e-6, 100e-6)
    )


def supply_rows(silent: tuple[str, ...] = ()) -> pd.DataFrame:
    """Supply current of each cell of a neuron; none for the slots in ``silent``."""
    slots = pd.DataFrame({"slot": ["opamp", "activation", "driver"], "cell": ["amp", "curve", "buffer"]})
    rows = slots.merge(pd.DataFrame({"drive": [-V_UNIT, 0.0, V_UNIT]}), how="cross")
    current = np.where(rows["slot"].isin(silent), 0.0, 1e-4)
    return rows.assign(i_vdd=current, i_vss=current)


def crossbar_rows(rows: int = 3, columns: int = 2, r_dac: float = 10.0) -> pd.DataFrame:
    """Short-circuit column currents of a small array, from the dense nodal solve."""
    g_pos, g_neg = conductances(rows + columns, columns, seed=7)
    g = np.stack([g_pos, g_neg], axis=1).reshape(-1, columns)
    names = port_order(columns, 2 * rows)
    terminals = names[3 * columns :] + names[columns : 3 * columns]  # physical rows: DAC lines, then states
    out = []
    for r_line in R_LINES:
        network = Nodal(array_resistors(g_pos, g_neg, r_line, r_dac))
        for q, name in enumerate(terminals):
            into = network.currents({**dict.fromkeys(names, 0.0), name: 0.2})
            out += [
                {"r_line": r_line, "row": q, "column": i, "drive": 0.2, "current": -into[f"s{i}"], "g": g[q, i]}
                for i in range(columns)
            ]
    return pd.DataFrame(out)


def table(name: str, rows: pd.DataFrame, **provenance: Any) -> CalibrationTable:
    """``rows`` as a calibration table with status and provenance."""
    block = {"schema_name": SCHEMA, "schema_version": 1, "ngspice_version": "46", "solver": "KLU", "seed": 5}
    marked = rows if "status" in rows else rows.assign(status=OK)
    return CalibrationTable(
        name,
        marked[[*COLUMNS[name], "status"]].reset_index(drop=True),
        Provenance(**{**block, "units": COLUMNS[name], **provenance}),
    )


def synthetic_tables() -> dict[str, CalibrationTable]:
    """All eleven tables of the synthetic circuit."""
    transfer = transfer_rows()
    curves, steps, _ = mismatch_rows()
    rows = {
        "transfer": transfer, "power": power_rows(transfer), "settling": settling_rows(), "noise": noise_rows(),
        "mismatch": curves, "mismatch_dynamic": steps, "conductance": conductance_rows(), "crossbar": crossbar_rows(),
        "synapse": synapse_rows(), "synapse_noise": synapse_noise_rows(), "supply": supply_rows(),
    }  # fmt: skip
    return {name: table(name, frame) for name, frame in rows.items()}


@functools.cache
def proxy() -> ProxyParameters:
    """The proxy of the synthetic circuit, through the real fit functions at the shipped tolerances."""
    return fit_proxy(synthetic_tables(), design(), Tolerances(), {"opamp": "0" * 64}, {"transfer": "1" * 64})


# --- measured in ngspice --------------------------------------------------------------------------------------------


def plan(**changes: Any) -> CalibrationPlan:
    """A plan small enough for a test, fine enough for the shipped tolerances; ``changes`` as in :func:`design`."""
    loads = [0.05e-3, 0.2e-3, 0.5e-3, 0.8e-3, 1.2e-3]
    content: dict[str, Any] = {
        "schema": 1, "name": "small",
        "transfer": {"loads_siemens": loads, "driver_loads_siemens": [0.0, 0.5e-3, 1e-3, 2e-3]},
        "settling": {"loads_siemens": loads, "steps_h": [0.25], "window_s": 3e-6},
        "noise": {"loads_siemens": loads[0::2] + loads[1:2], "biases_h": [0.0, 1.0], "per_decade": 10},
        "mismatch": {"dies": 24, "block": 24, "conductances_siemens": [1e-6, 10e-6, 50e-6, 100e-6]},
        "crossbar": {"rows": 2, "columns": 2, "r_lines_ohm": [0.0, 2.0]},
    }  # fmt: skip
    for key, value in changes.items():
        content[key] = {**content.get(key, {}), **value} if isinstance(value, Mapping) else value
    return CalibrationPlan.model_validate(content)
