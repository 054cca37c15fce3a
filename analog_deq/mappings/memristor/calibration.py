"""What is measured in ngspice: the devices alone, and copies of one neuron driven by currents.

Each measurement is one deck and one table; a deck that fails leaves its rows, NaN, with the reason as their status.
A neuron's amplifiers are driven by i_p = (c + h/2) V_U / R_F and i_n = (c - h/2) V_U / R_F through noiseless sources:
an ideal pair of amplifiers shows the difference h and the mean c.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analog_deq.calibration.mismatch import synapse_errors
from analog_deq.draws import Stream, deviations, generator
from analog_deq.mappings.memristor.netlist import MemristorCells, device_line, neuron_lines, rails
from analog_deq.mappings.memristor.spec import MemristorSpec
from analog_deq.netlists.deck import SPICE_OPTIONS, build_deck, number
from analog_deq.netlists.library import cell_arguments, cell_files, include_lines
from analog_deq.records import OK, Ac, Command, Dc, Deck, Noise, Op, Plot, Progress
from analog_deq.spec import DesignSpec
from analog_deq.verify.sweeps import Bed

Array = np.ndarray
LEVELS = 513
"""Levels of the law of conductance: that of a drifting device has a kink."""
TARGETS = 9
"""Levels of errors and noise, evenly in the logarithm: most devices of an array are near the low end."""
POINTS = 161
START_HZ, STOP_HZ, PER_DECADE = 1e3, 1e11, 10
AC_START_HZ, AC_STOP_HZ = 1e5, 1e10
COMMONS = 9
BIASES_H = (0.0, 0.5, 1.0, 1.5, 2.5)
SIGNALS = ("vp", "vn", "sp", "sn", "zp")

UNITS: dict[str, dict[str, str]] = {
    "synapse": {"g": "S", "v": "V", "current": "A"},
    "synapse_noise": {"g": "S", "frequency": "Hz", "density": "A/rtHz"},
    "conductance": {"die": "", "target": "S", "measured": "S"},
    "transfer": {
        "load": "S", "driver_load": "S", "common": "", "drive": "", **dict.fromkeys(SIGNALS, "V"),
    },
    "response": {"load": "S", "bias": "", "signal": "", "frequency": "Hz", "re": "", "im": ""},
    "noise": {"load": "S", "bias": "", "output": "", "frequency": "Hz", "density": "V/rtHz"},
    "mismatch": {"die": "", "load": "S", "drive": "", **dict.fromkeys(SIGNALS, "V")},
}  # fmt: skip
"""Unit of each column of each table, as the tables are written. ``drive``, ``common`` and ``bias`` count units of h."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A deck, the rows that are known before it ran, and the columns that its plots fill."""

    table: str
    deck: Deck
    axes: pd.DataFrame
    fill: Callable[[tuple[Plot, ...]], Mapping[str, Array]]


