"""Dynamic fits: time constant versus load, and the output noise of a neuron."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy.optimize import least_squares, nnls

from analog_deq.errors import FitError
from analog_deq.fit.forms import (
    closed_loop_tau,
    flicker_band,
    hermite,
    loop_flicker,
    loop_noise_density,
    low_pass,
    monotone_slopes,
)
from analog_deq.fit.parameters import Form, Goodness, Table, least_squares_covariance, tau_coefficients
from analog_deq.fit.static import split_axis


def fit_tau(settling: pd.DataFrame, tolerance: float) -> Form:
    """``tau = tau0 + tau_load G`` and the mean delay, from small steps at every second load.

    Held out: the other loads at every step size and sign, as relative error of tau.
    """
    rows = settling.drop_duplicates(["load", "step"])
    small = rows["step"].abs() == rows["step"].abs().min()
    train_loads, held_loads = split_axis(rows["load"])
    train, held = rows[small & rows["load"].isin(train_loads)], rows[rows["load"].isin(held_loads)]
    design = np.stack([np.ones(len(train)), train["load"].to_numpy()], axis=1)
    solution, *_ = np.linalg.lstsq(design, train["tau"].to_numpy(), rcond=None)
    delay = float(train["delay"].mean())
    covariance = np.zeros((3, 3))
    covariance[:2, :2] = least_squares_covariance(design, design @ solution - train["tau"].to_numpy())
    covariance[2, 2] = float(train["delay"].var(ddof=1) / len(train))

    def error(part: pd.DataFrame) -> float:
        return float((solution[0] + solution[1] * part["load"] - part["tau"]).abs().div(part["tau"]).max())

    return Form(
        form="tau = tau0 + tau_load G",
        values={"tau0_s": float(solution[0]), "tau_load_s_per_siemens": float(solution[1]), "delay_s": delay},
        covariance=covariance.tolist(),
        domain={
            "load_siemens": (float(rows["load"].min()), float(rows["load"].max())),
            "step_v": (float(rows["step"].min()), float(rows["step"].max())),
        },
        goodness=Goodness(
            unit="relative, max", train=error(train), held_out=error(held), n_train=len(train), n_held_out=len(held),
            tolerance=tolerance,
        ),
    )  # fmt: skip


FLAT = 1.02
"""Ratio of the integrator's noise at the lowest frequency to its plateau up to which the plateau is white."""

LOOP_SLACK = 0.01
"""Share of the loop's gain below which its finiteness is left out of the noise (2 % of the density)."""

FORM = (
    "S_h = [4kT Y + (en^2 + kf/f) Y^2] R_F^2 / v_unit^2; S_z = w(D) + k(D)/f; wide = c(D) + D^2 (c3 G + c4 G^2); "
    "w, k, c quadratic in |D|"
)


