"""What is measured of one neuron: clocked transients, a static curve, noise of each frozen phase, mismatch dies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from analog_deq.draws import Stream
from analog_deq.mappings.switched_cap.mismatch import draw_deviations
from analog_deq.mappings.switched_cap.netlist import (
    Bench,
    Deviations,
    harness,
    neuron_lines,
    row_lines,
    switch_model,
)
from analog_deq.mappings.switched_cap.spec import Settings
from analog_deq.netlists.deck import SPICE_OPTIONS, build_deck, number
from analog_deq.records import OK, Command, Dc, Deck, Noise, Plot, Progress, Tran
from analog_deq.spice.execution import Outcome
from analog_deq.verify.sweeps import Bed

UNITS: dict[str, dict[str, str]] = {
    "transfer": {"load": "F", "drive": "", "period": "", "v": "V", "u": "V", "z": "V"},
    "settling": {"load": "F", "drive": "", "elapsed": "s", "v": "V"},
    "activation": {"u": "V", "z": "V"},
    "noise": {"load": "F", "bias": "", "output": "", "frequency": "Hz", "density": ""},
    "mismatch": {"die": "", "drive": "", "z": "V"},
}
"""Unit of each column; a charge's noise is in V/rtHz of pC, z is the differential row voltage."""
PICO = 1e12
MOST_STEPS = 40
"""Time steps per phase at least; ngspice takes far more around the edges."""


def clocked_options(reltol: float, klu: bool) -> dict[str, float | str | bool]:
    """Options of a clocked transient. Settled charges are the same to 1e-6 from reltol 1e-3 to 1e-6."""
    options: dict[str, float | str | bool] = {**SPICE_OPTIONS, "reltol": reltol}
    return {**options, "klu": True} if klu else options


def drive_volts(settings: Settings, load_f: float, drive_h: float) -> float:
    """Row voltage that pushes the charge of pre-activation ``drive_h`` through ``load_f``, at an ideal op-amp."""
    return drive_h * settings.scales.v_unit_v * settings.capacitors.feedback_f / load_f


@dataclass(frozen=True, slots=True)
class _Copy:
    load_f: float
    drive_h: float
    dev: Deviations | None = None


def _bench_lines(bench: Bench, copies: Sequence[_Copy]) -> list[str]:
    """Copies of the neuron, each with its load on one row; ``copies`` of one deck share the load."""
    load = copies[0].load_f
    row_ohm = bench.settings.switches.r_on_ohm * bench.settings.plan.mean_f / load
    lines = harness(bench)
    if bench.held is None:
        lines.append(switch_model(bench, "swrow", row_ohm))
    for k, copy in enumerate(copies):
        lines += neuron_lines(bench, k, copy.dev)
        lines += row_lines(bench, f"x{k}", f"x{k}", f"r{k}", on_ohm=row_ohm, model="swrow")
        volts = drive_volts(bench.settings, load, copy.drive_h)
        lines += [f"Vx{k} x{k} 0 {number(volts)} ac 1", f"Cl{k} r{k} s{k} {number(load)}"]
    return lines


def _deck(bench: Bench, title: str, lines: list[str], commands: list[Command], save: list[str], klu: bool) -> Deck:
    noise = isinstance(commands[0], Noise)
    options = SPICE_OPTIONS if noise or isinstance(commands[0], Dc) else clocked_options(1e-5, klu)
    return build_deck(
        title, lines, commands, save=save, options=options, files=bench.cells.files,
        temperature_celsius=bench.operating.temperature_celsius,
    )  # fmt: skip


def _transient(bench: Bench, title: str, copies: Sequence[_Copy], periods: int, klu: bool) -> Deck:
    clock = bench.settings.clock
    step = clock.phase_s / MOST_STEPS
    saved = [f"v({name}{k})" for k in range(len(copies)) for name in ("v", "u", "dp", "dn")]
    command = Tran(step, clock.read_s(periods - 1) + clock.early_s, step)
    return _deck(bench, title, _bench_lines(bench, copies), [command], saved, klu)


def at(plot: Plot, vector: str, times: np.ndarray | float) -> np.ndarray:
    """Values of a transient's vector at ``times``, linear between its points."""
    return np.interp(times, plot.sweep, np.real(plot[vector]))


