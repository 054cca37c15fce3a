"""Mismatch of node neurons: parameters of each die from its curves, and their joint distribution."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy.optimize import least_squares

from analog_deq.fit.forms import hermite, monotone_slopes
from analog_deq.fit.parameters import Distribution, Goodness, Table
from analog_deq.mappings.node.spec import TOLERANCE, NodeSettings
from analog_deq.records import OK

Array = np.ndarray
MISMATCH = ("sat", "in_scale", "in_offset", "out_offset", "load_gain", "load_offset_a")


def fit_mismatch(
    rows: pd.DataFrame, every: pd.DataFrame, activation: Table, load: Table, settings: NodeSettings
) -> Distribution:
    """Joint distribution over dies of the parameters :data:`MISMATCH`, each die's fitted to its curves.

    z = sat sig(in_scale h + in_offset) + out_offset and i = (1 + load_gain) i(h) + load_offset. The held-out error is
    that of z at every second point (rms over dies).
    """

    def table(at: Array, part: Table) -> Array:
        values = torch.tensor(part.values, dtype=torch.float64)
        return np.asarray(
            hermite(torch.tensor(at), part.start, part.step, values, monotone_slopes(values, part.step))[0].numpy()
        )

    found, errors, trained = [], [], []
    for _, die in rows.groupby("die"):
        h = die["s"].to_numpy() / settings.v_unit_v
        z = ((die["zp"] - die["zn"]) / (2 * settings.z_unit_v)).to_numpy()

        def model(p: Array, at: Array) -> Array:
            return p[0] * table(p[1] * at + p[2], activation) + p[3]

        def residual(p: Array, at: Array = h[::2], truth: Array = z[::2]) -> Array:
            return model(p, at) - truth

        p = least_squares(residual, [1.0, 1.0, 0.0, 0.0]).x
        trained.append(np.mean(residual(p) ** 2))
        errors.append(np.mean(residual(p, h[1::2], z[1::2]) ** 2))
        curve = table(h, load)
        design = np.stack([curve, np.ones(len(h))], axis=1)
        gain, offset = np.linalg.lstsq(design, die["i_in"].to_numpy(), rcond=None)[0]
        found.append([*p, gain - 1 if np.ptp(curve) > 1e-12 else 0.0, offset])
    values = np.array(found)
    covariance = np.cov(values, rowvar=False)
    failed = int(every.loc[every["status"] != OK, "die"].nunique())
    return Distribution(
        names=list(MISMATCH), mean=values.mean(axis=0).tolist(), covariance=covariance.tolist(),
        mean_covariance=(covariance / len(values)).tolist(), dies=len(values), failed=failed,
        goodness=Goodness(
            unit="units of z, rms", train=float(np.sqrt(np.mean(trained))), held_out=float(np.sqrt(np.mean(errors))),
            n_train=len(values), n_held_out=len(values), tolerance=TOLERANCE["mismatch"],
        ),
    )  # fmt: skip
