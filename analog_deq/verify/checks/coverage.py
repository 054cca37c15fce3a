"""``fit.coverage``: whether the error that the fit states for itself is the one it makes.

The fit states a standard deviation of z at every operating point: the variance of the activation's table from its
held-out rows, and the covariance of the integrator's parameters. The band is 1.96 of it. Held out here are operating
points that no fit has seen, drawn at random from the calibrated box and simulated anew, so that the count is binomial.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import stats

from analog_deq.calibration.measurement import SPICE_OPTIONS
from analog_deq.draws import Stream, generator
from analog_deq.fit.parameters import Form
from analog_deq.netlists.deck import build_deck, number
from analog_deq.netlists.testbench import NeuronCopy, copy_vectors, neuron_bench
from analog_deq.records import OK, Deck, Op
from analog_deq.statistics import clopper_pearson
from analog_deq.verify.found import Found
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.signoff import Measurement

Array = np.ndarray
PERCENT = 100.0
POINTS = 512
BLOCK = 64
BAND = 0.95


@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of random operating points of a neuron whose z lies in the 95 % band of the fit."""

    ids: tuple[str, ...] = ("fit.coverage",)

    def measure(self, run: SheetRun) -> Found:
        table = _held_out(run)
        ok = (table["status"] == OK).to_numpy()
        inside = ok & (table["distance"] <= table["half_width"]).to_numpy()
        k, n, failed = int(inside.sum()), len(table), int(np.sum(~ok))
        low, high = clopper_pearson(k, n)
        width, error = (
            PERCENT * float(table.loc[ok, name].median()) if ok.any() else float("nan")
            for name in ("half_width", "distance")
        )
        detail = (
            f"{k} of {n} random operating points within the band; median half-width {width:.2g} %FS, median error "
            f"{error:.2g} %FS (a band too wide claims less than is true)"
        )
        measured = Measurement(
            "fit.coverage", PERCENT * k / n, "%", n, (PERCENT * low, PERCENT * high), None, detail, failed
        )
        return Found((measured,), {"coverage": table}, simulated=n, failed=failed)


def _held_out(run: SheetRun) -> pd.DataFrame:
    """Random operating points: load, pre-activation asked for, z in ngspice, z of the fit and its half-width."""
    neuron, proxy = run.design.neuron, run.proxy
    rng = generator(run.design.seed, Stream.CORNERS, 1)
    low, high = proxy.integrator.domain["load_siemens"]
    load = np.exp(rng.uniform(np.log(low), np.log(high), POINTS))
    h_drive = rng.uniform(proxy.activation.start, proxy.activation.end, POINTS)
    blocks = [np.arange(k, min(k + BLOCK, POINTS)) for k in range(0, POINTS, BLOCK)]
    outcomes = run.bed.run([_deck(run, load[b], h_drive[b]) for b in blocks], run.progress)
    z, status = np.full(POINTS, np.nan), np.full(POINTS, OK, dtype=object)
    for block, outcome in zip(blocks, outcomes, strict=True):
        if outcome.run is None:
            status[block] = outcome.status
            continue
        plot, places = outcome.run.plots[0], range(len(block))
        zp, zn = (np.real(plot.columns([f"v({pin}{k})" for k in places]))[0] for pin in ("zp", "zn"))
        z[block] = (zp - zn) / (2 * neuron.z_unit_v)
    v, v_sd = integrator_output(proxy.integrator, load, h_drive * neuron.v_unit_v, neuron.r_feedback_ohm)
    h = torch.as_tensor(-v / neuron.v_unit_v)
    slope = run.model.act.slope(h).numpy()
    sd = np.sqrt(proxy.activation.variance + (slope * v_sd / neuron.v_unit_v) ** 2)
    z_fit = run.model.act.value(h).numpy()
    half = float(stats.norm.ppf(0.5 + BAND / 2)) * sd
    return pd.DataFrame(
        {
            "load_siemens": load, "h_drive": h_drive, "status": status, "z": z, "z_fit": z_fit,
            "distance": np.abs(z - z_fit), "half_width": half,
        }
    )  # fmt: skip


def integrator_output(form: Form, load: Array, drive_v: Array, drive_ohm: float) -> tuple[Array, Array]:
    """Output voltage of the fitted integrator and its standard deviation from the fit's covariance, shape of ``load``.

    v = (s0 (1 + R G) + i0 R - drive R / R_F) / (1 + (1 + R G) / a0), as :func:`~analog_deq.fit.static.fit_integrator`.
    """
    values = dict(form.values)

    def output(own: dict[str, float]) -> Array:
        ohm = own.get("r_feedback_ohm", drive_ohm)
        ratio = 1 + ohm * load
        current = own.get("i0_a", 0.0) - drive_v / drive_ohm
        return np.asarray((own["s0_v"] * ratio + current * ohm) / (1 + ratio * own["inverse_a0"]))

    v = output(values)
    slopes = []
    for name, sd in zip(values, np.sqrt(np.diag(form.covariance)), strict=True):
        moved = {**values, name: values[name] + sd}
        slopes.append((output(moved) - v) / sd if sd > 0 else np.zeros_like(v))
    gradient = np.stack(slopes)
    variance = np.einsum("ik,ij,jk->k", gradient, np.asarray(form.covariance), gradient)
    return v, np.sqrt(np.maximum(variance, 0.0))


def _deck(run: SheetRun, load: Array, h_drive: Array) -> Deck:
    design = run.design
    copies = [NeuronCopy(float(g), drive=f"x{k}") for k, g in enumerate(load)]
    drives = [f"Vx{k} x{k} 0 {number(h * design.neuron.v_unit_v)}" for k, h in enumerate(h_drive)]
    return build_deck(
        "operating points that no fit has seen",
        neuron_bench(copies, drives, design.neuron, design.operating, run.cells),
        [Op()],
        save=copy_vectors(len(load), signals=("zp", "zn"), supply=False),
        options={**SPICE_OPTIONS, "reltol": 1e-7},  # as the transfer that was fitted
        files=run.cells.files,
        temperature_celsius=design.operating.temperature_celsius,
        arguments=run.cells.arguments,
    )
