"""Static fits: integrator gain, activation table, driver resistance, supply power."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy.interpolate import PchipInterpolator

from analog_deq.errors import FitError
from analog_deq.fit.forms import hermite, monotone_slopes
from analog_deq.fit.parameters import Form, Goodness, Table, least_squares_covariance


def split_axis(values: pd.Series) -> tuple[list[float], list[float]]:
    """Train and held-out axis values: every second one is held out, the ends are trained on."""
    axis = sorted(float(v) for v in values.unique())
    return axis[0::2], axis[1::2]


OWN_FEEDBACK = 0.25
"""Largest relative difference between an integrator's own transresistance and the design's, which scales the sweeps."""


def fit_integrator(
    transfer: pd.DataFrame, r_feedback_ohm: float, v_unit_v: float, tolerance: float, *, own_feedback: bool = False
) -> Form:
    """Summing-node voltage ``s = s0 - v / a0``, so v = (s0 (1+R G) + i0 R - drive R/R_F) / (1 + (1+R G) / a0).

    R is the ``r_feedback_ohm`` of the drive (R_F) and i0 = 0, unless the feedback is the cell's own: then
    ``(s - v) / R + i0`` is the current into it, and both are fitted. Fitted on every second load, checked as the error
    of v (in units of h) on the others.
    """
    rows = transfer[transfer["driver_load"] == 0]
    train_loads, held_loads = split_axis(rows["load"])
    train, held = rows[rows["load"].isin(train_loads)], rows[rows["load"].isin(held_loads)]
    design = np.stack([np.ones(len(train)), -train["v"].to_numpy()], axis=1)
    target = train["s"].to_numpy()
    solution, *_ = np.linalg.lstsq(design, target, rcond=None)
    covariance = least_squares_covariance(design, design @ solution - target)
    s0, inverse = float(solution[0]), float(solution[1])
    if inverse <= 0:
        raise FitError(f"integrator: the fitted op-amp gain is {1 / inverse:.3g}; its inputs look swapped")
    values = {"s0_v": s0, "inverse_a0": inverse}
    own_ohm, i0 = r_feedback_ohm, 0.0
    if own_feedback:
        into = (train["drive"] / r_feedback_ohm - train["s"] * train["load"]).to_numpy()
        across = np.stack([(train["s"] - train["v"]).to_numpy(), np.ones(len(train))], axis=1)
        (conductance, i0), *_ = np.linalg.lstsq(across, into, rcond=None)
        if conductance <= 0:
            raise FitError(f"integrator: its transresistance is {1 / conductance:.3g} ohm; in and out look swapped")
        own_ohm, i0 = float(1 / conductance), float(i0)
        if abs(own_ohm / r_feedback_ohm - 1) > OWN_FEEDBACK:
            raise FitError(
                f"integrator: its transresistance is {own_ohm:.4g} ohm, but neuron.r_feedback_ohm, by which its sweeps "
                f"are scaled, is {r_feedback_ohm:.4g} ohm; write the former into the design"
            )
        values |= {"r_feedback_ohm": own_ohm, "i0_a": i0}
        more = least_squares_covariance(across, across @ [conductance, i0] - into)
        scale = np.diag([own_ohm**2, 1.0])  # dR = -R^2 d(1/R)
        covariance = np.block([[covariance, np.zeros((2, 2))], [np.zeros((2, 2)), scale @ more @ scale]])

    def error(part: pd.DataFrame) -> float:
        ratio = 1 + own_ohm * part["load"]
        v = (s0 * ratio + i0 * own_ohm - part["drive"] * (own_ohm / r_feedback_ohm)) / (1 + ratio * inverse)
        return float((v - part["v"]).abs().max() / v_unit_v)

    return Form(
        form="s = s0 - v / a0" + ("; i = (s - v) / r_feedback + i0" if own_feedback else ""),
        values=values,
        covariance=covariance.tolist(),
        domain={"load_siemens": _span(rows["load"]), "v": _span(rows["v"])},
        goodness=Goodness(
            unit="units of h", train=error(train), held_out=error(held), n_train=len(train), n_held_out=len(held),
            tolerance=tolerance,
        ),
    )  # fmt: skip


def fit_activation(transfer: pd.DataFrame, v_unit_v: float, z_unit_v: float, tolerance: float) -> Table:
    """Monotone table of z(h), h = -v / v_unit, z = (zp - zn) / (2 z_unit), driver open.

    A table of every second point of the middle load is held against the other points and all other loads: those errors
    are the goodness. The table that comes back has all points, at half the distance.
    """
    rows = transfer[transfer["driver_load"] == 0]
    loads = sorted(rows["load"].unique())
    middle = rows[rows["load"] == loads[len(loads) // 2]].sort_values("v", ascending=False).reset_index(drop=True)
    h = (-middle["v"] / v_unit_v).to_numpy()
    z = ((middle["zp"] - middle["zn"]) / (2 * z_unit_v)).to_numpy()
    if np.any(np.diff(z) <= -1e-9):
        raise FitError("activation: z does not rise with h; check the polarity of the activation's pins")
    knots = slice(0, None, 2)
    grid, table = _tabulated(h[knots], z[knots])
    step = float(grid[1] - grid[0])
    slopes = monotone_slopes(table, step)

    def error(at: np.ndarray, truth: np.ndarray) -> float:
        inside = (at >= grid[0]) & (at <= grid[-1])
        model, _ = hermite(torch.as_tensor(at[inside]), float(grid[0]), step, table, slopes)
        return float(np.sqrt(np.mean((model.numpy() - truth[inside]) ** 2)))

    others = rows[rows["load"] != middle["load"].iloc[0]]
    held_h = np.concatenate([h[1::2], (-others["v"] / v_unit_v).to_numpy()])
    held_z = np.concatenate([z[1::2], ((others["zp"] - others["zn"]) / (2 * z_unit_v)).to_numpy()])
    held_out = error(held_h, held_z)
    full_grid, full = _tabulated(h, z)
    return Table(
        start=float(full_grid[0]),
        step=float(full_grid[1] - full_grid[0]),
        values=full.tolist(),
        variance=held_out**2,
        goodness=Goodness(
            unit="units of z, rms", train=error(h[knots], z[knots]), held_out=held_out,
            n_train=len(grid), n_held_out=len(held_h), tolerance=tolerance,
        ),
    )  # fmt: skip


def _tabulated(h: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    """A uniform grid over ``h``, as many points, and z on it."""
    grid = np.linspace(h[0], h[-1], len(h))
    return grid, torch.as_tensor(PchipInterpolator(h, z)(grid), dtype=torch.float64)


def fit_driver(transfer: pd.DataFrame, z_unit_v: float, tolerance: float) -> Form:
    """Output resistance of each driver output, ``z_loaded = z_open / (1 + r G)``; the middle load is held out.

    The common mode of the two outputs is not modelled: it counts towards the held-out error.
    """
    loads = sorted(v for v in transfer["driver_load"].unique() if v > 0)
    if len(loads) < 2:
        raise FitError("driver: at least two driver loads are needed to fit and check its output resistance")
    middle = transfer[transfer["driver_load"] == loads[0]]["load"].iloc[0]
    base = transfer[(transfer["load"] == middle) & (transfer["driver_load"] == 0)].set_index("drive")
    held_loads = [loads[len(loads) // 2]]

    def stack(chosen: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        parts = [transfer[(transfer["driver_load"] == g)].set_index("drive") for g in chosen]
        load = np.concatenate([p["driver_load"].to_numpy() for p in parts for _ in "pn"])
        loaded = np.concatenate([p[pin].to_numpy() for p in parts for pin in ("zp", "zn")])
        unloaded = np.concatenate([base[pin].to_numpy() for _ in parts for pin in ("zp", "zn")])
        return load, loaded, unloaded

    load, loaded, unloaded = stack([g for g in loads if g not in held_loads])
    design = (load * loaded)[:, None]
    target = unloaded - loaded
    solution, *_ = np.linalg.lstsq(design, target, rcond=None)
    r_out = float(solution[0])

    def error(chosen: list[float]) -> float:
        g, z, z_open = stack(chosen)
        return float(np.sqrt(np.mean((z_open / (1 + r_out * g) - z) ** 2)) / z_unit_v)

    common = float(((base["zp"] + base["zn"]) / 2).abs().max() / z_unit_v)
    return Form(
        form="z = z_open / (1 + r_out G)",
        values={"r_out_ohm": r_out},
        covariance=least_squares_covariance(design, design @ solution - target).tolist(),
        domain={"driver_load_siemens": (0.0, loads[-1])},
        goodness=Goodness(
            unit="units of z, rms", train=error([g for g in loads if g not in held_loads]),
            held_out=max(error(held_loads), common), n_train=len(load), n_held_out=len(stack(held_loads)[0]),
            tolerance=tolerance,
        ),
    )  # fmt: skip


SILENT_A = 1e-12
"""Current below which a cell counts as drawing none: ngspice resolves no less."""


def without_supply(supply: pd.DataFrame) -> str:
    """The cells that draw no current from their rails, as ``slot 'cell'``; empty when all do."""
    silent = []
    for slot, rows in supply.groupby("slot", sort=False):
        if float(rows[["i_vdd", "i_vss"]].abs().to_numpy().max()) <= SILENT_A:
            silent.append(f"{slot} {rows['cell'].iloc[0]!r}")
    return ", ".join(silent)


POWER_TERMS = ("p0_w", "p_drive_w_per_v", "p_abs_drive_w_per_v", "p_drive2_w_per_v2", "p_load_v")


def fit_power(power: pd.DataFrame, tolerance: float) -> Form:
    """Supply power of one neuron, ``p0 + a drive + b |drive| + c drive^2 + d G_driver (|zp| + |zn|)``.

    The even terms are a class-AB and a class-A output, the odd one an output stage that is not symmetric. Held out:
    every second row, relative error. A first-order estimate for design; the energy of a verdict is always integrated
    from ngspice supply currents.
    """
    order = power.reset_index(drop=True)
    drive = order["drive"].to_numpy()
    load = (order["driver_load"] * (order["zp"].abs() + order["zn"].abs())).to_numpy()
    features = np.stack([np.ones(len(order)), drive, np.abs(drive), drive**2, load], axis=1)
    total = (order["p_vdd"] + order["p_vss"]).to_numpy()
    if not np.any(np.abs(total) > 0):
        raise FitError("power: the cells draw no supply current; their models carry none (status: not modelled)")
    held = np.arange(len(order)) % 2 == 1
    solution, *_ = np.linalg.lstsq(features[~held], total[~held], rcond=None)
    relative = np.abs(features @ solution - total) / np.abs(total)
    return Form(
        form="p0 + a drive + b |drive| + c drive^2 + d G_driver (|zp| + |zn|)",
        values={name: float(value) for name, value in zip(POWER_TERMS, solution, strict=True)},
        covariance=least_squares_covariance(features[~held], features[~held] @ solution - total[~held]).tolist(),
        domain={"drive": _span(order["drive"]), "driver_load_siemens": _span(order["driver_load"])},
        goodness=Goodness(
            unit="relative, p95", train=float(np.quantile(relative[~held], 0.95)),
            held_out=float(np.quantile(relative[held], 0.95)), n_train=int((~held).sum()), n_held_out=int(held.sum()),
            tolerance=tolerance,
        ),
    )  # fmt: skip


def _span(values: pd.Series) -> tuple[float, float]:
    return float(values.min()), float(values.max())
