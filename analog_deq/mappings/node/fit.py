"""Fitting a node neuron: what its node takes, what its driver gives, how fast, how noisy, how spread."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from scipy.interpolate import PchipInterpolator

from analog_deq.errors import FitError
from analog_deq.fit.forms import hermite, monotone_slopes
from analog_deq.fit.parameters import (
    Distribution,
    Form,
    Goodness,
    Table,
    check_goodness,
    least_squares_covariance,
)
from analog_deq.mappings.mapping import FamilyProxy
from analog_deq.mappings.node.noise_table import NoiseTable, fit_noise, held_out
from analog_deq.mappings.node.spec import TOLERANCE, NodeSettings
from analog_deq.mappings.node.variation import fit_mismatch
from analog_deq.records import OK

Array = np.ndarray


class NodeProxy(FamilyProxy):
    """Everything fitted of a node neuron. ``load`` is the table of the node's current (A) over h."""

    name: str
    activation: Table
    load: Table
    driver: Form
    capacitance: Form
    path: Form
    noise: NoiseTable
    mismatch: Distribution
    step: Goodness

    def goodness(self) -> dict[str, Goodness]:
        parts = ("activation", "load", "driver", "capacitance", "path", "noise", "mismatch")
        return {part: getattr(self, part).goodness for part in parts} | {"step": self.step}


def fit_node(name: str, tables: Mapping[str, pd.DataFrame], settings: NodeSettings) -> NodeProxy:
    """Proxy of the valid rows of :mod:`.calibration`'s tables. FitError where a part misses its tolerance."""
    rows = {key: table[table["status"] == OK] for key, table in tables.items()}
    for key, table in rows.items():
        if table.empty:
            raise FitError(f"{key}: no valid row; look at the status column of the table")
    activation, load = fit_curves(rows["transfer"], settings)
    capacitance = fit_capacitance(rows["admittance"], settings)
    proxy = NodeProxy(
        name=name,
        activation=activation,
        load=load,
        driver=fit_driver(rows["transfer"], settings),
        capacitance=capacitance,
        path=fit_path(rows["admittance"]),
        noise=fit_noise(rows["noise"], settings),
        mismatch=fit_mismatch(rows["mismatch"], tables["mismatch"], activation, load, settings),
        step=check_step(rows["step"], rows["admittance"], capacitance),
    )
    for part, goodness in proxy.goodness().items():
        check_goodness(part, goodness)
    return proxy


def fit_curves(transfer: pd.DataFrame, settings: NodeSettings) -> tuple[Table, Table]:
    """Monotone tables of the reading z(h) and of the node's current i(h), h = s / v_unit.

    Every second point of the open driver is a knot; the others are held out. The load's error is scaled to units of h
    by its own conductance at 0 or, where that is smaller, by a thousandth of its largest current.
    """
    rows = transfer[transfer["driver_load"] == 0].sort_values("s")
    h = rows["s"].to_numpy() / settings.v_unit_v
    z = ((rows["zp"] - rows["zn"]) / (2 * settings.z_unit_v)).to_numpy()
    amps = rows["i_in"].to_numpy()
    for what, y in (("activation: z", z), ("load: the node's current", amps)):
        if np.any(np.diff(y) < -1e-9 * np.ptp(y)):
            raise FitError(f"{what} does not rise with the node's voltage; check the polarity of the cells' pins")
    at_zero = float(np.interp(0.0, h, np.gradient(amps, h)))
    scale = max(at_zero, 1e-3 * float(np.abs(amps).max()), 1e-15)
    return _table(h, z, 1.0, "units of z, max", "activation"), _table(h, amps, scale, "units of h, max", "load")


def _table(x: Array, y: Array, scale: float, unit: str, part: str) -> Table:
    knots, values = x[::2].copy(), y[::2].copy()  # copies: what pandas hands out is read-only
    step = float((knots[-1] - knots[0]) / (len(knots) - 1))
    grid = knots[0] + step * np.arange(len(knots))
    on_grid = torch.as_tensor(PchipInterpolator(knots, values)(grid) if np.ptp(np.diff(knots)) > 1e-9 else values)
    slopes = monotone_slopes(on_grid, step)

    def error(at: Array, truth: Array) -> float:
        model = hermite(torch.tensor(at), float(grid[0]), step, on_grid, slopes)[0].numpy()
        return float(np.abs(model - truth).max() / scale)

    held = error(x[1::2], y[1::2])
    return Table(
        start=float(grid[0]), step=step, values=on_grid.tolist(), variance=(held * scale) ** 2,
        goodness=Goodness(
            unit=unit, train=error(knots, values), held_out=held, n_train=len(knots), n_held_out=len(x) - len(knots),
            tolerance=TOLERANCE[part],
        ),
    )  # fmt: skip


