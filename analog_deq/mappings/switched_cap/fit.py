"""Fits of one neuron's tables: amplifier, settling, hold, activation; each is checked on held-out rows."""

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
from analog_deq.mappings.switched_cap.closure import closure, unsettled
from analog_deq.mappings.switched_cap.fit_noise import fit_mismatch, fit_noise
from analog_deq.mappings.switched_cap.spec import Settings
from analog_deq.records import OK

Array = np.ndarray
PICO = 1e12
TAIL = 0.1
"""Relative distance from the end below which the transfer phase is fitted as one exponential."""
SHARING_STEP, SHARING_PERIODS = 0.25, 4
"""Grid of rho, units of h, and the periods whose steps it is fitted to: later ones are too small."""
SMOOTHING = 1e-3
"""Weight of rho's second differences, for grid points between which no step ends."""


class SwitchedCapProxy(FamilyProxy):
    """The neuron's discrete map: ``h = closure(C) (sum of row charges / C_F + offset)``, held and shared, then sigma.

    ``activation`` is z over the pre-activation that the amplifier delivers, hold included; ``sharing`` rho over the
    held one (:mod:`.sharing`). Noise values are variances
    a period: charge (a C + b C^2, C in farads, C^2), master (V^2), share (V^2), z (white density and row variance).
    """

    amplifier: Form
    settling: Form
    hold: Form
    sharing: Table
    activation: Table
    noise: dict[str, Form]
    mismatch: Distribution

    def goodness(self) -> dict[str, Goodness]:
        parts = {name: getattr(self, name).goodness for name in ("amplifier", "settling", "hold", "activation")}
        return {
            **parts,
            **{f"noise {k}": v.goodness for k, v in self.noise.items()},
            "mismatch": self.mismatch.goodness,
        }


def fit_tables(tables: Mapping[str, pd.DataFrame], settings: Settings) -> SwitchedCapProxy:
    """Proxy of the valid rows. FitError when a part misses its tolerance on held-out rows."""
    good = {name: frame[frame["status"] == OK] for name, frame in tables.items()}
    settling = _settling(good["settling"], settings)
    rest = good["transfer"][good["transfer"]["period"] == good["transfer"]["period"].max()]
    activation = _activation(good["activation"], rest, settings)
    hold, sharing = _hold(good["transfer"], settings)
    proxy = SwitchedCapProxy(
        amplifier=_amplifier(rest, settling, settings),
        settling=settling,
        hold=hold,
        sharing=sharing,
        activation=activation,
        noise=fit_noise(good["noise"], activation, settling, settings),
        mismatch=fit_mismatch(good["mismatch"], activation, len(tables["mismatch"]["die"].unique()), settings),
    )
    for part, goodness in proxy.goodness().items():
        check_goodness(f"switched_cap {part}", goodness)
    return proxy


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
        delay_s, tau_s = _exponential(curve["elapsed"].to_numpy(), curve["v"].to_numpy() / float(curve["v"].iloc[-1]))
        loads.append(float(str(load)))
        delays.append(delay_s)
        taus.append(tau_s)
    load_f, found_s = np.array(loads), np.array(taus)
    slow = load_f > settings.capacitors.feedback_f * 2
    train = slow & (np.arange(len(load_f)) % 2 == 0)
    design = np.stack([np.ones(len(load_f)), load_f], axis=1)
    scale = np.array([1.0, PICO])
    solution, *_ = np.linalg.lstsq(design[train] * scale, found_s[train], rcond=None)
    relative = np.abs(design * scale @ solution / found_s - 1)
    held = slow & ~train
    values = {"tau0_s": float(solution[0]), "tau_load_s_per_f": float(solution[1] * PICO)}
    spread = least_squares_covariance(design[train] * scale, design[train] * scale @ solution - found_s[train])
    return Form(
        form="tau = tau0 + k C", values={**values, "delay_s": float(np.median(np.array(delays)[slow]))},
        covariance=spread.tolist(), domain={"load_f": (float(load_f.min()), float(load_f.max()))},
        goodness=Goodness(
            unit="relative", train=float(relative[train].max()), held_out=float(relative[held].max()),
            n_train=int(train.sum()), n_held_out=int(held.sum()), tolerance=settings.tolerances.settling,
        ),
    )  # fmt: skip