def fit_noise(
    noise: pd.DataFrame,
    tau: Form,
    activation: Table,
    *,
    r_feedback_ohm: float,
    v_unit_v: float,
    z_unit_v: float,
    temperature_k: float,
    tolerance: float,
    inverse_a0: float = 0.0,
    drive_ohm: float | None = None,
) -> Form:
    """Noise of one neuron, split at the loop: what the feedback sees and what it does not.

    *In the loop*: a density S_h at the integrator's input, ``[4kT Y + (en^2 + kf/f) Y^2] R_F^2 / v_unit^2`` with
    Y = 1/R_F + G, kf = 0 for an op-amp without 1/f noise, over ``(1 + R_F Y / a0)^2`` where a low gain makes that
    differ from 1, shaped by the pole tau. *At z*: a density ``S_z = w(D) + k(D) / f``, D = dz/dh; 0 from stages without
    noise. *Wide band*: variances beyond the pole, ``c(D) + D^2 (c3 G + c4 G^2)`` at z. w, k and c are quadratic in
    ``|D|``: a differential pair's own noise goes with its transconductance, thus with ``|D|``, what comes before it
    with ``D^2``; fewer than three biases give the smallest coefficients that agree. Values in units of h and z; the
    bias is that of a drive through ``drive_ohm``. Every second load is held out; the error is relative, of the
    integrated rms at z.
    """
    if (1 + r_feedback_ohm * noise["load"].max()) * inverse_a0 < LOOP_SLACK:
        inverse_a0 = 0.0
    scale_h = r_feedback_ohm / (drive_ohm or r_feedback_ohm)
    table = torch.as_tensor(activation.values, dtype=torch.float64)
    slopes = monotone_slopes(table, activation.step)
    train_loads, _ = split_axis(noise["load"])
    records = []
    for _, group in noise.groupby(["load", "bias"]):
        load, bias = float(group["load"].iloc[0]), float(group["bias"].iloc[0])
        tau_s = closed_loop_tau(load, *tau_coefficients(tau))
        spectra = {name: part.sort_values("frequency") for name, part in group.groupby("output")}
        f = spectra["v"]["frequency"].to_numpy(copy=True)  # torch warns of pandas' read-only views
        s_v = (spectra["v"]["density"].to_numpy() / v_unit_v) ** 2
        s_z = (spectra["z"]["density"].to_numpy() / (2 * z_unit_v)) ** 2
        h = bias / v_unit_v * scale_h / (1 + (1 + r_feedback_ohm * load) * inverse_a0)
        _, d = hermite(torch.tensor([h]), activation.start, activation.step, table, slopes)
        slope2 = float(d[0]) ** 2
        pole = 1 / (2 * np.pi * tau_s)
        plateau = (f > pole / 300) & (f < pole / 20)
        loop, flicker = float(np.median(s_v[plateau])), 0.0
        shape = low_pass(torch.as_tensor(f), torch.tensor(tau_s)).numpy()
        if s_v[0] > FLAT * loop:
            below = f < pole
            loop, flicker = map(float, _relative_fit(np.stack([shape, shape / f], axis=1)[below], s_v[below]))
        filtered = (loop + flicker / f) * shape
        band = float(flicker_band(f[0], torch.tensor(tau_s)))
        in_loop = loop / (4 * tau_s) + flicker * band
        out = s_z - slope2 * filtered
        # around the pole the difference of two large densities says nothing; errors count relative to the whole density
        clear = (f < pole / 30) | ((f > 3 * pole) & (f < 30 * pole))
        white, at_1_hz = nnls(np.stack([1 / s_z, 1 / (f * s_z)], axis=1)[clear], (out / s_z)[clear])[0]
        total = float(np.trapezoid(s_z, f))
        records.append(
            {
                "load": load, "slope2": slope2, "tau": tau_s, "loop": loop, "flicker": flicker, "white": white,
                "z_flicker": at_1_hz, "total_z": total, "wide_z": total - slope2 * in_loop,
                "band": band,
            }
        )  # fmt: skip
    frame = pd.DataFrame(records)
    train = frame[frame["load"].isin(train_loads)]
    held = frame[~frame["load"].isin(train_loads)]

    def density(en: np.ndarray, loads: pd.Series) -> np.ndarray:
        model = loop_noise_density(
            torch.as_tensor(loads.to_numpy(copy=True)), torch.tensor(en[0]), r_feedback_ohm, temperature_k, inverse_a0
        )
        return np.asarray(model.numpy() / v_unit_v**2)

    def slow(kf: float, loads: pd.Series) -> np.ndarray:
        at = torch.as_tensor(loads.to_numpy(copy=True))
        return np.asarray(loop_flicker(at, kf, r_feedback_ohm, inverse_a0).numpy() / v_unit_v**2)

    (kf,) = _relative_fit(slow(1.0, train["load"])[:, None], train["flicker"].to_numpy())
    white_rows = train[train["loop"] > 0]
    if white_rows.empty:
        raise FitError("noise: all of the integrator's is 1/f over the plan's band; raise stop_hz")
    scale = float(np.sqrt(train["loop"].max()) * v_unit_v / (1 + r_feedback_ohm * train["load"].max()))
    en_fit = least_squares(
        lambda p: np.log(density(p * scale, white_rows["load"]) / white_rows["loop"].to_numpy()), [1.0], xtol=1e-12
    )
    en = float(abs(en_fit.x[0]) * scale)
    white_z = _signed_fit(_slope_features(train), train["white"].to_numpy())
    flicker_z = _signed_fit(_slope_features(train), train["z_flicker"].to_numpy())
    wide = _signed_fit(_wide_features(train), train["wide_z"].to_numpy(), _supported(train))

    def error(part: pd.DataFrame) -> float:
        loop = density(np.array([en]), part["load"])
        in_loop = loop / (4 * part["tau"]) + slow(kf, part["load"]) * part["band"]
        total = part["slope2"] * in_loop + _wide_features(part) @ wide
        return float((np.sqrt(total) / np.sqrt(part["total_z"]) - 1).abs().max())

    values = {
        "en_v_per_rthz": en,
        **dict(zip(("z_white", "z_white_slope", "z_white_slope2"), map(float, white_z), strict=True)),
        **dict(zip(("z_flicker", "z_flicker_slope", "z_flicker_slope2"), map(float, flicker_z), strict=True)),
        **dict(zip(WIDE, map(float, wide), strict=True)),
        "inverse_a0": inverse_a0, "loop_flicker_v2": float(kf),
    }  # fmt: skip
    covariance = np.zeros((len(values), len(values)))
    freedom = max(1, len(train) - 1)
    covariance[0, 0] = float(np.sum(en_fit.fun**2) / freedom / (en_fit.jac.T @ en_fit.jac)[0, 0]) * scale**2
    at = 1
    for features, found, column in (
        (_slope_features(train), white_z, "white"),
        (_slope_features(train), flicker_z, "z_flicker"),
        (_wide_features(train), wide, "wide_z"),
    ):
        block = slice(at, at + len(found))
        covariance[block, block] = least_squares_covariance(features, features @ found - train[column].to_numpy())
        at += len(found)
    return Form(
        form=FORM,
        values=values,
        covariance=covariance.tolist(),
        domain={
            "load_siemens": (float(frame["load"].min()), float(frame["load"].max())),
            "frequency_hz": (float(noise["frequency"].min()), float(noise["frequency"].max())),
        },
        goodness=Goodness(
            unit="relative rms at z, max", train=error(train), held_out=error(held), n_train=len(train),
            n_held_out=len(held), tolerance=tolerance,
        ),
    )  # fmt: skip


