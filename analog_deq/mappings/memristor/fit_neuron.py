"""Fits of one neuron: amplifiers, their poles, pair, driver; and how they differ from die to die."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.interpolate import PchipInterpolator
from scipy.optimize import least_squares

from analog_deq.errors import FitError
from analog_deq.fit.parameters import (
    Distribution,
    Form,
    least_squares_covariance,
)
from analog_deq.fit.static import split_axis
from analog_deq.mappings.memristor.goodness import FIT_TOP_HZ, alternate, goodness_of, parts, rms, span
from analog_deq.mappings.memristor.proxy import PairTable, amplifier_response, open_loop
from analog_deq.mappings.memristor.spec import MemristorSpec

Array = np.ndarray


DEGREE = 2
"""Powers of c in the pair's tables."""


def fit_amplifier(transfer: pd.DataFrame, spec: MemristorSpec) -> Form:
    """``s = s0 - v / A0``; held out: every second load, as the error of v in units of h."""
    rows = transfer[transfer["driver_load"] == 0]
    train, held = alternate(rows, "load")

    def columns(part: pd.DataFrame) -> tuple[Array, Array]:
        return np.concatenate([part["sp"], part["sn"]]), np.concatenate([part["vp"], part["vn"]])

    s, v = columns(train)
    matrix = np.stack([np.ones(len(s)), -v], axis=1)
    (s0, inverse), *_ = np.linalg.lstsq(matrix, s, rcond=None)
    if inverse <= 0:
        raise FitError(f"amplifier: the fitted op-amp gain is {1 / inverse:.3g}; its inputs look swapped")

    def error(part: pd.DataFrame) -> float:
        r = spec.r_feedback_ohm
        worst = 0.0
        for side, sign in (("p", 1), ("n", -1)):
            amps = (part["common"] + sign * part["drive"] / 2) * spec.v_unit_v / r
            v = (s0 * (1 / r + part["load"]) - amps) / ((1 + inverse) / r + inverse * part["load"])
            worst = max(worst, float((v - part[f"v{side}"]).abs().max()) / spec.v_unit_v)
        return worst

    return Form(
        form="s = s0 - v / a0", values={"s0_v": float(s0), "inverse_a0": float(inverse)},
        covariance=least_squares_covariance(matrix, matrix @ [s0, inverse] - s).tolist(),
        domain={"load_siemens": span(rows["load"])},
        goodness=goodness_of("amplifier", "units of h", error(train), error(held), len(train), len(held)),
    )  # fmt: skip


def fit_loop(response: pd.DataFrame, amplifier: Form, spec: MemristorSpec) -> Form:
    """Gain-bandwidth product and second pole of the op-amp, from closed-loop responses below ``FIT_TOP_HZ``."""
    rows = response[(response["signal"] == "v") & (response["bias"] == 0) & (response["frequency"] <= FIT_TOP_HZ)]
    train, held = alternate(rows, "load")

    def residual(p: Array, part: pd.DataFrame) -> Array:
        gain = open_loop(part["frequency"].to_numpy(), amplifier.values["inverse_a0"], p[0] * 1e8, p[1] * 1e8)
        model, _ = amplifier_response(
            part["frequency"].to_numpy(), part["load"].to_numpy(), gain, spec.r_feedback_ohm, spec.c_feedback_f,
            spec.c_input_f,
        )  # fmt: skip
        return parts(model - (part["re"] + 1j * part["im"]).to_numpy())

    found = least_squares(residual, [1.0, 5.0], args=(train,), x_scale=[1.0, 5.0], bounds=([1e-3, 1e-2], np.inf))
    gbw, f2 = (float(v) * 1e8 for v in found.x)
    return Form(
        form="A = 1 / (1/a0 + j f / gbw) / (1 + j f / f2)", values={"gbw_hz": gbw, "f2_hz": f2},
        covariance=(least_squares_covariance(found.jac, found.fun) * 1e16).tolist(),
        domain={"load_siemens": span(rows["load"]), "frequency_hz": span(rows["frequency"])},
        goodness=goodness_of(
            "loop", "share of the DC gain, rms", rms(found.fun) * 2**0.5, rms(residual(found.x, held)) * 2**0.5,
            len(train), len(held),
        ),
    )  # fmt: skip


