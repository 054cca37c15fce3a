"""Noise of one neuron by phase, and the spread of its parameters over dies: fits of what is random."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy.optimize import least_squares, minimize_scalar

from analog_deq.fit.forms import hermite, monotone_slopes
from analog_deq.fit.parameters import Distribution, Form, Goodness, Table, least_squares_covariance
from analog_deq.mappings.switched_cap.closure import time_constant
from analog_deq.mappings.switched_cap.spec import Settings

Array = np.ndarray
DIE_NAMES = ["gain", "offset_h", "saturation", "offset_z"]
PICO = 1e12


def _variance(group: pd.DataFrame) -> float:
    return float(np.trapezoid(group["density"].to_numpy() ** 2, group["frequency"].to_numpy()))


def _linear(
    x: Array, y: Array, held: Array, form: str, names: tuple[str, ...], tolerance: float, **domain: Array
) -> Form:
    """Least squares of relative residuals, held out where ``held``."""
    design = x / y[:, None]
    scale = np.abs(design[~held]).max(axis=0)
    solution, *_ = np.linalg.lstsq(design[~held] / scale, np.ones(int((~held).sum())), rcond=None)
    error = np.abs(design / scale @ solution - 1) / 2  # of the rms: half of the variance's
    covariance = least_squares_covariance(design[~held] / scale, design[~held] / scale @ solution - 1)
    return Form(
        form=form, values=dict(zip(names, (float(v) for v in solution / scale), strict=True)),
        covariance=(covariance / np.outer(scale, scale)).tolist(),
        domain={k: (float(v.min()), float(v.max())) for k, v in domain.items()},
        goodness=Goodness(
            unit="rms, relative", train=float(error[~held].max()), held_out=float(error[held].max()),
            n_train=int((~held).sum()), n_held_out=int(held.sum()), tolerance=tolerance,
        ),
    )  # fmt: skip


def fit_noise(rows: pd.DataFrame, activation: Table, settling: Form, settings: Settings) -> dict[str, Form]:
    """Variances by phase: sampled charge and amplifier over load, sharing, and a state's over the slope of sigma."""
    part, tolerance = settings.capacitors, settings.tolerances.noise
    forms = {}
    for output in ("charge", "master"):
        groups = [(load, _variance(g)) for load, g in rows[rows["output"] == output].groupby("load")]
        load, variance = np.array([g[0] for g in groups]), np.array([g[1] for g in groups])
        held = np.arange(len(load)) % 2 == 1
        total = load + part.feedback_f + part.parasitic_f
        if output == "charge":
            x, names = np.stack([total, total**2], axis=1), ("per_f", "per_f2")
            form, variance = "q^2 = a C + b C^2, C all that hangs on the summing node", variance / PICO**2
        else:
            x, names = np.stack([np.ones_like(total), total], axis=1), ("constant_v2", "per_f")
            form = "v^2 = a + b C, C all that hangs on the summing node"
        forms[output] = _linear(x, variance, held, form, names, tolerance, load_f=load)
    shares = np.array([_variance(g) for _, g in rows[rows["output"] == "share"].groupby("load")])
    spread = float(np.abs(shares / shares[0] - 1).max())
    forms["share"] = Form(
        form="u^2 constant", values={"constant_v2": float(shares[0])}, covariance=[[0.0]], domain={},
        goodness=Goodness(
            unit="rms, relative", train=0.0, held_out=spread / 2, n_train=1, n_held_out=len(shares) - 1,
            tolerance=tolerance,
        ),
    )  # fmt: skip
    return forms | _state_noise(rows[rows["output"].isin(["z", "row"])], activation, settling, settings)