@dataclass(frozen=True, slots=True)
class _Job:
    """A deck, the table it fills, how its plots become rows, and the axes that name them should it fail."""

    table: str
    deck: Deck
    rows: Callable[[tuple[Plot, ...]], pd.DataFrame]
    axes: dict[str, Any]

    def tabulate(self, outcome: Outcome) -> pd.DataFrame:
        """Its rows; one row of NaN with the status when there is no valid run."""
        if outcome.run is not None:
            return self.rows(outcome.run.plots).assign(status=OK)
        blank = {**{name: "" if name == "output" else np.nan for name in UNITS[self.table]}, **self.axes}
        return pd.DataFrame([{**blank, "status": outcome.status}])


def calibrate(bench: Bench, seed: int, bed: Bed, progress: Progress) -> dict[str, pd.DataFrame]:
    """Every table of :data:`UNITS`; a deck that fails is one row of NaN with its status."""
    jobs = [*_clocked_jobs(bench, bed.simulator.klu), *_noise_jobs(bench), *_die_jobs(bench, seed, bed.simulator.klu)]
    jobs.append(_Job("activation", _curve_deck(bench), _curve_rows, {}))
    outcomes = bed.run([job.deck for job in jobs], progress)
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in UNITS}
    for job, outcome in zip(jobs, outcomes, strict=True):
        tables[job.table].append(job.tabulate(outcome))
    return {name: pd.concat(frames, ignore_index=True)[[*UNITS[name], "status"]] for name, frames in tables.items()}


def _clocked_jobs(bench: Bench, klu: bool) -> list[_Job]:
    plan, jobs = bench.settings.plan, []
    for load in plan.loads_f:
        copies = [_Copy(load, h) for h in plan.drives_h]
        deck = _transient(bench, f"clocked neuron at {load:g} F", copies, plan.periods, klu)
        jobs.append(_Job("transfer", deck, partial(_transfer_rows, bench, copies), {"load": load}))
        jobs.append(_Job("settling", deck, partial(_settling_rows, bench, copies), {"load": load}))
    return jobs


def _noise_jobs(bench: Bench) -> list[_Job]:
    jobs = []
    for load in bench.settings.plan.loads_f:
        axes = {"load": load, "bias": 0.0}
        for phase, outputs in (("p1", {"charge": "v(q0)", "share": "v(u0)"}), ("p2", {"master": "v(m0)"})):
            deck = _noise_deck(bench, load, phase, list(outputs.values()))
            jobs.append(_Job("noise", deck, partial(_noise_rows, tuple(outputs), axes), axes))
    for row in bench.settings.plan.rows_f:
        for bias in bench.settings.plan.biases_h:
            axes = {"load": row, "bias": bias}
            rows = partial(_noise_rows, ("z", "row"), axes)
            jobs.append(_Job("noise", _pair_noise_deck(bench, bias, row), rows, axes))
    return jobs