def fit_pair(transfer: pd.DataFrame, spec: MemristorSpec) -> PairTable:
    """Tables of z(h, c) with the driver open.

    Every second mean c, and of those every second point, is fitted; other means, points and loads are held out.
    """
    rows = transfer[transfer["driver_load"] == 0].assign(
        h=lambda f: (f["vn"] - f["vp"]) / spec.v_unit_v,
        c=lambda f: -(f["vn"] + f["vp"]) / (2 * spec.v_unit_v),
        z=lambda f: f["zp"] / spec.z_unit_v,
    )
    middle = rows.loc[rows["common"] != 0, "load"].iloc[0]
    swept = rows[rows["load"] == middle]
    commons, _ = split_axis(swept["common"])
    curves = [swept[swept["common"] == c].sort_values("h").iloc[0::2] for c in commons]
    if any(np.any(np.diff(f["z"]) <= -1e-9) for f in curves):
        raise FitError("pair: z does not rise with h; check the polarity of the activation's pins")
    reach = min(min(-f["h"].iloc[0], f["h"].iloc[-1]) for f in curves)
    grid = np.linspace(-reach, reach, len(curves[0]))
    z = np.stack([PchipInterpolator(f["h"], f["z"])(grid) for f in curves])
    means = np.stack([PchipInterpolator(f["h"], f["c"])(grid) for f in curves])
    powers = [np.vander(means[:, k], DEGREE + 1, increasing=True) for k in range(len(grid))]
    tables = np.stack([np.linalg.lstsq(p, z[:, k], rcond=None)[0] for k, p in enumerate(powers)], axis=1)
    table = PairTable(
        start=float(grid[0]), step=float(grid[1] - grid[0]), tables=tables.tolist(), c_max=spec.c_max,
        goodness=goodness_of("pair", "units of z, rms", 0.0, 0.0, 1, 1),
    )  # fmt: skip
    used = pd.concat(curves).index

    def error(part: pd.DataFrame) -> float:
        inside = part[part["h"].abs() <= reach]
        model = table.activation().evaluate(*(torch.as_tensor(inside[n].to_numpy(copy=True)) for n in ("h", "c")))[0]
        return rms(model.numpy() - inside["z"].to_numpy())

    train, held = rows.loc[used], rows.drop(index=used)
    goodness = goodness_of("pair", "units of z, rms", error(train), error(held), len(train), len(held))
    return table.model_copy(update={"goodness": goodness})