def _relative_fit(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Non-negative coefficients of least relative error over the rows with a value; zeros when there is none."""
    given = values > 0
    if not given.any():
        return np.zeros(features.shape[1])
    return np.asarray(nnls(features[given] / values[given, None], np.ones(int(given.sum())))[0])


def _signed_fit(features: np.ndarray, values: np.ndarray, use: np.ndarray | None = None) -> np.ndarray:
    """Coefficients of either sign of least relative error over the rows with a value; zeros when there is none.

    Features not in ``use`` get the coefficient 0.
    """
    given, found = values > 0, np.zeros(features.shape[1])
    use = np.ones(len(found), dtype=bool) if use is None else use
    if not given.any():
        return found
    kept = features[:, use]
    scale = np.abs(kept).max(axis=0)
    relative = kept[given] / scale / values[given, None]
    found[use] = np.linalg.lstsq(relative, np.ones(int(given.sum())), rcond=1e-9)[0] / scale
    return found


def _supported(frame: pd.DataFrame) -> np.ndarray:
    """Which wide features the rows can tell apart: two loads give no curve over the load, two biases none over D.

    Signed coefficients that nothing determines would be made up between the rows, and wrong beyond them.
    """
    loads, per_load = frame["load"].nunique(), frame.groupby("load").size().max()
    return np.array([True, per_load > 2, True, loads > 1, loads > 2])


WIDE = ("wide_floor", "wide_slope", "wide_slope2", "wide_slope2_load", "wide_slope2_load2")


def _slope_features(frame: pd.DataFrame) -> np.ndarray:
    slope2 = frame["slope2"].to_numpy()
    return np.stack([np.ones(len(frame)), np.sqrt(slope2), slope2], axis=1)


def _wide_features(frame: pd.DataFrame) -> np.ndarray:
    slope2, load = frame["slope2"].to_numpy(), frame["load"].to_numpy()
    return np.concatenate([_slope_features(frame), np.stack([slope2 * load, slope2 * load**2], axis=1)], axis=1)
