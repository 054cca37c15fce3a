"""``int.*``: the integrator as the design builds it, its step response at every corner against what the proxy knows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analog_deq.calibration.measurement import Bench
from analog_deq.calibration.settling import Settling
from analog_deq.fit.forms import closed_loop_tau
from analog_deq.fit.parameters import tau_coefficients
from analog_deq.records import OK, Deck
from analog_deq.verify.corners import cells_at, design_at, network_corners, worst_of
from analog_deq.verify.found import Found
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.signoff import Measurement
from analog_deq.verify.verdict import Worst

PERCENT = 100.0


@dataclass(frozen=True, slots=True)
class Integrator:
    """Small steps, both ways, under the lightest and the heaviest load that the programmed array puts on a neuron.

    ``int.leak`` is the DC transresistance over the design's R_F, less 1: what leaks away at rest. ``int.tau_err`` is
    the time constant of a single-pole fit over the one the proxy was trained with, less 1.
    """

    ids: tuple[str, ...] = ("int.leak", "int.tau_err")

    def measure(self, run: SheetRun) -> Found:
        table, decks = _steps(run)
        listed = [name for name in self.ids if run.listed(name) is not None]
        found = tuple(_measurement(name, table) for name in listed)
        failed = int((table["status"] != OK).sum())
        own = {m.id: decks[m.worst.corner] for m in found if m.worst is not None}
        return Found(found, {"integrator": table}, simulated=len(table), failed=failed, decks=own)


def _steps(run: SheetRun) -> tuple[pd.DataFrame, dict[str, Deck]]:
    """One row a corner, load and sign of the step: transresistance, time constant, and the proxy's. The decks, too."""
    corners = network_corners(run.design, run.cells, run.limits.campaign)
    load = np.asarray(run.model.map.load)
    step = min(run.plan.settling.steps_h)
    block = [(g, sign * step) for g in dict.fromkeys((float(load.min()), float(load.max()))) for sign in (1, -1)]
    settling = Settling()
    benches = [Bench(design_at(run.design, c), run.plan, cells_at(run.cells, c)) for c in corners]
    decks = [settling.decks(bench, block)[0] for bench in benches]
    outcomes = run.bed.run(decks, run.progress)
    r_feedback, coefficients = run.design.neuron.r_feedback_ohm, tau_coefficients(run.proxy.tau)
    rows = []
    for corner, bench, outcome in zip(corners, benches, outcomes, strict=True):
        found = pd.DataFrame({name: [np.nan] * len(block) for name in ("final", "tau", "fit_rms")})
        if outcome.run is not None:
            told = settling.tabulate(bench, block, [outcome.run.plots])["settling"]
            found = told.drop_duplicates(["load", "step"])
        for (g, h), (_, row) in zip(block, found.iterrows(), strict=True):
            drive = h * bench.volts_per_h
            rows.append(
                {
                    "corner": corner.name, "load_siemens": g, "step_v": drive, "status": outcome.status,
                    "transresistance_ohm": -row["final"] / drive * r_feedback, "tau_s": row["tau"],
                    "tau_proxy_s": closed_loop_tau(g, *coefficients), "fit_rms": row["fit_rms"],
                }
            )  # fmt: skip
    table = pd.DataFrame(rows)
    table["leak_percent"] = PERCENT * (table["transresistance_ohm"] / r_feedback - 1)
    table["tau_err_percent"] = PERCENT * (table["tau_s"] / table["tau_proxy_s"] - 1)
    return table, {corner.name: deck for corner, deck in zip(corners, decks, strict=True)}


def _measurement(name: str, table: pd.DataFrame) -> Measurement:
    column = {"int.leak": "leak_percent", "int.tau_err": "tau_err_percent"}[name]
    by_corner: dict[str, float | None] = {}
    for corner, rows in table.groupby("corner", sort=False):
        values = rows[column].to_numpy(dtype=float)
        valid = bool((rows["status"] == OK).all() and np.isfinite(values).all())
        by_corner[str(corner)] = float(values[np.argmax(np.abs(values))]) if valid else None
    lost = next((corner for corner, value in by_corner.items() if value is None), None)
    chosen = lost or worst_of(by_corner, "magnitude")[0]
    here = table[table["corner"] == chosen]
    row = here.iloc[0 if lost else int(np.argmax(here[column].abs()))]
    what = (
        f"transresistance {row['transresistance_ohm']:.6g} ohm" if name == "int.leak"
        else f"time constant {1e9 * row['tau_s']:.4g} ns, the proxy's {1e9 * row['tau_proxy_s']:.4g} ns"
    )  # fmt: skip
    told = str(row["status"]) if lost else f"{what} under {1e3 * row['load_siemens']:.3g} mS"
    failed = int((table["status"] != OK).sum())
    return Measurement(
        name, next(iter(by_corner.values())), "%", len(table), None, Worst(chosen, corner=chosen, deck=name),
        f"{chosen}: {told}", failed, by_corner=by_corner,
    )  # fmt: skip