def fit_driver(transfer: pd.DataFrame, spec: MemristorSpec) -> Form:
    """Output resistance, ``z_open = z (1 + r G)``; the middle load is held out."""
    loads = sorted(g for g in transfer["driver_load"].unique() if g > 0)
    if len(loads) < 2:
        raise FitError("driver: at least two driver loads are needed to fit and check its output resistance")
    neuron = transfer.loc[transfer["driver_load"] > 0, "load"].iloc[0]
    base = transfer[(transfer["load"] == neuron) & (transfer["common"] == 0) & (transfer["driver_load"] == 0)]
    unloaded = base.sort_values("drive")["zp"].to_numpy()

    def columns(chosen: Sequence[float]) -> tuple[Array, Array]:
        parts = [transfer[transfer["driver_load"] == g].sort_values("drive") for g in chosen]
        amps = np.concatenate([(p["driver_load"] * p["zp"]).to_numpy() for p in parts])
        return amps, np.concatenate([unloaded - p["zp"].to_numpy() for p in parts])

    held = [loads[len(loads) // 2]]
    amps, drop = columns([g for g in loads if g not in held])
    r = float(amps @ drop / (amps @ amps))

    def error(part: tuple[Array, Array]) -> float:
        return rms(r * part[0] - part[1]) / spec.z_unit_v

    return Form(
        form="z = z_open / (1 + r_out G)", values={"r_out_ohm": r},
        covariance=least_squares_covariance(amps[:, None], r * amps - drop).tolist(),
        domain={"driver_load_siemens": (0.0, loads[-1])},
        goodness=goodness_of(
            "driver", "units of z, rms", error((amps, drop)), error(columns(held)), len(amps), len(columns(held)[0])
        ),
    )  # fmt: skip


def fit_poles(response: pd.DataFrame) -> Form:
    """Poles of pair and driver, ``z / v = slope / (1 + j w t1) / (1 + j w t2)``; held out: other bias points."""
    rows = response[(response["signal"] == "z") & (response["frequency"] <= FIT_TOP_HZ)]
    rows = rows[rows["load"] == rows.loc[rows["bias"] > 0, "load"].iloc[0]]
    usable = sorted(rows["bias"].unique())[:3]  # a pair driven hard has no slope left to see a pole by
    train, held = (rows[rows["bias"].isin(usable[k::2])] for k in (0, 1))

    def residual(p: Array, part: pd.DataFrame) -> Array:
        found = []
        for _, f in part.groupby("bias"):
            jw = 2j * np.pi * f["frequency"].to_numpy() * 1e-9
            measured = (f["re"] + 1j * f["im"]).to_numpy() / f["re"].iloc[0]
            found.append(1 / (1 + jw * p[0]) / (1 + jw * p[1]) - measured)
        return parts(np.concatenate(found))

    found = least_squares(residual, [0.5, 0.3], args=(train,), bounds=([1e-4, 1e-4], np.inf))
    return Form(
        form="z / v = slope / (1 + j w t_pair) / (1 + j w t_driver)",
        values={"pair_s": float(found.x[0]) * 1e-9, "driver_s": float(found.x[1]) * 1e-9},
        covariance=(least_squares_covariance(found.jac, found.fun) * 1e-18).tolist(),
        domain={"frequency_hz": span(rows["frequency"]), "bias_h": (0.0, usable[-1])},
        goodness=goodness_of(
            "poles", "share of the slope, rms", rms(found.fun) * 2**0.5, rms(residual(found.x, held)) * 2**0.5,
            len(train), len(held),
        ),
    )  # fmt: skip


AMPLIFIER_PARAMETERS = ("vos_v", "r_feedback")
PAIR_PARAMETERS = ("sat", "in_scale", "in_offset", "out_offset")


def fit_mismatch(
    rows: pd.DataFrame, measured: pd.DataFrame, amplifier: Form, pair: PairTable, spec: MemristorSpec
) -> tuple[Distribution, Distribution]:
    """Distributions over dies of an amplifier's offset and R_F, and of a pair with its driver.

    Held out: every second point of each die's curve, in units of z; of an amplifier in units of h.
    """
    s0, inverse = amplifier.values["s0_v"], amplifier.values["inverse_a0"]
    act = pair.activation()
    own, pairs = [], []
    residual: dict[str, list[Array]] = {"own_train": [], "own": [], "pair_train": [], "pair": []}
    for _, f in rows.groupby("die"):
        f = f.sort_values("drive")
        for side, sign in (("p", 1), ("n", -1)):
            s, v = f[f"s{side}"].to_numpy(), f[f"v{side}"].to_numpy()
            amps = (sign * f["drive"] / 2 * spec.v_unit_v / spec.r_feedback_ohm).to_numpy() - s * f["load"].to_numpy()
            vos = float(np.mean((s + inverse * v - s0)[0::2]))
            r = float(((s - v)[0::2] @ amps[0::2]) / (amps[0::2] @ amps[0::2]))
            own.append((vos, r / spec.r_feedback_ohm - 1))
            for name, part in (("own_train", slice(0, None, 2)), ("own", slice(1, None, 2))):
                residual[name].append((s - v - r * amps)[part] / spec.v_unit_v)
        h = torch.as_tensor((f["vn"] - f["vp"]).to_numpy(copy=True) / spec.v_unit_v)
        c = torch.as_tensor(-(f["vn"] + f["vp"]).to_numpy(copy=True) / (2 * spec.v_unit_v))
        z = f["zp"].to_numpy() / spec.z_unit_v

        def off(p: Array, part: slice, h: torch.Tensor = h, c: torch.Tensor = c, z: Array = z) -> Array:
            changed = act.varied(*(torch.tensor(float(v), dtype=torch.float64) for v in p))
            return np.asarray(changed.evaluate(h[part], c[part])[0].numpy() - z[part])

        found = least_squares(off, [1.0, 1.0, 0.0, 0.0], args=(slice(0, None, 2),), xtol=1e-12)
        pairs.append(tuple(float(v) for v in found.x))
        residual["pair_train"].append(found.fun)
        residual["pair"].append(off(found.x, slice(1, None, 2)))
    failed = measured["die"].nunique() - rows["die"].nunique()
    result = []
    for part_name, names, values, key, unit in (
        ("mismatch", AMPLIFIER_PARAMETERS, own, "own", "units of h, rms"),
        ("pair_mismatch", PAIR_PARAMETERS, pairs, "pair", "units of z, rms"),
    ):
        array = np.array(values)
        covariance = np.cov(array.T)
        train, held = (np.concatenate(residual[k]) for k in (f"{key}_train", key))
        result.append(
            Distribution(
                names=list(names), mean=[float(v) for v in array.mean(axis=0)], covariance=covariance.tolist(),
                mean_covariance=(covariance / len(array)).tolist(), dies=len(array), failed=failed,
                goodness=goodness_of(part_name, unit, rms(train), rms(held), len(train), len(held)),
            )
        )  # fmt: skip
    return result[0], result[1]
