"""Fits of what differs from die to die: neurons, conductances; and the check of the crossbar reduction."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy.optimize import least_squares

from analog_deq.errors import FitError
from analog_deq.fit.forms import BOLTZMANN, closed_loop_tau, hermite, monotone_slopes
from analog_deq.fit.parameters import (
    ConductanceSpread,
    Distribution,
    Form,
    Goodness,
    SynapseLaw,
    Table,
    tau_coefficients,
)
from analog_deq.reduction import reduce_array

NEURON_PARAMETERS = ("vos_v", "r_feedback", "tau", "sat", "in_scale", "in_offset", "out_offset")
"""Op-amp offset (V); relative errors of R_F and tau; z = sat * sig(in_scale h + in_offset) + out_offset."""

LINEAR_REACH = 0.5
"""Share of the drive range in which the integrator is fitted as linear."""


def extract_neurons(
    curves: pd.DataFrame,
    dynamics: pd.DataFrame,
    integrator: Form,
    tau: Form,
    activation: Table,
    *,
    r_feedback_ohm: float,
    v_unit_v: float,
    z_unit_v: float,
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Parameters of each neuron from its own terminal measurements, and the residuals of z.

    The drive enters the summing node as a current of 1 V / ``r_feedback_ohm``. Returns a frame with one row a die
    (columns ``die`` and ``NEURON_PARAMETERS``), the residuals at the drive points the fit used, and those at every
    second point, which it did not see.
    """
    table = torch.as_tensor(activation.values, dtype=torch.float64)
    slopes = monotone_slopes(table, activation.step)
    inverse, s0 = integrator.values["inverse_a0"], integrator.values["s0_v"]
    own_ohm, i0 = integrator.values.get("r_feedback_ohm", r_feedback_ohm), integrator.values.get("i0_a", 0.0)
    taus = dynamics.set_index("die")["tau"]

    def model(p: np.ndarray, h: np.ndarray) -> np.ndarray:
        value, _ = hermite(torch.as_tensor(p[1] * h + p[2]), activation.start, activation.step, table, slopes)
        return np.asarray(p[0] * value.numpy() + p[3])

    rows, used, residuals = [], [], []
    for die, group in curves.groupby("die"):
        load = float(group["load"].iloc[0])
        ratio = 1 + own_ohm * load
        group = group.sort_values("drive")
        linear = group[group["drive"].abs() <= LINEAR_REACH * group["drive"].abs().max()]
        gain, offset = np.polyfit(linear["drive"], linear["v"], 1)
        loop = 1 + ratio * inverse
        # v (1/(R) (1 + 1/A0) + G/A0) = s (1/R + G) + i0 - drive/R_drive: the gain gives R, the offset s at v = 0
        relative_r = 1 / (-1 / gain - load * r_feedback_ohm * inverse) * (1 + inverse) * (r_feedback_ohm / own_ohm) - 1
        vos = float(offset) * loop / ratio - i0 * own_ohm / ratio - s0
        h = (-group["v"] / v_unit_v).to_numpy()
        z = ((group["zp"] - group["zn"]) / (2 * z_unit_v)).to_numpy()
        fit = least_squares(lambda p, h=h, z=z: model(p, h[0::2]) - z[0::2], [1.0, 1.0, 0.0, 0.0], xtol=1e-12)
        used.append(fit.fun)
        residuals.append(model(fit.x, h[1::2]) - z[1::2])
        nominal_tau = closed_loop_tau(load, *tau_coefficients(tau))
        relative_tau = float(taus[die]) / nominal_tau - 1
        rows.append((die, vos, float(relative_r), relative_tau, *map(float, fit.x)))
    return pd.DataFrame(rows, columns=["die", *NEURON_PARAMETERS]), np.concatenate(used), np.concatenate(residuals)