def _die_jobs(bench: Bench, seed: int, klu: bool) -> list[_Job]:
    plan, jobs = bench.settings.plan, []
    middle = plan.loads_f[len(plan.loads_f) // 2]
    for die in range(plan.dies):
        (dev,) = draw_deviations(bench, seed, Stream.CALIBRATION_DIE, die, 1)
        copies = [_Copy(middle, h, dev) for h in plan.drives_h]
        deck = _transient(bench, "clocked neuron of a mismatch die", copies, plan.periods, klu)
        jobs.append(_Job("mismatch", deck, partial(_die_rows, bench, copies, die), {"die": die}))
    return jobs


def _transfer_rows(bench: Bench, copies: Sequence[_Copy], plots: tuple[Plot, ...]) -> pd.DataFrame:
    clock, plot = bench.settings.clock, plots[0]
    frames = []
    for k, copy in enumerate(copies):
        periods = np.arange(bench.settings.plan.periods)
        times = np.array([clock.read_s(int(p)) for p in periods])
        z = at(plot, f"v(dp{k})", times) - at(plot, f"v(dn{k})", times)
        columns = {"v": at(plot, f"v(v{k})", times), "u": at(plot, f"v(u{k})", times), "z": z}
        frames.append(pd.DataFrame({"load": copy.load_f, "drive": copy.drive_h, "period": periods, **columns}))
    return pd.concat(frames)


def _settling_rows(bench: Bench, copies: Sequence[_Copy], plots: tuple[Plot, ...]) -> pd.DataFrame:
    """The op-amp's output along the last transfer phase."""
    clock, plot = bench.settings.clock, plots[0]
    start = clock.read_s(bench.settings.plan.periods - 1) - clock.transfer_s
    elapsed = np.linspace(0.02, 1.0, 99) * clock.transfer_s
    return pd.concat(
        pd.DataFrame(
            {"load": c.load_f, "drive": c.drive_h, "elapsed": elapsed, "v": at(plot, f"v(v{k})", start + elapsed)}
        )
        for k, c in enumerate(copies)
    )


def _die_rows(bench: Bench, copies: Sequence[_Copy], die: int, plots: tuple[Plot, ...]) -> pd.DataFrame:
    rows = _transfer_rows(bench, copies, plots)
    last = rows[rows["period"] == bench.settings.plan.periods - 1]
    return pd.DataFrame({"die": die, "drive": last["drive"], "z": last["z"]})


def _noise_deck(bench: Bench, load_f: float, phase: str, outputs: list[str]) -> Deck:
    """Noise of one neuron with its clock held in a phase. v(q0) is the charge at the summing node in pC."""
    part, plan = bench.settings.capacitors, bench.settings.plan
    lines = _bench_lines(replace(bench, held=phase), [_Copy(load_f, 0.0)])
    plates = {"r0": load_f, "f0": part.feedback_f, "0": part.parasitic_f}
    lines += [f"Gq{k} 0 q0 s0 {node} {number(PICO * c)}" for k, (node, c) in enumerate(plates.items())]
    lines.append("Rq q0 0 1.0 noisy=0")
    commands: list[Command] = [Noise(o, "Vx0", plan.per_decade, plan.start_hz, plan.stop_hz) for o in outputs]
    return _deck(bench, f"noise of a neuron held in {phase}", lines, commands, [], False)


def _pair_noise_deck(bench: Bench, bias_h: float, row_f: float) -> Deck:
    """Noise of activation and driver at the driver, and behind the switches of row lines of ``row_f``."""
    plan = bench.settings.plan
    bench = replace(bench, held="p2")
    lines = [*harness(bench), *_held_stage(bench, -bias_h * bench.settings.scales.v_unit_v)]
    for sign in "pn":
        lines += [*row_lines(bench, f"z{sign}0", f"d{sign}0", f"z{sign}0"), f"Cz{sign} z{sign}0 0 {number(row_f)}"]
    commands: list[Command] = [
        Noise(o, "Vu0", plan.per_decade, plan.start_hz, plan.stop_hz) for o in ("v(dp0,dn0)", "v(zp0,zn0)")
    ]
    return _deck(bench, "noise of a held state on its row", lines, commands, [], False)


def _held_stage(bench: Bench, u_v: float) -> list[str]:
    """Activation and driver of neuron 0 with the slave's node held by the source Vu0."""
    stage = [line for line in neuron_lines(bench, 0) if line.split()[0][:2] in {"Xa", "Xd"}]
    return [*stage, f"Vu0 u0 0 {number(u_v)} ac 1"]


def _noise_rows(outputs: tuple[str, ...], axes: dict[str, float], plots: tuple[Plot, ...]) -> pd.DataFrame:
    return pd.concat(
        pd.DataFrame({**axes, "output": o, "frequency": p.sweep, "density": np.real(p["onoise_spectrum"])})
        for o, p in zip(outputs, plots, strict=True)
    )


def _curve_deck(bench: Bench) -> Deck:
    plan = bench.settings.plan
    reach = plan.h_max * bench.settings.scales.v_unit_v
    bench = replace(bench, held="p2")
    lines = [*harness(bench), *_held_stage(bench, 0.0)]
    sweep = Dc("Vu0", -reach, reach, 2 * reach / (plan.points - 1))
    return _deck(bench, "static curve from held voltage to rows", lines, [sweep], ["v(dp0)", "v(dn0)"], False)


def _curve_rows(plots: tuple[Plot, ...]) -> pd.DataFrame:
    plot = plots[0]
    return pd.DataFrame({"u": plot.sweep, "z": np.real(plot["v(dp0)"] - plot["v(dn0)"])})
