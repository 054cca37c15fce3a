"""Fits of the devices: conductance and read law, errors over dies, noise of a read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from analog_deq.fit.forms import BOLTZMANN, hermite, monotone_slopes
from analog_deq.fit.parameters import (
    ConductanceSpread,
    Form,
    Goodness,
    SynapseLaw,
    least_squares_covariance,
)
from analog_deq.mappings.memristor.goodness import TOLERANCES, goodness_of, rms
from analog_deq.mappings.memristor.spec import MemristorSpec
from analog_deq.netlists.contract_schema import NoiseSection

Array = np.ndarray


def fit_synapse(curve: pd.DataFrame, noise: pd.DataFrame, spec: MemristorSpec, kelvin: float) -> SynapseLaw:
    """Conductance at the read voltage over the programmed one; every second level is held out."""
    z = spec.z_unit_v
    at_read = curve[np.isclose(curve["v"], z)].sort_values("g")
    g, seen = (np.array(values) for values in (at_read["g"], at_read["current"] / z))
    table = torch.as_tensor(seen[0::2].copy())
    step = float(g[2] - g[0])
    model = hermite(torch.as_tensor(g), float(g[0]), step, table, monotone_slopes(table, step))[0].numpy()
    error = np.abs(model / seen - 1)
    full = np.repeat(seen, len(curve) // len(g))
    ordered = curve.sort_values(["g", "v"], kind="stable")
    bend = float(np.max(np.abs(ordered["current"] - full * ordered["v"]) / (full * z)))
    excess = 0.0
    for _, rows in noise.groupby("g"):
        thermal = 4 * BOLTZMANN * kelvin * float(np.interp(rows["g"].iloc[0], g, seen))
        excess = max(excess, float((rows["density"] ** 2 / thermal).max()) - 1)
    return SynapseLaw(
        form="conductance at the read voltage, a monotone cubic of the programmed one", start=float(g[0]), step=step,
        values=[float(v) for v in seen[0::2]], read_v=z, reach_v=z, bend=bend, excess_noise=excess,
        goodness=goodness_of(
            "synapse", "relative", float(error[0::2].max()), float(error[1::2].max()), len(g[0::2]), len(g[1::2])
        ),
    )  # fmt: skip


def fit_law(curve: pd.DataFrame, spec: MemristorSpec) -> Form:
    """``i = G v (1 + a u^2 + b u^4) / (1 + a + b)``, u = v / v_read: one law for all levels, every second held out.

    What a device carries beyond its straight line is the same share of it at every level, or this fit fails.
    """
    z = spec.z_unit_v
    at = curve[np.abs(curve["v"]) > 0.1 * z].copy()
    read = curve[np.isclose(curve["v"], z)].set_index("g")["current"]
    ratio = (at["current"] / at["v"] / (at["g"].map(read) / z)).to_numpy()
    square = (at["v"].to_numpy() / z) ** 2
    levels = sorted(at["g"].unique())
    train = at["g"].isin(levels[0::2]).to_numpy()
    # (1 + a q + b q^2) = ratio (1 + a + b): linear in a and b
    matrix = np.stack([square - ratio, square**2 - ratio], axis=1)
    target = ratio - 1
    if float(np.abs(target).max()) < TOLERANCES["law"] / 10:
        a, b = 0.0, 0.0
    else:
        a, b = (float(v) for v in np.linalg.lstsq(matrix[train], target[train], rcond=None)[0])
    error = np.abs((1 + a * square + b * square**2) / (1 + a + b) - ratio)
    return Form(
        form="i = g v (1 + a u^2 + b u^4) / (1 + a + b), u = v / v_read", values={"a": a, "b": b},
        covariance=least_squares_covariance(matrix[train], matrix[train] @ [a, b] - target[train]).tolist(),
        domain={"v": (-z, z)},
        goodness=goodness_of(
            "law", "share of the current", float(error[train].max()), float(error[~train].max()), int(train.sum()),
            int((~train).sum()),
        ),
    )  # fmt: skip


def fit_spread(conductance: pd.DataFrame, synapse: SynapseLaw) -> ConductanceSpread:
    """Mean and standard deviation over dies at each target, in siemens; the other half of the dies checks them."""
    targets = sorted(float(g) for g in conductance["target"].unique())
    nominal = dict(zip(targets, synapse.seen_arrays(np.array(targets))[0], strict=True))
    values: dict[str, float] = {}
    errors, counts = [], []
    low, high = min(nominal.values()), max(nominal.values())
    for k, target in enumerate(targets):
        off = conductance.loc[conductance["target"] == target, "measured"].to_numpy() - nominal[target]
        values |= {f"mean_{k}": float(off.mean()), f"sigma_{k}": float(off.std(ddof=1))}
        counts.append(len(off))
        errors.append((off[0::2].std(ddof=1) - off[1::2].std(ddof=1)) / (high - low))
    first = values.keys()
    return ConductanceSpread(
        form="mean and sigma of the conductance's error by target", values=values,
        covariance=np.diag([values[n] ** 2 / counts[0] for n in first]).tolist(),
        domain={"target_siemens": (targets[0], targets[-1])}, targets=targets,
        goodness=goodness_of(
            "spread", "share of the range, sigma of one half of the dies less the other's, rms", 0.0,
            rms(np.array(errors)),
            counts[0] // 2, counts[0] // 2,
        ),
    )  # fmt: skip


def fit_read(
    noise: pd.DataFrame,
    synapse: SynapseLaw,
    targets: Sequence[float],
    spec: MemristorSpec,
    device: NoiseSection,
) -> Form:
    """Relative noise of one read by target: 1/f from 1 / (wait + read) to 1 / (2 read), and the contract's extra.

    ``flicker_k`` is the density of the relative current squared times frequency, from the lowest measured frequency,
    above the thermal floor, which the amplifiers' noise holds already.
    """
    wait = device.wait_s if spec.age_s is None else spec.age_s
    octaves = np.log((wait + device.read_s) / (2 * device.read_s))
    known, level = [], []
    for _, rows in noise.groupby("g"):
        first = rows.sort_values("frequency").iloc[0]
        floor = rows["density"].min() ** 2
        known.append(float(first["g"]))
        level.append(max(float((first["density"] ** 2 - floor) * first["frequency"]), 0.0))
    currents = synapse.seen_arrays(np.array(known))[0] * spec.z_unit_v
    relative = np.interp(targets, known, np.array(level) / currents**2)
    extra = 0.0 if device.extra is None else device.extra.sigma
    values = {f"sigma_{k}": float(np.sqrt(q * octaves + extra**2)) for k, q in enumerate(relative)}
    values |= {f"flicker_{k}": float(q) for k, q in enumerate(relative)}
    return Form(
        form="relative rms of one read, and its 1/f density at 1 Hz, by target", values=values,
        covariance=np.zeros((len(values), len(values))).tolist(),
        domain={"target_siemens": (min(targets), max(targets)), "wait_s": (wait, wait)},
        goodness=Goodness(unit="taken over, not fitted", train=0, held_out=0, n_train=0, n_held_out=0, tolerance=1),
    )  # fmt: skip