def fit_mismatch(
    curves: pd.DataFrame,
    dynamics: pd.DataFrame,
    integrator: Form,
    tau: Form,
    activation: Table,
    *,
    r_feedback_ohm: float,
    v_unit_v: float,
    z_unit_v: float,
    tolerance: float,
    failed: int,
) -> Distribution:
    """Mean and covariance of the neuron parameters over dies; held out: every second point of each die's curve."""
    frame, used, residuals = extract_neurons(
        curves,
        dynamics,
        integrator,
        tau,
        activation,
        r_feedback_ohm=r_feedback_ohm,
        v_unit_v=v_unit_v,
        z_unit_v=z_unit_v,
    )
    values = frame[list(NEURON_PARAMETERS)].to_numpy()
    covariance = np.cov(values.T)
    train, held_out = (float(np.sqrt(np.mean(part**2))) for part in (used, residuals))
    return Distribution(
        names=list(NEURON_PARAMETERS),
        mean=[float(v) for v in values.mean(axis=0)],
        covariance=covariance.tolist(),
        mean_covariance=(covariance / len(values)).tolist(),
        dies=len(values),
        failed=failed,
        goodness=Goodness(
            unit="units of z, rms", train=train, held_out=held_out, n_train=len(used),
            n_held_out=len(residuals), tolerance=tolerance,
        ),
    )  # fmt: skip


SAMPLING = 4.0


def fit_conductance(
    conductance: pd.DataFrame, law: SynapseLaw, tolerance: float, *, relative: bool = True
) -> ConductanceSpread:
    """Spread of programmed conductances about the synapse's own law G(g), from the even dies; the odd ones check it.

    ``relative``: one mean and spread for all targets, ``g = target (1 + mean + sigma n)``. Otherwise a mean and spread
    in siemens at each target, and the error is a share of the largest one; what ``SAMPLING`` standard errors of the
    difference amount to is added to the tolerance then, since each level has few dies.
    """
    targets = sorted(float(v) for v in conductance["target"].unique())
    even = conductance["die"] % 2 == 0
    domain = {"target_siemens": (targets[0], targets[-1])}
    if relative:
        error = conductance["measured"] / conductance["target"] - 1
        train, held = error[even], error[~even]
        mean, sigma = float(train.mean()), float(train.std(ddof=1))
        n = len(train)
        return ConductanceSpread(
            form="g = target (1 + mean + sigma n)",
            values={"mean": mean, "sigma": sigma},
            covariance=[[sigma**2 / n, 0.0], [0.0, sigma**2 / (2 * (n - 1))]],
            domain=domain,
            goodness=Goodness(
                unit="difference of relative spread", train=0.0, held_out=abs(float(held.std(ddof=1)) - sigma),
                n_train=n, n_held_out=len(held), tolerance=tolerance,
            ),
        )  # fmt: skip
    (nominal,) = law.seen_arrays(conductance["target"].to_numpy())
    error = conductance["measured"] - nominal
    values: dict[str, float] = {}
    variances: list[float] = []
    apart, sampling = 0.0, 0.0
    for k, target in enumerate(targets):
        at = conductance["target"] == target
        train, held = error[at & even], error[at & ~even]
        mean, sigma, n = float(train.mean()), float(train.std(ddof=1)), len(train)
        values |= {f"mean_{k}": mean, f"sigma_{k}": sigma}
        variances += [sigma**2 / n, sigma**2 / (2 * (n - 1))]
        apart = max(apart, abs(float(held.std(ddof=1)) - sigma))
        sampling = max(sampling, sigma * float(np.sqrt(1 / (2 * (n - 1)) + 1 / (2 * (len(held) - 1)))))
    return ConductanceSpread(
        form="g = G(target) + mean_k + sigma_k n, linear in the target between the targets k",
        values=values,
        covariance=np.diag(variances).tolist(),
        domain=domain,
        targets=targets,
        goodness=Goodness(
            unit="difference of spread, of the largest target", train=0.0, held_out=apart / targets[-1],
            n_train=int(even.sum()), n_held_out=int((~even).sum()),
            tolerance=tolerance + SAMPLING * sampling / targets[-1],
        ),
    )  # fmt: skip


SAME = 1e-6
"""Relative difference up to which a synapse counts as the conductance it was programmed to."""