def fit_driver(transfer: pd.DataFrame, settings: NodeSettings) -> Form:
    """Output resistance of each driver output, ``z_loaded = z_open / (1 + r G)``; the middle load is held out."""
    loads = sorted(v for v in transfer["driver_load"].unique() if v > 0)
    base = transfer[transfer["driver_load"] == 0]
    open_v = np.concatenate([base["zp"], base["zn"]])
    held = loads[len(loads) // 2]

    def stack(chosen: list[float]) -> tuple[Array, Array]:
        parts = [transfer[transfer["driver_load"] == g] for g in chosen]
        loaded = [np.concatenate([p["zp"], p["zn"]]) for p in parts]
        return np.concatenate([g * v for g, v in zip(chosen, loaded, strict=True)]), np.concatenate(loaded)

    current, loaded = stack([g for g in loads if g != held])
    design, target = current[:, None], np.tile(open_v, len(loads) - 1) - loaded
    r_out = float(np.linalg.lstsq(design, target, rcond=None)[0][0])

    def error(chosen: list[float]) -> float:
        amps, volts = stack(chosen)
        return float(np.abs(np.tile(open_v, len(chosen)) - r_out * amps - volts).max() / settings.z_unit_v)

    return Form(
        form="z = z_open / (1 + r_out G)",
        values={"r_out_ohm": r_out},
        covariance=least_squares_covariance(design, design @ [r_out] - target).tolist(),
        domain={"driver_load_siemens": (0.0, loads[-1])},
        goodness=Goodness(
            unit="units of z, max", train=error([g for g in loads if g != held]), held_out=error([held]),
            n_train=len(target), n_held_out=2 * len(base), tolerance=TOLERANCE["driver"],
        ),
    )  # fmt: skip


def fit_capacitance(admittance: pd.DataFrame, settings: NodeSettings) -> Form:
    """The node's capacitance, one number for every bias; some biases are held out (relative error)."""
    rows = admittance[admittance["frequency"].between(1e6, 1e7)]
    kept = ~held_out(rows["bias"], settings)
    c = float(rows.loc[kept, "c"].mean())

    def error(part: pd.Series) -> float:
        return float((part / c - 1).abs().max())

    spread = float(rows.loc[kept, "c"].std())
    return Form(
        form="i = C ds/dt", values={"c_f": c}, covariance=[[spread**2 / kept.sum()]],
        domain={"bias_v": (float(rows["bias"].min()), float(rows["bias"].max()))},
        goodness=Goodness(
            unit="relative, max", train=error(rows.loc[kept, "c"]), held_out=error(rows.loc[~kept, "c"]),
            n_train=int(kept.sum()), n_held_out=int((~kept).sum()), tolerance=TOLERANCE["capacitance"],
        ),
    )  # fmt: skip


def check_step(step: pd.DataFrame, admittance: pd.DataFrame, capacitance: Form) -> Goodness:
    """How well ``tau = C / (G + g)``, with C and g from the admittance, gives the time constants of step responses."""
    at_zero = admittance[admittance["bias"].abs() < 1e-12].sort_values("frequency")
    g = float(at_zero["g"].iloc[0])
    tau = capacitance.values["c_f"] / (step["load"] + g)
    error = float((step["tau"] / tau - 1).abs().max())
    return Goodness(
        unit="relative, max", train=0.0, held_out=error, n_train=0, n_held_out=len(step), tolerance=TOLERANCE["step"]
    )


def fit_path(admittance: pd.DataFrame) -> Form:
    """Pole and delay from the node to the rows, at bias 0; the response's distance from that pole is held to."""
    at_zero = admittance[admittance["bias"].abs() < 1e-12].iloc[0]
    rms = float(at_zero["path_rms"])
    return Form(
        form="z = sigma(h) exp(-s delay) / (1 + s tau)",
        values={"tau_s": float(at_zero["tau"]), "delay_s": float(at_zero["delay"])},
        covariance=[[0.0, 0.0], [0.0, 0.0]],
        domain={"bias_v": (float(admittance["bias"].min()), float(admittance["bias"].max()))},
        goodness=Goodness(
            unit="relative, rms", train=rms, held_out=rms, n_train=1, n_held_out=1, tolerance=TOLERANCE["path"]
        ),
    )
