"""Fits of one neuron's tables: amplifier, settling, hold, activation, noise, mismatch; each checked on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from scipy.interpolate import PchipInterpolator
from scipy.optimize import least_squares

from analog_deq.fit.forms import hermite, monotone_slopes
from analog_deq.fit.parameters import Distribution, Form, Goodness, Table, check_goodness, least_squares_covariance
from analog_deq.fit.static import split_axis
from analog_deq.mappings.mapping import FamilyProxy
from analog_deq.mappings.switched_cap.spec import Settings
from analog_deq.records import OK

Array = np.ndarray
NOISE_PARTS = ("charge", "master", "share", "state", "row")
DIE_NAMES = ["gain", "offset_h", "saturation", "offset_z"]
PICO = 1e12
TAIL = (3e-4, 0.1)
"""Distances from the end, relative, between which the transfer phase is fitted as one exponential."""


class SwitchedCapProxy(FamilyProxy):
    """The neuron's discrete map: ``h = closure(C) (sum of row charges / C_F + offset)``, held and shared, then sigma.

    ``activation`` is z over the pre-activation that the amplifier delivers, hold included. Noise values are variances
    a period: charge (a C + b C^2, C in farads, C^2), master (V^2), share (V^2), z (white density and row variance).
    """

    amplifier: Form
    settling: Form
    hold: Form
    activation: Table
    noise: dict[str, Form]
    mismatch: Distribution

    def goodness(self) -> dict[str, Goodness]:
        parts = {name: getattr(self, name).goodness for name in ("amplifier", "settling", "hold", "activation")}
        return {**parts, **{f"noise {k}": v.goodness for k, v in self.noise.items()}, "mismatch": self.mismatch.goodness}


def fit_tables(tables: Mapping[str, pd.DataFrame], settings: Settings) -> SwitchedCapProxy:
    """Proxy of the valid rows. FitError when a part misses its tolerance on held-out rows."""
    good = {name: frame[frame["status"] == OK] for name, frame in tables.items()}
    settling = _settling(good["settling"], settings)
    rest = good["transfer"][good["transfer"]["period"] == good["transfer"]["period"].max()]
    activation = _activation(good["activation"], rest, settings)
    proxy = SwitchedCapProxy(
        amplifier=_amplifier(rest, settling, settings),
        settling=settling,
        hold=_hold(good["transfer"], settings),
        activation=activation,
        noise=_noise(good["noise"], activation, settling, settings),
        mismatch=_mismatch(good["mismatch"], activation, len(tables["mismatch"]["die"].unique()), settings),
    )
    for part, goodness in proxy.goodness().items():
        check_goodness(f"switched_cap {part}", goodness)
    return proxy


def closure(load_f: Array | float, inverse_a0: float, settings: Settings) -> Array | float:
    """Gain of the charge amplifier, ``1 / (1 + (1 + (C + C_P) / C_F) / A0)``, for an array capacitance C.

    Charge conservation at the summing node with s = vos - v/A0 in both phases (Gregorian and Temes 1986).
    """
    part = settings.capacitors
    return 1 / (1 + (1 + (load_f + part.parasitic_f) / part.feedback_f) * inverse_a0)


def unsettled(load_f: Array | float, settling: Form, transfer_s: float) -> Array:
    """Share of the step still missing when the master samples, ``exp(-(t - t0) / tau(C))``."""
    values = settling.values
    return np.exp(-(transfer_s - values["delay_s"]) / time_constant(load_f, settling))


def time_constant(load_f: Array | float, settling: Form) -> Array:
    """Time constant of the transfer phase, linear in the load: about (1 + (C + C_P) / C_F) / (2 pi GBW)."""
    values = settling.values
    return np.asarray(values["tau0_s"] + values["tau_load_s_per_f"] * np.asarray(load_f))


def _held(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    train, held = split_axis(frame["load"])
    return frame[frame["load"].isin(train)], frame[frame["load"].isin(held)]


def _span(values: pd.Series) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _settling(rows: pd.DataFrame, settings: Settings) -> Form:
    """One exponential a load, then tau linear in the load; held out: tau of every second load."""
    taus, delays, loads = [], [], []
    for load, group in rows.groupby("load"):
        curve = group[group["drive"] == group["drive"].max()].sort_values("elapsed")
        end = float(curve["v"].iloc[-1])
        distance = (1 - curve["v"] / end).to_numpy()
        t = curve["elapsed"].to_numpy()
        first = int(np.argmax(np.abs(distance) < TAIL[1]))
        chosen = np.arange(len(t)) >= first

        def residual(p: Array, t: Array = t[chosen], y: Array = (curve["v"] / end).to_numpy()[chosen]) -> Array:
            return np.asarray(p[0] * (1 - np.exp(-(t - p[1] * 1e-9) / (p[2] * 1e-9))) - y)

        found = least_squares(residual, [1.0, 2.0, 1e9 * t[first] / 3]).x
        loads.append(float(load))
        delays.append(float(found[1]) * 1e-9)
        taus.append(float(found[2]) * 1e-9)
    load_f, tau_s = np.array(loads), np.array(taus)
    slow = load_f > settings.capacitors.feedback_f * 2
    train = slow & (np.arange(len(load_f)) % 2 == 0)
    design = np.stack([np.ones(len(load_f)), load_f], axis=1)
    scale = np.array([1.0, PICO])
    solution, *_ = np.linalg.lstsq(design[train] * scale, tau_s[train], rcond=None)
    relative = np.abs(design * scale @ solution / tau_s - 1)
    held = slow & ~train
    values = {"tau0_s": float(solution[0]), "tau_load_s_per_f": float(solution[1] * PICO)}
    spread = least_squares_covariance(design[train] * scale, design[train] * scale @ solution - tau_s[train])
    return Form(
        form="tau = tau0 + k C", values={**values, "delay_s": float(np.median(np.array(delays)[slow]))},
        covariance=spread.tolist(), domain={"load_f": (float(load_f.min()), float(load_f.max()))},
        goodness=Goodness(
            unit="relative", train=float(relative[train].max()), held_out=float(relative[held].max()),
            n_train=int(train.sum()), n_held_out=int(held.sum()), tolerance=settings.tolerances.settling,
        ),
    )  # fmt: skip


def _amplifier(rest: pd.DataFrame, settling: Form, settings: Settings) -> Form:
    """1/A0 and the charge that the opening reset switch leaves, from -v at rest over drives and loads."""
    part, unit = settings.capacitors, settings.scales.v_unit_v

    def model(p: Array, frame: pd.DataFrame) -> Array:
        load = frame["load"].to_numpy()
        done = 1 - unsettled(load, settling, settings.clock.transfer_s)
        offset = p[1] * 1e-15 / (part.feedback_f * unit)
        return np.asarray((frame["drive"].to_numpy() + offset) * done * closure(load, p[0] * 1e-4, settings))

    train, held = _held(rest)
    found = least_squares(lambda p: model(p, train) + train["v"].to_numpy() / unit, [1.0, 0.0], x_scale=[1.0, 1.0])
    scale = np.array([1e-4, 1e-15])
    errors = [float(np.abs(model(found.x, f) + f["v"].to_numpy() / unit).max()) for f in (train, held)]
    covariance = least_squares_covariance(found.jac, found.fun) * np.outer(scale, scale)
    return Form(
        form="h = (drive + q / (C_F v_unit)) (1 - unsettled) / (1 + (1 + (C + C_P) / C_F) / a0)",
        values={"inverse_a0": float(found.x[0] * 1e-4), "charge_c": float(found.x[1] * 1e-15)},
        covariance=covariance.tolist(), domain={"load_f": _span(rest["load"]), "drive": _span(rest["drive"])},
        goodness=Goodness(
            unit="units of h", train=errors[0], held_out=errors[1], n_train=len(train), n_held_out=len(held),
            tolerance=settings.tolerances.transfer_h,
        ),
    )  # fmt: skip


def _hold(rows: pd.DataFrame, settings: Settings) -> Form:
    """Share of a period's step that the slave takes, from its second to fourth period; held out: other loads.

    Drives below half a unit are left out: their steps are too small against the offset.
    """
    unit = settings.scales.v_unit_v
    wide = rows.pivot_table(index=["load", "drive"], columns="period", values="u").reset_index()
    wide = wide[wide["drive"].abs() >= 0.5]
    last = max(c for c in wide.columns if isinstance(c, (int, float, np.integer)))
    train, held = _held(wide)

    def ratios(frame: pd.DataFrame) -> Array:
        distance = np.stack([(frame[k] - frame[last]).to_numpy() for k in range(4)])
        return np.asarray(1 - (distance[2:4] / distance[1:3]).ravel())

    share = float(ratios(train).mean())
    errors = [float(np.abs(ratios(f) - share).max()) for f in (train, held)]
    at_zero = rows[(rows["period"] == rows["period"].max()) & (rows["drive"].abs() < 1e-9)]
    offset = float(((at_zero["v"] - at_zero["u"]) / unit).mean())
    return Form(
        form="w' = (1 - share) w + share h", values={"share": share, "offset_h": offset},
        covariance=[[float(ratios(train).var()), 0.0], [0.0, 0.0]],
        domain={"drive": _span(rows["drive"])},
        goodness=Goodness(
            unit="of the step", train=errors[0], held_out=errors[1], n_train=2 * len(train), n_held_out=2 * len(held),
            tolerance=settings.tolerances.hold,
        ),
    )  # fmt: skip


def _activation(curve: pd.DataFrame, rest: pd.DataFrame, settings: Settings) -> Table:
    """z over the amplifier's pre-activation: the static curve behind the hold's measured step u(v).

    Held out: the clocked z of every second load, and half the points of the static curve.
    """
    unit, full = settings.scales.v_unit_v, 2 * settings.scales.z_unit_v
    train, held = _held(rest)
    middle = train[train["load"] == sorted(train["load"].unique())[len(train["load"].unique()) // 2]]
    order = middle.sort_values("v", ascending=False)
    delivered, kept = -order["v"].to_numpy() / unit, -order["u"].to_numpy() / unit
    hold = PchipInterpolator(delivered, kept - delivered)
    static = curve.sort_values("u", ascending=False)
    h, z = -static["u"].to_numpy() / unit, static["z"].to_numpy() / full
    every = PchipInterpolator(h, z)
    low, high = max(h[0] - float(hold(delivered[0])), delivered[0]), min(h[-1], delivered[-1])
    grid = np.linspace(low, high, len(h))
    values = every(grid + hold(grid))
    step = float(grid[1] - grid[0])
    table = torch.as_tensor(values)
    slopes = monotone_slopes(table, step)

    def error(frame: pd.DataFrame) -> float:
        at = -frame["v"].to_numpy() / unit
        inside = (at >= low) & (at <= high)
        model = hermite(torch.as_tensor(at[inside]), float(low), step, table, slopes)[0].numpy()
        return float(np.sqrt(np.mean((model - frame["z"].to_numpy()[inside] / full) ** 2)))

    half = PchipInterpolator(h[::2], z[::2])
    static_error = float(np.sqrt(np.mean((half(h[1:-1:2]) - z[1:-1:2]) ** 2)))
    held_out = max(error(held), static_error)
    return Table(
        start=float(low), step=step, values=[float(v) for v in values], variance=held_out**2,
        goodness=Goodness(
            unit="units of z, rms", train=error(middle), held_out=held_out, n_train=len(middle) + len(h[::2]),
            n_held_out=len(held) + len(h[1::2]), tolerance=settings.tolerances.activation_fs,
        ),
    )  # fmt: skip


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


def _noise(rows: pd.DataFrame, activation: Table, settling: Form, settings: Settings) -> dict[str, Form]:
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
    biases = sorted(rows[rows["output"] == "z"]["bias"].unique())
    table = torch.as_tensor(activation.values)
    slopes = monotone_slopes(table, activation.step)
    slope = hermite(torch.tensor(biases), activation.start, activation.step, table, slopes)[1].numpy()
    full = 2 * settings.scales.z_unit_v
    tau = float(time_constant(float(np.mean(settling.domain["load_f"])), settling))
    x = np.stack([np.ones_like(slope), slope, slope**2], axis=1)
    held = np.zeros(len(slope), dtype=bool)
    held[1:-1:2] = True
    for output, name in (("z", "state"), ("row", "row")):
        found = []
        for bias in biases:
            g = rows[(rows["output"] == output) & (rows["bias"] == bias)]
            f, density = g["frequency"].to_numpy(), g["density"].to_numpy() / full
            shaped = density**2 / (1 + (2 * np.pi * f * tau) ** 2) * 4 * tau if name == "state" else density**2
            found.append(float(np.trapezoid(shaped, f)))
        form = "one-sided density a + b s + c s^2, s = dz/dh" if name == "state" else "z^2 on a row = a + b s + c s^2"
        forms[name] = _linear(x, np.array(found), held, form, ("constant", "per_slope", "per_slope2"), tolerance, slope=slope)
    return forms


def die_curve(p: Array, h: Array, activation: Table) -> Array:
    """z = saturation sigma(gain h + offset_h) + offset_z of one die; ``p`` in the order of :data:`DIE_NAMES`."""
    table = torch.as_tensor(activation.values)
    inner = torch.as_tensor(p[0] * h + p[1])
    value = hermite(inner, activation.start, activation.step, table, monotone_slopes(table, activation.step))[0]
    return np.asarray(p[2] * value.numpy() + p[3])


def _mismatch(rows: pd.DataFrame, activation: Table, asked: int, settings: Settings) -> Distribution:
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