@dataclass(frozen=True, slots=True)
class Plan:
    """Axes of the measurements, from the sizes and the range of the array."""

    loads: tuple[float, ...]
    driver_loads: tuple[float, ...]
    commons: tuple[float, ...]

    @classmethod
    def of(cls, design: DesignSpec, spec: MemristorSpec) -> Plan:
        """Loads from half of an array at g_min to one at 0.6 of the range on average."""
        array, sizes = design.crossbar, design.sizes
        rows = sizes.inputs + 1 + sizes.states
        low = rows * array.g_min_siemens / 2
        high = rows * max(0.6 * array.g_max_siemens, 3 * array.g_min_siemens)
        full = 2 * sizes.states * array.g_max_siemens
        return cls(
            tuple(float(g) for g in np.geomspace(low, high, 7)),
            tuple(full * share for share in (0.0, 0.15, 0.3, 0.6)),
            tuple(float(c) for c in np.linspace(-spec.c_max, spec.c_max, COMMONS)),
        )

    @property
    def middle(self) -> float:
        """The load of sweeps that vary something else."""
        return self.loads[len(self.loads) // 2]


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of the neuron: load at each amplifier, load at zp, constant drive, deviations."""

    load: float
    driver_load: float = 0.0
    h: float = 0.0
    c: float = 0.0
    deviations: Mapping[str, float] | None = None


def neuron_bench(copies: Sequence[Copy], design: DesignSpec, spec: MemristorSpec, cells: MemristorCells) -> list[str]:
    """Lines of many neurons with a node x in common, whose voltage is h V_U more between the two amplifiers of each."""
    gm = number(0.5 / spec.r_feedback_ohm)
    unit_a = spec.v_unit_v / spec.r_feedback_ohm
    lines = [*cells.includes, *rails(design.operating)]
    for k, copy in enumerate(copies):
        for side, sign in (("p", 1), ("n", -1)):
            node = f"s{side}{k}"
            ends = f"0 {node}" if sign > 0 else f"{node} 0"
            lines += [f"Gx{side}{k} {ends} x 0 {gm}", f"Rl{side}{k} {node} 0 {number(1 / copy.load)} noisy=0"]
            lines.append(f"Ic{side}{k} 0 {node} {number((copy.c + sign * copy.h / 2) * unit_a)}")
        if copy.driver_load > 0:
            lines.append(f"Rz{k} zp{k} 0 {number(1 / copy.driver_load)}")
        lines += neuron_lines(k, spec, cells, copy.deviations)
    return lines


def measurements(design: DesignSpec, spec: MemristorSpec, cells: MemristorCells) -> list[Measurement]:
    """Every measurement of a design."""
    plan = Plan.of(design, spec)
    return [
        synapse_curve(design, spec, cells), *synapse_noise(design, spec, cells), conductance(design, spec, cells),
        transfer(plan, design, spec, cells), response(plan, design, spec, cells), *noise(plan, design, spec, cells),
        mismatch(plan, design, spec, cells),
    ]  # fmt: skip


def run(found: Sequence[Measurement], bed: Bed, progress: Progress) -> dict[str, pd.DataFrame]:
    """Tables by name, rows in the order of the measurements."""
    frames: dict[str, list[pd.DataFrame]] = {}
    outcomes = bed.run([m.deck for m in found], progress)
    for m, outcome in zip(found, outcomes, strict=True):
        columns = [*UNITS[m.table], "status"]
        filled = m.axes.assign(**m.fill(outcome.run.plots), status=OK) if outcome.run is not None else m.axes
        if outcome.run is None:
            blank = {name: np.nan for name in columns if name not in m.axes}
            filled = m.axes.assign(**blank).assign(status=outcome.status)
        frames.setdefault(m.table, []).append(filled[columns])
    return {name: pd.concat(parts, ignore_index=True) for name, parts in frames.items()}


def levels(design: DesignSpec) -> Array:
    """Conductances that devices are measured at: evenly over the programmable range."""
    return np.linspace(design.crossbar.g_min_siemens, design.crossbar.g_max_siemens, LEVELS)


def targets(design: DesignSpec) -> Array:
    """Conductances that errors and noise are measured at."""
    return np.geomspace(design.crossbar.g_min_siemens, design.crossbar.g_max_siemens, TARGETS)


def synapse_curve(design: DesignSpec, spec: MemristorSpec, cells: MemristorCells) -> Measurement:
    """Current of devices without mismatch over programmed conductance and voltage, selector included."""
    known, steps = levels(design), 4
    lines = [*include_lines([cells.synapse]), "Vread read 0 0"]
    for k, g in enumerate(known):
        lines += [*device_line(f"g{k}", "read", f"g{k}", float(g), {}, spec, cells.synapse), f"Vg{k} g{k} 0 0"]
    z = spec.z_unit_v
    sweep = Dc("Vread", -z, z, z / steps)
    deck = _deck("current of the device", design, cells, lines, [sweep], [f"i(vg{k})" for k in range(LEVELS)], True)
    axes = pd.DataFrame(
        {"g": np.repeat(known, sweep.points), "v": np.tile(np.arange(-steps, steps + 1) * z / steps, LEVELS)}
    )

    def fill(plots: tuple[Plot, ...]) -> dict[str, Array]:
        return {"current": np.concatenate([np.real(plots[0][f"i(vg{k})"]) for k in range(LEVELS)])}

    return Measurement("synapse", deck, axes, fill)


def synapse_noise(design: DesignSpec, spec: MemristorSpec, cells: MemristorCells) -> list[Measurement]:
    """Current noise of devices without mismatch at the read voltage."""
    known = targets(design)
    found = []
    for g in known:
        lines = [*include_lines([cells.synapse]), f"Vread read 0 dc {number(spec.z_unit_v)} ac 1"]
        lines += [*device_line("g0", "read", "g0", float(g), {}, spec, cells.synapse), "Vg0 g0 0 0", "Hg0 i0 0 Vg0 1"]
        command = Noise("v(i0)", "Vread", PER_DECADE, START_HZ, STOP_HZ)  # 1 V stands for 1 A
        deck = _deck("current noise of the device", design, cells, lines, [command], [], True)
        frequency = _frequencies(START_HZ, STOP_HZ)
        axes = pd.DataFrame({"g": float(g), "frequency": frequency})
        found.append(Measurement("synapse_noise", deck, axes, _density))
    return found


def conductance(design: DesignSpec, spec: MemristorSpec, cells: MemristorCells) -> Measurement:
    """Conductances at the read voltage of devices programmed with their errors, on many dies."""
    chosen = targets(design)
    count = 256
    lines = include_lines([cells.synapse])
    for die in range(count):
        drawn = synapse_errors(generator(design.seed, Stream.CONDUCTANCE_DIE, die), cells.synapse, chosen)
        for k, g in enumerate(chosen):
            name = f"g{die * len(chosen) + k}"
            own = {key: float(values[k]) for key, values in drawn.items()}
            lines += [f"V{name} {name} 0 {number(spec.z_unit_v)}"]
            lines += device_line(name, name, "0", float(g), own, spec, cells.synapse)
    total = count * len(chosen)
    deck = _deck("devices with their errors", design, cells, lines, [Op()], [f"i(vg{k})" for k in range(total)], True)
    axes = pd.DataFrame({"die": np.repeat(np.arange(count), len(chosen)), "target": np.tile(chosen, count)})

    def fill(plots: tuple[Plot, ...]) -> dict[str, Array]:
        return {"measured": -np.real(plots[0].columns([f"i(vg{k})" for k in range(total)]))[0] / spec.z_unit_v}

    return Measurement("conductance", deck, axes, fill)


def transfer(plan: Plan, design: DesignSpec, spec: MemristorSpec, cells: MemristorCells) -> Measurement:
    """Static sweep of h: at every mean c, at every load of the amplifiers, at every load of the driver."""
    copies = [Copy(plan.middle, c=c) for c in plan.commons]
    copies += [Copy(load) for load in plan.loads if load != plan.middle]
    copies += [Copy(plan.middle, load) for load in plan.driver_loads if load > 0]
    points = np.linspace(-spec.h_max, spec.h_max, POINTS)
    deck = _sweep("static transfer of the neuron", copies, POINTS, design, spec, cells)
    axes = pd.concat(
        pd.DataFrame({"load": c.load, "driver_load": c.driver_load, "common": c.c, "drive": points}) for c in copies
    )
    return Measurement("transfer", deck, axes, _signals(len(copies)))


def mismatch(plan: Plan, design: DesignSpec, spec: MemristorSpec, cells: MemristorCells) -> Measurement:
    """Static sweep of neurons with their mismatch, as auto-zeroed."""
    sigmas = cells.sigmas(spec, design.mismatch.model_dump())
    copies = []
    for die in range(spec.mismatch_dies):
        drawn = deviations(generator(design.seed, Stream.CALIBRATION_DIE, die), sigmas, 1)
        copies.append(Copy(plan.middle, deviations={key: float(values[0]) for key, values in drawn.items()}))
    count = (POINTS - 1) // 4 + 1
    points = np.linspace(-spec.h_max, spec.h_max, count)
    deck = _sweep("static transfer of mismatched neurons", copies, count, design, spec, cells)
    axes = pd.concat(pd.DataFrame({"die": k, "load": c.load, "drive": points}) for k, c in enumerate(copies))
    return Measurement("mismatch", deck, axes, _signals(len(copies)))


def response(plan: Plan, design: DesignSpec, spec: MemristorSpec, cells: MemristorCells) -> Measurement:
    """Small-signal response of the difference of amplifiers (v, over the ideal one) and of zp over it (z)."""
    copies = [Copy(load) for load in plan.loads] + [Copy(plan.middle, h=h) for h in BIASES_H if h > 0]
    lines = [*neuron_bench(copies, design, spec, cells), "Vx x 0 dc 0 ac 1"]
    frequency = _frequencies(AC_START_HZ, AC_STOP_HZ)
    save = [f"v({signal}{k})" for signal in ("vp", "vn", "zp") for k in range(len(copies))]
    deck = _deck(
        "frequency response of the neuron", design, cells, lines, [Ac(PER_DECADE, AC_START_HZ, AC_STOP_HZ)], save
    )
    axes = pd.concat(
        pd.DataFrame({"load": c.load, "bias": c.h, "signal": signal, "frequency": frequency})
        for c in copies
        for signal in ("v", "z")
    )

    def fill(plots: tuple[Plot, ...]) -> dict[str, Array]:
        parts = []
        for k in range(len(copies)):
            difference = np.asarray(plots[0][f"v(vn{k})"] - plots[0][f"v(vp{k})"])
            parts += [difference, np.asarray(plots[0][f"v(zp{k})"]) / difference]
        stacked = np.concatenate(parts)
        return {"re": stacked.real, "im": stacked.imag}

    return Measurement("response", deck, axes, fill)


def noise(plan: Plan, design: DesignSpec, spec: MemristorSpec, cells: MemristorCells) -> list[Measurement]:
    """Noise of one amplifier (v) and of zp (z): every load without drive, the middle one at every bias."""
    copies = [Copy(load) for load in plan.loads] + [Copy(plan.middle, h=h) for h in BIASES_H if h > 0]
    found = []
    for copy in copies:
        lines = [*neuron_bench([copy], design, spec, cells), "Vx x 0 dc 0 ac 1"]
        for output, node in (("v", "vp0"), ("z", "zp0")):
            command = Noise(f"v({node})", "Vx", PER_DECADE, START_HZ, STOP_HZ)
            deck = _deck(f"output noise of the neuron at {output}", design, cells, lines, [command], [])
            frequency = _frequencies(START_HZ, STOP_HZ)
            axes = pd.DataFrame({"load": copy.load, "bias": copy.h, "output": output, "frequency": frequency})
            found.append(Measurement("noise", deck, axes, _density))
    return found


def _sweep(
    title: str, copies: Sequence[Copy], points: int, design: DesignSpec, spec: MemristorSpec, cells: MemristorCells
) -> Deck:
    reach = spec.h_max * spec.v_unit_v
    lines = [*neuron_bench(copies, design, spec, cells), "Vx x 0 0"]
    save = [f"v({signal}{k})" for signal in SIGNALS for k in range(len(copies))]
    return _deck(title, design, cells, lines, [Dc("Vx", -reach, reach, 2 * reach / (points - 1))], save)


def _signals(copies: int) -> Callable[[tuple[Plot, ...]], dict[str, Array]]:
    def fill(plots: tuple[Plot, ...]) -> dict[str, Array]:
        return {
            signal: np.real(plots[0].columns([f"v({signal}{k})" for k in range(copies)])).T.ravel()
            for signal in SIGNALS
        }

    return fill


def _density(plots: tuple[Plot, ...]) -> dict[str, Array]:
    return {"density": np.real(plots[0]["onoise_spectrum"])}


def _frequencies(start_hz: float, stop_hz: float) -> Array:
    return np.geomspace(start_hz, stop_hz, round(np.log10(stop_hz / start_hz)) * PER_DECADE + 1)


def _deck(
    title: str,
    design: DesignSpec,
    cells: MemristorCells,
    lines: Sequence[str],
    commands: Sequence[Command],
    save: Sequence[str],
    device: bool = False,
) -> Deck:
    used = [cells.synapse] if device else cells.all
    return build_deck(
        title, lines, commands, save=save, options={**SPICE_OPTIONS, "reltol": 1e-7}, files=cell_files(used),
        temperature_celsius=design.operating.temperature_celsius, arguments=cell_arguments(used),
    )  # fmt: skip