def _exponential(elapsed_s: Array, share: Array) -> tuple[float, float]:
    """Delay and time constant of ``share`` (1 at the end) from where it is within ``TAIL`` of its end."""
    first = int(np.argmax(np.abs(1 - share) < TAIL))
    t, y = elapsed_s[first:] * 1e9, share[first:]

    def residual(p: Array) -> Array:
        return np.asarray(p[0] * (1 - np.exp(-(t - p[1]) / p[2])) - y)

    found = least_squares(residual, [1.0, 2.0, t[0] / 3]).x
    return float(found[1]) * 1e-9, float(found[2]) * 1e-9


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


def _hold(rows: pd.DataFrame, settings: Settings) -> tuple[Form, Table]:
    """(offset and share at rest, rho over w) from every step of the first periods; held out: other loads.

    A step from w_k to w_{k+1} towards w_end says w_end - w_{k+1} = integral of rho between them, which is linear in
    rho at the grid's points.
    """
    unit = settings.scales.v_unit_v
    at_zero = rows[(rows["period"] == rows["period"].max()) & (rows["drive"].abs() < 1e-9)]
    offset = float(((at_zero["v"] - at_zero["u"]) / unit).mean())
    train, held = _held(rows.assign(w=-rows["u"] / unit - offset))
    reach = float(np.ceil((train["w"].abs().max() + SHARING_STEP) / SHARING_STEP)) * SHARING_STEP
    grid = np.arange(-reach, reach + SHARING_STEP / 2, SHARING_STEP)

    def steps(frame: pd.DataFrame) -> tuple[Array, Array]:
        w = frame.pivot_table(index=["load", "drive"], columns="period", values="w").to_numpy()
        before, after = w[:, :SHARING_PERIODS], w[:, 1 : SHARING_PERIODS + 1]
        left, hats = (w[:, -1:] - after).ravel(), _hat_integrals(after, grid) - _hat_integrals(before, grid)
        return hats.reshape(len(left), len(grid)), left

    hats, left = steps(train)
    smooth = SMOOTHING * np.diff(np.eye(len(grid)), 2, axis=0)
    rho = np.linalg.lstsq(np.vstack([hats, smooth]), np.concatenate([left, np.zeros(len(smooth))]), rcond=None)[0]
    other, other_left = steps(held)
    errors = [float(np.abs(a @ rho - b).max()) for a, b in ((hats, left), (other, other_left))]
    goodness = Goodness(
        unit="units of h", train=errors[0], held_out=errors[1], n_train=len(left), n_held_out=len(other_left),
        tolerance=settings.tolerances.hold,
    )  # fmt: skip
    at_rest = float(np.interp(0.0, grid, rho))
    form = Form(
        form="w' + Q(w') = h + Q(w), Q' = rho; share = 1 / (1 + rho(0))",
        values={"share": 1 / (1 + at_rest), "offset_h": offset}, covariance=[[0.0, 0.0], [0.0, 0.0]],
        domain={"drive": _span(rows["drive"])}, goodness=goodness,
    )  # fmt: skip
    table = Table(
        start=float(grid[0]), step=SHARING_STEP, values=[float(v) for v in rho], variance=errors[1] ** 2,
        goodness=goodness,
    )  # fmt: skip
    return form, table


def _hat_integrals(w: Array, grid: Array) -> Array:
    """Integral up to ``w`` (any shape) of the hat function at each grid point, (*w, points)."""
    x = np.clip((w[..., None] - grid) / SHARING_STEP, -1.0, 1.0)
    return np.asarray(SHARING_STEP * np.where(x < 0, (1 + x) ** 2 / 2, 0.5 + x - x**2 / 2))


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