def _state_noise(rows: pd.DataFrame, activation: Table, settling: Form, settings: Settings) -> dict[str, Form]:
    """Of a held state: its density as the transfer filters it, and the variance on a row line over slope and load.

    A pole of the driver and one of the row pass 1 / (1 + C / C_0) of a white density, C_0 where the two are equal.
    """
    table = torch.as_tensor(activation.values)
    slopes = monotone_slopes(table, activation.step)
    full, tolerance = 2 * settings.scales.z_unit_v, settings.tolerances.noise
    tau = float(time_constant(float(np.mean(settling.domain["load_f"])), settling))
    names = ("constant", "per_slope", "per_slope2")

    def density(group: pd.DataFrame) -> float:
        shape = 4 * tau / (1 + (2 * np.pi * group["frequency"].to_numpy() * tau) ** 2)
        return float(np.trapezoid(group["density"].to_numpy() ** 2 * shape, group["frequency"].to_numpy()))

    forms = {}
    for output, name, measure in (("z", "state", density), ("row", "row", _variance)):
        groups = [
            (row, bias, measure(g)) for (row, bias), g in rows[rows["output"] == output].groupby(["load", "bias"])
        ]
        row_f, bias, found = (np.array([g[k] for g in groups], dtype=float) for k in range(3))
        inner = torch.tensor(bias)
        s = hermite(inner, activation.start, activation.step, table, slopes)[1].abs().numpy()
        order = np.searchsorted(np.unique(row_f), row_f) + np.searchsorted(np.unique(bias), bias)
        held = order % 2 == 1  # a chequerboard over loads and biases; both ends of both are trained on
        x, y = np.stack([np.ones_like(s), s, s**2], axis=1), found / full**2
        if name == "state":
            forms[name] = _linear(x, y, held, "one-sided density a + b s + c s^2, s = dz/dh", names, tolerance, slope=s)
            continue

        def misfit(log_c0: float, x: Array = x, y: Array = y, held: Array = held, row_f: Array = row_f) -> float:
            scaled = (x / (1 + row_f / np.exp(log_c0))[:, None] / y[:, None])[~held]
            solution, *_ = np.linalg.lstsq(scaled, np.ones(len(scaled)), rcond=None)
            return float(np.square(scaled @ solution - 1).sum())

        best = minimize_scalar(misfit, bounds=(np.log(1e-14), np.log(1e-11)), method="bounded").x
        c0 = float(np.exp(best))
        law = "z^2 on a row = (a + b s + c s^2) / (1 + C / C_0)"
        form = _linear(x / (1 + row_f / c0)[:, None], y, held, law, names, tolerance, slope=s, row_f=row_f)
        forms[name] = form.model_copy(update={"values": {**form.values, "c0_f": c0}})
    return forms


def die_curve(p: Array, h: Array, activation: Table) -> Array:
    """z = saturation sigma(gain h + offset_h) + offset_z of one die; ``p`` in the order of :data:`DIE_NAMES`."""
    table = torch.as_tensor(activation.values)
    inner = torch.as_tensor(p[0] * h + p[1])
    value = hermite(inner, activation.start, activation.step, table, monotone_slopes(table, activation.step))[0]
    return np.asarray(p[2] * value.numpy() + p[3])


def fit_mismatch(rows: pd.DataFrame, activation: Table, asked: int, settings: Settings) -> Distribution:
    """Normal distribution of four parameters a neuron, fitted on every second drive of a die, checked on the others."""
    full, found, errors = 2 * settings.scales.z_unit_v, [], []
    for _, group in rows.groupby("die"):
        order = group.sort_values("drive")
        inside = order["drive"].abs() <= 0.95 * order["drive"].max()
        h, z = order["drive"][inside].to_numpy(), order["z"][inside].to_numpy() / full
        fitted = slice(0, None, 2)
        p = least_squares(lambda q, h=h[fitted], z=z[fitted]: die_curve(q, h, activation) - z, [1.0, 0, 1.0, 0]).x
        errors.append([float(np.abs(die_curve(p, h[s], activation) - z[s]).max()) for s in (fitted, slice(1, None, 2))])
        found.append(p)
    values, worst = np.array(found), np.array(errors).max(axis=0)
    covariance = np.cov(values.T)
    return Distribution(
        names=DIE_NAMES, mean=[float(v) for v in values.mean(axis=0)], covariance=covariance.tolist(),
        mean_covariance=(covariance / len(values)).tolist(), dies=len(values), failed=asked - len(values),
        goodness=Goodness(
            unit="units of z, max", train=float(worst[0]), held_out=float(worst[1]), n_train=len(values),
            n_held_out=len(values), tolerance=settings.tolerances.mismatch_fs,
        ),
    )  # fmt: skip