def fit_synapse(
    synapse: pd.DataFrame, noise: pd.DataFrame, read_v: float, temperature_k: float, tolerance: float
) -> SynapseLaw:
    """Nominal conductance against what was programmed, and how straight the current is; every second level held out.

    ``noise`` is its current noise at ``read_v``, compared with 4kT G.
    """
    levels = np.array(sorted(synapse["g"].unique()))
    step = np.diff(levels)
    if len(levels) < 5 or np.ptp(step) > 1e-6 * step.max():
        raise FitError(f"synapse: {len(levels)} valid levels, not evenly spaced; see the status column of its table")
    current = synapse.pivot_table(index="g", columns="v", values="current")
    volts = current.columns.to_numpy(dtype=float)
    amps = current.to_numpy()
    reach = float(np.abs(volts).max())
    seen = amps[:, int(np.argmin(np.abs(volts - read_v)))] / read_v
    if not np.all(np.diff(seen) > 0):
        raise FitError("synapse: the conductance does not rise with what is programmed; check state.g and its range")
    bend = float(np.abs(amps / seen[:, None] - volts).max() / reach)
    at = np.interp(noise["g"], levels, seen)
    ratio: np.ndarray = (noise["density"] / np.sqrt(4 * BOLTZMANN * temperature_k * at)).to_numpy()
    same = bool(np.abs(seen / levels - 1).max() <= SAME)
    table = torch.as_tensor(seen[0::2])
    grid = 2 * float(step.mean())
    model, _ = hermite(torch.as_tensor(levels), float(levels[0]), grid, table, monotone_slopes(table, grid))
    error = np.abs((levels if same else model.numpy()) - seen) / seen.max()
    return SynapseLaw(
        form="G = g" if same else "G(g) at read_v, monotone cubic",
        start=float(levels[0]),
        step=grid,
        values=[] if same else [float(v) for v in table],
        read_v=read_v,
        reach_v=reach,
        bend=bend,
        excess_noise=float(ratio[np.argmax(np.abs(ratio - 1))] - 1),
        goodness=Goodness(
            unit="relative to the largest conductance, max", train=float(error[0::2].max()),
            held_out=float(error[1::2].max()), n_train=len(error[0::2]), n_held_out=len(error[1::2]),
            tolerance=tolerance,
        ),
    )  # fmt: skip


def fit_crossbar(crossbar: pd.DataFrame, law: SynapseLaw, r_dac_ohm: float, tolerance: float) -> Form:
    """Exact reduction against ngspice column currents; nothing is fitted, so every row is held out.

    What the synapse's own law leaves open is added to the tolerance, since this checks the wires: three times its
    misfit at the held-out levels, which other conductances may exceed, and its bend.
    """
    worst, scale = 0.0, 0.0
    for _, group in crossbar.groupby("r_line"):
        programmed = group.pivot_table(index="row", columns="column", values="g").to_numpy()
        (g,) = law.seen_arrays(programmed)
        current = group.pivot_table(index="row", columns="column", values="current").to_numpy()
        drive = float(group["drive"].iloc[0])
        reduced = reduce_array(g[0::2], g[1::2], r_line_ohm=float(group["r_line"].iloc[0]), r_dac_ohm=r_dac_ohm)
        columns = g.shape[1]
        sources = g.shape[0] - 2 * columns
        # currents leave the array at the summing nodes held at 0 V
        model = -np.concatenate([reduced.y_sources[:columns].T, reduced.y_ports[:columns, columns:].T]) * drive
        assert model.shape == current.shape == (sources + 2 * columns, columns)
        worst = max(worst, float(np.abs(model - current).max()))
        scale = max(scale, float(np.abs(current).max()))
    return Form(
        form="exact reduction of the resistive array to its ports",
        values={},
        covariance=[],
        domain={"r_line_ohm": (float(crossbar["r_line"].min()), float(crossbar["r_line"].max()))},
        goodness=Goodness(
            unit="relative to the largest current, max", train=0.0, held_out=worst / scale, n_train=0,
            n_held_out=len(crossbar), tolerance=tolerance + 3 * law.goodness.held_out + law.bend,
        ),
    )  # fmt: skip
