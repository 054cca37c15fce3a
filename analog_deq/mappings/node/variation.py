"""Mismatch of node neurons: parameters of each die from its curves, and their joint distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.optimize import least_squares

from analog_deq.fit.forms import hermite, monotone_slopes
from analog_deq.fit.parameters import Distribution, Goodness, Table
from analog_deq.mappings.node.spec import TOLERANCE, NodeSettings
from analog_deq.records import OK

Array = np.ndarray
MISMATCH = ("sat", "in_scale", "in_offset", "out_offset", "load_gain", "load_shift_h", "load_offset_a")


@dataclass(frozen=True, slots=True)
class NeuronFit:
    """One neuron's :data:`MISMATCH` parameters and the mean squared error of z at points fitted and held out."""

    values: Array
    train: float
    held_out: float


def fit_neuron(curves: pd.DataFrame, activation: Table, load: Table, settings: NodeSettings) -> NeuronFit:
    """Parameters of one neuron from its curves (columns s, i_in, zp, zn).

    z = sat sig(in_scale h + in_offset) + out_offset, fitted to every second point, and
    i = (1 + load_gain) i(h + load_shift) + load_offset, linear in the shift, which is a few hundredths of a unit.
    """
    h = curves["s"].to_numpy() / settings.v_unit_v
    z = ((curves["zp"] - curves["zn"]) / (2 * settings.z_unit_v)).to_numpy()

    def residual(p: Array, at: Array = h[::2], truth: Array = z[::2]) -> Array:
        return p[0] * _table(p[1] * at + p[2], activation)[0] + p[3] - truth

    p = least_squares(residual, [1.0, 1.0, 0.0, 0.0]).x
    curve, slope = _table(h, load)
    size, steepest = np.ptp(curve), float(slope.max())  # a load is never without current: see fit_curves
    design = np.stack([curve / size, slope / steepest, np.ones(len(h))], axis=1)
    # a linear load cannot tell a shift from an offset: least squares shares what there is between both
    gain, moved, offset = np.linalg.lstsq(design, curves["i_in"].to_numpy(), rcond=1e-9)[0]
    gain = gain / size
    values = [*p, gain - 1, moved / (gain * steepest), offset]
    held = residual(p, h[1::2], z[1::2])
    return NeuronFit(np.array(values), float(np.mean(residual(p) ** 2)), float(np.mean(held**2)))


def _table(at: Array, part: Table) -> tuple[Array, Array]:
    values = torch.tensor(part.values, dtype=torch.float64)
    value, slope = hermite(torch.tensor(at), part.start, part.step, values, monotone_slopes(values, part.step))
    return value.numpy(), slope.numpy()


def fit_mismatch(
    rows: pd.DataFrame, every: pd.DataFrame, activation: Table, load: Table, settings: NodeSettings
) -> Distribution:
    """Joint distribution over dies of the parameters :data:`MISMATCH`; the error is of z, rms over dies."""
    fits = [fit_neuron(die, activation, load, settings) for _, die in rows.groupby("die")]
    values = np.array([fit.values for fit in fits])
    covariance = np.cov(values, rowvar=False)
    failed = int(every.loc[every["status"] != OK, "die"].nunique())
    return Distribution(
        names=list(MISMATCH), mean=values.mean(axis=0).tolist(), covariance=covariance.tolist(),
        mean_covariance=(covariance / len(values)).tolist(), dies=len(values), failed=failed,
        goodness=Goodness(
            unit="units of z, rms", train=float(np.sqrt(np.mean([fit.train for fit in fits]))),
            held_out=float(np.sqrt(np.mean([fit.held_out for fit in fits]))), n_train=len(values),
            n_held_out=len(values), tolerance=TOLERANCE["mismatch"],
        ),
    )  # fmt: skip
